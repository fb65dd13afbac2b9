"""Operations of losses whose gradient is not that of the formula as written."""

from __future__ import annotations

from typing import Any

from juanji.ops.core import Context, Op, register
from juanji.ops.elementwise import _arithmetic, div, log, log1p, maximum, mul, neg, sub

#: Logarithms are cut here, so that a certain and wrong prediction costs 100 and not infinity.
LEAST_LOG = -100.0
#: Products x (1 - x) below this count as this in the gradient.
LEAST_VARIANCE = 1e-12


def _cut_log(value: Any, dtype: str) -> Any:
    return ("max", dtype, value, ("const", dtype, LEAST_LOG))


def _bce_expr(args: list[Any], attrs: dict[str, Any], dtype: str) -> Any:
    x, target = args
    against = ("sub", dtype, target, ("const", dtype, 1))
    missed = ("mul", dtype, against, _cut_log(("log1p", dtype, ("neg", dtype, x)), dtype))
    return ("sub", dtype, missed, ("mul", dtype, target, _cut_log(("log", dtype, x), dtype)))


def _bce_input_grad(c: Context) -> Any:
    x, target = c.x(0), c.x(1)
    return mul(c.g, div(sub(x, target), maximum(mul(x, 1 - x), x.new_scalar(LEAST_VARIANCE))))


def _bce_target_grad(c: Context) -> Any:
    x = c.x(0)
    least = x.new_scalar(LEAST_LOG)
    return mul(c.g, sub(maximum(log1p(neg(x)), least), maximum(log(x), least)))


#: (probability x, target t) -> -(t log x + (1 - t) log(1 - x)), the logarithms not below -100.
bce: Op = register(Op("bce", _arithmetic, "map", (_bce_input_grad, _bce_target_grad), ("01", "0"), _bce_expr))
