"""What the window kernels share: arguments, clipping at borders, loops over channels, storing by epilogue."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from juanji.codegen.builder import Builder
from juanji.codegen.expr import Emitter
from juanji.codegen.lanes import FLOATS, UNSIGNED, Lanes
from juanji.target import DTYPE_BYTES, Target

if TYPE_CHECKING:
    from juanji.codegen.window import WindowSpec

UNROLL = 16  # most taps written out one by one
#: The identity of maxima.
LOWEST = {
    "f32": float("-inf"),
    "f64": float("-inf"),
    "u8": 0,
    "i8": -(2**7),
    "i16": -(2**15),
    "i32": -(2**31),
    "i64": -(2**63),
}


class Writer:
    """What all kinds share: arguments, clipping, channel loops and storing through the epilogue."""

    def __init__(self, spec: WindowSpec, name: str, target: Target) -> None:
        self.spec = spec
        self.b = b = Builder(name, target)
        size = DTYPE_BYTES[spec.dtype]
        # Sums and indices of narrow integers are 32 bits wide.
        self.width = target.vector_bytes // (size if spec.kind == "max" else max(4, size))
        self.v = Lanes(b, self.width)
        self.work = spec.dtype if spec.kind != "avg" or size >= 4 else "i32"
        self.rel = "i64" if size == 8 else "i32"  # positions within one window: as wide as the values

        slots = itertools.count()
        self.ins = [b.arg_ptr(next(slots)) for _ in spec.inputs]
        self.out = b.arg_ptr(next(slots))
        self.extras = [b.arg_ptr(next(slots)) for _ in spec.extras]
        _, height, width, self.channels, out_height, out_width = (b.arg_int(next(slots)) for _ in range(6))
        self.image = (height, width)
        self.windows = (out_height, out_width)
        self.in_strides = [[b.arg_int(next(slots)) for _ in range(3)] for _ in spec.inputs]
        strides = [b.arg_int(next(slots)) for _ in range(3)]

        # Streams move together through memory: the output and the extras laid out like it.
        self.streams = [(self.out, DTYPE_BYTES[spec.output])]
        self.stream_of: dict[int, int] = {}
        for i, (dtype, cls) in enumerate(spec.extras):
            if cls == "c":
                self.stream_of[i] = len(self.streams)
                self.streams.append((self.extras[i], DTYPE_BYTES[dtype]))
        self.strides = {size: self._scaled(strides, size) for _, size in self.streams}
        self.scalars = {i: b.load(dtype, 1, self.extras[i]) for i, (dtype, cls) in enumerate(spec.extras) if cls == "s"}
        self.full = b.op(f"and i64 {self.channels}, {-self.width}")
        rest = b.sub(self.channels, self.full)
        self.tails = self._tails(rest, target.vector_bytes)

    def _tails(self, rest: str, vector_bytes: int) -> list[tuple[int, str, str]]:
        """(lanes, condition, mask) of the ways to do the `rest` channels that do not fill a vector."""
        b, width = self.b, self.width
        if vector_bytes < 64:
            # Between blocks LLVM narrows a vector of i1; whole lanes are what AVX2's masked moves want.
            self.lane_type = f"<{width} x i{8 * vector_bytes // width}>"
            mask = b.op(f"sext <{width} x i1> {b.tail_mask(width, rest)} to {self.lane_type}")
            return [(width, b.compare("ne", rest, 0), mask)]
        # Few channels, as in a first layer: half a vector crosses fewer cache lines.
        self.lane_type = ""
        half = width // 2
        some, few = b.compare("ne", rest, 0), b.compare("sle", rest, half)
        narrow = b.op(f"and i1 {some}, {few}")
        return [
            (half, narrow, b.tail_mask(half, rest)),
            (width, b.compare("sgt", rest, half), b.tail_mask(width, rest)),
        ]

    def _scaled(self, strides: list[str], size: int) -> list[str]:
        """The output's byte strides for elements of `size` bytes."""
        own = DTYPE_BYTES[self.spec.output]
        if size == own:
            return strides
        return [self.b.mul(self.b.op(f"sdiv exact i64 {stride}, {own}"), size) for stride in strides]

    def write(self) -> str:
        """The module: a loop over chunks around what the kind does for one row."""
        b, spec = self.b, self.spec
        rows = self.image[0] if spec.by_image_rows else self.windows[0]
        self.prepare()
        with b.loop("%begin", "%end") as chunk:
            image = b.op(f"udiv i64 {chunk.index}, {rows}")
            self.row(image, b.sub(chunk.index, b.mul(image, rows)))
        return b.text()

    def prepare(self) -> None:
        """Writes what no chunk changes."""

    def row(self, image: str, row: str) -> None:
        """Writes the work of one chunk."""
        raise AssertionError("each kind writes its own row")

    # -- positions ------------------------------------------------------------------------------------
    def out_rows(self, image: str, row: str) -> list[str]:
        """Pointers to row `row` of every stream."""
        b = self.b
        return [
            b.at(pointer, b.add(b.mul(image, self.strides[size][0]), b.mul(row, self.strides[size][1])))
            for pointer, size in self.streams
        ]

    def out_column(self, column: str) -> dict[int, str]:
        """Byte offsets of a column within a row, by element size."""
        return {size: self.b.mul(column, strides[2]) for size, strides in self.strides.items()}

    def in_row(self, which: int, image: str, row: str) -> str:
        """Pointer to a row of an input; the row may lie outside the image if nothing is read there."""
        b = self.b
        n, h, _ = self.in_strides[which]
        return b.at(self.ins[which], b.add(b.mul(image, n), b.mul(row, h)))

    def scale(self, value: str, by: int) -> str:
        """`value * by`, for a compile-time `by`."""
        return value if by == 1 else self.b.mul(value, by)

    def quotient(self, value: str, by: int) -> str:
        """`max(value, 0) // by`."""
        value = self.b.max(value, 0)
        return value if by == 1 else self.b.op(f"udiv i64 {value}, {by}")

    def origin(self, axis: int, window: str) -> str:
        """Where a window begins; negative within the padding."""
        start = self.scale(window, self.spec.stride[axis])
        return self.b.sub(start, self.spec.padding[axis]) if self.spec.padding[axis] else start

    def taps(self, axis: int, origin: str) -> tuple[str, str]:
        """The range of taps of a window that lie inside the image."""
        b, step = self.b, self.spec.dilation[axis]
        first = self.quotient(b.sub(step - 1, origin), step)
        last = self.quotient(b.add(b.sub(self.image[axis], origin), step - 1), step)
        return first, b.max(first, b.min(last, self.spec.kernel[axis]))

    def inner(self, axis: int, extent: int) -> tuple[str, str]:
        """The range of windows that lie, `extent` long, inside the image."""
        b, step, pad = self.b, self.spec.stride[axis], self.spec.padding[axis]
        first = b.min(self.windows[axis], -(-pad // step))
        last = self.quotient(b.add(self.image[axis], step + pad - extent), step)
        return first, b.max(first, b.min(last, self.windows[axis]))

    # -- vectors --------------------------------------------------------------------------------------
    def over_channels(self, body: Callable[[str, str | None], None]) -> None:
        """Calls `body(channel, mask)` for whole vectors of channels and again for what is left."""
        b = self.b
        with b.loop(0, self.full, self.width) as loop:
            body(loop.index, None)
        for lanes, condition, mask in self.tails:
            with b.when(condition), self.lanes(lanes):
                if self.lane_type:
                    mask = b.op(f"icmp slt {self.lane_type} {mask}, zeroinitializer")
                body(self.full, mask)

    @contextmanager
    def lanes(self, width: int) -> Iterator[None]:
        """Vectors of `width` lanes for a while."""
        before, self.width, self.v = (self.width, self.v), width, Lanes(self.b, width)
        yield
        self.width, self.v = before

    def prefetch(self, pointer: str, offset: str) -> None:
        """Asks for the cache line of what a following row will read; outside the image it does no harm."""
        name = self.b.declare("llvm.prefetch.p0", "void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        self.b.emit(f"call void {name}(ptr {self.b.at(pointer, offset)}, i32 0, i32 2, i32 1)")

    def value(self, dtype: str, pointer: str, offset: str, mask: str | None) -> str:
        """A vector at `offset` bytes from `pointer`."""
        return self.b.load(dtype, self.width, self.b.at(pointer, offset), mask)

    def offset(self, dtype: str, column: str, channel: str) -> str:
        """Byte offset of a channel of a pixel."""
        return self.b.add(column, self.scale(channel, DTYPE_BYTES[dtype]))

    def store(self, rows: list[str], column: dict[int, str], channel: str, mask: str | None, value: str) -> None:
        """Stores `value`, through the epilogue, at a column of the streams' rows."""
        b, spec = self.b, self.spec
        offsets = {size: b.add(at, self.scale(channel, size)) for size, at in column.items()}

        def extra(i: int) -> str:
            dtype, cls = spec.extras[i]
            size = DTYPE_BYTES[dtype]
            if cls == "s":
                return b.splat(dtype, self.width, self.scalars[i])
            if cls == "n":
                return self.value(dtype, self.extras[i], self.scale(channel, size), mask)
            return self.value(dtype, rows[self.stream_of[i]], offsets[size], mask)

        if spec.epilogue is not None:
            value = Emitter(b, self.width, extra, acc=value).emit(spec.epilogue)
        b.store(spec.output, self.width, value, b.at(rows[0], offsets[DTYPE_BYTES[spec.output]]), mask)

    def splat(self, dtype: str, value: str) -> str:
        """A vector of an i64 register converted to `dtype`."""
        if dtype in FLOATS:
            value = self.b.op(f"sitofp i64 {value} to {'float' if dtype == 'f32' else 'double'}")
        elif dtype != "i64":
            value = self.b.op(f"trunc i64 {value} to i32")
        return self.b.splat(dtype, self.width, value)

    # -- windows --------------------------------------------------------------------------------------
    tap_strides: list[str]
    inner_columns: tuple[str, str]

    def wins(self, value: str, best: str) -> str:
        """Whether a later tap takes over from the best so far."""
        dtype = self.spec.dtype
        if dtype not in FLOATS:
            return self.v.compare("ugt" if dtype in UNSIGNED else "sgt", dtype, value, best)
        more = self.v.compare("ogt", dtype, value, best)
        return self.v.op("or", "b1", more, self.v.compare("uno", dtype, value, value))

    def over_taps(
        self,
        source: str,
        here: str,
        ranges: tuple[tuple[str, str], tuple[str, str]],
        mask: str | None,
        initial: Sequence[tuple[str, str]],
        step: Callable[[list[str], str, str, str], list[str]],
    ) -> list[str]:
        """Run-time loops over the taps in `ranges` of the first input, carrying `initial` (dtype, register).

        `step(carried, tap, y, x)` gives the next values; y and x are distances from the window's origin.
        """
        b, (down, across) = self.b, self.spec.dilation
        _, line, column = self.tap_strides
        typed = [self.v.type(dtype) for dtype, _ in initial]
        outer = list(zip(typed, (value for _, value in initial), strict=True))
        with b.loop(*ranges[0], carried=outer) as i:
            y = self.scale(i.index, down)
            pointer = b.at(source, b.mul(y, line))
            with b.loop(*ranges[1], carried=list(zip(typed, i.values, strict=True))) as j:
                x = self.scale(j.index, across)
                tap = self.value(self.spec.dtype, pointer, b.add(here, b.mul(x, column)), mask)
                j.next(step(j.values, tap, y, x))
            i.next(j.results)
        return i.results

    def best_tap(
        self,
        source: str,
        here: str,
        ranges: tuple[tuple[str, str], tuple[str, str]],
        mask: str | None,
        pitch: str | int,
    ) -> str:
        """Position y * pitch + x in its window of the maximum, as a vector of `self.rel`."""
        b, v, dtype = self.b, self.v, self.spec.dtype
        down, across = self.spec.dilation
        first = b.add(b.mul(self.scale(ranges[0][0], down), pitch), self.scale(ranges[1][0], across))

        def step(carried: list[str], tap: str, y: str, x: str) -> list[str]:
            won = self.wins(tap, carried[0])
            place = self.splat(self.rel, b.add(b.mul(y, pitch), x))
            return [v.select(dtype, won, tap, carried[0]), v.select(self.rel, won, place, carried[1])]

        lowest = v.const(dtype, LOWEST[dtype])
        initial = ((dtype, lowest), (self.rel, self.splat(self.rel, first)))
        return self.over_taps(source, here, ranges, mask, initial, step)[1]

    def count(self, axis: int, origin: str, taps: tuple[str, str]) -> str:
        """How many taps of a window an average counts along one axis."""
        b, spec = self.b, self.spec
        if not spec.count_include_pad:
            return b.sub(taps[1], taps[0])
        step, pad = spec.dilation[axis], spec.padding[axis]
        beyond = b.add(b.sub(self.image[axis], origin), pad + step - 1)
        return b.min(self.quotient(beyond, step), spec.kernel[axis])

    def average(self, total: str, count: str | None = None) -> str:
        """A sum divided by an i64 count, or by that of windows inside the image."""
        v, spec, work = self.v, self.spec, self.work
        constant = spec.divisor or spec.kernel[0] * spec.kernel[1]
        fixed = count is None or spec.divisor != 0
        if work in FLOATS and fixed and constant > 0 and constant & (constant - 1) == 0:
            return v.op("fmul", work, total, v.const(work, 1 / constant))
        by = v.const(work, constant) if fixed else self.splat(work, self.b.max(str(count), 1))
        total = v.op("fdiv" if work in FLOATS else "sdiv", work, total, by)
        return v.cast(work, spec.dtype, total)

    def tap_steps(self) -> list[list[str]]:
        """Bytes from a window's origin to each of its taps, by axis."""
        down, across = self.tap_strides[1:]
        return [
            [self.b.mul(stride, k * self.spec.dilation[axis]) for k in range(self.spec.kernel[axis])]
            for axis, stride in enumerate((down, across))
        ]

    def new_steps(self) -> list[list[str]]:
        """Bytes to the image rows that the next row of windows is first to read, and to one column a phase.

        Reading a row of windows ahead is worth a factor of two where images come from memory: hardware
        prefetching stops at every page.
        """
        spec = self.spec
        now, then = ({first + k * spec.dilation[0] for k in range(spec.kernel[0])} for first in (0, spec.stride[0]))
        columns = {k * spec.dilation[1] % spec.stride[1]: k * spec.dilation[1] for k in range(spec.kernel[1])}
        return [
            [self.b.mul(self.tap_strides[1], row) for row in sorted(then - now)],
            [self.b.mul(self.tap_strides[2], column) for column in sorted(columns.values())],
        ]

    def windows_inside(self, image_row: str, extent: int) -> tuple[str, str]:
        """First and last window inside the image of the row of windows that begins at `image_row`."""
        b = self.b
        fits = b.compare("sle", b.add(image_row, extent), self.image[0])
        inside = b.op(f"and i1 {fits}, {b.compare('sge', image_row, 0)}")
        first, last = self.inner_columns
        return b.select(inside, first, self.windows[1]), b.select(inside, last, self.windows[1])

    def over_windows(
        self, inside: tuple[str, str] | None, middle: Callable[[str], None], edge: Callable[[str], None]
    ) -> None:
        """`middle` for the windows of a row in `inside`, `edge` for the others; each is written once."""
        b = self.b
        if inside is None:
            with b.loop(0, self.windows[1]) as loop:
                edge(loop.index)
            return
        first, last = inside
        with b.loop(0, 2) as part:
            right = b.compare("ne", part.index, 0)
            with b.loop(b.select(right, last, 0), b.select(right, self.windows[1], first)) as loop:
                edge(loop.index)
            with b.loop(first, b.select(right, first, last)) as loop:
                middle(loop.index)
