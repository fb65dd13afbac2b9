"""Which nodes become one kernel.

Elementwise nodes of one shape join into one loop with one or more results; an elementwise node that alone consumes a
contraction, a window or a softmax becomes its epilogue; one that only feeds a reduction is computed inside it.
Reductions of one shape that read the same values share a loop. What is quickly computed from one large value and is
read on both sides of a reduction or contraction is not kept in between, but computed again where it is read
(`inlining.py`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from juanji.compiler.inlining import inlined
from juanji.graph import Node, reachable

#: Kinds whose result may be finished by an elementwise epilogue.
ANCHORS = ("contract", "window", "rows")
#: Kinds that compute inside what nothing else reads.
REDUCING = ("reduce", "moments")


@dataclass(eq=False)
class Group:
    """Nodes computed by one kernel (or one short sequence of them).

    Attributes:
        anchor: the node that is not elementwise, if there is one.
        nodes: all of them, in order.
        mask: their indices as bits.
        siblings: more reductions in the same loop.
    """

    anchor: Node | None
    nodes: list[Node] = field(default_factory=list)
    mask: int = 0
    siblings: list[Node] = field(default_factory=list)

    @property
    def anchors(self) -> list[Node]:
        """The anchor and its siblings: the reductions that share a loop."""
        return [*([self.anchor] if self.anchor is not None else []), *self.siblings]

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
    inlined: set[Node] = field(default_factory=set)

    def read(self, node: Node) -> list[Node]:
        """The values in memory that reading `node` reads: itself, unless it is computed where it is read."""
        if node not in self.inlined:
            return [node]
        return [value for child in node.inputs for value in self.read(child)]


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
    fuser = _Fuser(nodes, users, wanted)
    fused = fuser.run()
    if fused is None:
        # Loops that are each allowed can need one another when taken together: then elementwise nodes stay apart.
        fuser = _Fuser(nodes, users, wanted)
        fuser.apart = True
        fused = fuser.run()
    assert fused is not None
    return fused


class _Fuser:
    def __init__(self, nodes: list[Node], users: dict[Node, list[Node]], outputs: set[Node]) -> None:
        self.nodes, self.users, self.outputs = nodes, users, outputs
        self.group_of: dict[Node, Group] = {}
        self.ancestors: dict[Node, int] = {}
        self.groups: list[Group] = []
        self.apart = False

    def run(self) -> Fused | None:
        """The groups in order; None if they need one another in a circle."""
        for node in self.nodes:
            mask = 0
            for child in node.inputs:
                mask |= self.ancestors[child] | (1 << child.index)
            self.ancestors[node] = mask
        self.inlined = inlined(self.nodes, self.users, self.outputs, self.ancestors)
        for node in self.nodes:
            op = node.op
            if op is None or op.kind == "view" or is_constant(node) or node in self.inlined:
                continue
            if op.kind in ("map", "source"):
                self._place_map(node)
            else:
                self._new(node)
        for group in list(self.groups):
            if group.kind in REDUCING:
                self._pull_producer(group)
        if not self.apart:
            self._join_siblings()
        if not self._acyclic():
            return None
        return Fused(self._ordered(), self.users, self.outputs, self.inlined)

    def _acyclic(self) -> bool:
        """Whether every group can run after what it needs."""
        needs = {group: self._needs(group) for group in self.groups}
        waiting: dict[Group, list[Group]] = defaultdict(list)
        for group, needed in needs.items():
            for other in needed:
                waiting[other].append(group)
        left = {group: len(needed) for group, needed in needs.items()}
        ready, done = [g for g, n in left.items() if n == 0], 0
        while ready:
            done += 1
            for group in waiting[ready.pop()]:
                left[group] -= 1
                if left[group] == 0:
                    ready.append(group)
        return done == len(self.groups)

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
        return not self.apart and group.kind == "map" and child.shape == node.shape and not self._depends(node, group)

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

    def _needs(self, group: Group) -> set[Group]:
        """The groups that a group reads."""
        found: set[Group] = set()
        for node in group.nodes:
            stack = list(node.inputs)
            while stack:
                child = stack.pop()
                owner = self.group_of.get(child)
                if owner is None:
                    stack.extend(child.inputs)  # a view, a constant or an inlined value: look through it
                elif owner is not group:
                    found.add(owner)
        return found

    def _join_siblings(self) -> None:
        """Reductions of the same dimensions that read a value of full shape in common become one loop."""
        homes: dict[object, list[Group]] = defaultdict(list)
        needs = {group: self._needs(group) for group in self.groups}
        for group in list(self.groups):
            anchor = group.anchor
            if group.kind != "reduce" or anchor is None or anchor.op is None or anchor.op.name.startswith("arg"):
                continue
            source = anchor.inputs[0]
            for value in self._full_values(group, source.shape):
                key = (value, source.shape, source.dtype, anchor.dtype, anchor.attr("dims"))
                home = next((h for h in homes[key] if _independent(h, group, needs)), None)
                if home is None:
                    homes[key].append(group)
                    continue
                for node in group.nodes:
                    home.add(node)
                    self.group_of[node] = home
                home.siblings += group.anchors
                self.groups.remove(group)
                needs[home] |= needs.pop(group)
                for others in needs.values():
                    if group in others:
                        others.remove(group)
                        others.add(home)
                break

    def _full_values(self, group: Group, shape: tuple[int, ...]) -> list[Node]:
        """The values of a shape that a group reads from memory."""
        inside, found, stack = set(group.nodes), [], [c for n in group.nodes for c in n.inputs]
        while stack:
            child = stack.pop()
            if child in self.inlined:
                stack.extend(child.inputs)
            elif child not in inside and child.shape == shape and child not in found:
                found.append(child)
        return found

    def _ordered(self) -> list[Group]:
        """Groups after what they need; otherwise in the order in which their last node was made."""
        needs = {group: self._needs(group) for group in self.groups}
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


def _independent(first: Group, second: Group, needs: dict[Group, set[Group]]) -> bool:
    """Whether neither group needs the other's results, directly or through other groups."""
    if first is second:
        return False
    for start, goal in ((first, second), (second, first)):
        seen, stack = {start}, [start]
        while stack:
            for group in needs[stack.pop()]:
                if group is goal:
                    return False
                if group not in seen:
                    seen.add(group)
                    stack.append(group)
    return True
