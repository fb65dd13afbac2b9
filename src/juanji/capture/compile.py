"""`jj.compile`: a step is traced once, becomes one plan, and is replayed while its guards hold."""

from __future__ import annotations

import contextlib
import functools
import gc
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from juanji.capture.entry import Entry, Result, flatten, flatten_call, storage_of, unflatten
from juanji.capture.names import Name, fingerprint, is_container, names_of
from juanji.capture.trace import Capture, Guard, float_proxy, grad_state, mapping_key, proxy
from juanji.compiler.plan import Plan, build
from juanji.config import shared, state
from juanji.errors import CaptureError
from juanji.graph import Node, reachable
from juanji.runtime.system import new_lock_after_fork
from juanji.tensors.base import Storage, TensorBase, Var
from juanji.tensors.creation import from_numpy

#: After this many different values of one guard the step is refused: it would be traced for ever.
MAX_TRACES = 8
#: Plans are kept for so many different shapes of the arguments, and no more than so much memory for their values.
MAX_SHAPES = 256
MAX_ARENA_BYTES = 2**30
#: Calls at which the step is traced again and compared, to find what cannot be seen.
_RECHECK = frozenset((2, 4, 8, 16))


class Compiled:
    """A function whose calls are captured and replayed; what `jj.compile` returns.

    Attributes:
        traces: how many times it was traced.
        plans: the plans made so far.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise TypeError(f"compile: expected a function or Module, not {type(function).__name__}")
        functools.update_wrapper(self, function, updated=())
        self._function = function
        self._entries: dict[Any, list[tuple[Entry, list[Any], int]]] = {}
        self._lock = threading.RLock()
        new_lock_after_fork(self, "_lock", threading.RLock)
        self._names: list[Name] | None = None
        self._seen: dict[str, set[Any]] = {}
        self.traces = 0

    @property
    def plans(self) -> list[Plan]:
        """The plans made so far."""
        return [entry.plan for entries in self._entries.values() for entry, _, _ in entries]

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Replays the plan for these arguments, after capturing it where there is none."""
        if state.capture is not None:
            return self._function(*args, **kwargs)
        with self._lock:
            leaves: list[Any] = []
            tree = flatten_call(args, kwargs, leaves)
            key = self._key(tree, leaves)
            for entry, cleared, epoch in self._entries.get(key, ()):
                if entry.holds(leaves) and (epoch == shared.epoch or self._same(entry, tree, leaves, key)):
                    if entry.calls + 1 in _RECHECK:
                        self._recheck(entry, tree, leaves)
                    result = entry.replay(leaves)
                    if cleared:
                        entry.cleared(cleared, leaves)
                    return result
            with _collecting_later():
                entry, cleared = self._capture(tree, leaves)
            entries = self._entries.setdefault(key, [])
            entries.append((entry, cleared, state.epoch))
            self._bound()
            if len(entries) > MAX_TRACES:
                raise CaptureError(
                    f"the step {self._name()} was traced over {MAX_TRACES} times for arguments of the same shapes, "
                    f"because this keeps changing: {self._changing(entries)}; pass it as a float or tensor"
                )
            result = entry.replay(leaves)
            entry.cleared(cleared, leaves)
            return result

    def _bound(self) -> None:
        """Drops the plans made first, when there are many or they hold much memory; never the newest."""
        while len(self._entries) > 1 and (
            len(self._entries) > MAX_SHAPES or sum(p.arena_bytes for p in self.plans) > MAX_ARENA_BYTES
        ):
            del self._entries[next(iter(self._entries))]

    def _name(self) -> str:
        return str(getattr(self._function, "__name__", type(self._function).__name__))

    def _changing(self, entries: list[tuple[Entry, list[Any], int]]) -> str:
        broken = {g.text for entry, _, _ in entries[:-1] for g in entry.guards if not g.holds()}
        return ", ".join(sorted(broken)) or "a module or optimiser attribute"

    # -- guards ---------------------------------------------------------------------------------------------------
    def _key(self, tree: Any, leaves: list[Any]) -> Any:
        parts: list[Any] = [state.grad_enabled, tree]
        storages: dict[int, int] = {}
        for i, leaf in enumerate(leaves):
            if isinstance(leaf, np.ndarray):
                leaf = leaves[i] = from_numpy(leaf)
            if isinstance(leaf, TensorBase):
                var = leaf._var
                first = storages.setdefault(id(var.storage), i)
                shared = first if first == i else (first, leaf is leaves[first])
                grad = 0 if var.grad is None else grad_state(var)
                parts.append((leaf.shape, leaf.strides, leaf.dtype.short, var.requires_grad, grad, shared))
                if var.storage.array is None:
                    raise CaptureError(f"argument {i} of {self._name()} belongs to a capture and has no value")
            elif type(leaf) is float:
                parts.append(float)
            elif isinstance(leaf, (bool, int, str, type(None))):
                parts.append((type(leaf), leaf))
                self._count(i, leaf)
            else:
                parts.append(id(leaf))
        return tuple(parts)

    def _count(self, i: int, value: Any) -> None:
        if isinstance(value, int) and not isinstance(value, bool):
            seen = self._seen.setdefault(f"argument {i}", set())
            seen.add(value)
            if len(seen) > MAX_TRACES:
                raise CaptureError(
                    f"argument {i} of the step {self._name()} has had {len(seen)} different integer values ({value} is "
                    "the last); each is traced anew. Pass it as a float or a tensor"
                )

    def _same(self, entry: Entry, tree: Any, leaves: list[Any], key: Any) -> bool:
        """After a counted change: whether a new trace gives the same plan. Then the entry stays, at the new epoch."""
        _, _, _, _, signature = self._trace(tree, leaves)
        if signature != entry.signature:
            return False
        entries = self._entries[key]
        for i, (other, cleared, _) in enumerate(entries):
            if other is entry:
                entries[i] = (entry, cleared, state.epoch)
        return True

    def _recheck(self, entry: Entry, tree: Any, leaves: list[Any]) -> None:
        capture, _, _, _, signature = self._trace(tree, leaves)
        if signature == entry.signature:
            return
        for old, new in zip(entry.signature[0], signature[0], strict=False):
            if old != new:
                raise CaptureError(
                    f"{new[-1] or old[-1] or capture.user_line()}: traced again, the step {self._name()} is another "
                    f"one from here on ({_told(old)} before, {_told(new)} now): it reads something that changes and "
                    "that a capture cannot see, such as Python's random numbers or the clock. Pass it as an argument"
                )
        raise CaptureError(
            f"traced again, the step {self._name()} is another one: it reads something that changes and that a capture "
            "cannot see. Pass it as an argument"
        )

    # -- tracing --------------------------------------------------------------------------------------------------
    def _capture(self, tree: Any, leaves: list[Any]) -> tuple[Entry, list[Any]]:
        capture, out_tree, outputs, float_inputs, signature = self._trace(tree, leaves)
        # Where a float decides the structure (`if p > 0:`), its value is a guard instead of an input.
        fixed = [] if float_inputs else [(i, leaf) for i, leaf in enumerate(leaves) if type(leaf) is float]
        results, nodes = self._results(capture, outputs)
        gradients: list[tuple[Any, Any]] = []
        cleared: list[Any] = []
        for var, value in capture.grads.items():
            place = self._place(capture, var)
            if place is None:
                continue
            if value is None:
                cleared.append(place)
            elif value._var.storage.capture is capture:
                gradients.append((place, value))
                nodes.append(capture.read(value))
            elif capture.grads.get(var) is not value:
                raise CaptureError("a .grad was set to a tensor from outside the step; set it outside")
        writes, written = [], []
        for i, slot in enumerate(capture.slots):
            if slot.storage is not None and slot.storage in capture.writes:
                final = capture.env[slot.storage]
                if final is not slot.node:
                    writes.append((i, final))
                    written.append(i)
        self._check_sharing(capture, leaves)
        steady = [i for i, slot in enumerate(capture.slots) if slot.kind == "tensor" and i not in written]
        plan = build(capture.graph, nodes, writes, keep_arena=True, steady=steady)
        self.traces += 1
        return Entry(capture, plan, results, out_tree, gradients, written, signature, fixed), cleared

    def _trace(self, tree: Any, leaves: list[Any]) -> tuple[Capture, Any, list[Any], bool, Any]:
        try:
            return self._trace_once(tree, leaves, floats=True)
        except CaptureError:
            if not any(type(leaf) is float for leaf in leaves):
                raise
        return self._trace_once(tree, leaves, floats=False)

    def _trace_once(self, tree: Any, leaves: list[Any], floats: bool) -> tuple[Capture, Any, list[Any], bool, Any]:
        capture = Capture()
        given: list[Any] = []
        proxies: dict[int, Any] = {}
        for i, leaf in enumerate(leaves):
            if isinstance(leaf, TensorBase):
                if id(leaf) not in proxies:  # one object given twice is one tensor
                    proxies[id(leaf)] = proxy(capture, i, leaf)
                given.append(proxies[id(leaf)])
            elif type(leaf) is float and floats:
                given.append(float_proxy(capture, i))
            else:
                given.append(leaf)
        args, kwargs = unflatten(tree, iter(given))
        names = self._outer_names()
        before = [(n, n.read()) for n in names]
        marks = [fingerprint(v) for _, v in before]
        with _collecting_later():
            state.capture = capture
            try:
                returned = self._function(*args, **kwargs)
            finally:
                state.capture = None
        for (name, value), mark in zip(before, marks, strict=True):
            if fingerprint(name.read()) != mark or (is_container(value) and fingerprint(value) != mark):
                raise CaptureError(
                    f"the step {self._name()} changes the outer object {name.text!r} while it is traced; a replay "
                    "would not. Return the value from the step and keep it outside"
                )
            capture.guards.append(_name_guard(name, mark, value))
        capture.check_unchanged()
        outputs: list[Any] = []
        out_tree = flatten(returned, outputs)
        self._refuse_leaks(capture)
        return capture, out_tree, outputs, floats, self._signature(capture, outputs)

    def _outer_names(self) -> list[Name]:
        if self._names is None:
            function = self._function
            self._names = names_of(getattr(function, "__func__", function))
        return self._names

    def _refuse_leaks(self, capture: Capture) -> None:
        for slot in capture.slots:
            if slot.kind == "tensor" and slot.source.fn is not None and slot.source.requires_grad:
                raise CaptureError(
                    f"the step {self._name()} reads a tensor of shape {list(slot.source.storage.shape)} that has a "
                    "history from outside; a backward cannot cross the border of a captured step: detach() it or "
                    "compute it inside"
                )

    def _signature(self, capture: Capture, outputs: list[Any]) -> Any:
        finals = [capture.read(o) for o in outputs if isinstance(o, TensorBase) and o._var.storage in capture.env]
        finals += [capture.env[s] for s in capture.writes]
        finals += [capture.read(v) for v in capture.grads.values() if v is not None and v._var.storage in capture.env]
        order: dict[Node, int] = {}
        described: list[tuple[Any, ...]] = []
        for node in reachable(finals):
            order[node] = len(order)
            if node.op is None:
                slot = capture.slots[node.slot]
                source = slot.source if isinstance(slot.source, (int, str)) else _identity(slot.source)
                described.append((slot.kind, source, node.spec, node.strides, _Line()))
            else:
                inputs = tuple(order[i] for i in node.inputs)
                described.append((node.op.name, inputs, repr(node.attrs), node.spec, _Line(node.line)))
        constants = tuple(repr(o) for o in outputs if not isinstance(o, TensorBase))
        return tuple(described), tuple(order[f] for f in finals), constants

    def _results(self, capture: Capture, outputs: list[Any]) -> tuple[list[Result], list[Node]]:
        results: list[Result] = []
        nodes: list[Node] = []
        memory_of: dict[Storage, int] = {}
        arguments = {slot.storage: slot.source for slot in capture.slots if slot.kind == "arg"}
        for value in outputs:
            if not isinstance(value, TensorBase):
                results.append(Result("constant", value))
                continue
            storage = value._var.storage
            if storage in arguments:
                results.append(Result("argument", arguments[storage], value.full_chain))
            elif storage.capture is None:
                results.append(Result("constant", value))
            else:
                if storage not in memory_of:
                    memory_of[storage] = len(nodes)
                    nodes.append(capture.env[storage] if storage in capture.env else capture.base(value))
                results.append(Result("new", memory_of[storage], value.full_chain, value.requires_grad))
        return results, nodes

    def _place(self, capture: Capture, var: Var) -> Any:
        """Where a gradient goes: a leaf from outside, or the position of an argument; None for values of the trace."""
        if var.storage.capture is None:
            return var
        for slot in capture.slots:
            if slot.kind == "arg" and slot.storage is var.storage:
                return int(slot.source)
        return None

    def _check_sharing(self, capture: Capture, leaves: list[Any]) -> None:
        owners: dict[int, int] = {}
        for slot in capture.slots:
            if slot.kind in ("float", "hyper"):
                continue
            storage = storage_of(slot, leaves)
            owners[id(storage)] = owners.get(id(storage), 0) + 1
        for slot in capture.slots:
            if slot.storage is None or slot.storage not in capture.writes:
                continue
            if owners[id(storage_of(slot, leaves))] > 1:
                raise CaptureError(
                    f"{capture.writes[slot.storage]}: the step writes to a tensor whose memory is also that of another "
                    "input; pass a clone() of one of them"
                )


class _Line(str):
    """A user's line in a signature: for messages, not compared, since the step may be called from several places."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 0


@contextlib.contextmanager
def _collecting_later() -> Iterator[None]:
    """Python's garbage collector waits: it would look again and again through all the Nodes of a growing graph, which
    takes a third of the time that a capture takes, and find nothing.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _told(described: tuple[Any, ...]) -> str:
    """An entry of a signature for people: the operation and, for a constant, its value."""
    value = re.search(r"'value', (.*?)\)", str(described[2]))
    return f"{described[0]} {value[1]}" if described[0] == "const" and value else str(described[0])


def _identity(source: Any) -> Any:
    """What a slot is looked up by, in a form that two traces can be compared by (views make passing Vars)."""
    return (mapping_key(source[0]), source[1]) if isinstance(source, tuple) else id(source.storage)


def _name_guard(name: Name, mark: Any, value: Any) -> Guard:
    text = f"the outer name {name.text!r}"
    if mark == id(value):  # known by nothing but its identity
        return Guard(text, name.read, value, identity=True)
    return Guard(text, lambda: fingerprint(name.read()), mark)


def compile(function: Any = None, **ignored: Any) -> Any:
    """Captures a whole step (forward, backward, update) as one plan of native code; also a decorator.

    The first call traces the function without changing anything, compiles it and runs the plan; later calls replay it
    while shapes, element types, modes and the plain values it read are the same, and trace again when they are not.
    Learning rates and other floats of optimisers and arguments may change freely. What a call returns is new memory.

    Args:
        function: a function or Module.

    Returns:
        A callable with the same arguments and results.

    Raises:
        CaptureError: the step does what a replay could not repeat, such as a branch on a value; the message names the
            line and the remedy.

    >>> import juanji as jj
    >>> @jj.compile
    ... def double(x):
    ...     return x * 2
    >>> double(jj.tensor([1.0, 2.0]))
    tensor([2., 4.])
    """
    del ignored
    if function is None:
        return compile
    return Compiled(function)
