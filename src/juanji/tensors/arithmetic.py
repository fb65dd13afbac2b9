"""How numbers and tensors meet: element types of results, Python scalars, and the arithmetic behind the operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from juanji import dtypes
from juanji.config import state
from juanji.dtypes import DType, category, encode, promote, storable
from juanji.ops import elementwise as ew
from juanji.ops.core import Op
from juanji.spec import show
from juanji.tensors.base import Storage, TensorBase, as_array, check_writable, rebase, wrap, write

NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)
#: What operators take; arrays become tensors first.
OPERANDS = (TensorBase, *NUMBERS)
_scalars: dict[Any, Any] = {}


def scalar(value: Any, dtype: DType) -> Any:
    """A constant of no dimensions: part of the graph in a capture, a small kept tensor outside."""
    if dtype.short == "b1":
        value = bool(value)
    else:
        try:
            value = float(value) if dtype.is_floating_point else int(value)
        except (OverflowError, ValueError):
            raise RuntimeError(f"value {value!r} cannot be converted to {dtype} without overflow") from None
    if state.capture is not None:
        return ew.const(shape=(), dtype=dtype.short, value=value)
    # -0.0 equals 0.0, and NaN not even itself.
    key = (value, dtype) if value and value == value else (str(value), dtype)
    found = _scalars.get(key)
    if found is None:
        if len(_scalars) >= 512:
            _scalars.clear()
        if not dtype.is_floating_point and dtype.short != "b1":
            value = (
                (int(value) + 2 ** (8 * dtype.itemsize - 1)) % 2 ** (8 * dtype.itemsize) - 2 ** (8 * dtype.itemsize - 1)
                if dtype.is_signed
                else int(value) % 256
            )
        found = _scalars[key] = wrap(Storage(encode(np.full(1, value), dtype), (), dtype))
    return found


def cast(tensor: Any, dtype: DType) -> Any:
    """`tensor` in another element type; itself where it already has it."""
    return tensor if tensor.dtype is dtype else ew.cast(tensor, dtype=dtype.short)


def number_dtype(value: Any) -> DType:
    """The type a Python or NumPy number counts as."""
    if isinstance(value, (bool, np.bool_)):
        return dtypes.bool_
    return dtypes.int64 if isinstance(value, (int, np.integer)) else dtypes.float32


def result_dtype(operands: Sequence[Any]) -> DType:
    """PyTorch's rule: tensors with dimensions decide, then those without, then numbers, unless of a lower category."""
    kinds: list[DType | None] = [None, None, None]
    for operand in operands:
        if isinstance(operand, TensorBase):
            level = 0 if operand.shape else 1
            dtype = operand.dtype
        else:
            level, dtype = 2, number_dtype(operand)
        known = kinds[level]
        kinds[level] = dtype if known is None else promote(known, dtype)
    result: DType | None = None
    for candidate in kinds:
        if candidate is None:
            continue
        if result is None or category(candidate) > category(result):
            result = candidate
    assert result is not None
    return result


def operand(value: Any, name: str) -> Any:
    """`value` if an operator can take it (an array as a tensor), else `NotImplemented`."""
    if isinstance(value, OPERANDS):
        return value
    if isinstance(value, np.ndarray):
        if state.capture is not None:
            state.capture.refuse(f"{name} with a NumPy array", "make it a tensor outside the step, or pass it in")
        value, kind = storable(value)
        return wrap(Storage(np.ascontiguousarray(value, kind.numpy).reshape(-1), value.shape, kind))
    if isinstance(value, complex):
        raise TypeError(f"{name}: complex numbers are not supported ({value!r}); valid are bool, int and float")
    return NotImplemented


def together(dtype: DType, *values: Any) -> list[Any]:
    """All values as tensors of one element type."""
    return [cast(v, dtype) if isinstance(v, TensorBase) else scalar(v, dtype) for v in values]


def arithmetic(op: Op, a: Any, b: Any) -> Any:
    """A binary operation after promotion. Two integer operands of `div` become floating point."""
    if isinstance(a, TensorBase) and a.dtype.is_floating_point:  # the usual cases by the shortest way
        if isinstance(b, TensorBase):
            if a.dtype is b.dtype:
                return op(a, b)
        elif type(b) in (int, float):
            if a.dtype.half and op.shape is not ew.lt.shape:  # the number is not rounded before
                return cast(op(cast(a, dtypes.float32), scalar(b, dtypes.float32)), a.dtype)
            return op(a, scalar(b, a.dtype))
    dtype = result_dtype((a, b))
    if op is ew.div and not dtype.is_floating_point:
        dtype = dtypes.float32
    if op is ew.sub and any(_is_bool(v) for v in (a, b)):
        raise RuntimeError("subtraction with a bool tensor is not supported; use ^, ~ or logical_not instead")
    if op in (ew.floordiv, ew.rem) and not dtype.is_floating_point:
        check_divisor(b)
    return op(*together(dtype, a, b))


def check_divisor(b: Any) -> None:
    """Refuses to divide integers by zero; inside a capture, where values are not known, the quotient is 0.

    Raises:
        RuntimeError: a divisor is zero.
    """
    if state.capture is not None and isinstance(b, TensorBase):
        return  # a captured step gives 0
    if not (as_array(b.detach()).all() if isinstance(b, TensorBase) else b):  # type: ignore[attr-defined]
        raise RuntimeError("ZeroDivisionError: integers are divided by zero")


def scaled(op: Op, a: Any, b: Any, alpha: Any) -> Any:
    """`a + alpha * b` or `a - alpha * b`.

    Raises:
        RuntimeError: a fractional `alpha` where the result is of integers.
    """
    if alpha == 1:
        return arithmetic(op, a, b)
    dtype = result_dtype((a, b))
    if isinstance(alpha, float) and not dtype.is_floating_point:
        raise RuntimeError(f"For integral input tensors, argument alpha must not be a floating point number: {alpha}")
    return arithmetic(op, a, ew.mul(*together(dtype, b, alpha)))


def _is_bool(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_)) or (isinstance(value, TensorBase) and value.dtype is dtypes.bool_)


def power(a: Any, b: Any) -> Any:
    """`a ** b`; small constant exponents become products, as a reader would compute them."""
    if isinstance(b, NUMBERS) and isinstance(a, TensorBase):
        dtype = result_dtype((a, b))
        base = cast(a, dtype)
        if b == 2:
            return ew.mul(base, base)
        if b == 3:
            return ew.mul(ew.mul(base, base), base)
        if b == 1:
            return ew.copy(base)
        if dtype.is_floating_point and b == 0.5:
            return ew.sqrt(base)
        if dtype.is_floating_point and b == -0.5:
            return ew.rsqrt(base)
        if dtype.is_floating_point and b == -1:
            return ew.div(scalar(1, dtype), base)
        if not dtype.is_floating_point:
            return _integer_power(base, b)
    return arithmetic(ew.pow_, a, b)


def _integer_power(base: Any, exponent: Any) -> Any:
    if exponent < 0:
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    result = base.new_ones(base.shape)
    for _ in range(min(int(exponent), 64)):
        result = ew.mul(result, base)
    return result


def unary_float(op: Op, x: Any) -> Any:
    """A transcendental function: integers become float32 first."""
    return op(x if x.dtype.is_floating_point else cast(x, dtypes.float32))


def original(target: Any, op: Op | None = None, other: Any = None) -> Any:
    """What an in-place operation computes from: `target`, or a copy where a gradient formula will want the old value.

    Args:
        op: the operation that reads `target` and `other`; None for several of them.
    """
    if not state.grad_enabled:
        return target
    wanted = (target._var.requires_grad, isinstance(other, TensorBase) and other._var.requires_grad)
    reads = any(wanted) if op is None else any(w and "0" in n for w, n in zip(wanted, op.needs, strict=False))
    return ew.copy(target) if reads else target


def signed(op: Op, x: Any) -> Any:
    """A function of numbers that bools are not.

    Raises:
        RuntimeError: a tensor of bools.
    """
    if x.dtype is dtypes.bool_:
        raise RuntimeError(f"{op.name} is not supported for bool tensors; use ~ or logical_not, or cast them first")
    return op(x)


def into(target: Any, value: Any, name: str) -> Any:
    """What an in-place operation does with its result: checks shape and type, then writes it into `target`.

    Raises:
        RuntimeError: the result has another shape, or a type that cannot be cast to the target's.
    """
    if value.shape != target.shape:
        raise RuntimeError(
            f"{name}: output with shape {show(target.shape)} doesn't match the broadcast shape {show(value.shape)}"
        )
    if value.dtype is not target.dtype:
        if category(value.dtype) > category(target.dtype):
            raise RuntimeError(
                f"{name}: result type {value.dtype} can't be cast to the desired output type {target.dtype}"
            )
        value = cast(value, target.dtype)
    write(target, value)
    return target


__all__ = [
    "NUMBERS",
    "OPERANDS",
    "arithmetic",
    "cast",
    "check_divisor",
    "check_writable",
    "into",
    "number_dtype",
    "operand",
    "original",
    "power",
    "rebase",
    "result_dtype",
    "scalar",
    "scaled",
    "signed",
    "together",
    "unary_float",
]
