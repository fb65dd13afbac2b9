"""The trio of convolution as contractions, channels side by side: forward, input gradient, weight gradient."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from juanji.codegen.contract import ContractSpec, choose_vectors
from juanji.compiler import lower_planar
from juanji.compiler.access import Access, channels_last
from juanji.compiler.fuse import Group
from juanji.compiler.lower import Lowering, lower_map
from juanji.compiler.lower_contract import Tables, emit, image, image_result, matrix_product, packed
from juanji.compiler.windows import Geometry, Span, backward_spans, forward_spans, geometry_of, kernel_overlaps
from juanji.dtypes import BY_SHORT
from juanji.graph import Node
from juanji.target import DTYPE_BYTES

#: Images of up to so many channels are copied with their padding for the weight gradient.
PADDED_CHANNELS = 8
#: Taps of a weight gradient summed in registers before they are added to the result: a second level of summation.
GRADIENT_SEGMENT = 16
#: Bytes of one panel of the output's gradient: it stays in the first-level cache while a job's rows pass over it.
GRADIENT_PANEL = 24 * 1024
#: Bytes of images after which a weight gradient turns to its next kernel position: they stay in the second-level cache.
GRADIENT_SLICE = 384 * 1024
#: A weight gradient is cut into at most so many kernel calls.
GRADIENT_CALLS = 64
#: Pixels summed in one run where all pixels of a map are one line: more would push each other out of the first-level
#: cache, in which rows of many channels share few places.
LINE_PIXELS = 32


def lower(lowering: Lowering, group: Group) -> None:
    """Lowers a convolution, one of its gradients, or a matrix product, with its epilogue."""
    anchor = group.anchor
    assert anchor is not None
    assert anchor.op is not None
    if math.prod(anchor.shape) == 0:
        lowering.result(group.result)
        return
    {
        "conv": _conv,
        "conv_input_grad": _input_grad,
        "conv_weight_grad": _weight_grad,
        "matmul": matrix_product,
        "linear": matrix_product,
    }[anchor.op.name](lowering, group, anchor)


def _flip(access: Access, dims: Sequence[int]) -> Access:
    strides, offset = list(access.strides), access.offset
    for d in dims:
        offset += (access.shape[d] - 1) * strides[d]
        strides[d] = -strides[d]
    return Access(access.buffer, access.shape, tuple(strides), offset, access.dtype)


def _slide(
    lowering: Lowering,
    group: Group,
    g: Geometry,
    x: Access,
    weights: Access,
    rows: list[Span],
    cols: list[Span],
    reduce: int,
    columns: int,
    flipped: bool,
) -> None:
    """A kernel slid over `x`: the forward convolution, or the input gradient over the output's gradient.

    Args:
        weights: viewed as [group, kh, kw, reduced channels, columns], kw reversed if `flipped`.
        rows, cols: spans of outputs with equal taps.
        reduce: channels reduced over in one group.
    """
    anchor = group.anchor
    assert anchor is not None
    c = image_result(lowering, group.result)
    kh, kw = g.kernel
    panels, panel, per_group = packed(lowering, anchor, weights, (kh, kw, reduce), columns, g.groups, "pack weights")
    block = panels.shape[-1]
    xn, xc, xy, xx = x.strides
    cn, cc, cy, cx = c.strides
    cc = cc if c.shape[1] > 1 else 1
    # Taps that lie side by side in x and in the packed weights are one longer run of k.
    joined = g.groups == 1 and (xx == reduce or x.shape[3] == 1) and (xc == 1 or reduce == 1)
    a_k = xc if reduce > 1 else (xx if joined else 1)
    tables = Tables()
    for index, row, col in itertools.product(range(g.groups), rows, cols):
        runs = _runs(col, joined)
        taps = [
            (iy * xy + ix * xx, ((k_row * kw) + (kw - 1 - k_col if flipped else k_col)) * reduce * block)
            for k_row, iy in row.taps
            for k_col, ix, _ in runs
        ]
        depth = (runs[0][2] if runs else 1) * reduce
        tables.rect(
            (col.count, row.count, g.images),
            (index * reduce * xc, col.advance * xx, row.advance * xy, xn),
            (index * columns * cc + row.start * cy + col.start * cx, col.step * cx, row.step * cy, cn),
            taps,
            depth,
            index * per_group,
            index * columns,
        )
    emit(lowering, group, tables, x, panels, c, columns, a_k, block, panel, 1)


def _runs(span: Span, joined: bool) -> list[tuple[int, int, int]]:
    """(kernel position, input position, length): taps one by one, or all as one run where they lie side by side."""
    if joined and len(span.taps) > 1:
        steps = {b[1] - a[1] for a, b in itertools.pairwise(span.taps)}
        kernel_steps = {abs(b[0] - a[0]) for a, b in itertools.pairwise(span.taps)}
        if steps == {1} and kernel_steps == {1}:
            return [(span.taps[0][0], span.taps[0][1], len(span.taps))]
    return [(k, i, 1) for k, i in span.taps]


def _weight_view(w: Access, groups: int) -> Access:
    """[out, in/groups, kh, kw] seen as [group, kh, kw, in, out]."""
    o, i, h, v = w.strides
    outs = w.shape[0] // groups
    return Access(
        w.buffer, (groups, w.shape[2], w.shape[3], w.shape[1], outs), (o * outs, h, v, i, o), w.offset, w.dtype
    )


def _conv(lowering: Lowering, group: Group, anchor: Node) -> None:
    x_node, w_node = anchor.inputs
    g = geometry_of(anchor, x_node.shape, w_node.shape, anchor.shape)
    if lower_planar.suits(lowering, g, g.outs, g.out[1], anchor.dtype):
        lower_planar.forward(lowering, group, g, lowering.access(x_node), lowering.access(w_node))
        return
    x, w = image(lowering, x_node), _weight_view(lowering.access(w_node), g.groups)
    rows, cols = (forward_spans(g.size[d], g.out[d], g.kernel[d], g.stride[d], g.pad[d], g.dilation[d]) for d in (0, 1))
    _slide(lowering, group, g, x, w, rows, cols, g.ins, g.outs, flipped=False)


def _input_grad(lowering: Lowering, group: Group, anchor: Node) -> None:
    g_node, w_node = anchor.inputs
    g = geometry_of(anchor, anchor.shape, w_node.shape, g_node.shape)
    if lower_planar.suits(lowering, g, g.ins, g.size[1], anchor.dtype) and lower_planar.gradient_fits(g):
        lower_planar.input_gradient(lowering, group, g, lowering.access(g_node), lowering.access(w_node))
        return
    dy, w = image(lowering, g_node), _weight_view(lowering.access(w_node), g.groups)
    swapped = Access(
        w.buffer,
        (*w.shape[:3], w.shape[4], w.shape[3]),
        (*w.strides[:3], w.strides[4], w.strides[3]),
        w.offset,
        w.dtype,
    )
    rows, cols = (
        backward_spans(g.size[d], g.out[d], g.kernel[d], g.stride[d], g.pad[d], g.dilation[d]) for d in (0, 1)
    )
    _slide(lowering, group, g, dy, _flip(swapped, [2]), rows, cols, g.outs, g.ins, flipped=True)


def _weight_grad(lowering: Lowering, group: Group, anchor: Node) -> None:
    """Rows are (kh, kw, in), columns are out; every image row is a tap, summed along its pixels."""
    g_node, x_node = anchor.inputs
    g = geometry_of(anchor, x_node.shape, anchor.shape, g_node.shape)
    if lower_planar.weight_gradient_suits(lowering, g, lowering.access(g_node), lowering.access(x_node)):
        lower_planar.weight_gradient(lowering, g, anchor, lowering.access(g_node), lowering.access(x_node))
        _finish_separately(lowering, group, anchor)
        return
    dy, x = image(lowering, g_node), image(lowering, x_node)
    if g.pad != (0, 0) and g.ins * g.groups <= PADDED_CHANNELS:
        g, x = _padded(lowering, g, x)
    # In memory [group][kh][kw][in][out], seen as [out, in, kh, kw].
    kh, kw = g.kernel
    own = lowering.program.buffer((g.groups, kh, kw, g.ins, g.outs), anchor.dtype)
    s = own.strides
    if g.groups == 1:
        c = Access(own.buffer, anchor.shape, (s[4], s[3], s[1], s[2]), 0, anchor.dtype)
    else:
        grouped = Access(own.buffer, (g.groups, g.outs, g.ins, kh, kw), (s[0], s[4], s[3], s[1], s[2]), 0, anchor.dtype)
        c = grouped
    xn, xc, xy, xx = x.strides
    dn, dc, dy_row, dy_col = dy.strides
    down, across = (
        kernel_overlaps(g.size[d], g.out[d], g.kernel[d], g.stride[d], g.pad[d], g.dilation[d]) for d in (0, 1)
    )
    whole = _plane_is_line(g, x, dy)
    tables = Tables()
    for index, rows, cols in itertools.product(range(g.groups), down, across):
        (y0, y1), (x0, x1) = rows.outputs, cols.outputs
        pitch = g.dilation[1] * xx
        if whole:
            taps, depth = _line_taps(g.images * g.out[0] * g.out[1], xx, dy_col)
        else:
            taps = [
                (n * xn + oy * g.stride[0] * xy + x0 * g.stride[1] * xx, n * dn + oy * dy_row + x0 * dy_col)
                for n in range(g.images)
                for oy in range(y0, y1)
            ]
            depth = x1 - x0
        if depth == 0:
            taps = []
        joined = (pitch == g.ins * xc and xc == 1) or g.ins == 1
        ins_stride = xc if g.ins > 1 else pitch
        base = (
            index * g.ins * xc
            + (rows.first * g.dilation[0] - g.pad[0]) * xy
            + (cols.first * g.dilation[1] - g.pad[1]) * xx
        )
        place = index * s[0] + rows.first * s[1] + cols.first * s[2]
        if joined:
            tables.rect(
                (g.ins * cols.count, rows.count, 1),
                (base, ins_stride, g.dilation[0] * xy, 0),
                (place, s[3], s[1], 0),
                taps,
                depth,
                index * g.outs * (dc if dc else 1),
                0,
            )
        else:
            tables.rect(
                (g.ins, cols.count, rows.count),
                (base, xc, pitch, g.dilation[0] * xy),
                (place, s[3], s[2], s[1]),
                taps,
                depth,
                index * g.outs * (dc if dc else 1),
                0,
            )
    bare = Group(anchor, [anchor], group.mask)
    vectors = choose_vectors(g.outs, lowering.target, anchor.dtype)
    block = ContractSpec(anchor.dtype, vectors).block(lowering.target)
    a_k = xx * g.stride[1]
    deepest = max(1, *(r[12] for r in tables.rects))
    panel = deepest * block * DTYPE_BYTES[anchor.dtype]
    segment = max(1, min(GRADIENT_SEGMENT, GRADIENT_PANEL // panel))
    for i, part in enumerate(_slices(tables, x.nbytes + dy.nbytes, c.nbytes)):
        emit(
            *(lowering, bare, part, x, dy, c, g.outs, a_k, dy_col, block, 0, segment),
            deep=True,
            accumulate=i > 0,
        )
    # Into the parameter's own order, in which the optimiser reads it.
    logical = lowering.result(anchor)
    strides = logical.strides if g.groups == 1 else (logical.strides[0] * g.outs, *logical.strides)
    split = Access(logical.buffer, c.shape, strides, logical.offset, anchor.dtype)
    lowering.copy(c, split, "weight gradient to C order")
    _finish_separately(lowering, group, anchor)


def _slices(tables: Tables, read: int, written: int) -> list[Tables]:
    """The taps of all rects cut into consecutive parts, each a kernel call that adds to the one before: a part's
    images are still in cache when the next rect needs them. Not so short that the result is passed over more often.
    """
    most = max((r[11] for r in tables.rects), default=0)
    count = max(1, min(GRADIENT_CALLS, most, read // max(GRADIENT_SLICE, 2 * written)))
    if read < 4 * GRADIENT_SLICE:  # it nearly stays there by itself: one kernel less to compile
        count = 1
    parts = []
    for i in range(count):
        part = Tables()
        for rect, (rows, _) in zip(tables.rects, tables.work, strict=True):
            begin, number, depth = rect[10:13]
            taps = tables.taps[begin + number * i // count : begin + number * (i + 1) // count]
            if taps or i == 0:  # the first part writes what no tap adds to, too
                begin, number = part.tap_list(taps)
                part.rects.append([*rect[:10], begin, number, *rect[12:]])
                part.work.append((rows, max(1, number * depth)))
        parts.append(part)
    return parts


def _padded(lowering: Lowering, g: Geometry, x: Access) -> tuple[Geometry, Access]:
    """A copy of an image of few channels with its zeros written out: all kernel positions then share their outputs."""
    reach = [(g.out[d] - 1) * g.stride[d] + (g.kernel[d] - 1) * g.dilation[d] + 1 for d in (0, 1)]
    height, width = (max(reach[d], g.pad[d] + g.size[d]) for d in (0, 1))
    images, channels = x.shape[:2]
    wide = lowering.program.buffer((images, channels, height, width), x.dtype, channels_last(4))
    zero = lowering.program.constant(np.zeros((), BY_SHORT[x.dtype].numpy), x.dtype).broadcast(wide.shape)
    lowering.copy(zero, wide, "zeros")
    inside = replace(wide, shape=x.shape, offset=g.pad[0] * wide.strides[2] + g.pad[1] * wide.strides[3])
    lowering.copy(x, inside, "pad")
    return replace(g, size=(height, width), pad=(0, 0)), wide


def _finish_separately(lowering: Lowering, group: Group, anchor: Node) -> None:
    """What was fused behind a weight gradient runs as a loop of its own: its memory order is the loop's to choose."""
    rest = [n for n in group.nodes if n is not anchor]
    if rest:
        tail = Group(None)
        for node in rest:
            tail.add(node)
        lower_map(lowering, tail)


def _plane_is_line(g: Geometry, x: Access, dy: Access) -> bool:
    """Whether all pixels of all images can be summed as one line: a 1x1 kernel over dense maps."""
    if g.kernel != (1, 1) or g.stride != (1, 1) or g.pad != (0, 0) or g.out != g.size:
        return False
    height, width = g.size
    return all(
        a.strides[2] == width * a.strides[3] and (g.images == 1 or a.strides[0] == height * a.strides[2])
        for a in (x, dy)
    )


def _line_taps(pixels: int, a_step: int, b_step: int) -> tuple[list[tuple[int, int]], int]:
    """A line of pixels cut into equal runs, as near `LINE_PIXELS` as divides it."""
    depth = next((d for d in range(min(LINE_PIXELS, pixels), 0, -1) if pixels % d == 0), 1)
    return [(p * a_step, p * b_step) for p in range(0, pixels, depth)], depth
