"""Bilinear sampling: images and lists of samples channels-last, positions in any order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from juanji.codegen.sample import SampleSpec
from juanji.compiler.access import Access, channels_last
from juanji.compiler.fuse import Group
from juanji.compiler.lower_patches import zeros
from juanji.compiler.program import Ref, ref
from juanji.graph import Node

if TYPE_CHECKING:
    from juanji.compiler.lower import Lowering

#: Samples times channels of one chunk: some 10 microseconds.
CHUNK_ELEMENTS = 8192


def lower(lowering: Lowering, group: Group) -> None:
    """Lowers `bilinear` or `bilinear_scatter`."""
    node = group.anchor
    assert node is not None
    assert node.op is not None
    scatter = node.op.name == "bilinear_scatter"
    first, y_node, x_node = node.inputs
    result = _result(lowering, node)
    if math.prod(node.shape) == 0:
        return
    if scatter:
        zeros(lowering, result)
    if math.prod(first.shape) == 0:
        if not scatter:
            zeros(lowering, result)
        return
    given = _channels_side_by_side(lowering, first)
    image, listed = (result, given) if scatter else (given, result)
    y, x = lowering.access(y_node), lowering.access(x_node)
    n, c, h, w = image.shape
    p = listed.shape[2]
    lanes = lowering.target.lanes(node.dtype)
    p_grain, c_grain = (p, min(c, lanes)) if scatter else (max(1, CHUNK_ELEMENTS // c), c)
    p_chunks, c_chunks = -(-p // p_grain), -(-c // c_grain)
    args: list[int | Ref] = [ref(image), ref(y), ref(x), ref(listed)]
    args += [p, c, h, w, p_chunks, p_grain, c_chunks, c_grain]
    args += [image.strides[d] * image.item for d in (0, 2, 3)]
    args += [a.strides[d] * a.item for a in (y, x) for d in (0, 1)]
    args += [listed.strides[d] * listed.item for d in (0, 2)]
    spec = SampleSpec(node.dtype, scatter, node.attr("slopes"))
    lowering.program.call(spec, args, n * p_chunks * c_chunks, node.op.name, [result])


def _side_by_side(access: Access) -> bool:
    return access.shape[1] == 1 or access.strides[1] == 1


def _channels_side_by_side(lowering: Lowering, node: Node) -> Access:
    access = lowering.access(node)
    if _side_by_side(access):
        return access
    return lowering.reordered(node, access, channels_last(len(access.shape)), "channels-last")


def _result(lowering: Lowering, node: Node) -> Access:
    order = channels_last(len(node.shape))
    access = lowering.result(node, order)
    if not _side_by_side(access):  # the caller's memory is in another order: copied at the end
        access = lowering.where[node] = lowering.program.buffer(node.shape, node.dtype, order)
    return access
