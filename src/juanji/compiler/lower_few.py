"""Convolutions with few output pixels as matrix products with the weights as they lie in memory.

Where there are fewer output pixels than there is work in bringing the weights into panels, that is what a convolution
would spend its time on. The few patches are copied out instead, each as one row in the order of a weight's row:
the forward pass is dot products of rows, the weight gradient a product that ends in the weights' own order.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from juanji.codegen.contract import ContractSpec, choose_vectors
from juanji.codegen.dot import DotSpec
from juanji.codegen.dot import block as dot_block
from juanji.compiler.access import Access, channels_last, strides_in_order
from juanji.compiler.fuse import Group
from juanji.compiler.lower import Lowering, Operands, names
from juanji.compiler.lower_contract import DOT_ROWS, Tables, emit, extra_operands, image, image_result
from juanji.compiler.lower_weight_grad import finish_separately, padded
from juanji.compiler.program import Ref, ref
from juanji.compiler.windows import Geometry, lifted
from juanji.graph import Node
from juanji.spec import contiguous_strides

#: Fewer weights are brought into panels within a few microseconds.
LEAST_WEIGHTS = 1 << 14
#: The least that there are of weights for each element of the patches, which take as long to be brought into order.
PATCH_SHARE = 2


def refusal(lowering: Lowering, g: Geometry, dtype: str) -> str:
    """Why it is no product with the weights as they lie: that is for few pixels, whose patches are few."""
    if g.groups != 1 or math.prod(g.kernel) == 1 or dtype[0] != "f":
        return "groups, a kernel of one element, or integers"
    pixels, depth = g.images * math.prod(g.out), g.ins * math.prod(g.kernel)
    most = min(depth // DOT_ROWS, g.outs // PATCH_SHARE)
    if pixels > most:
        return f"{pixels} output pixels: at most {most} for {g.outs} sums of {depth}"
    if depth * g.outs < LEAST_WEIGHTS or g.outs < dot_block(lowering.target, dtype):
        return f"{depth * g.outs} weights are packed within a few microseconds"
    return ""


def forward_refusal(lowering: Lowering, g: Geometry, w_node: Node) -> str:
    """As `refusal`; the weights must lie in their usual order, too, and not be packed once for many runs."""
    w = lowering.access(w_node)
    plain = w.strides == contiguous_strides(w.shape)
    if lowering.is_kept(w_node):
        return "weights that hardly ever change, whose panels are kept"
    return refusal(lowering, g, w.dtype) or ("" if plain else "weights that do not lie in C order")


def forward(lowering: Lowering, group: Group, g: Geometry, x_node: Node, w_node: Node) -> None:
    """The forward convolution."""
    w = lowering.access(w_node)
    own = image_result(lowering, group.result)
    order = strides_in_order(own.shape, channels_last(len(own.shape)))
    c = own
    if any(e > 1 and a != b for e, a, b in zip(own.shape, own.strides, order, strict=True)):
        c = lowering.where[group.result] = lowering.program.buffer(own.shape, own.dtype, channels_last(len(own.shape)))
    a = _patches(lowering, g, lifted(lowering.access(x_node)))
    anchor = group.anchor
    assert anchor is not None
    operands = Operands(lowering, group, group.result.shape, acc=anchor)
    epilogue: Any = operands.expr(group.result) if group.result is not anchor else None
    extras, extra_refs = extra_operands(lowering, group, operands, c, 1)
    (m, k), n = a.shape, g.outs
    args: list[int | Ref] = [ref(a), ref(w), ref(c), m, n, k]
    args += [k * a.item, k * a.item, n * c.item, *extra_refs]
    blocks = -(-n // dot_block(lowering.target, anchor.dtype))
    lowering.program.call(DotSpec(anchor.dtype, epilogue, extras), args, blocks, names(group.nodes), [c])


def weight_gradient(lowering: Lowering, group: Group, g: Geometry, anchor: Node, dy_node: Node, x_node: Node) -> None:
    """The weight gradient: the outputs' gradient, turned over, times the patches."""
    dy = lifted(image(lowering, dy_node))
    order = channels_last(5)
    if any(e > 1 and a != b for e, a, b in zip(dy.shape, dy.strides, strides_in_order(dy.shape, order), strict=True)):
        dense = lowering.program.buffer(dy.shape, dy.dtype, order)
        lowering.copy(dy, dense, "dense")
        dy = dense
    b = _patches(lowering, g, lifted(lowering.access(x_node)))
    m, k = b.shape
    result = lowering.result(anchor)
    plain = result.strides == contiguous_strides(result.shape)
    c = result if plain else lowering.program.buffer(result.shape, anchor.dtype)
    flat = Access(c.buffer, (g.outs, k), (k, 1), c.offset, c.dtype)
    tables = Tables()
    tables.rect((g.outs, 1, 1), (0, 1, 0, 0), (0, k, 0, 0), [(0, 0)], m)
    block = ContractSpec(anchor.dtype, choose_vectors(k, lowering.target, anchor.dtype)).block(lowering.target)
    bare = Group(anchor, [anchor])
    emit(lowering, bare, tables, dy, b, flat, k, g.outs, k, block, 1)
    if not plain:
        lowering.copy(c, result, "weight gradient to its order")
    finish_separately(lowering, group, anchor)


def _patches(lowering: Lowering, g: Geometry, x: Access) -> Access:
    """[output pixel, (channel, *kernel)], zeros where a window reaches beyond the image."""
    if any(g.pad) or any(need > n for need, n in zip(g.reach(), g.size, strict=True)):
        g, x = padded(lowering, g, x)
    n, c, *steps = x.strides
    shape = (g.images, *g.out, g.ins, *g.kernel)
    moves = (s * step for s, step in zip(g.stride, steps, strict=True))
    strides = (n, *moves, c, *(d * step for d, step in zip(g.dilation, steps, strict=True)))
    patches = lowering.program.buffer(shape, x.dtype)
    lowering.copy(replace(x, shape=shape, strides=strides), patches, "patches")
    rows, depth = g.images * math.prod(g.out), g.ins * math.prod(g.kernel)
    return replace(patches, shape=(rows, depth), strides=(depth, 1))
