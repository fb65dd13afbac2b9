"""The tape and its reverse walk.

Recording happens only where a gradient is wanted. A `Function` keeps what its op's gradient formula declares to read,
with the version each storage had; using one after its storage was written raises, as in PyTorch. Formulas are written
in operations, so with `create_graph` the walk itself is recorded and gradients of gradients come free.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from juanji.config import state
from juanji.errors import AutogradError
from juanji.ops.core import Context, Op
from juanji.ops.shape import unbroadcast
from juanji.spec import Spec, show

if TYPE_CHECKING:
    from juanji.tensors.base import Tensor, Var

F = TypeVar("F", bound=Callable[..., Any])
_sequence = itertools.count()


class Function:
    """One recorded operation: where its gradient goes and what its formula reads."""

    __slots__ = ("attrs", "edges", "freed", "hooks", "op", "out_spec", "saved", "saved_out", "seq", "specs")

    def __init__(
        self, op: Op, attrs: dict[str, Any], edges: tuple[Function | Var | None, ...], specs: Sequence[Spec], out: Spec
    ) -> None:
        self.op, self.attrs, self.edges, self.specs, self.out_spec = op, attrs, edges, specs, out
        self.saved: tuple[tuple[Tensor, int] | None, ...] = ()
        #: Of the output, if a formula reads it: storage, its version then, the way from there, and the layout.
        self.saved_out: tuple[Any, int, Any, Any] | None = None
        self.seq = next(_sequence)
        self.freed = False
        self.hooks: list[Callable[[Tensor], Tensor | None]] = []

    @property
    def name(self) -> str:
        """As PyTorch would call it."""
        return self.op.name.title().replace("_", "") + "Backward"

    def __repr__(self) -> str:
        return f"<{self.name}>"


def _checked(value: Tensor, version: int, current: int, reader: Function) -> Tensor:
    if version != current:
        raise AutogradError(
            "one of the variables needed for gradient computation has been modified by an inplace operation: the "
            f"tensor of shape {show(value.shape)} that {reader.name} reads is at version {current}; expected version "
            f"{version} instead"
        )
    return value


def gradients_of(function: Function, g: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
    """The gradients that `function` sends to its inputs, summed down to their shapes."""
    if function.freed:
        raise AutogradError(
            "Trying to backward through the graph a second time: the saved values have been freed. Specify "
            "retain_graph=True if you need to backward through the graph a second time."
        )
    inputs: list[Any] = [
        None if s is None else _checked(s[0], s[1], s[0]._version, function)
        for s in function.saved or (None,) * len(function.specs)
    ]
    out = None
    if function.saved_out is not None:
        out = _output_of(function)
        _checked(out, function.saved_out[1], out._version, function)
    result: list[Tensor | None] = []
    specs = function.specs
    for i, formula in enumerate(function.op.grads):
        if formula is None or not wanted[i]:
            result.append(None)
            continue
        value = formula(Context(g, function.attrs, specs, function.out_spec, inputs, out))
        result.append(value if value.shape == specs[i].shape else unbroadcast(value, specs[i].shape))
    return result


def _no_output_maker(function: Function) -> Any:
    raise AssertionError("saved outputs need tensors: import juanji.tensors")


_output_of: Callable[[Function], Any] = _no_output_maker


def set_output_maker(maker: Callable[[Function], Any]) -> None:
    """Says who makes a tensor of what `Function.saved_out` keeps: the tensor layer does, once."""
    global _output_of
    _output_of = maker


def reverse(
    roots: Sequence[tuple[Function | Var, Tensor]],
    retain_graph: bool,
    create_graph: bool,
    accumulate: Callable[[Var, Tensor], None],
    targets: dict[Any, int] | None = None,
) -> dict[Any, Tensor]:
    """Walks the tape from `roots` by descending sequence number, without recursion.

    Args:
        roots: (function or leaf, incoming gradient).
        retain_graph: keep what formulas read, for another walk.
        create_graph: record the walk.
        accumulate: receives the whole gradient of each leaf.
        targets: where given, only paths that lead to these (functions or leaves) are walked, and leaves not among
            them receive nothing.

    Returns:
        The gradients of `targets`.
    """
    useful = None if targets is None else _leading_to(roots, targets)
    pending: dict[int, Tensor] = {}
    heap: list[tuple[int, int, Function]] = []
    leaves: dict[int, tuple[Var, Tensor]] = {}
    found: dict[Any, Tensor] = {}

    def send(edge: Function | Var, g: Tensor) -> None:
        if useful is not None and id(edge) not in useful:
            return
        if isinstance(edge, Function):
            if id(edge) in pending:
                pending[id(edge)] = pending[id(edge)] + g
            else:
                pending[id(edge)] = g
                heapq.heappush(heap, (-edge.seq, id(edge), edge))
        elif id(edge) in leaves:
            leaves[id(edge)] = (edge, leaves[id(edge)][1] + g)
        else:
            leaves[id(edge)] = (edge, g)

    with set_grad_enabled(create_graph):
        for root, g in roots:
            send(root, g)
        while heap:
            _, key, function = heapq.heappop(heap)
            g = pending.pop(key)
            for hook in function.hooks:
                changed = hook(g)
                g = g if changed is None else changed
            if targets is not None and function in targets:
                found[function] = g
            wanted = [e is not None and (useful is None or id(e) in useful) for e in function.edges]
            if not any(wanted):
                continue
            for edge, value in zip(function.edges, gradients_of(function, g, wanted), strict=False):
                if edge is not None and value is not None:
                    send(edge, value)
            if not retain_graph:
                function.freed, function.saved, function.saved_out = True, (), None
        for leaf, g in leaves.values():
            for hook in leaf.hooks:
                changed = hook(g)
                g = g if changed is None else changed
            if targets is None:
                accumulate(leaf, g)
            elif leaf in targets:
                found[leaf] = g
    return found


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of `outputs` with respect to `inputs`, leaving every `.grad` as it is.

    Args:
        outputs: what is differentiated; several are summed.
        inputs: with respect to what; they must require gradients.
        grad_outputs: the incoming gradient of each output; may be left out for tensors of one element.
        retain_graph: keep what the formulas read, to walk again; as `create_graph` unless given.
        create_graph: record the walk, for gradients of gradients.
        allow_unused: give None for an input the outputs do not depend on, instead of an error.

    Raises:
        RuntimeError: an input or no output requires a gradient, or an input is not used.

    >>> import juanji as jj
    >>> x = jj.tensor(3.0, requires_grad=True)
    >>> (slope,) = jj.autograd.grad(x * x * x, x, create_graph=True)
    >>> slope.item(), jj.autograd.grad(slope, x)[0].item()
    (27.0, 18.0)
    """
    many = tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)
    wanted = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    given = tuple(grad_outputs) if isinstance(grad_outputs, (tuple, list)) else (grad_outputs,) * len(many)
    if len(given) != len(many):
        raise ValueError(f"grad: got {len(many)} outputs but {len(given)} grad_outputs")
    edges = [x.edge() for x in wanted]
    if any(e is None for e in edges):
        raise AutogradError("One of the differentiated Tensors does not require grad")
    roots = [t.reverse_root(g) for t, g in zip(many, given, strict=True)]
    keep = create_graph if retain_graph is None else retain_graph
    found = reverse(roots, keep, create_graph, lambda leaf, g: None, {e: i for i, e in enumerate(edges)})
    if not allow_unused and any(e not in found for e in edges):
        raise AutogradError(
            "One of the differentiated Tensors appears to not have been used in the graph. "
            "Set allow_unused=True if this is the desired behavior."
        )
    return tuple(found.get(e) for e in edges)


def _leading_to(roots: Sequence[tuple[Any, Any]], targets: dict[Any, int]) -> set[int]:
    """The ids of functions and leaves from which a target can be reached."""
    useful: set[int] = set()
    seen: set[int] = set()
    stack: list[tuple[Any, bool]] = [(root, False) for root, _ in roots]
    while stack:
        edge, after = stack.pop()
        children = edge.edges if isinstance(edge, Function) else ()
        if after:
            if edge in targets or any(c is not None and id(c) in useful for c in children):
                useful.add(id(edge))
        elif id(edge) not in seen:
            seen.add(id(edge))
            stack.append((edge, True))
            stack.extend((c, False) for c in children if c is not None)
    return useful


@contextmanager
def set_grad_enabled(mode: bool) -> Iterator[None]:
    """Records operations for gradients inside the block, or does not."""
    before, state.grad_enabled = state.grad_enabled, bool(mode)
    try:
        yield
    finally:
        state.grad_enabled = before


def is_grad_enabled() -> bool:
    """Whether operations are recorded now."""
    return state.grad_enabled


class _Mode:
    """A context manager and decorator that sets the grad mode."""

    _value = False

    def __init__(self, function: Callable[..., Any] | None = None) -> None:
        self._function = function
        self._before: list[bool] = []
        if function is not None:
            functools.update_wrapper(self, function)

    def __enter__(self) -> None:
        self._before.append(state.grad_enabled)
        state.grad_enabled = self._value

    def __exit__(self, *error: object) -> None:
        state.grad_enabled = self._before.pop()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._function is not None:
            with type(self)():
                return self._function(*args, **kwargs)
        (function,) = args

        @functools.wraps(function)
        def wrapped(*inner: Any, **named: Any) -> Any:
            with type(self)():
                return function(*inner, **named)

        return wrapped


class no_grad(_Mode):
    """Inside, nothing is recorded for gradients; also a decorator.

    >>> import juanji as jj
    >>> x = jj.ones(2, requires_grad=True)
    >>> with jj.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """


class enable_grad(_Mode):
    """Inside, operations are recorded even within `no_grad`; also a decorator."""

    _value = True
