"""Reductions over strided loops: the row and column modes of `loops.LoopSpec`.

*Row*: the last axes are reduced, vectorised along the innermost of them. *Column*: the innermost axis is kept
and vectorised along, the axes before it are reduced. In both, stages run in order for one kept position (in
column mode: a few vectors of them) at a time:

* `("reduce", kind, expr)`: sum, prod, max, min, any, all, argmax or argmin of `expr`. Its result is
  `("red", dtype, j)` for later stages, j counting the reductions. Neighbours that do not use each other share
  a pass.
* `("store", output, expr)`: written at every position, reduced axes included.
* `("store_row", output, expr)`: written once for each kept position; it may read inputs that do not move
  along the reduced axes.

Sums of floats are made of blocks of at most 32 additions a lane, and the blocks are added with their rounding
errors kept, so a sum of a million numbers is as good as one of a few hundred. The order of additions depends
on nothing but the extents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from juanji.codegen.builder import Builder, vector_type
from juanji.codegen.expr import Emitter, Expr, leaves
from juanji.codegen.lanes import FLOATS, Lanes
from juanji.codegen.loops import Nest, cost, splat_reds, used_loads, walk, whole
from juanji.target import DTYPE_BYTES

#: Additions in a row to one accumulator before it is passed on.
_BLOCK = 32
_LIMITS = {"i8": (-(2**7), 2**7 - 1), "i16": (-(2**15), 2**15 - 1), "i32": (-(2**31), 2**31 - 1),
           "i64": (-(2**63), 2**63 - 1), "u8": (0, 255), "b1": (0, 1)}  # fmt: skip

Registers = list[str]


@dataclass(frozen=True)
class Reduction:
    """How values of one kind of reduction are put together.

    Raises:
        ValueError: the kind is unknown.
    """

    kind: str
    dtype: str

    def __post_init__(self) -> None:
        if self.kind not in ("sum", "prod", "max", "min", "any", "all", "argmax", "argmin"):
            raise ValueError(f"there is no reduction {self.kind!r}")

    @property
    def is_arg(self) -> bool:
        """Whether positions are kept beside the values."""
        return self.kind.startswith("arg")

    @property
    def result(self) -> str:
        """The dtype of what it gives."""
        return "i64" if self.is_arg else self.dtype

    @property
    def parts(self) -> list[str]:
        """The dtypes of an accumulator's registers."""
        return [self.dtype, "i64"] if self.is_arg else [self.dtype]

    @property
    def total_parts(self) -> list[str]:
        """The dtypes of the registers that blocks are gathered in: float sums keep their rounding error."""
        return [self.dtype, self.dtype] if self._compensated else self.parts

    @property
    def _compensated(self) -> bool:
        return self.kind == "sum" and self.dtype in FLOATS

    def identity(self, lanes: Lanes) -> Registers:
        """An accumulator of nothing."""
        kind = self.kind.removeprefix("arg")
        if kind in ("sum", "any"):
            value: float | int = 0
        elif kind in ("prod", "all"):
            value = 1
        elif self.dtype in FLOATS:
            value = float("-inf") if kind == "max" else float("inf")
        else:
            value = _LIMITS[self.dtype][0 if kind == "max" else 1]
        first = lanes.const(self.dtype, value)
        return [first, lanes.const("i64", 0)] if self.is_arg else [first]

    def step(self, lanes: Lanes, acc: Registers, value: str, position: str) -> Registers:
        """The accumulator with one more value; `position` (for arg reductions) is beyond all earlier ones."""
        if not self.is_arg:
            return self.combine(lanes, acc, [value])
        better = self._better(lanes, value, acc[0])
        return [
            lanes.select(self.dtype, better, value, acc[0]),
            lanes.select("i64", better, position, acc[1]),
        ]

    def combine(self, lanes: Lanes, a: Registers, b: Registers) -> Registers:
        """Two accumulators as one."""
        dtype = self.dtype
        if self.kind in ("sum", "prod"):
            name = "add" if self.kind == "sum" else "mul"
            if dtype == "b1":
                name = "or" if self.kind == "sum" else "and"
            return [lanes.op(f"f{name}" if dtype in FLOATS else name, dtype, a[0], b[0])]
        if self.kind in ("max", "min"):
            return [lanes.minmax(self.kind, dtype, a[0], b[0])]
        if self.kind in ("any", "all"):
            return [lanes.op("or" if self.kind == "any" else "and", dtype, a[0], b[0])]
        # A tie goes to the earlier position; among NaNs too.
        better, worse = self._better(lanes, b[0], a[0]), self._better(lanes, a[0], b[0])
        earlier = lanes.compare("slt", "i64", b[1], a[1])
        tie = lanes.select("b1", worse, lanes.const("b1", False), earlier)
        chosen = lanes.op("or", "b1", better, tie)
        return [
            lanes.select(dtype, chosen, b[0], a[0]),
            lanes.select("i64", chosen, b[1], a[1]),
        ]

    def _better(self, lanes: Lanes, value: str, best: str) -> str:
        """Strictly better; NaN is better than any number and no worse than NaN."""
        maximum = self.kind == "argmax"
        if self.dtype not in FLOATS:
            sign = "u" if self.dtype in ("u8", "b1") else "s"
            return lanes.compare(sign + ("gt" if maximum else "lt"), self.dtype, value, best)
        beats = lanes.compare("ugt" if maximum else "ult", self.dtype, value, best)
        return lanes.op("and", "b1", beats, lanes.compare("ord", self.dtype, best, best))

    def begin(self, lanes: Lanes, acc: Registers) -> Registers:
        """The total of one block."""
        return [acc[0], lanes.const(self.dtype, 0)] if self._compensated else acc

    def absorb(self, lanes: Lanes, total: Registers, acc: Registers) -> Registers:
        """The total with one more block."""
        if not self._compensated:
            return self.combine(lanes, total, acc)
        # Knuth's exact addition: `error` is what rounding took from the sum.
        dtype, (a, error), b = self.dtype, total, acc[0]
        s = lanes.add(dtype, a, b)
        b_in = lanes.sub(dtype, s, a)
        lost = lanes.add(dtype, lanes.sub(dtype, a, lanes.sub(dtype, s, b_in)), lanes.sub(dtype, b, b_in))
        return [s, lanes.add(dtype, error, lost)]

    def finish(self, lanes: Lanes, total: Registers) -> Registers:
        """The accumulator that a total stands for."""
        if not self._compensated:
            return total
        both = lanes.add(self.dtype, *total)
        # An infinite sum leaves NaN as its error.
        return [lanes.select(self.dtype, lanes.compare("uno", self.dtype, total[1], total[1]), total[0], both)]

    def across(self, builder: Builder, width: int, acc: Registers) -> str:
        """The scalar result of all lanes, by halves."""
        while width > 1:
            half = width // 2
            low = [_lanes_of(builder, t, width, r, 0, half) for t, r in zip(self.parts, acc, strict=True)]
            high = [_lanes_of(builder, t, width, r, half, half) for t, r in zip(self.parts, acc, strict=True)]
            acc = self.combine(Lanes(builder, half), low, high)
            width = half
        return acc[-1]


def _lanes_of(builder: Builder, dtype: str, width: int, register: str, first: int, count: int) -> str:
    vtype = vector_type(dtype, width)
    if count == 1:
        return builder.op(f"extractelement {vtype} {register}, i64 {first}")
    chosen = ", ".join(f"i32 {i}" for i in range(first, first + count))
    return builder.op(f"shufflevector {vtype} {register}, {vtype} poison, <{count} x i32> <{chosen}>")


# -- the loop along the innermost reduced axis ------------------------------------------------------------
Body = Callable[[str, "str | None"], "tuple[list[str], str]"]


@dataclass(frozen=True)
class _Run:
    """Accumulates along one axis: `slots` reductions at once, in `unroll` independent accumulators each.

    Args:
        body: writes the slots' values at a position (and its mask), and gives the positions' register.
        step: positions that one call of the body covers.
        masked: the last positions may not fill a step.
    """

    nest: Nest
    slots: list[Reduction]
    unroll: int
    step: int
    masked: bool

    def _types(self, parts: Callable[[Reduction], list[str]]) -> list[str]:
        return [vector_type(d, self.nest.width) for slot in self.slots for d in parts(slot)]

    def _split(self, registers: Sequence[str], parts: Callable[[Reduction], list[str]]) -> list[Registers]:
        split, at = [], 0
        for slot in self.slots:
            size = len(parts(slot))
            split.append(list(registers[at : at + size]))
            at += size
        return split

    def write(self, count: str, state: Sequence[str] | None, body: Body) -> Registers:
        """Goes over positions 0 .. count - 1; returns the totals, flat."""
        b, width = self.nest.builder, self.nest.width
        lanes = Lanes(b, width)
        each = self.unroll * self.step
        end = whole(b, count, each)
        identity = [r for slot in self.slots for r in slot.identity(lanes)]
        types = self._types(lambda slot: slot.parts)

        def advance(acc: Sequence[str], index: str, mask: str | None) -> Registers:
            values, position = body(index, mask)
            after: Registers = []
            split = self._split(acc, lambda slot: slot.parts)
            for slot, old, value in zip(self.slots, split, values, strict=True):
                if mask is not None:
                    value = lanes.select(slot.dtype, mask, value, slot.identity(lanes)[0])
                after += slot.step(lanes, old, value, position)
            return after

        def absorbed(totals: Sequence[str], acc: Sequence[str]) -> Registers:
            old = self._split(totals, lambda slot: slot.total_parts)
            new = self._split(acc, lambda slot: slot.parts)
            return [r for slot, t, a in zip(self.slots, old, new, strict=True) for r in slot.absorb(lanes, t, a)]

        def begun(acc: Sequence[str]) -> Registers:
            split = self._split(acc, lambda slot: slot.parts)
            return [r for slot, a in zip(self.slots, split, strict=True) for r in slot.begin(lanes, a)]

        # What is left over comes first: for short rows it is all there is, and starts the total.
        rest = identity
        if self.masked or self.unroll > 1:
            with b.loop(end, count, self.step, carried=list(zip(types, identity, strict=True))) as loop:
                mask = b.tail_mask(width, b.sub(count, loop.index)) if self.masked else None
                loop.next(advance(loop.values, loop.index, mask))
            rest = loop.results
        totals = begun(rest) if state is None else absorbed(state, rest)

        total_types = self._types(lambda slot: slot.total_parts)
        block = _BLOCK * each
        with b.loop(0, end, block, carried=list(zip(total_types, totals, strict=True))) as blocks:
            stop = b.min(b.add(blocks.index, block), end)
            many = list(zip(types * self.unroll, identity * self.unroll, strict=True))
            with b.loop(blocks.index, stop, each, carried=many) as loop:
                after: Registers = []
                for u in range(self.unroll):
                    acc = loop.values[u * len(types) : (u + 1) * len(types)]
                    after += advance(acc, b.add(loop.index, u * self.step) if u else loop.index, None)
                loop.next(after)
            accs = [loop.results[u * len(types) : (u + 1) * len(types)] for u in range(self.unroll)]
            while len(accs) > 1:
                accs = [self._combined(lanes, accs[i], accs[i + 1]) for i in range(0, len(accs), 2)]
            blocks.next(absorbed(blocks.values, accs[0]))
        return blocks.results

    def _combined(self, lanes: Lanes, a: Sequence[str], b: Sequence[str]) -> Registers:
        pairs = zip(
            self.slots,
            self._split(a, lambda slot: slot.parts),
            self._split(b, lambda slot: slot.parts),
            strict=True,
        )
        return [r for slot, x, y in pairs for r in slot.combine(lanes, x, y)]

    def nested(
        self,
        nest: Nest,
        axes: Sequence[int],
        state: Sequence[str] | None,
        inner: Callable[[Nest, Any], Registers],
    ) -> Registers:
        """Carries the totals through loops over `axes` around `inner`."""
        if not axes:
            return inner(nest, state)
        b, lanes = nest.builder, Lanes(nest.builder, nest.width)
        if state is None:
            state = [r for slot in self.slots for r in slot.begin(lanes, slot.identity(lanes))]
        carried = list(zip(self._types(lambda slot: slot.total_parts), state, strict=True))
        with b.loop(0, nest.extents[axes[0]], carried=carried) as loop:
            loop.next(self.nested(nest.at(axes[0], loop.index), axes[1:], loop.values, inner))
        return loop.results

    def finish(self, totals: Sequence[str]) -> list[Registers]:
        """Each slot's accumulator."""
        lanes = Lanes(self.nest.builder, self.nest.width)
        split = self._split(totals, lambda slot: slot.total_parts)
        return [slot.finish(lanes, t) for slot, t in zip(self.slots, split, strict=True)]


def _passes(nest: Nest) -> list[tuple[str, list[Any]]]:
    """Stages that can share one walk over the reduced axes."""
    passes: list[tuple[str, list[Any]]] = []
    reductions = first = 0
    for stage in nest.spec.stages:
        kind: str = stage[0]  # type: ignore[assignment]
        expr: Expr = stage[2]  # type: ignore[assignment]
        depends = any(leaf[0] == "red" and leaf[2] >= first for leaf in leaves(expr))
        if not passes or passes[-1][0] != kind or (kind == "reduce" and depends):
            passes.append((kind, []))
            first = reductions
        passes[-1][1].append(stage)
        reductions += kind == "reduce"
    return passes


def _strided(nest: Nest, exprs: Sequence[Expr]) -> bool:
    return any(nest.spec.inputs[k][1] == "any" for k in used_loads(exprs))


# -- rows -------------------------------------------------------------------------------------------------
def row(nest: Nest, kept: int) -> None:
    """Writes all stages of row mode for the kept position that `nest` is at."""
    red: list[str] = []
    outer = range(kept, nest.spec.rank - 1)
    for kind, stages in _passes(nest):
        if kind == "reduce":
            red += _reduce_row(nest, outer, stages, red)
        elif kind == "store":
            walk(nest, outer, _storing(stages, list(red)))
        else:
            _store_row(nest, stages, red)


def _storing(stages: list[Any], red: list[str]) -> Callable[[Nest], None]:
    return lambda at: at.store(stages, red, "0", at.extents[-1])


def _reduce_row(nest: Nest, outer: Sequence[int], stages: list[Any], red: list[str]) -> list[str]:
    b, width = nest.builder, nest.width
    exprs = [stage[2] for stage in stages]
    slots = [Reduction(stage[1], stage[2][1]) for stage in stages]
    size = cost(exprs)
    unroll = 1 if _strided(nest, exprs) or size > 40 else 4 if size <= 16 and len(slots) == 1 else 2
    wide = splat_reds(nest, exprs, red)
    run = _Run(nest, slots, unroll, width, masked=True)

    def inner(at: Nest, state: Sequence[str] | None) -> Registers:
        fixed = at.broadcasts(exprs)
        last = b.sub(at.extents[-1], 1)

        def body(index: str, mask: str | None) -> tuple[list[str], str]:
            emitter = at.emitter(index, fixed, wide, mask, last if mask else None)
            position = emitter.emit(("col", "i64")) if any(slot.is_arg for slot in slots) else ""
            return [emitter.emit(expr) for expr in exprs], position

        return run.write(at.extents[-1], state, body)

    accs = run.finish(run.nested(nest, outer, None, inner))
    return [slot.across(b, width, acc) for slot, acc in zip(slots, accs, strict=True)]


def _store_row(nest: Nest, stages: list[Any], red: list[str]) -> None:
    b, spec = nest.builder, nest.spec
    emitter = Emitter(b, 1, lambda k: b.load(spec.inputs[k][0], 1, nest.pointers[k]), red=red)
    values = [emitter.emit(stage[2]) for stage in stages]
    for stage, value in zip(stages, values, strict=True):
        output = stage[1]
        b.store(spec.outputs[output][0], 1, value, nest.pointers[len(spec.inputs) + output])


# -- columns ----------------------------------------------------------------------------------------------
def column(nest: Nest, kept: int) -> None:
    """Writes all stages of column mode for the kept outer position that `nest` is at."""
    b, width, extent = nest.builder, nest.width, nest.extents[-1]
    reduces = nest.spec.exprs("reduce")
    heavy = _strided(nest, reduces) or cost(reduces) > 24 or len(reduces) > 2
    vectors = 1 if heavy else 4
    end = whole(b, extent, vectors * width)
    with b.loop(0, end, vectors * width) as loop:
        _column(nest, kept, loop.index, vectors, 1 if heavy else 2, None)
    with b.loop(end, extent, width) as loop:
        mask = b.tail_mask(width, b.sub(extent, loop.index))
        _column(nest, kept, loop.index, 1, 1 if heavy else 4, mask)


def _column(nest: Nest, kept: int, first: str, vectors: int, unroll: int, mask: str | None) -> None:
    """The columns from `first` on."""
    b, width = nest.builder, nest.width
    where = [b.add(first, v * width) if v else first for v in range(vectors)]
    last = b.sub(nest.extents[-1], 1) if mask else None
    red: list[list[str]] = [[] for _ in range(vectors)]

    def write(stages: list[Any], at: Nest) -> None:
        fixed = at.broadcasts([stage[2] for stage in stages])
        emitters = [at.emitter(i, fixed, red[v], mask, last) for v, i in enumerate(where)]
        values = [[emitter.emit(stage[2]) for stage in stages] for emitter in emitters]
        for i, row_values in zip(where, values, strict=True):
            for stage, value in zip(stages, row_values, strict=True):
                at.put(stage[1], i, value, mask, at.extents[-1])

    for kind, stages in _passes(nest):
        if kind == "store_row":
            write(stages, nest)
        elif kind == "store":
            walk(nest, range(kept, nest.spec.rank - 1), partial(write, stages))
        else:
            results = _reduce_column(nest, kept, stages, where, unroll, red, mask)
            for v in range(vectors):
                red[v] += results[v * len(stages) : (v + 1) * len(stages)]


def _reduce_column(
    nest: Nest,
    kept: int,
    stages: list[Any],
    where: list[str],
    unroll: int,
    red: list[list[str]],
    mask: str | None,
) -> list[str]:
    """Each vector's results, vector after vector."""
    b, axis = nest.builder, nest.spec.rank - 2
    exprs = [stage[2] for stage in stages]
    slots = [Reduction(stage[1], stage[2][1]) for stage in stages] * len(where)
    run = _Run(nest, slots, unroll, 1, masked=False)
    last = b.sub(nest.extents[-1], 1) if mask else None
    # The next part is asked for while this one is read: columns skip through memory, which processors do not foresee.
    first = stages[0] is next(stage for stage in nest.spec.stages if stage[0] == "reduce")
    ahead = [k for k in used_loads(exprs) if nest.spec.inputs[k][1] == "unit"] if first and kept else []

    def inner(outer: Nest, state: Sequence[str] | None) -> Registers:
        def body(index: str, _: str | None) -> tuple[list[str], str]:
            at = outer.at(axis, index)
            fixed = at.broadcasts(exprs)
            emitters = [at.emitter(i, fixed, red[v], mask, last) for v, i in enumerate(where)]
            for k in ahead:
                size = DTYPE_BYTES[nest.spec.inputs[k][0]]
                there = b.at(at.pointers[k], b.add(nest.strides[k][0], b.mul(where[0], size)))
                for v in range(len(where)):
                    b.prefetch(b.at(there, v * b.target.vector_bytes))
            position = b.splat("i64", nest.width, index) if any(slot.is_arg for slot in slots) else ""
            return [emitter.emit(expr) for emitter in emitters for expr in exprs], position

        return run.write(outer.extents[axis], state, body)

    accs = run.finish(run.nested(nest, range(kept, axis), None, inner))
    return [acc[-1] for acc in accs]
