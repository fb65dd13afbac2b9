"""The gradient of a convolution's weights: long sums into a small result, cut for caches and for threads.

The images are cut into partials, each with a result of its own, and a partial into slices that stay in the second-level
cache. The result is cut into groups of rows. A chunk is one group of one partial: slice after slice, every kernel
position of the group. So a slice is read from memory once for each group, and a result stays with the thread that adds
to it. Partial results are summed at the end, in their order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from juanji.codegen.contract import ContractSpec, choose_vectors
from juanji.codegen.contract_tile import tile_rows
from juanji.compiler import lower_planar
from juanji.compiler.access import Access, channels_last
from juanji.compiler.fuse import Group
from juanji.compiler.lower import Lowering, loop_call, lower_map
from juanji.compiler.lower_contract import JOB_WORK, Chunks, Job, Tables, emit, image
from juanji.compiler.windows import Geometry, geometry_of, kernel_overlaps, lifted
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
#: How many times more images than pixels of a row there must be for sums over images to be the inner ones: these pixels
#: lie further apart in memory.
STACK = 4
#: A weight gradient is cut into at most so many chunks, and so many slices.
GRADIENT_CHUNKS, GRADIENT_SLICES = 16, 64
#: What a byte of a partial result costs (it is written, read again and summed), in bytes of images that are read again.
PARTIAL_COST = 20
#: How many times fewer vectors of products make it worth while to exchange the roles of the images.
EXCHANGE_GAIN = 1.25
#: Steps that a multiply-add takes to finish: as many others are under way meanwhile, or wait.
UNDER_WAY = 8
#: Columns at most that are summed over partial results in one go.
SUM_WIDTH = 1024
#: Rows from which on copying one image out of their way is worth it: a copy takes as long as one tile of rows.
COPY_ROWS = 64
#: Pixels summed in one run where all pixels of a map are one line: more would push each other out of the first-level
#: cache, in which rows of many channels share few places. Where one image is copied out of their way it holds more.
LINE_PIXELS, COPIED_PIXELS = 32, 112


def lower(lowering: Lowering, group: Group, anchor: Node) -> None:
    """Rows are (kh, kw, in), columns are out; every image row is a tap, summed along its pixels."""
    g_node, x_node = anchor.inputs
    g = geometry_of(anchor, x_node.shape, anchor.shape, g_node.shape)
    if len(anchor.shape) < 5:
        flat = [lifted(lowering.access(n), 4) for n in (g_node, x_node)]
        if lowering.takes("planes", lower_planar.weight_gradient_refusal(lowering, g.plane(), *flat)):
            lower_planar.weight_gradient(lowering, g.plane(), anchor, *flat)
            finish_separately(lowering, group, anchor)
            return
    dy, x = lifted(image(lowering, g_node)), lifted(image(lowering, x_node))
    whole = _plane_is_line(g, x, dy)
    copies = whole and lowering.takes("columns copied", _copy_refusal(lowering, g, anchor.dtype))
    narrower = "" if g.outs > g.ins else "the output's gradient is the narrower image"
    refusal = narrower if copies else _exchange_refusal(lowering, g, anchor.dtype)
    exchanged = lowering.takes("images exchanged", refusal)
    if exchanged:
        pad = tuple(d * (k - 1) - p for d, k, p in zip(g.dilation, g.kernel, g.pad, strict=True))
        g, dy, x = replace(g, ins=g.outs, outs=g.ins, size=g.out, out=g.size, pad=pad), x, dy
    apart = not exchanged and lowering.takes("positions apart", _apart_refusal(lowering, g, anchor.dtype))
    if any(g.pad) and g.ins * g.groups <= PADDED_CHANNELS:
        g, x = padded(lowering, g, x)
    # In memory [group][kd][kh][kw][in][out] or, with positions apart, [..][out][in]; seen as [out, in, kd, kh, kw].
    rows, columns = (g.outs, g.ins) if apart else (g.ins, g.outs)
    own = lowering.program.buffer((g.groups, *g.kernel, rows, columns), anchor.dtype)
    s = own.strides
    seen = (s[4], s[5], *s[1:4]) if apart else (s[5], s[4], *s[1:4])
    if g.groups == 1:
        c = Access(own.buffer, (g.outs, g.ins, *g.kernel), seen, 0, anchor.dtype)
    else:
        c = Access(own.buffer, (g.groups, g.outs, g.ins, *g.kernel), (s[0], *seen), 0, anchor.dtype)
    line = (COPIED_PIXELS if copies else LINE_PIXELS) if whole else 0
    stacked = not whole and g.images >= STACK * g.out[2]
    lines = 1 if whole or g.out[2] <= 2 * GRADIENT_LINE else 2
    parts_of_lines = [part if lines == 2 else None for part in range(lines)]
    if apart:
        tables = [_apart_tables(g, x, dy, s, stacked, part) for part in parts_of_lines]
    else:
        tables = [_gradient_tables(g, x, dy, s, line, stacked, part) for part in parts_of_lines]
    bare = Group(anchor, [anchor])
    vectors = choose_vectors(columns, lowering.target, anchor.dtype)
    block = ContractSpec(anchor.dtype, vectors).block(lowering.target)
    x_k, dy_k = (x.strides[0], dy.strides[0]) if stacked else (x.strides[4] * g.stride[2], dy.strides[4])
    a, b, a_k, b_k = (dy, x, dy_k, x_k) if apart else (x, dy, x_k, dy_k)
    deepest = max(1, *(r[12] for table in tables for r in table.rects))
    panel = deepest * block * DTYPE_BYTES[anchor.dtype]
    segment = max(1, min(GRADIENT_SEGMENT, GRADIENT_PANEL // panel))
    cut = _cut(tables, x.nbytes + dy.nbytes, own.nbytes, columns)
    sums = own if cut.partials == 1 else lowering.program.buffer((cut.partials, *own.shape), anchor.dtype)
    parts, into = _slices(tables, cut, s[0] * g.groups), replace(c, buffer=sums.buffer)
    emit(
        *(lowering, bare, parts, a, b, into, columns, a_k, b_k, block, 0, segment),
        partition=lambda _, rows, __, blocks: _chunks(tables, cut, rows, blocks),
        copies=copies,
        chains=True,
    )
    if cut.partials > 1:
        sum_partials(lowering, sums, own)
    if exchanged:
        last = sum((k - 1) * step for k, step in zip(g.kernel, c.strides[2:], strict=True))
        turned = (c.strides[1], c.strides[0], *(-step for step in c.strides[2:]))
        c = replace(c, shape=(g.ins, g.outs, *g.kernel), strides=turned, offset=last)
    # Into the parameter's own order, in which the optimiser reads it.
    logical = lifted(lowering.result(anchor))
    strides = logical.strides if g.groups == 1 else (logical.strides[0] * g.outs, *logical.strides)
    split = Access(logical.buffer, c.shape, strides, logical.offset, anchor.dtype)
    lowering.copy(c, split, "weight gradient to C order")
    finish_separately(lowering, group, anchor)


def _copy_refusal(lowering: Lowering, g: Geometry, dtype: str) -> str:
    """Why the columns of one image are not copied side by side, where all pixels are one line.

    Pixels of many channels share few places of the first-level cache and push each other out, and each tile of rows
    reads them again. The narrower image takes less copying, so it becomes the columns; the wider is read as it lies,
    the next run of its pixels asked for.
    """
    if g.groups != 1 or dtype[0] != "f":
        return "groups, or no floating-point numbers"
    if min(g.ins, g.outs) <= lowering.target.lanes(dtype):
        return "the columns are one vector"
    if max(g.ins, g.outs) < COPY_ROWS:
        return f"{max(g.ins, g.outs)} channels are too few rows to pass over a copy"
    return ""


def _exchange_refusal(lowering: Lowering, g: Geometry, dtype: str) -> str:
    """Why the images do not change roles: with stride 1 the sum over outputs is also one over inputs, each times the
    outputs that it met, kernel positions counted from the end. Then the input's channels are the columns, which is
    better where few output channels would leave most lanes of a vector idle.
    """
    if g.groups != 1 or math.prod(g.stride) != 1:
        return "groups or a stride"
    if any(p > d * (k - 1) for d, k, p in zip(g.dilation, g.kernel, g.pad, strict=True)):
        return "more padding than the kernel reaches"
    lanes = lowering.target.lanes(dtype)
    here, there = -(-g.outs // lanes) * g.ins, -(-g.ins // lanes) * g.outs
    return "" if here > EXCHANGE_GAIN * there else f"{there} vectors instead of {here}, not {EXCHANGE_GAIN}x fewer"


def _apart_refusal(lowering: Lowering, g: Geometry, dtype: str) -> str:
    """Why kernel positions are not apart from each other. With a stride the images can't exchange roles, as the inputs
    that a position meets are no line of all inputs. But for each position by itself they can: the rows are the output's
    channels then, the columns the input's, which is better where few output channels would leave lanes idle.
    """
    if g.groups != 1 or math.prod(g.stride) == 1:
        return "groups, or no stride"
    positions = math.prod(g.kernel)
    here = _steps(lowering, g.ins * positions, g.outs, dtype)
    there = positions * _steps(lowering, g.outs, g.ins, dtype)
    return "" if here > EXCHANGE_GAIN * there else f"{there} steps instead of {here}, not {EXCHANGE_GAIN}x fewer"


def _steps(lowering: Lowering, rows: int, columns: int, dtype: str) -> int:
    """Steps for each pixel, of which a cycle has two: a step is a multiply-add or a load, and no tile has less of them
    than its multiply-adds take to finish.
    """
    vectors = choose_vectors(columns, lowering.target, dtype)
    blocks = -(-columns // (vectors * lowering.target.lanes(dtype)))
    most = tile_rows(vectors, lowering.target)
    tiles = [most] * (rows // most)
    if left := rows % most:
        tiles.append(1 if left == 1 else (most + 1) // 2 if left <= (most + 1) // 2 else most)
    return blocks * sum(max(UNDER_WAY, n * vectors, n + vectors) for n in tiles)


def _apart_tables(g: Geometry, x: Access, dy: Access, s: Sequence[int], stacked: bool, part: int | None) -> Tables:
    """The tables of a weight gradient of one rect for each kernel position; arguments as in `_gradient_tables`."""
    xn, _, xz, xy, xx = x.strides
    dn, dc, dz, dy_row, dy_col = dy.strides
    reads = (xn, g.stride[0] * xz, g.stride[1] * xy, g.stride[2] * xx)
    axes = (
        [
            (overlap.first + i, overlap.outputs)
            for overlap in kernel_overlaps(g.size[d], g.out[d], g.kernel[d], g.stride[d], g.pad[d], g.dilation[d])
            for i in range(overlap.count)
        ]
        for d in range(3)
    )
    tables = Tables()
    for (kz, depths), (ky, lines), (kx, pixels) in itertools.product(*axes):
        starts, depth = (range(*pixels), g.images) if stacked else _pieces(*pixels, part)
        places = (range(1 if stacked else g.images), range(*depths), range(*lines), starts)
        taps = np.stack([_sums(places, (dn, dz, dy_row, dy_col)), _sums(places, reads)], axis=1)
        position = (kz * g.dilation[0] - g.pad[0], ky * g.dilation[1] - g.pad[1], kx * g.dilation[2] - g.pad[2])
        base = sum(at * stride for at, stride in zip(position, (xz, xy, xx), strict=True))
        place = kz * s[1] + ky * s[2] + kx * s[3]
        tables.rect((g.outs, 1, 1), (0, dc, 0, 0), (place, s[4], 0, 0), taps if depth else taps[:0], depth, base, 0)
    return tables


def _gradient_tables(
    g: Geometry, x: Access, dy: Access, s: Sequence[int], line: int, stacked: bool, part: int | None
) -> Tables:
    """The tables of a weight gradient.

    Args:
        s: the result's strides of [group, kd, kh, kw, in, out].
        line: where all pixels are summed as one line, pixels of a run of it at most; else 0.
        stacked: whether each tap is a pixel of all images, not a row of one.
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
        if line:
            taps, depth = _line_taps(g.images * math.prod(g.out), xx, dy_col, line)
        else:
            starts, depth = (range(x0, x1), g.images) if stacked else _pieces(x0, x1, part)
            places = (range(1 if stacked else g.images), depths, range(y0, y1), starts)
            here = _sums(places, (xn, g.stride[0] * xz, g.stride[1] * xy, g.stride[2] * xx))
            taps = np.stack([here, _sums(places, (dn, dz, dy_row, dy_col))], axis=1)
        if depth == 0:
            taps = taps[:0]
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


def _sums(places: Sequence[Sequence[int]], strides: Sequence[int]) -> NDArray[np.int64]:
    """The offset of each combination of places, the last of them moving first."""
    total = np.zeros(1, np.int64)
    for values, stride in zip(places, strides, strict=True):
        total = np.add.outer(total, np.array(values, np.int64) * stride).ravel()
    return total


def _pieces(begin: int, end: int, part: int | None) -> tuple[Sequence[int], int]:
    """Where the pieces of pixels `begin` to `end` start and how long each is: one piece where `part` is None."""
    if part is None:
        return (begin,), end - begin
    rest = begin + (end - begin) // GRADIENT_LINE * GRADIENT_LINE
    return (range(begin, rest, GRADIENT_LINE), GRADIENT_LINE) if part == 0 else ((rest,), end - rest)


@dataclass(frozen=True)
class _Cut:
    """How many partial results there are, groups of rows of each, and slices of the images in all."""

    partials: int
    groups: int
    slices: int


def _work(tables: Sequence[Tables]) -> list[tuple[int, int]]:
    """(rows, multiply-adds for each) of each rect, in all tables together."""
    return [(t[0][0], sum(k for _, k in t)) for t in zip(*(table.work for table in tables), strict=True)]


def _cut(tables: Sequence[Tables], read: int, written: int, columns: int) -> _Cut:
    """Follows from shapes alone: enough chunks for several threads, and little traffic with the memory.

    Args:
        tables: rects of the same rows, and the taps whose sums are to be added.
        read: bytes of both inputs.
        written: bytes of the result.
    """
    work = columns * sum(rows * k for rows, k in _work(tables))
    most = max((r[11] for r in tables[0].rects), default=0)
    chunks = 1
    while 2 * chunks <= min(GRADIENT_CHUNKS, work // JOB_WORK):
        chunks *= 2
    ways = [2**i for i in range(chunks.bit_length()) if 2**i <= max(1, most)]
    partials = min(ways, key=lambda p: (PARTIAL_COST * p * written if p > 1 else 0) + chunks // p * read)
    groups = chunks // partials
    # Not so short that the result is passed over more often than the images.
    slices = min(GRADIENT_SLICES, most, read // max(GRADIENT_SLICE, 2 * written // groups)) // partials
    if read < 4 * GRADIENT_SLICE * partials:  # they nearly stay there by themselves
        slices = 1
    return _Cut(partials, groups, partials * max(1, slices))


def _slices(tables: Sequence[Tables], cut: _Cut, pitch: int) -> Tables:
    """The taps of all rects in consecutive parts: the rects of the first slice, of the second and so on.

    Args:
        pitch: elements from one partial result to the next.
    """
    parts = Tables()
    begins = [parts.tap_list(table.taps)[0] for table in tables]
    for i, (begin, table) in itertools.product(range(cut.slices), zip(begins, tables, strict=True)):
        partial, place = divmod(i, cut.slices // cut.partials)
        adds = int(place > 0 or table is not tables[0])
        for rect, (rows, _) in zip(table.rects, table.work, strict=True):
            at, number, depth = rect[10:13]
            skipped, end = number * i // cut.slices, number * (i + 1) // cut.slices
            taps = (begin + at + skipped, end - skipped, depth)
            parts.rects.append([*rect[:6], rect[6] + partial * pitch, *rect[7:10], *taps, *rect[13:15], adds])
            parts.work.append((rows, max(1, (end - skipped) * depth)))
    return parts


def _chunks(tables: Sequence[Tables], cut: _Cut, rows: int, blocks: int) -> Chunks:
    """Each group of each partial: what it does of the first slice, of the second and so on."""
    rects, each = len(tables[0].rects), cut.slices // cut.partials * len(tables)
    groups = [np.array(group, np.int64) for group in _groups(_work(tables), rows, blocks, cut.groups)]
    starts, jobs = [0], []
    for partial, group in itertools.product(range(cut.partials), groups):
        chunk = np.tile(group, (each, 1))
        chunk[:, 0] += np.repeat(np.arange(partial * each, (partial + 1) * each) * rects, len(group))
        starts.append(starts[-1] + len(chunk))
        jobs.append(chunk)
    return np.array(starts, np.int64), np.concatenate(jobs) if jobs else np.zeros((0, 5), np.int64)


def _groups(work: Sequence[tuple[int, int]], rows: int, blocks: int, count: int) -> list[list[Job]]:
    """All rows of all rects in `count` runs of about equal work, cut between register tiles; where there are few rows,
    column blocks are divided too.
    """
    few = sum(-(-m // rows) for m, _ in work) < 8 * count
    columns = [(b, b + 1) for b in range(blocks)] if few else [(0, blocks)]
    units = [(r, m, k * (end - begin), begin, end) for begin, end in columns for r, (m, k) in enumerate(work)]
    goal = sum(-(-m // rows) * k for _, m, k, _, _ in units) / count
    groups: list[list[Job]] = [[] for _ in range(count)]
    done = 0
    for r, m, k, begin, end in units:
        first, tiles = 0, -(-m // rows)
        while first < tiles:  # a tile belongs where its middle is
            at = min(count - 1, int((done + k / 2) / goal))
            fit = math.ceil(((at + 1) * goal - done - k / 2) / k) if at < count - 1 else tiles
            number = min(tiles - first, max(1, fit))
            groups[at].append((r, first * rows, min(m, (first + number) * rows), begin, end))
            first += number
            done += number * k
    return [group for group in groups if group]


def sum_partials(lowering: Lowering, partials: Access, result: Access) -> None:
    """Adds up the partial results, a block of columns at a time."""
    total = math.prod(result.shape)
    width = max(d for d in range(1, SUM_WIDTH + 1) if total % d == 0)
    stages = (("reduce", "sum", ("load", result.dtype, 0)), ("store_row", 0, ("red", result.dtype, 0)))
    loop_call(
        lowering.program,
        (total // width, partials.shape[0], width),
        [(partials, (width, total, 1))],
        [(result, (width, 0, 1))],
        stages,
        "sum of partial weight gradients",
        reduced=1,
        column=True,
    )


def padded(lowering: Lowering, g: Geometry, x: Access) -> tuple[Geometry, Access]:
    """A copy of an image with its zeros written out: all kernel positions then share their outputs."""
    size = tuple(max(reach, pad + n) for reach, pad, n in zip(g.reach(), g.pad, g.size, strict=True))
    wide = lowering.program.buffer((*x.shape[:2], *size), x.dtype, channels_last(5))
    zero = lowering.program.constant(np.zeros((), BY_SHORT[x.dtype].numpy), x.dtype).broadcast(wide.shape)
    lowering.copy(zero, wide, "zeros")
    before = sum(p * s for p, s in zip(g.pad, wide.strides[2:], strict=True))
    lowering.copy(x, replace(wide, shape=x.shape, offset=before), "pad")
    return replace(g, size=size, pad=(0, 0, 0)), wide


def finish_separately(lowering: Lowering, group: Group, anchor: Node) -> None:
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


def _line_taps(pixels: int, a_step: int, b_step: int, most: int) -> tuple[NDArray[np.int64], int]:
    """A line of pixels cut into equal runs, as near `most` as divides it."""
    depth = next((d for d in range(min(most, pixels), 0, -1) if pixels % d == 0), 1)
    return np.multiply.outer(np.arange(0, pixels, depth), [a_step, b_step]), depth
