"""Bilinear sampling at positions in memory, and its adjoint, with the channels along the vector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from juanji.codegen.builder import Builder
from juanji.codegen.lanes import Lanes
from juanji.target import DTYPE_BYTES, Target

#: Integer arguments after the four pointers; strides in bytes. Channels lie side by side.
FIELDS = ("P", "C", "H", "W", "p_chunks", "p_grain", "c_chunks", "c_grain",
          "image_n", "image_y", "image_x", "y_n", "y_p", "x_n", "x_p", "list_n", "list_p")  # fmt: skip


@dataclass(frozen=True)
class SampleSpec:
    """Reads an image at positions into a list, or adds the list into the image.

    Arguments of the kernel: image, y, x, list, then `FIELDS`. Chunk (n * p_chunks + i) * c_chunks + j does positions
    from i * p_grain and channels from j * c_grain of image n. Chunks that add must not share channels: p_chunks is
    then 1. What lies outside of the image counts as zero.

    Args:
        dtype: "f32" or "f64".
        scatter: add list into image.
        slopes: for y and x, 1 where the weights 1 - f and f are replaced by -1 and 1.

    Example:
        >>> from juanji import target
        >>> "fptosi" in SampleSpec("f32", False, (0, 0)).generate("kernel", target.current())
        True
    """

    dtype: str
    scatter: bool
    slopes: tuple[int, int]

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of the kernel."""
        b = Builder(name, target)
        pointers = [b.arg_ptr(k) for k in range(4)]
        _Writer(self, b, pointers, {field: b.arg_int(4 + k) for k, field in enumerate(FIELDS)}).write()
        return b.text()


class _Writer:
    """Writes one kernel."""

    def __init__(self, spec: SampleSpec, b: Builder, pointers: list[str], arg: dict[str, str]) -> None:
        self.spec, self.b, self.pointers, self.arg = spec, b, pointers, arg
        self.item = DTYPE_BYTES[spec.dtype]
        self.one = Lanes(b, 1)

    def write(self) -> None:
        """The loop over chunks and positions."""
        b, arg = self.b, self.arg
        with b.loop("%begin", "%end") as chunk:
            outer = b.op(f"sdiv i64 {chunk.index}, {arg['c_chunks']}")
            n = b.op(f"sdiv i64 {outer}, {arg['p_chunks']}")
            first = b.mul(b.sub(outer, b.mul(n, arg["p_chunks"])), arg["p_grain"])
            self.low = b.mul(b.sub(chunk.index, b.mul(outer, arg["c_chunks"])), arg["c_grain"])
            self.high = b.min(b.add(self.low, arg["c_grain"]), arg["C"])
            names = ("image", "y", "x", "list")
            starts = zip(self.pointers, names, strict=True)
            image, y, x, listed = (b.at(start, b.mul(n, arg[f"{name}_n"])) for start, name in starts)
            with b.loop(first, b.min(b.add(first, arg["p_grain"]), arg["P"])) as position:
                p = position.index
                y_at = b.load(self.spec.dtype, 1, b.at(y, b.mul(p, arg["y_p"])))
                x_at = b.load(self.spec.dtype, 1, b.at(x, b.mul(p, arg["x_p"])))
                down, across = self.axis(y_at, arg["H"], 0), self.axis(x_at, arg["W"], 1)
                corners = []
                for row, row_weight, row_inside in down:
                    for col, col_weight, col_inside in across:
                        place = b.at(image, b.add(b.mul(row, arg["image_y"]), b.mul(col, arg["image_x"])))
                        weight = self.one.mul(self.spec.dtype, row_weight, col_weight)
                        corners.append((place, weight, b.op(f"and i1 {row_inside}, {col_inside}")))
                (self.add if self.spec.scatter else self.read)(corners, b.at(listed, b.mul(p, arg["list_p"])))

    def axis(self, at: str, size: str, dim: int) -> list[tuple[str, str, str]]:
        """The two pixels on either side of a position: (index, held inside; weight; whether it exists)."""
        b, one, dtype = self.b, self.one, self.spec.dtype
        extent = b.op(f"sitofp i64 {size} to {one.type(dtype)}")
        low = one.call("llvm.floor", dtype, at)
        held = one.call("llvm.maxnum", dtype, low, one.const(dtype, -2))
        index = b.op(f"fptosi {one.type(dtype)} {one.call('llvm.minnum', dtype, held, extent)} to i64")
        if self.spec.slopes[dim]:
            weights = [one.const(dtype, -1), one.const(dtype, 1)]
        else:
            fraction = one.sub(dtype, at, low)
            weights = [one.sub(dtype, one.const(dtype, 1), fraction), fraction]
        # Infinite positions lie outside, and are not a difference of infinities.
        before, after = one.compare("ole", dtype, at, one.const(dtype, -1)), one.compare("oge", dtype, at, extent)
        outside = b.op(f"or i1 {before}, {after}")
        found = []
        for k in (0, 1):
            place = b.add(index, k)
            weight = one.select(dtype, outside, one.const(dtype, 0), weights[k])
            inside = b.compare("ult", place, size)
            found.append((b.max(b.min(place, b.sub(size, 1)), 0), weight, inside))
        return found

    def channels(self) -> Iterator[tuple[int, str]]:
        """(lanes, byte offset) of vectors of channels, then of single ones."""
        b = self.b
        lanes = b.target.lanes(self.spec.dtype)
        whole = b.add(self.low, b.op(f"and i64 {b.sub(self.high, self.low)}, {-lanes}"))
        with b.loop(self.low, whole, lanes) as vector:
            yield lanes, b.mul(vector.index, self.item)
        with b.loop(whole, self.high) as single:
            yield 1, b.mul(single.index, self.item)

    def read(self, corners: list[tuple[str, str, str]], listed: str) -> None:
        """The weighted sum of four pixels."""
        b, dtype = self.b, self.spec.dtype
        for width, offset in self.channels():
            lanes = Lanes(b, width)
            total = lanes.const(dtype, 0)
            for place, weight, inside in corners:
                pixel = b.load(dtype, width, b.at(place, offset))
                pixel = b.op(
                    f"select i1 {inside}, {lanes.type(dtype)} {pixel}, {lanes.type(dtype)} {lanes.const(dtype, 0)}"
                )
                total = lanes.fma(dtype, b.splat(dtype, width, weight), pixel, total)
            b.store(dtype, width, total, b.at(listed, offset))

    def add(self, corners: list[tuple[str, str, str]], listed: str) -> None:
        """The value added to four pixels, in its shares."""
        b, dtype = self.b, self.spec.dtype
        for place, weight, inside in corners:
            with b.when(inside):
                for width, offset in self.channels():
                    lanes = Lanes(b, width)
                    value, pixel = (b.load(dtype, width, b.at(p, offset)) for p in (listed, place))
                    total = lanes.fma(dtype, b.splat(dtype, width, weight), value, pixel)
                    b.store(dtype, width, total, b.at(place, offset))
