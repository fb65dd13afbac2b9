"""Gather and scatter: one kernel that walks the index, copying or combining between a list and a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from juanji.codegen.table import TableSpec
from juanji.compiler.access import Access, collapse, memory_order
from juanji.compiler.fuse import Group
from juanji.compiler.program import Ref, ref
from juanji.graph import Node
from juanji.spec import Shape

if TYPE_CHECKING:
    from juanji.compiler.lower import Lowering

#: At most as many pieces are made of a row that several threads add to.
_PIECES = 16
#: ... each of at least that many elements.
_PIECE_ELEMENTS = 16


def lower(lowering: Lowering, group: Group) -> None:
    """Lowers a gather or a scatter."""
    anchor = group.anchor
    assert anchor is not None
    assert anchor.op is not None
    (_gather if anchor.op.name == "gather" else _scatter)(lowering, anchor)


def _gather(lowering: Lowering, node: Node) -> None:
    table, index = (lowering.access(n) for n in node.inputs)
    shape, dim = node.shape, node.attr("dim")
    # Where whole rows move, they keep the table's order; else the result has the index's.
    rows = any(s == 0 and e > 1 for s, e in zip(index.strides, shape, strict=True))
    guide: Access = table if rows and table.nbytes else index
    out = lowering.result(node, memory_order(shape, guide.strides))
    if math.prod(shape) == 0:
        return
    order = memory_order(shape, out.strides)
    extents, strides = collapse(shape, [_still(table, dim), index.strides, out.strides], order)
    _call(lowering, node, "gather", (table, index, out), extents, strides)


def _scatter(lowering: Lowering, node: Node) -> None:
    base, source, listed = node.inputs
    dim, shape = node.attr("dim"), listed.shape
    out = lowering.overwritable(node, base)
    values = lowering.access(source)
    if out is not None and values.buffer is not out.buffer and lowering.access(listed).buffer is not out.buffer:
        lowering.where[node] = out
    else:
        before = lowering.access(base)
        out = lowering.result(node, memory_order(node.shape, before.strides))
        lowering.copy(before, out, "copy base")
    if math.prod(shape) == 0:
        return
    index = lowering.access(listed)
    # The loop over `dim` is inside of one chunk: what meets at one place meets in one order. Around it are the other
    # dimensions, but for one along which whole rows are contiguous.
    order = [d for d in memory_order(node.shape, out.strides) if d != dim and shape[d] != 1]
    inner = order[-1:] if order and index.strides[order[-1]] == 0 and out.strides[order[-1]] == 1 else []
    outer = order[:-1] if inner else order
    every = [_still(out, dim), index.strides, values.strides]
    extents, strides = collapse(shape, every, [*outer, dim, *inner])
    if not outer:
        extents, strides = _in_pieces(extents, strides, bool(inner))
    _call(lowering, node, str(node.attr("mode")), (out, index, values), extents, strides)


def _still(access: Access, dim: int) -> Shape:
    """Strides of a table whose position along `dim` comes from the index."""
    return tuple(0 if d == dim else s for d, s in enumerate(access.strides))


def _in_pieces(extents: Shape, strides: Sequence[Shape], rows: bool) -> tuple[Shape, list[Shape]]:
    """An outer axis of pieces of the rows, so that threads can share the work; of one where rows do not divide."""
    width = extents[-1] if rows else 1
    pieces = next((p for p in range(_PIECES, 1, -1) if width % p == 0 and width // p >= _PIECE_ELEMENTS), 1)
    if pieces == 1:
        return (1, *extents), [(0, *s) for s in strides]
    piece = width // pieces
    return (pieces, *extents[:-1], piece), [(s[-1] * piece, *s) for s in strides]


def _call(
    lowering: Lowering,
    node: Node,
    mode: str,
    operands: tuple[Access, Access, Access],
    extents: Shape,
    strides: Sequence[Shape],
) -> None:
    from juanji.compiler.lower import chunked

    table, index, listed = operands
    rows = strides[1][-1] == 0
    unit = rows and strides[0][-1] == 1 and strides[2][-1] == 1
    spec = TableSpec(table.dtype, mode, len(extents), rows, unit)
    grain, chunks = chunked(extents)
    dim = node.attr("dim")
    args: list[int | Ref] = [ref(table), ref(index), ref(listed), grain]
    args += [table.shape[dim], table.strides[dim] * table.item, *extents]
    for access, steps in zip(operands, strides, strict=True):
        args += [s * access.item for s in steps]
    written = listed if mode == "gather" else table
    lowering.program.call(spec, args, chunks, "gather" if mode == "gather" else f"scatter ({mode})", [written])
