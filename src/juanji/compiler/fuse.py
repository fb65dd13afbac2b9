"""Which nodes become one kernel.

Elementwise nodes of one shape join into one loop with one or more results; an elementwise node that alone consumes a
contraction, a window or a softmax becomes its epilogue; one that only feeds a reduction is computed inside it.
Reductions of one shape that read the same values share a loop. What is quickly computed from one large value and is
read on both sides of a reduction or contraction is not kept in between, but computed again where it is read
(`inlining.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
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

    Sets of groups are integers with a bit for each; a group that took others in has their bits too.

    Attributes:
        anchor: the node that is not elementwise, if there is one.
        nodes: all of them, in order.
        siblings: more reductions in the same loop.
        bits: the group itself.
        direct: groups one of whose nodes is an operand.
        through: groups that are read through a view or an inlined value.
        before: all groups that must have run before.
        readers: groups that read this one.
    """

    anchor: Node | None
    nodes: list[Node] = field(default_factory=list)
    siblings: list[Node] = field(default_factory=list)
    bits: int = 0
    direct: int = 0
    through: int = 0
    before: int = 0
    readers: int = 0

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
    return _Fuser(nodes, users, wanted).run()


class _Fuser:
    """Makes groups node by node. No group ever needs itself through others, so that they can run in some order."""

    def __init__(self, nodes: list[Node], users: dict[Node, list[Node]], outputs: set[Node]) -> None:
        self.nodes, self.users, self.outputs = nodes, users, outputs
        self.group_of: dict[Node, Group] = {}
        self.groups: list[Group] = []
        self.by_bit: list[Group] = []
        self.behind: dict[Node, int] = {}  # for a node that is in no group, the groups that it shows

    def run(self) -> Fused:
        """The groups in order."""
        ancestors: dict[Node, int] = {}
        for node in self.nodes:
            mask = 0
            for child in node.inputs:
                mask |= ancestors[child] | (1 << child.index)
            ancestors[node] = mask
        self.inlined = inlined(self.nodes, self.users, self.outputs, ancestors)
        for node in self.nodes:
            op = node.op
            if op is None or op.kind == "view" or is_constant(node) or node in self.inlined:
                direct, through = self._reads(node)
                self.behind[node] = direct | through
            elif op.kind in ("map", "source"):
                self._place_map(node)
            else:
                self._new(node)
        for group in list(self.groups):
            if group.kind in REDUCING:
                self._pull_producer(group)
        self._join_siblings()
        return Fused(self._ordered(), self.users, self.outputs, self.inlined)

    # -- who needs whom -----------------------------------------------------------------------------------------
    def _reads(self, node: Node) -> tuple[int, int]:
        """The groups that a node reads as operands, and through views and inlined values."""
        direct = through = 0
        for child in node.inputs:
            group = self.group_of.get(child)
            if group is None:
                through |= self.behind[child]
            else:
                direct |= group.bits
        return direct, through

    def _each(self, bits: int) -> Iterator[Group]:
        """The groups of a set (one that took others in perhaps more than once)."""
        while bits:
            top = bits.bit_length() - 1
            bits ^= 1 << top
            yield self.by_bit[top]

    def _leads_back(self, bits: int, goal: int) -> bool:
        """Whether one of the groups `bits` needs one of `goal`."""
        return any(group.before & goal for group in self._each(bits & ~goal))

    def _take_in(self, group: Group, node: Node) -> None:
        """Puts a node into a group."""
        direct, through = self._reads(node)
        group.add(node)
        self.group_of[node] = group
        direct, through = direct & ~group.bits, through & ~group.bits
        group.direct |= direct
        group.through |= through
        for other in self._each(direct | through):
            group.before |= other.before | other.bits
            other.readers |= group.bits
        self._tell(group)

    def _merge(self, group: Group, other: Group) -> None:
        """Puts all nodes of a group into another."""
        group.nodes = sorted([*group.nodes, *other.nodes], key=lambda n: n.index)
        for node in other.nodes:
            self.group_of[node] = group
        bits = other.bits
        while bits:
            top = bits.bit_length() - 1
            bits ^= 1 << top
            self.by_bit[top] = group
        group.bits |= other.bits
        group.direct = (group.direct | other.direct) & ~group.bits
        group.through = (group.through | other.through) & ~group.bits
        group.before = (group.before | other.before) & ~group.bits
        group.readers = (group.readers | other.readers) & ~group.bits
        self.groups.remove(other)
        self._tell(group)

    def _tell(self, group: Group) -> None:
        """Whoever comes after a group comes after all that it needs."""
        changed = [group]
        while changed:
            needed = changed.pop()
            news = needed.before | needed.bits
            for reader in self._each(needed.readers):
                if news & ~reader.before:
                    reader.before |= news
                    changed.append(reader)

    # -- elementwise nodes and epilogues ------------------------------------------------------------------------
    def _new(self, node: Node) -> None:
        op = node.op
        assert op is not None
        group = Group(None if op.kind in ("map", "source") else node, bits=1 << len(self.by_bit))
        self.groups.append(group)
        self.by_bit.append(group)
        self._take_in(group, node)

    def _only_user(self, node: Node, user: Node) -> bool:
        return node not in self.outputs and all(u is user for u in self.users[node])

    def _place_map(self, node: Node) -> None:
        joined: Group | None = None
        for child in node.inputs:
            group = self.group_of.get(child)
            if group is None or group is joined:
                continue
            if joined is None:
                if self._may_join(node, child, group):
                    joined = group
                    self._take_in(group, node)
            elif child.shape == node.shape and self._may_merge(joined, group):
                self._merge(joined, group)
        if joined is None:
            self._new(node)

    def _may_join(self, node: Node, child: Node, group: Group) -> bool:
        """Whether a node can be computed in the loop of `group`, or be its epilogue."""
        if group.kind in ANCHORS:
            allowed = (
                child is group.result
                and (child.op is None or child.op.name != "cross_entropy")  # one number a row: nothing to finish
                and child.shape == node.shape
                and child.dtype == node.dtype
                and self._only_user(child, node)
                and not uses_index(node)
            )
        else:
            allowed = group.kind == "map" and child.shape == node.shape
        if not allowed:
            return False
        direct, through = self._reads(node)
        return not through & group.bits and not self._leads_back(direct | through, group.bits)

    def _may_merge(self, first: Group, second: Group) -> bool:
        """Whether two elementwise loops can be one."""
        if first.kind != "map" or second.kind != "map":
            return False
        # Single numbers are not worth it: Adam's corrections of all parameters hang together by the betas, and became
        # one kernel of a second's compiling. Apart they are one small kernel, called for each (join.py).
        if first.nodes[0].spec.size == 1:
            return False
        # Neither may read the other at other positions, or need it through a third.
        both = first.bits | second.bits
        if (first.through | second.through) & both:
            return False
        return not self._leads_back(first.direct | first.through | second.direct | second.through, both)

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
        self._merge(group, producer)

    def _join_siblings(self) -> None:
        """Reductions of the same dimensions that read a value of full shape in common become one loop."""
        homes: dict[object, list[Group]] = defaultdict(list)
        for group in list(self.groups):
            anchor = group.anchor
            if group.kind != "reduce" or anchor is None or anchor.op is None or anchor.op.name.startswith("arg"):
                continue
            source = anchor.inputs[0]
            for value in self._full_values(group, source.shape):
                key = (value, source.shape, source.dtype, anchor.dtype, anchor.attr("dims"))
                known = (self.by_bit[h.bits.bit_length() - 1] for h in homes[key])  # itself, or what took it in
                free = (h for h in known if h is not group and not h.before & group.bits | group.before & h.bits)
                home = next(free, None)
                if home is None:
                    homes[key].append(group)
                    continue
                home.siblings += group.anchors
                self._merge(home, group)
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
        needs = {group: set(self._each(group.direct | group.through)) for group in self.groups}
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
