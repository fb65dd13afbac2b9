"""The trio of convolution as contractions, channels side by side: forward, input gradient, weight gradient.

Everything here has three spatial dimensions; those that a tensor lacks have extent 1, which costs nothing.
"""

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
from juanji.compiler.windows import Geometry, Span, backward_spans, forward_spans, geometry_of, kernel_overlaps, lifted
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
#: Pixels of one tap of a weight gradient where image rows are much longer: their sum is one level of summation.
GRADIENT_LINE = 512
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
    spans: Sequence[list[Span]],
    reduce: int,
    columns: int,
    flipped: bool,
) -> None:
    """A kernel slid over `x`: the forward convolution, or the input gradient over the output's gradient.

    Args:
        x: [N, C, D, H, W].
        weights: viewed as [group, kd, kh, kw, reduced channels, columns], kw reversed if `flipped`.
        spans: of each dimension, of outputs with equal taps.
        reduce: channels reduced over in one group.
    """
    anchor = group.anchor
    assert anchor is not None
    own = image_result(lowering, group.result)
    c = lifted(own)
    kd, kh, kw = g.kernel
    panels, panel, per_group = packed(
        lowering, anchor, weights, (kd, kh, kw, reduce), columns, g.groups, "pack weights"
    )
    block = panels.shape[-1]
    xn, xc, xz, xy, xx = x.strides
    cn, cc, cz, cy, cx = c.strides
    cc = cc if c.shape[1] > 1 else 1
    # Taps that lie side by side in x and in the packed weights are one longer run of k.
    joined = g.groups == 1 and (xx == reduce or x.shape[4] == 1) and (xc == 1 or reduce == 1)
    a_k = xc if reduce > 1 else (xx if joined else 1)
    tables = Tables()
    for index, (depth, row, col) in itertools.product(range(g.groups), itertools.product(*spans)):
        runs = _runs(col, joined)
        taps = [
            (
                iz * xz + iy * xy + ix * xx,
                ((k_depth * kh + k_row) * kw + (kw - 1 - k_col if flipped else k_col)) * reduce * block,
            )
            for k_depth, iz in depth.taps
            for k_row, iy in row.taps
            for k_col, ix, _ in runs
        ]
        length = (runs[0][2] if runs else 1) * reduce
        start = index * columns * cc + depth.start * cz + row.start * cy + col.start * cx
        # A rectangle has three dimensions: columns, rows, and the longer one of images and planes.
        third, others = (g.images, xn, cn), (depth.count, depth.advance * xz, depth.step * cz)
        if others[0] > third[0]:
            third, others = others, third
        for i in range(others[0]):
            tables.rect(
                (col.count, row.count, third[0]),
                (index * reduce * xc + i * others[1], col.advance * xx, row.advance * xy, third[1]),
                (start + i * others[2], col.step * cx, row.step * cy, third[2]),
                taps,
                length,
                index * per_group,
                index * columns,
            )
    emit(lowering, group, tables, x, panels, own, columns, a_k, block, panel, 1)


def _runs(span: Span, joined: bool) -> list[tuple[int, int, int]]:
    """(kernel position, input position, length): taps one by one, or all as one run where they lie side by side."""
    if joined and len(span.taps) > 1:
        steps = {b[1] - a[1] for a, b in itertools.pairwise(span.taps)}
        kernel_steps = {abs(b[0] - a[0]) for a, b in itertools.pairwise(span.taps)}
        if steps == {1} and kernel_steps == {1}:
            return [(span.taps[0][0], span.taps[0][1], len(span.taps))]
    return [(k, i, 1) for k, i in span.taps]


def _weight_view(w: Access, groups: int) -> Access:
    """[out, in/groups, *kernel] seen as [group, kd, kh, kw, in, out]."""
    w = lifted(w)
    o, i, *kernel = w.strides
    outs = w.shape[0] // groups
    shape = (groups, *w.shape[2:], w.shape[1], outs)
    return Access(w.buffer, shape, (o * outs, *kernel, i, o), w.offset, w.dtype)


def _planar(lowering: Lowering, g: Geometry, rows: int, width: int, anchor: Node) -> bool:
    return len(anchor.shape) < 5 and lower_planar.suits(lowering, g.plane(), rows, width, anchor.dtype)


def _conv(lowering: Lowering, group: Group, anchor: Node) -> None:
    x_node, w_node = anchor.inputs
    g = geometry_of(anchor, x_node.shape, w_node.shape, anchor.shape)
    if _planar(lowering, g, g.outs, g.out[2], anchor):
        places = (lifted(lowering.access(n), 4) for n in (x_node, w_node))
        lower_planar.forward(lowering, group, g.plane(), *places)
        return
    x, w = lifted(image(lowering, x_node)), _weight_view(lowering.access(w_node), g.groups)
    spans = [forward_spans(g.size[d], g.out[d], g.kernel[d], g.stride[d], g.pad[d], g.dilation[d]) for d in range(3)]
    _slide(lowering, group, g, x, w, spans, g.ins, g.outs, flipped=False)


def _input_grad(lowering: Lowering, group: Group, anchor: Node) -> None:
    g_node, w_node = anchor.inputs
    g = geometry_of(anchor, anchor.shape, w_node.shape, g_node.shape)
    if _planar(lowering, g, g.ins, g.size[2], anchor) and lower_planar.gradient_fits(g.plane()):
        places = (lifted(lowering.access(n), 4) for n in (g_node, w_node))
        lower_planar.input_gradient(lowering, group, g.plane(), *places)
        return
    dy, w = lifted(image(lowering, g_node)), _weight_view(lowering.access(w_node), g.groups)
    swapped = replace(
        w, shape=(*w.shape[:4], w.shape[5], w.shape[4]), strides=(*w.strides[:4], w.strides[5], w.strides[4])
    )
    spans = [backward_spans(g.size[d], g.out[d], g.kernel[d], g.stride[d], g.pad[d], g.dilation[d]) for d in range(3)]
    _slide(lowering, group, g, dy, _flip(swapped, [3]), spans, g.outs, g.ins, flipped=True)


def _weight_grad(lowering: Lowering, group: Group, anchor: Node) -> None:
    """Rows are (kh, kw, in), columns are out; every image row is a tap, summed along its pixels."""
    g_node, x_node = anchor.inputs
    g = geometry_of(anchor, x_node.shape, anchor.shape, g_node.shape)
    if len(anchor.shape) < 5:
        flat = [lifted(lowering.access(n), 4) for n in (g_node, x_node)]
        if lower_planar.weight_gradient_suits(lowering, g.plane(), *flat):
            lower_planar.weight_gradient(lowering, g.plane(), anchor, *flat)
            _finish_separately(lowering, group, anchor)
            return
    dy, x = lifted(image(lowering, g_node)), lifted(image(lowering, x_node))
    if any(g.pad) and g.ins * g.groups <= PADDED_CHANNELS:
        g, x = _padded(lowering, g, x)
    # In memory [group][kd][kh][kw][in][out], seen as [out, in, kd, kh, kw].
    own = lowering.program.buffer((g.groups, *g.kernel, g.ins, g.outs), anchor.dtype)
    s = own.strides
    seen = (s[5], s[4], *s[1:4])
    if g.groups == 1:
        c = Access(own.buffer, (g.outs, g.ins, *g.kernel), seen, 0, anchor.dtype)
    else:
        c = Access(own.buffer, (g.groups, g.outs, g.ins, *g.kernel), (s[0], *seen), 0, anchor.dtype)
    whole = _plane_is_line(g, x, dy)
    lines = 1 if whole or g.out[2] <= 2 * GRADIENT_LINE else 2
    tables = [_gradient_tables(g, x, dy, s, whole, part if lines == 2 else None) for part in range(lines)]
    bare = Group(anchor, [anchor], group.mask)
    vectors = choose_vectors(g.outs, lowering.target, anchor.dtype)
    block = ContractSpec(anchor.dtype, vectors).block(lowering.target)
    a_k = x.strides[4] * g.stride[2]
    deepest = max(1, *(r[12] for table in tables for r in table.rects))
    panel = deepest * block * DTYPE_BYTES[anchor.dtype]
    segment = max(1, min(GRADIENT_SEGMENT, GRADIENT_PANEL // panel))
    parts = [part for table in tables for part in _slices(table, x.nbytes + dy.nbytes, c.nbytes)]
    for i, part in enumerate(parts):
        emit(
            *(lowering, bare, part, x, dy, c, g.outs, a_k, dy.strides[4], block, 0, segment),
            deep=True,
            accumulate=i > 0,
        )
    # Into the parameter's own order, in which the optimiser reads it.
    logical = lifted(lowering.result(anchor))
    strides = logical.strides if g.groups == 1 else (logical.strides[0] * g.outs, *logical.strides)
    split = Access(logical.buffer, c.shape, strides, logical.offset, anchor.dtype)
    lowering.copy(c, split, "weight gradient to C order")
    _finish_separately(lowering, group, anchor)


def _gradient_tables(g: Geometry, x: Access, dy: Access, s: Sequence[int], whole: bool, part: int | None) -> Tables:
    """The tables of a weight gradient.

    Args:
        s: the result's strides of [group, kd, kh, kw, in, out].
        whole: whether all pixels are summed as one line.
        part: of image rows that are long, 0 takes the pieces of `GRADIENT_LINE` pixels, 1 what is left of each.
    """
    xn, xc, xz, xy, xx = x.strides
    dn, dc, dz, dy_row, dy_col = dy.strides
    inward, down, across = (
        kernel_overlaps(g.size[d], g.out[d], g.kernel[d], g.stride[d], g.pad[d], g.dilation[d]) for d in range(3)
    )
    planes = [
        (overlap.first + i, range(*overlap.outputs)) for overlap in inward for i in range(overlap.count)
    ]  # each kernel plane and the output planes it meets
    pitch = g.dilation[2] * xx
    joined = (pitch == g.ins * xc and xc == 1) or g.ins == 1
    ins_stride = xc if g.ins > 1 else pitch
    tables = Tables()
    for index, (plane, depths), rows, cols in itertools.product(range(g.groups), planes, down, across):
        (y0, y1), (x0, x1) = rows.outputs, cols.outputs
        if whole:
            taps, depth = _line_taps(g.images * math.prod(g.out), xx, dy_col)
        else:
            starts, depth = _pieces(x0, x1, part)
            taps = [
                (
                    n * xn + oz * g.stride[0] * xz + oy * g.stride[1] * xy + ox * g.stride[2] * xx,
                    n * dn + oz * dz + oy * dy_row + ox * dy_col,
                )
                for n in range(g.images)
                for oz in depths
                for oy in range(y0, y1)
                for ox in starts
            ]
        if depth == 0:
            taps = []
        base = (
            index * g.ins * xc
            + (plane * g.dilation[0] - g.pad[0]) * xz
            + (rows.first * g.dilation[1] - g.pad[1]) * xy
            + (cols.first * g.dilation[2] - g.pad[2]) * xx
        )
        place = index * s[0] + plane * s[1] + rows.first * s[2] + cols.first * s[3]
        down_step = g.dilation[1] * xy
        if joined:
            sizes = (g.ins * cols.count, rows.count, 1)
            a, c = (base, ins_stride, down_step, 0), (place, s[4], s[2], 0)
        else:
            sizes = (g.ins, cols.count, rows.count)
            a, c = (base, xc, pitch, down_step), (place, s[4], s[3], s[2])
        tables.rect(sizes, a, c, taps, depth, index * g.outs * (dc if dc else 1), 0)
    return tables


def _pieces(begin: int, end: int, part: int | None) -> tuple[Sequence[int], int]:
    """Where the pieces of pixels `begin` to `end` start and how long each is: one piece where `part` is None."""
    if part is None:
        return (begin,), end - begin
    rest = begin + (end - begin) // GRADIENT_LINE * GRADIENT_LINE
    return (range(begin, rest, GRADIENT_LINE), GRADIENT_LINE) if part == 0 else ((rest,), end - rest)


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
    reach = [(g.out[d] - 1) * g.stride[d] + (g.kernel[d] - 1) * g.dilation[d] + 1 for d in range(3)]
    size = tuple(max(reach[d], g.pad[d] + g.size[d]) for d in range(3))
    wide = lowering.program.buffer((*x.shape[:2], *size), x.dtype, channels_last(5))
    zero = lowering.program.constant(np.zeros((), BY_SHORT[x.dtype].numpy), x.dtype).broadcast(wide.shape)
    lowering.copy(zero, wide, "zeros")
    before = sum(p * s for p, s in zip(g.pad, wide.strides[2:], strict=True))
    lowering.copy(x, replace(wide, shape=x.shape, offset=before), "pad")
    return replace(g, size=size, pad=(0, 0, 0)), wide


def _finish_separately(lowering: Lowering, group: Group, anchor: Node) -> None:
    """What was fused behind a weight gradient runs as a loop of its own: its memory order is the loop's to choose."""
    rest = [n for n in group.nodes if n is not anchor]
    if rest:
        tail = Group(None)
        for node in rest:
            tail.add(node)
        lower_map(lowering, tail)


def _plane_is_line(g: Geometry, x: Access, dy: Access) -> bool:
    """Whether all pixels of all images can be summed as one line: a kernel of one element over dense maps."""
    if math.prod((*g.kernel, *g.stride)) != 1 or any(g.pad) or g.out != g.size:
        return False
    depth, height, width = g.size
    return all(
        a.strides[3] == width * a.strides[4]
        and (depth == 1 or a.strides[2] == height * a.strides[3])
        and (g.images == 1 or a.strides[0] == depth * height * a.strides[3])
        for a in (x, dy)
    )


def _line_taps(pixels: int, a_step: int, b_step: int) -> tuple[list[tuple[int, int]], int]:
    """A line of pixels cut into equal runs, as near `LINE_PIXELS` as divides it."""
    depth = next((d for d in range(min(LINE_PIXELS, pixels), 0, -1) if pixels % d == 0), 1)
    return [(p * a_step, p * b_step) for p in range(0, pixels, depth)], depth
