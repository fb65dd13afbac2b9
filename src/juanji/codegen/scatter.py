"""The input gradient of a convolution whose own gradient lies at the maxima of windows and is zero elsewhere.

Each output channel has one value for each pooling window, at one of a few positions. Wherever it is, what it adds to
lies inside one patch of the input, the same for all channels. So the weights are kept once for each position, moved
there inside a patch of zeros, and the patch of a window is a sum of such patches: it stays in registers, and is added
to the image once.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from juanji.codegen.builder import Builder, vector_type
from juanji.codegen.lanes import FLOATS, Lanes, literal
from juanji.target import DTYPE_BYTES, Target

#: Bytes of moved weights: for each window the weights of one position are read, from the second-level cache if need be.
MOST_BYTES = 128 * 1024


@dataclass(frozen=True)
class Patch:
    """The patch of a window.

    Args:
        ins: channels.
        kernel: (KH, KW) of the convolution.
        window: (height, width) of the pooling window.

    >>> Patch(6, (3, 3), (2, 2)).size, Patch(6, (3, 3), (2, 2)).elements
    ((4, 4), 96)
    """

    ins: int
    kernel: tuple[int, int]
    window: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Its lines and columns."""
        return self.kernel[0] + self.window[0] - 1, self.kernel[1] + self.window[1] - 1

    @property
    def elements(self) -> int:
        """Of all channels, which lie plane by plane."""
        return self.ins * self.size[0] * self.size[1]

    @property
    def weights(self) -> int:
        """The weights of one output channel."""
        return self.ins * self.kernel[0] * self.kernel[1]

    @property
    def positions(self) -> list[tuple[int, int]]:
        """Those in the window, in C order."""
        return list(itertools.product(range(self.window[0]), range(self.window[1])))

    def vectors(self, lanes: int) -> int:
        """How many vectors hold it."""
        return -(-self.elements // lanes)

    def source(self, at: int, position: tuple[int, int]) -> int | None:
        """Which weight of an output channel, [ins, KH, KW], is element `at` of the patch; None: a zero."""
        plane, column = divmod(at, self.size[1])
        channel, row = divmod(plane, self.size[0])
        row, column = row - position[0], column - position[1]
        if channel < self.ins and 0 <= row < self.kernel[0] and 0 <= column < self.kernel[1]:
            return (channel * self.kernel[0] + row) * self.kernel[1] + column
        return None

    def target(self, weight: int, position: tuple[int, int]) -> int:
        """Which element of the patch a weight of an output channel is, moved to a position."""
        plane, column = divmod(weight, self.kernel[1])
        channel, row = divmod(plane, self.kernel[0])
        return (channel * self.size[0] + row + position[0]) * self.size[1] + column + position[1]


@dataclass(frozen=True)
class MoveSpec:
    """A kernel that moves weights [O, ins, KH, KW] to each position of a window: [O, position, vectors of a patch].

    Run-time arguments: the weights, the result. A chunk is one output channel.
    """

    dtype: str
    patch: Patch

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of the kernel."""
        b, patch, dtype = Builder(name, target), self.patch, self.dtype
        size, lanes = DTYPE_BYTES[dtype], target.lanes(dtype)
        vtype, vectors = vector_type(dtype, lanes), patch.vectors(lanes)
        weights, result = b.arg_ptr(0), b.arg_ptr(1)
        with b.loop("%begin", "%end") as out:
            kernel = b.at(weights, b.mul(out.index, patch.weights * size))
            target_ = b.at(result, b.mul(out.index, len(patch.positions) * vectors * target.vector_bytes))
            for number, (position, v) in enumerate(itertools.product(patch.positions, range(vectors))):
                sources = [patch.source(v * lanes + i, position) for i in range(lanes)]
                # Those that are weights follow one another in memory, too.
                first = min((s for s in sources if s is not None), default=None)
                value = "zeroinitializer"
                if first is not None:
                    count = sum(s is not None for s in sources)
                    mask = ", ".join(f"i1 {'true' if i < count else 'false'}" for i in range(lanes))
                    held = b.load(dtype, lanes, b.at(kernel, first * size), f"<{mask}>")
                    places = ", ".join(f"i32 {lanes if s is None else s - first}" for s in sources)
                    value = b.op(f"shufflevector {vtype} {held}, {vtype} zeroinitializer, <{lanes} x i32> <{places}>")
                b.store(dtype, lanes, value, b.at(target_, number * target.vector_bytes))
        return b.text()


@dataclass(frozen=True)
class ScatterSpec:
    """A kernel for dx = conv_input_grad(max_pool_grad(g, y), w), with windows that do not overlap and no padding.

    Run-time arguments, one slot each: g [N, O, PH, PW], y [N, O, OH, OW], w as `MoveSpec` makes it, dx [N, ins, H, W],
    the sizes PH, PW, H, W, byte strides of g (image, row, column), of y (image, row, column). Channels of g and y are
    one element apart, dx is in C order, and all of it is written. A chunk is one image.

    The maximum is the first one, or the last NaN. The values of a window are added in the order of output channels,
    the windows of an image in C order. A value that is not finite makes its whole patch so.

    Args:
        dtype: "f32" or "f64".
        outs: output channels.
        patch: of a window.
        stride: of the windows.

    Raises:
        ValueError: the dtype is not possible.
    """

    dtype: str
    outs: int
    patch: Patch
    stride: tuple[int, int]

    def __post_init__(self) -> None:
        if self.dtype not in FLOATS:
            raise ValueError(f"scattered gradients are of dtype 'f32' or 'f64', not {self.dtype!r}")

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of the kernel."""
        return _Writer(self, name, target).write()


class Maxima:
    """What kernels over the maxima of windows share: it finds them, for all channels of a window.

    Args:
        b: where instructions go.
        dtype, outs, patch: of the kernel.
        windows: for how many windows values and places are kept.
    """

    def __init__(self, b: Builder, dtype: str, outs: int, patch: Patch, windows: int = 1) -> None:
        self.b, self.dtype, self.outs, self.patch = b, dtype, outs, patch
        self.size, self.lanes = DTYPE_BYTES[dtype], b.target.lanes(dtype)
        self.bytes = b.target.vector_bytes
        self.vtype = vector_type(dtype, self.lanes)
        self.place = f"i{8 * self.size}"
        blocks = -(-outs // self.lanes)
        #: Bytes of the values of one window, and of the places.
        self.window_bytes = blocks * self.bytes
        self.values = b.stack(f"[{windows * blocks} x {self.vtype}]")
        self.places = b.stack(f"[{windows * blocks} x <{self.lanes} x {self.place}>]")

    def find(self, g: str, y: str, y_strides: tuple[str, str], step: int, after: str | int = 0) -> None:
        """Keeps the values of a window and its maxima's positions.

        Args:
            g, y: addresses of the first channel of the window's value, and of its first element in the image.
            y_strides: of rows and columns.
            step: what each position counts.
            after: bytes from the beginning of what is kept to what this window's is.
        """
        b, dtype = self.b, self.dtype
        values, places = b.at(self.values, after), b.at(self.places, after)
        for block, first in enumerate(range(0, self.outs, self.lanes)):
            lanes = Lanes(b, min(self.lanes, self.outs - first))
            best, place = "", ""
            for number, (row, column) in enumerate(self.patch.positions):
                where = b.add(b.mul(y_strides[0], row), b.mul(y_strides[1], column))
                tap = b.load(dtype, lanes.width, b.at(b.at(y, where), first * self.size))
                here = lanes.const(self.place, number * step)
                if number:
                    more, lost = lanes.compare("ogt", dtype, tap, best), lanes.compare("uno", dtype, tap, tap)
                    won = lanes.op("or", "b1", more, lost)
                    best, place = lanes.select(dtype, won, tap, best), lanes.select(self.place, won, here, place)
                else:
                    best, place = tap, here
            b.store(self.place, lanes.width, place, b.at(places, block * self.bytes))
            value = b.load(dtype, lanes.width, b.at(g, first * self.size))
            b.store(dtype, lanes.width, value, b.at(values, block * self.bytes))

    def found(self, out: str, after: str | int = 0) -> tuple[str, str]:
        """Of one output channel: its value in all lanes, and its place as an i64."""
        b = self.b
        at = b.add(b.mul(out, self.size), after)
        place = b.load(self.place, 1, b.at(self.places, at))
        if self.size < 8:
            place = b.op(f"sext {self.place} {place} to i64")
        return b.splat(self.dtype, self.lanes, b.load(self.dtype, 1, b.at(self.values, at))), place


class _Writer(Maxima):
    """Writes one kernel."""

    def __init__(self, spec: ScatterSpec, name: str, target: Target) -> None:
        b = Builder(name, target)
        super().__init__(b, spec.dtype, spec.outs, spec.patch)
        self.spec = spec
        self.vectors = spec.patch.vectors(self.lanes)
        self.g, self.y, self.w, self.dx = (b.arg_ptr(slot) for slot in range(4))
        self.high, self.wide, self.height, self.width = (b.arg_int(slot) for slot in range(4, 8))
        self.g_strides = [b.arg_int(slot) for slot in range(8, 11)]
        self.y_strides = [b.arg_int(slot) for slot in range(11, 14)]
        self.row = b.mul(self.width, self.size)
        self.plane = b.mul(self.row, self.height)
        self.image = b.mul(self.plane, spec.patch.ins)

    def write(self) -> str:
        """The module: a loop over images."""
        b, (down, across) = self.b, self.spec.stride
        with b.loop("%begin", "%end") as image:
            result = b.at(self.dx, b.mul(image.index, self.image))
            self.clear(result)
            g, y = (
                b.at(base, b.mul(image.index, strides[0]))
                for base, strides in ((self.g, self.g_strides), (self.y, self.y_strides))
            )
            with b.loop(0, self.high) as row, b.loop(0, self.wide) as column:
                top, left = b.mul(row.index, down), b.mul(column.index, across)
                given = b.add(b.mul(row.index, self.g_strides[1]), b.mul(column.index, self.g_strides[2]))
                shown = b.add(b.mul(top, self.y_strides[1]), b.mul(left, self.y_strides[2]))
                steps = (self.y_strides[1], self.y_strides[2])
                self.find(b.at(g, given), b.at(y, shown), steps, self.vectors * self.bytes)
                target = b.add(b.mul(top, self.row), b.mul(left, self.size))
                self.add(self.sums(), b.at(result, target))
        return b.text()

    def clear(self, result: str) -> None:
        """Sets an image to zero."""
        b, dtype = self.b, self.spec.dtype
        full = b.op(f"and i64 {self.image}, {-self.bytes}")
        with b.loop(0, full, self.bytes) as at:
            b.store(dtype, self.lanes, "zeroinitializer", b.at(result, at.index))
        with b.loop(full, self.image, self.size) as at:
            b.store(dtype, 1, literal(dtype, 0), b.at(result, at.index))

    def sums(self) -> list[str]:
        """The patch of a window: the sum over output channels of a value times its moved weights."""
        b, spec = self.b, self.spec
        together = next(n for n in (4, 2, 1) if spec.outs % n == 0)
        each = len(spec.patch.positions) * self.vectors * self.bytes
        with b.loop(0, spec.outs, together, [(self.vtype, "zeroinitializer")] * self.vectors) as out:
            sums = out.values
            for i in range(together):
                o = b.add(out.index, i)
                value, place = self.found(o)
                weights = b.at(b.at(self.w, b.mul(o, each)), place)
                taps = [b.load(spec.dtype, self.lanes, b.at(weights, v * self.bytes)) for v in range(self.vectors)]
                sums = [b.fma(spec.dtype, self.lanes, value, tap, total) for tap, total in zip(taps, sums, strict=True)]
            out.next(sums)
        return out.results

    def add(self, sums: list[str], result: str) -> None:
        """Adds a patch to the image."""
        b, spec = self.b, self.spec
        high, wide = spec.patch.size
        lanes = Lanes(b, wide)
        for channel, row in itertools.product(range(spec.patch.ins), range(high)):
            first, lane = divmod((channel * high + row) * wide, self.lanes)
            last = min(first + 1, self.vectors - 1)
            assert lane + wide <= 2 * self.lanes
            where = ", ".join(f"i32 {lane + i}" for i in range(wide))
            line = b.op(
                f"shufflevector {self.vtype} {sums[first]}, {self.vtype} {sums[last]}, <{wide} x i32> <{where}>"
            )
            target = b.at(result, b.add(b.mul(self.plane, channel), b.mul(self.row, row)))
            held = b.load(spec.dtype, wide, target)
            b.store(spec.dtype, wide, lanes.op("fadd", spec.dtype, held, line), target)
