"""The part of `Tensor` that deals with gradients: `backward`, `.grad`, hooks, detaching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from juanji.config import shared, state
from juanji.errors import ShapeError
from juanji.ops import elementwise as ew
from juanji.spec import show
from juanji.tape import Function, Handle, Late, after_accumulation, reverse
from juanji.tensors.arithmetic import cast
from juanji.tensors.base import TensorBase, Var, _class, make, need_tensor

if TYPE_CHECKING:
    from juanji.tensors.methods import Tensor


class Differentiable(TensorBase):
    """What gradients are to a tensor."""

    __slots__ = ("__dict__",)

    @property
    def grad(self) -> Tensor | None:
        """The gradient accumulated by `backward`, or None.

        It can be set to None or to a tensor of this shape and element type.
        """
        if self.chain:  # a view is no leaf; what `retain_grad` keeps of it is its own
            return self.__dict__.get("_view_grad")
        capture = state.capture
        value = capture.read_grad(self) if capture is not None else self._var.grad
        shared.gradients = None  # afterwards: in another thread a captured step may end in between
        return value

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, TensorBase):
                raise TypeError(f"grad must be a Tensor or None, not {type(value).__name__}")
            if value is self:
                raise RuntimeError("can't assign a Tensor as its own grad")
            if value.dtype is not self.dtype:
                raise RuntimeError(
                    f"assigned grad has data of a different type: grad of {value.dtype} must have the tensor's dtype "
                    f"{self.dtype}"
                )
            if value.shape != self.shape:
                raise ShapeError(f"grad of shape {show(value.shape)} must have the tensor's shape {show(self.shape)}")
        if self.chain:
            self.__dict__["_view_grad"] = value
        elif state.capture is not None:
            state.capture.write_grad(self, value)
        else:
            self._var.grad = value
        shared.gradients = None

    @grad.deleter
    def grad(self) -> None:
        self.grad = None

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Tensor | Sequence[Tensor] | None = None,
    ) -> None:
        """Adds the gradient of this tensor to `.grad` of every leaf it was computed from.

        Args:
            gradient: the incoming gradient; may be left out for a tensor of one element.
            retain_graph: keep what the formulas read, to walk again.
            create_graph: record the walk, for gradients of gradients.
            inputs: where given, only these receive a gradient.

        Raises:
            RuntimeError: no leaf requires a gradient; no `gradient` for many elements; a value changed in place.
            TypeError: `gradient` is no tensor.

        >>> import juanji as jj
        >>> x, y = jj.tensor(2.0, requires_grad=True), jj.tensor(3.0, requires_grad=True)
        >>> (x * y).backward(inputs=[x])
        >>> x.grad, y.grad
        (tensor(3.), None)
        """
        backward((self,), (gradient,), retain_graph, create_graph, inputs)

    def reverse_root(self, gradient: Any, number: int = 0) -> tuple[Function | Var, Tensor]:
        """Where a reverse walk from this tensor begins, and with which gradient: by default one, for one element.

        Raises:
            RuntimeError: this tensor has no history; no `gradient` for many elements; another shape.
        """
        edge: Any = self.edge()
        if edge is None:
            raise RuntimeError(f"element {number} of tensors does not require grad and does not have a grad_fn")
        if gradient is None:
            if any(e != 1 for e in self.shape):
                raise RuntimeError(
                    f"grad can be implicitly created only for scalar outputs, not for one of shape {show(self.shape)}; "
                    "give the incoming gradient"
                )
            gradient = self.detach().new_ones(self.shape)
        need_tensor(gradient, "gradient", "backward")
        if gradient.shape != self.shape:
            raise ShapeError(f"gradient of shape {show(gradient.shape)} must have the shape {show(self.shape)}")
        return edge, cast(gradient, self.dtype)

    def detach(self) -> Tensor:
        """The same memory without history."""
        var = Var(self.storage, self.full_chain)
        return make(_class[0], var, (), self.shape, self.strides, self.offset, self.dtype)  # type: ignore[no-any-return]

    def detach_(self) -> Tensor:
        """Forgets the history of this tensor.

        Raises:
            RuntimeError: a view: its history is that of its base.
        """
        if self.chain:
            raise RuntimeError("Can't detach views in-place. Use detach() instead")
        self._var.fn, self._var.requires_grad = None, False
        return self  # type: ignore[return-value]

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Handle:
        """Calls `hook(gradient)` when this tensor's gradient is known; what it returns replaces the gradient.

        Returns:
            a handle: `remove()` takes the hook away, as does leaving it as a context.

        Raises:
            RuntimeError: this tensor does not require a gradient.

        >>> import juanji as jj
        >>> x = jj.tensor(2.0, requires_grad=True)
        >>> with x.register_hook(lambda g: g * 10):
        ...     (x * 3).backward()
        >>> x.grad
        tensor(30.)
        """
        if not callable(hook):
            raise TypeError(f"register_hook: hook must be a function, not {type(hook).__name__}")
        edge = self.edge()
        if edge is None:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        return Handle(edge.hooks, hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> Handle:
        """Calls `hook(leaf)` each time after a gradient was added to this leaf's `.grad`.

        Raises:
            RuntimeError: this tensor does not require a gradient, or is no leaf.

        >>> import juanji as jj
        >>> x = jj.tensor(2.0, requires_grad=True)
        >>> handle = x.register_post_accumulate_grad_hook(lambda leaf: print(leaf.grad))
        >>> (x * 3).backward()
        tensor(3.)
        """
        if not callable(hook):
            raise TypeError(f"register_post_accumulate_grad_hook: hook must be a function, not {type(hook).__name__}")
        if not self.requires_grad:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        if not self.is_leaf:
            raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
        return Handle(self._var.hooks, Late(lambda _: hook(self)))  # type: ignore[arg-type]

    def retain_grad(self) -> None:
        """Keeps the gradient of this non-leaf tensor in `.grad`: what each `backward` brings is added to it.

        Raises:
            RuntimeError: this tensor does not require a gradient.
        """
        edge = self.edge()
        if edge is None:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        if isinstance(edge, Function) and not self.retains_grad:
            self.__dict__["_retains"] = edge
            edge.hooks.append(Late(self._keep_grad))

    @property
    def retains_grad(self) -> bool:
        """Whether `retain_grad` was called on this non-leaf tensor."""
        edge = self.__dict__.get("_retains")
        return edge is not None and edge is self.edge()

    def _keep_grad(self, g: Tensor) -> None:
        self.grad = g if self.grad is None else self.grad + g

    # -- what would change the memory under a tensor ------------------------------------------------------------
    def set_(self, *source: Any) -> NoReturn:
        """Always refused: a tensor keeps its memory.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("set_() is not available: a tensor keeps its memory and shape; assign to .data instead")

    def resize_(self, *sizes: Any) -> NoReturn:
        """Always refused: a tensor keeps its size.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("resize_() is not available: a tensor keeps its size; use reshape() or make a new one")

    resize_as_ = resize_


def backward(
    tensors: Sequence[Any],
    gradients: Sequence[Any],
    retain_graph: bool | None,
    create_graph: bool,
    inputs: Any,
) -> None:
    """Adds the gradients of several tensors to `.grad` of the leaves, or of `inputs`."""
    roots = [t.reverse_root(g, i) for i, (t, g) in enumerate(zip(tensors, gradients, strict=True))]
    keep = bool(create_graph if retain_graph is None else retain_graph)
    accumulate = _Accumulator(bool(create_graph), [root[1].storage for root in roots])
    if inputs is None:
        reverse(roots, keep, bool(create_graph), accumulate)
        return
    wanted = (inputs,) if isinstance(inputs, TensorBase) else tuple(inputs)
    if not wanted:
        raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
    for i, t in enumerate(wanted):
        need_tensor(t, f"inputs[{i}]", "backward")
    edges = [t.edge() for t in wanted]
    if any(e is None for e in edges):
        raise RuntimeError("One of the differentiated Tensors does not require grad")
    found = reverse(roots, keep, bool(create_graph), accumulate, edges)
    for tensor, edge in {id(e): (t, e) for t, e in zip(wanted, edges, strict=True)}.values():
        if edge in found:
            if isinstance(edge, Var):
                accumulate(edge, found[edge])
            else:
                tensor._keep_grad(found[edge])


class _Accumulator:
    """Adds gradients to `.grad`. The first one is kept as it is unless something else may hold its memory."""

    def __init__(self, create_graph: bool, taken: Sequence[Any]) -> None:
        self.create_graph = create_graph
        self.taken = {id(storage) for storage in taken}

    def __call__(self, leaf: Var, g: Tensor) -> None:
        owner = _owner(leaf, g)
        old = owner.grad
        if old is None:
            held = id(g.storage) in self.taken or g.full_chain or (g.requires_grad and not self.create_graph)
            self.taken.add(id(g.storage))
            owner.grad = ew.copy(g) if held else g
        elif self.create_graph:
            owner.grad = old + g
        else:
            old.copy_(old + g)
        after_accumulation(leaf, owner)


def _owner(leaf: Var, g: Tensor) -> Tensor:
    return make(_class[0], leaf, (), g.shape, g.strides, 0, g.dtype)  # type: ignore[no-any-return]
