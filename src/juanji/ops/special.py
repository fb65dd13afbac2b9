"""Inverse trigonometric functions and the complementary error function, as expressions of simpler ones.

The arc tangent reduces its argument to |t| <= tan(pi / 8) by atan(t) = pi / 4 + atan((t - 1) / (t + 1)) and pi / 2 -
atan(1 / t), and ends in a polynomial in t**2. The complementary error function is exp(-x**2) times a polynomial in
1 / (1 + x / 2) where x >= 1/2. The coefficients interpolate at Chebyshev points in 50 digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from juanji.ops.core import Context, Op, register
from juanji.ops.elementwise import add, div, eq, exp, logical_and, mul, neg, reciprocal, rsqrt, sub, where
from juanji.spec import Spec, broadcast

Expr = Any

_ATAN = {
    "f32": (-0.3333333176116852, 0.19999540483648964, -0.1426395559798464, 0.10743731490791084, -0.06451928208121749),
    "f64": (
        -0.3333333333333333, 0.19999999999999804, -0.14285714285659828, 0.11111111105155447, -0.09090908753500877,
        0.07692296375032143, -0.06666424885738255, 0.05878928997834775, -0.05230454270650244, 0.04551593220626549,
        -0.034570561981427744, 0.016285756855221028,
    ),
}  # fmt: skip
_ERFC = (
        0.2820947917738781, 0.2820947917739336, 0.24683294278971576, 0.17630924596503178, 0.08374683910559028,
        -0.004406220389631221, -0.056778804227483846, -0.053041856170647765, -0.007857307636261511,
        0.08089539319497561, -0.13143239016710392, 0.852512889467518, -3.2303593020602297, 9.002277005479957,
        -20.38538219915831, 35.586688235064855, -45.28796941561424, 39.39558950175018, -19.116237363291418,
        -2.2750934723899405, 12.673784266808996, -11.499795798417763, 6.004695334695455, -1.9632679132456563,
        0.37679207717436564, -0.03269127227576824,
)  # fmt: skip


class _Writer:
    """Shorter names for expressions of one element type."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def const(self, value: float) -> Expr:
        return ("const", self.dtype, value)

    def __call__(self, op: str, *operands: Expr) -> Expr:
        return (op, self.dtype, *(self.const(o) if isinstance(o, (int, float)) else o for o in operands))

    def test(self, op: str, a: Expr, b: Expr | float) -> Expr:
        return (op, "b1", a, self.const(b) if isinstance(b, (int, float)) else b)

    def polynomial(self, z: Expr, coefficients: Sequence[float]) -> Expr:
        total: Expr = self.const(coefficients[-1])
        for c in reversed(coefficients[:-1]):
            total = self("fma", total, z, c)
        return total

    def negative(self, x: Expr) -> Expr:
        """Whether the sign bit is set, also of zero."""
        below = self.test("lt", x, 0.0)
        return ("or", "b1", below, self.test("lt", self("div", 1.0, x), 0.0))

    def arc(self, upper: Expr, lower: Expr) -> Expr:
        """The angle, 0 to pi / 2, whose tangent is upper / lower; neither is negative."""
        swapped = self.test("gt", upper, lower)
        big, small = self("select", swapped, upper, lower), self("select", swapped, lower, upper)
        same = self.test("eq", big, small)  # also of two zeros or infinities
        ratio = self("select", same, 1.0, self("div", small, big))
        ratio = self("select", self.test("eq", big, 0.0), 0.0, ratio)
        steep = self.test("gt", ratio, math.tan(math.pi / 8))
        t = self("select", steep, self("div", self("sub", ratio, 1.0), self("add", ratio, 1.0)), ratio)
        z = self("mul", t, t)
        angle = self("fma", self("mul", t, z), self.polynomial(z, _ATAN[self.dtype]), t)
        angle = self("select", steep, self("add", angle, math.pi / 4), angle)
        return self("select", swapped, self("sub", math.pi / 2, angle), angle)

    def signed(self, angle: Expr, like: Expr) -> Expr:
        return self("select", self.negative(like), self("neg", angle), angle)


def _atan_expr(args: list[Expr], attrs: dict[str, Any], dtype: str) -> Expr:
    e, x = _Writer(dtype), args[0]
    angle = e.signed(e.arc(e("abs", x), e.const(1.0)), x)
    return e("select", e.test("ne", x, x), x, angle)


def _atan2_expr(args: list[Expr], attrs: dict[str, Any], dtype: str) -> Expr:
    e, (y, x) = _Writer(dtype), args
    angle = e.arc(e("abs", y), e("abs", x))
    angle = e.signed(e("select", e.negative(x), e("sub", math.pi, angle), angle), y)
    wrong = ("or", "b1", e.test("ne", x, x), e.test("ne", y, y))
    return e("select", wrong, math.nan, angle)


def _leg(e: _Writer, x: Expr) -> Expr:
    return e("sqrt", e("mul", e("sub", 1.0, x), e("add", 1.0, x)))


def _within_one(e: _Writer, x: Expr, angle: Expr) -> Expr:
    return e("select", e.test("le", e("abs", x), 1.0), angle, math.nan)


def _asin_expr(args: list[Expr], attrs: dict[str, Any], dtype: str) -> Expr:
    e, x = _Writer(dtype), args[0]
    return _within_one(e, x, e.signed(e.arc(e("abs", x), _leg(e, x)), x))


def _acos_expr(args: list[Expr], attrs: dict[str, Any], dtype: str) -> Expr:
    e, x = _Writer(dtype), args[0]
    half = e.arc(e("sqrt", e("sub", 1.0, x)), e("sqrt", e("add", 1.0, x)))
    return _within_one(e, x, e("mul", 2.0, half))


def _erfc_expr(args: list[Expr], attrs: dict[str, Any], dtype: str) -> Expr:
    if dtype == "f32":  # in float64: exp(-x * x) needs x * x to more than its own digits
        return ("cast", "f32", _erfc_expr([("cast", "f64", args[0])], attrs, "f64"))
    e, x = _Writer(dtype), args[0]
    size = e("min", e("abs", x), 30.0)
    t = e("div", 1.0, e("add", 1.0, e("mul", size, 0.5)))
    # exp(-x * x) with the part of x * x that rounding loses: near 0 in the far tail, it is all that counts.
    square = e("mul", size, size)
    lost = e("fma", size, size, e("neg", square))
    tail = e("mul", e("exp", e("neg", square)), e("mul", t, e.polynomial(t, _ERFC)))
    tail = e("sub", tail, e("mul", tail, lost))
    tail = e("select", e.test("lt", x, 0.0), e("sub", 2.0, tail), tail)
    near = e("sub", 1.0, e("erf", x))
    result = e("select", e.test("lt", size, 0.5), near, tail)
    return e("select", e.test("ne", x, x), x, result)


def _shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    return Spec(broadcast(*(s.shape for s in specs)), specs[0].dtype)


def _one(name: str, expr: Callable[..., Expr], grad: Callable[[Context], Any]) -> Op:
    return register(Op(name, _shape, "map", (grad,), ("0",), expr))


def _beside(x: Any) -> Any:
    return sub(x.new_scalar(1), mul(x, x))


atan: Op = _one("atan", _atan_expr, lambda c: div(c.g, add(mul(c.x(0), c.x(0)), c.g.new_scalar(1))))
asin: Op = _one("asin", _asin_expr, lambda c: mul(c.g, rsqrt(_beside(c.x(0)))))
acos: Op = _one("acos", _acos_expr, lambda c: neg(mul(c.g, rsqrt(_beside(c.x(0))))))
erfc: Op = _one(
    "erfc",
    _erfc_expr,
    lambda c: mul(c.g, mul(exp(neg(mul(c.x(0), c.x(0)))), c.g.new_scalar(-2 / math.sqrt(math.pi)))),
)


def _over_square(c: Context, i: int) -> Any:
    """Input `i` over the squared distance from the origin; 0 at the origin, as in PyTorch."""
    square = add(mul(c.x(0), c.x(0)), mul(c.x(1), c.x(1)))
    zero, one = c.g.new_scalar(0), c.g.new_scalar(1)
    origin = logical_and(eq(c.x(0), zero), eq(c.x(1), zero))
    return where(origin, zero, mul(c.x(i), reciprocal(where(origin, one, square))))


#: (y, x) -> the angle of the point (x, y), -pi to pi.
atan2: Op = register(
    Op(
        "atan2",
        _shape,
        "map",
        (lambda c: mul(c.g, _over_square(c, 1)), lambda c: neg(mul(c.g, _over_square(c, 0)))),
        ("01", "01"),
        _atan2_expr,
    )
)
