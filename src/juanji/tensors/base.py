"""What users hold: a `Tensor` is a `Var` and a chain of view steps; a `Var` is the autograd identity of a region of a
`Storage`; a `Storage` is memory and a version, shared by views and by `detach`.

A view's history is never stored: it is its chain re-recorded on its base's history when asked, so views that were
made before a write, and writes through views, come out right. Strides are logical: every result but a view is
contiguous.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji import ops
from juanji.config import changed, state
from juanji.dtypes import DType, decode
from juanji.errors import DtypeError, ShapeError
from juanji.ops.core import Attrs, Op, set_dispatcher
from juanji.ops.shape import VIEWS, Chain, chain_spec, view_write
from juanji.runtime import memory
from juanji.spec import Shape, Spec, contiguous_strides, reshape_strides, show
from juanji.tape import INFERENCE, SAVED_HOOKS, AccumulateGrad, Function, Packed, saved_hooks, set_output_maker

#: Shape and element type, and strides.
Layout = tuple[Spec, Shape]
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
        shown: how often a NumPy array has been made over the memory.
        ptr: address of the first element.
        shape: of the whole.
        version: grows with every write.
        capture: the capture this value belongs to, or None.
    """

    __slots__ = ("__weakref__", "array", "capture", "dtype", "pooled", "ptr", "shape", "shown", "version")

    def __init__(
        self, array: NDArray[Any] | None, shape: Shape, dtype: DType, capture: Any = None, pooled: int = 0
    ) -> None:
        self.array, self.shape, self.dtype, self.capture = array, shape, dtype, capture
        self.pooled, self.shown = pooled != 0, 0
        self.ptr: int = pooled or (0 if array is None else array.__array_interface__["data"][0])
        self.version = 0

    def __del__(self) -> None:
        # Memory goes back to the allocator unless a NumPy array still shows it.
        if self.pooled and self.array is not None and (not self.shown or memory.holders(self.array) <= 1):
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
        self.hooks: list[Any] = []

    def accumulate(self) -> AccumulateGrad:
        """What `next_functions` shows for this leaf."""
        storage = self.storage
        spec = chain_spec(Spec(storage.shape, storage.dtype.short), self.region)
        shown = wrap(storage)
        for name, attrs in self.region:
            shown = view(shown, name, attrs)
        leaf = make(_class[0], self, (), spec.shape, shown.strides, shown.offset, storage.dtype)
        return AccumulateGrad(leaf)


class TensorBase:
    """The data structure of a tensor and its views; `Tensor` adds what users call."""

    __slots__ = ("__weakref__", "_edge", "_layout", "_var", "chain", "dtype", "offset", "shape", "strides")

    _var: Var
    _layout: Layout | None
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
        return self.layout[0]

    @property
    def layout(self) -> Layout:
        """Shape, element type and strides: what plans of one operation are kept by."""
        layout = self._layout
        if layout is None:
            layout = self._layout = (Spec(self.shape, self.dtype.short), self.strides)
        return layout

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
        if wanted and self.is_inference() and not state.inference:
            raise RuntimeError(
                "Setting requires_grad=True on inference tensor outside InferenceMode is not allowed; clone() it first"
            )
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

    def is_inference(self) -> bool:
        """Whether this tensor was made in inference mode."""
        return bool(INFERENCE) and self.storage in INFERENCE

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
    tensor: Any = _new(cls)
    tensor._var, tensor.chain, tensor.shape, tensor.strides = var, chain, shape, strides
    tensor.offset, tensor.dtype = offset, dtype
    tensor._edge = tensor._layout = None
    return tensor


_new = object.__new__


def wrap(storage: Storage, requires_grad: bool = False) -> Tensor:
    """A tensor that shows all of `storage`."""
    strides = contiguous_strides(storage.shape)
    return make(_class[0], Var(storage, (), requires_grad), (), storage.shape, strides, 0, storage.dtype)


def fresh(storage: Storage, layout: Layout) -> Tensor:
    """`wrap` for a layout that is known: contiguous, of the storage's shape and type."""
    tensor: Any = _new(_class[0])
    tensor._var, tensor.chain, tensor.shape, tensor.strides = Var(storage), (), storage.shape, layout[1]
    tensor.offset, tensor.dtype, tensor._edge, tensor._layout = 0, storage.dtype, None, layout
    return tensor


# -- views ------------------------------------------------------------------------------------------------------------
@functools.lru_cache(maxsize=4096)
def _view_layout(layout: Layout, name: str, attrs: Attrs) -> tuple[Layout, int] | None:
    """Layout of a view, and how far it begins after the tensor; None where memory order does not allow it."""
    spec, strides = layout
    given = dict(attrs)
    out = VIEWS[name].shape((spec,), given)
    after = 0
    shown: Shape | None
    if name == "permute":
        shown = tuple(strides[d] for d in given["dims"])
    elif name == "slice":
        after = sum(b[0] * s for b, s, e in zip(given["bounds"], strides, out.shape, strict=True) if e)
        shown = tuple(b[2] * s for b, s in zip(given["bounds"], strides, strict=True))
    elif name == "expand":
        have, lead = spec.shape, len(out.shape) - len(spec.shape)
        shown = tuple(
            0 if i < lead or (have[i - lead] == 1 and e != 1) else strides[i - lead] for i, e in enumerate(out.shape)
        )
    else:
        shown = reshape_strides(spec.shape, strides, out.shape)
    return None if shown is None else ((out, shown), after)


def view(tensor: Any, name: str, attrs: Attrs) -> Tensor | None:
    """The view that one step makes; None where it would need a copy."""
    found = _view_layout(tensor._layout or tensor.layout, name, attrs)
    if found is None:
        return None
    layout, after = found
    var, chain = tensor._var, (*tensor.chain, (name, attrs))
    if var.requires_grad and not state.grad_enabled:
        # As in PyTorch the view requires a gradient, but is a leaf: what is done to it is not known to its base.
        var, chain = Var(var.storage, var.region + chain, True), ()
    result = make(_class[0], var, chain, layout[0].shape, layout[1], tensor.offset + after, tensor.dtype)
    result._layout = layout
    return result


# -- applying operations ----------------------------------------------------------------------------------------------
#: Runs one operation on memory: (op, attributes, inputs, output or None) -> output. Set by `juanji.tensors.eager`.
Executor = Callable[[Op, Attrs, Sequence[Any], Any], Any]
_execute: Executor | None = None


def set_executor(executor: Executor) -> None:
    """Says who runs operations eagerly."""
    global _execute
    _execute = executor


def compute(op: Op, inputs: Sequence[Any], attrs: Attrs) -> Tensor:
    """The value of an operation, without recording it."""
    capture = state.capture
    if capture is not None:
        return capture.apply(op, inputs, attrs)
    assert _execute is not None
    return _execute(op, attrs, inputs, None)


#: Operations that only move elements: they take float16 and bfloat16 as they are.
MOVES = frozenset(("cast", "copy", "where", "gather", "view_write"))


def attrs_compute(attrs: Attrs) -> bool:
    """Whether a scatter, too, does more than set."""
    return ("mode", "set") not in attrs


def in_float32(op: Op, inputs: Sequence[Any], attrs: Attrs) -> Tensor:
    """An operation on float16 or bfloat16: computed in float32 and rounded once."""
    from juanji.dtypes import float32

    kind = next(t.dtype for t in inputs if t.dtype.half)
    wide = [ops.elementwise.cast(t, dtype=float32.short) if t.dtype.half else t for t in inputs]
    result = dispatch(op, wide, attrs)
    return ops.elementwise.cast(result, dtype=kind.short) if result.dtype is float32 else result


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
    for t in inputs:
        if t.dtype.half and op.name not in MOVES and attrs_compute(attrs):
            return in_float32(op, inputs, attrs)
    result = compute(op, inputs, attrs)
    if state.grad_enabled and op.grads:
        record(op, inputs, attrs, result)
    elif state.inference:
        INFERENCE.add(result._var.storage)
    return result


def record(op: Op, inputs: Sequence[Any], attrs: Attrs, result: Tensor) -> None:
    """Puts an operation on the tape, if a gradient can flow through it."""
    for t in inputs:
        if t._var.requires_grad:
            break
    else:
        return
    edges: list[Function | Var | None] = []
    mask, bit = 0, 1
    for t, formula in zip(inputs, op.grads, strict=True):
        edge = None
        if formula is not None and t._var.requires_grad:
            edge = t.edge() if t.chain else t._var.fn or t._var
            mask += bit
        edges.append(edge)
        bit += bit
    if not mask or not result.dtype.is_floating_point:
        return
    specs = tuple([t.layout[0] for t in inputs])
    function = Function(op, dict(attrs), tuple(edges), specs, result.layout[0])
    reads, reads_output = op.reads(mask)
    if True in reads:
        function.saved = tuple(
            [(t, t._var.storage.current_version()) if read else None for t, read in zip(inputs, reads, strict=True)]
        )
    var = result._var
    if reads_output:
        # Not the result itself: the tape would hold what holds the tape.
        function.saved_out = (var.storage, var.storage.current_version(), var.region + result.chain, result.layout)
    var.fn = function
    var.requires_grad = True
    if INFERENCE or SAVED_HOOKS:
        _saving(function, result)


def _saved_output(function: Function) -> Tensor:
    """The output of a recorded operation, as its formulas read it."""
    kept = function.saved_out
    assert kept is not None
    if isinstance(kept, Packed):
        found = kept.unpack(kept.value)
        var = Var(found._var.storage, found.full_chain, True)
        var.fn = function
        return make(_class[0], var, (), found.shape, found.strides, found.offset, found.dtype)
    storage, _, chain, (spec, strides) = kept
    var = Var(storage, chain, True)
    var.fn = function
    return make(_class[0], var, (), spec.shape, strides, 0, storage.dtype)


def _saving(function: Function, result: Tensor) -> None:
    """Checks what a `Function` keeps, and has saved-tensor hooks pack it."""
    for kept in function.saved:
        if kept is not None:
            check_savable(kept[0])
    hooks = saved_hooks()
    if hooks is not None:
        function.saved = tuple([None if kept is None else pack(kept[0], *hooks) for kept in function.saved])
        if function.saved_out is not None:
            function.saved_out = pack(result.detach(), *hooks)


def check_savable(value: Tensor) -> None:
    """Raises for a tensor made in inference mode, which no gradient formula may read."""
    if value.is_inference():
        raise RuntimeError(
            "Inference tensors cannot be saved for backward. To work around you can make a clone to get a normal "
            "tensor and use it in autograd."
        )


def pack(value: Tensor, pack_hook: Callable[[Any], Any], unpack_hook: Callable[[Any], Any]) -> Packed:
    """What a `Function` keeps of an input when saved-tensor hooks are set: the history here, the value wherever."""
    edge, spec = value.edge(), value.spec

    def unpack(packed: Any) -> Tensor:
        found = unpack_hook(packed)
        need_tensor(found, "what unpack returned", "saved_tensors_hooks")
        if edge is None:
            return found
        var = Var(found._var.storage, found.full_chain, True)
        var.fn = edge if isinstance(edge, Function) else Function(ops.elementwise.copy, {}, (edge,), (spec,), spec)
        return make(_class[0], var, (), found.shape, found.strides, found.offset, found.dtype)

    return Packed(unpack, pack_hook(value.detach()))


set_dispatcher(dispatch)
set_output_maker(_saved_output)


#: Contiguous values up to this size are copied as bytes; larger ones by a kernel, which several threads can share.
MOVED_BYTES = 2**20


# -- writing ----------------------------------------------------------------------------------------------------------
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
        _copy(value, target)
    rebase(target, value)


def _copy(value: Any, target: Any) -> None:
    """Copies a value's elements to where a tensor of the same shape and type has its own."""
    spec = value.layout[0]
    nbytes = spec.size * value.dtype.itemsize
    source, goal = value._var.storage, target._var.storage
    # A plan for each shape would take a millisecond to make, and loading a model copies many shapes.
    if (
        nbytes <= MOVED_BYTES
        and source.ptr
        and goal.ptr
        and value.layout[1] == target.layout[1] == contiguous_strides(spec.shape)
    ):
        item = value.dtype.itemsize
        ctypes.memmove(goal.ptr + target.offset * item, source.ptr + value.offset * item, nbytes)
        return
    assert _execute is not None
    _execute(ops.elementwise.copy, (), (value,), target)


def check_writable(target: Any) -> None:
    """Refuses writes that have no meaning."""
    var = target._var
    if state.grad_enabled and var.requires_grad and var.fn is None:
        what = "a view of a leaf Variable" if target.chain else "a leaf Variable"
        raise RuntimeError(f"{what} that requires grad is being used in an in-place operation.")
    if INFERENCE and not state.inference and target.is_inference():
        raise RuntimeError(
            "Inplace update to inference tensor outside InferenceMode is not allowed. You can make a clone to get a "
            "normal tensor before doing inplace update."
        )
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


def no_value() -> RuntimeError:
    """What using a tensor of a capture outside of it raises."""
    return RuntimeError(
        "this tensor belongs to a step that jj.compile was tracing and has no value; return it from the step"
    )


def as_array(tensor: Any) -> NDArray[Any]:
    """A NumPy array over the tensor's own memory; of bfloat16, which NumPy does not have, a copy in float32."""
    storage = tensor._var.storage
    if storage.array is None:
        if state.capture is not None:
            state.capture.refuse(
                "a value is needed while the step is being traced (item(), numpy(), a branch or a loop on a value, "
                "printing)",
                "return the tensor and look at it outside the step, or use where() instead of a branch",
            )
        raise no_value()
    if state.capture is not None:
        state.capture.refuse(
            "a value is read while the step is being traced",
            "pass it as an argument, or read it outside the step",
        )
    if tensor.dtype.short == "bf16":
        return decode(raw_array(tensor), tensor.dtype)  # type: ignore[no-any-return]
    return raw_array(tensor)


def raw_array(tensor: Any) -> NDArray[Any]:
    """The memory as an array of what is stored: of bfloat16 the bits."""
    storage = tensor._var.storage
    storage.shown += 1
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


def need_floating(function: str, **tensors: Any) -> None:
    """Raises unless the named tensors (or None) are tensors of one floating-point type."""
    for name, value in tensors.items():
        if value is not None:
            need_tensor(value, name, function)
            if not value.dtype.is_floating_point:
                raise DtypeError(f"{function}: {name} must be floating point, not {value.dtype}; cast it with .float()")
    need_same_dtype(function, **tensors)


def need_same_dtype(function: str, **tensors: Any) -> None:
    """Raises `RuntimeError` unless all of the named tensors have one element type."""
    given = {k: v.dtype for k, v in tensors.items() if v is not None}
    if len(set(given.values())) > 1:
        text = ", ".join(f"{k} is {d}" for k, d in given.items())
        raise ShapeError(f"{function}: all tensors must have the same dtype, but {text}")
