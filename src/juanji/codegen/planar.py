"""Pooling over planar images, vectorised along rows: for networks with fewer channels than a vector has lanes.

Each step loads as many vectors of a row as the stride, and takes them apart into one vector for each column of the
windows; gradients put such vectors together again before they are stored.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from juanji.codegen.builder import Builder
from juanji.codegen.expr import Emitter, Expr
from juanji.codegen.lanes import FLOATS, Lanes
from juanji.target import DTYPE_BYTES, LLVM_TYPE, Target

#: kind: how many inputs it has.
KINDS = {"max": 1, "avg": 1, "max_grad": 2, "avg_grad": 1}
#: The largest stride whose code is written out.
MOST = 4


@dataclass(frozen=True)
class PlanarSpec:
    """A window kernel over images stored as (image, channel, row, column), columns one element apart.

    The windows lie inside the image and do not overlap: `kernel <= stride <= 4`, no padding, no dilation, and
    `(OH - 1) * stride + kernel <= H < OH * stride + kernel` (OW and W likewise).

    Run-time arguments, one slot each: the first input, the second of "max_grad", the output, the extras, the sizes
    N, C, H, W, OH, OW, then byte strides (image, channel, row) of the first input, of the second, of the output. A
    chunk is one plane: chunk = image * C + channel. Nothing beyond the last column of a row is read or written, and
    every element of the output is written once.

    The kinds, with x in (N, C, H, W), y and dy in (N, C, OH, OW):

    - max(x), avg(x): pooling. NaN wins.
    - max_grad(dy, x): gradient of max pooling, finding the maximum again from x: the first one, or the last NaN.
    - avg_grad(dy): gradient of average pooling.

    Args:
        kind: one of the above.
        dtype: of the values, "f32" or "f64".
        kernel, stride: (vertical, horizontal).
        epilogue: what is stored, over ("acc", dtype) and ("load", dtype, i) of extras; None: the result. Gradients
            store it where no window is too, for a result of zero.
        extras: (dtype, class) of the epilogue's operands: class "c" has the output's shape and strides (in
            elements), "m" is one value for each channel, "s" a scalar.

    Raises:
        ValueError: the kind is unknown or the geometry or dtype is not possible for it.

    >>> PlanarSpec("max", "f32", (2, 2), (2, 2)).output
    'f32'
    """

    kind: str
    dtype: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    epilogue: Expr | None = None
    extras: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"planar window kind {self.kind!r} is not one of {', '.join(KINDS)}")
        if self.dtype not in FLOATS:
            raise ValueError(f"planar windows take dtype 'f32' or 'f64', not {self.dtype!r}")
        if not all(1 <= k <= s <= MOST for k, s in zip(self.kernel, self.stride, strict=True)):
            raise ValueError(f"planar windows need 1 <= kernel <= stride <= {MOST}, not {self.kernel}, {self.stride}")
        for extra in self.extras:
            if extra[1] not in ("c", "m", "s"):
                raise ValueError(f"the class of an extra input is 'c', 'm' or 's', not {extra[1]!r}")

    @property
    def grad(self) -> bool:
        """Whether the output is the larger image."""
        return self.kind.endswith("grad")

    @property
    def output(self) -> str:
        """Dtype of the output: the epilogue's where there is one."""
        return str(self.epilogue[1]) if self.epilogue is not None else self.dtype

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of the kernel."""
        return _Writer(self, name, target).write()


@dataclass
class _Columns:
    """One step along a row: its first window, and the masks of the windows and of the image's vectors."""

    window: str
    windows: str | None
    image: Sequence[str | None]


class _Writer:
    """Writes one kernel."""

    def __init__(self, spec: PlanarSpec, name: str, target: Target) -> None:
        self.spec = spec
        self.b = b = Builder(name, target)
        self.size = DTYPE_BYTES[spec.dtype]
        self.width = width = target.lanes(spec.dtype)
        self.v = Lanes(b, width)
        self.zero = self.v.const(spec.dtype, 0)
        slots = itertools.count()
        inputs = KINDS[spec.kind]
        self.ins = [b.arg_ptr(next(slots)) for _ in range(inputs)]
        out = b.arg_ptr(next(slots))
        self.extras = [b.arg_ptr(next(slots)) for _ in spec.extras]
        _, self.channels, self.height, self.columns, self.out_rows, self.windows = (
            b.arg_int(next(slots)) for _ in range(6)
        )
        self.in_strides = [[b.arg_int(next(slots)) for _ in range(3)] for _ in range(inputs)]
        strides = [b.arg_int(next(slots)) for _ in range(3)]

        # Streams move together through memory: the output and the extras laid out like it.
        self.streams = [(out, DTYPE_BYTES[spec.output])]
        self.stream_of: dict[int, int] = {}
        for i, (dtype, cls) in enumerate(spec.extras):
            if cls == "c":
                self.stream_of[i] = len(self.streams)
                self.streams.append((self.extras[i], DTYPE_BYTES[dtype]))
        self.strides = {size: self._scaled(strides, size) for _, size in self.streams}
        self.values = {i: b.load(dtype, 1, self.extras[i]) for i, (dtype, cls) in enumerate(spec.extras) if cls == "s"}

        # Whole steps: windows whose vectors of the image are all there. At most one step is left.
        whole = b.min(self.windows, b.op(f"udiv i64 {self.columns}, {spec.stride[1]}"))
        self.full = b.op(f"and i64 {whole}, {-width}")
        first = b.mul(self.full, spec.stride[1])
        self.left = b.compare("slt", first, self.columns) if spec.grad else b.compare("slt", self.full, self.windows)
        self.covered = b.add(first, width * spec.stride[1])
        self.by_bits = target.vector_bytes == 64
        self.lane_type = f"<{width} x i{8 * self.size}>"
        self.window_mask = self._kept(b.tail_mask(width, b.sub(self.windows, self.full)))
        left = b.sub(self.columns, first)
        self.image_masks = [self._kept(b.tail_mask(width, b.sub(left, k * width))) for k in range(spec.stride[1])]

    def _scaled(self, strides: list[str], size: int) -> list[str]:
        """The output's byte strides for elements of `size` bytes."""
        own = DTYPE_BYTES[self.spec.output]
        if size == own:
            return strides
        return [self.b.mul(self.b.op(f"sdiv exact i64 {stride}, {own}"), size) for stride in strides]

    # -- masks ----------------------------------------------------------------------------------------
    def _kept(self, mask: str) -> str:
        """A mask in the form that is kept between blocks: without mask registers, lanes whose sign counts."""
        return mask if self.by_bits else self.b.op(f"sext <{self.width} x i1> {mask} to {self.lane_type}")

    def _mask(self, kept: str) -> str:
        return kept if self.by_bits else self.b.op(f"icmp slt {self.lane_type} {kept}, zeroinitializer")

    # -- loops ----------------------------------------------------------------------------------------
    def write(self) -> str:
        """The module: a loop over planes, and in each over rows of windows."""
        b = self.b
        with b.loop("%begin", "%end") as chunk:
            image = b.op(f"udiv i64 {chunk.index}, {self.channels}")
            channel = b.sub(chunk.index, b.mul(image, self.channels))
            self.planes = [
                b.at(pointer, b.add(b.mul(image, strides[0]), b.mul(channel, strides[1])))
                for pointer, strides in zip(self.ins, self.in_strides, strict=True)
            ]
            place = {
                size: b.add(b.mul(image, strides[0]), b.mul(channel, strides[1]))
                for size, strides in self.strides.items()
            }
            self.out_planes = [b.at(pointer, place[size]) for pointer, size in self.streams]
            for i, (dtype, cls) in enumerate(self.spec.extras):
                if cls == "m":
                    self.values[i] = b.load(dtype, 1, b.at(self.extras[i], b.mul(channel, DTYPE_BYTES[dtype])))
            with b.loop(0, self.out_rows) as rows:
                (self.spread if self.spec.grad else self.pooled)(rows.index)
            if self.spec.grad:
                with b.loop(b.mul(self.out_rows, self.spec.stride[0]), self.height) as y:
                    self.clear(self.out_row(y.index), 0)
        return b.text()

    def over_windows(self, body: Callable[[_Columns], None]) -> None:
        """Calls `body` for whole steps along a row of windows and again for what is left."""
        b = self.b
        with b.loop(0, self.full, self.width) as loop:
            body(_Columns(loop.index, None, [None] * self.spec.stride[1]))
        with b.when(self.left):
            body(_Columns(self.full, self._mask(self.window_mask), [self._mask(m) for m in self.image_masks]))

    def in_row(self, which: int, row: str) -> str:
        """Pointer to a row of this plane of an input."""
        return self.b.at(self.planes[which], self.b.mul(row, self.in_strides[which][2]))

    def out_row(self, row: str) -> list[str]:
        """Pointers to a row of this plane of every stream."""
        b = self.b
        return [
            b.at(plane, b.mul(row, self.strides[size][2]))
            for plane, (_, size) in zip(self.out_planes, self.streams, strict=True)
        ]

    # -- memory ---------------------------------------------------------------------------------------
    def vectors(self, row: str, columns: _Columns) -> list[str]:
        """The vectors of an image's row that hold the windows' columns, and those between them."""
        b = self.b
        start = b.at(row, b.mul(columns.window, self.spec.stride[1] * self.size))
        step = self.width * self.size
        return [b.load(self.spec.dtype, self.width, b.at(start, k * step), m) for k, m in enumerate(columns.image)]

    def store(self, rows: list[str], column: str | int, mask: str | None, value: str) -> None:
        """Stores `value`, through the epilogue, from `column` on."""
        b, spec = self.b, self.spec
        places = [b.at(row, b.mul(column, size)) for row, (_, size) in zip(rows, self.streams, strict=True)]

        def extra(i: int) -> str:
            dtype, cls = spec.extras[i]
            if cls == "c":
                return b.load(dtype, self.width, places[self.stream_of[i]], mask)
            return b.splat(dtype, self.width, self.values[i])

        if spec.epilogue is not None:
            value = Emitter(b, self.width, extra, acc=value).emit(spec.epilogue)
        b.store(spec.output, self.width, value, places[0], mask)

    def clear(self, rows: list[str], start: str | int) -> None:
        """Stores zero, through the epilogue, in the columns from `start` on."""
        b = self.b
        with b.loop(start, self.columns, self.width) as loop:
            self.store(rows, loop.index, b.tail_mask(self.width, b.sub(self.columns, loop.index)), self.zero)

    def pick(self, vectors: list[str], lanes: Sequence[int]) -> str:
        """A vector of those lanes of `vectors`, numbered through."""
        width, element = self.width, LLVM_TYPE[self.spec.dtype]

        def shuffle(pair: Sequence[str], indices: Sequence[int]) -> str:
            operands = ", ".join(f"<{width} x {element}> {one}" for one in pair)
            return self.b.op(
                f"shufflevector {operands}, <{len(indices)} x i32> <{', '.join(f'i32 {i}' for i in indices)}>"
            )

        while len(vectors) > 2:  # an instruction has two operands
            pairs = itertools.zip_longest(vectors[::2], vectors[1::2], fillvalue="poison")
            vectors = [shuffle(pair, range(2 * width)) for pair in pairs]
            width *= 2
        return shuffle(vectors, lanes)

    def apart(self, vectors: list[str]) -> list[str]:
        """One vector for each column of the windows, from those of a row."""
        step = len(vectors)
        if step == 1:
            return vectors
        return [self.pick(vectors, [lane * step + j for lane in range(self.width)]) for j in range(self.spec.kernel[1])]

    def together(self, columns: list[str]) -> list[str]:
        """The vectors of a row, from one for each column between two windows' origins."""
        step, width = len(columns), self.width
        if step == 1:
            return columns
        flat = [(i % step) * width + i // step for i in range(step * width)]
        return [self.pick(columns, flat[k * width : (k + 1) * width]) for k in range(step)]

    # -- pooling --------------------------------------------------------------------------------------
    def pooled(self, row: str) -> None:
        """One row of windows of "max" or "avg": first down the windows, then across."""
        b, spec = self.b, self.spec
        top = b.mul(row, spec.stride[0])
        sources = [self.in_row(0, b.add(top, i)) for i in range(spec.kernel[0])]
        target = self.out_row(row)

        def body(columns: _Columns) -> None:
            lines = [self.vectors(source, columns) for source in sources]
            down = [self.combined(taps) for taps in zip(*lines, strict=True)]
            value = self.combined(self.apart(down))
            if spec.kind == "avg":
                value = self.average(value)
            self.store(target, columns.window, columns.windows, value)

        self.over_windows(body)

    def combined(self, taps: Sequence[str]) -> str:
        """The maximum or the sum."""
        value, dtype = taps[0], self.spec.dtype
        for tap in taps[1:]:
            is_max = self.spec.kind == "max"
            value = self.v.minmax("max", dtype, tap, value) if is_max else self.v.add(dtype, value, tap)
        return value

    def average(self, total: str) -> str:
        """A sum divided by the number of taps."""
        count, dtype = self.spec.kernel[0] * self.spec.kernel[1], self.spec.dtype
        if count & (count - 1) == 0:
            return self.v.mul(dtype, total, self.v.const(dtype, 1 / count))
        return self.v.div(dtype, total, self.v.const(dtype, count))

    # -- gradients ------------------------------------------------------------------------------------
    def spread(self, row: str) -> None:
        """One row of windows of a gradient, which owns the image's rows up to the next one's."""
        b, spec = self.b, self.spec
        top = b.mul(row, spec.stride[0])
        ys = [b.add(top, i) for i in range(spec.stride[0])]
        given = self.in_row(0, row)
        sources = [self.in_row(1, y) for y in ys[: spec.kernel[0]]] if spec.kind == "max_grad" else []
        targets = [self.out_row(y) for y in ys[: spec.kernel[0]]]

        def body(columns: _Columns) -> None:
            value = b.load(spec.dtype, self.width, b.at(given, b.mul(columns.window, self.size)), columns.windows)
            if spec.kind == "max_grad":
                share = self.handed_out(value, [self.apart(self.vectors(source, columns)) for source in sources])
            else:
                taps = itertools.product(range(spec.kernel[0]), range(spec.kernel[1]))
                share = dict.fromkeys(taps, self.average(value))
            start = b.mul(columns.window, spec.stride[1])
            for i, target in enumerate(targets):
                line = self.together([share.get((i, j), self.zero) for j in range(spec.stride[1])])
                for k, (vector, mask) in enumerate(zip(line, columns.image, strict=True)):
                    self.store(target, b.add(start, k * self.width), mask, vector)

        self.over_windows(body)
        for target in targets:
            self.clear(target, self.covered)
        for y in ys[spec.kernel[0] :]:  # between two rows of windows; below the last there may be less
            with b.when(b.compare("slt", y, self.height)):
                self.clear(self.out_row(y), 0)

    def handed_out(self, value: str, lines: list[list[str]]) -> dict[tuple[int, int], str]:
        """What each tap of a window gets: `value` at the maximum, else zero."""
        v, dtype = self.v, self.spec.dtype
        taps = {(i, j): tap for i, line in enumerate(lines) for j, tap in enumerate(line)}
        places = list(taps)
        best, won = taps[places[0]], []
        for place in places[1:]:
            tap = taps[place]
            more, nan = v.compare("ogt", dtype, tap, best), v.compare("uno", dtype, tap, tap)
            won.append(v.op("or", "b1", more, nan))
            best = v.select(dtype, won[-1], tap, best)
        # The last tap that took over is the maximum: the value goes back from there until it is taken.
        share = {}
        for place, took in zip(reversed(places[1:]), reversed(won), strict=True):
            share[place] = v.select(dtype, took, value, self.zero)
            value = v.select(dtype, took, self.zero, value)
        share[places[0]] = value
        return share
