"""The register tile of the contraction kernel: its two inner loops, and what becomes of the sums.

A tile of `rows` pixels by `vectors` vectors of columns: all of its sums stay in registers, each step over k loads one
row of B and broadcasts one element of A for each row. `codegen/contract.py` has the loops around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from juanji.codegen.builder import Builder, vector_type
from juanji.codegen.dot import dot_products
from juanji.codegen.expr import Emitter, Expr
from juanji.target import DTYPE_BYTES, Target

#: int64 columns of the table of taps.
TAP_FIELDS = ("a_off", "b_off")

#: Rows of a tile at most.
_MOST_ROWS = 12
#: How far ahead A is asked for, in bytes: several times what is read while memory answers.
_AHEAD = 4096
_LINE = 64
#: The largest factor of an index in an address.
_SCALE = 8
#: Epilogues with more operations than this are written once in a loop over rows, not once for each row.
_INLINE_OPERATIONS = 6


@dataclass(frozen=True)
class TileSpec:
    """What shapes the code of a contraction kernel.

    Args:
        dtype: of A, B and C. Integers are multiplied and added in their own type, modulo its range.
        vectors: vectors of a full block of columns; the block is `vectors * lanes` columns wide.
        tail: vectors of the last, partial block: 0 where n is a multiple of the block, else 1 to `vectors`.
        full: whether full blocks occur.
        epilogue: expression of ("acc", dtype) and ("load", dtype_i, i) that is stored; None stores the sum.
        extras: (dtype, class) of the epilogue's inputs. Class "n": indexed by the column; "c": laid out as C,
            with the same strides in elements; "m": by the row, as its x (m % mx), for all columns; "s": one scalar.
        steps: K of every rect, `a_k` and `b_k`, where these are known: the steps over k are then written out one after
            another. A tile of one vector is bound by loads, and the loop's own come on top of them. None: a loop.
        most: rows of a tile at most, where there are never more: a larger one would compute rows that are not there.
            0: as many as fit into the registers.
        dots: n, where so few columns would leave most lanes idle: then the k of A and of B lie side by side, `b_k` is
            from column to column, and each sum is taken along the lanes, which are added up in the end. 0: not so.
        copies: whether each segment's rows of B are copied side by side before the rows of a job pass over them, for
            long sums into small results. Rows of B that are far apart share few places of the first-level cache, and
            push each other out. Meanwhile the next segment of A and B is asked for.
        streams: whether whole vectors of C are written past the caches, where C begins at a multiple of a vector: all
            its strides are, and each element is written once.
        asks: so many elements of A are asked for with each step over k, `_AHEAD` bytes before they are read: where
            pixels lie one after another, as many as the next tile moves on. The processor itself follows one line of
            memory, not the many rows of a tile. 0: not so.
    """

    dtype: str
    vectors: int
    tail: int = 0
    full: bool = True
    epilogue: Expr | None = None
    extras: tuple[tuple[str, str], ...] = ()
    steps: tuple[int, int, int] | None = None
    most: int = 0
    dots: int = 0
    copies: bool = False
    streams: bool = False
    asks: int = 0
    chains: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPE_BYTES or self.dtype == "b1":
            raise ValueError(f"a contraction's dtype is that of numbers, not {self.dtype!r}")
        if not 0 <= self.tail <= self.vectors:
            raise ValueError(f"tail is {self.tail}, but must be 0 to vectors = {self.vectors}")
        if not self.full and not self.tail:
            raise ValueError("a contraction needs full blocks, a partial block, or both")
        if self.steps is not None and self.steps[0] < 1:
            raise ValueError(f"a contraction's steps over k are at least 1, not {self.steps[0]}")
        if self.most < 0:
            raise ValueError(f"a tile has at least one row, or 0 for as many as fit, not {self.most}")
        if self.asks < 0 or (self.dots and self.asks):
            raise ValueError(f"elements asked for with each step over k are 0 or more, not {self.asks}")
        if self.copies and (self.dtype[0] != "f" or self.dots or self.steps):
            raise ValueError("rows of B are copied for floating-point numbers, with a loop over k")
        if self.chains and (self.dtype[0] != "f" or self.dots or self.steps or self.copies):
            raise ValueError("chains of sums are of floating-point numbers, with a loop over k")
        if self.dots and (self.dtype[0] != "f" or self.full or self.vectors > 1 or self.steps):
            raise ValueError("dot products are of floating-point numbers, for one partial block, with a loop over k")
        for extra in self.extras:
            if extra[1] not in ("n", "c", "m", "s"):
                raise ValueError(f"the class of an extra input is 'n', 'c', 'm' or 's', not {extra[1]!r}")

    def rows(self, target: Target) -> int:
        """Pixels of the register tile of full blocks: job boundaries at multiples of it waste nothing."""
        return self.tile(self.vectors if self.full else self.tail, target)

    def tile(self, vectors: int, target: Target) -> int:
        """Rows of a tile that is `vectors` wide."""
        rows = tile_rows(vectors, target)
        if self.dots:
            rows = max(1, min(rows, target.lanes(self.dtype) // self.dots))
        if self.copies:
            rows = min(rows, _MOST_ROWS - 1)  # there is one pointer more
        return min(rows, self.most) if self.most else rows

    def block(self, target: Target) -> int:
        """Columns of a full block."""
        return self.vectors * target.lanes(self.dtype)


def tile_rows(vectors: int, target: Target) -> int:
    """Rows of a register tile `vectors` wide.

    At most twelve: with the index, the row of B and the counter, their pointers fill the general registers.
    """
    return target.tile(vectors, _MOST_ROWS)


def _chains(sums: int) -> int:
    """Steps over k at a time that a tile of so many sums needs: eight multiply-adds are under way, two a cycle for four
    cycles each; but at most four steps, since each is two loads and more.

    >>> [_chains(sums) for sums in (1, 2, 3, 4, 8)]
    [4, 4, 2, 2, 1]
    """
    return max(n for n in (1, 2, 4) if n == 1 or n * sums <= 8)


@dataclass
class Tile:
    """What the code of one register tile is made from, besides the values all tiles share."""

    rows: int
    vectors: int
    masked: bool
    left: str  # pixels that are left: at least `sure`, maybe more than `rows`
    sure: int
    column: str  # first column of the block
    offsets: list[str]  # of each row, in C
    across: list[str]  # x of each row, where the epilogue uses it
    panel: str  # this block's rows of B


class TileWriter:
    """Writes tiles; the attributes are registers that live through the kernel.

    Attributes:
        arg: the kernel's arguments, by name.
        rect: the fields of the rectangle at work, by name.
        steps: where the steps over k are, in memory.
        extras: the pointers of the epilogue's inputs.
        tap_first, tap_stop, tap_ahead: the taps of the segment at work, and bytes to those of the next.
        add, last: whether the sums are added to C, and whether the epilogue is applied.
        copied: where the segment's rows of B are, if they are copied.
        streamed: whether C begins where whole vectors can be written past the caches.
        sums, offset_table, across_table: places for the sums of a tile, and the offset in C and x of each row.
    """

    steps: dict[str, str]
    extras: list[str]
    tap_first: str
    tap_stop: str
    tap_ahead: str
    add: str
    last: str
    copied: str
    streamed: str
    sums: str
    offset_table: str
    across_table: str

    def __init__(self, spec: TileSpec, builder: Builder) -> None:
        self.spec, self.b = spec, builder
        self.lanes = builder.target.lanes(spec.dtype)
        self.size = DTYPE_BYTES[spec.dtype]
        self.vtype = vector_type(spec.dtype, self.lanes)
        widths = [v for v in (spec.vectors * spec.full, spec.tail) if v]
        #: Rows (with padding), and bytes of sums, of the largest tile.
        self.most_rows = whole_vectors(max(spec.tile(v, builder.target) for v in widths))
        self.most_bytes = max(spec.tile(v, builder.target) * v for v in widths) * builder.target.vector_bytes
        self.arg: dict[str, str] = {}
        self.rect: dict[str, str] = {}
        self.uses_x = any(kind == "m" for _, kind in spec.extras)

    # -- masks ----------------------------------------------------------------------------------------
    def prepare_mask(self, count: str) -> None:
        """Keeps the mask of the last vector in the form the target holds in one register.

        Without mask registers that is a vector of integers whose sign bits count: a vector of bits would be
        packed and unpacked at every use.
        """
        mask = self.b.tail_mask(self.lanes, count)
        self.mask_bits = self.b.target.vector_bytes == 64
        self.mask_type = f"<{self.lanes} x i{8 * self.size}>"
        self.mask = mask if self.mask_bits else self.b.op(f"sext <{self.lanes} x i1> {mask} to {self.mask_type}", "m")

    def mask_of(self, tile: Tile, v: int) -> str | None:
        """The mask of a tile's vector `v`, where it needs one."""
        if not tile.masked or v < tile.vectors - 1:
            return None
        if self.mask_bits:
            return self.mask
        return self.b.op(f"icmp slt {self.mask_type} {self.mask}, zeroinitializer", "m")

    # -- the tile -------------------------------------------------------------------------------------
    def tile(self, tile: Tile, addresses: list[str]) -> None:
        """One tile, from the addresses of its rows in A to its results in C."""
        b = self.b
        count = tile.rows * tile.vectors
        if self.spec.dots:
            sums = self._dots(tile, addresses)
        elif self.spec.chains and _chains(count) > 1:
            sums = self._several(tile, addresses, _chains(count))
        else:
            sums = self._taps(tile, addresses)
        if tile.rows > 1:
            tile.offsets = [b.load_int(slot) for slot in tile.offsets]
            if not self.looped_epilogue():
                tile.across = [b.load_int(slot) for slot in tile.across]
        places = [b.at(self.arg["C"], offset) for offset in tile.offsets]
        before, then, done = b.block, b.label("add"), b.label("added")
        b.branch(self.add, then, done)
        b.start(then)
        added = self._add(tile, sums, places)
        end = b.block
        b.jump(done)
        b.start(done)
        sums = [b.op(f"phi {self.vtype} [ {sums[i]}, %{before} ], [ {added[i]}, %{end} ]") for i in range(count)]
        if self.spec.epilogue is None:
            self._store(tile, sums, places, False)
            return
        final, plain, stored = b.label("final"), b.label("plain"), b.label("stored")
        b.branch(self.last, final, plain)
        b.start(plain)
        self._store(tile, sums, places, False)
        b.jump(stored)
        b.start(final)
        if self.looped_epilogue():
            self._store_looped(tile, sums)
        else:
            self._store(tile, sums, places, True)
        b.jump(stored)
        b.start(stored)

    def _taps(self, tile: Tile, addresses: list[str]) -> list[str]:
        """The sums of one segment: the two inner loops."""
        b, spec = self.b, self.spec
        count = tile.rows * tile.vectors
        before, head, body, done = b.block, b.label("taps"), b.label("tap"), b.label("summed")
        step = b.label("k")
        tap, tap_next = b.fresh("t"), b.fresh("t")
        acc, inner = [b.fresh("s") for _ in range(count)], [b.fresh("s") for _ in range(count)]
        idx, row, counter = b.fresh("x"), b.fresh("b"), b.fresh("k")
        # The phis name registers that the loop over k defines below.
        new = [b.fresh("s") for _ in range(count)]
        b.jump(head)
        b.start(head)
        b.emit(f"{tap} = phi ptr [ {self.tap_first}, %{before} ], [ {tap_next}, %{step} ]")
        for i in range(count):
            b.emit(f"{acc[i]} = phi {self.vtype} [ zeroinitializer, %{before} ], [ {new[i]}, %{step} ]")
        idx_next, row_next, counter_next = b.fresh("x"), b.fresh("b"), b.fresh("k")
        copied = b.fresh("b")
        if spec.copies:
            b.emit(f"{copied} = phi ptr [ {self.copied}, %{before} ], [ {row_next}, %{step} ]")
        b.branch(b.op(f"icmp ult ptr {tap}, {self.tap_stop}"), body, done)
        b.start(body)
        a_off = b.load_int(tap)
        row_start, ahead = copied, ""
        if spec.copies:
            # The same place of the segment after this one.
            ahead = b.at(addresses[0], b.sub(b.load_int(b.at(tap, self.tap_ahead)), a_off))
        else:
            row_start = b.at(tile.panel, b.load_int(tap, 8))
        b.emit(f"{tap_next} = getelementptr i8, ptr {tap}, i64 {8 * len(TAP_FIELDS)}")
        if spec.steps is not None:
            self._straight(tile, [b.at(address, a_off) for address in addresses], row_start, acc, new)
            b.jump(step)
            b.start(step)
            b.jump(head)
            b.start(done)
            return acc
        b.jump(step)
        b.start(step)
        b.emit(f"{idx} = phi i64 [ {a_off}, %{body} ], [ {idx_next}, %{step} ]")
        b.emit(f"{row} = phi ptr [ {row_start}, %{body} ], [ {row_next}, %{step} ]")
        b.emit(f"{counter} = phi i64 [ {self.rect['K']}, %{body} ], [ {counter_next}, %{step} ]")
        for i in range(count):
            b.emit(f"{inner[i]} = phi {self.vtype} [ {acc[i]}, %{body} ], [ {new[i]}, %{step} ]")
        vector_bytes = b.target.vector_bytes
        columns = [
            b.load(spec.dtype, self.lanes, b.at(row, v * vector_bytes), None if spec.copies else self.mask_of(tile, v))
            for v in range(tile.vectors)
        ]
        if spec.copies:
            b.prefetch(b.at(ahead, idx), 2)
        if spec.asks:
            # An index times a power of two and a constant are part of an address: there is no register left.
            scale = min(_SCALE, whole_vectors(spec.asks))
            strip = b.mul(idx, scale)
            for i in range(0, min(tile.rows, spec.asks), _SCALE):
                b.prefetch(b.at(b.at(addresses[min(i, tile.rows - _SCALE)] if i else addresses[0], strip), _AHEAD))
        for i, address in enumerate(addresses):
            scalar = b.load(spec.dtype, 1, b.at(address, idx))
            factor = b.splat(spec.dtype, self.lanes, scalar)
            for v in range(tile.vectors):
                j = i * tile.vectors + v
                if spec.dtype[0] == "f":
                    b.fma(spec.dtype, self.lanes, factor, columns[v], inner[j], new[j])
                else:
                    product = b.op(f"mul {self.vtype} {factor}, {columns[v]}")
                    b.emit(f"{new[j]} = add {self.vtype} {product}, {inner[j]}")
        b.emit(f"{idx_next} = add i64 {idx}, {b.load_int(self.steps['a_k'])}")
        b_k = str(tile.vectors * vector_bytes) if spec.copies else b.load_int(self.steps["b_k"])
        b.emit(f"{row_next} = getelementptr i8, ptr {row}, i64 {b_k}")
        b.emit(f"{counter_next} = add i64 {counter}, -1")
        b.branch(b.compare("ne", counter_next, 0), step, head)
        b.start(done)
        return acc

    def _several(self, tile: Tile, addresses: list[str], chains: int) -> list[str]:
        """The sums of one segment, `chains` steps over k at a time; what is left of a tap goes on with the first."""
        b, count = self.b, tile.rows * tile.vectors
        zero = [(self.vtype, "zeroinitializer")] * (count * chains)
        first, stop = (b.op(f"ptrtoint ptr {p} to i64") for p in (self.tap_first, self.tap_stop))
        depth = self.rect["K"]
        left = b.op(f"and i64 {depth}, {chains - 1}")
        whole = b.sub(depth, left)

        def steps(number: int, place: list[str], sums: list[str]) -> list[str]:
            """So many steps from a place in A and one in B; then the next place and sums."""
            idx, row = place
            result = list(sums)
            for chain in range(number):
                columns = [
                    b.load(self.spec.dtype, self.lanes, b.at(row, v * b.target.vector_bytes), self.mask_of(tile, v))
                    for v in range(tile.vectors)
                ]
                for i, address in enumerate(addresses):
                    factor = b.splat(self.spec.dtype, self.lanes, b.load(self.spec.dtype, 1, b.at(address, idx)))
                    for v in range(tile.vectors):
                        j = chain * count + i * tile.vectors + v
                        result[j] = b.fma(self.spec.dtype, self.lanes, factor, columns[v], sums[j])
                idx, row = b.add(idx, self.arg["a_k"]), b.at(row, self.arg["b_k"])
            return [idx, row, *result]

        kinds = [("i64", ""), ("ptr", ""), *zero]
        with b.loop(0, b.sub(stop, first), 8 * len(TAP_FIELDS), zero) as taps:
            tap = b.at(self.tap_first, taps.index)
            state = [b.load_int(tap), b.at(tile.panel, b.load_int(tap, 8)), *taps.values]
            for end, number in ((whole, chains), (left, 1)):
                carried = [(kind, value) for (kind, _), value in zip(kinds, state, strict=True)]
                with b.loop(0, end, number, carried) as loop:
                    loop.next(steps(number, loop.values[:2], loop.values[2:]))
                state = loop.results
            taps.next(state[2:])
        sums = taps.results
        while len(sums) > count:  # in pairs, always in the same order
            half = len(sums) // 2
            sums = [b.op(f"fadd {self.vtype} {sums[i]}, {sums[i + half]}") for i in range(half)]
        return sums

    def _dots(self, tile: Tile, addresses: list[str]) -> list[str]:
        """The sums of one segment, taken along the lanes."""
        b = self.b
        columns = [b.at(tile.panel, b.mul(self.arg["b_k"], j)) for j in range(self.spec.dots)]
        ends = (self.tap_first, self.tap_stop)
        return dot_products(b, self.spec.dtype, addresses, columns, ends, self.rect["K"])

    def _straight(self, tile: Tile, rows: list[str], row: str, sums: list[str], new: list[str]) -> None:
        """All steps over k of one tap, written out: `sums` in, `new` out."""
        b, spec = self.b, self.spec
        assert spec.steps is not None
        depth, a_k, b_k = spec.steps
        lines = -(-spec.asks * depth * self.size // _LINE)
        for k in range(depth):
            for line in range(lines * k // depth, lines * (k + 1) // depth):
                b.prefetch(b.at(rows[0], _AHEAD + line * _LINE))
            columns = [
                b.load(spec.dtype, self.lanes, b.at(row, k * b_k + v * b.target.vector_bytes), self.mask_of(tile, v))
                for v in range(tile.vectors)
            ]
            following = []
            for i, address in enumerate(rows):
                factor = b.splat(spec.dtype, self.lanes, b.load(spec.dtype, 1, b.at(address, k * a_k)))
                for v in range(tile.vectors):
                    j = i * tile.vectors + v
                    name = new[j] if k + 1 == depth else ""
                    following.append(b.fma(spec.dtype, self.lanes, factor, columns[v], sums[j], name))
            sums = following

    # -- results --------------------------------------------------------------------------------------
    def _add(self, tile: Tile, sums: list[str], places: list[str]) -> list[str]:
        """The sums plus what C holds."""
        b = self.b
        added = []
        for i, place in enumerate(places):
            for v in range(tile.vectors):
                where = b.at(place, v * b.target.vector_bytes)
                held = b.load(self.spec.dtype, self.lanes, where, self.mask_of(tile, v))
                add = "fadd" if self.spec.dtype[0] == "f" else "add"
                added.append(b.op(f"{add} {self.vtype} {sums[i * tile.vectors + v]}, {held}"))
        return added

    def _store(self, tile: Tile, sums: list[str], places: list[str], epilogue: bool) -> None:
        b = self.b
        shared = self._shared(tile) if epilogue else {}
        past, plain, done = b.label("past"), b.label("cached"), b.label("written")
        if self.spec.streams:
            b.branch(self.streamed, past, plain)
        for stream in (True, False) if self.spec.streams else (False,):
            if self.spec.streams:
                b.start(past if stream else plain)
            for i, place in self._existing(tile, places):
                row = (tile.offsets[i], tile.across[i] if self.uses_x else "")
                for v in range(tile.vectors):
                    value = sums[i * tile.vectors + v]
                    if epilogue:
                        value = self._result(tile, value, row, v, shared)
                    where = b.at(place, v * b.target.vector_bytes)
                    mask = self.mask_of(tile, v)
                    if stream and mask is None:
                        b.stream(self.spec.dtype, self.lanes, value, where)
                    else:
                        b.store(self.spec.dtype, self.lanes, value, where, mask)
            if self.spec.streams:
                b.jump(done)
        if self.spec.streams:
            b.start(done)

    def _existing(self, tile: Tile, places: list[str]) -> Iterator[tuple[int, str]]:
        """The rows of a tile; code after each is skipped once no row is left."""
        b = self.b
        done = b.label("end")
        for i, place in enumerate(places):
            if i >= tile.sure:
                there = b.label("row")
                b.branch(b.compare("sgt", tile.left, i), there, done)
                b.start(there)
            yield i, place
        b.jump(done)
        b.start(done)

    def _store_looped(self, tile: Tile, sums: list[str]) -> None:
        """The epilogue in a loop over rows, for expressions too long to write out for each."""
        b = self.b
        vector_bytes = b.target.vector_bytes
        for j, value in enumerate(sums):
            where = b.at(self.sums, j * vector_bytes)
            b.emit(f"store {self.vtype} {value}, ptr {where}, align 16")
        with b.loop(0, b.min(tile.left, tile.rows)) as rows:
            if tile.rows > 1:
                offset = b.load_int(self.offset_table, b.mul(rows.index, 8))
            else:
                offset = tile.offsets[0]
            x = tile.across[0] if self.uses_x else ""
            if self.uses_x and tile.rows > 1:
                x = b.load_int(self.across_table, b.mul(rows.index, 8))
            place = b.at(self.arg["C"], offset)
            line = b.at(self.sums, b.mul(rows.index, tile.vectors * vector_bytes))
            for v in range(tile.vectors):
                where = b.at(line, v * vector_bytes)
                value = b.op(f"load {self.vtype}, ptr {where}, align 16")
                value = self._result(tile, value, (offset, x), v, {})
                target = b.at(place, v * vector_bytes)
                b.store(self.spec.dtype, self.lanes, value, target, self.mask_of(tile, v))

    def looped_epilogue(self) -> bool:
        """Whether the epilogue is written once, in a loop over the rows of a tile."""
        return self.spec.epilogue is not None and _operations(self.spec.epilogue) > _INLINE_OPERATIONS

    def _shared(self, tile: Tile) -> dict[tuple[int, int], str]:
        """Extra inputs that do not depend on the row, loaded once for a tile."""
        found = {}
        for i, (_, kind) in enumerate(self.spec.extras):
            if kind in ("n", "s"):
                for v in range(tile.vectors):
                    found[i, v] = self._extra(tile, i, v, ("", ""))
        return found

    def _extra(self, tile: Tile, i: int, v: int, row: tuple[str, str]) -> str:
        """Vector v of extra input i in a row, given as its byte offset in C and its x."""
        b = self.b
        dtype, kind = self.spec.extras[i]
        if kind == "s":
            return b.splat(dtype, self.lanes, b.load(dtype, 1, self.extras[i]))
        if kind == "m":
            where = b.at(self.extras[i], b.mul(b.add(row[1], self.rect["n_base"]), DTYPE_BYTES[dtype]))
            return b.splat(dtype, self.lanes, b.load(dtype, 1, where))
        if kind == "n":
            column = b.add(b.add(tile.column, self.rect["n_base"]), v * self.lanes)
            where = b.at(self.extras[i], b.mul(column, DTYPE_BYTES[dtype]))
        else:
            offset = row[0]
            size, own = DTYPE_BYTES[dtype], DTYPE_BYTES[self.spec.dtype]
            if size != own:  # the same element, of another size
                offset = b.mul(b.op(f"sdiv exact i64 {offset}, {own}"), size)
            where = b.at(b.at(self.extras[i], offset), v * self.lanes * size)
        return b.load(dtype, self.lanes, where, self.mask_of(tile, v))

    def _result(self, tile: Tile, acc: str, row: tuple[str, str], v: int, shared: dict[tuple[int, int], str]) -> str:
        def load(i: int) -> str:
            return shared.get((i, v)) or self._extra(tile, i, v, row)

        assert self.spec.epilogue is not None
        return Emitter(self.b, self.lanes, load, acc=acc).emit(self.spec.epilogue)


def whole_vectors(count: int) -> int:
    """A power of two: LLVM takes vectors of other lengths apart where they cross a branch."""
    return 1 << (count - 1).bit_length()


def _operations(expr: Expr) -> int:
    return 1 + sum(_operations(operand) for operand in expr if isinstance(operand, tuple))
