"""Activations that networks use most, each one loop forward and one backward also without a capture.

The others are compositions (`nn/functional/activations.py`), which a capture fuses just as well.
"""

from __future__ import annotations

from typing import Any

from juanji.ops.core import Context, Op, register
from juanji.ops.elementwise import _arithmetic, mul, sigmoid, zero_like

Args = list[Any]


def _leaky_expr(args: Args, attrs: dict[str, Any], dtype: str) -> Any:
    value, x = args[0], args[-1]  # the gradient is the same function of the slope's sign, applied to what comes in
    zero, slope = ("const", dtype, 0), ("const", dtype, attrs["slope"])
    return ("select", dtype, ("gt", "b1", x, zero), value, ("mul", dtype, value, slope))


leaky_relu: Op = register(
    Op(
        "leaky_relu",
        _arithmetic,
        "map",
        (lambda c: leaky_relu_grad(c.g, c.x(0), slope=c.attrs["slope"]),),
        ("0",),
        _leaky_expr,
    )
)
#: (gradient, input) -> gradient, times the slope where the input is not positive.
leaky_relu_grad: Op = register(
    Op(
        "leaky_relu_grad",
        _arithmetic,
        "map",
        (lambda c: leaky_relu_grad(c.g, c.x(1), slope=c.attrs["slope"]), lambda c: mul(c.g, zero_like(c.g))),
        ("1", ""),
        _leaky_expr,
    )
)


def _cut_expr(args: Args, attrs: dict[str, Any], dtype: str) -> Any:
    low, high = ("const", dtype, attrs["low"]), ("const", dtype, attrs["high"])
    above = ("select", dtype, ("ge", "b1", args[0], high), high, args[0])
    return ("select", dtype, ("le", "b1", args[0], low), low, above)


def _cut_grad_expr(args: Args, attrs: dict[str, Any], dtype: str) -> Any:
    # NaN is not outside: the gradient passes, as PyTorch's does.
    zero, low, high = (("const", dtype, v) for v in (0, attrs["low"], attrs["high"]))
    below = ("select", dtype, ("ge", "b1", args[1], high), zero, args[0])
    return ("select", dtype, ("le", "b1", args[1], low), zero, below)


hardtanh: Op = register(
    Op("hardtanh", _arithmetic, "map", (lambda c: hardtanh_grad(c.g, c.out, **c.attrs),), ("o",), _cut_expr)
)
#: (gradient, output of hardtanh) -> gradient where that is inside of both bounds, as the input is just then.
hardtanh_grad: Op = register(
    Op(
        "hardtanh_grad",
        _arithmetic,
        "map",
        (lambda c: hardtanh_grad(c.g, c.x(1), **c.attrs), lambda c: mul(c.g, zero_like(c.g))),
        ("1", ""),
        _cut_grad_expr,
    )
)


def _silu_expr(args: Args, attrs: dict[str, Any], dtype: str) -> Any:
    return ("mul", dtype, args[0], ("sigmoid", dtype, args[0]))


def _silu_grad_expr(args: Args, attrs: dict[str, Any], dtype: str) -> Any:
    g, x = args
    one, s = ("const", dtype, 1), ("sigmoid", dtype, x)
    slope = ("add", dtype, one, ("mul", dtype, x, ("sub", dtype, one, s)))
    return ("mul", dtype, g, ("mul", dtype, s, slope))


def _silu_curvature(c: Context) -> Any:
    g, x = c.x(0), c.x(1)
    s = sigmoid(x)
    return mul(c.g, g * s * (1 - s) * (x * (1 - s * 2) + 2))


silu: Op = register(Op("silu", _arithmetic, "map", (lambda c: silu_grad(c.g, c.x(0)),), ("0",), _silu_expr))
#: (gradient, input) -> gradient times s (1 + x (1 - s)) with s = sigmoid(x).
silu_grad: Op = register(
    Op(
        "silu_grad",
        _arithmetic,
        "map",
        (lambda c: silu_grad(c.g, c.x(1)), _silu_curvature),
        ("1", "01"),
        _silu_grad_expr,
    )
)
