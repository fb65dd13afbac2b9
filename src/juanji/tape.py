"""The tape and its reverse walk.

Recording happens only where a gradient is wanted. A `Function` keeps what its op's gradient formula declares to read,
with the version each storage had; using one after its storage was written raises, as in PyTorch. Formulas are written
in operations, so with `create_graph` the walk itself is recorded and gradients of gradients come free.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from juanji.config import state
from juanji.errors import AutogradError
from juanji.gradmode import set_grad_enabled
from juanji.ops.core import Context, Op
from juanji.ops.shape import unbroadcast
from juanji.spec import Spec, show

if TYPE_CHECKING:
    from juanji.tensors.base import Storage, Tensor, Var

_sequence = itertools.count()

SECOND_TIME = (
    "Trying to backward through the graph a second time: the saved values have been freed. Specify "
    "retain_graph=True if you need to backward through the graph a second time."
)


class Anomaly:
    """What `detect_anomaly` is set to: whether walks look for NaN, and Functions remember the line that made them."""

    enabled = False
    check_nan = True


#: Storages that were made in inference mode.
INFERENCE: WeakSet[Storage] = WeakSet()
#: For each thread the (pack, unpack) pairs that saved values pass through; see `juanji.autograd.graph`.
SAVED_HOOKS: dict[int, list[tuple[Callable[[Any], Any], Callable[[Any], Any]]]] = {}


class Late(NamedTuple):
    """A hook that sees the gradient after the other hooks, and after it was accumulated into `.grad` of a leaf."""

    function: Callable[[Any], Any]


class Handle:
    """What registering a hook returns: `remove()` takes it away; also a context manager."""

    def __init__(self, hooks: list[Any], hook: Any) -> None:
        hooks.append(hook)
        self._hooks: list[Any] | None = hooks
        self._hook = hook

    def remove(self) -> None:
        """Takes the hook away (once)."""
        if self._hooks is not None:
            at = next((i for i, hook in enumerate(self._hooks) if hook is self._hook), None)
            if at is not None:
                del self._hooks[at]
            self._hooks = None

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


class AccumulateGrad:
    """Where a gradient of a leaf ends, as `next_functions` shows it.

    Attributes:
        variable: the leaf.
    """

    def __init__(self, variable: Any) -> None:
        self.variable = variable

    def name(self) -> str:
        """As PyTorch calls it."""
        return "AccumulateGrad"

    @property
    def next_functions(self) -> tuple[()]:
        """Nothing comes after a leaf."""
        return ()

    def __repr__(self) -> str:
        return "<AccumulateGrad>"


class Packed(NamedTuple):
    """A saved value that went through the `pack` of saved-tensor hooks."""

    unpack: Callable[[Any], Any]
    value: Any


class Function:
    """One recorded operation: where its gradient goes and what its formula reads."""

    __slots__ = (
        "__weakref__", "attrs", "edges", "freed", "hooks", "op", "out_spec", "saved", "saved_out", "seq", "specs",
        "trace",
    )  # fmt: skip

    def __init__(
        self, op: Op, attrs: dict[str, Any], edges: tuple[Function | Var | None, ...], specs: Sequence[Spec], out: Spec
    ) -> None:
        self.op, self.attrs, self.edges, self.specs, self.out_spec = op, attrs, edges, specs, out
        self.saved: tuple[Any, ...] = ()
        #: Of the output, if a formula reads it: storage, its version then, the way from there, and the layout.
        self.saved_out: tuple[Any, int, Any, Any] | Packed | None = None
        self.seq = next(_sequence)
        self.freed = False
        self.hooks: list[Any] = []
        if Anomaly.enabled:
            self.trace = "".join(traceback.format_stack()[:-1])

    def name(self) -> str:
        """The operation's name, in the form of PyTorch's."""
        return self.op.name.title().replace("_", "") + "Backward"

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """For each input where its gradient goes: (Function, 0), (AccumulateGrad, 0) for a leaf, (None, 0) nowhere."""
        return tuple((None if e is None else e if isinstance(e, Function) else e.accumulate(), 0) for e in self.edges)

    def __repr__(self) -> str:
        return f"<{self.name()}>"

    def gradients(self, g: Any, wanted: Sequence[bool]) -> Sequence[Any]:
        """The gradients that this operation sends to its inputs, summed down to their shapes."""
        if self.freed:
            raise AutogradError(SECOND_TIME)
        specs = self.specs
        inputs: list[Any] = [None if s is None else self._read(s) for s in self.saved or (None,) * len(specs)]
        out = None
        if self.saved_out is not None:
            out = _output_of(self)
            if not isinstance(self.saved_out, Packed):
                self.check_version(out, self.saved_out[1], out._version)
        result: list[Tensor | None] = []
        for i, formula in enumerate(self.op.grads):
            if formula is None or not wanted[i]:
                result.append(None)
                continue
            value = formula(Context(g, self.attrs, specs, self.out_spec, inputs, out))
            result.append(value if value.shape == specs[i].shape else unbroadcast(value, specs[i].shape))
        return result

    def _read(self, saved: Any) -> Any:
        if isinstance(saved, Packed):
            return saved.unpack(saved.value)
        value, version = saved
        self.check_version(value, version, value._version)
        return value

    def check_version(self, value: Any, version: int, current: int) -> None:
        """Raises unless a saved value is still what it was."""
        if version != current:
            raise AutogradError(
                "one of the variables needed for gradient computation has been modified by an inplace operation: the "
                f"tensor of shape {show(value.shape)} that {self.name()} reads is at version {current}; expected "
                f"version {version} instead"
            )

    def release(self) -> None:
        """Lets go of what the formula reads."""
        if self.saved_out is not None or any(s is not None for s in self.saved):
            self.freed, self.saved, self.saved_out = True, (), None


def _no_output_maker(function: Function) -> Any:
    raise AssertionError("saved outputs need tensors: import juanji.tensors")


_output_of: Callable[[Function], Any] = _no_output_maker


def set_output_maker(maker: Callable[[Function], Any]) -> None:
    """Says who makes a tensor of what `Function.saved_out` keeps: the tensor layer does, once."""
    global _output_of
    _output_of = maker


class Bundle:
    """The gradients of several outputs of one `Function`, by number, on their way to it."""

    __slots__ = ("parts",)

    def __init__(self, parts: dict[int, Any]) -> None:
        self.parts = parts

    def __add__(self, other: Bundle) -> Bundle:
        parts = dict(self.parts)
        for i, g in other.parts.items():
            parts[i] = parts[i] + g if i in parts else g
        return Bundle(parts)


def _hooked(hooks: Sequence[Any], g: Any) -> Any:
    for hook in tuple(hooks):
        if type(hook) is not Late:
            changed = hook(g)
            if changed is not None:
                if not hasattr(changed, "requires_grad") or changed.shape != g.shape:
                    what = show(changed.shape) if hasattr(changed, "shape") else type(changed).__name__
                    raise TypeError(
                        f"a hook on a gradient of shape {show(g.shape)} must return None or a Tensor of that shape, "
                        f"not {what}"
                    )
                g = changed
    return g


def _late(hooks: Sequence[Any], value: Any) -> None:
    for hook in tuple(hooks):
        if type(hook) is Late:
            hook.function(value)


def reverse(
    roots: Sequence[tuple[Function | Var, Any]],
    retain_graph: bool,
    create_graph: bool,
    accumulate: Callable[[Var, Any], None],
    targets: Sequence[Any] | None = None,
) -> dict[Any, Any]:
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
    sought = None if targets is None else set(targets)
    useful = None if sought is None else _leading_to(roots, sought)
    pending: dict[int, Any] = {}
    heap: list[tuple[int, int, Function]] = []
    leaves: dict[int, tuple[Var, Any]] = {}
    found: dict[Any, Any] = {}

    def send(edge: Function | Var, g: Any) -> None:
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
            if function.hooks:
                g = _hooked(function.hooks, g)
                _late(function.hooks, g)
            if sought is not None and function in sought:
                found[function] = g
            wanted = [e is not None and (useful is None or id(e) in useful) for e in function.edges]
            if not any(wanted):
                continue
            values = function.gradients(g, wanted)
            if Anomaly.enabled and Anomaly.check_nan:
                _check_nan(function, values)
            for edge, value in zip(function.edges, values, strict=False):
                if edge is not None and value is not None:
                    send(edge, value)
            if not retain_graph:
                function.release()
        for leaf, g in leaves.values():
            if leaf.hooks:
                g = _hooked(leaf.hooks, g)
            if sought is None:
                accumulate(leaf, g)
            elif leaf in sought:
                found[leaf] = g
    return found


def after_accumulation(leaf: Var, tensor: Any) -> None:
    """Calls the hooks of a leaf that wait for its `.grad`."""
    if leaf.hooks:
        _late(leaf.hooks, tensor)


def _check_nan(function: Function, values: Sequence[Any]) -> None:
    if state.capture is not None:
        return  # there are no values yet
    for i, value in enumerate(values):
        if value is not None and not isinstance(value, Bundle) and bool(value.detach().isnan().any()):
            made = getattr(function, "trace", None)
            if made is not None:
                warnings.warn(
                    f"Error detected in {function.name()}. Traceback of forward call that caused the error:\n{made}",
                    stacklevel=2,
                )
            raise AutogradError(f"Function '{function.name()}' returned nan values in its {i}th output.")


def _leading_to(roots: Sequence[tuple[Any, Any]], targets: set[Any]) -> set[int]:
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


def saved_hooks() -> tuple[Callable[[Any], Any], Callable[[Any], Any]] | None:
    """The (pack, unpack) that values saved by this thread pass through now, or None."""
    active = SAVED_HOOKS.get(threading.get_ident()) if SAVED_HOOKS else None
    return active[-1] if active else None
