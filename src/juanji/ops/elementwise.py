"""Elementwise operations: each is one expression that any loop or epilogue can contain.

Inputs broadcast; all inputs of an arithmetic operation have one element type (the tensor layer casts before).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from juanji.dtypes import HALVES
from juanji.errors import ShapeError
from juanji.ops.core import Context, Gradient, Op, ShapeRule, register
from juanji.spec import Spec, broadcast


def _arithmetic(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    return Spec(broadcast(*(s.shape for s in specs)), specs[0].dtype)


def _predicate(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    return Spec(broadcast(*(s.shape for s in specs)), "b1")


def _unary(name: str, grad: Gradient | None, needs: str, linear: bool = False) -> Op:
    def expr(args: list[Any], attrs: dict[str, Any], dtype: str) -> Any:
        return (name, dtype, args[0])

    return register(Op(name, _arithmetic, "map", (grad,), (needs,), expr, (0,) if linear else ()))


def _binary(
    name: str, grads: tuple[Gradient | None, Gradient | None], needs: tuple[str, str], linear: tuple[int, ...] = ()
) -> Op:
    def expr(args: list[Any], attrs: dict[str, Any], dtype: str) -> Any:
        return (name, dtype, args[0], args[1])

    return register(Op(name, _arithmetic, "map", grads, needs, expr, linear))


def _bits(name: str) -> ShapeRule:
    def rule(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
        if specs[0].dtype in ("f32", "f64", *HALVES):
            raise TypeError(f"{name} is only for integers and bools; for floating point tensors use logical_{name}")
        return _arithmetic(specs, attrs)

    return rule


def _bitwise(name: str) -> Op:
    def expr(args: list[Any], attrs: dict[str, Any], dtype: str) -> Any:
        return (name, dtype, args[0], args[1])

    return register(Op(name, _bits(name), "map", (None, None), ("", ""), expr))


def _comparison(name: str) -> Op:
    def expr(args: list[Any], attrs: dict[str, Any], dtype: str) -> Any:
        return (name, "b1", args[0], args[1])

    return register(Op(name, _predicate, "map", (None, None), ("", ""), expr))


neg: Op = _unary("neg", lambda c: neg(c.g), "", linear=True)
abs_: Op = _unary("abs", lambda c: mul(c.g, sign(c.x(0))), "0")
sign: Op = _unary("sign", lambda c: mul(c.g, zero_like(c.g)), "")
exp: Op = _unary("exp", lambda c: mul(c.g, c.out), "o")
expm1: Op = _unary("expm1", lambda c: mul(c.g, c.out + 1), "o")
log: Op = _unary("log", lambda c: div(c.g, c.x(0)), "0")
log1p: Op = _unary("log1p", lambda c: div(c.g, c.x(0) + 1), "0")
sqrt: Op = _unary("sqrt", lambda c: div(c.g, c.out * 2), "o")
rsqrt: Op = _unary("rsqrt", lambda c: mul(c.g, c.out * c.out * c.out * -0.5), "o")
reciprocal: Op = _unary("reciprocal", lambda c: neg(mul(c.g, c.out * c.out)), "o")
tanh: Op = _unary("tanh", lambda c: mul(c.g, 1 - c.out * c.out), "o")
sigmoid: Op = _unary("sigmoid", lambda c: mul(c.g, c.out * (1 - c.out)), "o")
erf: Op = _unary("erf", lambda c: mul(c.g, exp(neg(c.x(0) * c.x(0))) * 1.1283791670955126), "0")
sin: Op = _unary("sin", lambda c: mul(c.g, cos(c.x(0))), "0")
cos: Op = _unary("cos", lambda c: neg(mul(c.g, sin(c.x(0)))), "0")
floor: Op = _unary("floor", lambda c: mul(c.g, zero_like(c.g)), "")
ceil: Op = _unary("ceil", lambda c: mul(c.g, zero_like(c.g)), "")
trunc: Op = _unary("trunc", lambda c: mul(c.g, zero_like(c.g)), "")
round_: Op = _unary("round", lambda c: mul(c.g, zero_like(c.g)), "")


def zero_like(value: Any) -> Any:
    """A zero that broadcasts against `value`, of its element type."""
    return value.new_scalar(0)


def _relu_expr(args: list[Any], attrs: dict[str, Any], dtype: str) -> Any:
    return ("max", dtype, args[0], ("const", dtype, 0))


relu: Op = register(Op("relu", _arithmetic, "map", (lambda c: relu_grad(c.g, c.out),), ("o",), _relu_expr))


def _relu_grad_expr(args: list[Any], attrs: dict[str, Any], dtype: str) -> Any:
    return ("select", dtype, ("le", "b1", args[1], ("const", dtype, 0)), ("const", dtype, 0), args[0])


#: (gradient, output of relu) -> gradient where the output is positive or NaN.
relu_grad: Op = register(
    Op(
        "relu_grad",
        _arithmetic,
        "map",
        (lambda c: relu_grad(c.g, c.x(1)), lambda c: mul(c.g, zero_like(c.g))),
        ("1", ""),
        _relu_grad_expr,
        (0,),
    )
)


def _softplus_expr(args: list[Any], attrs: dict[str, Any], dtype: str) -> Any:
    (x,) = args
    tail = ("log1p", dtype, ("exp", dtype, ("neg", dtype, ("abs", dtype, x))))
    return ("add", dtype, ("max", dtype, x, ("const", dtype, 0)), tail)


#: log(1 + exp(x)) without overflow. A record of its own because its gradient, and theirs, are exact at zero.
softplus: Op = register(
    Op("softplus", _arithmetic, "map", (lambda c: mul(c.g, sigmoid(c.x(0))),), ("0",), _softplus_expr)
)

add: Op = _binary("add", (lambda c: c.g, lambda c: c.g), ("", ""))
sub: Op = _binary("sub", (lambda c: c.g, lambda c: neg(c.g)), ("", ""))
mul: Op = _binary("mul", (lambda c: mul(c.g, c.x(1)), lambda c: mul(c.g, c.x(0))), ("1", "0"), (0, 1))
div: Op = _binary(
    "div", (lambda c: div(c.g, c.x(1)), lambda c: neg(div(mul(c.g, c.x(0)), mul(c.x(1), c.x(1))))), ("1", "01"), (0,)
)
floordiv: Op = _binary("floordiv", (lambda c: mul(c.g, zero_like(c.g)), lambda c: mul(c.g, zero_like(c.g))), ("", ""))
truncdiv: Op = _binary("truncdiv", (None, None), ("", ""))
rem: Op = _binary("rem", (lambda c: c.g, lambda c: neg(mul(c.g, floordiv(c.x(0), c.x(1))))), ("", "01"))


def _pow_exponent_grad(c: Context) -> Any:
    base, exponent = c.x(0), c.x(1)
    quiet = logical_and(eq(base, zero_like(base)), ge(exponent, zero_like(exponent)))
    return mul(c.g, where(quiet, zero_like(c.g), mul(c.out, log(base))))


def _pow_base_grad(c: Context) -> Any:
    base, exponent = c.x(0), c.x(1)
    return mul(c.g, where(eq(exponent, zero_like(exponent)), zero_like(c.g), exponent * pow_(base, exponent - 1)))


pow_: Op = _binary("pow", (_pow_base_grad, _pow_exponent_grad), ("01", "01o"))


def _winner(i: int) -> Gradient:
    # Where both are equal each gets half, as PyTorch shares it.
    def grad(c: Context) -> Any:
        mine, other = c.x(i), c.x(1 - i)
        half = mul(c.g, c.g.new_scalar(0.5))
        loses = lt(mine, other) if c.attrs["_max"] else gt(mine, other)  # NaN does not lose
        return where(eq(mine, other), half, where(loses, zero_like(c.g), c.g))

    return grad


def _extremum(name: str, expression: str, largest: bool) -> Op:
    def expr(args: list[Any], attrs: dict[str, Any], dtype: str) -> Any:
        return (expression, dtype, args[0], args[1])

    def with_kind(formula: Gradient) -> Gradient:
        def grad(c: Context) -> Any:
            c.attrs = {**c.attrs, "_max": largest}
            return formula(c)

        return grad

    return register(Op(name, _arithmetic, "map", (with_kind(_winner(0)), with_kind(_winner(1))), ("01", "01"), expr))


maximum: Op = _extremum("maximum", "max", True)
minimum: Op = _extremum("minimum", "min", False)

lt: Op = _comparison("lt")
le: Op = _comparison("le")
gt: Op = _comparison("gt")
ge: Op = _comparison("ge")
eq: Op = _comparison("eq")
ne: Op = _comparison("ne")
bitwise_and, bitwise_or, bitwise_xor = (_bitwise(n) for n in ("and", "or", "xor"))
bitwise_not: Op = register(
    Op("not", _bits("not"), "map", (None,), ("",), lambda args, attrs, dtype: ("not", dtype, args[0]))
)
isnan: Op = register(
    Op("isnan", _predicate, "map", (None,), ("",), lambda args, attrs, dtype: ("isnan", "b1", args[0]))
)


def logical_and(a: Any, b: Any) -> Any:
    """`a & b` for two boolean values."""
    return bitwise_and(a, b)


def _where_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    if specs[0].dtype != "b1":
        raise ShapeError(f"where expects condition of dtype bool, not {specs[0].dtype}")
    return Spec(broadcast(*(s.shape for s in specs)), specs[1].dtype)


#: (condition, a, b) -> a where the condition holds, else b.
where: Op = register(
    Op(
        "where",
        _where_shape,
        "map",
        (
            None,
            lambda c: where(c.x(0), c.g, zero_like(c.g)),
            lambda c: where(c.x(0), zero_like(c.g), c.g),
        ),
        ("", "0", "0"),
        lambda args, attrs, dtype: ("select", dtype, *args),
        (1, 2),
    )
)


def _cast_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    return Spec(specs[0].shape, attrs["dtype"])


cast: Op = register(
    Op(
        "cast",
        _cast_shape,
        "map",
        (lambda c: cast(c.g, dtype=c.specs[0].dtype),),
        ("",),
        lambda args, attrs, dtype: ("cast", dtype, args[0]),
        (0,),
    )
)

#: A copy in memory of its own, contiguous.
copy: Op = register(Op("copy", _arithmetic, "map", (lambda c: c.g,), ("",), lambda args, attrs, dtype: args[0], (0,)))


def _source_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    return Spec(attrs["shape"], attrs["dtype"])


#: One value everywhere; in a graph it is part of the kernels that use it.
const: Op = register(
    Op("const", _source_shape, "source", expr=lambda args, attrs, dtype: ("const", dtype, attrs["value"]))
)
#: 0, 1, 2 ... in C order.
iota: Op = register(
    Op("iota", _source_shape, "source", expr=lambda args, attrs, dtype: ("cast", dtype, ("index", "i64")))
)


def _uniform_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    if any(s.dtype != "i64" or s.shape != () for s in specs):
        raise AssertionError("uniform takes two 64-bit scalars: key and offset")
    return Spec(attrs["shape"], attrs["dtype"])


#: (key, offset) -> uniform numbers in [0, 1): element i is Philox-4x32-10 of counter offset + i under the key.
uniform: Op = register(
    Op(
        "uniform",
        _uniform_shape,
        "map",
        (None, None),
        ("", ""),
        lambda args, attrs, dtype: (
            "philox",
            dtype,
            ("add", "i64", ("index", "i64"), args[1]),
            args[0],
        ),
    )
)
