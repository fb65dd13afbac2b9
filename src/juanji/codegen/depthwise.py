"""Depthwise kernels, and those of groups of few channels: channels along the vector, each with a kernel of its own.

What a contraction makes of them leaves nearly all lanes idle. Here a tile of neighbouring outputs of one vector of
channels stays in registers; along a run of taps every column of the input is loaded once and used for all outputs
that it meets. The forward convolution and the input gradient are one kernel with different tables; the weight
gradient is the same walk with sums over pixels in place of sums over taps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from juanji.codegen.builder import Builder, vector_type
from juanji.codegen.expr import Emitter, Expr
from juanji.codegen.lanes import FLOATS, Lanes
from juanji.target import DTYPE_BYTES, Target

#: Argument slots before the pointers of the epilogue's inputs; the first six are pointers.
ARGUMENTS = ("x", "w", "c", "starts", "jobs", "runs", "images", "together", "bands", "x_image", "c_image", "x_line",
             "x_row", "c_line", "x_unit", "c_step", "w_step", "channels", "block", "taps", "stream")  # fmt: skip
#: int64 columns of the tables of jobs and of runs.
JOB_FIELDS = ("x_off", "c_off", "across", "down", "run_begin", "run_end", "ends")
RUN_FIELDS = ("x_off", "w_off", "length")
#: Taps of one run at most: longer rows of a kernel are several runs.
LONGEST_RUN = 7
_POINTERS = 6
#: Pixels of a full tile: with fewer each multiply-add would wait for the one before.
_NARROWEST, _WIDEST = 4, 8


@dataclass(frozen=True)
class DepthwiseSpec:
    """A depthwise kernel: "slide" computes c from x and w, "weight" sums w from x and c.

    Args:
        kind: "slide": c[pixel, channel] = sum over taps of x[pixel + tap, channel] * w[tap, channel].
            "weight": w[tap, channel] = sum over the pixels of a chunk of x[pixel + tap, channel] * c[pixel, channel].
        dtype: of all operands. Integers are multiplied and added in their own type, modulo its range.
        advance: units of x from one pixel of a line to the next.
        step: units of x from one tap of a run to the next.
        lengths: the lengths of runs that occur, each at most `LONGEST_RUN`.
        ahead: lines of x that the next line of outputs is the first to read. They are asked for in time: hardware
            prefetching stops at every page, and this is worth a factor of 1.5 where images come from memory.
        ins, outs: channels of x and of c in a group, powers of two, ins <= outs <= lanes. A tap then has `ins` lines
            of w, one for each channel of x in the group, and x is spread over the lanes that read it.
        first, last: of a line's first tile and of its last, how many taps each pixel lacks at the beginning of a run,
            or at its end, because they lie beside the image; () where lines are cut up so that none are lacking.
        single: a line is one tile, which is both its first and its last.
        epilogue: of "slide": expression of ("acc", dtype) and ("load", dtype_i, i) that is stored; None: the sum.
        extras: (dtype, class) of the epilogue's inputs. Class "n": one value for each channel; "c": laid out as c,
            with the same strides in elements; "s": one scalar.

    Run-time arguments are the 8-byte slots `ARGUMENTS`, then a pointer for each extra. Strides and offsets of c are
    in elements, all others in bytes. A job is `down` lines of `across` pixels whose taps are the runs `run_begin` to
    `run_end`, and `ends` says whether its lines begin with a first tile (1) and end with a last one (2). A run is
    `length` taps side by side in x, `w_step` apart in w. Chunk i does the jobs of band `i % bands` (rows
    `starts[band]` to `starts[band + 1]` of the table) for the images from `i // bands * together`, `together` of them
    or as many as there are. It does them for `block` channels (whole vectors of them) after `block` channels, so that
    what neighbouring lines share stays near. In "weight" chunk i writes the i-th array of `taps` times `channels`
    sums, zeros included. With `stream` results pass by the caches where c is aligned. Chunks are independent, and no
    sum depends on how they are divided.
    """

    kind: str
    dtype: str
    advance: int
    step: int
    lengths: tuple[int, ...]
    ahead: int = 1
    ins: int = 1
    outs: int = 1
    first: tuple[int, ...] = ()
    last: tuple[int, ...] = ()
    single: bool = False
    epilogue: Expr | None = None
    extras: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("slide", "weight"):
            raise ValueError(f"a depthwise kernel's kind is 'slide' or 'weight', not {self.kind!r}")
        if self.dtype not in DTYPE_BYTES or self.dtype == "b1":
            raise ValueError(f"a depthwise kernel's dtype is that of numbers, not {self.dtype!r}")
        if self.single and len(self.first) != len(self.last):
            raise ValueError(f"a single tile's ends have as many pixels, not {len(self.first)} and {len(self.last)}")
        if min(self.advance, self.step) < 1 or not all(1 <= n <= LONGEST_RUN for n in self.lengths):
            raise ValueError(f"advance and step are at least 1 and lengths 1 to {LONGEST_RUN}")

        if not 1 <= self.ins <= self.outs or self.ins & (self.ins - 1) or self.outs & (self.outs - 1):
            raise ValueError(f"ins and outs are powers of two, ins <= outs, not {self.ins} and {self.outs}")

    @property
    def output(self) -> str:
        """Dtype of what is written."""
        return str(self.epilogue[1]) if self.epilogue is not None else self.dtype

    def tile(self, target: Target) -> int:
        """Pixels of a full tile."""
        return tile_pixels(target, max(self.lengths, default=1), self.advance)

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of `void @name(ptr, i64, i64)`."""
        return _Writer(self, Builder(name, target)).write()


def tile_pixels(target: Target, length: int, advance: int) -> int:
    """Pixels of a full tile whose runs are at most `length` taps long.

    Registers hold its sums, the weights of a run and a column of x; two more what is loaded ahead of its use, and one a
    mask. Pixels that are further apart have more columns, each with fewer uses, of which LLVM loads three more ahead.
    Where each channel of a group reads all columns, it keeps those on the stack that find no register, which costs no
    more than to load them again, and less than smaller tiles.

    >>> from juanji.target import Target
    >>> few, many = (Target("", 32, registers, "", "", True) for registers in (16, 32))
    >>> [tile_pixels(target, length, 1) for target in (few, many) for length in (3, 5, 7)]
    [8, 7, 5, 8, 8, 8]
    """
    ahead = 2 if advance == 1 else 5
    return max(_NARROWEST, min(_WIDEST, target.registers - length - 2 - ahead))


Lacking = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class _Tile:
    """So many pixels, and how many taps each lacks at the beginning and at the end of a run; () where none."""

    count: int
    lacking: Lacking


class _Writer:
    """Writes one kernel."""

    def __init__(self, spec: DepthwiseSpec, b: Builder) -> None:
        self.spec, self.b = spec, b
        self.size = DTYPE_BYTES[spec.dtype]
        self.width = b.target.lanes(spec.dtype)
        self.v = Lanes(b, self.width)
        self.arg = {n: b.arg_ptr(i) if i < _POINTERS else b.arg_int(i) for i, n in enumerate(ARGUMENTS)}
        self.extras = [b.arg_ptr(len(ARGUMENTS) + i) for i in range(len(spec.extras))]
        self.scalars = {i: b.load(dtype, 1, self.extras[i]) for i, (dtype, cls) in enumerate(spec.extras) if cls == "s"}
        self.zero = self.v.const(spec.dtype, 0)
        channels = self.arg["channels"]
        # Whether whole vectors of c pass by the caches: all strides are multiples of a vector if the caller wants it.
        self.streamed = ""
        if spec.kind == "slide" and DTYPE_BYTES[spec.output] == self.size:
            address = b.op(f"ptrtoint ptr {self.arg['c']} to i64")
            aligned = b.compare("eq", b.op(f"and i64 {address}, {b.target.vector_bytes - 1}"), 0)
            self.streamed = b.op(f"and i1 {aligned}, {b.compare('ne', self.arg['stream'], 0)}")
        # Channels of x that a vector of c's channels reads.
        self.read = self.width // spec.outs * spec.ins
        self.shrink = (spec.outs // spec.ins).bit_length() - 1
        self.full = b.op(f"and i64 {channels}, {-self.width}")
        self.some = b.compare("ne", self.full, channels)
        # First and last channel of a block in whole vectors, and whether the masked rest belongs to it.
        self.channels = ("0", self.full, self.some)
        mask = b.tail_mask(self.width, b.sub(channels, self.full))
        # Between blocks LLVM narrows a vector of i1; whole lanes are what targets without mask registers want.
        self.lane_type = "" if b.target.vector_bytes == 64 else f"<{self.width} x i{8 * self.size}>"
        self.tail = b.op(f"sext <{self.width} x i1> {mask} to {self.lane_type}") if self.lane_type else mask
        self.lines = [b.mul(b.mul(channels, self.size), j) if j else "0" for j in range(spec.ins)]
        # Multiples of two strides: what an address can't scale by itself is multiplied here.
        longest = max(spec.lengths, default=1)
        tile = max(spec.tile(b.target), len(spec.first), len(spec.last))
        last = max(tile * spec.advance - 1, (tile - 1) * spec.advance + (longest - 1) * spec.step)
        self.columns = self._multiples("x_unit", last)
        self.taps = self._multiples("w_step", longest - 1)

    def _multiples(self, name: str, last: int) -> dict[int, tuple[str, int]]:
        """For 1 to `last`: a register and the power of two that it is to be multiplied by."""
        b, found = self.b, {}
        registers: dict[int, str] = {}
        for i in range(1, last + 1):
            shift = min(3, (i & -i).bit_length() - 1)
            base = i >> shift
            if base not in registers:
                registers[base] = b.mul(self.arg[name], base)
            found[i] = (registers[base], shift)
        return found

    def _offset(self, pointer: str, table: dict[int, tuple[str, int]], i: int) -> str:
        if i == 0:
            return pointer
        register, shift = table[i]
        return self.b.at(pointer, self.b.op(f"shl i64 {register}, {shift}") if shift else register)

    # -- the walk ---------------------------------------------------------------------------------------------
    def write(self) -> str:
        """Chunks, images, jobs and lines."""
        b, arg = self.b, self.arg
        with b.loop("%begin", "%end") as chunk:
            turn = b.op(f"udiv i64 {chunk.index}, {arg['bands']}")
            band = b.sub(chunk.index, b.mul(turn, arg["bands"]))
            row = b.at(arg["starts"], b.mul(band, 8))
            jobs = (b.load_int(row), b.load_int(row, 8))
            first = b.mul(turn, arg["together"])
            w = arg["w"]
            if self.spec.kind == "weight":
                pitch = b.mul(b.mul(arg["taps"], arg["channels"]), self.size)
                w = b.at(w, b.mul(chunk.index, pitch))
                self._clear(w)
            with b.loop(first, b.min(b.add(first, arg["together"]), arg["images"])) as image:
                x = b.at(arg["x"], b.mul(image.index, arg["x_image"]))
                c = b.mul(image.index, arg["c_image"])
                with b.loop(0, arg["channels"], arg["block"]) as block:
                    end = b.add(block.index, arg["block"])
                    last = b.op(f"and i1 {self.some}, {b.compare('sge', end, arg['channels'])}")
                    self.channels = (block.index, b.min(end, self.full), last)
                    with b.loop(*jobs) as job:
                        self._job(x, w, c, b.at(arg["jobs"], b.mul(job.index, 8 * len(JOB_FIELDS))))
        if self.streamed:
            with b.when(self.streamed):
                b.settle()
        return b.text()

    def _clear(self, w: str) -> None:
        b = self.b
        self.channels = ("0", self.full, self.some)
        with b.loop(0, self.arg["taps"]) as tap:
            line = b.at(w, b.mul(tap.index, b.mul(self.arg["channels"], self.size)))
            self._over_channels(
                lambda c, mask: b.store(self.spec.dtype, self.width, self.zero, b.at(line, b.mul(c, self.size)), mask)
            )

    def _job(self, x: str, w: str, c: str, row: str) -> None:
        b, arg = self.b, self.arg
        job = {name: b.load_int(row, 8 * i) for i, name in enumerate(JOB_FIELDS)}
        x, c = b.at(x, job["x_off"]), b.add(c, job["c_off"])
        pixel = b.mul(arg["x_unit"], self.spec.advance)
        with b.loop(0, job["down"]) as y:
            x_line = b.at(x, b.mul(y.index, arg["x_line"]))
            c_line = b.add(c, b.mul(y.index, arg["c_line"]))

            def pixels(first: str, count: int, lacking: Lacking, x_line: str = x_line, c_line: str = c_line) -> None:
                here = b.at(x_line, b.mul(first, pixel))
                there = b.add(c_line, b.mul(first, arg["c_step"]))
                body = self._slide if self.spec.kind == "slide" else self._sum
                self._over_channels(lambda at, mask: body(here, w, there, job, _Tile(count, lacking), at, mask))

            self._line(job, pixels)

    def _line(self, job: dict[str, str], pixels: Callable[[str, int, Lacking], None]) -> None:
        """`pixels(first, count, what they lack)` for the tiles of a line."""
        b, spec = self.b, self.spec
        begin, end, tile = "0", job["across"], spec.tile(b.target)
        if spec.single:
            pixels(begin, len(spec.first), (spec.first, spec.last))
            return
        if spec.first:
            there = b.compare("ne", b.op(f"and i64 {job['ends']}, 1"), 0)
            with b.when(there):
                pixels(begin, len(spec.first), (spec.first, ()))
            begin = b.select(there, len(spec.first), 0)
        if spec.last:
            there = b.compare("ne", b.op(f"and i64 {job['ends']}, 2"), 0)
            end = b.sub(end, b.select(there, len(spec.last), 0))
            with b.when(there):
                pixels(end, len(spec.last), ((), spec.last))
        between = b.sub(end, begin)
        left = b.op(f"urem i64 {between}, {tile}")
        whole = b.sub(end, left)
        with b.loop(begin, whole, tile) as first:
            pixels(first.index, tile, ((), ()))
        done, count = whole, (1 << (tile - 1).bit_length()) // 2
        while count:
            bit = b.op(f"and i64 {left}, {count}")
            with b.when(b.compare("ne", bit, 0)):
                pixels(done, count, ((), ()))
            done, count = b.add(done, bit), count // 2

    def _over_channels(self, body: Callable[[str, str | None], None]) -> None:
        """`body(channel, mask)` for the whole vectors of this block of channels and for what is left."""
        b = self.b
        begin, end, rest = self.channels
        with b.loop(begin, end, self.width) as loop:
            body(loop.index, None)
        with b.when(rest):
            mask = b.op(f"icmp slt {self.lane_type} {self.tail}, zeroinitializer") if self.lane_type else self.tail
            body(self.full, mask)

    # -- one tile ---------------------------------------------------------------------------------------------
    def _multiply_add(self, a: str, b: str, c: str) -> str:
        if self.spec.dtype in FLOATS:
            return self.v.fma(self.spec.dtype, a, b, c)
        return self.v.op("add", self.spec.dtype, self.v.op("mul", self.spec.dtype, a, b), c)

    def _load(self, pointer: str, mask: str | None) -> str:
        return self.b.load(self.spec.dtype, self.width, pointer, mask)

    def _column(self, pointer: str, mask: str | None) -> str:
        """What a tile's vector reads of one column of x."""
        if mask is None or self.read == self.width:
            return self.b.load(self.spec.dtype, self.read, pointer, mask)
        if self.read == 1:  # the only channel of the only group
            return self.b.load(self.spec.dtype, 1, pointer)
        part = ", ".join(
            f"i32 {i * self.spec.outs}" for i in range(self.read // self.spec.ins) for _ in range(self.spec.ins)
        )
        narrow = self.b.op(
            f"shufflevector <{self.width} x i1> {mask}, <{self.width} x i1> poison, <{self.read} x i32> <{part}>"
        )
        return self.b.load(self.spec.dtype, self.read, pointer, narrow)

    def _spread(self, value: str, j: int) -> str:
        """Channel j of each group in x, in all lanes of the group."""
        spec = self.spec
        if spec.ins == spec.outs == 1:
            return value
        if self.read == 1:
            return self.b.splat(spec.dtype, self.width, value)
        vtype = vector_type(spec.dtype, self.read)
        lanes = ", ".join(f"i32 {lane // spec.outs * spec.ins + j}" for lane in range(self.width))
        return self.b.op(f"shufflevector {vtype} {value}, {vtype} poison, <{self.width} x i32> <{lanes}>")

    def _channel(self, x: str, at: str) -> str:
        """Where in x the channels that a vector of c reads begin."""
        offset = self.b.mul(at, self.size)
        return self.b.at(x, self.b.op(f"ashr exact i64 {offset}, {self.shrink}") if self.shrink else offset)

    def _each_run(
        self, job: dict[str, str], start: Sequence[str], body: Callable[[int, str, str, list[str]], list[str]]
    ) -> list[str]:
        """A loop over a job's runs, carrying vectors: `body(length, x offset, w offset, values)` gives the next."""
        b, vtype = self.b, self.v.type(self.spec.dtype)
        with b.loop(job["run_begin"], job["run_end"], carried=[(vtype, s) for s in start]) as loop:
            row = b.at(self.arg["runs"], b.mul(loop.index, 8 * len(RUN_FIELDS)))
            x_off, w_off = b.load_int(row), b.load_int(row, 8)
            if len(self.spec.lengths) == 1:
                loop.next(body(self.spec.lengths[0], x_off, w_off, loop.values))
            else:
                length, done = b.load_int(row, 16), b.label("run")
                ends: list[tuple[str, list[str]]] = []
                for i, n in enumerate(reversed(self.spec.lengths)):
                    if i + 1 < len(self.spec.lengths):
                        this, other = b.label("this"), b.label("other")
                        b.branch(b.compare("eq", length, n), this, other)
                        b.start(this)
                    values = body(n, x_off, w_off, loop.values)
                    ends.append((b.block, values))
                    b.jump(done)
                    if i + 1 < len(self.spec.lengths):
                        b.start(other)
                b.start(done)
                loop.next(
                    [
                        b.op(f"phi {vtype} " + ", ".join(f"[ {values[k]}, %{block} ]" for block, values in ends))
                        for k in range(len(start))
                    ]
                )
        return loop.results

    def _pairs(self, tile: _Tile, length: int) -> dict[int, list[tuple[int, int]]]:
        """For each column of x that a tile reads, in order, the (pixel, tap) pairs that meet there."""
        found: dict[int, list[tuple[int, int]]] = {}
        for t in range(tile.count):
            before, after = (lacking[t] if lacking else 0 for lacking in tile.lacking)
            for k in range(before, length - after):
                found.setdefault(t * self.spec.advance + k * self.spec.step, []).append((t, k))
        return dict(sorted(found.items()))

    def _slide(self, x: str, w: str, c: str, job: dict[str, str], tile: _Tile, at: str, mask: str | None) -> None:
        """Sums over taps for a tile's pixels, stored through the epilogue."""
        b, count = self.b, tile.count
        x, w = self._channel(x, at), b.at(w, b.mul(at, self.size))

        def run(length: int, x_off: str, w_off: str, values: list[str]) -> list[str]:
            sums = list(values)
            source, weight = b.at(x, x_off), b.at(w, w_off)
            for j, line in enumerate(self.lines):
                here = b.at(weight, line) if j else weight
                weights = [self._load(self._offset(here, self.taps, k), mask) for k in range(length)]
                for column, pairs in self._pairs(tile, length).items():
                    value = self._spread(self._column(self._offset(source, self.columns, column), mask), j)
                    for t, k in pairs:
                        sums[t] = self._multiply_add(value, weights[k], sums[t])
            return sums

        sums = self._each_run(job, [self.zero] * count, run)
        self._prefetch(x, c, job, count, at)
        places = [b.add(c, at)]
        for _ in sums[1:]:
            places.append(b.add(places[-1], self.arg["c_step"]))
        values = [self._result(place, at, mask, value) for place, value in zip(places, sums, strict=True)]
        self._store(places, values, mask)

    def _prefetch(self, x: str, c: str, job: dict[str, str], count: int, at: str) -> None:
        """Asks for what the next line of outputs reads below this tile; outside the image it does no harm."""
        b = self.b
        last = b.at(self.arg["runs"], b.mul(b.max(b.sub(job["run_end"], 1), 0), 8 * len(RUN_FIELDS)))
        line = b.at(b.at(x, b.load_int(last)), self.arg["x_line"])
        for i in range(self.spec.ahead):
            above = b.at(line, b.mul(self.arg["x_row"], -i)) if i else line
            for column in range(count * self.spec.advance):
                b.prefetch(self._offset(above, self.columns, column))
        # The same of what lies as c does: the output's gradient, or what the epilogue reads.
        beside = [(self.arg["c"], self.size)] if self.spec.kind == "weight" else []
        beside += [
            (self.extras[i], DTYPE_BYTES[dtype]) for i, (dtype, cls) in enumerate(self.spec.extras) if cls == "c"
        ]
        place = b.add(b.add(c, at), self.arg["c_line"]) if beside else ""
        for pointer, size in beside:
            below, step = b.at(pointer, b.mul(place, size)), b.mul(self.arg["c_step"], size)
            for t in range(count):
                b.prefetch(below)
                if t + 1 < count:
                    below = b.at(below, step)

    def _result(self, place: str, channel: str, mask: str | None, value: str) -> str:
        """What the epilogue makes of a sum."""
        b, spec = self.b, self.spec

        def extra(i: int) -> str:
            dtype, cls = spec.extras[i]
            if cls == "s":
                return b.splat(dtype, self.width, self.scalars[i])
            index = channel if cls == "n" else place
            return b.load(dtype, self.width, b.at(self.extras[i], b.mul(index, DTYPE_BYTES[dtype])), mask)

        if spec.epilogue is None:
            return value
        return Emitter(b, self.width, extra, acc=value).emit(spec.epilogue)

    def _store(self, places: Sequence[str], values: Sequence[str], mask: str | None) -> None:
        b, dtype = self.b, self.spec.output
        pointers = [b.at(self.arg["c"], b.mul(place, DTYPE_BYTES[dtype])) for place in places]
        past, plain, done = b.label("past"), b.label("plain"), b.label("stored")
        if self.streamed and mask is None:
            b.branch(self.streamed, past, plain)
            b.start(past)
            for pointer, value in zip(pointers, values, strict=True):
                b.stream(dtype, self.width, value, pointer)
            b.jump(done)
            b.start(plain)
        for pointer, value in zip(pointers, values, strict=True):
            b.store(dtype, self.width, value, pointer, mask)
        if self.streamed and mask is None:
            b.jump(done)
            b.start(done)

    def _sum(self, x: str, w: str, c: str, job: dict[str, str], tile: _Tile, at: str, mask: str | None) -> None:
        """Adds the products of a tile's pixels to the sums of every tap."""
        b, count = self.b, tile.count
        x, w = self._channel(x, at), b.at(w, b.mul(at, self.size))
        place, given = b.add(c, at), []
        for t in range(count):
            given.append(self._load(b.at(self.arg["c"], b.mul(place, self.size)), mask))
            if t + 1 < count:
                place = b.add(place, self.arg["c_step"])

        def run(length: int, x_off: str, w_off: str, values: list[str]) -> list[str]:
            source, weight = b.at(x, x_off), b.at(w, w_off)
            for j, line in enumerate(self.lines):
                here = b.at(weight, line) if j else weight
                places = [self._offset(here, self.taps, k) for k in range(length)]
                sums = [self._load(p, mask) for p in places]
                for column, pairs in self._pairs(tile, length).items():
                    value = self._spread(self._column(self._offset(source, self.columns, column), mask), j)
                    for t, k in pairs:
                        sums[k] = self._multiply_add(value, given[t], sums[k])
                for p, value in zip(places, sums, strict=True):
                    b.store(self.spec.dtype, self.width, value, p, mask)
            return values

        self._each_run(job, [], run)
        self._prefetch(x, c, job, count, at)
