"""A captured step ready to replay: its plan, where each input is looked up, and what must still hold."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from juanji.capture.trace import Capture, Slot
from juanji.compiler.plan import Plan
from juanji.config import shared
from juanji.dtypes import BY_SHORT
from juanji.errors import CaptureError
from juanji.ops.core import Op
from juanji.runtime import memory
from juanji.spec import Spec
from juanji.tape import Function
from juanji.tensors.base import Storage, TensorBase, Var, fresh, view, wrap
from juanji.tensors.eager import new_storage


def _no_backward(*_: Any) -> Any:
    raise CaptureError(
        "backward() reached the border of a captured step: call backward inside the step that jj.compile captures, "
        "or leave the forward pass uncompiled"
    )


_border = Op("captured_step", lambda specs, attrs: Spec((), "f32"), "host", (_no_backward,), ("",))


# -- arguments and results as flat lists -----------------------------------------------------------------------------
def flatten(value: Any, leaves: list[Any]) -> Any:
    """Appends the leaves of nested tuples, lists and dicts to `leaves`; returns the structure (hashable)."""
    kind = type(value)
    if kind is tuple or kind is list:
        children: list[Any] = []
        for v in value:
            if isinstance(v, TensorBase):
                leaves.append(v)
                children.append(None)
            else:
                children.append(flatten(v, leaves))
        return (kind, tuple(children))
    if kind is dict:
        return (kind, tuple([flatten(v, leaves) for v in value.values()]), tuple(value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return (kind, tuple([flatten(v, leaves) for v in value]), None)
    leaves.append(value)
    return None


def flatten_call(args: tuple[Any, ...], kwargs: dict[str, Any], leaves: list[Any]) -> Any:
    """`flatten` for the arguments of a call, which are mostly a few tensors."""
    if not kwargs:
        for value in args:
            if not isinstance(value, TensorBase):
                break
        else:
            leaves += args
            return _tensors_only(len(args))
    return flatten((args, kwargs), leaves)


@functools.lru_cache(maxsize=64)
def _tensors_only(count: int) -> Any:
    return flatten(((None,) * count, {}), [])


def unflatten(tree: Any, leaves: Iterator[Any]) -> Any:
    """Rebuilds nested containers from their structure and their leaves in order."""
    if tree is None:
        return next(leaves)
    kind, children = tree[0], tree[1]
    values = [unflatten(c, leaves) for c in children]
    if kind is dict:
        return dict(zip(tree[2], values, strict=True))
    if kind is list or kind is tuple:
        return kind(values)
    return kind(*values)


@dataclass
class Result:
    """A leaf of what the step returned: a constant, an argument, a tensor from outside, or new memory with a view."""

    kind: str
    value: Any
    chain: Any = ()
    requires_grad: bool = False
    border: Function | None = None
    layout: Any = None


class Entry:
    """One captured plan with everything a replay looks up."""

    def __init__(
        self,
        capture: Capture,
        plan: Plan,
        results: list[Result],
        tree: Any,
        gradients: list[tuple[Any, Any]],
        written: list[int],
        signature: Any,
        fixed_floats: list[tuple[int, float]],
    ) -> None:
        self.plan, self.results, self.tree, self.signature = plan, results, tree, signature
        self.fixed_floats = fixed_floats
        self.guards = capture.guards
        self.checks = [(g.read, g.value) for g in capture.guards if not g.identity]
        self.identities = [(g.read, g.value) for g in capture.guards if g.identity]
        self.slots: list[Slot] = capture.slots
        self.gradients = gradients
        self.outer_leaves = [(k, place) for k, (place, _) in enumerate(gradients) if type(place) is not int]
        self.argument_leaves = [(k, place) for k, (place, _) in enumerate(gradients) if type(place) is int]
        self.written = written
        self.calls = 0
        self.epoch = -1
        self.scalars = np.zeros(max(1, len(self.slots)), np.float64)
        start = self.scalars.__array_interface__["data"][0]
        self.pointers = [start + 8 * i for i in range(len(self.slots))]
        self.kept_grads: list[Any] = [None] * len(gradients)
        self.grad_pointers: list[int] = []
        self.mark = object()
        self.arguments = [(i, s.source) for i, s in enumerate(self.slots) if s.kind == "arg"]
        self.floats = [(i, s.source) for i, s in enumerate(self.slots) if s.kind == "float"]
        self.hypers = [(i, *s.source) for i, s in enumerate(self.slots) if s.kind == "hyper"]
        self.fixed = [(i, s.source) for i, s in enumerate(self.slots) if s.kind == "tensor"]
        marked = set(written)
        self.written_arguments = [s.source for i, s in enumerate(self.slots) if i in marked and s.kind == "arg"]
        self.items = [(i, *s.source, i in marked) for i, s in enumerate(self.slots) if s.kind == "item"]
        self.old_grads = [(i, s.source, i in marked) for i, s in enumerate(self.slots) if s.kind == "grad"]
        self.argument_grads = [
            (i, s.source, i in marked) for i, s in enumerate(self.slots) if s.kind == "argument grad"
        ]
        self.written_fixed = [i for i, _ in self.fixed if i in marked]
        self.fixed_storages: list[Storage] = []
        self.steady: list[Storage] = []
        self.foreign = False
        self.apart: list[tuple[int, set[Storage]]] = []
        self.scalar_view: Any = memoryview(self.scalars)  # type: ignore[arg-type]
        count = len(plan.outputs) - len(gradients)
        self.fresh = [(o.shape, BY_SHORT[o.dtype], o.nbytes) for o in plan.outputs[:count]]
        self.gradient_specs = [(o.shape, BY_SHORT[o.dtype], o.nbytes) for o in plan.outputs[count:]]

    def holds(self, leaves: Sequence[Any]) -> bool:
        """Whether every guard still holds."""
        if self.fixed_floats and any(leaves[i] != value for i, value in self.fixed_floats):
            return False
        for read, value in self.identities:
            if read() is not value:
                return False
        for read, value in self.checks:  # noqa: SIM110 - a plain loop takes half the time of all()
            if read() != value:
                return False
        return True

    def rebind(self) -> None:
        """Looks up what only a counted change can move: tensors read from outside."""
        for i, var in self.fixed:
            self.pointers[i] = var.storage.ptr
        storages = dict(self.fixed)
        self.fixed_storages = [storages[i].storage for i in self.written_fixed]
        self.steady = [var.storage for i, var in self.fixed if i not in self.written_fixed] if self.plan.steady else []
        self.foreign = any(not _own_memory(storage) for storage in self.steady)
        # An argument may not share memory with an outer tensor if either is written.
        fixed, written = {var.storage for _, var in self.fixed}, set(self.fixed_storages)
        forbidden = [(at, fixed if at in self.written_arguments else written) for _, at in self.arguments]
        self.apart = [(at, others) for at, others in forbidden if others]
        self.epoch = shared.epoch

    def replay(self, leaves: Sequence[Any]) -> Any:
        """Runs the plan on the present arguments and returns what the step returns."""
        if self.epoch != shared.epoch:
            self.rebind()
        pointers = self.pointers
        for i, at in self.arguments:
            t = leaves[at]
            pointers[i] = t._var.storage.ptr + t.offset * t.dtype.itemsize
        for at, forbidden in self.apart:
            if leaves[at]._var.storage in forbidden:
                raise CaptureError(
                    f"argument {at} shares its memory with a tensor from outside, and the step writes to one of them; "
                    "pass a clone()"
                )
        for i, at in self.floats:
            self.scalar_view[i] = leaves[at]
        for i, mapping, key in self.hypers:
            self.scalar_view[i] = mapping[key]
        for i, mapping, key, written in self.items:
            storage = mapping[key]._var.storage
            pointers[i] = storage.ptr
            storage.version += written
        for i, var, written in self.old_grads:
            storage = var.grad._var.storage
            pointers[i] = storage.ptr
            storage.version += written
        for i, at, written in self.argument_grads:
            storage = leaves[at]._var.grad._var.storage
            pointers[i] = storage.ptr
            storage.version += written
        storages = [new_storage(*spec) for spec in self.fresh]
        results = [s.ptr for s in storages]
        gradients = False
        if self.kept_grads:
            gradients = shared.gradients is not self.mark
            if gradients:
                self._gradient_memory()
            results += self.grad_pointers
        self.plan.run(pointers, results, self._stamp() if self.steady else None)
        for storage in self.fixed_storages:
            storage.version += 1
        for at in self.written_arguments:
            leaves[at]._var.storage.version += 1
        if gradients:
            kept = self.kept_grads
            for k, var in self.outer_leaves:
                var.grad = kept[k]
            for k, at in self.argument_leaves:
                leaves[at]._var.grad = kept[k]
            shared.gradients = None if self.argument_leaves else self.mark
        self.calls += 1
        if self.tree is None:
            return self._leaf(self.results[0], storages, leaves)
        return unflatten(self.tree, iter([self._leaf(r, storages, leaves) for r in self.results]))

    def _stamp(self) -> Any:
        """What changes when somebody writes to a tensor that the step only reads; None where that cannot be seen.

        Writes through a NumPy array are not counted: as long as there is one, its values may be new at each call.
        """
        stamp: list[int] = [self.epoch]
        if self.foreign:
            return None
        for storage in self.steady:
            if (storage.shown or not storage.pooled) and memory.holders(storage.array) > 1:
                return None
            stamp += (storage.version, storage.shown)
        return stamp

    def _gradient_memory(self) -> None:
        """Says where gradients go: memory of the plan's own, unless somebody holds what an earlier replay put there.

        As long as nobody has looked at a `.grad` since the last replay (`shared.gradients`), nobody can.
        """
        count, kept = sys.getrefcount, self.kept_grads
        pointers = self.grad_pointers = []
        for k in range(len(kept)):
            tensor = kept[k]  # (enumerate would hold a reference of its own)
            # References to the tensor: kept, the leaf's .grad, `tensor`, the argument. To the storage: its Var,
            # `storage`, the argument. To the memory: the array's base and the argument (a NumPy view is one more).
            if tensor is not None:
                storage = tensor._var.storage
                if count(tensor) <= 4 and count(storage) <= 3 and count(storage.array.base) <= 2:
                    storage.version += 1
                    pointers.append(storage.ptr)
                    continue
            tensor = kept[k] = wrap(new_storage(*self.gradient_specs[k]))
            pointers.append(tensor._var.storage.ptr)

    def cleared(self, cleared: list[Any], leaves: Sequence[Any]) -> None:
        """Sets `.grad` to None where the step leaves it so."""
        for place in cleared:
            _var_of(place, leaves).grad = None
        shared.gradients = None

    def _leaf(self, result: Result, storages: list[Storage], leaves: Sequence[Any]) -> Any:
        if result.kind == "constant":
            return result.value
        tensor: Any
        if result.kind == "argument":
            tensor = leaves[result.value]
        else:
            storage = storages[result.value]
            if result.layout is None:
                result.layout = wrap(storage).layout
            tensor = fresh(storage, result.layout)
        for name, attrs in result.chain:
            tensor = view(tensor, name, attrs)
        if result.requires_grad and result.kind != "argument":
            if result.border is None:
                result.border = Function(_border, {}, _BORDER_EDGES, (tensor.spec,), tensor.spec)
            var = tensor._var
            var.requires_grad = True
            var.fn = result.border
        return tensor


_BORDER_LEAF = Var(Storage(np.zeros(1, np.float32), (), BY_SHORT["f32"]), (), True)
_BORDER_EDGES = (_BORDER_LEAF,)


def _own_memory(storage: Storage) -> bool:
    """Whether the memory is a NumPy array's or the allocator's: whoever else sees it is counted."""
    owner = None if storage.array is None else storage.array.base
    return storage.pooled or owner is None or (type(owner) is np.ndarray and bool(owner.flags.owndata))


def storage_of(slot: Slot, leaves: Sequence[Any]) -> Storage:
    """The memory an input slot means at this call."""
    if slot.kind == "tensor":
        storage = slot.source.storage
    elif slot.kind == "arg":
        storage = leaves[slot.source]._var.storage
    elif slot.kind == "grad":
        storage = slot.source.grad._var.storage
    elif slot.kind == "argument grad":
        storage = leaves[slot.source]._var.grad._var.storage
    else:
        mapping, key = slot.source
        storage = mapping[key]._var.storage
    return storage  # type: ignore[no-any-return]


def _var_of(place: Any, leaves: Sequence[Any]) -> Any:
    return leaves[place]._var if isinstance(place, int) else place
