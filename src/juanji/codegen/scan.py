"""Running sums and their like along one axis."""

from __future__ import annotations

from dataclasses import dataclass

from juanji.codegen.builder import Builder, vector_type
from juanji.codegen.expr import Emitter, Expr
from juanji.target import Target

_BOOLS = {"add": "or", "mul": "and", "max": "or", "min": "and"}


@dataclass(frozen=True)
class ScanSpec:
    """Writes, for each position along the innermost axis, what all elements up to there make together.

    Arguments of the kernel: input, output, grain, the extent of each axis, then the input's byte strides and the
    output's. Chunk c does the positions from `c * grain` to `(c + 1) * grain` of axis 0.

    Args:
        dtype: of the elements. Sums and products of float32 are carried in float64.
        mode: "add", "mul", "max", "min" or "logaddexp".
        rank: number of axes, at least 2.

    Example:
        >>> from juanji import target
        >>> "fadd double" in ScanSpec("f32", "add", 2).generate("kernel", target.current())
        True
    """

    dtype: str
    mode: str
    rank: int

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of the kernel."""
        b = Builder(name, target)
        rank = self.rank
        source, into, grain = b.arg_ptr(0), b.arg_ptr(1), b.arg_int(2)
        extents = [b.arg_int(3 + axis) for axis in range(rank)]
        steps = [[b.arg_int(3 + rank * (1 + k) + axis) for axis in range(rank)] for k in range(2)]
        wide = "f64" if self.dtype == "f32" and self.mode not in ("max", "min") else self.dtype

        def line(x: str, out: str) -> None:
            with b.when(b.compare("slt", 0, extents[-1])):
                first = b.load(self.dtype, 1, x)
                b.store(self.dtype, 1, first, out)
                start = Emitter(b, 1, lambda i: first).emit(_as(("load", self.dtype, 0), wide))
                with b.loop(1, extents[-1], carried=((vector_type(wide, 1), start),)) as loop:
                    value = b.load(self.dtype, 1, b.at(x, b.mul(loop.index, steps[0][-1])))
                    emitter = Emitter(b, 1, lambda i: value, acc=loop.values[0])
                    joined = self._joined(("acc", wide), _as(("load", self.dtype, 0), wide), wide)
                    total = emitter.emit(joined)
                    at = b.at(out, b.mul(loop.index, steps[1][-1]))
                    b.store(self.dtype, 1, emitter.emit(_as(joined, self.dtype)), at)
                    loop.next([total])

        def walk(axis: int, x: str, out: str, start: str, stop: str) -> None:
            if axis == rank - 1:
                line(x, out)
                return
            with b.loop(start, stop) as loop:
                inside = [b.at(p, b.mul(loop.index, steps[k][axis])) for k, p in enumerate((x, out))]
                walk(axis + 1, inside[0], inside[1], "0", extents[axis + 1])

        with b.loop("%begin", "%end") as chunk:
            start = b.mul(chunk.index, grain)
            walk(0, source, into, start, b.min(b.add(start, grain), extents[0]))
        return b.text()

    def _joined(self, a: Expr, x: Expr, dtype: str) -> Expr:
        if self.mode != "logaddexp":
            return (_BOOLS[self.mode] if dtype == "b1" else self.mode, dtype, a, x)
        high, low = ("max", dtype, a, x), ("min", dtype, a, x)
        ends = ("eq", "b1", ("abs", dtype, high), ("const", dtype, float("inf")))
        more = ("log1p", dtype, ("exp", dtype, ("sub", dtype, low, high)))
        return ("select", dtype, ends, high, ("add", dtype, high, more))


def _as(expr: Expr, dtype: str) -> Expr:
    return expr if expr[1] == dtype else ("cast", dtype, expr)
