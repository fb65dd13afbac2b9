"""Reading and writing by an index that is a value itself: gather and scatter along one dimension.

The two are each other's gradients. The index is an int64 input of the operation, so both work inside a captured step;
there an index out of range reads NaN (0 where the element type has none), and what it would have written is dropped.
Eagerly the functions users call have refused such an index before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from juanji.errors import ShapeError
from juanji.ops.core import Context, Op, register
from juanji.ops.elementwise import add, cast, div, eq, mul, where, zero_like
from juanji.spec import Shape, Spec, show

#: What `scatter` does with the element that is there and the one that comes.
MODES = ("set", "add", "mul", "max", "min")


def _fits(name: str, table: Shape, listed: Shape, dim: int) -> None:
    if len(table) != len(listed) or any(a != b for d, (a, b) in enumerate(zip(table, listed, strict=True)) if d != dim):
        raise ShapeError(f"{name}: index of shape {show(listed)} must match {show(table)} except in dimension {dim}")


def _indexed(name: str, index: Spec) -> None:
    if index.dtype != "i64":
        raise AssertionError(f"{name} takes 64-bit indices")


def _gather_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    table, index = specs
    _indexed("gather", index)
    _fits("gather", table.shape, index.shape, attrs["dim"])
    return Spec(index.shape, table.dtype)


def _gather_grad(c: Context) -> Any:
    return scatter(c.g.new_zeros(c.shape(0)), c.g, c.x(1), dim=c.attrs["dim"], mode="add")


#: (table, index) -> out[.., i, ..] = table[.., index[.., i, ..], ..]: shapes equal except in `dim`.
gather: Op = register(Op("gather", _gather_shape, "table", (_gather_grad, None), ("1", ""), linear=(0,)))


def _scatter_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    base, source, index = specs
    _indexed("scatter", index)
    _fits("scatter", base.shape, index.shape, attrs["dim"])
    if source.shape != index.shape:
        raise ShapeError(f"scatter: source of shape {show(source.shape)} must have the index's, {show(index.shape)}")
    if attrs["mode"] not in MODES:
        raise AssertionError(f"scatter knows {MODES}, not {attrs['mode']}")
    return base


def _base_grad(c: Context) -> Any:
    mode, dim = c.attrs["mode"], c.attrs["dim"]
    if mode == "add":
        return c.g
    index = c.x(2)
    if mode == "set":
        return scatter(c.g, c.g.new_zeros(c.shape(1)), index, dim=dim, mode="set")
    base, source = c.x(0), c.x(1)
    if mode == "mul":  # the product of all others: without the base where that is zero
        one, zero = base.new_scalar(1), eq(base, zero_like(base))
        rest = scatter_reduce(where(zero, one, base), source, index, dim=dim, mode="mul")
        return div(mul(c.g, rest), where(zero, one, base))
    return where(eq(base, c.out), div(c.g, _winners(c)), zero_like(c.g))


def _source_grad(c: Context) -> Any:
    mode, dim, index = c.attrs["mode"], c.attrs["dim"], c.x(2)
    if mode in ("add", "set"):
        return gather(c.g, index, dim=dim)
    base, source = c.x(0), c.x(1)
    if mode == "mul":
        # Of the sources that meet at one place, a single zero has the product of the others as its slope.
        one, zero = source.new_scalar(1), eq(source, zero_like(source))
        zeros = scatter(base.new_zeros(c.shape(0)), cast(zero, dtype=c.specs[1].dtype), index, dim=dim, mode="add")
        alone = zero & eq(gather(zeros, index, dim=dim), one)
        rest = scatter_reduce(base, where(alone, one, source), index, dim=dim, mode="mul")
        usual = div(gather(mul(c.g, c.out), index, dim=dim), where(zero, one, source))
        return where(alone, gather(mul(c.g, rest), index, dim=dim), usual)
    wins = eq(source, gather(c.out, index, dim=dim))
    share = gather(div(c.g, _winners(c)), index, dim=dim)
    return where(wins, share, zero_like(c.g))


def _winners(c: Context) -> Any:
    """How many of base and sources are the extreme that was kept: they share its gradient evenly."""
    base, source, index, dim, kind = c.x(0), c.x(1), c.x(2), c.attrs["dim"], c.specs[0].dtype
    hits = cast(eq(source, gather(c.out, index, dim=dim)), dtype=kind)
    return add(cast(eq(base, c.out), dtype=kind), scatter(base.new_zeros(c.shape(0)), hits, index, dim=dim, mode="add"))


#: (base, source, index) -> base with source set or added at the places that index names along `dim`. Where several meet
#: they do so in their order along `dim`, for any number of threads.
scatter: Op = register(
    Op("scatter", _scatter_shape, "table", (_base_grad, _source_grad, None), ("2", "2", ""), linear=())
)
#: The same, multiplied or compared: its gradients read the values too.
scatter_reduce: Op = register(
    Op("scatter_reduce", _scatter_shape, "table", (_base_grad, _source_grad, None), ("012o", "012o", ""), linear=())
)
