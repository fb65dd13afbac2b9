"""The op table: one record per operation, the only place that knows it.

A record gives an operation's name, its shape rule, its gradient (written in operations, so that gradients of gradients
come free), what the gradient reads, and how the compiler lowers it. Values are whatever the dispatcher makes of them:
tensors above the waist. Nothing here imports them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from juanji.spec import Shape, Spec

#: Attributes in the form that keys and nodes hold them.
Attrs = tuple[tuple[str, Any], ...]
ShapeRule = Callable[[Sequence[Spec], dict[str, Any]], Spec]
#: Builds the loop expression of an elementwise operation from those of its inputs.
ExprRule = Callable[[list[Any], dict[str, Any], str], Any]


class Context:
    """What a gradient formula may read: the incoming gradient, attributes, shapes, and the values it declared.

    Attributes:
        g: gradient of the output.
        attrs: the operation's attributes.
        specs: shape and element type of each input.
        out_spec: of the output.
    """

    __slots__ = ("_inputs", "_out", "attrs", "g", "out_spec", "specs")

    def __init__(
        self, g: Any, attrs: dict[str, Any], specs: Sequence[Spec], out_spec: Spec, inputs: Sequence[Any], out: Any
    ) -> None:
        self.g, self.attrs, self.specs, self.out_spec = g, attrs, specs, out_spec
        self._inputs, self._out = inputs, out

    def x(self, i: int) -> Any:
        """The value of input `i`; the op's `needs` must list it."""
        value = self._inputs[i]
        if value is None:
            raise AssertionError(f"a gradient formula reads input {i}, which its record does not list in `needs`")
        return value

    @property
    def out(self) -> Any:
        """The value of the output; the op's `needs` must list it."""
        if self._out is None:
            raise AssertionError("a gradient formula reads the output, which its record does not list in `needs`")
        return self._out

    def shape(self, i: int) -> Shape:
        """The shape of input `i`."""
        return self.specs[i].shape


Gradient = Callable[[Context], Any]


@dataclass(frozen=True, eq=False)
class Op:
    """One operation.

    Attributes:
        name: as in `docs/` and in printed graphs.
        shape: shape and element type of the output; raises whole-sentence errors.
        kind: the lowering: "map" (elementwise), "reduce", "moments", "rows", "contract", "window", "patches" (windows
            as an array), "table" (gather and scatter), "scan", "view", "write", "copy", "source" (no inputs) or "host"
            (NumPy; refused inside a capture).
        grads: for each input a formula, or None where no gradient flows.
        needs: for each input, what its formula reads: digits name inputs, "o" the output.
        expr: the loop expression (kinds map and source).
        linear: the inputs it is linear in; tests then assert exact adjoints.
    """

    name: str
    shape: ShapeRule
    kind: str
    grads: tuple[Gradient | None, ...] = ()
    needs: tuple[str, ...] = ()
    expr: ExprRule | None = None
    linear: tuple[int, ...] = ()
    attributes: tuple[str, ...] = field(default=())
    _reads: dict[int, tuple[tuple[bool, ...], bool]] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, *inputs: Any, **attrs: Any) -> Any:
        """Applies the operation to values."""
        return _dispatch(self, inputs, tuple(sorted(attrs.items())) if attrs else ())

    def reads(self, mask: int) -> tuple[tuple[bool, ...], bool]:
        """What the tape keeps: of each input, and of the output, whether a formula wanted by `mask` reads it.

        Args:
            mask: bit i is set where the gradient of input i is wanted.
        """
        found = self._reads.get(mask)
        if found is None:
            needed = "".join(text for i, text in enumerate(self.needs) if mask >> i & 1)
            found = tuple(str(i) in needed for i in range(len(self.needs))), "o" in needed
            self._reads[mask] = found
        return found

    def __repr__(self) -> str:
        return f"<op {self.name}>"


TABLE: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Adds a record to the table."""
    if op.name in TABLE:
        raise AssertionError(f"operation {op.name} is registered twice")
    TABLE[op.name] = op
    return op


def _no_dispatcher(op: Op, inputs: Sequence[Any], attrs: Attrs) -> Any:
    raise AssertionError("operations need a dispatcher: import juanji.tensors")


_dispatch: Callable[[Op, Sequence[Any], Attrs], Any] = _no_dispatcher


def set_dispatcher(dispatcher: Callable[[Op, Sequence[Any], Attrs], Any]) -> None:
    """Says who applies operations to values: the tensor layer does, once, when it is imported."""
    global _dispatch
    _dispatch = dispatcher
