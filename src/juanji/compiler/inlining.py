"""Values that are computed again wherever they are read, instead of being kept in memory.

x - mean of a batch normalisation is one subtraction away from x, which is kept anyway. It is read when the output is
computed, and again, long after, by two sums and by the gradient. Keeping it would be one more pass over memory that
writes, and no memory less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from juanji.graph import Node

#: Operations of one instruction.
CHEAP = ("add", "sub", "mul", "neg")
#: Elements from which a pass over memory counts, and by how many times the other operands are smaller.
LARGE, SMALLER = 1 << 12, 4


def inlined(
    nodes: Sequence[Node],
    users: Mapping[Node, Sequence[Node]],
    outputs: set[Node],
    ancestors: Mapping[Node, int],
) -> set[Node]:
    """The nodes that shall be computed where they are read.

    They are one cheap operation on one value of their shape and others that are much smaller, and what reads them
    cannot all be in one loop: there is a sum, or something that depends on them through more than elementwise work.

    Args:
        nodes: all nodes, in order.
        users: who reads each.
        outputs: those that must be in memory.
        ancestors: what each depends on, as bits of their indices.
    """
    barriers = 0
    for node in nodes:
        if node.op is not None and node.op.kind not in ("map", "view", "source"):
            barriers |= 1 << node.index
    by_index = {node.index: node for node in nodes}
    found: set[Node] = set()
    for node in nodes:
        readers = users.get(node, ())
        if (
            len(readers) < 2
            or node in outputs
            or not _cheap(node, found, users)
            or not all(_takes(u, node) for u in readers)
        ):
            continue
        if any(u.op is not None and u.op.kind != "map" for u in readers) or any(
            _behind(node, u, barriers, by_index, ancestors) for u in readers
        ):
            found.add(node)
    return found


def finishes(node: Node, users: Mapping[Node, Sequence[Node]]) -> bool:
    """Whether a node is the epilogue of a contraction that nothing else reads, as a bias is: it costs nothing there."""
    return any(
        child.op is not None
        and child.op.kind in ("contract", "window")
        and child.shape == node.shape
        and all(user is node for user in users.get(child, ()))
        for child in node.inputs
    )


def _cheap(node: Node, found: set[Node], users: Mapping[Node, Sequence[Node]]) -> bool:
    if node.op is None or node.op.name not in CHEAP or node.spec.size < LARGE:
        return False
    large = [child for child in node.inputs if child.spec.size * SMALLER > node.spec.size or child.shape == node.shape]
    # Not one on top of another: expressions stay short. Inputs of the plan may be overwritten by it.
    if len(large) != 1 or large[0] in found:
        return False
    op = large[0].op
    if op is None or op.kind in ("view", "source") or large[0].shape != node.shape:
        return False
    return not finishes(node, users)


def _takes(user: Node, node: Node) -> bool:
    """Whether a reader computes from expressions, at each position the value at that position."""
    if user.op is None:
        return False
    if user.op.kind == "map":
        return user.shape == node.shape
    return user.op.kind in ("reduce", "moments") and not user.op.name.startswith("arg")


def _behind(node: Node, user: Node, barriers: int, by_index: Mapping[int, Node], ancestors: Mapping[Node, int]) -> bool:
    """Whether a reader also depends on the node through something that is not elementwise."""
    between = ancestors[user] & barriers & ~((2 << node.index) - 1)
    while between:
        top = between.bit_length() - 1
        if ancestors[by_index[top]] >> node.index & 1:
            return True
        between ^= 1 << top
    return False
