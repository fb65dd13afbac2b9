"""Operations with a gradient of their own: `Function`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from juanji.config import state
from juanji.errors import AutogradError
from juanji.gradmode import no_grad
from juanji.ops import elementwise as ew
from juanji.ops.shape import chain_spec, unbroadcast, view_write
from juanji.spec import Spec, broadcast, show
from juanji.tape import SECOND_TIME, Bundle, Packed, saved_hooks
from juanji.tape import Function as Node
from juanji.tensors import Tensor
from juanji.tensors.base import Var, check_savable, make, need_tensor, pack

_NONE = Spec((), "f32")


class Backward(Node):
    """The recorded call of a custom operation; `ctx` in its `forward` and `backward`, which may set attributes on it.

    Attributes:
        needs_input_grad: for each argument of `forward`, whether a gradient is wanted.
    """

    __slots__ = ("__dict__",)
    _operation: type[Function]
    _outputs: list[Spec]

    def __init__(self, operation: type[Function], args: Sequence[Any]) -> None:
        recording = state.grad_enabled
        edges = tuple(a.edge() if recording and isinstance(a, Tensor) else None for a in args)
        specs = tuple(a.spec if isinstance(a, Tensor) else _NONE for a in args)
        super().__init__(ew.copy, {}, edges, specs, _NONE)
        self._operation, self._outputs = operation, []
        self._to_save: tuple[Any, ...] = ()
        self._kept: list[Any] = []
        self._dirty: tuple[Any, ...] = ()
        self._plain: tuple[Any, ...] = ()
        self._materialize = True
        self.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad and recording for a in args)

    # -- what `forward` and `setup_context` call ------------------------------------------------------------------
    def save_for_backward(self, *tensors: Any) -> None:
        """Keeps arguments, results or other tensors for `backward`, which reads them from `saved_tensors`.

        Raises:
            TypeError: something that is neither a tensor nor None; keep that as an attribute.
        """
        for i, t in enumerate(tensors):
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward can only save tensors and None, but argument {i} is of type "
                    f"{type(t).__name__}; set it as an attribute of ctx"
                )
        self._to_save = tensors

    def mark_dirty(self, *tensors: Any) -> None:
        """Says which arguments `forward` wrote to; it has to return them."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Says which results have no gradient."""
        self._plain = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether `backward` gets zeros (the default) or None for a result that nothing depended on."""
        self._materialize = bool(value)

    # -- what `backward` reads ------------------------------------------------------------------------------------
    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What `save_for_backward` was given.

        Raises:
            RuntimeError: one of them was written since, or the values were freed by an earlier walk.
        """
        if self.freed:
            raise AutogradError(SECOND_TIME)
        result: list[Any] = []
        for kept in self._kept:
            if kept is None:
                result.append(None)
            elif isinstance(kept, Packed):
                result.append(kept.unpack(kept.value))
            else:
                value, version, index = kept
                self.check_version(value, version, value._version)
                result.append(value if index is None else self._output(value, index))
        return tuple(result)

    def name(self) -> str:
        """The operation's name."""
        return f"{self._operation.__name__}Backward"

    # -- the tape -------------------------------------------------------------------------------------------------
    def gradients(self, g: Any, wanted: Sequence[bool]) -> Sequence[Any]:
        """Calls the operation's `backward`."""
        incoming = [g.parts.get(i) for i in range(len(self._outputs))]
        if self._materialize:
            like = next(iter(g.parts.values()))
            incoming = [
                like.new_zeros(spec.shape) if value is None else value
                for value, spec in zip(incoming, self._outputs, strict=True)
            ]
        returned = self._operation.backward(self, *incoming)
        values = returned if isinstance(returned, (tuple, list)) else (returned,)
        count = len(self.edges)
        if len(values) < count or any(v is not None for v in values[count:]):
            raise RuntimeError(
                f"function {self.name()} returned an incorrect number of gradients "
                f"(expected {count}, got {len(values)})"
            )
        return [
            self._fitting(value, i) if want else None
            for i, (value, want) in enumerate(zip(values, wanted, strict=False))
        ]

    def _fitting(self, value: Any, i: int) -> Any:
        spec = self.specs[i]
        if value is None:
            return None
        need_tensor(value, f"gradient {i}", self.name())
        try:
            fits = broadcast(value.shape, spec.shape) == value.shape
        except ValueError:
            fits = False
        if not fits:
            raise RuntimeError(
                f"Function {self.name()} returned an invalid gradient at index {i} - got {show(value.shape)} but "
                f"expected shape compatible with {show(spec.shape)}"
            )
        value = unbroadcast(value, spec.shape)
        return value if value.dtype.short == spec.dtype else ew.cast(value, dtype=spec.dtype)

    def release(self) -> None:
        """Lets go of the saved values."""
        if self._kept:
            self._kept, self.freed = [], True

    def _output(self, value: Any, index: int) -> Any:
        """Result `index` with its history."""
        capture = state.capture
        if capture is not None and value.storage.capture is None:
            value = capture.value(capture.read(value))  # a tensor from outside cannot get a history
        var = Var(value.storage, value.full_chain, True)
        var.fn = _Output(self, index)
        return make(Tensor, var, (), value.shape, value.strides, value.offset, value.dtype)

    def finish(self, results: tuple[Any, ...], args: Sequence[Any]) -> tuple[Any, ...]:
        """Gives the results their histories and keeps what is to be kept."""
        for t in self._dirty:
            if not any(t is r for r in results):
                raise RuntimeError(
                    f"{self._operation.__name__}: a tensor passed to mark_dirty() must be returned by forward()"
                )
        self._outputs = [r.spec if isinstance(r, Tensor) else _NONE for r in results]
        recorded = any(e is not None for e in self.edges)
        inputs = {id(a._var) for a in args if isinstance(a, Tensor)}
        finished = []
        for i, r in enumerate(results):
            differentiable = recorded and isinstance(r, Tensor) and r.dtype.is_floating_point
            if not isinstance(r, Tensor):
                finished.append(r)
            elif any(r is d for d in self._dirty):
                finished.append(self._written(r, i) if differentiable else r)
            elif differentiable and not any(r is p for p in self._plain):
                finished.append(self._output(r, i))
            else:
                finished.append(r.detach() if id(r._var) in inputs or r.requires_grad else r)
        if recorded:
            hooks = saved_hooks()
            self._kept = [None if t is None else self._keep(t, results, hooks) for t in self._to_save]
        self._to_save = self._dirty = self._plain = ()
        return tuple(finished)

    def _keep(self, value: Any, results: Sequence[Any], hooks: Any) -> Any:
        check_savable(value)
        index = next((i for i, r in enumerate(results) if r is value), None)
        if hooks is not None:
            return pack(value if index is None else self._output(value, index), *hooks)
        return (value, value._version, None) if index is None else (value.detach(), value._version, index)

    def _written(self, target: Any, index: int) -> Any:
        """An argument that `forward` wrote to: its base has a new history."""
        var = target._var
        if var.requires_grad and var.fn is None:
            what = "a view of a leaf Variable" if target.chain else "a leaf Variable"
            raise RuntimeError(f"{what} that requires grad has been used in an in-place operation.")
        output: Any = _Output(self, index)
        if target.chain:
            base = chain_spec(Spec(var.storage.shape, target.dtype.short), var.region)
            old = (var.fn or var) if var.requires_grad else None
            output = Node(view_write, {"chain": target.chain}, (old, output), (base, target.spec), base)
        var.fn, var.requires_grad = output, True
        return target


class _Output(Node):
    """One result of a custom operation: its gradient goes to the operation under its number."""

    __slots__ = ("_index",)

    def __init__(self, node: Backward, index: int) -> None:
        spec = node._outputs[index]
        super().__init__(ew.copy, {}, (node,), (spec,), spec)
        self._index = index

    def name(self) -> str:
        """The operation's name."""
        return self.edges[0].name()  # type: ignore[union-attr]

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """Where the operation's gradients go."""
        return self.edges[0].next_functions  # type: ignore[union-attr]

    def gradients(self, g: Any, wanted: Sequence[bool]) -> Sequence[Any]:
        """Passes the gradient on."""
        return [Bundle({self._index: g})]


class Function:
    """Base class of operations that say themselves what their gradient is.

    A subclass has a static `forward(ctx, *args)`, or `forward(*args)` and `setup_context(ctx, inputs, output)`, and a
    static `backward(ctx, *gradients)` that returns one gradient (or None) for each argument. It is called by
    `apply(*args)`. `ctx` has `save_for_backward`, `saved_tensors`, `needs_input_grad`, `mark_dirty`,
    `mark_non_differentiable` and `set_materialize_grads`. A `backward` written in operations can itself be
    differentiated. In a captured step both are traced through.

    >>> import juanji as jj
    >>> class Cube(jj.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x * x
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         (x,) = ctx.saved_tensors
    ...         return g * 3 * x * x
    >>> x = jj.tensor(2.0, requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad
    tensor(12.)
    """

    def __init__(self) -> None:
        raise TypeError(
            f"{type(self).__name__} is not to be instantiated: its methods are static, and it is called by "
            f"{type(self).__name__}.apply(...)"
        )

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Computes the results; every subclass defines its own."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        """Keeps for `backward` what it needs, where `forward` does not take `ctx`."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """The gradients of the arguments from those of the results; every subclass defines its own."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use it with "
            "backward mode AD."
        )

    vjp = backward

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "vjp" in cls.__dict__ and "backward" not in cls.__dict__:
            cls.backward = cls.vjp  # type: ignore[method-assign]

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Runs the operation on `args` and records it.

        Raises:
            RuntimeError: `forward` wrote to a leaf, or returned something other than what it marked dirty.
        """
        node = Backward(cls, args)
        with no_grad():
            if cls.setup_context is Function.setup_context:
                output = cls.forward(node, *args)
            else:
                output = cls.forward(*args)
                cls.setup_context(node, args, output)
        if not isinstance(output, (tuple, list)):
            return node.finish((output,), args)[0]
        finished = node.finish(tuple(output), args)
        return finished if isinstance(output, tuple) else list(finished)


class _Once(Node):
    """The history of a gradient that cannot be differentiated."""

    __slots__ = ()

    def gradients(self, g: Any, wanted: Sequence[bool]) -> Sequence[Any]:
        """Refuses."""
        raise AutogradError("trying to differentiate twice a function that was marked with @once_differentiable")


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a `backward` that is not written in operations: its gradients cannot be differentiated again.

    >>> import juanji as jj
    >>> class Twice(jj.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return x * 2
    ...     @staticmethod
    ...     @jj.autograd.once_differentiable
    ...     def backward(ctx, g):
    ...         return jj.from_numpy(g.numpy() * 2)
    >>> x = jj.ones(2, requires_grad=True)
    >>> jj.autograd.grad(Twice.apply(x).sum(), x)[0]
    tensor([2., 2.])
    """

    @functools.wraps(backward)
    def wrapped(ctx: Any, *gradients: Any) -> Any:
        with no_grad():
            plain = tuple(g.detach() if isinstance(g, Tensor) else g for g in gradients)
            values = backward(ctx, *plain)
        if not state.grad_enabled:
            return values
        sources = [g for g in gradients if isinstance(g, Tensor) and g.requires_grad]
        many = values if isinstance(values, (tuple, list)) else (values,)
        if not sources and not any(ctx.needs_input_grad):
            return values
        result = []
        for value in many:
            if isinstance(value, Tensor) and value.dtype.is_floating_point:
                value = value.detach()
                edges = tuple(g.edge() for g in sources) or tuple(ctx.edges)
                value._var.fn = _Once(ew.copy, {}, edges, (value.spec,) * len(edges), value.spec)
                value._var.requires_grad = True
            result.append(value)
        return tuple(result)

    return wrapped


__all__ = ["Function", "once_differentiable"]
