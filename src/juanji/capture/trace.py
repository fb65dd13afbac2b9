"""One trace of a step: no kernel runs and nothing outside changes; reads and writes become nodes, slots and guards."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from juanji.dtypes import BY_SHORT
from juanji.errors import CaptureError
from juanji.graph import Graph, Node
from juanji.ops.core import Attrs, Op
from juanji.ops.shape import VIEWS, view_write
from juanji.runtime.memory import check_size
from juanji.spec import Spec, contiguous_strides
from juanji.tensors.base import Storage, TensorBase, Var, make, wrap
from juanji.tensors.methods import Tensor

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def mapping_key(mapping: Any) -> Any:
    """What tells a mapping from others: itself, or what a temporary wrapper of one says (`capture_key`)."""
    return getattr(mapping, "capture_key", id(mapping))


@dataclass
class Slot:
    """An input of a plan and where it is looked up at each call.

    Attributes:
        kind: "arg" (a tensor argument), "float" (a float argument), "tensor" (a tensor the step reads from outside),
            "grad" (a leaf's `.grad`), "argument grad" (that of an argument), "item" (a tensor in a mapping), "hyper"
            (a float in a mapping).
        source: the argument's position, the tensor's or the leaf's Var, or (mapping, key).
    """

    kind: str
    source: Any
    node: Node
    storage: Storage | None = None


@dataclass
class Guard:
    """A fact found while tracing: what `read` gave, which must be what it gives at a replay.

    Attributes:
        identity: whether it must be the same object, rather than an equal one.
    """

    text: str
    read: Callable[[], Any]
    value: Any
    identity: bool = False

    def holds(self) -> bool:
        """Whether it is still so."""
        return self.read() is self.value if self.identity else bool(self.read() == self.value)


@dataclass
class Capture:
    """The state of a trace."""

    graph: Graph = field(default_factory=Graph)
    env: dict[Storage, Node] = field(default_factory=dict)
    slots: list[Slot] = field(default_factory=list)
    bumps: dict[Storage, int] = field(default_factory=dict)
    grads: dict[Var, Any] = field(default_factory=dict)
    guards: list[Guard] = field(default_factory=list)
    writes: dict[Storage, str] = field(default_factory=dict)
    views: set[Storage] = field(default_factory=set)
    arguments: dict[Var, tuple[int, Any]] = field(default_factory=dict)
    _registered: dict[Storage, tuple[str, Any]] = field(default_factory=dict)
    _hypers: dict[tuple[Any, Any], tuple[Any, Any, float]] = field(default_factory=dict)
    _guarded: set[tuple[Any, ...]] = field(default_factory=set)

    # -- what the tensor layer asks ---------------------------------------------------------------------------
    def apply(self, op: Op, inputs: Sequence[Any], attrs: Attrs) -> Any:
        """The result of an operation as a value of this capture."""
        if op.kind == "host":
            self.refuse(f"{op.name} runs on the host", "do it outside the step and pass the result in")
        spec = op.shape([t.spec for t in inputs], dict(attrs))
        check_size(spec.shape, spec.dtype, held=False)
        node = self.graph.node(op, tuple(self.read(t) for t in inputs), attrs, spec, self.user_line())
        return self.value(node)

    def value(self, node: Node) -> Any:
        """A new tensor for a node."""
        storage = Storage(None, node.shape, BY_SHORT[node.dtype], self)
        self.env[storage] = node
        return wrap(storage)

    def read(self, tensor: Any) -> Node:
        """The node of what a tensor shows now."""
        node = self.base(tensor)
        for name, attrs in tensor.full_chain:
            op = VIEWS[name]
            spec = op.shape((node.spec,), dict(attrs))
            node = self.graph.node(op, (node,), attrs, spec, "")
        return node

    def base(self, tensor: Any) -> Node:
        """The node of a tensor's whole storage."""
        storage = tensor._var.storage
        node = self.env.get(storage)
        if node is None:
            if storage.capture is not None:
                raise CaptureError(
                    "a tensor of another captured step is used that has no value; return it from that step"
                )
            kind, source = self._registered.get(storage, ("tensor", tensor._var))
            node = self.add_slot(kind, source, Spec(storage.shape, storage.dtype.short), storage)
        return node

    def add_slot(self, kind: str, source: Any, spec: Spec, storage: Storage | None, strides: Any = None) -> Node:
        """A new input."""
        node = self.graph.input(spec, contiguous_strides(spec.shape) if strides is None else strides)
        self.slots.append(Slot(kind, source, node, storage))
        if storage is not None:
            self.env[storage] = node
        return node

    def write(self, target: Any, value: Any) -> None:
        """Rebinds the storage behind `target` to what it holds after the write."""
        storage = target._var.storage
        if storage in self.views:
            self.refuse("an argument that is a view of a larger tensor is written to", "pass a clone() of it")
        node = self.read(value)
        chain = target.full_chain
        if chain:
            base = self.base(target)
            node = self.graph.node(view_write, (base, node), (("chain", chain),), base.spec, self.user_line())
        else:
            self.base(target)
        self.env[storage] = node
        if storage.capture is None or any(s.storage is storage for s in self.slots):
            self.writes.setdefault(storage, self.user_line())

    def read_grad(self, tensor: Any) -> Any:
        """A leaf's `.grad` as the trace sees it."""
        var = tensor._var
        if var in self.grads:
            return self.grads[var]
        index, real = self.arguments.get(var, (-1, tensor))
        real = real._var.grad
        key = ("grad", id(var))
        if key not in self._guarded and var.storage.capture is None:
            self._guarded.add(key)
            self.guards.append(Guard("whether a .grad is None", lambda: grad_state(var), grad_state(var)))
        if real is not None:
            if real.full_chain:
                self.refuse("a .grad that is a view of another tensor is read", "set .grad to None before the step")
            self._registered[real._var.storage] = ("grad", var) if index < 0 else ("argument grad", index)
        return real

    def write_grad(self, tensor: Any, value: Any) -> None:
        """Sets a leaf's `.grad` in the trace only."""
        self.grads[tensor._var] = value

    def hyper(self, mapping: Any, key: Any) -> Any:
        """A float of a mapping as an input that is looked up at each replay."""
        value = mapping[key]
        if isinstance(value, TensorBase):
            return value
        name = (mapping_key(mapping), key)
        if name not in self._hypers:
            node = self.add_slot("hyper", (mapping, key), Spec((), "f64"), None)
            self._hypers[name] = (mapping, self.value(node), float(value))
        return self._hypers[name][1]

    def guard_item(self, mapping: Any, key: Any, value: Any, flag: bool) -> None:
        """A fact about a mapping's entry that the step's structure depends on."""
        name = ("item", mapping_key(mapping), key, flag)
        if name not in self._guarded:
            self._guarded.add(name)
            if flag:
                self.guards.append(Guard(f"whether {key!r} is zero", lambda: bool(mapping[key] != 0), value))
            else:
                self.guards.append(Guard(f"{key!r}", lambda: mapping[key], value))

    def register_item(self, mapping: Any, key: Any, tensor: Any) -> None:
        """Says where a tensor is to be looked up at each replay."""
        self._registered.setdefault(tensor._var.storage, ("item", (mapping, key)))

    # -- refusing -----------------------------------------------------------------------------------------------
    def user_line(self) -> str:
        """The user's line that is running: the nearest frame outside Juanji."""
        frame = sys._getframe(1)
        while frame is not None:
            filename = frame.f_code.co_filename
            if not filename.startswith(_PACKAGE):
                return f"{filename}:{frame.f_lineno}"
            frame = frame.f_back  # type: ignore[assignment]
        return ""

    def refuse(self, what: str, remedy: str) -> NoReturn:
        """Raises `CaptureError` for something a replay could not mean."""
        raise CaptureError(f"{self.user_line()}: {what} inside a step captured by jj.compile: {remedy}")

    def refuse_change(self, what: str) -> NoReturn:
        """Something outside the step is being changed while it is traced."""
        self.refuse(f"{what} changes", "change it outside the step: a replay would not")

    def check_unchanged(self) -> None:
        """Refuses a trace that changed a hyper-parameter it had read."""
        for (_, key), (mapping, _, before) in self._hypers.items():
            if mapping[key] != before:
                raise CaptureError(
                    f"the step changes {key!r} while it is traced (a scheduler's step() belongs outside the step)"
                )


def grad_state(var: Var) -> int:
    """Whether a leaf's `.grad` is None (0), a tensor with memory of its own (1), or a view (2): what a trace reads."""
    if var.grad is None:
        return 0
    return 2 if var.grad.full_chain else 1


def proxy(capture: Capture, index: int, tensor: Any) -> Any:
    """What stands for tensor argument `index` during the trace: its own memory layout, its own gradient."""
    storage = Storage(None, tensor.shape, tensor.dtype, capture)
    capture.add_slot("arg", index, tensor.spec, storage, tensor.strides)
    if tensor.full_chain:
        capture.views.add(storage)
    if tensor.requires_grad and not tensor.is_leaf:
        raise CaptureError(
            f"argument {index} of the step has a history (shape {list(tensor.shape)}); a backward cannot cross the "
            "border of a captured step: detach() it, or compute it inside"
        )
    var = Var(storage, (), tensor.requires_grad)
    capture.arguments[var] = (index, tensor)
    return make(Tensor, var, (), tensor.shape, tensor.strides, 0, tensor.dtype)


def float_proxy(capture: Capture, index: int) -> Any:
    """What stands for float argument `index`: a scalar input."""
    return capture.value(capture.add_slot("float", index, Spec((), "f64"), None))
