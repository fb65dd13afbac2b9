"""Writes of regions, and values that are joined from parts.

`torch.cat` is a chain of writes, each of one part into what the last has left. Where the parts fill the whole, nothing
is there before to be copied, and a loop, a convolution or a pooling that makes a part writes it straight to its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from juanji.compiler.access import Access, memory_order, strides_in_order
from juanji.compiler.fuse import Group
from juanji.graph import Node
from juanji.ops.shape import VIEWS
from juanji.spec import Spec

if TYPE_CHECKING:
    from juanji.compiler.lower import Lowering


@dataclass(eq=False)
class Join:
    """A value that consists of parts side by side along one dimension.

    Attributes:
        links: the writes that make it, in order; the last one is the value.
        whole: where it lies, from the moment when the first part is made.
    """

    links: list[Node]
    whole: Access | None = None


def joins(lowering: Lowering) -> dict[Node, Join]:
    """For each write of a chain that fills the whole, the join it belongs to."""
    found: dict[Node, Join] = {}
    for group in reversed(lowering.fused.groups):
        node = group.result
        if group.kind != "write" or node in found:
            continue
        target = lowering.targets.get(node)
        if target is not None and target.buffer.kind == "slot":
            continue  # its old value may still be read
        links = _filling(lowering, node)
        found.update(dict.fromkeys(links, Join(links)))
    return found


def _filling(lowering: Lowering, last: Node) -> list[Node]:
    """The chain of writes up to `last`, if its regions fill the whole in order along one dimension."""
    links, node, end, along = [last], last, -1, -1
    while True:
        chain = node.attr("chain")
        if len(chain) != 1 or chain[0][0] != "slice":
            return []
        bounds = dict(chain[0][1])["bounds"]
        part = [d for d, (b, e) in enumerate(zip(bounds, node.shape, strict=True)) if b != (0, e, 1)]
        if len(part) != 1 or (along not in (-1, part[0])) or bounds[part[0]][2] != 1:
            return []
        along = part[0]
        start, stop, _ = bounds[along]
        if stop != (node.shape[along] if end < 0 else end):
            return []
        if start == 0:
            return links[::-1]
        base, end = node.inputs[0], start
        if (
            base.op is None
            or base.op.name != "view_write"
            or base in lowering.fused.outputs
            or any(user is not node for user in lowering.fused.users[base])
        ):
            return []
        links.append(base)
        node = base


def parts(found: dict[Node, Join]) -> dict[Node, Node]:
    """For each value that is a part, the write that takes it (the first of several)."""
    result: dict[Node, Node] = {}
    for link in found:
        value = link.inputs[1]
        joined = value in found and found[value].links[-1] is value
        if joined or (value.op is not None and value.op.kind in ("map", "window", "contract")):
            result.setdefault(value, link)
    return result


def place(lowering: Lowering, node: Node, order: Sequence[int]) -> Access | None:
    """Where a group shall write `node`, a part, so that it lies in its place; None where the order is another one."""
    link = lowering.parts[node]
    join = lowering.joins[link]
    if join.whole is None:
        _begin(lowering, join, order)
    assert join.whole is not None
    shown = region(join.whole, link)
    if shown is None:
        return None
    wanted = memory_order(node.shape, strides_in_order(node.shape, order))
    return shown if memory_order(shown.shape, shown.strides) == wanted else None


def _begin(lowering: Lowering, join: Join, order: Sequence[int]) -> None:
    join.whole = lowering.result(join.links[-1], order)
    for link in join.links:
        lowering.where[link] = join.whole


def lower(lowering: Lowering, group: Group) -> None:
    """A base with one region replaced: in place where nobody needs the old base any more."""
    node = group.result
    base, value = node.inputs
    join = lowering.joins.get(node)
    if join is not None:
        source = lowering.access(value)
        if join.whole is None:
            _begin(lowering, join, _order(source, node))
        assert join.whole is not None
        own = region(join.whole, node)
        assert own is not None
        if source != own:
            lowering.copy(source, own, "write region")
        return
    old = lowering.access(base)
    here = lowering.overwritable(node, base)
    shown = None if here is None else region(here, node)
    if here is not None and shown is not None:
        lowering.where[node] = here
    else:
        like = old if all(s or e == 1 for s, e in zip(old.strides, old.shape, strict=True)) else lowering.access(value)
        out = lowering.result(node, _order(like, node))
        shown = region(out, node)
        if shown is None:  # memory in an order that does not show the region
            out = lowering.where[node] = lowering.program.buffer(node.shape, node.dtype)
            shown = region(out, node)
            assert shown is not None
        lowering.copy(old, out, "copy base")
    source = lowering.access(value)
    if source.buffer is shown.buffer and source != shown:  # one part of the base is written to another
        held = lowering.program.buffer(value.shape, value.dtype)
        lowering.copy(source, held, "stage")
        source = held
    lowering.copy(source, shown, "write region")


def _order(like: Access, node: Node) -> tuple[int, ...]:
    """The memory order of a value of as many dimensions; C order where it does not say."""
    rank = len(node.shape)
    if len(like.shape) != rank or any(s == 0 and e != 1 for s, e in zip(like.strides, like.shape, strict=True)):
        return tuple(range(rank))
    return memory_order(like.shape, like.strides)


def region(whole: Access, node: Node) -> Access | None:
    """What the chain of a write shows of `whole`, or None where memory order does not allow it."""
    spec = Spec(node.shape, node.dtype)
    shown: Access | None = whole
    for name, attrs in node.attr("chain"):
        spec = VIEWS[name].shape((spec,), dict(attrs))
        shown = shown.view(name, dict(attrs), spec.shape) if shown is not None else None
    return shown
