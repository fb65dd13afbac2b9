"""Products of matrices whose summed dimension lies along memory in both: dot products of rows, vector by vector.

`C[m, n] = epilogue(sum over k of A[m, k] * B[n, k])`. The contraction kernel wants B the other way round; where A has
few rows, turning B over takes longer than the product itself.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from juanji.codegen.builder import Builder, vector_type
from juanji.codegen.expr import Emitter, Expr
from juanji.target import DTYPE_BYTES, LLVM_TYPE, Target

#: Argument slots before the pointers of the epilogue's inputs.
ARGUMENTS = ("A", "B", "C", "m", "n", "k", "a_row", "b_row", "c_row")


def block(target: Target, dtype: str) -> int:
    """Columns computed together; there must be as many at least."""
    return min(4, target.lanes(dtype))


@dataclass(frozen=True)
class DotSpec:
    """A matrix product by dot products.

    A tile of rows and columns has as many sums as a vector has lanes, each a vector of partial sums along k; in the
    end these are added up to one vector that holds the tile.

    Args:
        dtype: "f32" or "f64", of A, B and C.
        epilogue: expression of ("acc", dtype) and ("load", dtype_i, i) that is stored; None stores the sum.
        extras: (dtype, class) of the epilogue's inputs. Class "n": indexed by the column; "c": laid out as C, with the
            same stride of rows in elements; "s": one scalar.

    Run-time arguments are the 8-byte slots `ARGUMENTS`, then a pointer for each extra; strides of rows are in bytes.
    Chunk c is all rows of block c of `block` columns. The last block begins where it ends at the last column: what the
    one before has stored is computed again and not stored. In the last tile of rows the last row stands for those that
    are not there.

    Raises:
        ValueError: a dtype or class is none of those.

    Example:
        >>> from juanji import target
        >>> "define void @kernel" in DotSpec("f32").generate("kernel", target.current())
        True
    """

    dtype: str
    epilogue: Expr | None = None
    extras: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.dtype not in ("f32", "f64"):
            raise ValueError(f"dot products have dtype 'f32' or 'f64', not {self.dtype!r}")
        for extra in self.extras:
            if extra[1] not in ("n", "c", "s"):
                raise ValueError(f"the class of an extra input is 'n', 'c' or 's', not {extra[1]!r}")

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of `void @name(ptr, i64, i64)`."""
        b = Builder(name, target)
        lanes, width = target.lanes(self.dtype), block(target, self.dtype)
        height, item = lanes // width, DTYPE_BYTES[self.dtype]
        arg = {slot: b.arg_ptr(i) if i < 3 else b.arg_int(i) for i, slot in enumerate(ARGUMENTS)}
        pointers = [b.arg_ptr(len(ARGUMENTS) + i) for i in range(len(self.extras))]
        whole = b.op(f"sdiv i64 {arg['k']}, {lanes}")
        rest = b.tail_mask(lanes, b.sub(arg["k"], b.mul(whole, lanes)))
        bottom = b.sub(arg["m"], 1)
        with b.loop("%begin", "%end") as blocks:
            first = b.mul(blocks.index, width)
            column = b.min(first, b.sub(arg["n"], width))
            lane = "<" + ", ".join(f"i64 {i}" for i in range(width)) + ">"
            fresh = b.op(f"icmp sge <{width} x i64> {lane}, {b.splat('i64', width, b.sub(first, column))}", "m")
            panel = [b.at(arg["B"], b.mul(b.add(column, i), arg["b_row"])) for i in range(width)]
            with b.loop(0, arg["m"], height) as tiles:
                rows = [b.min(b.add(tiles.index, i), bottom) for i in range(height)]
                starts = [b.at(arg["A"], b.mul(row, arg["a_row"])) for row in rows]
                total = gathered(b, self.dtype, lanes, self._sums(b, lanes, starts, panel, whole, rest))
                offsets = [b.add(b.mul(row, arg["c_row"]), b.mul(column, item)) for row in rows]
                if self.epilogue is not None:
                    extra = functools.partial(self._extra, b, pointers, column, offsets)
                    total = Emitter(b, lanes, extra, acc=total).emit(self.epilogue)
                for i, offset in enumerate(offsets):
                    line = _piece(b, self.dtype, lanes, total, i * width, width)
                    b.store(self.dtype, width, line, b.at(arg["C"], offset), fresh)
        return b.text()

    def _sums(self, b: Builder, lanes: int, rows: list[str], panel: list[str], whole: str, rest: str) -> list[str]:
        """Partial sums of each row with each column, row by row."""
        vtype, vector = vector_type(self.dtype, lanes), b.target.vector_bytes

        def step(at: str, sums: list[str], mask: str | None) -> list[str]:
            columns = [b.load(self.dtype, lanes, b.at(column, at), mask) for column in panel]
            added: list[str] = []
            for row in rows:
                factor = b.load(self.dtype, lanes, b.at(row, at), mask)
                for column in columns:
                    added.append(b.fma(self.dtype, lanes, factor, column, sums[len(added)]))
            return added

        carried = [(vtype, "zeroinitializer")] * lanes
        with b.loop(0, b.mul(whole, vector), vector, carried) as steps:
            steps.next(step(steps.index, steps.values, None))
        return step(b.mul(whole, vector), steps.results, rest)

    def _extra(self, b: Builder, pointers: list[str], column: str, offsets: list[str], i: int) -> str:
        """Extra input i for a tile."""
        dtype, kind = self.extras[i]
        lanes, width = b.target.lanes(self.dtype), block(b.target, self.dtype)
        if kind == "s":
            return b.splat(dtype, lanes, b.load(dtype, 1, pointers[i]))
        size, own = DTYPE_BYTES[dtype], DTYPE_BYTES[self.dtype]
        if kind == "n":
            line = b.load(dtype, width, b.at(pointers[i], b.mul(column, size)))
            lines = [line] * len(offsets)
        else:
            if size != own:  # the same element, of another size
                offsets = [b.mul(b.op(f"sdiv exact i64 {offset}, {own}"), size) for offset in offsets]
            lines = [b.load(dtype, width, b.at(pointers[i], offset)) for offset in offsets]
        while len(lines) > 1:
            width *= 2
            lines = [_piece(b, dtype, width // 2, x, 0, width, y) for x, y in zip(lines[::2], lines[1::2], strict=True)]
        return lines[0]


def _piece(b: Builder, dtype: str, lanes: int, vector: str, first: int, count: int, other: str = "poison") -> str:
    """`count` lanes from `first` on of a vector, or of two side by side."""
    vtype = f"<{lanes} x {LLVM_TYPE[dtype]}>"
    picked = ", ".join(f"i32 {first + i}" for i in range(count))
    return b.op(f"shufflevector {vtype} {vector}, {vtype} {other}, <{count} x i32> <{picked}>")


def gathered(b: Builder, dtype: str, lanes: int, vectors: list[str]) -> str:
    """The sum of each of as many vectors as they have lanes, as one vector: in each step two become one, in which
    every lane is the sum of two.
    """
    vtype = vector_type(dtype, lanes)

    def shuffled(x: str, y: str, lane: list[int]) -> str:
        mask = ", ".join(f"i32 {i}" for i in lane)
        return b.op(f"shufflevector {vtype} {x}, {vtype} {y}, <{lanes} x i32> <{mask}>")

    apart = 1
    while apart < lanes:
        following = []
        for x, y in zip(vectors[::2], vectors[1::2], strict=True):
            kept = [i if not i & apart else lanes + i for i in range(lanes)]
            moved = [i + apart if not i & apart else lanes + i - apart for i in range(lanes)]
            following.append(b.op(f"fadd {vtype} {shuffled(x, y, kept)}, {shuffled(x, y, moved)}"))
        vectors = following
        apart *= 2
    return vectors[0]


def dot_products(
    b: Builder, dtype: str, rows: list[str], columns: list[str], taps: tuple[str, str], depth: str
) -> list[str]:
    """Sums along lanes for a register tile: a vector for each row, with its columns in the first lanes.

    Args:
        rows: addresses in A, whose k lie side by side; their number times the columns is at most that of lanes.
        columns: addresses in B, whose k lie side by side, too.
        taps: the first of a list of pairs of offsets in A and in B, and the end of the list.
        depth: the k of each tap.
    """
    lanes, vector = b.target.lanes(dtype), b.target.vector_bytes
    vtype, item = vector_type(dtype, lanes), DTYPE_BYTES[dtype]
    kinds = [vtype] * (len(rows) * len(columns))
    whole = b.op(f"and i64 {depth}, {-lanes}")
    rest = b.tail_mask(lanes, b.sub(depth, whole))
    whole, end = b.mul(whole, item), b.mul(depth, item)
    begin, stop = (b.op(f"ptrtoint ptr {end} to i64") for end in taps)

    def step(left: list[str], right: list[str], at: str, sums: list[str], mask: str | None) -> list[str]:
        factors = [b.load(dtype, lanes, b.at(column, at), mask) for column in right]
        added: list[str] = []
        for row in left:
            value = b.load(dtype, lanes, b.at(row, at), mask)
            for factor in factors:
                added.append(b.fma(dtype, lanes, value, factor, sums[len(added)]))
        return added

    with b.loop(0, b.sub(stop, begin), 16, [(kind, "zeroinitializer") for kind in kinds]) as tap:
        place = b.at(taps[0], tap.index)
        a_off, b_off = b.load_int(place), b.load_int(place, 8)
        left, right = [b.at(row, a_off) for row in rows], [b.at(column, b_off) for column in columns]
        with b.loop(0, whole, vector, list(zip(kinds, tap.values, strict=True))) as steps:
            steps.next(step(left, right, steps.index, steps.values, None))
        # A loop of at most one step: what is left of k.
        with b.loop(whole, end, vector, list(zip(kinds, steps.results, strict=True))) as last:
            last.next(step(left, right, last.index, last.values, rest))
        tap.next(last.results)
    sums = tap.results + ["zeroinitializer"] * (lanes - len(kinds))
    total = gathered(b, dtype, lanes, sums)
    lines = []
    for i in range(len(rows)):
        kept = [i * len(columns) + j for j in range(len(columns))] + [0] * (lanes - len(columns))
        mask = ", ".join(f"i32 {lane}" for lane in kept)
        lines.append(b.op(f"shufflevector {vtype} {total}, {vtype} poison, <{lanes} x i32> <{mask}>"))
    return lines
