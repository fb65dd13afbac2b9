"""The weight gradient of a convolution of planar images, with the sum along the lanes of vectors.

For networks of few channels: where channels do not fill a vector, rows of pixels do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from juanji.codegen.builder import Builder, vector_type
from juanji.codegen.lanes import FLOATS, Lanes
from juanji.target import DTYPE_BYTES, Target

#: The most output channels, and the most weights of one kernel: their sums are kept on the stack.
MOST_OUTS, MOST_TAPS = 8, 64
#: Bytes of dy whose products are summed in registers before they are added to the sums in memory: these rows, and
#: those of x, are then still in the first-level cache for the next row of the kernel.
_BLOCK = 32 * 1024
#: Sums of a tile that hide the latency of a multiply-add.
_CHAINS = 8


def tiles(outs: int, width: int, registers: int, shifting: bool = False) -> tuple[int, int]:
    """Output channels and kernel columns of a register tile: of those whose sums fit, the one of the shortest time.

    Args:
        shifting: whether neighbouring columns come from shifting one vector.

    >>> tiles(6, 3, 32, True), tiles(6, 3, 16), tiles(8, 5, 32)
    ((6, 3), (3, 3), (8, 3))
    """

    def cost(shape: tuple[int, int]) -> tuple[float, int]:
        time = 0.0
        for o in _split(outs, shape[0]):
            for k in _split(width, shape[1]):
                # Two multiply-adds or two loads at a time; loads that cross a cache line are two.
                time += max(_CHAINS, o * k, 1.5 * (o + k))
        return time, -shape[0]

    # Besides the sums: one row of operands, one of the other kind, and a mask. Each shift keeps its indices, and two
    # registers are for copies of what is shifted.
    fitting = [
        (o, k)
        for o in range(1, outs + 1)
        for k in range(1, width + 1)
        if o * k + min(o, k) + 2 + (k + 1) * (shifting and k > 1) <= registers
        and (o, k) == (_split(outs, o)[0], _split(width, k)[0])
    ]
    return min(fitting, key=cost)


def _split(total: int, most: int) -> list[int]:
    """Parts of at most `most`, as equal as can be, the largest first."""
    count = -(-total // most)
    return [(total + count - 1 - i) // count for i in range(count)]


@dataclass(frozen=True)
class CorrelateSpec:
    """A kernel for dw[o, i, kh, kw] = the sum over n, y, x of dy[n, o, y, x] * x[n, i, y + kh, x + kw].

    Run-time arguments, one slot each: dy, x, dw, the sizes N, I (input channels), OH, OW, byte strides of dy (image,
    channel, row), of x (image, channel, row), of dw (o, i). Columns of dy and x are one element apart, and so are kh,
    kw of dw, in C order. Chunk i * KH + kh is row kh of the kernel for input channel i; chunks of one i that are done
    in one call share their loads of dy from memory. Nothing beyond column OW of dy or OW + KW - 1 of x is read, and
    dw is written, not added to.

    Each lane sums a block of rows in a register, then the blocks of all images in order in memory; the lanes are added
    in pairs at the end. The order never depends on how chunks are divided.

    Args:
        dtype: "f32" or "f64".
        outs: output channels, 1 to 8.
        kernel: (KH, KW), of at most 64 weights.

    Raises:
        ValueError: one of these is not possible.
    """

    dtype: str
    outs: int
    kernel: tuple[int, int]

    def __post_init__(self) -> None:
        if self.dtype not in FLOATS:
            raise ValueError(f"a correlation's dtype is 'f32' or 'f64', not {self.dtype!r}")
        if not 1 <= self.outs <= MOST_OUTS:
            raise ValueError(f"a correlation has 1 to {MOST_OUTS} output channels, not {self.outs}")
        if min(self.kernel) < 1 or self.kernel[0] * self.kernel[1] > MOST_TAPS:
            raise ValueError(f"a correlation's kernel has 1 to {MOST_TAPS} weights, not {self.kernel}")

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of the kernel."""
        return _Writer(self, name, target).write()


class _Writer:
    """Writes one kernel; the attributes are registers that live through it."""

    def __init__(self, spec: CorrelateSpec, name: str, target: Target) -> None:
        self.spec = spec
        self.b = b = Builder(name, target)
        self.size = DTYPE_BYTES[spec.dtype]
        self.lanes = target.lanes(spec.dtype)
        self.bytes = target.vector_bytes
        self.vtype = vector_type(spec.dtype, self.lanes)
        self.row_sums = spec.outs * spec.kernel[1]  # vectors of one row of the kernel
        self.sums = b.stack(f"[{spec.kernel[0] * self.row_sums} x {self.vtype}]")
        self.dy, self.x, self.dw = (b.arg_ptr(slot) for slot in range(3))
        self.images, _, self.rows, self.columns = (b.arg_int(slot) for slot in range(3, 7))
        self.dy_image, self.dy_out, self.dy_row = (b.arg_int(slot) for slot in range(7, 10))
        self.x_image, self.x_in, self.x_row = (b.arg_int(slot) for slot in range(10, 13))
        self.dw_out, self.dw_in = (b.arg_int(slot) for slot in range(13, 15))

        self.outs = [b.at(self.dy, b.mul(self.dy_out, o) if o else 0) for o in range(spec.outs)]
        full = b.op(f"and i64 {self.columns}, {-self.lanes}")
        self.full_bytes = b.mul(full, self.size)
        self.end_bytes = b.mul(self.columns, self.size)
        mask = b.tail_mask(self.lanes, b.sub(self.columns, full))
        # Without mask registers a mask is kept as lanes whose sign counts.
        self.lane_type = "" if self.bytes == 64 else f"<{self.lanes} x i{8 * self.size}>"
        self.mask = b.op(f"sext <{self.lanes} x i1> {mask} to {self.lane_type}") if self.lane_type else mask
        self.tall, self.wide = tiles(spec.outs, spec.kernel[1], target.registers, shifting=self.bytes == 64)
        # Where most loads cross a cache line and one instruction shifts a pair of vectors, the taps of a row are
        # shifts: by their number, the masks of the two vectors that hold the end of a row of x.
        self.ends: dict[int, tuple[str, str]] = {}
        for taps in {*_split(spec.kernel[1], self.wide)} if self.bytes == 64 else ():
            held = b.add(b.sub(self.columns, full), taps - 1)
            if 1 < taps <= self.lanes:
                self.ends[taps] = b.tail_mask(self.lanes, held), b.tail_mask(self.lanes, b.sub(held, self.lanes))
        a_row = b.max(b.op(f"udiv i64 {b.add(self.columns, self.lanes - 1)}, {self.lanes}"), 1)
        wanted = max(1, _BLOCK // (self.bytes * spec.outs))
        self.block_rows = b.max(b.op(f"udiv i64 {wanted}, {a_row}"), 1)

    def write(self) -> str:
        """The module: a loop over input channels, each with the rows of the kernel that were asked for."""
        b, high = self.b, self.spec.kernel[0]
        some = b.compare("slt", "%begin", "%end")
        first = b.op(f"udiv i64 %begin, {high}")
        stop = b.select(some, b.op(f"udiv i64 {b.add('%end', high - 1)}, {high}"), first)
        with b.loop(first, stop) as channel:
            chunk = b.mul(channel.index, high)
            begin, end = b.max(b.sub("%begin", chunk), 0), b.min(b.sub("%end", chunk), high)
            self.clear(begin, end)
            source = b.at(self.x, b.mul(channel.index, self.x_in))
            with b.loop(0, self.images) as image, b.loop(0, self.rows, self.block_rows) as block:
                last = b.min(b.add(block.index, self.block_rows), self.rows)
                given = b.mul(image.index, self.dy_image)
                picture = b.at(source, b.mul(image.index, self.x_image))
                with b.loop(begin, end) as kh:
                    below = b.at(picture, b.mul(kh.index, self.x_row))
                    sums = b.at(self.sums, b.mul(kh.index, self.row_sums * self.bytes))
                    self.block((block.index, last), given, below, sums)
            self.finish(begin, end, b.at(self.dw, b.mul(channel.index, self.dw_in)))
        return b.text()

    def clear(self, begin: str, end: str) -> None:
        """Sets the sums of rows `begin` to `end` of the kernel to zero."""
        b = self.b
        with b.loop(b.mul(begin, self.row_sums), b.mul(end, self.row_sums)) as loop:
            where = b.at(self.sums, b.mul(loop.index, self.bytes))
            b.store(self.spec.dtype, self.lanes, "zeroinitializer", where)

    # -- sums -----------------------------------------------------------------------------------------
    def block(self, rows: tuple[str, str], given: str, below: str, sums: str) -> None:
        """Adds the products of some rows of one image for one row of the kernel.

        Args:
            rows: the first of dy, and the one after the last.
            given: bytes to the image in dy.
            below: the image of x, moved down by the row of the kernel.
            sums: where this row's sums are.
        """
        o = 0
        for outs in _split(self.spec.outs, self.tall):
            kw = 0
            for taps in _split(self.spec.kernel[1], self.wide):
                self.tile(rows, given, below, sums, range(o, o + outs), range(kw, kw + taps))
                kw += taps
            o += outs

    def tile(
        self, rows: tuple[str, str], given: str, below: str, sums: str, outs: Sequence[int], taps: Sequence[int]
    ) -> None:
        """The same for some output channels and columns of the kernel, whose sums stay in registers."""
        b = self.b
        places = [(o, k) for o in outs for k in taps]
        with b.loop(*rows, carried=[(self.vtype, "zeroinitializer")] * len(places)) as y:
            row = b.add(given, b.mul(y.index, self.dy_row))
            line = b.at(below, b.mul(y.index, self.x_row))
            with b.loop(0, self.full_bytes, self.bytes, self.typed(y.values)) as x:
                x.next(self.products(row, line, x.index, None, x.values, outs, taps))
            # A loop of at most one step: what is left of the row.
            with b.loop(self.full_bytes, self.end_bytes, self.bytes, self.typed(x.results)) as rest:
                mask = self.mask
                if self.lane_type:
                    mask = b.op(f"icmp slt {self.lane_type} {mask}, zeroinitializer")
                rest.next(self.products(row, line, rest.index, mask, rest.values, outs, taps))
            y.next(rest.results)
        for (o, k), value in zip(places, y.results, strict=True):
            where = b.at(sums, (o * self.spec.kernel[1] + k) * self.bytes)
            held = b.load(self.spec.dtype, self.lanes, where)
            total = b.op(f"fadd {self.vtype} {held}, {value}")
            b.store(self.spec.dtype, self.lanes, total, where)

    def typed(self, values: Sequence[str]) -> list[tuple[str, str]]:
        """Values as a loop carries them."""
        return [(self.vtype, value) for value in values]

    def products(
        self, row: str, line: str, at: str, mask: str | None, sums: list[str], outs: Sequence[int], taps: Sequence[int]
    ) -> list[str]:
        """The sums plus the products of one vector of each output channel with one of each tap."""
        b, dtype, lanes = self.b, self.spec.dtype, self.lanes
        place, start = b.add(row, at), b.at(line, at)

        def dy(o: int) -> str:
            return b.load(dtype, lanes, b.at(self.outs[o], place), mask)

        def x(k: int) -> str:
            return b.load(dtype, lanes, b.at(start, k * self.size), mask)

        new = list(sums)
        # The fewer operands are kept, the others are loaded one after the other.
        if len(outs) < len(taps):
            kept = [dy(o) for o in outs]
            for j, k in enumerate(taps):
                value = x(k)
                for i in range(len(outs)):
                    slot = i * len(taps) + j
                    new[slot] = b.fma(dtype, lanes, kept[i], value, sums[slot])
            return new
        kept = self.shifted(start, taps, mask) if len(taps) in self.ends else [x(k) for k in taps]
        for i, o in enumerate(outs):
            value = dy(o)
            for j in range(len(taps)):
                slot = i * len(taps) + j
                new[slot] = b.fma(dtype, lanes, value, kept[j], sums[slot])
        return new

    def shifted(self, start: str, taps: Sequence[int], mask: str | None) -> list[str]:
        """The vectors of x for some neighbouring taps, made from two loads."""
        b, dtype, lanes = self.b, self.spec.dtype, self.lanes
        where = b.at(start, taps[0] * self.size)
        after = b.at(where, self.bytes)
        first, following = self.ends[len(taps)] if mask else (None, None)
        low = b.load(dtype, lanes, where, first)
        if mask:
            high = b.load(dtype, lanes, after, following)
        else:  # no more than the last tap needs
            more = len(taps) - 1
            high = b.load(dtype, more, after)
            if more == 1:
                high = b.op(f"insertelement {self.vtype} poison, {vector_type(dtype, 1)} {high}, i64 0")
            else:
                indices = ", ".join(f"i32 {i if i < more else 'poison'}" for i in range(lanes))
                vtype = vector_type(dtype, more)
                high = b.op(f"shufflevector {vtype} {high}, {vtype} poison, <{lanes} x i32> <{indices}>")
        v, found = Lanes(b, lanes), []
        for j in range(len(taps)):
            value = low
            if j:
                indices = ", ".join(f"i32 {i + j}" for i in range(lanes))
                value = b.op(f"shufflevector {self.vtype} {low}, {self.vtype} {high}, <{lanes} x i32> <{indices}>")
            # Lanes beyond the row must be zero like those of dy: they may hold what is not a number.
            found.append(v.select(dtype, mask, value, "zeroinitializer") if mask else value)
        return found

    # -- results --------------------------------------------------------------------------------------
    def finish(self, begin: str, end: str, target: str) -> None:
        """Adds the lanes of the sums in pairs, and stores them."""
        b, spec = self.b, self.spec
        wide = spec.kernel[1]
        with b.loop(begin, end) as kh:
            sums = b.at(self.sums, b.mul(kh.index, self.row_sums * self.bytes))
            place = b.at(target, b.mul(kh.index, wide * self.size))
            with b.loop(0, spec.outs) as o:
                held = b.at(sums, b.mul(o.index, wide * self.bytes))
                row = b.at(place, b.mul(o.index, self.dw_out))
                for k in range(wide):
                    value, lanes = b.load(spec.dtype, self.lanes, b.at(held, k * self.bytes)), self.lanes
                    while lanes > 1:
                        halves = [self.half(value, lanes, part) for part in (0, 1)]
                        lanes //= 2
                        value = Lanes(b, lanes).add(spec.dtype, *halves)
                    b.store(spec.dtype, 1, value, b.at(row, k * self.size))

    def half(self, value: str, lanes: int, part: int) -> str:
        """One half of a vector."""
        vtype = vector_type(self.spec.dtype, lanes)
        if lanes == 2:
            return self.b.op(f"extractelement {vtype} {value}, i64 {part}")
        indices = ", ".join(f"i32 {part * lanes // 2 + i}" for i in range(lanes // 2))
        return self.b.op(f"shufflevector {vtype} {value}, {vtype} poison, <{lanes // 2} x i32> <{indices}>")
