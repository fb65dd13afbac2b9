"""Windows of an image as an array (`unfold`) and back (`fold`): loops over strided views, one for each kernel position.

A window array is a view of the padded image in which strides overlap, so reading it is one copy. Adding it up is one
loop for each kernel position: within it no two windows meet, and the order of the sums is always the same.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from juanji.compiler.access import Access, collapse, memory_order
from juanji.compiler.fuse import Group
from juanji.dtypes import BY_SHORT
from juanji.graph import Node

if TYPE_CHECKING:
    from juanji.compiler.lower import Lowering


def lower(lowering: Lowering, group: Group) -> None:
    """Lowers `unfold` or `fold`."""
    anchor = group.anchor
    assert anchor is not None
    assert anchor.op is not None
    if math.prod(anchor.shape) == 0:
        lowering.result(anchor)
        return
    (_unfold if anchor.op.name == "unfold" else _fold)(lowering, anchor)


def _room(node: Node, size: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """The padded image that holds input and windows, and how many spatial dimensions there are."""
    rank = len(size)
    outs = (node.shape if node.op is not None and node.op.name == "unfold" else node.inputs[0].shape)[2 + rank :]
    attrs = (node.attr(name) for name in ("kernel", "stride", "dilation", "padding"))
    windows = zip(size, outs, *attrs, strict=True)
    return tuple(max(p[0] + n, (o - 1) * s + (k - 1) * d + 1) for n, o, k, s, d, p in windows), rank


def _windows(wide: Access, node: Node, outs: tuple[int, ...]) -> Access:
    """The view [N, C, *kernel, *positions] of a padded image."""
    steps = wide.strides[2:]
    along = (node.attr(name) for name in ("dilation", "stride"))
    strides = [tuple(a * s for a, s in zip(attr, steps, strict=True)) for attr in along]
    shape = (*wide.shape[:2], *node.attr("kernel"), *outs)
    return replace(wide, shape=shape, strides=(*wide.strides[:2], *strides[0], *strides[1]))


def zeros(lowering: Lowering, place: Access) -> None:
    """Fills `place` with zeros."""
    zero = lowering.program.constant(np.zeros((), BY_SHORT[place.dtype].numpy), place.dtype)
    lowering.copy(zero.broadcast(place.shape), place, "zeros")


def _inside(wide: Access, node: Node, size: tuple[int, ...]) -> Access:
    before = sum(p[0] * s for p, s in zip(node.attr("padding"), wide.strides[2:], strict=True))
    return replace(wide, shape=(*wide.shape[:2], *size), offset=wide.offset + before)


def _unfold(lowering: Lowering, node: Node) -> None:
    x = lowering.access(node.inputs[0])
    room, rank = _room(node, x.shape[2:])
    if room != x.shape[2:]:
        wide = lowering.program.buffer((*x.shape[:2], *room), x.dtype, memory_order(x.shape, x.strides))
        zeros(lowering, wide)
        lowering.copy(x, _inside(wide, node, x.shape[2:]), "pad")
        x = wide
    lowering.copy(_windows(x, node, node.shape[2 + rank :]), lowering.result(node), "unfold")


def _fold(lowering: Lowering, node: Node) -> None:
    from juanji.compiler.lower import loop_call

    values, size = lowering.access(node.inputs[0]), node.shape[2:]
    room, rank = _room(node, size)
    out = lowering.result(node)
    wide = out if room == size else lowering.program.buffer((*node.shape[:2], *room), node.dtype)
    zeros(lowering, wide)
    windows = _windows(wide, node, values.shape[2 + rank :])
    add = "or" if node.dtype == "b1" else "add"
    load = [("load", node.dtype, i) for i in (0, 1)]
    for at in itertools.product(*map(range, node.attr("kernel"))):
        one, there = (_at(a, at) for a in (values, windows))
        if math.prod(one.shape) == 0:
            continue
        order = memory_order(there.shape, there.strides)
        extents, strides = collapse(there.shape, [one.strides, there.strides], order)
        operands = list(zip((one, there), strides, strict=True))
        stages = (("store", 0, (add, node.dtype, load[0], load[1])),)
        loop_call(lowering.program, extents, operands, operands[1:], stages, "fold")
    if wide is not out:
        lowering.copy(_inside(wide, node, size), out, "crop")


def _at(windows: Access, at: tuple[int, ...]) -> Access:
    """What one kernel position sees: [N, C, *positions]."""
    end = 2 + len(at)
    shift = sum(i * s for i, s in zip(at, windows.strides[2:end], strict=True))
    shape, strides = windows.shape, windows.strides
    return replace(
        windows,
        shape=(*shape[:2], *shape[end:]),
        strides=(*strides[:2], *strides[end:]),
        offset=windows.offset + shift,
    )
