"""Convolution's trio and matrix products as tables for the one contraction kernel.

The kernel computes C[m, n] = sum over taps and k of A[m, tap, k] * B[tap, k, n]; see `codegen/contract.py` for the
tables. Here is the arithmetic that turns shapes into them. Every work item (job) follows from shapes alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from juanji.codegen.contract import ContractSpec, choose_vectors, column_blocks
from juanji.compiler.access import Access, Buffer, channels_last
from juanji.compiler.fuse import Group
from juanji.compiler.lower import Lowering, Operands, names
from juanji.compiler.program import Ref, ref
from juanji.compiler.windows import Span, backward_spans, forward_spans, kernel_overlaps
from juanji.dtypes import BY_SHORT
from juanji.graph import Node
from juanji.target import DTYPE_BYTES

#: Bytes of one panel of B that stay in the second-level cache while all rows pass over them.
PANEL_BYTES = 512 * 1024
#: Multiply-adds of one job: about 10 microseconds.
JOB_WORK = 1_000_000
#: Matrix products with up to so many columns read B as plain rows.
PLAIN_COLUMNS = 256
#: Images of up to so many channels are copied with their padding for the weight gradient.
PADDED_CHANNELS = 8
#: Weight gradients are cut into about so many work items at least.
DEEP_JOBS = 8
#: Taps of a weight gradient summed in registers before they are added to the result: a second level of summation.
GRADIENT_SEGMENT = 16


@dataclass
class Tables:
    """Rects, taps and jobs under construction; offsets in elements, turned into bytes at the end."""

    rects: list[list[int]] = field(default_factory=list)
    taps: list[tuple[int, int]] = field(default_factory=list)
    work: list[tuple[int, int]] = field(default_factory=list)
    _known: dict[tuple[tuple[int, int], ...], int] = field(default_factory=dict)

    def tap_list(self, taps: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """(begin, count) of a list of (offset in A, offset in B)."""
        key = tuple(taps)
        if key not in self._known:
            self._known[key] = len(self.taps)
            self.taps.extend(key)
        return self._known[key], len(key)

    def rect(
        self,
        sizes: tuple[int, int, int],
        a: tuple[int, int, int, int],
        c: tuple[int, int, int, int],
        taps: Sequence[tuple[int, int]],
        depth: int,
        b_base: int = 0,
        n_base: int = 0,
    ) -> None:
        """A block of rows: sizes and strides of (x, y, n), each after the base offset."""
        mx, my, mn = sizes
        if mx * my * mn == 0:
            return
        begin, count = self.tap_list(taps)
        self.rects.append([mx, my, *a, *c, begin, count, depth, b_base, n_base])
        self.work.append((mx * my * mn, max(1, count * depth)))


#: Which columns of a rect row are offsets or strides in elements of A, of C and of B.
_RECT_ELEMENTS = (2, 3, 4, 5, 6, 7, 8, 9, 13)


def emit(
    lowering: Lowering,
    group: Group,
    tables: Tables,
    a: Access,
    b: Access,
    c: Access,
    columns: int,
    a_k: int,
    b_k: int,
    b_block: int | None,
    channel: int,
    segment: int | None = None,
    deep: bool = False,
    planar: bool = False,
) -> None:
    """Appends the kernel call.

    Args:
        a_k, b_k, b_block: strides in elements: of k in A and B, and between column blocks of B (None: side by side).
        channel: the dimension of C that runs along the columns, or along the rows if `planar`.
        segment: taps per segment; by default as many as keep a panel of B in cache.
        deep: whether the sums are long and the result small, as for weight gradients.
    """
    anchor = group.anchor
    assert anchor is not None
    target, item = lowering.target, DTYPE_BYTES[anchor.dtype]
    vectors = choose_vectors(columns, target, anchor.dtype)
    tail, full = column_blocks(columns, vectors, target, anchor.dtype)
    operands = Operands(lowering, group, group.result.shape, acc=anchor)
    epilogue: Any = operands.expr(group.result) if group.result is not anchor else None
    extras, extra_refs = extra_operands(lowering, group, operands, c, channel, planar)
    spec = ContractSpec(anchor.dtype, vectors, tail, full, False, epilogue, extras)
    block = spec.block(target)
    blocks = -(-columns // block)
    depth = max((r[12] for r in tables.rects), default=1) or 1
    if segment is None:
        segment = max(1, PANEL_BYTES // max(1, depth * block * item))
    rows = spec.rows(target)
    jobs = _deep_jobs(tables, rows, blocks) if deep else _jobs(tables, rows, block, blocks)
    if not jobs:
        return
    rects = np.array(tables.rects, np.int64)
    rects[:, _RECT_ELEMENTS] *= item
    taps = np.array(tables.taps or [(0, 0)], np.int64) * item
    program = lowering.program
    args: list[int | Ref] = [
        ref(a),
        ref(b),
        ref(c),
        ref(program.constant(np.array(jobs, np.int64))),
        ref(program.constant(rects)),
        ref(program.constant(taps)),
        a_k * item,
        b_k * item,
        (block if b_block is None else b_block) * item,
        columns,
        segment,
        *extra_refs,
    ]
    program.call(spec, args, len(jobs), names(group.nodes), [c])


def _jobs(tables: Tables, rows: int, block: int, blocks: int) -> list[tuple[int, int, int, int, int]]:
    """Work items of about `JOB_WORK`: many rows of one column block where B is large, else few rows of all blocks."""
    jobs = []
    single = all(count * depth <= 1024 for (_, count), depth in zip(_counts(tables), _depths(tables), strict=True))
    for r, (m, k) in enumerate(tables.work):
        together = blocks if single and blocks * block * k <= 65536 else 1
        step = max(rows, -(-JOB_WORK // (k * block * together)) // rows * rows)
        for first in range(0, blocks, together):
            for begin in range(0, m, step):
                jobs.append((r, begin, min(m, begin + step), first, min(blocks, first + together)))
    return jobs


def _deep_jobs(tables: Tables, rows: int, blocks: int) -> list[tuple[int, int, int, int, int]]:
    """Work items for long sums into small results: whole results, so that what a segment reads is read from memory
    once; cut only where there would be fewer than `DEEP_JOBS` of them.
    """
    jobs = []
    for r, (m, k) in enumerate(tables.work):
        pieces = max(1, min(m // (4 * rows), -(-DEEP_JOBS // len(tables.work)))) if m * k > JOB_WORK // 64 else 1
        step = -(-m // (pieces * rows)) * rows
        jobs += [(r, begin, min(m, begin + step), 0, blocks) for begin in range(0, m, step)]
    return jobs


def _counts(tables: Tables) -> list[tuple[int, int]]:
    return [(r[10], r[11]) for r in tables.rects]


def _depths(tables: Tables) -> list[int]:
    return [r[12] for r in tables.rects]


def extra_operands(
    lowering: Lowering, group: Group, operands: Operands, c: Access, channel: int, planar: bool = False
) -> tuple[tuple[tuple[str, str], ...], list[int | Ref]]:
    """Epilogue inputs by how they move with C: with it, by column, or not at all; others are copied into C's order."""
    extras: list[tuple[str, str]] = []
    refs: list[int | Ref] = []
    shape = c.shape
    for access in operands.accesses:
        moving = [d for d, e in enumerate(shape) if e != 1 and access.strides[d] != 0]
        same = all(e == 1 or x == y for e, x, y in zip(shape, access.strides, c.strides, strict=True))
        if not moving:
            cls = "s"
        elif moving == [channel] and access.strides[channel] == 1:
            cls = "m" if planar else "n"
        else:
            cls = "c"
            if not same:
                span = 1 + sum((e - 1) * s for e, s in zip(shape, c.strides, strict=True))
                copied = Access(Buffer(span * access.item), shape, c.strides, 0, access.dtype)
                lowering.copy(access, copied, "match layout")
                access = copied
        extras.append((access.dtype, cls))
        refs.append(ref(access))
    return tuple(extras), refs


def lower(lowering: Lowering, group: Group) -> None:
    """Lowers a contraction with its epilogue."""
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
        "matmul": _matmul,
        "linear": _matmul,
    }[anchor.op.name](lowering, group, anchor)


# -- convolution ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Geometry:
    """A two-dimensional convolution: sizes and attributes; one spatial dimension becomes two with a leading 1."""

    images: int
    groups: int
    ins: int
    outs: int
    size: tuple[int, int]
    out: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    dilation: tuple[int, int]


def _geometry(anchor: Node, x: tuple[int, ...], w: tuple[int, ...], out: tuple[int, ...]) -> Geometry:
    if len(x) != 4:
        raise AssertionError("the tensor layer gives convolutions two spatial dimensions")
    groups = anchor.attr("groups")
    pads = anchor.attr("padding")
    return Geometry(
        x[0],
        groups,
        w[1],
        w[0] // groups,
        (x[2], x[3]),
        (out[2], out[3]),
        (w[2], w[3]),
        anchor.attr("stride"),
        (pads[0][0], pads[1][0]),
        anchor.attr("dilation"),
    )


def image(lowering: Lowering, node: Node) -> Access:
    """An image-like value whose channels lie side by side; few channels may stay as they are."""
    access = lowering.access(node)
    if access.shape[1] == 1 or access.strides[1] == 1:
        return access
    return lowering.reordered(node, access, channels_last(4), "channels-last")


def image_result(lowering: Lowering, node: Node) -> Access:
    """Where an image-like result goes: channels side by side."""
    access = lowering.result(node, channels_last(4))
    if access.strides[1] == 1 or access.shape[1] == 1:
        return access
    # The caller's memory is in another order: compute beside it, copied at the end.
    lowering.where[node] = lowering.program.buffer(node.shape, node.dtype, channels_last(4))
    return lowering.where[node]


def _packed(
    lowering: Lowering, node: Node, w: Access, outer: Sequence[int], columns: int, groups: int, label: str
) -> tuple[Access, int, int]:
    """Weights as panels [group][block][outer...][columns of a block]; `w` is viewed as [group, *outer, columns].

    Returns:
        The buffer, elements of one panel, and elements of one group.
    """
    vectors = choose_vectors(columns, lowering.target, node.dtype)
    block = ContractSpec(node.dtype, vectors).block(lowering.target)
    whole, rest = divmod(columns, block)
    blocks = whole + (1 if rest else 0)
    inner = math.prod(outer)
    panel = inner * block
    buffer = lowering.program.buffer((groups, blocks, *outer, block), node.dtype)
    for first, count, width in ((0, whole, block), (whole, 1 if rest else 0, rest)):
        if not count:
            continue
        n = w.strides[-1]
        source = Access(
            w.buffer,
            (groups, count, *outer, width),
            (w.strides[0], block * n, *w.strides[1:-1], n),
            w.offset + first * block * n,
            w.dtype,
        )
        target = Access(buffer.buffer, source.shape, buffer.strides, first * panel, w.dtype)
        lowering.copy(source, target, label)
    return buffer, panel, blocks * panel


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
    packed, panel, per_group = _packed(lowering, anchor, weights, (kh, kw, reduce), columns, g.groups, "pack weights")
    block = packed.shape[-1]
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
    emit(lowering, group, tables, x, packed, c, columns, a_k, block, panel, 1)


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
    from juanji.compiler import lower_planar

    x_node, w_node = anchor.inputs
    g = _geometry(anchor, x_node.shape, w_node.shape, anchor.shape)
    if lower_planar.suits(lowering, g, g.outs, g.out[1], anchor.dtype):
        lower_planar.forward(lowering, group, g, lowering.access(x_node), lowering.access(w_node))
        return
    x, w = image(lowering, x_node), _weight_view(lowering.access(w_node), g.groups)
    rows, cols = (forward_spans(g.size[d], g.out[d], g.kernel[d], g.stride[d], g.pad[d], g.dilation[d]) for d in (0, 1))
    _slide(lowering, group, g, x, w, rows, cols, g.ins, g.outs, flipped=False)


def _input_grad(lowering: Lowering, group: Group, anchor: Node) -> None:
    from juanji.compiler import lower_planar

    g_node, w_node = anchor.inputs
    g = _geometry(anchor, anchor.shape, w_node.shape, g_node.shape)
    fits = all(p < k for p, k in zip(g.pad, g.kernel, strict=True))
    if fits and lower_planar.suits(lowering, g, g.ins, g.size[1], anchor.dtype):
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
    from juanji.compiler import lower_planar

    g_node, x_node = anchor.inputs
    g = _geometry(anchor, x_node.shape, anchor.shape, g_node.shape)
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
    emit(lowering, bare, tables, x, dy, c, g.outs, a_k, dy_col, block, 0, GRADIENT_SEGMENT, deep=True)
    # Into the parameter's own order, in which the optimiser reads it.
    logical = lowering.result(anchor)
    strides = logical.strides if g.groups == 1 else (logical.strides[0] * g.outs, *logical.strides)
    split = Access(logical.buffer, c.shape, strides, logical.offset, anchor.dtype)
    lowering.copy(c, split, "weight gradient to C order")
    _finish_separately(lowering, group, anchor)


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
    from juanji.compiler.lower import lower_map

    rest = [n for n in group.nodes if n is not anchor]
    if rest:
        tail = Group(None)
        for node in rest:
            tail.add(node)
        lower_map(lowering, tail)


def _plane_is_line(g: Geometry, x: Access, dy: Access) -> bool:
    """Whether all pixels of all images can be summed as one line: a 1x1 kernel over dense maps."""
    if g.kernel != (1, 1) or g.stride != (1, 1) or g.pad != (0, 0):
        return False
    height, width = g.size
    return all(
        a.strides[2] == width * a.strides[3] and (g.images == 1 or a.strides[0] == height * a.strides[2])
        for a in (x, dy)
    )


def _line_taps(pixels: int, a_step: int, b_step: int) -> tuple[list[tuple[int, int]], int]:
    """A line of pixels cut into equal runs, as near 128 as divides it."""
    depth = next((d for d in range(min(128, pixels), 0, -1) if pixels % d == 0), 1)
    return [(p * a_step, p * b_step) for p in range(0, pixels, depth)], depth


# -- matrix products -------------------------------------------------------------------------------------------------
def _matmul(lowering: Lowering, group: Group, anchor: Node) -> None:
    assert anchor.op is not None
    a_node, b_node = anchor.inputs
    a, b = lowering.access(a_node), lowering.access(b_node)
    if anchor.op.name == "linear":
        b = Access(b.buffer, (b.shape[1], b.shape[0]), (b.strides[1], b.strides[0]), b.offset, b.dtype)
    rank = len(anchor.shape)
    m, n = anchor.shape[-2:]
    k = a.shape[-1]
    c = lowering.result(group.result)
    if n > 1 and c.strides[-1] != 1:
        c = lowering.where[group.result] = lowering.program.buffer(group.result.shape, anchor.dtype)
    batch = anchor.shape[:-2]
    vectors = choose_vectors(n, lowering.target, anchor.dtype)
    block = ContractSpec(anchor.dtype, vectors).block(lowering.target)
    if b.strides[-1] == 1 or n == 1:
        b_k, b_block, b_batch = b.strides[-2], block, b.strides[:-2]
    elif len(batch) == 0 and n <= PLAIN_COLUMNS:
        # Rows this short need no panels: one transposed copy with k outside.
        plain = lowering.program.buffer(b.shape, b.dtype)
        lowering.copy(b, plain, "transpose")
        b, b_k, b_block, b_batch = plain, n, block, ()
    else:
        flat = _batched_columns(b)
        b, b_block, per = _packed(lowering, anchor, flat, (k,), n, math.prod(batch), "pack")
        b_k = block
        b_batch = tuple(per * math.prod(batch[d + 1 :]) for d in range(len(batch)))
    tables = Tables()
    for at in itertools.product(*map(range, batch)):
        a_off = sum(i * s for i, s in zip(at, a.strides[:-2], strict=True))
        b_off = sum(i * s for i, s in zip(at, b_batch, strict=True))
        c_off = sum(i * s for i, s in zip(at, c.strides[:-2], strict=True))
        taps, depth = ([(0, 0)], k) if k else ([], 0)
        tables.rect((m, 1, 1), (a_off, a.strides[-2], 0, 0), (c_off, c.strides[-2], 0, 0), taps, depth, b_off, 0)
    emit(lowering, group, tables, a, b, c, n, a.strides[-1], b_k, b_block, rank - 1)


def _batched_columns(b: Access) -> Access:
    """[..., k, n] as [batch, k, n]; batches of a packed operand are laid out one after another."""
    batch = b.shape[:-2]
    count = math.prod(batch)
    if len(batch) == 0:
        return Access(b.buffer, (1, *b.shape), (0, *b.strides), b.offset, b.dtype)
    if len(batch) == 1:
        return b
    stride = b.strides[len(batch) - 1]
    for d in range(len(batch) - 1):
        if batch[d] != 1 and b.strides[d] != stride * math.prod(batch[d + 1 :]):
            raise AssertionError("the tensor layer gives batched products one batch dimension")
    return Access(b.buffer, (count, *b.shape[-2:]), (stride, *b.strides[-2:]), b.offset, b.dtype)
