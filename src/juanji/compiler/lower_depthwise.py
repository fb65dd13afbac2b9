"""Depthwise convolutions and those of groups of few channels, and both their gradients, with channels along the vector.

Outputs with equal taps are rectangles, as in `compiler/windows.py`; nothing is padded. A chunk is a band of lines of
one image, or several whole small images.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from juanji.codegen.depthwise import LONGEST_RUN, DepthwiseSpec, tile_pixels
from juanji.compiler.access import Access, past_caches
from juanji.compiler.fuse import Group
from juanji.compiler.lower import Lowering, Operands, names
from juanji.compiler.lower_contract import extra_operands, image, image_result
from juanji.compiler.lower_weight_grad import finish_separately, sum_partials
from juanji.compiler.program import Ref, ref
from juanji.compiler.windows import Geometry, Span, backward_spans, forward_spans, lifted
from juanji.graph import Node
from juanji.target import DTYPE_BYTES

#: Bytes of outputs that one chunk computes: enough to be worth sharing, and lines enough that few are read twice.
CHUNK_BYTES = 256 * 1024
#: Bytes of weights and input lines that one pass keeps near: about the first-level cache. Some of them from the second
#: cost less than shorter pieces of more lines do.
PASS_BYTES = 64 * 1024
#: Strips of lines are not narrower, in pixels: each has columns at its sides that the next reads again.
STRIP = 32
#: A weight gradient's chunk reads at least so many times what it writes.
PARTIAL_SHARE = 32
#: Channels of a group at most: the code has a copy for each.
MOST_CHANNELS = 8
#: A line is not cut into pieces of fewer pixels.
SHORTEST = 64


def refusal(lowering: Lowering, g: Geometry, dtype: str, reduced: int, made: int) -> str:
    """Why a group's `made` channels are not computed from its `reduced` in one vector; empty where they are."""
    most = min(MOST_CHANNELS, lowering.target.vector_bytes // DTYPE_BYTES[dtype])
    if g.groups == 1:
        return "one group"
    if not 1 <= reduced <= made <= most:
        return f"{reduced} channels to {made} in a group: at most {most}, and no more read than made"
    if any(n & (n - 1) for n in (reduced, made)):
        return f"{reduced} channels to {made} in a group: not powers of two"
    return ""


def _channels(g: Geometry, reduced: int, made: int) -> Geometry:
    """The geometry with each channel of the result counted as a group: `ins` of the input's meet in it, and `outs` of
    them share those.
    """
    return replace(g, groups=g.groups * made, ins=reduced, outs=made)


@dataclass(frozen=True)
class _Walk:
    """The static side of tables: units of the input from pixel to pixel and from tap to tap, and the input's and the
    weight's elements from tap to tap.
    """

    advance: int
    step: int
    unit: int
    kernel_step: int


def _walk(advance: int, places: int, kernels: int, column: int, channels: int) -> _Walk:
    common = math.gcd(advance, places)
    return _Walk(advance // common, places // common, common * column, kernels * channels)


def forward(lowering: Lowering, group: Group, g: Geometry, x_node: Node, w_node: Node) -> None:
    """The forward convolution."""
    spans = [forward_spans(g.size[d], g.out[d], g.kernel[d], g.stride[d], g.pad[d], g.dilation[d]) for d in range(3)]
    x = lifted(image(lowering, x_node))
    walk = _walk(g.stride[2], g.dilation[2], 1, x.strides[4], g.groups * g.outs * g.ins)
    w = lifted(lowering.access(w_node))
    o, i, *kernel = w.strides
    w = replace(w, shape=(*g.kernel, g.ins, g.groups, g.outs), strides=(*kernel, i, o * g.outs, o))
    _slide(lowering, group, _channels(g, g.ins, g.outs), x, w, spans, g.out, walk)


def input_gradient(lowering: Lowering, group: Group, g: Geometry, dy_node: Node, w_node: Node) -> None:
    """The input gradient: a convolution of the output's gradient, one for each phase of the stride."""
    spans = [backward_spans(g.size[d], g.out[d], g.kernel[d], g.stride[d], g.pad[d], g.dilation[d]) for d in range(3)]
    dy = lifted(image(lowering, dy_node))
    common = math.gcd(g.stride[2], g.dilation[2])
    walk = _walk(1, g.dilation[2] // common, -(g.stride[2] // common), dy.strides[4], g.groups * g.ins * g.outs)
    w = lifted(lowering.access(w_node))
    o, i, *kernel = w.strides
    w = replace(w, shape=(*g.kernel, g.outs, g.groups, g.ins), strides=(*kernel, o, o * g.outs, i))
    _slide(lowering, group, _channels(g, g.outs, g.ins), dy, w, spans, g.size, walk)


def weight_gradient(lowering: Lowering, group: Group, g: Geometry, anchor: Node, dy_node: Node, x_node: Node) -> None:
    """The weight gradient: sums of each chunk, then the sum of those."""
    dy, x = lifted(image(lowering, dy_node)), lifted(image(lowering, x_node))
    spans = [forward_spans(g.size[d], g.out[d], g.kernel[d], g.stride[d], g.pad[d], g.dilation[d]) for d in range(3)]
    walk = _walk(g.stride[2], g.dilation[2], 1, x.strides[4], g.groups * g.outs * g.ins)
    split = (g.groups, g.outs, g.ins, *g.kernel)
    g = _channels(g, g.ins, g.outs)
    taps, item = math.prod(g.kernel) * g.ins, DTYPE_BYTES[anchor.dtype]
    strip, block = _pass(lowering, g, g.out[2], 1, item)
    wanted = max(CHUNK_BYTES, PARTIAL_SHARE // (1 + math.prod(g.stride)) * taps * g.groups * item)
    ends = _ends(lowering, spans, g.out, walk)
    tables = _tables(g, spans, g.out, x.strides, dy.strides, item, wanted // (g.groups * item), strip, ends)
    own = lowering.program.buffer((*g.kernel, g.ins, g.groups), anchor.dtype)
    chunks = tables.bands * max(1, -(-g.images // tables.together))
    sums = own if chunks == 1 else lowering.program.buffer((chunks, *own.shape), anchor.dtype)
    sizes = (walk.advance, walk.step, tables.lengths, _ahead(g, spans), g.ins, g.outs, *ends.shape)
    spec = DepthwiseSpec("weight", anchor.dtype, *sizes)
    args = _arguments(lowering, g, tables, (x, sums, dy), spans, walk, block)
    lowering.program.call(spec, args, chunks, names([anchor]), [sums])
    if chunks > 1:
        sum_partials(lowering, sums, own)
    logical = lifted(lowering.result(anchor))
    o, i, *kernel = logical.strides
    target = replace(logical, shape=split, strides=(o * g.outs, o, i, *kernel))
    seen = replace(own, shape=split, strides=(g.outs, 1, own.strides[3], *own.strides[:3]))
    lowering.copy(seen, target, "weight gradient to C order")
    finish_separately(lowering, group, anchor)


def _slide(
    lowering: Lowering,
    group: Group,
    g: Geometry,
    x: Access,
    w: Access,
    spans: Sequence[list[Span]],
    size: tuple[int, ...],
    walk: _Walk,
) -> None:
    anchor = group.anchor
    assert anchor is not None
    own = image_result(lowering, group.result)
    c = lifted(own)
    packed = lowering.program.buffer(w.shape, anchor.dtype)
    lowering.copy(w, packed, "pack weights")
    operands = Operands(lowering, group, group.result.shape, acc=anchor)
    epilogue: Any = operands.expr(group.result) if group.result is not anchor else None
    extras, extra_refs = extra_operands(lowering, group, operands, own, 1)
    item = DTYPE_BYTES[anchor.dtype]
    strip, block = _pass(lowering, g, size[2], spans[2][0].step, item)
    ends = _ends(lowering, spans, size, walk)
    tables = _tables(g, spans, size, x.strides, c.strides, item, CHUNK_BYTES // (g.groups * item), strip, ends)
    sizes = (walk.advance, walk.step, tables.lengths, _ahead(g, spans), g.ins, g.outs, *ends.shape)
    spec = DepthwiseSpec("slide", anchor.dtype, *sizes, epilogue, extras)
    args = [*_arguments(lowering, g, tables, (x, packed, c), spans, walk, block), *extra_refs]
    chunks = tables.bands * -(-g.images // tables.together)
    lowering.program.call(spec, args, chunks, names(group.nodes), [own])


@dataclass(frozen=True)
class _Tables:
    """Jobs of each band of an image, the runs they name, and how many images a chunk takes."""

    starts: list[int]
    jobs: list[tuple[int, ...]]
    runs: list[tuple[int, int, int]]
    lengths: tuple[int, ...]
    together: int

    @property
    def bands(self) -> int:
        return len(self.starts) - 1


def _tables(
    g: Geometry,
    spans: Sequence[list[Span]],
    size: tuple[int, ...],
    x_strides: Sequence[int],
    c_strides: Sequence[int],
    item: int,
    pixels: int,
    strip: int,
    ends: _Ends,
) -> _Tables:
    """Tables for outputs of `size`, about `pixels` of them to a chunk, in strips of `strip` pixels."""
    _, _, xz, xy, xx = x_strides
    _, _, cz, cy, cx = c_strides
    each = g.ins * g.groups
    kernel = (g.kernel[1] * g.kernel[2] * each, g.kernel[2] * each, each)
    runs: list[tuple[int, int, int]] = []
    lists: dict[tuple[tuple[int, int, int], ...], tuple[int, int]] = {}
    # A chunk is some lines of an image or some images, but of a single line a piece.
    cut_across = size[0] * size[1] == 1
    total = size[2] if cut_across else size[0] * size[1]
    piece = max(SHORTEST, pixels) if cut_across else max(1, pixels // size[2])
    bands = range(0, total, piece)
    spans, strip = [spans[0], spans[1], ends.spans], max(strip, ends.least)
    starts: list[int] = [0]
    jobs: list[tuple[int, ...]] = []
    for begin in bands:
        end = min(total, begin + piece)
        strips = [0] if cut_across else [at for at in range(0, size[2], strip) if size[2] - at >= ends.least]
        for left, (depth, row, col) in itertools.product(strips, itertools.product(*spans)):
            here = tuple(
                (
                    (iz * xz + iy * xy + first[1] * xx) * item,
                    (kz * kernel[0] + ky * kernel[1] + first[0] * kernel[2]) * item,
                    len(part),
                )
                for kz, iz in depth.taps
                for ky, iy in row.taps
                for part in _parts(col.taps)
                for first in part[:1]
            )
            if here not in lists:
                lists[here] = (len(runs), len(runs) + len(here))
                runs.extend(here)
            x0, x1 = (
                _within(col, begin, end)
                if cut_across
                else _within(col, left, size[2] if left == strips[-1] else left + strip)
            )
            for i in range(depth.count):
                z = depth.start + i * depth.step
                y0, y1 = (0, row.count) if cut_across else _within(row, begin - z * size[1], end - z * size[1])
                if y0 < y1 and x0 < x1:
                    jobs.append(
                        (
                            (i * depth.advance * xz + y0 * row.advance * xy + x0 * col.advance * xx) * item,
                            z * cz + (row.start + y0 * row.step) * cy + (col.start + x0 * col.step) * cx,
                            x1 - x0,
                            y1 - y0,
                            *lists[here],
                            (x0 == 0) + 2 * (x1 == col.count),
                        )
                    )
        starts.append(len(jobs))
    together = piece // total if len(bands) == 1 else 1
    lengths = tuple(sorted({n for _, _, n in runs})) or (1,)
    return _Tables(starts, jobs, runs or [(0, 0, 1)], lengths, max(1, min(together, g.images)))


@dataclass(frozen=True)
class _Ends:
    """How a line's outputs are put into spans, and what the kernel does at its ends: its `first`, `last`, `single`."""

    spans: list[Span]
    first: tuple[int, ...] = ()
    last: tuple[int, ...] = ()
    single: bool = False

    @property
    def shape(self) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
        return self.first, self.last, self.single

    @property
    def least(self) -> int:
        """Pixels that every strip of a line has at least."""
        return max(1, len(self.first), len(self.last))


def _ends(lowering: Lowering, spans: Sequence[list[Span]], size: tuple[int, ...], walk: _Walk) -> _Ends:
    """A line as one span, if what its first and last outputs lack are taps at the beginning and at the end.

    A tile of its own for a border pixel or two would use a quarter of what it loads and wait for every sum. So border
    pixels share tiles with inner ones, whose code leaves out what is beside the image.
    """
    line, width = spans[2], size[2]
    plain = _Ends(line)
    main = max(line, key=lambda span: len(span.taps))
    kernels = [k for k, _ in main.taps]
    if len(line) == 1 or len(kernels) > LONGEST_RUN or size[0] * size[1] == 1 or any(s.step != 1 for s in line):
        return plain
    before, after = [0] * width, [0] * width
    for span in line:
        mine = [k for k, _ in span.taps]
        missing = len(kernels) - len(mine)
        if not mine or mine not in (kernels[missing:], kernels[: len(mine)]):
            return plain
        side = before if span.start < main.start else after
        if missing and mine != (kernels[missing:] if side is before else kernels[: len(mine)]):
            return plain
        side[span.start : span.start + span.count] = [missing] * span.count
    places = tuple((k, place - main.start * main.advance) for k, place in main.taps)
    whole = [Span(0, width, 1, places, main.advance)]
    tile = tile_pixels(lowering.target, len(kernels), walk.advance)
    if width <= tile:
        return _Ends(whole, tuple(before), tuple(after), True)
    left, right = (sum(n > 0 for n in side) for side in (before, after))
    # Tiles between the two are full ones; what is left over is shared by the ends.
    if left and right:
        rest = width - (width - tile - 1) // tile * tile
        first, last = rest - rest // 2, rest // 2
    else:
        rest = width - (width - 1) // tile * tile
        first, last = (rest, 0) if left else (0, rest)
    if first < left or last < right:
        return plain
    return _Ends(whole, tuple(before[:first]), tuple(after[width - last :]) if last else ())


def _within(span: Span, begin: int, end: int) -> tuple[int, int]:
    """Which outputs of a span lie between two positions."""
    low, high = (min(span.count, max(0, -(-(at - span.start) // span.step))) for at in (begin, end))
    return low, high


def _pass(lowering: Lowering, g: Geometry, width: int, step: int, item: int) -> tuple[int, int]:
    """Pixels of a strip of lines of `width`, and channels of a block: strips are cut first, then channels."""
    lanes, rows, taps = lowering.target.vector_bytes // item, g.kernel[0] * g.kernel[1], math.prod(g.kernel) * g.ins

    def needed(pixels: int) -> int:
        return (taps + rows * (pixels * g.stride[2] // step + (g.kernel[2] - 1) * g.dilation[2])) * item

    strip = width
    while strip > STRIP and needed(strip) * g.groups > PASS_BYTES:
        strip = max(STRIP, -(-strip // 2 // STRIP) * STRIP)
    fit = max(1, PASS_BYTES // needed(strip) // lanes)
    vectors = -(-g.groups // lanes)
    return strip, -(-vectors // -(-vectors // fit)) * lanes


def _ahead(g: Geometry, spans: Sequence[list[Span]]) -> int:
    """Lines of the input that a line of outputs reads and the one before does not, at most two."""
    return min(2, spans[1][0].advance, g.kernel[1])


def _parts(taps: Sequence[tuple[int, int]]) -> list[Sequence[tuple[int, int]]]:
    """A line of taps in runs of nearly equal lengths."""
    number = -(-len(taps) // LONGEST_RUN)
    cuts = [len(taps) * i // number for i in range(number + 1)] if number else []
    return [taps[a:b] for a, b in itertools.pairwise(cuts)]


def _arguments(
    lowering: Lowering,
    g: Geometry,
    tables: _Tables,
    places: tuple[Access, Access, Access],
    spans: Sequence[list[Span]],
    walk: _Walk,
    block: int,
) -> list[int | Ref]:
    x, _, c = places
    constants = [
        ref(lowering.program.constant(np.array(table, np.int64).reshape(-1)))
        for table in (tables.starts, tables.jobs, tables.runs)
    ]
    row, col = spans[1][0], spans[2][0]
    item = x.item
    return [
        *(ref(place) for place in places),
        *constants,
        *(g.images, tables.together, tables.bands),
        *(x.strides[0] * item, c.strides[0]),
        *(row.advance * x.strides[3] * item, x.strides[3] * item, row.step * c.strides[3]),
        *(walk.unit * item, col.step * c.strides[4]),
        *(walk.kernel_step * item, g.groups, block, math.prod(g.kernel) * g.ins, int(past_caches(c, lowering.target))),
    ]
