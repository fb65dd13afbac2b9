"""Reductions over some dimensions, and operations on whole rows: softmax and cross-entropy.

A reduction keeps the reduced dimensions with extent 1; the tensor layer drops them by a view.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from juanji.errors import ShapeError
from juanji.ops.core import Context, Gradient, Op, register
from juanji.ops.elementwise import (
    add,
    cast,
    const,
    div,
    eq,
    exp,
    iota,
    isnan,
    mul,
    ne,
    sub,
    where,
    zero_like,
)
from juanji.ops.shape import expand, permute, reshape, slice_, view_write
from juanji.spec import Spec, show


def _reduced(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    dims = attrs["dims"]
    return Spec(tuple(1 if i in dims else e for i, e in enumerate(specs[0].shape)), specs[0].dtype)


def _nonempty(name: str, dtype: str | None = None) -> Any:
    def rule(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
        if any(specs[0].shape[d] == 0 for d in attrs["dims"]):
            raise IndexError(f"{name}: input of shape {show(specs[0].shape)} has no elements to reduce over")
        spec = _reduced(specs, attrs)
        return Spec(spec.shape, dtype or spec.dtype)

    return rule


def _bool(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    return Spec(_reduced(specs, attrs).shape, "b1")


def _shared(c: Context) -> Any:
    # amax and amin share the gradient evenly among equal extremes, as PyTorch does.
    x, out = c.x(0), c.out
    hit = eq(x, out) | (isnan(x) & isnan(out))
    hits = cast(hit, dtype=c.specs[0].dtype)
    return mul(div(c.g, sum_(hits, dims=c.attrs["dims"])), hits)


def _first(arg: str) -> Gradient:
    def grad(c: Context) -> Any:
        (dim,) = c.attrs["dims"]
        x = c.x(0)
        chosen = {"argmax": argmax, "argmin": argmin}[arg](x, dims=(dim,))
        return where(eq(positions(c.specs[0].shape, dim), chosen), c.g, zero_like(c.g))

    return grad


def positions(shape: tuple[int, ...], dim: int) -> Any:
    """0, 1, 2 ... along `dim`, shaped to broadcast against `shape` (int64)."""
    index = iota(shape=(shape[dim],), dtype="i64")
    return reshape(index, shape=tuple(shape[dim] if i == dim else 1 for i in range(len(shape))))


sum_: Op = register(Op("sum", _reduced, "reduce", (lambda c: expand(c.g, shape=c.shape(0)),), ("",), linear=(0,)))


def _prod_grad(c: Context) -> Any:
    # The product of the others: out / x, or where there is a zero the product of all before and all after.
    x, dims = c.x(0), c.attrs["dims"]
    zero = eq(x, zero_like(x))
    quotient = div(c.out, where(zero, x.new_scalar(1), x))
    return mul(c.g, where(any_(zero, dims=dims), _others(x, dims), quotient))


def _others(x: Any, dims: tuple[int, ...]) -> Any:
    """For each element the product of the others in `dims`, without a division: differentiable at zeros too."""
    kept = tuple(d for d in range(len(x.shape)) if d not in dims)
    order = kept + tuple(dims)
    moved = permute(x, dims=order)
    count = math.prod(x.shape[d] for d in dims)
    rows = reshape(moved, shape=(*(x.shape[d] for d in kept), count))
    result = mul(_before(rows, 1), _before(rows, -1))
    return permute(reshape(result, shape=moved.shape), dims=tuple(order.index(d) for d in range(len(order))))


def _before(rows: Any, side: int) -> Any:
    """The products of all elements before (`side` 1) or after (-1) each along the last dimension, in log2 n steps."""
    count = rows.shape[-1]
    total, shift = _shifted(rows, side), 1
    while shift < count:
        total = mul(total, _shifted(total, side * shift))
        shift *= 2
    return total


def _shifted(rows: Any, by: int) -> Any:
    """Rows moved along the last dimension, with ones where nothing comes from."""
    count = rows.shape[-1]
    kept = max(0, count - abs(by))

    def bounds(start: int) -> tuple[tuple[int, int, int], ...]:
        return (*((0, e, 1) for e in rows.shape[:-1]), (start, start + kept, 1))

    source, place = (0, count - kept) if by > 0 else (count - kept, 0)
    part = slice_(rows, bounds=bounds(source))
    return view_write(rows.new_ones(rows.shape), part, chain=(("slice", (("bounds", bounds(place)),)),))


prod: Op = register(Op("prod", _reduced, "reduce", (_prod_grad,), ("0o",)))
amax: Op = register(Op("amax", _nonempty("amax"), "reduce", (_shared,), ("0o",)))
amin: Op = register(Op("amin", _nonempty("amin"), "reduce", (_shared,), ("0o",)))
#: As amax over one dimension, but the whole gradient goes to the first maximum: `max(dim)` of PyTorch.
max_first: Op = register(Op("max_first", _nonempty("max"), "reduce", (_first("argmax"),), ("0",)))
min_first: Op = register(Op("min_first", _nonempty("min"), "reduce", (_first("argmin"),), ("0",)))
argmax: Op = register(Op("argmax", _nonempty("argmax", "i64"), "reduce", (None,), ("",)))
argmin: Op = register(Op("argmin", _nonempty("argmin", "i64"), "reduce", (None,), ("",)))
any_: Op = register(Op("any", _bool, "reduce", (None,), ("",)))
all_: Op = register(Op("all", _bool, "reduce", (None,), ("",)))

#: The loop generator's name of each reduction.
REDUCTION = {
    "sum": "sum",
    "prod": "prod",
    "amax": "max",
    "amin": "min",
    "max_first": "max",
    "min_first": "min",
    "argmax": "argmax",
    "argmin": "argmin",
    "any": "any",
    "all": "all",
}


# -- rows -----------------------------------------------------------------------------------------------
def _same(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    return specs[0]


def _along(c: Context) -> tuple[int, ...]:
    return (c.attrs["dim"],)


softmax: Op = register(
    Op(
        "softmax",
        _same,
        "rows",
        (lambda c: mul(c.out, sub(c.g, sum_(mul(c.g, c.out), dims=_along(c)))),),
        ("o",),
    )
)
log_softmax: Op = register(
    Op(
        "log_softmax",
        _same,
        "rows",
        (lambda c: sub(c.g, mul(exp(c.out), sum_(c.g, dims=_along(c)))),),
        ("o",),
    )
)


def _cross_entropy_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    x, target, weight = specs
    if target.shape != x.shape[:-1]:
        raise ShapeError(f"target of shape {show(target.shape)} must be {show(x.shape[:-1])}, one class per row")
    if weight.shape != x.shape[-1:]:
        raise ShapeError(f"weight of shape {show(weight.shape)} must have one entry for each of {x.shape[-1]} classes")
    return Spec(target.shape, x.dtype)


def _cross_entropy_grad(c: Context) -> Any:
    # For one row with class t, weights w, smoothing e and C classes the loss is
    #   w_t (1 - e) (-logp_t) + (e / C) sum_j w_j (-logp_j),  and d(-logp_j)/dx = p - onehot_j.
    x, target, weight = c.x(0), c.x(1), c.x(2)
    classes, smoothing = c.specs[0].shape[-1], c.attrs["smoothing"]
    rank = len(c.specs[0].shape)
    column = reshape(target, shape=(*c.specs[1].shape, 1))
    hit = eq(positions(c.specs[0].shape, rank - 1), column)
    p = softmax(x, dim=rank - 1)
    onehot = cast(hit, dtype=c.specs[0].dtype)
    if not c.attrs["weighted"]:
        grad = sub(p, onehot)
        if smoothing:
            grad = add(mul(sub(p, onehot), p.new_scalar(1 - smoothing)), (p - 1.0 / classes) * smoothing)
    else:
        chosen = sum_(mul(onehot, weight), dims=(rank - 1,))
        grad = mul(sub(p, onehot), chosen)
        if smoothing:
            total = sum_(weight, dims=(0,))
            grad = add(grad * (1 - smoothing), (mul(p, total) - weight) * (smoothing / classes))
    g = reshape(c.g, shape=(*c.specs[1].shape, 1))
    kept = ne(column, const(shape=(), dtype="i64", value=c.attrs["ignore_index"]))
    return mul(grad, where(kept, g, zero_like(g)))


#: (logits [..., C], class [...], weight [C]) -> loss [...]: -w_t log softmax(x)_t with label smoothing; zero for rows
#: of class `ignore_index`; NaN for a class outside 0..C-1 (eager calls raise before they come here).
cross_entropy: Op = register(
    Op("cross_entropy", _cross_entropy_shape, "rows", (_cross_entropy_grad, None, None), ("012", "", ""))
)
