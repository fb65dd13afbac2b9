"""What users hold: a `Tensor` is a `Var` and a chain of view steps; a `Var` is the autograd identity of a region of a
`Storage`; a `Storage` is memory and a version, shared by views and by `detach`.

A view's history is never stored: it is its chain re-recorded on its base's history when asked, so views that were
made before a write, and writes through views, come out right. Strides are logical: every result but a view is
contiguous.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji import ops
from juanji.autograd import Function
from juanji.config import changed, state
from juanji.dtypes import DType
from juanji.errors import ShapeError
from juanji.ops.core import Attrs, Op, set_dispatcher
from juanji.ops.shape import VIEWS, Chain, chain_spec, view_write
from juanji.runtime import memory
from juanji.spec import Shape, Spec, contiguous_strides, reshape_strides, show

#: `juanji.tensors.methods.Tensor`, which completes `TensorBase` and says so by `set_class`.
Tensor = Any
_class: list[type[Any]] = []


def set_class(cls: type[Any]) -> None:
    """Says which class new tensors have."""
    _class[:] = [cls]


class Storage:
    """Memory and its version; inside a capture, memory that will be.

    Attributes:
        array: the memory as a flat array; None for a value of a capture.
        pooled: whether the memory came from the allocator.
        ptr: address of the first element.
        shape: of the whole.
        version: grows with every write.
        capture: the capture this value belongs to, or None.
    """

    __slots__ = ("__weakref__", "array", "capture", "dtype", "pooled", "ptr", "shape", "version")

    def __init__(
        self, array: NDArray[Any] | None, shape: Shape, dtype: DType, capture: Any = None, pooled: int = 0
    ) -> None:
        self.array, self.shape, self.dtype, self.capture = array, shape, dtype, capture
        self.pooled = pooled != 0
        self.ptr: int = pooled or (0 if array is None else array.__array_interface__["data"][0])
        self.version = 0

    def __del__(self) -> None:
        # Memory goes back to the allocator unless a NumPy array still shows it.
        if self.pooled and self.array is not None and memory.holders(self.array) <= 1:
            memory.release(self.array, self.ptr)

    def current_version(self) -> int:
        """The version as the running code sees it: inside a capture, writes to real memory have yet to happen."""
        if state.capture is not None and self.capture is None:
            return self.version + int(state.capture.bumps.get(self, 0))
        return self.version

    def bump(self) -> None:
        """Counts a write."""
        if state.capture is not None and self.capture is None:
            state.capture.bumps[self] = state.capture.bumps.get(self, 0) + 1
        else:
            self.version += 1


class Var:
    """The autograd identity of a region of a storage; a leaf of the tape is one."""

    __slots__ = ("__weakref__", "fn", "grad", "hooks", "region", "requires_grad", "storage")

    def __init__(self, storage: Storage, region: Chain = (), requires_grad: bool = False) -> None:
        self.storage, self.region, self.requires_grad = storage, region, requires_grad
        self.fn: Function | None = None
        self.grad: Tensor | None = None
        self.hooks: list[Callable[[Tensor], Tensor | None]] = []


class TensorBase:
    """The data structure of a tensor and its views; `Tensor` adds what users call."""

    __slots__ = ("__weakref__", "_edge", "_var", "chain", "dtype", "offset", "shape", "strides")

    _var: Var
    chain: Chain
    shape: Shape
    strides: Shape
    offset: int
    dtype: DType
    _edge: tuple[Any, Any] | None

    @property
    def storage(self) -> Storage:
        """The memory this tensor shows."""
        return self._var.storage

    @property
    def _version(self) -> int:
        return self._var.storage.current_version()

    @property
    def spec(self) -> Spec:
        """Shape and element type."""
        return Spec(self.shape, self.dtype.short)

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow back to this tensor."""
        return self._var.requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Starts or stops recording operations on this leaf.

        Raises:
            RuntimeError: a tensor of integers, or one that operations made.
        """
        wanted = bool(requires_grad)
        if wanted == self._var.requires_grad:
            return self
        if wanted and not self.dtype.is_floating_point:
            raise RuntimeError(f"only floating point tensors can require gradients, not {self.dtype}")
        if not wanted and not self.is_leaf:
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables; use detach() for a tensor without history"
            )
        if self.storage.capture is None:
            changed("requires_grad")
        if self.chain:  # a view becomes an identity of its own over the same memory
            self._var = Var(self.storage, self.full_chain)
            self.chain = ()
            self._edge = None
        self._var.requires_grad = wanted
        return self

    @property
    def full_chain(self) -> Chain:
        """The view steps from the storage to this tensor."""
        return self._var.region + self.chain

    @property
    def is_leaf(self) -> bool:
        """Whether this tensor was made by the user rather than by a recorded operation."""
        return not self.requires_grad or (self._var.fn is None and not self.chain)

    @property
    def grad_fn(self) -> Function | None:
        """The recorded operation that made this tensor."""
        edge = self.edge()
        return edge if isinstance(edge, Function) else None

    def edge(self) -> Function | Var | None:
        """Where a gradient of this tensor goes: a recorded operation, a leaf, or nowhere."""
        var = self._var
        if not var.requires_grad:
            return None
        base: Function | Var = var.fn or var
        if not self.chain:
            return base
        cached = self._edge
        if cached is not None and cached[0] is base:
            known: Function | Var = cached[1]
            return known
        edge: Function | Var = base
        spec = chain_spec(Spec(var.storage.shape, self.dtype.short), var.region)
        for name, attrs in self.chain:
            out = VIEWS[name].shape((spec,), dict(attrs))
            edge = Function(VIEWS[name], dict(attrs), (edge,), (spec,), out)
            spec = out
        self._edge = (base, edge)
        return edge


def make(cls: type[Any], var: Var, chain: Chain, shape: Shape, strides: Shape, offset: int, dtype: DType) -> Any:
    """A tensor of class `cls` from its parts."""
    tensor: Any = object.__new__(cls)
    tensor._var, tensor.chain, tensor.shape, tensor.strides = var, chain, shape, strides
    tensor.offset, tensor.dtype, tensor._edge = offset, dtype, None
    return tensor


def wrap(storage: Storage, requires_grad: bool = False) -> Tensor:
    """A tensor that shows all of `storage`."""
    strides = contiguous_strides(storage.shape)
    return make(_class[0], Var(storage, (), requires_grad), (), storage.shape, strides, 0, storage.dtype)


# -- views --------------------------------------------------------------------------------------------------
def _view_layout(tensor: Any, name: str, attrs: dict[str, Any], out: Shape) -> tuple[Shape, int] | None:
    """Strides and offset of a view, or None where memory order does not allow it."""
    strides, offset = tensor.strides, tensor.offset
    if name == "permute":
        return tuple(strides[d] for d in attrs["dims"]), offset
    if name == "slice":
        offset += sum(b[0] * s for b, s, e in zip(attrs["bounds"], strides, out, strict=True) if e)
        return tuple(b[2] * s for b, s in zip(attrs["bounds"], strides, strict=True)), offset
    if name == "expand":
        lead = len(out) - len(tensor.shape)
        return tuple(
            0 if i < lead or (tensor.shape[i - lead] == 1 and e != 1) else strides[i - lead] for i, e in enumerate(out)
        ), offset
    found = reshape_strides(tensor.shape, strides, out)
    return None if found is None else (found, offset)


def view(tensor: Any, name: str, attrs: Attrs) -> Tensor | None:
    """The view that one step makes; None where it would need a copy."""
    out = VIEWS[name].shape((tensor.spec,), dict(attrs)).shape
    layout = _view_layout(tensor, name, dict(attrs), out)
    if layout is None:
        return None
    var, chain = tensor._var, (*tensor.chain, (name, attrs))
    if var.requires_grad and not state.grad_enabled:
        var, chain = Var(var.storage, var.region + chain), ()
    return make(_class[0], var, chain, out, layout[0], layout[1], tensor.dtype)


# -- applying operations --------------------------------------------------------------------------------------
#: Runs one operation on memory: (op, attributes, inputs, output or None) -> output. Set by `juanji.tensors.eager`.
Executor = Callable[[Op, Attrs, Sequence[Any], Any], Any]
_executor: list[Executor] = []


def set_executor(executor: Executor) -> None:
    """Says who runs operations eagerly."""
    _executor[:] = [executor]


def compute(op: Op, inputs: Sequence[Any], attrs: Attrs) -> Tensor:
    """The value of an operation, without recording it."""
    capture = state.capture
    if capture is not None:
        return capture.apply(op, inputs, attrs)
    for t in inputs:
        if t._var.storage.array is None:
            raise RuntimeError(
                "this tensor belongs to a step that jj.compile was tracing and has no value; return it from the step"
            )
    return _executor[0](op, attrs, inputs, None)


def dispatch(op: Op, inputs: Sequence[Any], attrs: Attrs) -> Tensor:
    """Applies an operation to tensors: views share memory, the rest is computed; recorded if a gradient is wanted."""
    if op.kind == "view":
        shown = view(inputs[0], op.name, attrs)
        if shown is not None:
            return shown
        contiguous = dispatch(ops.elementwise.copy, inputs, ())
        result = view(contiguous, op.name, attrs)
        assert result is not None
        return result
    result = compute(op, inputs, attrs)
    if state.grad_enabled and op.grads:
        record(op, inputs, attrs, result)
    return result


def record(op: Op, inputs: Sequence[Any], attrs: Attrs, result: Tensor) -> None:
    """Puts an operation on the tape, if a gradient can flow through it."""
    if not result.dtype.is_floating_point:
        return
    edges = tuple(
        t.edge() if grad is not None and t._var.requires_grad else None
        for t, grad in zip(inputs, op.grads, strict=True)
    )
    if all(e is None for e in edges):
        return
    function = Function(op, dict(attrs), edges, tuple(t.spec for t in inputs), result.spec)
    needed = "".join(n for n, e in zip(op.needs, edges, strict=True) if e is not None)
    function.saved = tuple((t, t._version) if str(i) in needed else None for i, t in enumerate(inputs))
    storage = result._var.storage
    if "o" in needed:
        chain, dtype = result.full_chain, result.dtype
        shape, strides, offset = result.shape, result.strides, result.offset

        def remake(fn: Function) -> Tensor:
            var = Var(storage, chain, True)
            var.fn = fn
            return make(_class[0], var, (), shape, strides, offset, dtype)

        function.saved_out = (remake, storage.current_version, storage.current_version())
    result._var.fn = function
    result._var.requires_grad = True


set_dispatcher(dispatch)


# -- writing --------------------------------------------------------------------------------------------------
def write(target: Any, value: Any) -> None:
    """Writes `value` (same shape and element type) through `target`: memory, version and history.

    Raises:
        RuntimeError: writing into a leaf that requires a gradient, or one that overlaps itself.
    """
    check_writable(target)
    if value._var.storage is target._var.storage and value is not target:
        value = ops.elementwise.copy(value)  # one part of a tensor is written to another: all is read first
    if state.capture is not None:
        state.capture.write(target, value)
    else:
        _executor[0](ops.elementwise.copy, (), (value,), target)
    rebase(target, value)


def check_writable(target: Any) -> None:
    """Refuses writes that have no meaning."""
    var = target._var
    if state.grad_enabled and var.requires_grad and var.fn is None:
        what = "a view of a leaf Variable" if target.chain else "a leaf Variable"
        raise RuntimeError(f"{what} that requires grad is being used in an in-place operation.")
    if any(s == 0 and e > 1 for s, e in zip(target.strides, target.shape, strict=True)):
        raise RuntimeError(
            f"unsupported operation: the tensor of shape {show(target.shape)} is expanded, several of its elements "
            "share one place in memory; clone() it before writing"
        )


def rebase(target: Any, value: Any) -> None:
    """Counts a write that has happened to `target` and gives its base the history of `value`."""
    var = target._var
    edge = value.edge() if state.grad_enabled else None
    if edge is not None or (var.requires_grad and state.grad_enabled):
        if state.capture is not None and var.storage.capture is None:
            state.capture.refuse(
                "an in-place operation gives a tensor from outside the step a history",
                "work on a clone(), or write under no_grad()",
            )
        if not target.chain and edge is not None:
            var.fn = edge if isinstance(edge, Function) else _identity(value, edge)
        else:
            base = chain_spec(Spec(var.storage.shape, target.dtype.short), var.region)
            old = (var.fn or var) if var.requires_grad else None
            attrs: dict[str, Any] = {"chain": target.chain}
            var.fn = Function(view_write, attrs, (old, edge), (base, target.spec), base)
        var.requires_grad = var.fn is not None
    var.storage.bump()


def _identity(value: Any, edge: Any) -> Function:
    return Function(ops.elementwise.copy, {}, (edge,), (value.spec,), value.spec)


def as_array(tensor: Any) -> NDArray[Any]:
    """A NumPy array over the tensor's own memory."""
    storage = tensor._var.storage
    if storage.array is None:
        if state.capture is not None:
            state.capture.refuse(
                "a value is needed while the step is being traced (item(), numpy(), a branch or a loop on a value, "
                "printing)",
                "return the tensor and look at it outside the step, or use where() instead of a branch",
            )
        raise RuntimeError(
            "this tensor belongs to a step that jj.compile was tracing and has no value; return it from the step"
        )
    if state.capture is not None:
        state.capture.refuse(
            "a value is read while the step is being traced",
            "pass it as an argument, or read it outside the step",
        )
    if not tensor.shape and not tensor.offset:
        return np.ndarray((), tensor.dtype.numpy, storage.array.data)
    item = tensor.dtype.itemsize
    return (
        np.ndarray(
            tensor.shape,
            tensor.dtype.numpy,
            storage.array.data,
            tensor.offset * item,
            tuple(s * item for s in tensor.strides),
        )
        if math.prod(tensor.shape)
        else np.zeros(tensor.shape, tensor.dtype.numpy)
    )


def need_tensor(value: Any, name: str, function: str) -> None:
    """Raises `TypeError` unless `value` is a tensor."""
    if not isinstance(value, TensorBase):
        raise TypeError(f"{function}: {name} must be a Tensor, not {type(value).__name__} ({value!r:.60})")


def need_same_dtype(function: str, **tensors: Any) -> None:
    """Raises `RuntimeError` unless all of the named tensors have one element type."""
    given = {k: v.dtype for k, v in tensors.items() if v is not None}
    if len(set(given.values())) > 1:
        text = ", ".join(f"{k} is {d}" for k, d in given.items())
        raise ShapeError(f"{function}: all tensors must have the same dtype, but {text}")
