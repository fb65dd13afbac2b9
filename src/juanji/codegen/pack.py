"""A transposing copy in which one side's rows are made of two axes: weights into panels, and gradients out of them.

A weight [out, in, kernel position] is one long row for each output channel; kernels want for each kernel position and
input channel the output channels side by side. Both inner axes of the long row are walked as one, so that every tile
that is turned over in registers is full and every cache line is read once, however few kernel positions there are.
"""

from __future__ import annotations

from dataclasses import dataclass

from juanji.codegen.builder import Builder
from juanji.codegen.transpose import turned
from juanji.target import DTYPE_BYTES, Target

#: Elements of these sizes are moved as vectors of this type.
MOVED_AS = {4: "f32", 8: "f64"}
#: Bytes of a long row that are asked for ahead: rows lie too far apart, and are too many, for the processor to notice.
_AHEAD = 512


@dataclass(frozen=True)
class PackSpec:
    """Copies long rows to panels, or back.

    Element (c, i, k) of columns c, outer index i and inner index k < `inner` lies at c * row + (i * inner + k) elements
    of the long rows, and of the panels at block (c / width) * panel + i * outer_step + k * inner_step + c % width.

    Arguments of the kernel: long rows, panels, columns, the extents of i and k, then in bytes: row, panel, outer_step,
    inner_step; last the vectors in a panel's width. Chunk c is the c-th vector of columns.

    Args:
        dtype: of the elements, 4 or 8 bytes wide.
        back: from panels to long rows.

    Example:
        >>> from juanji import target
        >>> "shufflevector" in PackSpec("f32").generate("kernel", target.current())
        True
    """

    dtype: str
    back: bool = False

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of the kernel."""
        b = Builder(name, target)
        size = DTYPE_BYTES[self.dtype]
        dtype, width = MOVED_AS[size], target.vector_bytes // size
        rows, panels = b.arg_ptr(0), b.arg_ptr(1)
        columns, outer, inner, row, panel, outer_step, inner_step, per = (b.arg_int(2 + i) for i in range(8))
        flat = b.mul(outer, inner)
        # From the last inner index to the first of the next outer one.
        turn = b.sub(outer_step, b.mul(b.sub(inner, 1), inner_step))
        last_inner = b.sub(inner, 1)

        def tile(at: str, line: str, into: str, k: str, lines: str | None, left: str | None) -> tuple[str, str]:
            """A square from position `at` of the long rows; `left` positions and `lines` columns of it, if not all."""
            corner = b.at(line, b.mul(at, size))
            where = [b.at(corner, b.mul(row, b.min(j, b.sub(lines, 1)) if lines else j)) for j in range(width)]
            along = b.tail_mask(width, left) if left else None
            across = b.tail_mask(width, lines) if lines else None
            places = []
            for _ in range(width):  # of each position in the panels
                places.append(into)
                end = b.compare("eq", k, last_inner)
                into = b.at(into, b.select(end, turn, inner_step))
                k = b.select(end, 0, b.add(k, 1))
            if self.back:
                loaded = [b.load(dtype, width, p, across) if not left else "" for p in places]
                if left:
                    # Positions past the end are those of the last one.
                    loaded = []
                    place = places[0]
                    for j in range(width):
                        there = b.compare("slt", j, left)
                        place = b.op(f"select i1 {there}, ptr {places[j]}, ptr {place}")
                        loaded.append(b.load(dtype, width, place, across))
                stores = list(zip(turned(b, dtype, loaded), where, strict=True))
                for j, (vector, place) in enumerate(stores):
                    if lines:
                        with b.when(b.compare("slt", j, lines)):
                            b.store(dtype, width, vector, place, along)
                    else:
                        b.store(dtype, width, vector, place, along)
                return into, k
            loaded = []
            for place in where:
                b.prefetch(b.at(place, _AHEAD))
                loaded.append(b.load(dtype, width, place, along))
            for j, (vector, place) in enumerate(zip(turned(b, dtype, loaded), places, strict=True)):
                if left:
                    with b.when(b.compare("slt", j, left)):
                        b.store(dtype, width, vector, place, across)
                else:
                    b.store(dtype, width, vector, place, across)
            return into, k

        whole = b.op(f"and i64 {flat}, {-width}")
        with b.loop("%begin", "%end") as chunk:
            first = b.mul(chunk.index, width)
            line = b.at(rows, b.mul(first, row))
            block = b.op(f"sdiv i64 {chunk.index}, {per}")
            inside = b.sub(chunk.index, b.mul(block, per))
            start = b.at(b.at(panels, b.mul(block, panel)), b.mul(inside, target.vector_bytes))
            lines = b.sub(columns, first)
            full, partial, done = b.label("full"), b.label("partial"), b.label("done")
            b.branch(b.compare("sge", lines, width), full, partial)
            for label, some in ((full, None), (partial, lines)):
                b.start(label)
                with b.loop(0, whole, width, [("ptr", start), ("i64", "0")]) as loop:
                    loop.next(tile(loop.index, line, loop.values[0], loop.values[1], some, None))
                with b.when(b.compare("slt", whole, flat)):
                    tile(whole, line, loop.results[0], loop.results[1], some, b.sub(flat, whole))
                b.jump(done)
            b.start(done)
        return b.text()
