"""Activations that are computed a second time for the gradient, instead of being kept until then.

Of a convolution, a batch normalisation and an activation, two values live from the forward pass to the gradient: what
the convolution made, which the normalisation's gradient reads, and the activation, which the next convolution's
gradients read. The second is a few instructions away from the first. One more pass over memory, from what is read soon
after anyway, and nearly half of a step's memory is free (Chen, Xu, Zhang, Guestrin, "Training deep nets with sublinear
memory cost", 2016, do so with whole layers).
"""

from __future__ import annotations

from collections import defaultdict

from juanji.compiler.inlining import finishes
from juanji.graph import Attrs, Graph, Node, reachable

#: Elementwise operations of an instruction or two.
CHEAP = frozenset(("add", "sub", "mul", "neg", "relu", "hardtanh", "leaky_relu", "maximum", "minimum"))
#: Operations between the value that is kept and the one that is not; elements from which on it is worth it; how many
#: times as many elements are made by convolutions before it is read again.
STEPS, LARGE, FAR = 6, 1 << 16, 4


def compute_again(graph: Graph, outputs: list[Node]) -> list[Node]:
    """The graph with what is cheap to compute again read from a copy of its own where it is read long after."""
    nodes = sorted(reachable(outputs), key=lambda n: n.index)
    users: dict[Node, list[Node]] = defaultdict(list)
    for node in nodes:
        for child in set(node.inputs):
            users[child].append(node)
    made = [n for n in nodes if n.op is not None and n.op.kind in ("contract", "window")]
    wanted = set(outputs)
    # Positions of maxima are asked for when the pooling is differentiated, at the latest when they are read.
    when = {n: n.index for n in nodes}
    delayed = {
        n for n in made
        if n.op is not None and n.op.name == "max_pool_index" and n not in wanted and _late(n, users[n], made, when, 0)
    }  # fmt: skip
    for node in delayed:
        when[node] = min(u.index for u in users[node])
    late: dict[Node, set[Node]] = {}
    sources: dict[Node, Node] = {}
    for node in nodes:
        if node.op is None or node.op.name not in CHEAP or node.spec.size < LARGE or node in wanted:
            continue
        if all(u.op is not None and u.op.kind == "map" for u in users[node]):
            continue  # a step of a longer chain
        source = _source(node, users)
        if source is not None:
            readers = _late(node, users[node], made, when, 1)
            if readers and _last_read(source, users) > max(when[r] for r in readers):
                late[node], sources[node] = set(readers), source
    changed: dict[Node, Node] = {}
    again: dict[Node, Node] = {}

    def now(node: Node, attrs: Attrs) -> Node:
        """A node with what has become of its inputs, the copies being made here and now."""
        inputs = []
        for child in node.inputs:
            if child in delayed and child not in changed:
                changed[child] = now(child, (*child.attrs, ("second", True)))
            if child in late and node in late[child]:
                if child not in again:
                    again[child] = _copy(graph, child, changed, sources[child])
                inputs.append(again[child])
            else:
                inputs.append(changed.get(child, child))
        if node.op is None or (tuple(inputs) == node.inputs and attrs == node.attrs):
            return node
        return graph.node(node.op, tuple(inputs), attrs, node.spec, node.line)

    if late or delayed:
        for node in nodes:
            if node not in delayed:
                new = now(node, node.attrs)
                if new is not node:
                    changed[node] = new
    return [changed.get(o, o) for o in outputs]


def _large(node: Node) -> list[Node]:
    return [child for child in node.inputs if child.shape == node.shape]


def _source(node: Node, users: dict[Node, list[Node]]) -> Node | None:
    """The value that a chain of cheap operations on one large value begins with, if it is one that is computed."""
    for _ in range(STEPS):
        if node.op is None or node.op.name not in CHEAP:
            break
        if finishes(node, users):
            return node
        large = _large(node)
        if (
            len(large) != 1
            or large[0].dtype != node.dtype
            or sum(c.spec.size for c in node.inputs) > 1.25 * node.spec.size
        ):
            return None
        node = large[0]
    return node if node.op is not None and node.op.kind in ("contract", "window") else None


def _late(node: Node, users: list[Node], made: list[Node], when: dict[Node, int], first: int) -> list[Node]:
    """The readers, but for the `first` ones, before which much else is made than what read the value before."""
    ordered = sorted(users, key=lambda u: when[u])
    between, at, last = 0, 0, node.index
    for i, user in enumerate(ordered):
        while at < len(made) and made[at].index < when[user]:
            if made[at].index > last:
                between += made[at].spec.size
            at += 1
        if i >= first and between >= FAR * node.spec.size:
            return ordered[i:]
        between, last = 0, when[user]
    return []


def _last_read(source: Node, users: dict[Node, list[Node]]) -> int:
    """When a value is read for the last time, by itself or one elementwise operation away (see `inlining.py`)."""
    last = 0
    for user in users[source]:
        last = max(last, user.index)
        if user.op is not None and user.op.kind == "map":
            last = max(last, *(u.index for u in users[user]), 0)
    return last


def _copy(graph: Graph, node: Node, changed: dict[Node, Node], source: Node) -> Node:
    """The same chain once more: nodes that differ in an attribute nobody reads."""
    if node is source or node.op is None or node.shape != source.shape:
        return changed.get(node, node)
    inputs = tuple(_copy(graph, child, changed, source) for child in node.inputs)
    return graph.node(node.op, inputs, (*node.attrs, ("second", True)), node.spec, node.line)
