"""Which nodes become one kernel.

Elementwise nodes of one shape join into one loop with one or more results; an elementwise node that alone consumes a
contraction, a window or a softmax becomes its epilogue; one that only feeds a reduction is computed inside it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from juanji.graph import Node, reachable

#: Kinds whose result may be finished by an elementwise epilogue.
ANCHORS = ("contract", "window", "rows")


@dataclass(eq=False)
class Group:
    """Nodes computed by one kernel (or one short sequence of them).

    Attributes:
        anchor: the node that is not elementwise, if there is one.
        nodes: all of them, in order.
        mask: their indices as bits.
    """

    anchor: Node | None
    nodes: list[Node] = field(default_factory=list)
    mask: int = 0

    @property
    def result(self) -> Node:
        """The last node."""
        return self.nodes[-1]

    @property
    def kind(self) -> str:
        """The anchor's kind, or "map"."""
        return "map" if self.anchor is None or self.anchor.op is None else self.anchor.op.kind

    def add(self, node: Node) -> None:
        """Takes a node in."""
        self.nodes.append(node)
        self.nodes.sort(key=lambda n: n.index)
        self.mask |= 1 << node.index


@dataclass
class Fused:
    """The result of fusing: groups in an order in which they can run."""

    groups: list[Group]
    users: dict[Node, list[Node]]
    outputs: set[Node]


def is_constant(node: Node) -> bool:
    """Whether a node is a literal that becomes part of the expressions using it."""
    return node.op is not None and node.op.name == "const"


def uses_index(node: Node) -> bool:
    """Whether a node's expression depends on the position in C order."""
    return node.op is not None and node.op.name in ("uniform", "iota")


def fuse(outputs: list[Node]) -> Fused:
    """Groups the nodes that `outputs` depend on."""
    nodes = reachable(outputs)
    wanted = set(outputs)
    users: dict[Node, list[Node]] = defaultdict(list)
    for node in nodes:
        for child in node.inputs:
            users[child].append(node)
    return _Fuser(nodes, users, wanted).run()


class _Fuser:
    def __init__(self, nodes: list[Node], users: dict[Node, list[Node]], outputs: set[Node]) -> None:
        self.nodes, self.users, self.outputs = nodes, users, outputs
        self.group_of: dict[Node, Group] = {}
        self.ancestors: dict[Node, int] = {}
        self.groups: list[Group] = []

    def run(self) -> Fused:
        for node in self.nodes:
            mask = 0
            for child in node.inputs:
                mask |= self.ancestors[child] | (1 << child.index)
            self.ancestors[node] = mask
            op = node.op
            if op is None or op.kind == "view" or is_constant(node):
                continue
            if op.kind in ("map", "source"):
                self._place_map(node)
            else:
                self._new(node)
        for group in list(self.groups):
            if group.kind == "reduce":
                self._pull_producer(group)
        return Fused(self._ordered(), self.users, self.outputs)

    def _new(self, node: Node) -> Group:
        op = node.op
        assert op is not None
        group = Group(None if op.kind in ("map", "source") else node)
        group.add(node)
        self.groups.append(group)
        self.group_of[node] = group
        return group

    def _only_user(self, node: Node, user: Node) -> bool:
        return node not in self.outputs and all(u is user for u in self.users[node])

    def _place_map(self, node: Node) -> None:
        joined: Group | None = None
        for child in node.inputs:
            group = self.group_of.get(child)
            if group is None or group is joined or not self._may_join(node, child, group):
                continue
            if joined is None:
                joined = group
                group.add(node)
                self.group_of[node] = group
            elif self._may_merge(joined, group):
                for other in group.nodes:
                    joined.add(other)
                    self.group_of[other] = joined
                joined.anchor = joined.anchor or group.anchor
                self.groups.remove(group)
        if joined is None:
            self._new(node)

    def _may_join(self, node: Node, child: Node, group: Group) -> bool:
        if group.kind in ANCHORS:
            return (
                child is group.result
                and (child.op is None or child.op.name != "cross_entropy")  # one number a row: nothing to finish
                and child.shape == node.shape
                and child.dtype == node.dtype
                and self._only_user(child, node)
                and not uses_index(node)
                and not self._depends(node, group, direct=child)
            )
        if group.kind == "reduce":
            return False
        return group.kind == "map" and child.shape == node.shape and not self._depends(node, group)

    def _may_merge(self, first: Group, second: Group) -> bool:
        if first.anchor is not None or second.anchor is not None:
            return False
        # Single numbers are not worth it: Adam's corrections of all parameters hang together by the betas, and became
        # one kernel of a second's compiling. Apart they are one small kernel, called for each (join.py).
        if first.nodes[0].spec.size == 1:
            return False
        # Neither may reach the other through a node outside both.
        both = first.mask | second.mask
        return not any(self._reaches(child, both) for g in (first, second) for n in g.nodes for child in n.inputs)

    def _reaches(self, child: Node, mask: int) -> bool:
        return not mask >> child.index & 1 and bool(self.ancestors[child] & mask)

    def _depends(self, node: Node, group: Group, direct: Node | None = None) -> bool:
        """Whether `node` needs a member of `group` through something outside it (or, for an epilogue, at all)."""
        for child in node.inputs:
            if child is direct:
                continue
            if direct is not None and group.mask >> child.index & 1:
                return True
            if self._reaches(child, group.mask):
                return True
        return False

    def _pull_producer(self, group: Group) -> None:
        """Computes inside a reduction what nothing but the reduction uses."""
        anchor = group.anchor
        assert anchor is not None
        child = anchor.inputs[0]
        producer = self.group_of.get(child)
        if producer is None or producer.kind != "map" or child is not producer.result:
            return
        if not self._only_user(child, anchor) or any(uses_index(n) for n in producer.nodes):
            return
        inside = set(producer.nodes)
        if any(n in self.outputs or any(u not in inside for u in self.users[n]) for n in producer.nodes[:-1]):
            return
        for node in producer.nodes:
            group.add(node)
            self.group_of[node] = group
        self.groups.remove(producer)

    def _ordered(self) -> list[Group]:
        """Groups after what they need; otherwise in the order in which their last node was made."""
        needs: dict[Group, set[Group]] = {}
        for group in self.groups:
            found: set[Group] = set()
            for node in group.nodes:
                stack = list(node.inputs)
                while stack:
                    child = stack.pop()
                    owner = self.group_of.get(child)
                    if owner is None:
                        stack.extend(child.inputs)  # a view or a constant: look through it
                    elif owner is not group:
                        found.add(owner)
            needs[group] = found
        order: list[Group] = []
        done: set[Group] = set()

        for root in sorted(self.groups, key=lambda g: g.result.index):
            stack2 = [(root, False)]
            while stack2:
                group, after = stack2.pop()
                if group in done:
                    continue
                if after:
                    done.add(group)
                    order.append(group)
                    continue
                stack2.append((group, True))
                stack2.extend((g, False) for g in sorted(needs[group], key=lambda g: -g.result.index) if g not in done)
        return order
