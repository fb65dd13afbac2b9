"""Elementwise functions of two and three tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from juanji import dtypes
from juanji.dtypes import category
from juanji.errors import ShapeError
from juanji.ops import elementwise as ew
from juanji.ops import special
from juanji.spec import show
from juanji.tensors import arithmetic as ar
from juanji.tensors.arithmetic import NUMBERS, arithmetic, cast, result_dtype, together
from juanji.tensors.base import TensorBase, as_array, need_tensor
from juanji.tensors.elementary import floating
from juanji.tensors.public import is_tensor, public


def number(function: str, value: Any, argument: str = "other") -> Any:
    """`value`, if it is a tensor or a number.

    Raises:
        TypeError: something else; complex numbers too.
    """
    if not isinstance(value, (TensorBase, *NUMBERS)):
        what = "complex numbers are not supported" if isinstance(value, complex) else "must be a Tensor or a number"
        raise TypeError(f"{function}: {argument} {what}, not {type(value).__name__}")
    return value


def _floats(function: str, a: Any, b: Any) -> list[Any]:
    dtype = result_dtype((number(function, a, "input"), number(function, b)))
    return together(dtype if dtype.is_floating_point else dtypes.float32, a, b)


# -- division and remainders ------------------------------------------------------------------------------------------
@public(inplace=True, aliases=("divide",))
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    """input / other. `rounding_mode`: None (integers become float32), "trunc" (towards zero) or "floor"."""
    number("div", other)
    if rounding_mode is None:
        return arithmetic(ew.div, input, other)
    if rounding_mode not in ("trunc", "floor"):
        raise ShapeError(
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found {rounding_mode!r}"
        )
    if rounding_mode == "floor":
        return floor_divide(input, other)
    dtype = result_dtype((input, other))
    if dtype.is_floating_point:
        return ew.trunc(arithmetic(ew.div, input, other))
    ar.check_divisor(other)
    return ew.truncdiv(*together(dtype, input, other))


@public(inplace=True)
def true_divide(input: Any, other: Any) -> Any:
    """input / other."""
    return div(input, other)


@public(inplace=True)
def floor_divide(input: Any, other: Any) -> Any:
    """The quotient rounded down."""
    return arithmetic(ew.floordiv, input, number("floor_divide", other))


@public(inplace=True)
def fmod(input: Any, other: Any) -> Any:
    """The remainder with the sign of `input`, as C's."""
    dtype = result_dtype((input, number("fmod", other)))
    a, b = together(dtype, input, other)
    if not dtype.is_floating_point:
        ar.check_divisor(other)
        return ew.sub(a, ew.mul(b, ew.truncdiv(a, b)))
    rest = ew.rem(ew.abs_(a), ew.abs_(b))
    rest = ew.where(ew.eq(ew.abs_(b), b.new_scalar(math.inf)), ew.abs_(a), rest)
    return ew.where(ew.lt(a, a.new_scalar(0)), ew.neg(rest), rest)


@public()
def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    """other - alpha * input."""
    if not is_tensor(other):
        other = ar.scalar(other, result_dtype((input, number("rsub", other))))
    return ar.scaled(ew.sub, other, input, alpha)


# -- powers and logarithms --------------------------------------------------------------------------------------------
@public(inplace=True)
def float_power(input: Any, exponent: Any) -> Any:
    """input ** exponent in float64."""
    a = cast(input, dtypes.float64)
    e = cast(exponent, dtypes.float64) if is_tensor(exponent) else number("float_power", exponent, "exponent")
    return ar.power(a, e)


@public(inplace=True)
def xlogy(input: Any, other: Any) -> Any:
    """input * log(other), 0 where input is 0 (unless other is NaN)."""
    x, y = _floats("xlogy", input, other)
    zero = y.new_scalar(0)
    quiet = ew.bitwise_and(ew.eq(x, zero), ew.bitwise_or(ew.le(y, zero), ew.eq(y, y.new_scalar(math.inf))))
    return ew.mul(x, ew.log(ew.where(quiet, y.new_scalar(1), y)))


def _log_sum(a: Any, b: Any, exp: Any, log: Any) -> Any:
    top = ew.maximum(a, b)
    same = ew.eq(a, b)  # equal infinities too
    apart = ew.neg(ew.abs_(ew.where(same, a.new_scalar(0), ew.sub(a, b))))
    half = ew.where(same, top, ew.add(top, log(exp(apart))))
    equal = ew.add(top, log(exp(apart)))
    return ew.where(ew.eq(ew.abs_(top), top.new_scalar(math.inf)), half, equal)


@public()
def logaddexp(input: Any, other: Any) -> Any:
    """log(exp(input) + exp(other)), without overflow."""
    need_tensor(other, "other", "logaddexp")
    a, b = _floats("logaddexp", input, other)
    return _log_sum(a, b, ew.exp, ew.log1p)


@public()
def logaddexp2(input: Any, other: Any) -> Any:
    """log2(2 ** input + 2 ** other), without overflow."""
    need_tensor(other, "other", "logaddexp2")
    ln2 = math.log(2)
    a, b = _floats("logaddexp2", input, other)
    return _log_sum(a, b, lambda x: ew.exp(x * ln2), lambda x: ew.log1p(x) * (1 / ln2))


@public(inplace=True)
def ldexp(input: Any, other: Any) -> Any:
    """input * 2 ** other."""
    need_tensor(other, "other", "ldexp")
    return arithmetic(ew.mul, input, ar.power(2.0, floating(other)))


# -- geometry ---------------------------------------------------------------------------------------------------------
@public(inplace=True, aliases=("arctan2",))
def atan2(input: Any, other: Any) -> Any:
    """The angle of the point (other, input), -pi to pi."""
    need_tensor(other, "other", "atan2")
    return special.atan2(*_floats("atan2", input, other))


arctan2 = atan2


@public(inplace=True)
def hypot(input: Any, other: Any) -> Any:
    """sqrt(input ** 2 + other ** 2)."""
    dtype = result_dtype((input, number("hypot", other)))
    if not dtype.is_floating_point:
        raise RuntimeError(f"hypot is only for floating point tensors, not {dtype}")
    a, b = together(dtype, input, other)
    infinite = ew.bitwise_or(ew.eq(ew.abs_(a), a.new_scalar(math.inf)), ew.eq(ew.abs_(b), b.new_scalar(math.inf)))
    return ew.where(infinite, a.new_scalar(math.inf), ew.sqrt(ew.add(ew.mul(a, a), ew.mul(b, b))))


@public(inplace=True)
def copysign(input: Any, other: Any) -> Any:
    """The size of `input` with the sign of `other`, -0.0 too."""
    a, b = _floats("copysign", input, other)
    zero = b.new_scalar(0)
    negative = ew.bitwise_or(ew.lt(b, zero), ew.lt(ew.div(b.new_scalar(1), b), zero))
    return ew.where(negative, ew.neg(ew.abs_(a)), ew.abs_(a))


@public(inplace=True)
def heaviside(input: Any, values: Any) -> Any:
    """0 below zero, 1 above, `values` at zero."""
    need_tensor(values, "values", "heaviside")
    if input.dtype is not values.dtype:
        raise RuntimeError("heaviside is not yet implemented for tensors with different dtypes.")
    zero, one = input.new_scalar(0), input.new_scalar(1)
    step = ew.where(ew.lt(input, zero), zero, one)
    return ew.where(ew.eq(input, zero), values, ew.where(ew.isnan(input), zero, step)).detach()


# -- extremes ---------------------------------------------------------------------------------------------------------
def _numbers_first(name: str, op: Any, text: str) -> Any:
    def operation(input: Any, other: Any) -> Any:
        need_tensor(other, "other", name)
        a, b = together(result_dtype((input, other)), input, other)
        return ew.where(ew.bitwise_or(op(a, b), ew.isnan(b)), a, b)

    operation.__name__, operation.__doc__ = name, text
    return public()(operation)


fmax = _numbers_first("fmax", ew.ge, "The larger of each pair; a number wins over NaN.")
fmin = _numbers_first("fmin", ew.le, "The smaller of each pair; a number wins over NaN.")


@public(inplace=True)
def clamp_min(input: Any, min: Any) -> Any:
    """Nothing below `min`."""
    return input.clamp(min=number("clamp_min", min, "min"))


@public(inplace=True)
def clamp_max(input: Any, max: Any) -> Any:
    """Nothing above `max`."""
    return input.clamp(max=number("clamp_max", max, "max"))


# -- three tensors ----------------------------------------------------------------------------------------------------
@public(inplace=True)
def lerp(input: Any, end: Any, weight: Any) -> Any:
    """input + weight * (end - input)."""
    need_tensor(end, "end", "lerp")
    if input.dtype is not end.dtype or (is_tensor(weight) and weight.dtype is not input.dtype):
        raise RuntimeError(f"lerp: expected dtype {input.dtype} for `end` and `weight`, but got {end.dtype}")
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"lerp is only for floating point tensors, not {input.dtype}")
    w = weight if is_tensor(weight) else ar.scalar(number("lerp", weight, "weight"), input.dtype)
    apart = ew.sub(end, input)
    near = ew.lt(ew.abs_(w), w.new_scalar(0.5))
    # From the nearer end, so that weights 0 and 1 give the ends themselves.
    rest = ew.sub(end, ew.mul(apart, ew.sub(w.new_scalar(1), w)))
    return ew.where(near, ew.add(input, ew.mul(w, apart)), rest)


def _products(name: str, input: Any, tensor1: Any, tensor2: Any, value: Any) -> tuple[Any, Any, Any, Any]:
    for k, t in (("tensor1", tensor1), ("tensor2", tensor2)):
        number(name, t, k)
    dtype = result_dtype((input, tensor1, tensor2))
    if isinstance(value, float) and not dtype.is_floating_point:
        raise RuntimeError(f"{name}: for integral input tensors, argument value must not be a floating point number")
    return (dtype, *together(dtype, input, tensor1, tensor2))


@public(inplace=True)
def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Any:
    """input + value * tensor1 * tensor2."""
    dtype, x, a, b = _products("addcmul", input, tensor1, tensor2, value)
    product = ew.mul(a, b) if value == 1 else ew.mul(ew.mul(a, ar.scalar(value, dtype)), b)
    return ew.add(x, product)


@public(inplace=True)
def addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Any:
    """input + value * tensor1 / tensor2; only for floating point."""
    dtype, x, a, b = _products("addcdiv", input, tensor1, tensor2, value)
    if not dtype.is_floating_point:
        raise RuntimeError(f"addcdiv divides floating point numbers, not {dtype}; cast them first")
    return ew.add(x, ew.div(a if value == 1 else ew.mul(a, ar.scalar(value, dtype)), b))


# -- bits -------------------------------------------------------------------------------------------------------------
def _bits(name: str, op: Any, text: str) -> Any:
    def operation(input: Any, other: Any) -> Any:
        return arithmetic(op, input, number(name, other))

    operation.__name__, operation.__doc__ = name, text
    return public(inplace=True)(operation)


bitwise_and = _bits("bitwise_and", ew.bitwise_and, "Bits that both have.")
bitwise_or = _bits("bitwise_or", ew.bitwise_or, "Bits that one has.")
bitwise_xor = _bits("bitwise_xor", ew.bitwise_xor, "Bits that exactly one has.")


@public(inplace=True)
def bitwise_not(input: Any) -> Any:
    """Every bit turned over; for bools the other truth."""
    return ew.bitwise_not(input)


def _shift(name: str, op: Any, text: str) -> Any:
    def operation(input: Any, other: Any) -> Any:
        dtype = result_dtype((input, number(name, other)))
        if category(dtype) != 1:
            raise RuntimeError(f"{name} is only for integers, not {dtype}")
        a, b = together(dtype, input, other)
        bits = 8 * dtype.itemsize
        wide, n = cast(a, dtypes.int64), cast(b, dtypes.int64)
        # 2 ** 63 wraps to the smallest number: the shift by 62 and 1 more are two steps.
        inside = ew.bitwise_and(ew.ge(n, n.new_scalar(0)), ew.lt(n, n.new_scalar(bits)))
        first = ew.minimum(ew.where(inside, n, n.new_scalar(0)), n.new_scalar(62))
        second = ew.sub(ew.where(inside, n, n.new_scalar(0)), first)
        two = n.new_scalar(2)
        moved = op(op(wide, ew.pow_(two, first)), ew.pow_(two, second))
        beyond = n.new_scalar(0)
        if op is ew.floordiv:
            beyond = ew.where(ew.lt(wide, n.new_scalar(0)), n.new_scalar(-1), beyond)
        return cast(ew.where(inside, moved, beyond), dtype)

    operation.__name__, operation.__doc__ = name, text
    return public(inplace=True)(operation)


bitwise_left_shift = _shift("bitwise_left_shift", ew.mul, "Bits moved up by `other` places.")
bitwise_right_shift = _shift("bitwise_right_shift", ew.floordiv, "Bits moved down by `other` places, with the sign.")


# -- comparing --------------------------------------------------------------------------------------------------------
@public()
def isclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """Whether |input - other| <= atol + rtol * |other|, elementwise."""
    need_tensor(other, "other", "isclose")
    if input.dtype is not other.dtype:
        raise RuntimeError(f"isclose: {input.dtype} did not match {other.dtype}")
    if rtol < 0 or atol < 0:
        raise ShapeError(f"isclose: rtol={rtol} and atol={atol} must not be negative")
    close = ew.eq(input, other)
    if equal_nan:
        close = ew.bitwise_or(close, ew.bitwise_and(ew.isnan(input), ew.isnan(other)))
    if rtol == 0 and atol == 0:
        return close
    kind = input.dtype if input.dtype.is_floating_point else dtypes.float64
    a, b = cast(input, kind), cast(other, kind)
    apart = ew.abs_(ew.sub(a, b))
    allowed = ew.add(ew.abs_(ew.mul(b, b.new_scalar(rtol))), b.new_scalar(atol))
    finite = ew.lt(apart, apart.new_scalar(math.inf))
    return ew.bitwise_or(close, ew.bitwise_and(finite, ew.le(apart, allowed)))


@public()
def allclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all elements are close: |input - other| <= atol + rtol * |other|."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


@public()
def equal(input: Any, other: Any) -> bool:
    """Whether two tensors have the same shape and elements."""
    need_tensor(other, "other", "equal")
    if input.shape != other.shape:
        return False
    return bool(np.array_equal(as_array(input.detach()), as_array(other.detach())))


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """The shape that all of `shapes` stretch to."""
    from juanji.spec import broadcast

    plain = [tuple(s) if isinstance(s, (tuple, list)) else (s,) for s in shapes]
    for shape in plain:
        if any(e < 0 for e in shape):
            raise ShapeError(f"broadcast_shapes: sizes must not be negative: {show(shape)}")
    return broadcast(*plain)


def broadcast_tensors(*tensors: Any) -> Any:
    """All tensors as views of the shape they stretch to."""
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    for i, t in enumerate(given):
        need_tensor(t, f"tensors[{i}]", "broadcast_tensors")
    shape = broadcast_shapes(*(t.shape for t in given))
    return tuple(t.expand(shape) for t in given)


__all__ = [
    "addcdiv", "addcmul", "allclose", "arctan2", "atan2", "bitwise_and", "bitwise_left_shift", "bitwise_not",
    "bitwise_or", "bitwise_right_shift", "bitwise_xor", "broadcast_shapes", "broadcast_tensors", "clamp_max",
    "clamp_min", "copysign", "div", "equal", "float_power", "floor_divide", "fmax", "fmin", "fmod", "heaviside",
    "hypot", "isclose", "ldexp", "lerp", "logaddexp", "logaddexp2", "rsub", "true_divide", "xlogy",
]  # fmt: skip
