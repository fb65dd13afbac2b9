"""The contraction kernel: C[m, n] (+)= the sum over taps t and over k of A[m, t, k] * B[t, k, n].

One generated kernel serves convolution (forward and both gradients), linear layers and matrix products of
any shape: every extent and stride is read from tables at run time, and only what shapes the machine code
(the vectors in a row of the register tile, whether there is a partial block of columns, the epilogue) is in
the specification.

The inner loop multiplies a tile of `rows` pixels by `vectors` vectors of columns: all of the tile's sums stay
in registers, each step over k loads one row of B and broadcasts one element of A for each row.
"""

from __future__ import annotations

from dataclasses import dataclass

from juanji.codegen.builder import Builder
from juanji.codegen.contract_tile import TAP_FIELDS, Tile, TileSpec, TileWriter, tile_rows, whole_vectors
from juanji.target import Target

#: int64 columns of the job and rectangle tables.
JOB_FIELDS = ("rect", "m_begin", "m_end", "block_begin", "block_end")
RECT_FIELDS = ("mx", "my", "a_base", "a_sx", "a_sy", "a_sn", "c_base", "c_sx", "c_sy", "c_sn",
               "tap_begin", "tap_count", "K", "b_base", "n_base", "adds")  # fmt: skip
#: Argument slots before the pointers of the epilogue's inputs.
ARGUMENTS = ("A", "B", "C", "starts", "jobs", "rects", "taps", "a_k", "b_k", "b_block", "n", "tap_segment")


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
class ContractSpec(TileSpec):
    """A contraction kernel; the arguments are those of `TileSpec`.

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

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of `void @name(ptr, i64, i64)`."""
        builder = Builder(name, target)
        _Writer(self, builder).write()
        return builder.text()


class _Writer(TileWriter):
    """Writes one kernel."""

    def write(self) -> None:
        """The loop over the jobs of all chunks: they follow one another."""
        b = self.b
        self.row_table = b.op(f"alloca [{self.most_rows} x ptr], align 16", "rows")
        self.offset_table = b.op(f"alloca [{self.most_rows} x i64], align 16", "offsets")
        if self.uses_x:
            self.across_table = b.op(f"alloca [{self.most_rows} x i64], align 16", "across")
        if self.looped_epilogue():
            self.sums = b.op(f"alloca [{self.most_bytes} x i8], align 16", "sums")
        pointers = 7
        for slot, name in enumerate(ARGUMENTS):
            self.arg[name] = b.arg_ptr(slot) if slot < pointers else b.arg_int(slot)
        self.extras = [b.arg_ptr(len(ARGUMENTS) + i) for i in range(len(self.spec.extras))]
        if self.spec.copies:  # a call has the place of its first chunk
            slot = len(ARGUMENTS) + len(self.extras)
            self.copied = b.at(b.arg_ptr(slot), b.mul(b.arg_int(slot + 1), "%begin"))
        if self.spec.streams:
            address = b.op(f"ptrtoint ptr {self.arg['C']} to i64")
            self.streamed = b.compare("eq", b.op(f"and i64 {address}, {b.target.vector_bytes - 1}"), 0)
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
            self.prepare_mask(b.sub(self.arg["n"], start))
        first, last = (b.load_int(b.at(self.arg["starts"], b.mul(chunk, 8))) for chunk in ("%begin", "%end"))
        with b.loop(first, last) as jobs:
            row = b.at(self.arg["jobs"], b.mul(jobs.index, 8 * len(JOB_FIELDS)))
            job = {name: b.load_int(row, 8 * i) for i, name in enumerate(JOB_FIELDS)}
            self._job(job)
        if self.spec.streams:
            with b.when(self.streamed):
                b.settle()

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
                tile = Tile(count, vectors, masked, left, sure, column, offsets, across, panel)
                self.tile(tile, addresses)
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
        tile = Tile(0, vectors, masked, "", 0, "", [], [], panel)
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
                    value = b.load(self.spec.dtype, self.lanes, place, self.mask_of(tile, v))
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
        width = whole_vectors(count)
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
