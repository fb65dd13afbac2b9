"""Convolution's trio and matrix products as tables for the one contraction kernel.

The kernel computes C[m, n] = sum over taps and k of A[m, tap, k] * B[tap, k, n]; see `codegen/contract.py` for the
tables. Here is the arithmetic that turns shapes into them. Every work item (job) follows from shapes alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji.codegen.contract import ContractSpec, choose_vectors, column_blocks
from juanji.codegen.contract_tile import tile_rows
from juanji.codegen.dot import DotSpec
from juanji.codegen.dot import block as dot_block
from juanji.compiler.access import STREAMED_BYTES, Access, Buffer, channels_last, past_caches
from juanji.compiler.fuse import Group
from juanji.compiler.lower import Lowering, Operands, names
from juanji.compiler.program import Ref, ref
from juanji.graph import Node
from juanji.target import DTYPE_BYTES

#: Bytes of one panel of B that stay in the second-level cache while all rows pass over them.
PANEL_BYTES = 512 * 1024
#: The same in elements of four bytes.
PANEL_ELEMENTS = PANEL_BYTES // 4
#: Multiply-adds of one job: about 10 microseconds.
JOB_WORK = 1_000_000
#: Matrix products with up to so many columns read B as plain rows.
PLAIN_COLUMNS = 256
#: Steps over k that are written out in convolutions of one vector of columns, where every tap has as many and the
#: sums leave half of the registers free: else some would be kept in memory at the turns.
UNROLLED = 24
#: Where there are no more rows, a kernel with tiles of so many computes few that are not there.
FEW_ROWS = 4
#: Where the summed dimension is at least so many times the number of rows, dot products are taken of what lies so.
DOT_ROWS = 6
#: (rect, first row, last row, first column block, last column block).
Job = tuple[int, int, int, int, int]
#: Chunks of jobs: where each begins among the jobs and where the last ends, and the jobs.
Chunks = tuple[NDArray[np.int64], NDArray[np.int64]]
#: Cuts tables into chunks, given the rows of a register tile, the columns of a block, and how many blocks.
Partition = Callable[["Tables", int, int, int], Chunks]
#: (offset in A, offset in B) of each tap.
Taps = Sequence[tuple[int, int]] | NDArray[np.int64]


@dataclass
class Tables:
    """Rects, taps and jobs under construction; offsets in elements, turned into bytes at the end."""

    rects: list[list[int]] = field(default_factory=list)
    work: list[tuple[int, int]] = field(default_factory=list)
    _taps: list[NDArray[np.int64]] = field(default_factory=list)
    _count: int = 0
    _known: dict[bytes, int] = field(default_factory=dict)

    @property
    def taps(self) -> NDArray[np.int64]:
        """All taps, one a row."""
        return np.concatenate(self._taps) if self._taps else np.zeros((0, 2), np.int64)

    def tap_list(self, taps: Taps) -> tuple[int, int]:
        """(begin, count) of a list of taps among all."""
        rows = np.array(taps, np.int64).reshape(-1, 2)
        begin = self._known.setdefault(rows.tobytes(), self._count)
        if begin == self._count and len(rows):
            self._taps.append(rows)
            self._count += len(rows)
        return begin, len(rows)

    def rect(
        self,
        sizes: tuple[int, int, int],
        a: tuple[int, int, int, int],
        c: tuple[int, int, int, int],
        taps: Taps,
        depth: int,
        b_base: int = 0,
        n_base: int = 0,
    ) -> None:
        """A block of rows: sizes and strides of (x, y, n), each after the base offset. It overwrites its result."""
        mx, my, mn = sizes
        if mx * my * mn == 0:
            return
        begin, count = self.tap_list(taps)
        self.rects.append([mx, my, *a, *c, begin, count, depth, b_base, n_base, 0])
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
    partition: Partition | None = None,
    planar: bool = False,
    dots: bool = False,
    copies: bool = False,
    chains: bool = False,
) -> None:
    """Appends the kernel call.

    Args:
        a_k, b_k, b_block: strides in elements: of k in A and B, and between column blocks of B (None: side by side).
        channel: the dimension of C that runs along the columns, or along the rows if `planar`.
        segment: taps per segment; by default as many as keep a panel of B in cache.
        partition: what the chunks are; by default work items of about `JOB_WORK`.
        dots: whether sums are taken along the lanes: `a_k` is 1 then, and `b_k` from column to column.
        copies: whether the rows of B of each segment are copied side by side.
        chains: whether sums are long, so that few of them are worth several chains of multiply-adds each.
    """
    anchor = group.anchor
    assert anchor is not None
    target, item = lowering.target, DTYPE_BYTES[anchor.dtype]
    few_rows = max((r[0] * r[1] for r in tables.rects), default=0) if planar else 0
    vectors = choose_vectors(columns, target, anchor.dtype, few_rows)
    tail, full = column_blocks(columns, vectors, target, anchor.dtype)
    operands = Operands(lowering, group, group.result.shape, acc=anchor)
    epilogue: Any = operands.expr(group.result) if group.result is not anchor else None
    extras, extra_refs = extra_operands(lowering, group, operands, c, channel, planar)
    steps = None
    depths = {rect[12] for rect in tables.rects}
    roomy = vectors == 1 and tile_rows(1, target) <= target.registers // 2
    slides = anchor.op is not None and anchor.op.name not in ("matmul", "linear") and anchor.dtype[0] == "f"
    if roomy and slides and not dots and len(depths) == 1 and 0 < max(depths) <= UNROLLED:
        steps = (max(depths), a_k * item, b_k * item)
    few = max((m for m, _ in tables.work), default=0) <= FEW_ROWS < tile_rows(vectors, target)
    most = FEW_ROWS if few else 0
    dotted = columns if dots else 0
    chains = chains and few and not (dots or steps or copies) and anchor.dtype[0] == "f"
    spec = ContractSpec(anchor.dtype, vectors, tail, full, epilogue, extras, steps, most, dotted, copies, chains=chains)
    block = spec.block(target)
    blocks = -(-columns // block)
    depth = max((r[12] for r in tables.rects), default=1) or 1
    if segment is None:
        segment = max(1, PANEL_BYTES // max(1, depth * block * item))
    once = not planar and not copies and all(rect[11] <= segment and not rect[15] for rect in tables.rects)
    # A group's channels need not begin at a vector's boundary, though those of a pixel do.
    aligned = all(n * item % target.vector_bytes == 0 for rect in tables.rects for n in rect[6:10])
    if once and aligned and anchor.dtype[0] == "f" and past_caches(c, target):
        spec = replace(spec, streams=True)
    if a_k == 1 and not dots and a.nbytes > STREAMED_BYTES:
        spec = replace(spec, asks=_asked(tables, spec.rows(target)))
    rows = spec.rows(target)
    starts, jobs = (partition or _chunks)(tables, rows, block, blocks)
    chunks = len(starts) - 1
    if not chunks:
        return
    rects = np.array(tables.rects, np.int64)
    rects[:, _RECT_ELEMENTS] *= item
    taps = tables.taps * item if tables.taps.size else np.zeros((1, 2), np.int64)
    if copies:
        taps = np.concatenate([taps, np.repeat(taps[-1:], segment, 0)])
    program = lowering.program
    args: list[int | Ref] = [
        ref(a),
        ref(b),
        ref(c),
        ref(program.constant(starts)),
        ref(program.constant(jobs)),
        ref(program.constant(rects)),
        ref(program.constant(taps)),
        a_k * item,
        b_k * item,
        (block if b_block is None else b_block) * item,
        columns,
        segment,
        *extra_refs,
    ]
    writes = [c]
    if copies:
        longest = min(segment, max((r[11] for r in tables.rects), default=1))
        room = program.buffer((chunks, longest * depth * block), anchor.dtype)
        args += [ref(room), room.strides[0] * item]
        writes.append(room)
    program.call(spec, args, chunks, names(group.nodes), writes)


def _asked(tables: Tables, rows: int) -> int:
    """Elements of A that a tile of so many rows moves on by, for each step over k, in the rect with the most work.

    0 where something lies between pixels, which is not to be read, or where there are several taps: of several rows
    of an image all but one were read before, with the pixels above.
    """
    if not tables.rects:
        return 0
    rect = tables.rects[max(range(len(tables.work)), key=lambda i: math.prod(tables.work[i]))]
    step, taps, depth = rect[3], rect[11], rect[12]
    return -(-rows * step // depth) if taps == 1 and 0 < step <= depth else 0


def _chunks(tables: Tables, rows: int, block: int, blocks: int) -> Chunks:
    """Work items of about `JOB_WORK`, one a chunk: many rows of one column block where B is large, else few rows of
    all blocks. Groups whose B fits the cache take turns, so that pixels, of which each uses a part, are read once. If
    B does not fit, as with 512 channels, all rects, the borders' too, use a column block before the next is read.
    """
    m, k = np.array(tables.work or [(0, 1)], np.int64).T
    together = np.ones_like(k)
    if all(rect[11] * rect[12] <= 1024 for rect in tables.rects):
        together[blocks * block * k <= 65536] = blocks
    most = -(-JOB_WORK // (k * block * together))
    panels = {r[13]: depth for r, (_, depth) in zip(tables.rects, tables.work, strict=True)}
    turns = len(panels) > 1 and sum(panels.values()) * blocks * block <= PANEL_ELEMENTS
    if turns:
        apart = np.array([max(1, r[3] + r[7]) for r in tables.rects], np.int64)
        most = np.minimum(most, PANEL_ELEMENTS // apart)
    step = np.maximum(rows, -(-most // rows) * rows)
    high = -(-m // step)
    number = high * -(-blocks // together)
    rect = np.repeat(np.arange(len(m)), number)
    place = np.arange(len(rect)) - (np.cumsum(number) - number)[rect]  # among the jobs of its rect
    first, begin = place // high[rect] * together[rect], place % high[rect] * step[rect]
    end, last = np.minimum(m[rect], begin + step[rect]), np.minimum(blocks, first + together[rect])
    jobs = np.stack([rect, begin, end, first, last], axis=1)
    if turns:
        jobs = jobs[np.argsort(begin / m[rect], kind="stable")]
    elif len(panels) == 1 and max(panels.values(), default=0) * blocks * block > PANEL_ELEMENTS:
        jobs = jobs[np.argsort(first, kind="stable")]
    return np.arange(len(rect) + 1), jobs


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


# -- how many steps of multiply-adds a row of the result takes, by measurement of what comes on top of them ------------
#: Of an operation: what moving an element from one memory order to another takes.
COPY_STEPS = 2


def steps_across(lowering: Lowering, depth: int, runs: float, columns: int, dtype: str) -> float:
    """With the columns along the lanes: `runs` taps of `depth` k."""
    return 1.25 * -(-columns // lowering.target.lanes(dtype)) * runs * depth + 8


def steps_along(lowering: Lowering, depth: int, runs: float, columns: int, dtype: str) -> float:
    """With k along the lanes (dot products); infinite where that is not possible.

    Each tap ends with a part of a vector, each sum with adding up its lanes; a single column is bound by loads.
    """
    target = lowering.target
    lanes = target.lanes(dtype)
    if dtype[0] != "f" or 2 * columns > lanes or not (target.masks or depth % lanes == 0):
        return math.inf
    return max(2, columns) * runs * -(-depth // lanes) + columns * (runs + 6) + 8


# -- operands in the order kernels want ----------------------------------------------------------------------------
def image(lowering: Lowering, node: Node) -> Access:
    """An image-like value whose channels lie side by side; few channels may stay as they are."""
    access = lowering.access(node)
    if access.shape[1] == 1 or access.strides[1] == 1:
        return access
    return lowering.reordered(node, access, channels_last(len(access.shape)), "channels-last")


def image_result(lowering: Lowering, node: Node) -> Access:
    """Where an image-like result goes: channels side by side."""
    order = channels_last(len(node.shape))
    access = lowering.result(node, order)
    if access.strides[1] == 1 or access.shape[1] == 1:
        return access
    # The caller's memory is in another order: compute beside it, copied at the end.
    lowering.where[node] = lowering.program.buffer(node.shape, node.dtype, order)
    return lowering.where[node]


def packed(
    lowering: Lowering,
    node: Node,
    w: Access,
    outer: Sequence[int],
    columns: int,
    groups: int,
    label: str,
    reverse: int = 0,
) -> tuple[Access, int, int]:
    """Weights as panels [group][block][outer...][columns of a block]; `w` is viewed as [group, *outer, columns].

    Args:
        reverse: so many of the first outer dimensions are laid down from their end.

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
        steps = [-s if d < reverse else s for d, s in enumerate(buffer.strides[2:-1])]
        start = first * panel + sum((e - 1) * -s for e, s in zip(outer[:reverse], steps, strict=False))
        into = (*buffer.strides[:2], *steps, 1)
        target = Access(buffer.buffer, source.shape, into, start, w.dtype)
        lowering.copy(source, target, label)
    return buffer, panel, blocks * panel


# -- matrix products -------------------------------------------------------------------------------------------------
def matrix_product(lowering: Lowering, group: Group, anchor: Node) -> None:
    """Lowers `matmul` and `linear`."""
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
    if lowering.takes("dot products", _dot_refusal(lowering, batch, m, k, a, b)):
        _dot_products(lowering, group, anchor, a, b, c)
        return
    if b.strides[-1] == 1 or n == 1:
        b_k, b_block, b_batch = b.strides[-2], block, b.strides[:-2]
    elif len(batch) == 0 and n <= PLAIN_COLUMNS:
        # Rows this short need no panels: one transposed copy with k outside.
        plain = lowering.program.buffer(b.shape, b.dtype)
        lowering.copy(b, plain, "transpose")
        b, b_k, b_block, b_batch = plain, n, block, ()
    else:
        flat = _batched_columns(b)
        b, b_block, per = packed(lowering, anchor, flat, (k,), n, math.prod(batch), "pack")
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


def _dot_refusal(lowering: Lowering, batch: Sequence[int], m: int, k: int, a: Access, b: Access) -> str:
    """Why there are no dot products of the rows of A and the columns of B, which must both lie along memory. They are
    to take less time than turning B over: that is about a third of a cycle for each of its elements, and the sums along
    lanes that dot products end with are one or two for each of the result's.
    """
    if batch or a.dtype[0] != "f":
        return "a batch of products, or integers"
    if b.shape[-1] < dot_block(lowering.target, a.dtype):
        return f"{b.shape[-1]} columns are less than one block"
    if a.strides[-1] != 1 or b.strides[-2] != 1 or b.strides[-1] == 1:
        return "the summed dimension does not lie along memory in both"
    return "" if DOT_ROWS * m <= k else f"{m} rows: at most {k // DOT_ROWS} for sums of {k}"


def _dot_products(lowering: Lowering, group: Group, anchor: Node, a: Access, b: Access, c: Access) -> None:
    """A product whose operands both have the summed dimension along memory; b is viewed as [k, n]."""
    operands = Operands(lowering, group, group.result.shape, acc=anchor)
    epilogue: Any = operands.expr(group.result) if group.result is not anchor else None
    extras, extra_refs = extra_operands(lowering, group, operands, c, 1)
    (m, n), k = anchor.shape, a.shape[-1]
    args: list[int | Ref] = [ref(a), ref(b), ref(c), m, n, k]
    args += [a.strides[0] * a.item, b.strides[1] * b.item, c.strides[0] * c.item, *extra_refs]
    blocks = -(-n // dot_block(lowering.target, anchor.dtype))
    lowering.program.call(DotSpec(anchor.dtype, epilogue, extras), args, blocks, names(group.nodes), [c])


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
