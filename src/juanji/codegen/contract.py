"""The contraction kernel: C[m, n] (+)= the sum over taps t and over k of A[m, t, k] * B[t, k, n].

One generated kernel serves convolution (forward and both gradients), linear layers and matrix products of
any shape: every extent and stride is read from tables at run time, and only what shapes the machine code
(the vectors in a row of the register tile, whether there is a partial block of columns, the epilogue) is in
the specification.

The inner loop multiplies a tile of `rows` pixels by `vectors` vectors of columns: all of the tile's sums stay
in registers, each step over k loads one row of B and broadcasts one element of A for each row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from juanji.codegen.builder import Builder, vector_type
from juanji.codegen.dot import dot_products
from juanji.codegen.expr import Emitter, Expr
from juanji.target import DTYPE_BYTES, Target

#: int64 columns of the job, rectangle and tap tables.
JOB_FIELDS = ("rect", "m_begin", "m_end", "block_begin", "block_end")
RECT_FIELDS = ("mx", "my", "a_base", "a_sx", "a_sy", "a_sn", "c_base", "c_sx", "c_sy", "c_sn",
               "tap_begin", "tap_count", "K", "b_base", "n_base", "adds")  # fmt: skip
TAP_FIELDS = ("a_off", "b_off")
#: Argument slots before the pointers of the epilogue's inputs.
ARGUMENTS = ("A", "B", "C", "starts", "jobs", "rects", "taps", "a_k", "b_k", "b_block", "n", "tap_segment")

_MOST_ROWS = 12
#: Epilogues with more operations than this are written once in a loop over rows, not once for each row.
_INLINE_OPERATIONS = 6


def choose_vectors(n: int, target: Target, dtype: str, rows: int = 0) -> int:
    """Vectors of a full block of columns that suit `n` columns.

    The last block takes just the vectors it needs, so what is avoided is a last block of one vector, whose
    tile is bound by loads; then code for two kinds of blocks, unless there are no more than so many `rows`, which one
    tile holds: then the fewest blocks are best.

    >>> from juanji.target import Target
    >>> t = Target("avx512", 64, 32, "", "", True)
    >>> [choose_vectors(n, t, "f32") for n in (6, 16, 32, 64, 80, 96, 120, 512)]
    [1, 1, 2, 4, 3, 3, 4, 4]
    """
    needed = max(1, -(-n // target.lanes(dtype)))
    widest = 4 if target.registers >= 32 else 2
    if needed <= widest:
        return needed
    if 0 < rows <= tile_rows(widest, target):
        return min(range(widest, 1, -1), key=lambda nv: (needed % nv == 1, -(-needed // nv)))
    return min(range(widest, 1, -1), key=lambda nv: (needed % nv == 1, needed % nv != 0))


def column_blocks(n: int, vectors: int, target: Target, dtype: str) -> tuple[int, bool]:
    """The `(tail, full)` of a ContractSpec for `n` columns in blocks of `vectors` vectors.

    >>> from juanji.target import Target
    >>> t = Target("avx512", 64, 32, "", "", True)
    >>> column_blocks(64, 4, t, "f32"), column_blocks(70, 4, t, "f32"), column_blocks(6, 1, t, "f32")
    ((0, True), (1, True), (1, False))
    """
    width = vectors * target.lanes(dtype)
    return -(-(n % width) // target.lanes(dtype)), n >= width


@dataclass(frozen=True)
class ContractSpec:
    """A contraction kernel.

    Args:
        dtype: of A, B and C. Integers are multiplied and added in their own type, modulo its range.
        vectors: vectors of a full block of columns; the block is `vectors * lanes` columns wide.
        tail: vectors of the last, partial block: 0 where n is a multiple of the block, else 1 to `vectors`.
        full: whether full blocks occur.
        epilogue: expression of ("acc", dtype) and ("load", dtype_i, i) that is stored; None stores the sum.
        extras: (dtype, class) of the epilogue's inputs. Class "n": indexed by the column; "c": laid out as C,
            with the same strides in elements; "m": by the row, as its x (m % mx), for all columns; "s": one scalar.
        steps: K of every rect, `a_k` and `b_k`, where these are known: the steps over k are then written out one after
            another. A tile of one vector is bound by loads, and the loop's own come on top of them. None: a loop.
        most: rows of a tile at most, where there are never more: a larger one would compute rows that are not there.
            0: as many as fit into the registers.
        dots: n, where so few columns would leave most lanes idle: then the k of A and of B lie side by side, `b_k` is
            from column to column, and each sum is taken along the lanes, which are added up in the end. 0: not so.
        copies: whether each segment's rows of B are copied side by side before the rows of a job pass over them, for
            long sums into small results. Rows of B that are far apart share few places of the first-level cache, and
            push each other out. Meanwhile the next segment of A and B is asked for.

    Run-time arguments are the 8-byte slots `ARGUMENTS`, then a pointer for each extra, then for one that `copies`
    a place for them and its bytes for each chunk; the table of taps must go on for `tap_segment` more. `a_k`, `b_k` and
    `b_block` are the bytes between successive k of A, k of B and column blocks of B. Chunk c is the rows
    `starts[c]` to `starts[c + 1]` of `jobs`, in that order; a job is the pixels m_begin to m_end of one
    rectangle, times a range of column blocks. A pixel m of a
    rectangle is x = m % mx, y = m // mx % my, n = m // (mx * my), at A + a_base + x * a_sx + y * a_sy +
    n * a_sn (C likewise). Rows of B are at B + b_base + block * b_block + b_off + k * b_k. All offsets are in
    bytes, except n_base, in elements, which is added to the column of class "n" inputs and the x of class "m".

    The sum of each segment of `tap_segment` taps starts at zero and is then added to C: a second level of
    summation, for accuracy and so that a segment's part of B stays in the cache. The first segment is added
    too where the rectangle `adds`: 1, else 0. The epilogue is applied with the last segment. Chunks may run in
    any order, so two chunks must not write the same elements of C.
    """

    dtype: str
    vectors: int
    tail: int = 0
    full: bool = True
    epilogue: Expr | None = None
    extras: tuple[tuple[str, str], ...] = ()
    steps: tuple[int, int, int] | None = None
    most: int = 0
    dots: int = 0
    copies: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPE_BYTES or self.dtype == "b1":
            raise ValueError(f"a contraction's dtype is that of numbers, not {self.dtype!r}")
        if not 0 <= self.tail <= self.vectors:
            raise ValueError(f"tail is {self.tail}, but must be 0 to vectors = {self.vectors}")
        if not self.full and not self.tail:
            raise ValueError("a contraction needs full blocks, a partial block, or both")
        if self.steps is not None and self.steps[0] < 1:
            raise ValueError(f"a contraction's steps over k are at least 1, not {self.steps[0]}")
        if self.most < 0:
            raise ValueError(f"a tile has at least one row, or 0 for as many as fit, not {self.most}")
        if self.copies and (self.dtype[0] != "f" or self.dots or self.steps):
            raise ValueError("rows of B are copied for floating-point numbers, with a loop over k")
        if self.dots and (self.dtype[0] != "f" or self.full or self.vectors > 1 or self.steps):
            raise ValueError("dot products are of floating-point numbers, for one partial block, with a loop over k")
        for extra in self.extras:
            if extra[1] not in ("n", "c", "m", "s"):
                raise ValueError(f"the class of an extra input is 'n', 'c', 'm' or 's', not {extra[1]!r}")

    def rows(self, target: Target) -> int:
        """Pixels of the register tile of full blocks: job boundaries at multiples of it waste nothing."""
        return self.tile(self.vectors if self.full else self.tail, target)

    def tile(self, vectors: int, target: Target) -> int:
        """Rows of a tile that is `vectors` wide."""
        rows = tile_rows(vectors, target)
        if self.dots:
            rows = max(1, min(rows, target.lanes(self.dtype) // self.dots))
        if self.copies:
            rows = min(rows, _MOST_ROWS - 1)  # there is one pointer more
        return min(rows, self.most) if self.most else rows

    def block(self, target: Target) -> int:
        """Columns of a full block."""
        return self.vectors * target.lanes(self.dtype)

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of `void @name(ptr, i64, i64)`."""
        builder = Builder(name, target)
        _Writer(self, builder).write()
        return builder.text()


def tile_rows(vectors: int, target: Target) -> int:
    """Rows of a register tile `vectors` wide.

    At most twelve: with the index, the row of B and the counter, their pointers fill the general registers.
    """
    return target.tile(vectors, _MOST_ROWS)


@dataclass
class _Tile:
    """What the code of one register tile is made from, besides the values all tiles share."""

    rows: int
    vectors: int
    masked: bool
    left: str  # pixels that are left: at least `sure`, maybe more than `rows`
    sure: int
    column: str  # first column of the block
    offsets: list[str]  # of each row, in C
    across: list[str]  # x of each row, where the epilogue uses it
    panel: str  # this block's rows of B


class _Writer:
    """Writes one kernel; the attributes are registers that live through it."""

    def __init__(self, spec: ContractSpec, builder: Builder) -> None:
        self.spec, self.b = spec, builder
        self.lanes = builder.target.lanes(spec.dtype)
        self.size = DTYPE_BYTES[spec.dtype]
        self.vtype = vector_type(spec.dtype, self.lanes)
        widths = [v for v in (spec.vectors * spec.full, spec.tail) if v]
        #: Rows (with padding), and bytes of sums, of the largest tile.
        self.most_rows = _whole_vectors(max(spec.tile(v, builder.target) for v in widths))
        self.most_bytes = max(spec.tile(v, builder.target) * v for v in widths) * builder.target.vector_bytes
        self.arg: dict[str, str] = {}
        self.rect: dict[str, str] = {}

    def write(self) -> None:
        """The loop over the jobs of all chunks: they follow one another."""
        b = self.b
        self.row_table = b.op(f"alloca [{self.most_rows} x ptr], align 16", "rows")
        self.offset_table = b.op(f"alloca [{self.most_rows} x i64], align 16", "offsets")
        self.uses_x = any(kind == "m" for _, kind in self.spec.extras)
        if self.uses_x:
            self.across_table = b.op(f"alloca [{self.most_rows} x i64], align 16", "across")
        if self._looped_epilogue():
            self.sums = b.op(f"alloca [{self.most_bytes} x i8], align 16", "sums")
        pointers = 7
        for slot, name in enumerate(ARGUMENTS):
            self.arg[name] = b.arg_ptr(slot) if slot < pointers else b.arg_int(slot)
        self.extras = [b.arg_ptr(len(ARGUMENTS) + i) for i in range(len(self.spec.extras))]
        if self.spec.copies:  # a call has the place of its first chunk
            slot = len(ARGUMENTS) + len(self.extras)
            self.copied = b.at(b.arg_ptr(slot), b.mul(b.arg_int(slot + 1), "%begin"))
        # The steps over k are read from memory in each iteration (folded into the additions): what LLVM
        # cannot see to be constant it leaves as one index, else it bumps a pointer for each row of the tile.
        self.steps = {}
        for name in ("a_k", "b_k"):
            self.steps[name] = b.op("alloca i64, align 8", name)
            b.emit(f"store i64 {self.arg[name]}, ptr {self.steps[name]}, align 8")
        block = self.spec.block(b.target)
        if self.spec.tail:
            self.last_block = b.op(f"sdiv i64 {b.sub(self.arg['n'], 1)}, {block}")
            start = b.add(b.mul(self.last_block, block), (self.spec.tail - 1) * self.lanes)
            self._prepare_mask(b.sub(self.arg["n"], start))
        first, last = (b.load_int(b.at(self.arg["starts"], b.mul(chunk, 8))) for chunk in ("%begin", "%end"))
        with b.loop(first, last) as jobs:
            row = b.at(self.arg["jobs"], b.mul(jobs.index, 8 * len(JOB_FIELDS)))
            job = {name: b.load_int(row, 8 * i) for i, name in enumerate(JOB_FIELDS)}
            self._job(job)

    # -- masks ----------------------------------------------------------------------------------------
    def _prepare_mask(self, count: str) -> None:
        """Keeps the mask of the last vector in the form the target holds in one register.

        Without mask registers that is a vector of integers whose sign bits count: a vector of bits would be
        packed and unpacked at every use.
        """
        mask = self.b.tail_mask(self.lanes, count)
        self.mask_bits = self.b.target.vector_bytes == 64
        self.mask_type = f"<{self.lanes} x i{8 * self.size}>"
        self.mask = mask if self.mask_bits else self.b.op(f"sext <{self.lanes} x i1> {mask} to {self.mask_type}", "m")

    def _mask(self, tile: _Tile, v: int) -> str | None:
        if not tile.masked or v < tile.vectors - 1:
            return None
        if self.mask_bits:
            return self.mask
        return self.b.op(f"icmp slt {self.mask_type} {self.mask}, zeroinitializer", "m")

    # -- loops around the tile ------------------------------------------------------------------------
    def _job(self, job: dict[str, str]) -> None:
        b = self.b
        row = b.at(self.arg["rects"], b.mul(job["rect"], 8 * len(RECT_FIELDS)))
        self.rect = r = {name: b.load_int(row, 8 * i) for i, name in enumerate(RECT_FIELDS)}
        for extent in ("mx", "my"):  # an empty rectangle has no jobs, but may be divided by
            r[extent] = b.max(r[extent], 1)
        m = job["m_begin"]
        lines = b.op(f"sdiv i64 {m}, {r['mx']}")
        x = b.sub(m, b.mul(lines, r["mx"]))
        image = b.op(f"sdiv i64 {lines}, {r['my']}")
        y = b.sub(lines, b.mul(image, r["my"]))
        starts = []
        # What is added to an address when x reaches mx (and when y then reaches my), from x = mx.
        self.next_line, self.next_image = {}, {}
        for operand in ("a", "c"):
            along_x, along_y = b.mul(x, r[operand + "_sx"]), b.mul(y, r[operand + "_sy"])
            pixel = b.add(b.add(along_x, along_y), b.mul(image, r[operand + "_sn"]))
            starts.append(b.add(r[operand + "_base"], pixel))
            line = b.mul(r["mx"], r[operand + "_sx"])
            self.next_line[operand] = b.sub(r[operand + "_sy"], line)
            lines_ = b.mul(b.sub(r["my"], 1), r[operand + "_sy"])
            self.next_image[operand] = b.sub(b.sub(r[operand + "_sn"], lines_), line)
        a_start, c_start = b.at(self.arg["A"], starts[0]), starts[1]
        base = b.at(self.arg["B"], r["b_base"])
        if self.uses_x:  # x moves like an address: one on, and back at a new line
            r["x_sx"] = "1"
            self.next_line["x"] = self.next_image["x"] = b.sub(0, r["mx"])
        # No k means no taps, so that the loop over k needs no test before its first step.
        count = b.select(b.compare("sgt", r["K"], 0), r["tap_count"], 0)
        taps = b.at(self.arg["taps"], b.mul(r["tap_begin"], 8 * len(TAP_FIELDS)))
        segment = b.max(self.arg["tap_segment"], 1)
        # At least one segment: with no taps the result is still written.
        with b.loop(0, b.max(count, 1), segment) as segments:
            first = segments.index
            stop = b.min(b.add(first, segment), count)
            self.tap_first = b.at(taps, b.mul(first, 8 * len(TAP_FIELDS)))
            self.tap_stop = b.at(taps, b.mul(stop, 8 * len(TAP_FIELDS)))
            self.tap_ahead = b.mul(segment, 8 * len(TAP_FIELDS))
            self.add = b.compare("sgt", b.add(first, r["adds"]), 0)
            self.last = b.compare("sge", stop, count)
            with b.loop(job["block_begin"], job["block_end"]) as blocks:
                column = b.mul(blocks.index, self.spec.block(b.target))
                panel = b.at(base, b.mul(blocks.index, self.arg["b_block"]))
                start = (a_start, b.add(c_start, b.mul(column, self.size)), x, y)
                if not self.spec.tail:
                    self._pixels(job, start, column, panel, self.spec.vectors, False)
                elif not self.spec.full:
                    self._pixels(job, start, column, panel, self.spec.tail, True)
                else:
                    partial, whole, done = b.label("partial"), b.label("whole"), b.label("block")
                    b.branch(b.compare("eq", blocks.index, self.last_block), partial, whole)
                    b.start(whole)
                    self._pixels(job, start, column, panel, self.spec.vectors, False)
                    b.jump(done)
                    b.start(partial)
                    self._pixels(job, start, column, panel, self.spec.tail, True)
                    b.jump(done)
                    b.start(done)

    def _pixels(
        self,
        job: dict[str, str],
        start: tuple[str, str, str, str],
        column: str,
        panel: str,
        vectors: int,
        masked: bool,
    ) -> None:
        """The loop over tiles of one block; a tile of few rows where few are left."""
        b = self.b
        if self.spec.copies:
            self._copy(panel, vectors, masked)
        rows = self.spec.tile(vectors, b.target)
        sizes = sorted({rows, (rows + 1) // 2, 1}, reverse=True)
        types = ("ptr", "i64", "i64", "i64")
        with b.loop(job["m_begin"], job["m_end"], rows, list(zip(types, start, strict=True))) as pixels:
            left = b.sub(job["m_end"], pixels.index)
            done, ends = b.label("tile"), []
            for k, count in enumerate(sizes):
                other = b.label("fewer")
                if k + 1 < len(sizes):
                    then = b.label("rows")
                    b.branch(b.compare("sgt", left, sizes[k + 1]), then, other)
                    b.start(then)
                addresses, offsets, across, following = self._rows(count, left, pixels.values)
                sure = sizes[k + 1] + 1 if k + 1 < len(sizes) else 1
                tile = _Tile(count, vectors, masked, left, sure, column, offsets, across, panel)
                self._tile(tile, addresses)
                ends.append((b.block, following))
                b.jump(done)
                if k + 1 < len(sizes):
                    b.start(other)
            b.start(done)
            state = []
            for j, kind in enumerate(types):
                incoming = ", ".join(f"[ {values[j]}, %{block} ]" for block, values in ends)
                state.append(b.op(f"phi {kind} {incoming}"))
            pixels.next(state)

    def _copy(self, panel: str, vectors: int, masked: bool) -> None:
        """A segment's rows of B side by side."""
        b, size = self.b, self.b.target.vector_bytes
        tile = _Tile(0, vectors, masked, "", 0, "", [], [], panel)
        stride = 8 * len(TAP_FIELDS)
        first, stop = (b.op(f"ptrtoint ptr {p} to i64") for p in (self.tap_first, self.tap_stop))
        with b.loop(0, b.sub(stop, first), stride, [("ptr", self.copied)]) as taps:
            tap = b.at(self.tap_first, taps.index)
            here = b.load_int(tap, 8)
            ahead = b.sub(b.load_int(b.at(tap, self.tap_ahead), 8), here)
            with b.loop(0, self.rect["K"], 1, [("ptr", b.at(panel, here)), ("ptr", taps.values[0])]) as steps:
                row, into = steps.values
                for v in range(vectors):
                    place = b.at(row, v * size)
                    b.prefetch(b.at(place, ahead), 2)
                    value = b.load(self.spec.dtype, self.lanes, place, self._mask(tile, v))
                    b.store(self.spec.dtype, self.lanes, value, b.at(into, v * size))
                steps.next([b.at(row, self.arg["b_k"]), b.at(into, vectors * size)])
            taps.next([steps.results[1]])

    # -- where the rows of a tile are -----------------------------------------------------------------
    def _rows(self, count: int, left: str, state: list[str]) -> tuple[list[str], list[str], list[str], list[str]]:
        """Addresses in A, offsets in C and (if used) x of `count` pixels, and the state (A, C, x, y) after them.

        Rows past the end repeat the last pixel. All rows are computed at once, as if on one line, and each
        new line that the tile reaches corrects those after its start. They go through tables in memory, which
        vectors fill quickly and which keep the offsets until they are needed, after the inner loops.
        """
        b, r = self.b, self.rect
        if count == 1:
            return [state[0]], [state[1]], [state[2]], state  # one row is only ever the last
        a, c, x, y = state
        width = _whole_vectors(count)
        integers, bits = f"<{width} x i64>", f"<{width} x i1>"
        iota = "<" + ", ".join(f"i64 {i}" for i in range(width)) + ">"
        smin = f"llvm.smin.v{width}i64"
        b.declare(smin, f"{integers} @{smin}({integers}, {integers})")
        last = b.splat("i64", width, b.sub(left, 1))
        row = b.op(f"call {integers} @{smin}({integers} {iota}, {integers} {last})")
        values = [y]
        moving = ("a", "c", "x") if self.uses_x else ("a", "c")
        for operand in moving:
            stride = r[operand + "_sx"]
            values.append(b.op(f"mul {integers} {row}, {b.splat('i64', width, stride)}"))
            values.append(b.mul(stride, count))

        def next_line(start: str, values: list[str]) -> list[str]:
            """Moves the rows from `start` on, and the steps to the next tile, to a new line."""
            beyond = b.op(f"icmp sge {integers} {row}, {b.splat('i64', width, start)}")
            y1 = b.add(values[0], 1)
            new_image = b.compare("eq", y1, r["my"])
            moved = [b.select(new_image, 0, y1)]
            for operand, rows, step in zip(moving, values[1::2], values[2::2], strict=True):
                jump = b.select(new_image, self.next_image[operand], self.next_line[operand])
                after = b.op(f"add {integers} {rows}, {b.splat('i64', width, jump)}")
                moved.append(b.op(f"select {bits} {beyond}, {integers} {after}, {integers} {rows}"))
                moved.append(b.add(step, jump))
            return moved

        # The first new line without a branch, which could not be predicted; others only on narrow maps. One
        # that begins right after the tile counts too.
        start = b.sub(r["mx"], x)
        reached = b.compare("sle", start, count)
        moved = next_line(start, values)
        for i in range(0, len(values), 2):
            moved[i] = b.select(reached, moved[i], values[i])
        start = b.select(reached, b.add(start, r["mx"]), start)
        types = ("i64", *(integers, "i64") * len(moving))
        with b.loop(start, count + 1, r["mx"], list(zip(types, moved, strict=True))) as lines:
            lines.next(next_line(lines.index, lines.values))
        y, a_rows, a_step, c_rows, c_step = lines.results[:5]
        pointers = b.op(f"getelementptr i8, ptr {a}, {integers} {a_rows}")
        b.emit(f"store <{width} x ptr> {pointers}, ptr {self.row_table}, align 16")
        offsets = b.op(f"add {integers} {b.splat('i64', width, c)}, {c_rows}")
        b.emit(f"store {integers} {offsets}, ptr {self.offset_table}, align 16")
        across = []
        if self.uses_x:
            columns = b.op(f"add {integers} {b.splat('i64', width, x)}, {lines.results[5]}")
            b.emit(f"store {integers} {columns}, ptr {self.across_table}, align 16")
            across = [b.at(self.across_table, 8 * i) for i in range(count)]
        # The next tile starts `count` rows on; the line after it would start at row `index`.
        x = b.sub(b.add(r["mx"], count), lines.index)
        addresses = [b.op(f"load ptr, ptr {b.at(self.row_table, 8 * i)}, align 8", "p") for i in range(count)]
        slots = [b.at(self.offset_table, 8 * i) for i in range(count)]
        return addresses, slots, across, [b.at(a, a_step), b.add(c, c_step), x, y]

    # -- the tile -------------------------------------------------------------------------------------
    def _tile(self, tile: _Tile, addresses: list[str]) -> None:
        b = self.b
        count = tile.rows * tile.vectors
        sums = self._dots(tile, addresses) if self.spec.dots else self._taps(tile, addresses)
        if tile.rows > 1:
            tile.offsets = [b.load_int(slot) for slot in tile.offsets]
            if not self._looped_epilogue():
                tile.across = [b.load_int(slot) for slot in tile.across]
        places = [b.at(self.arg["C"], offset) for offset in tile.offsets]
        before, then, done = b.block, b.label("add"), b.label("added")
        b.branch(self.add, then, done)
        b.start(then)
        added = self._add(tile, sums, places)
        end = b.block
        b.jump(done)
        b.start(done)
        sums = [b.op(f"phi {self.vtype} [ {sums[i]}, %{before} ], [ {added[i]}, %{end} ]") for i in range(count)]
        if self.spec.epilogue is None:
            self._store(tile, sums, places, False)
            return
        final, plain, stored = b.label("final"), b.label("plain"), b.label("stored")
        b.branch(self.last, final, plain)
        b.start(plain)
        self._store(tile, sums, places, False)
        b.jump(stored)
        b.start(final)
        if self._looped_epilogue():
            self._store_looped(tile, sums)
        else:
            self._store(tile, sums, places, True)
        b.jump(stored)
        b.start(stored)

    def _taps(self, tile: _Tile, addresses: list[str]) -> list[str]:
        """The sums of one segment: the two inner loops."""
        b, spec = self.b, self.spec
        count = tile.rows * tile.vectors
        before, head, body, done = b.block, b.label("taps"), b.label("tap"), b.label("summed")
        step = b.label("k")
        tap, tap_next = b.fresh("t"), b.fresh("t")
        acc, inner = [b.fresh("s") for _ in range(count)], [b.fresh("s") for _ in range(count)]
        idx, row, counter = b.fresh("x"), b.fresh("b"), b.fresh("k")
        # The phis name registers that the loop over k defines below.
        new = [b.fresh("s") for _ in range(count)]
        b.jump(head)
        b.start(head)
        b.emit(f"{tap} = phi ptr [ {self.tap_first}, %{before} ], [ {tap_next}, %{step} ]")
        for i in range(count):
            b.emit(f"{acc[i]} = phi {self.vtype} [ zeroinitializer, %{before} ], [ {new[i]}, %{step} ]")
        idx_next, row_next, counter_next = b.fresh("x"), b.fresh("b"), b.fresh("k")
        copied = b.fresh("b")
        if spec.copies:
            b.emit(f"{copied} = phi ptr [ {self.copied}, %{before} ], [ {row_next}, %{step} ]")
        b.branch(b.op(f"icmp ult ptr {tap}, {self.tap_stop}"), body, done)
        b.start(body)
        a_off = b.load_int(tap)
        row_start, ahead = copied, ""
        if spec.copies:
            # The same place of the segment after this one.
            ahead = b.at(addresses[0], b.sub(b.load_int(b.at(tap, self.tap_ahead)), a_off))
        else:
            row_start = b.at(tile.panel, b.load_int(tap, 8))
        b.emit(f"{tap_next} = getelementptr i8, ptr {tap}, i64 {8 * len(TAP_FIELDS)}")
        if spec.steps is not None:
            self._straight(tile, [b.at(address, a_off) for address in addresses], row_start, acc, new)
            b.jump(step)
            b.start(step)
            b.jump(head)
            b.start(done)
            return acc
        b.jump(step)
        b.start(step)
        b.emit(f"{idx} = phi i64 [ {a_off}, %{body} ], [ {idx_next}, %{step} ]")
        b.emit(f"{row} = phi ptr [ {row_start}, %{body} ], [ {row_next}, %{step} ]")
        b.emit(f"{counter} = phi i64 [ {self.rect['K']}, %{body} ], [ {counter_next}, %{step} ]")
        for i in range(count):
            b.emit(f"{inner[i]} = phi {self.vtype} [ {acc[i]}, %{body} ], [ {new[i]}, %{step} ]")
        vector_bytes = b.target.vector_bytes
        columns = [
            b.load(spec.dtype, self.lanes, b.at(row, v * vector_bytes), None if spec.copies else self._mask(tile, v))
            for v in range(tile.vectors)
        ]
        if spec.copies:
            b.prefetch(b.at(ahead, idx), 2)
        for i, address in enumerate(addresses):
            scalar = b.load(spec.dtype, 1, b.at(address, idx))
            factor = b.splat(spec.dtype, self.lanes, scalar)
            for v in range(tile.vectors):
                j = i * tile.vectors + v
                if spec.dtype[0] == "f":
                    b.fma(spec.dtype, self.lanes, factor, columns[v], inner[j], new[j])
                else:
                    product = b.op(f"mul {self.vtype} {factor}, {columns[v]}")
                    b.emit(f"{new[j]} = add {self.vtype} {product}, {inner[j]}")
        b.emit(f"{idx_next} = add i64 {idx}, {b.load_int(self.steps['a_k'])}")
        b_k = str(tile.vectors * vector_bytes) if spec.copies else b.load_int(self.steps["b_k"])
        b.emit(f"{row_next} = getelementptr i8, ptr {row}, i64 {b_k}")
        b.emit(f"{counter_next} = add i64 {counter}, -1")
        b.branch(b.compare("ne", counter_next, 0), step, head)
        b.start(done)
        return acc

    def _dots(self, tile: _Tile, addresses: list[str]) -> list[str]:
        """The sums of one segment, taken along the lanes."""
        b = self.b
        columns = [b.at(tile.panel, b.mul(self.arg["b_k"], j)) for j in range(self.spec.dots)]
        ends = (self.tap_first, self.tap_stop)
        return dot_products(b, self.spec.dtype, addresses, columns, ends, self.rect["K"])

    def _straight(self, tile: _Tile, rows: list[str], row: str, sums: list[str], new: list[str]) -> None:
        """All steps over k of one tap, written out: `sums` in, `new` out."""
        b, spec = self.b, self.spec
        assert spec.steps is not None
        depth, a_k, b_k = spec.steps
        for k in range(depth):
            columns = [
                b.load(spec.dtype, self.lanes, b.at(row, k * b_k + v * b.target.vector_bytes), self._mask(tile, v))
                for v in range(tile.vectors)
            ]
            following = []
            for i, address in enumerate(rows):
                factor = b.splat(spec.dtype, self.lanes, b.load(spec.dtype, 1, b.at(address, k * a_k)))
                for v in range(tile.vectors):
                    j = i * tile.vectors + v
                    name = new[j] if k + 1 == depth else ""
                    following.append(b.fma(spec.dtype, self.lanes, factor, columns[v], sums[j], name))
            sums = following

    # -- results --------------------------------------------------------------------------------------
    def _add(self, tile: _Tile, sums: list[str], places: list[str]) -> list[str]:
        """The sums plus what C holds."""
        b = self.b
        added = []
        for i, place in enumerate(places):
            for v in range(tile.vectors):
                where = b.at(place, v * b.target.vector_bytes)
                held = b.load(self.spec.dtype, self.lanes, where, self._mask(tile, v))
                add = "fadd" if self.spec.dtype[0] == "f" else "add"
                added.append(b.op(f"{add} {self.vtype} {sums[i * tile.vectors + v]}, {held}"))
        return added

    def _store(self, tile: _Tile, sums: list[str], places: list[str], epilogue: bool) -> None:
        b = self.b
        shared = self._shared(tile) if epilogue else {}
        for i, place in self._existing(tile, places):
            row = (tile.offsets[i], tile.across[i] if self.uses_x else "")
            for v in range(tile.vectors):
                value = sums[i * tile.vectors + v]
                if epilogue:
                    value = self._result(tile, value, row, v, shared)
                where = b.at(place, v * b.target.vector_bytes)
                b.store(self.spec.dtype, self.lanes, value, where, self._mask(tile, v))

    def _existing(self, tile: _Tile, places: list[str]) -> Iterator[tuple[int, str]]:
        """The rows of a tile; code after each is skipped once no row is left."""
        b = self.b
        done = b.label("end")
        for i, place in enumerate(places):
            if i >= tile.sure:
                there = b.label("row")
                b.branch(b.compare("sgt", tile.left, i), there, done)
                b.start(there)
            yield i, place
        b.jump(done)
        b.start(done)

    def _store_looped(self, tile: _Tile, sums: list[str]) -> None:
        """The epilogue in a loop over rows, for expressions too long to write out for each."""
        b = self.b
        vector_bytes = b.target.vector_bytes
        for j, value in enumerate(sums):
            where = b.at(self.sums, j * vector_bytes)
            b.emit(f"store {self.vtype} {value}, ptr {where}, align 16")
        with b.loop(0, b.min(tile.left, tile.rows)) as rows:
            if tile.rows > 1:
                offset = b.load_int(self.offset_table, b.mul(rows.index, 8))
            else:
                offset = tile.offsets[0]
            x = tile.across[0] if self.uses_x else ""
            if self.uses_x and tile.rows > 1:
                x = b.load_int(self.across_table, b.mul(rows.index, 8))
            place = b.at(self.arg["C"], offset)
            line = b.at(self.sums, b.mul(rows.index, tile.vectors * vector_bytes))
            for v in range(tile.vectors):
                where = b.at(line, v * vector_bytes)
                value = b.op(f"load {self.vtype}, ptr {where}, align 16")
                value = self._result(tile, value, (offset, x), v, {})
                target = b.at(place, v * vector_bytes)
                b.store(self.spec.dtype, self.lanes, value, target, self._mask(tile, v))

    def _looped_epilogue(self) -> bool:
        return self.spec.epilogue is not None and _operations(self.spec.epilogue) > _INLINE_OPERATIONS

    def _shared(self, tile: _Tile) -> dict[tuple[int, int], str]:
        """Extra inputs that do not depend on the row, loaded once for a tile."""
        found = {}
        for i, (_, kind) in enumerate(self.spec.extras):
            if kind in ("n", "s"):
                for v in range(tile.vectors):
                    found[i, v] = self._extra(tile, i, v, ("", ""))
        return found

    def _extra(self, tile: _Tile, i: int, v: int, row: tuple[str, str]) -> str:
        """Vector v of extra input i in a row, given as its byte offset in C and its x."""
        b = self.b
        dtype, kind = self.spec.extras[i]
        if kind == "s":
            return b.splat(dtype, self.lanes, b.load(dtype, 1, self.extras[i]))
        if kind == "m":
            where = b.at(self.extras[i], b.mul(b.add(row[1], self.rect["n_base"]), DTYPE_BYTES[dtype]))
            return b.splat(dtype, self.lanes, b.load(dtype, 1, where))
        if kind == "n":
            column = b.add(b.add(tile.column, self.rect["n_base"]), v * self.lanes)
            where = b.at(self.extras[i], b.mul(column, DTYPE_BYTES[dtype]))
        else:
            offset = row[0]
            size, own = DTYPE_BYTES[dtype], DTYPE_BYTES[self.spec.dtype]
            if size != own:  # the same element, of another size
                offset = b.mul(b.op(f"sdiv exact i64 {offset}, {own}"), size)
            where = b.at(b.at(self.extras[i], offset), v * self.lanes * size)
        return b.load(dtype, self.lanes, where, self._mask(tile, v))

    def _result(self, tile: _Tile, acc: str, row: tuple[str, str], v: int, shared: dict[tuple[int, int], str]) -> str:
        def load(i: int) -> str:
            return shared.get((i, v)) or self._extra(tile, i, v, row)

        assert self.spec.epilogue is not None
        return Emitter(self.b, self.lanes, load, acc=acc).emit(self.spec.epilogue)


def _whole_vectors(count: int) -> int:
    """A power of two: LLVM takes vectors of other lengths apart where they cross a branch."""
    return 1 << (count - 1).bit_length()


def _operations(expr: Expr) -> int:
    return 1 + sum(_operations(operand) for operand in expr if isinstance(operand, tuple))
