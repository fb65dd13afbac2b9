"""Running sums, products and extremes along one dimension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from juanji.ops.core import Context, Op, register
from juanji.ops.elementwise import add, cast, div, eq, exp, ge, log, lt, mul, neg, sub, where, zero_like
from juanji.ops.reduce import positions
from juanji.ops.table import scatter
from juanji.spec import Spec

#: What joins an element to those before it.
MODES = ("add", "mul", "max", "min", "logaddexp")


def _shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    if attrs["mode"] not in MODES:
        raise AssertionError(f"scan knows {MODES}, not {attrs['mode']}")
    return specs[0]


def last_extreme(x: Any, out: Any, dim: int) -> Any:
    """For each place, where the running extreme `out` of `x` came from: the last of equal ones (int64)."""
    place = positions(tuple(x.shape), dim)
    zero = place.new_scalar(0)
    hit = eq(x, out) if not x.dtype.is_floating_point else eq(x, out) | (~eq(x, x) & ~eq(out, out))
    return scan(where(hit, place, zero), dim=dim, mode="max", reverse=False)


def _grad(c: Context) -> Any:
    mode, dim, reverse = c.attrs["mode"], c.attrs["dim"], c.attrs["reverse"]
    if mode == "add":
        return scan(c.g, dim=dim, mode="add", reverse=not reverse)
    x, out = c.x(0), c.out
    if mode == "logaddexp":
        # exp(x_i) * sum over k >= i of g_k / exp(out_k), the sum by its logarithm, for each sign of g.
        zero, least = zero_like(c.g), c.g.new_scalar(-float("inf"))
        parts = []
        for signed, chosen in ((c.g, ge(c.g, zero)), (neg(c.g), lt(c.g, zero))):
            safe = where(chosen, signed, c.g.new_scalar(1))
            logs = where(chosen, sub(log(safe), out), least)
            parts.append(exp(add(scan(logs, dim=dim, mode="logaddexp", reverse=not reverse), x)))
        return sub(*parts)
    if reverse:
        raise AssertionError(f"no operation runs the scan {mode!r} in reverse")
    if mode == "mul":
        return _product_grad(c, x, out, dim)
    return scatter(c.g.new_zeros(c.shape(0)), c.g, last_extreme(x, out, dim), dim=dim, mode="add")


def _product_grad(c: Context, x: Any, out: Any, dim: int) -> Any:
    # Before the first zero: the sum of g * out from there on, over x. At it: the same with a one in its place, over
    # what comes after. Behind it nothing depends on the element.
    zero = eq(x, zero_like(x))
    zeros = scan(cast(zero, dtype=c.specs[0].dtype), dim=dim, mode="add", reverse=False)
    one = x.new_scalar(1)
    first = zero & eq(zeros, one)
    others = scan(where(first, one, x), dim=dim, mode="mul", reverse=False)
    behind = ge(zeros, one)
    usual = div(scan(mul(c.g, out), dim=dim, mode="add", reverse=True), where(behind, one, x))
    at_zero = scan(where(behind, mul(c.g, others), zero_like(c.g)), dim=dim, mode="add", reverse=True)
    return where(first, at_zero, where(behind, zero_like(c.g), usual))


#: x -> out[i] = out[i - 1] joined with x[i] along `dim`; from the end with `reverse`.
scan: Op = register(Op("scan", _shape, "scan", (_grad,), ("0o",)))
