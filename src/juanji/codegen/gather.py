"""The weight gradient of a convolution whose own gradient lies at the maxima of windows and is zero elsewhere.

The counterpart of `scatter.py`: each value is multiplied by what its maximum's filter has seen of the input. That is
brought, for each position of some windows, into the order of the weights once, and then read by all output channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from juanji.codegen.builder import Builder, vector_type
from juanji.codegen.lanes import FLOATS
from juanji.codegen.scatter import Maxima, Patch
from juanji.target import Target

#: Windows done together, and bytes of what they have seen, which should stay in the first-level cache.
WINDOWS, MOST_SEEN = 32, 32 * 1024
#: Sums that hide the latency of a multiply-add.
_CHAINS = 8


def windows_together(patch: Patch, dtype: str, target: Target) -> int:
    """How many windows are done together."""
    each = len(patch.positions) * weight_vectors(patch, target.lanes(dtype)) * target.vector_bytes
    return min(WINDOWS, MOST_SEEN // each)


def weight_vectors(patch: Patch, lanes: int) -> int:
    """How many vectors hold the weights of an output channel."""
    return -(-patch.weights // lanes)


@dataclass(frozen=True)
class GatherSpec:
    """A kernel for dw = conv_weight_grad(max_pool_grad(g, y), x), with windows that do not overlap and no padding.

    Run-time arguments, one slot each: g [N, O, PH, PW], y [N, O, OH, OW], x [N, ins, H, W], dw [parts, O, ins, KH, KW],
    the sizes N, parts, PH, PW, byte strides of g (image, row, column), of y (image, row, column), of x (image, channel,
    row). Channels of g and y and columns of x are one element apart, dw is in C order and written, not added to. A
    chunk is one part: the sum over its share of the images.

    The maximum is the first one, or the last NaN. Up to `windows_together` windows, whole rows where they fit, are
    summed in registers, then added to the sums in memory.

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
            raise ValueError(f"gathered gradients are of dtype 'f32' or 'f64', not {self.dtype!r}")

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of the kernel."""
        return _Writer(self, name, target).write()


class _Writer(Maxima):
    """Writes one kernel."""

    def __init__(self, spec: GatherSpec, name: str, target: Target) -> None:
        b = Builder(name, target)
        self.most = windows_together(spec.patch, spec.dtype, target)
        super().__init__(b, spec.dtype, spec.outs, spec.patch, self.most)
        self.spec = spec
        self.vectors = weight_vectors(spec.patch, self.lanes)
        self.seen_bytes = len(spec.patch.positions) * self.vectors * self.bytes
        self.sums = b.stack(f"[{spec.outs * self.vectors} x {self.vtype}]")
        self.seen = b.stack(f"[{self.most * len(spec.patch.positions) * self.vectors} x {self.vtype}]")
        self.g, self.y, self.x, self.dw = (b.arg_ptr(slot) for slot in range(4))
        self.images, self.parts, self.high, self.wide = (b.arg_int(slot) for slot in range(4, 8))
        self.g_strides = [b.arg_int(slot) for slot in range(8, 11)]
        self.y_strides = [b.arg_int(slot) for slot in range(11, 14)]
        self.x_strides = [b.arg_int(slot) for slot in range(14, 17)]

    def write(self) -> str:
        """The module: a loop over parts, each of some images."""
        b = self.b
        columns = b.min(self.most, self.wide)
        rows = b.op(f"udiv i64 {self.most}, {b.max(columns, 1)}")
        with b.loop("%begin", "%end") as part:
            with b.loop(0, self.spec.outs * self.vectors) as at:
                b.store(self.spec.dtype, self.lanes, "zeroinitializer", b.at(self.sums, b.mul(at.index, self.bytes)))
            first, last = (
                b.op(f"udiv i64 {b.mul(i, self.images)}, {self.parts}") for i in (part.index, b.add(part.index, 1))
            )
            with b.loop(first, last) as image:
                places = [
                    b.at(base, b.mul(image.index, strides[0]))
                    for base, strides in ((self.g, self.g_strides), (self.y, self.y_strides), (self.x, self.x_strides))
                ]
                with b.loop(0, self.high, rows) as top, b.loop(0, self.wide, columns) as left:
                    bottom = b.min(b.add(top.index, rows), self.high)
                    right = b.min(b.add(left.index, columns), self.wide)
                    self.add(self.look(places, (top.index, bottom), (left.index, right)))
            self.finish(b.at(self.dw, b.mul(part.index, self.spec.outs * self.patch.weights * self.size)))
        return b.text()

    def look(self, places: Sequence[str], rows: tuple[str, str], columns: tuple[str, str]) -> str:
        """Finds the maxima of some windows and brings what they have seen into order; how many windows they are."""
        b, (down, across) = self.b, self.spec.stride
        g, y, x = places
        with b.loop(*rows, carried=[("i64", "0")]) as row:
            with b.loop(*columns, carried=[("i64", row.values[0])]) as column:
                number = column.values[0]
                top, left = b.mul(row.index, down), b.mul(column.index, across)
                given = b.add(b.mul(row.index, self.g_strides[1]), b.mul(column.index, self.g_strides[2]))
                shown = b.add(b.mul(top, self.y_strides[1]), b.mul(left, self.y_strides[2]))
                steps = (self.y_strides[1], self.y_strides[2])
                after = b.mul(number, self.window_bytes)
                self.find(b.at(g, given), b.at(y, shown), steps, self.vectors * self.bytes, after)
                corner = b.add(b.mul(top, self.x_strides[2]), b.mul(left, self.size))
                seen = b.at(self.seen, b.mul(number, self.seen_bytes))
                patch = self.load_patch(b.at(x, corner))
                for p, position in enumerate(self.patch.positions):
                    for v in range(self.vectors):
                        place = b.at(seen, (p * self.vectors + v) * self.bytes)
                        b.store(self.spec.dtype, self.lanes, self.ordered(patch, position, v), place)
                column.next([b.add(number, 1)])
            row.next([column.results[0]])
        return row.results[0]

    def load_patch(self, corner: str) -> list[str]:
        """The patch of a window in vectors, line by line."""
        b, patch, dtype = self.b, self.patch, self.spec.dtype
        high, wide = patch.size
        lines, part = [], vector_type(dtype, wide)
        for number in range(patch.ins * high):
            channel, row = divmod(number, high)
            place = b.add(b.mul(self.x_strides[1], channel), b.mul(self.x_strides[2], row))
            lines.append(b.load(dtype, wide, b.at(corner, place)))
        vectors = []
        for start in range(0, patch.elements, self.lanes):
            end, value = min(start + self.lanes, patch.elements), ""
            for number in range(start // wide, -(-end // wide)):
                # The line's elements where they belong, then the two put together.
                inside = range(max(start, number * wide), min(end, (number + 1) * wide))
                at = {i - start: i - number * wide for i in inside}
                moved = self.shuffle(part, lines[number], "poison", [at.get(i) for i in range(self.lanes)])
                both = [self.lanes + i if i in at else i for i in range(self.lanes)]
                value = self.shuffle(self.vtype, value, moved, list(both)) if value else moved
            vectors.append(value)
        return vectors

    def ordered(self, patch: list[str], position: tuple[int, int], v: int) -> str:
        """Vector `v` of what the filter at a position has seen, in the order of the weights."""
        count = min(self.lanes, self.patch.weights - v * self.lanes)
        places = [divmod(self.patch.target(v * self.lanes + i, position), self.lanes) for i in range(count)]
        sources = sorted({vector for vector, _ in places})
        value = ""
        for source in sources:
            if not value:
                first = [lane if vector == source else None for vector, lane in places]
                value = self.shuffle(self.vtype, patch[source], "poison", self.filled(first))
            else:
                both = [self.lanes + lane if vector == source else i for i, (vector, lane) in enumerate(places)]
                value = self.shuffle(self.vtype, value, patch[source], self.filled(both))
        return value

    def filled(self, places: Sequence[int | None]) -> list[int | None]:
        """Indices for all lanes."""
        return [*places, *[None] * (self.lanes - len(places))]

    def shuffle(self, vtype: str, a: str, other: str, places: Sequence[int | None]) -> str:
        """A vector of lanes from `a` and `other`; None: of no matter."""
        indices = ", ".join(f"i32 {'poison' if i is None else i}" for i in places)
        return self.b.op(f"shufflevector {vtype} {a}, {vtype} {other}, <{self.lanes} x i32> <{indices}>")

    def add(self, count: str) -> None:
        """Adds the products of `count` windows to the sums, some output channels at a time."""
        b, dtype, outs = self.b, self.spec.dtype, self.spec.outs
        enough = -(-_CHAINS // self.vectors)
        together = max(n for n in range(1, enough + 1) if outs % n == 0)
        with b.loop(0, outs, together) as out:
            held = b.at(self.sums, b.mul(out.index, self.vectors * self.bytes))
            cells = [b.at(held, i * self.bytes) for i in range(together * self.vectors)]
            start = [(self.vtype, b.load(dtype, self.lanes, cell)) for cell in cells]
            with b.loop(0, count, carried=start) as window:
                after, sums = b.mul(window.index, self.window_bytes), []
                base = b.at(self.seen, b.mul(window.index, self.seen_bytes))
                for i in range(together):
                    value, place = self.found(b.add(out.index, i), after)
                    seen = b.at(base, place)
                    for v in range(self.vectors):
                        tap = b.load(dtype, self.lanes, b.at(seen, v * self.bytes))
                        sums.append(b.fma(dtype, self.lanes, value, tap, window.values[i * self.vectors + v]))
                window.next(sums)
            for cell, total in zip(cells, window.results, strict=True):
                b.store(dtype, self.lanes, total, cell)

    def finish(self, target: str) -> None:
        """Stores the sums."""
        b, dtype, weights = self.b, self.spec.dtype, self.patch.weights
        with b.loop(0, self.spec.outs) as out:
            held = b.at(self.sums, b.mul(out.index, self.vectors * self.bytes))
            place = b.at(target, b.mul(out.index, weights * self.size))
            for v in range(self.vectors):
                count = min(self.lanes, weights - v * self.lanes)
                value = b.load(dtype, count, b.at(held, v * self.bytes))
                b.store(dtype, count, value, b.at(place, v * self.bytes))
