"""Nodes: the immutable, hash-consed values of a captured step, and the plan-of-one-op that eager execution makes."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from juanji.spec import Shape, Spec

if TYPE_CHECKING:
    from juanji.ops.core import Op

Attrs = tuple[tuple[str, Any], ...]


class Node:
    """One value: an operation applied to other values, or an input slot, or a constant.

    Attributes:
        op: the op record; None for an input.
        inputs: the values it is computed from.
        attrs: the operation's other arguments, sorted by name.
        spec: shape and element type.
        slot: for an input, its number.
        line: the user's line that asked for it.
    """

    __slots__ = ("attrs", "index", "inputs", "line", "op", "slot", "spec", "strides")

    def __init__(
        self,
        op: Op | None,
        inputs: tuple[Node, ...],
        attrs: Attrs,
        spec: Spec,
        index: int,
        slot: int = -1,
        strides: Shape | None = None,
        line: str = "",
    ) -> None:
        self.op, self.inputs, self.attrs, self.spec, self.index = op, inputs, attrs, spec, index
        self.slot, self.strides, self.line = slot, strides, line

    @property
    def shape(self) -> Shape:
        """The value's shape."""
        return self.spec.shape

    @property
    def dtype(self) -> str:
        """The value's element type, by its short name."""
        return self.spec.dtype

    def attr(self, name: str) -> Any:
        """The argument `name` of the operation."""
        for key, value in self.attrs:
            if key == name:
                return value
        raise KeyError(name)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape)) or "scalar"
        if self.op is None:
            return f"%{self.index} = input {self.slot} : {self.dtype}[{shape}]"
        arguments = [f"%{n.index}" for n in self.inputs] + [f"{k}={v}" for k, v in self.attrs]
        return f"%{self.index} = {self.op.name}({', '.join(arguments)}) : {self.dtype}[{shape}]"


class Graph:
    """Makes nodes, each distinct computation once."""

    def __init__(self) -> None:
        self._known: dict[Any, Node] = {}
        self._count = itertools.count()
        self.slots: list[Node] = []

    def input(self, spec: Spec, strides: Shape) -> Node:
        """A new input slot of that shape, element type and memory layout (strides in elements)."""
        node = Node(None, (), (), spec, next(self._count), len(self.slots), strides)
        self.slots.append(node)
        return node

    def node(self, op: Op, inputs: tuple[Node, ...], attrs: Attrs, spec: Spec, line: str = "") -> Node:
        """The node of `op` on `inputs`: an equal one made before, where there is one."""
        key: Any = (op.name, tuple(n.index for n in inputs), attrs, spec)
        if op.name == "const":  # 0.0 == -0.0 and 1 == True, but they are different constants
            key = (*key, repr(attrs))
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = Node(op, inputs, attrs, spec, next(self._count), line=line)
        return known


def in_order(outputs: Iterable[Node]) -> list[Node]:
    """Every node that `outputs` depend on, in the order in which they were made: inputs of a node before it."""
    found = set(outputs)
    stack = list(found)
    while stack:
        for child in stack.pop().inputs:
            if child not in found:
                found.add(child)
                stack.append(child)
    return sorted(found, key=operator.attrgetter("index"))


def reachable(outputs: Iterable[Node]) -> list[Node]:
    """Every node that `outputs` depend on, inputs of a node before it (without recursion)."""
    done: set[int] = set()
    order: list[Node] = []
    for root in outputs:
        stack: list[tuple[Node, Iterator[Node]]] = []
        if root.index not in done:
            done.add(root.index)
            stack.append((root, iter(root.inputs)))
        while stack:
            node, rest = stack[-1]
            for child in rest:
                if child.index not in done:
                    done.add(child.index)
                    stack.append((child, iter(child.inputs)))
                    break
            else:
                order.append(node)
                stack.pop()
    return order
