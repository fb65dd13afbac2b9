"""Functions of each element by itself: logarithms, trigonometry, rounding, and tests for infinity and its like."""

from __future__ import annotations

import math
from typing import Any

from juanji import dtypes
from juanji.dtypes import as_dtype
from juanji.errors import ShapeError
from juanji.ops import elementwise as ew
from juanji.ops import special
from juanji.tensors import arithmetic as ar
from juanji.tensors.arithmetic import cast, scalar
from juanji.tensors.base import need_tensor
from juanji.tensors.public import METHODS, is_tensor, public


def floating(x: Any) -> Any:
    """`x`, with integers and bools as float32."""
    return x if x.dtype.is_floating_point else cast(x, dtypes.float32)


def _unary(name: str, function: Any, text: str, aliases: tuple[str, ...] = ()) -> Any:
    def operation(input: Any) -> Any:
        return function(floating(input))

    operation.__name__ = name
    operation.__doc__ = text + " Integers and bools give float32."
    operation.__module__ = __name__
    return public(inplace=True, aliases=aliases)(operation)


def _tan(x: Any) -> Any:
    return ew.div(ew.sin(x), ew.cos(x))


def _sinh(x: Any) -> Any:
    return ew.mul(ew.sub(ew.expm1(x), ew.expm1(ew.neg(x))), x.new_scalar(0.5))


def _cosh(x: Any) -> Any:
    return ew.mul(ew.add(ew.exp(x), ew.exp(ew.neg(x))), x.new_scalar(0.5))


def _asinh(x: Any) -> Any:
    # log(|x| + sqrt(x^2 + 1)), by log1p near zero and without the square where it would overflow.
    size, one = ew.abs_(x), x.new_scalar(1)
    far = ew.gt(size, x.new_scalar(1e9))
    near = ew.where(far, one, size)
    square = ew.mul(near, near)
    log = ew.log1p(ew.add(near, ew.div(square, ew.add(one, ew.sqrt(ew.add(square, one))))))
    log_far = ew.add(ew.log(ew.where(far, size, one)), x.new_scalar(math.log(2)))
    return ew.where(ew.lt(x, x.new_scalar(0)), ew.neg(ew.where(far, log_far, log)), ew.where(far, log_far, log))


def _acosh(x: Any) -> Any:
    one = x.new_scalar(1)
    far = ew.gt(x, x.new_scalar(1e9))
    t = ew.sub(ew.where(far, x.new_scalar(2), x), one)
    log = ew.log1p(ew.add(t, ew.sqrt(ew.mul(t, ew.add(t, x.new_scalar(2))))))
    return ew.where(far, ew.add(ew.log(ew.where(far, x, one)), x.new_scalar(math.log(2))), log)


def _atanh(x: Any) -> Any:
    return ew.mul(ew.sub(ew.log1p(x), ew.log1p(ew.neg(x))), x.new_scalar(0.5))


def _sinc(x: Any) -> Any:
    zero = ew.eq(x, x.new_scalar(0))
    turned = ew.mul(ew.where(zero, x.new_scalar(1), x), x.new_scalar(math.pi))
    return ew.where(zero, x.new_scalar(1), ew.div(ew.sin(turned), turned))


acos = _unary("acos", special.acos, "Inverse cosine, 0 to pi; NaN outside -1 to 1.", ("arccos",))
asin = _unary("asin", special.asin, "Inverse sine, -pi/2 to pi/2; NaN outside -1 to 1.", ("arcsin",))
atan = _unary("atan", special.atan, "Inverse tangent, -pi/2 to pi/2.", ("arctan",))
tan = _unary("tan", _tan, "Tangent.")
sinh = _unary("sinh", _sinh, "Hyperbolic sine.")
cosh = _unary("cosh", _cosh, "Hyperbolic cosine.")
asinh = _unary("asinh", _asinh, "Inverse hyperbolic sine.", ("arcsinh",))
acosh = _unary("acosh", _acosh, "Inverse hyperbolic cosine; NaN below 1.", ("arccosh",))
atanh = _unary("atanh", _atanh, "Inverse hyperbolic tangent; NaN outside -1 to 1.", ("arctanh",))
log2 = _unary("log2", lambda x: ew.mul(ew.log(x), x.new_scalar(1 / math.log(2))), "Logarithm to base 2.")
log10 = _unary("log10", lambda x: ew.mul(ew.log(x), x.new_scalar(1 / math.log(10))), "Logarithm to base 10.")
exp2 = _unary("exp2", lambda x: ew.pow_(x.new_scalar(2), x), "Two to the power of each element.")
erfc = _unary("erfc", special.erfc, "1 - erf(x), without its cancellation.")
sinc = _unary("sinc", _sinc, "sin(pi x) / (pi x), 1 at zero.")
deg2rad = _unary("deg2rad", lambda x: ew.mul(x, x.new_scalar(math.pi / 180)), "Degrees as radians.")
rad2deg = _unary("rad2deg", lambda x: ew.mul(x, x.new_scalar(180 / math.pi)), "Radians as degrees.")
arccos, arcsin, arctan, arcsinh, arccosh, arctanh = acos, asin, atan, asinh, acosh, atanh


@public(inplace=True)
def frac(input: Any) -> Any:
    """What is behind the point, with the sign of the element."""
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"frac is only for floating point tensors, not {input.dtype}")
    return ew.sub(input, ew.trunc(input))


@public(inplace=True)
def round(input: Any, *, decimals: int = 0) -> Any:
    """The nearest whole number, halves to the even one; or the nearest with so many decimals."""
    if not input.dtype.is_floating_point:
        if decimals or input.dtype is dtypes.bool_:
            raise RuntimeError(
                f"round: {input.dtype} is not rounded" + (f" to {decimals} decimals" if decimals else "")
            )
        return ew.copy(input)
    if decimals == 0:
        return ew.round_(input)
    ten = input.new_scalar(10.0 ** abs(decimals))
    if decimals < 0:
        return ew.mul(ew.round_(ew.div(input, ten)), ten)
    return ew.div(ew.round_(ew.mul(input, ten)), ten)


@public(inplace=True)
def sgn(input: Any) -> Any:
    """-1, 0 or 1 by the sign."""
    return ew.copy(input) if input.dtype is dtypes.bool_ else ew.sign(input)


@public()
def positive(input: Any) -> Any:
    """The tensor itself."""
    if input.dtype is dtypes.bool_:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


@public(inplace=True)
def logit(input: Any, eps: float | None = None) -> Any:
    """log(x / (1 - x)), with x limited to [`eps`, 1 - `eps`] where given."""
    x = floating(input)
    if eps is not None:
        x = x.clamp(eps, 1 - eps)
    return ew.log(ew.div(x, ew.sub(x.new_scalar(1), x)))


@public()
def angle(input: Any) -> Any:
    """pi for negative numbers, else 0; NaN stays."""
    x = floating(input)
    zero = x.new_scalar(0)
    flat = ew.where(ew.lt(x, zero), x.new_scalar(math.pi), zero)
    return ew.where(ew.isnan(x), x, flat) + x * 0 if input.requires_grad else ew.where(ew.isnan(x), x, flat)


# -- tests ------------------------------------------------------------------------------------------------------------
def _everywhere(input: Any, value: bool) -> Any:
    return ew.copy(scalar(value, dtypes.bool_).expand(input.shape))


@public()
def isinf(input: Any) -> Any:
    """Whether each element is infinite."""
    if not input.dtype.is_floating_point:
        return _everywhere(input, False)
    return ew.eq(ew.abs_(input), input.new_scalar(math.inf))


@public()
def isfinite(input: Any) -> Any:
    """Whether each element is neither infinite nor NaN."""
    if not input.dtype.is_floating_point:
        return _everywhere(input, True)
    return ew.lt(ew.abs_(input), input.new_scalar(math.inf))


@public()
def isposinf(input: Any) -> Any:
    """Whether each element is positive infinity."""
    if not input.dtype.is_floating_point:
        return _everywhere(input, False)
    return ew.eq(input, input.new_scalar(math.inf))


@public()
def isneginf(input: Any) -> Any:
    """Whether each element is negative infinity."""
    if not input.dtype.is_floating_point:
        return _everywhere(input, False)
    return ew.eq(input, input.new_scalar(-math.inf))


@public()
def isreal(input: Any) -> Any:
    """True everywhere: there are no complex numbers here."""
    return _everywhere(input, True)


@public()
def signbit(input: Any) -> Any:
    """Whether each element has a negative sign, -0.0 too."""
    zero = input.new_scalar(0)
    if not input.dtype.is_floating_point:
        return ew.lt(input, zero)
    return ew.bitwise_or(ew.lt(input, zero), ew.lt(ew.div(input.new_scalar(1), input), zero))


@public(inplace=True)
def nan_to_num(input: Any, nan: float | None = 0.0, posinf: float | None = None, neginf: float | None = None) -> Any:
    """NaN as `nan`, infinities as `posinf` and `neginf`: by default the largest and smallest numbers of the type."""
    if not input.dtype.is_floating_point:
        return ew.copy(input)
    top = dtypes.largest(input.dtype)
    result = ew.where(ew.isnan(input), input.new_scalar(nan or 0.0), input)
    for bound, value, plain in ((math.inf, posinf, top), (-math.inf, neginf, -top)):
        hit = ew.eq(input, input.new_scalar(bound))
        result = ew.where(hit, input.new_scalar(plain if value is None else value), result)
    return result


# -- complex numbers: only what holds for real ones -------------------------------------------------------------------
def _same(name: str, text: str) -> Any:
    def operation(input: Any) -> Any:
        return input

    operation.__name__, operation.__doc__ = name, text
    return public()(operation)


real = _same("real", "The tensor itself: all are real.")
conj = _same("conj", "The tensor itself: all are real.")
resolve_conj = _same("resolve_conj", "The tensor itself.")
resolve_neg = _same("resolve_neg", "The tensor itself.")


@public()
def conj_physical(input: Any) -> Any:
    """A copy: all tensors are real."""
    return ew.copy(input)


def is_complex(input: Any) -> bool:
    """Always False."""
    return False


def is_floating_point(input: Any) -> bool:
    """Whether the elements have a fraction."""
    need_tensor(input, "input", "is_floating_point")
    return bool(input.dtype.is_floating_point)


def is_nonzero(input: Any) -> bool:
    """Whether the one element of a tensor is other than zero."""
    need_tensor(input, "input", "is_nonzero")
    if input.numel() != 1:
        raise ShapeError("Boolean value of Tensor with more than one value is ambiguous")
    return bool(input)


def numel(input: Any) -> int:
    """The number of elements."""
    need_tensor(input, "input", "numel")
    return int(input.numel())


def can_cast(from_: Any, to: Any) -> bool:
    """Whether a result of type `from_` may be written into a tensor of type `to`."""
    return dtypes.category(as_dtype(from_)) <= dtypes.category(as_dtype(to))


def promote_types(type1: Any, type2: Any) -> Any:
    """The type of a sum of tensors of two types."""
    return dtypes.promote(as_dtype(type1), as_dtype(type2))


def result_type(tensor1: Any, tensor2: Any) -> Any:
    """The type of a sum of two tensors or numbers."""
    return ar.result_dtype((tensor1, tensor2))


METHODS["is_complex"], METHODS["is_nonzero"] = is_complex, is_nonzero

__all__ = [
    "acos",
    "acosh",
    "angle",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctanh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "can_cast",
    "conj",
    "conj_physical",
    "cosh",
    "deg2rad",
    "erfc",
    "exp2",
    "frac",
    "is_complex",
    "is_floating_point",
    "is_nonzero",
    "is_tensor",
    "isfinite",
    "isinf",
    "isneginf",
    "isposinf",
    "isreal",
    "log2",
    "log10",
    "logit",
    "nan_to_num",
    "numel",
    "positive",
    "promote_types",
    "rad2deg",
    "real",
    "resolve_conj",
    "resolve_neg",
    "result_type",
    "round",
    "sgn",
    "signbit",
    "sinc",
    "sinh",
    "tan",
]  # fmt: skip
