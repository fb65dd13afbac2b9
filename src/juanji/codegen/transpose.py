"""A copy that exchanges which axis is contiguous, by square tiles turned over in registers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from juanji.codegen.builder import Builder, vector_type
from juanji.target import DTYPE_BYTES, Target

#: Elements of these sizes are moved as vectors of this type; smaller ones one by one.
_MOVED_AS = {4: "f32", 8: "f64"}
_CACHE_LINE = 64
_UNIT = 16  # bytes within which a vector's elements are cheap to rearrange


@dataclass(frozen=True)
class TransposeSpec:
    """Copies a source contiguous along axis `rank - 2` to a destination contiguous along axis `rank - 1`.

    Arguments of the kernel: source, destination, grain, extents of all axes, the source's byte strides, the
    destination's. Chunk c does the positions from `c * grain` to `(c + 1) * grain` of axis 0; for rank 2 a
    grain that is a multiple of 16 keeps the tiles whole.

    Args:
        dtype: of the elements.
        rank: number of axes, at least 2.
        ahead: whether each tile asks for the source's memory of the same tile one step further along axis `rank - 3`:
            where planes are small pieces of memory far apart, the processor does not notice by itself.

    Example:
        >>> from juanji import target
        >>> "shufflevector" in TransposeSpec("f32", 2).generate("kernel", target.current())
        True
    """

    dtype: str
    rank: int
    ahead: bool = False

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of the kernel."""
        b = Builder(name, target)
        rank = self.rank
        source, into, grain = b.arg_ptr(0), b.arg_ptr(1), b.arg_int(2)
        extents = [b.arg_int(3 + axis) for axis in range(rank)]
        read = [b.arg_int(3 + rank + axis) for axis in range(rank)]
        write = [b.arg_int(3 + 2 * rank + axis) for axis in range(rank)]
        moved = _MOVED_AS.get(DTYPE_BYTES[self.dtype])

        def plane(source: str, into: str, start: str, stop: str) -> None:
            if moved is None:
                _scalar_plane(b, self.dtype, source, into, (start, stop), extents[-1], read[-1], write[-2])
            else:
                following = read[-3] if self.ahead else None
                _plane(b, moved, source, into, (start, stop), extents[-1], read[-1], write[-2], following)

        def walk(axis: int, source: str, into: str) -> None:
            if axis == rank - 2:
                plane(source, into, "0", extents[axis])
                return
            with b.loop(0, extents[axis]) as loop:
                walk(axis + 1, *_moved(b, source, into, loop.index, read[axis], write[axis]))

        with b.loop("%begin", "%end") as chunk:
            start = b.mul(chunk.index, grain)
            stop = b.min(b.add(start, grain), extents[0])
            if rank == 2:
                plane(source, into, start, stop)
            else:
                with b.loop(start, stop) as loop:
                    walk(1, *_moved(b, source, into, loop.index, read[0], write[0]))
        return b.text()


def _moved(b: Builder, source: str, into: str, index: str, read: str, write: str) -> tuple[str, str]:
    return b.at(source, b.mul(index, read)), b.at(into, b.mul(index, write))


def _scalar_plane(
    b: Builder, dtype: str, source: str, into: str, rows: tuple[str, str], columns: str, read: str, write: str
) -> None:
    size = DTYPE_BYTES[dtype]
    raw = "u8" if dtype == "b1" else dtype
    with b.loop(*rows) as outer:
        line = b.at(into, b.mul(outer.index, write))
        column = b.at(source, b.mul(outer.index, size))
        with b.loop(0, columns) as inner:
            value = b.load(raw, 1, b.at(column, b.mul(inner.index, read)))
            b.store(raw, 1, value, b.at(line, b.mul(inner.index, size)))


def _plane(
    b: Builder,
    dtype: str,
    source: str,
    into: str,
    rows: tuple[str, str],
    columns: str,
    read: str,
    write: str,
    following: str | None,
) -> None:
    """Rows `rows` (contiguous in the source) of a matrix, tile by tile.

    A band of rows as wide as a cache line is done before the next, so that every line is read once. What lies
    `following` bytes on is asked for.
    """
    size, width = DTYPE_BYTES[dtype], b.target.lanes(dtype)
    band = _CACHE_LINE // size
    start, stop = rows

    def tile(i: str, j: str, rows_left: str | None, columns_left: str | None) -> None:
        """The square at (i, j), whole if nothing is said of what is left of it."""
        corner = b.at(b.at(source, b.mul(i, size)), b.mul(j, read))
        row_mask = b.tail_mask(width, rows_left) if rows_left else None
        column_mask = b.tail_mask(width, columns_left) if columns_left else None
        last = b.sub(columns_left, 1) if columns_left else ""
        loaded = []
        for k in range(width):
            step = b.min(k, last) if columns_left else k
            place = b.at(corner, b.mul(read, step))
            if following:
                b.prefetch(b.at(place, following))
            loaded.append(b.load(dtype, width, place, row_mask))
        out = b.at(b.at(into, b.mul(i, write)), b.mul(j, size))
        for k, vector in enumerate(turned(b, dtype, loaded)):
            if rows_left is None:
                b.store(dtype, width, vector, b.at(out, b.mul(write, k)))
                continue
            with b.when(b.compare("slt", k, rows_left)):
                b.store(dtype, width, vector, b.at(out, b.mul(write, k)), column_mask)

    def square(i: str, j: str) -> None:
        rows_left, columns_left = b.sub(stop, i), b.sub(columns, j)
        whole, partial, done = b.label("whole"), b.label("partial"), b.label("tiled")
        b.branch(b.compare("sge", b.min(rows_left, columns_left), width), whole, partial)
        b.start(whole)
        tile(i, j, None, None)
        b.jump(done)
        b.start(partial)
        tile(i, j, rows_left, columns_left)
        b.jump(done)
        b.start(done)

    with b.loop(start, stop, band) as i, b.loop(0, columns, width) as j:
        if band == width:
            square(i.index, j.index)
        else:
            with b.loop(i.index, b.min(b.add(i.index, band), stop), width) as part:
                square(part.index, j.index)


def turned(b: Builder, dtype: str, rows: Sequence[str]) -> list[str]:
    """The columns of a square matrix given as one vector register a row.

    First each group of rows is transposed inside 16-byte units, then the units are dealt out: the shuffles
    that processors do in one step.
    """
    width = len(rows)
    unit = _UNIT // DTYPE_BYTES[dtype]
    vtype = vector_type(dtype, width)

    def shuffle(x: str, y: str, lanes: Sequence[int]) -> str:
        chosen = ", ".join(f"i32 {lane}" for lane in lanes)
        return b.op(f"shufflevector {vtype} {x}, {vtype} {y}, <{width} x i32> <{chosen}>")

    def unpack(x: str, y: str, piece: int, high: bool) -> str:
        """Pieces of x and y in turn, from the lower or upper half of every unit."""
        lanes: list[int] = []
        for base in range(0, width, unit):
            for first in range(0, unit // 2, piece):
                at = base + first + (unit // 2 if high else 0)
                lanes += [*range(at, at + piece), *range(width + at, width + at + piece)]
        return shuffle(x, y, lanes)

    def within(group: Sequence[str]) -> list[str]:
        if unit == 2:
            return [unpack(group[0], group[1], 1, high) for high in (False, True)]
        pairs = [unpack(group[k], group[k + 1], 1, high) for k in (0, 2) for high in (False, True)]
        return [unpack(pairs[k], pairs[k + 2], 2, high) for k in (0, 1) for high in (False, True)]

    def deal(group: Sequence[str]) -> list[str]:
        """Unit k of every register of the group, for each k."""
        if len(group) == 1:
            return list(group)
        count = 2 * width // unit

        def every_second(first: int) -> list[str]:
            lanes = [u * unit + lane for u in range(first, count, 2) for lane in range(unit)]
            return deal([shuffle(group[k], group[k + 1], lanes) for k in range(0, len(group), 2)])

        pairs = zip(every_second(0), every_second(1), strict=True)
        return [register for pair in pairs for register in pair]

    groups = [within(rows[k : k + unit]) for k in range(0, width, unit)]
    columns: list[list[str]] = [deal([group[c] for group in groups]) for c in range(unit)]
    return [columns[c][k] for k in range(width // unit) for c in range(unit)]
