"""Gather and scatter along one dimension by an index in memory."""

from __future__ import annotations

from dataclasses import dataclass

from juanji.codegen.builder import Builder
from juanji.codegen.expr import Emitter
from juanji.codegen.lanes import FLOATS, Lanes
from juanji.dtypes import HALVES
from juanji.target import DTYPE_BYTES, Target

_COMBINED = {"add": "add", "mul": "mul", "max": "max", "min": "min"}
_COMBINED_BOOLS = {"add": "or", "mul": "and", "max": "or", "min": "and"}


@dataclass(frozen=True)
class TableSpec:
    """Moves elements between a table and a list that is shaped as the index.

    Arguments of the kernel: table, index (int64), list, grain, size of the table's indexed dimension and its byte
    stride, the extent of each axis, then the byte strides of table (0 along the indexed dimension), index and list.
    Chunk c does the positions from `c * grain` to `(c + 1) * grain` of axis 0. An index outside the table reads NaN, or
    0 where there is none, and writes nothing.

    Args:
        dtype: of table and list.
        mode: "gather" (list from table), or what is done to the table: "set", "add", "mul", "max", "min".
        rank: number of axes.
        rows: the index does not move along the innermost axis.
        unit: nor are there gaps along it in table and list.

    Example:
        >>> from juanji import target
        >>> "icmp ult" in TableSpec("f32", "gather", 1, False, False).generate("kernel", target.current())
        True
    """

    dtype: str
    mode: str
    rank: int
    rows: bool
    unit: bool

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of the kernel."""
        b = Builder(name, target)
        rank = self.rank
        pointers = [b.arg_ptr(k) for k in range(3)]
        grain, size, stride = (b.arg_int(k) for k in (3, 4, 5))
        extents = [b.arg_int(6 + axis) for axis in range(rank)]
        steps = [[b.arg_int(6 + rank * (1 + k) + axis) for axis in range(rank)] for k in range(3)]
        writer = _Writer(b, self, size, stride, [s[-1] for s in steps])

        def walk(axis: int, at: list[str], start: str, stop: str) -> None:
            if axis == rank - 1:
                writer.line(at, start, stop)
                return
            with b.loop(start, stop) as loop:
                inside = [b.at(p, b.mul(loop.index, steps[k][axis])) for k, p in enumerate(at)]
                walk(axis + 1, inside, "0", extents[axis + 1])

        with b.loop("%begin", "%end") as chunk:
            start = b.mul(chunk.index, grain)
            walk(0, pointers, start, b.min(b.add(start, grain), extents[0]))
        return b.text()


class _Writer:
    """The code along the innermost axis."""

    def __init__(self, b: Builder, spec: TableSpec, size: str, stride: str, steps: list[str]) -> None:
        self.b, self.spec, self.size, self.stride, self.steps = b, spec, size, stride, steps
        moves = spec.mode in ("gather", "set")
        self.dtype = "u8" if moves and spec.dtype == "b1" else spec.dtype
        self.item = DTYPE_BYTES[spec.dtype]

    def line(self, at: list[str], start: str, stop: str) -> None:
        """Positions `start` to `stop`."""
        b = self.b
        table, index, listed = at
        if not self.spec.rows:
            with b.loop(start, stop) as loop:
                k = loop.index
                place = b.load_int(index, b.mul(k, self.steps[1]))
                row = b.at(table, b.mul(k, self.steps[0]))
                self.checked(place, row, lambda r: self.one(r, self.out(listed, k)), lambda: self.none(listed, k))
            return
        place = b.load_int(index)

        def whole(row: str) -> None:
            self.row(row, listed, start, stop)

        def nothing() -> None:
            with b.loop(start, stop) as loop:
                self.none(listed, loop.index)

        self.checked(place, table, whole, nothing)

    def checked(self, place: str, table: str, there, elsewhere) -> None:  # type: ignore[no-untyped-def]
        """`there(row)` if the index is in range; otherwise, for a gather, `elsewhere()`."""
        b = self.b
        inside, outside, done = b.label("inside"), b.label("outside"), b.label("looked")
        b.branch(b.compare("ult", place, self.size), inside, outside)
        b.start(inside)
        there(b.at(table, b.mul(place, self.stride)))
        b.jump(done)
        b.start(outside)
        if self.spec.mode == "gather":
            elsewhere()
        b.jump(done)
        b.start(done)

    def out(self, listed: str, k: str) -> str:
        return self.b.at(listed, self.b.mul(k, self.steps[2]))

    def none(self, listed: str, k: str) -> None:
        """What is read outside the table."""
        lanes = Lanes(self.b, 1)
        value = lanes.const(self.dtype, float("nan") if self.dtype in (*FLOATS, *HALVES) else 0)
        self.b.store(self.dtype, 1, value, self.out(listed, k))

    def row(self, row: str, listed: str, start: str, stop: str) -> None:
        """A row of the table and its part of the list."""
        b = self.b
        if self.spec.unit:
            width = b.target.lanes(self.dtype)
            whole = b.add(start, b.op(f"and i64 {b.sub(stop, start)}, {-width}"))
            with b.loop(start, whole, width) as loop:
                offset = b.mul(loop.index, self.item)
                self.one(b.at(row, offset), b.at(listed, offset), width)
            start = whole
        with b.loop(start, stop) as loop:
            self.one(b.at(row, b.mul(loop.index, self.steps[0])), self.out(listed, loop.index))

    def one(self, place: str, listed: str, width: int = 1) -> None:
        """`width` elements of the table at `place` and of the list."""
        b, dtype, mode = self.b, self.dtype, self.spec.mode
        if mode == "gather":
            b.store(dtype, width, b.load(dtype, width, place), listed)
            return
        if mode == "set":
            b.store(dtype, width, b.load(dtype, width, listed), place)
            return
        sources = (place, listed)
        emitter = Emitter(b, width, lambda i: b.load(dtype, width, sources[i]))
        name = (_COMBINED_BOOLS if dtype == "b1" else _COMBINED)[mode]
        value = emitter.emit((name, dtype, ("load", dtype, 0), ("load", dtype, 1)))
        b.store(dtype, width, value, place)
