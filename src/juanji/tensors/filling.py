"""Tensors filled with one value or counted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji import dtypes
from juanji.config import state
from juanji.dtypes import DType, as_dtype, from_numpy_dtype
from juanji.errors import ShapeError
from juanji.ops import elementwise as ew
from juanji.runtime.memory import check_size
from juanji.spec import Shape, show
from juanji.tape import INFERENCE
from juanji.tensors.arithmetic import NUMBERS, cast
from juanji.tensors.base import TensorBase, as_array, need_tensor, raw_array, wrap
from juanji.tensors.device import check_device
from juanji.tensors.eager import new_storage
from juanji.tensors.formats import check_layout, check_memory_format
from juanji.tensors.methods import Tensor
from juanji.tensors.public import refuse_out


def new_tensor(
    array: NDArray[Any], dtype: DType, requires_grad: bool, device: Any = None, zero: bool = False
) -> Tensor:
    """A tensor with the values of an array, in memory of the allocator's: NumPy's begins in the middle of cache lines,
    and a step that reads and writes all parameters and their momentum then takes a fifth longer.

    Args:
        zero: whether all values are zero, all bits of them.
    """
    check_device(device)
    if requires_grad and not dtype.is_floating_point:
        raise RuntimeError(f"only floating point tensors can require gradients, not {dtype}")
    shape = tuple(array.shape)
    result: Tensor = wrap(new_storage(shape, dtype, math.prod(shape) * dtype.itemsize, zero), requires_grad)
    if not zero:
        raw_array(result)[...] = array
    if state.inference:
        INFERENCE.add(result.storage)
    return result


def python_dtype(array: NDArray[Any]) -> DType:
    """The type of tensors made from Python's numbers: those of floats are float32."""
    if array.size == 0 and array.dtype == np.float64:
        return dtypes.float32
    if array.dtype.kind == "f":
        return dtypes.float32
    if array.dtype.kind in "iu":
        return dtypes.int64
    return from_numpy_dtype(array.dtype)


def checked_shape(size: tuple[Any, ...], dtype: DType) -> Shape:
    """Sizes as users give them, one by one or as a sequence."""
    items = tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
    for e in items:
        if isinstance(e, bool) or not hasattr(e, "__index__"):
            raise TypeError(f"sizes must be integers, not {e!r}")
        if int(e) < 0:
            raise ShapeError(f"sizes must not be negative: {show(items)}")
    shape = tuple(int(e) for e in items)
    check_size(shape, dtype.name)
    return shape


#: Further arguments of PyTorch's that change nothing here.
_HINTS = ("layout", "pin_memory", "memory_format", "names", "non_blocking")


def check_arguments(function: str, device: Any, hints: dict[str, Any]) -> None:
    """Refuses another device, `out` and arguments that do not exist."""
    check_device(device)
    refuse_out(function, hints)
    check_memory_format(function, hints.get("memory_format"))
    check_layout(function, hints.get("layout"))
    unknown = [name for name in hints if name not in _HINTS]
    if unknown:
        raise TypeError(f"{function}() got an unexpected keyword argument {unknown[0]!r}")


def full(
    size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **hints: Any
) -> Tensor:
    """A tensor with one value everywhere; its type follows the value unless given."""
    check_arguments("full", device, hints)
    value = as_array(fill_value).item() if isinstance(fill_value, TensorBase) else fill_value
    if not isinstance(value, NUMBERS):
        raise TypeError(f"full: fill_value={value!r} must be a number")
    kind = as_dtype(dtype) if dtype is not None else python_dtype(np.asarray(value))
    shape = checked_shape((tuple(size) if not isinstance(size, int) else (size,),), kind)
    if state.capture is not None:
        return ew.const(shape=shape, dtype=kind.short, value=value)  # type: ignore[no-any-return]
    with np.errstate(all="ignore"):
        one = dtypes.encode(np.asarray(value), kind)
    return new_tensor(np.broadcast_to(one, shape), kind, requires_grad, zero=not any(one.tobytes()))


def _filled(name: str, value: int, text: str) -> Any:
    def function(
        *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **hints: Any
    ) -> Tensor:
        if "size" in hints:
            size = (hints.pop("size"),)
        check_arguments(name, device, hints)
        kind = dtypes.float32 if dtype is None else as_dtype(dtype)
        return full(checked_shape(size, kind), value, dtype=kind, requires_grad=requires_grad)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = text
    return function


zeros = _filled("zeros", 0, "Zeros of shape `size`.\n\n    >>> zeros(2, 3).shape\n    (2, 3)\n    ")
ones = _filled("ones", 1, "Ones of shape `size`.")
empty = _filled("empty", 0, "A tensor whose values are not to be relied on (they are zero).")


def scalar_tensor(
    s: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **hints: Any
) -> Tensor:
    """A number as a tensor without dimensions; float32 unless said otherwise."""
    return full(
        (), s, dtype=dtypes.float32 if dtype is None else dtype, device=device, requires_grad=requires_grad, **hints
    )


def eye(
    n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **hints: Any
) -> Tensor:
    """Ones on the diagonal."""
    check_arguments("eye", device, hints)
    kind = dtypes.float32 if dtype is None else as_dtype(dtype)
    rows, columns = checked_shape((n, n if m is None else m), kind)
    if state.capture is not None:
        row, column = ew.iota(shape=(rows,), dtype="i64").reshape(rows, 1), ew.iota(shape=(columns,), dtype="i64")
        return cast(ew.eq(row, column), kind)  # type: ignore[no-any-return]
    return new_tensor(converted(np.eye(rows, columns, dtype=np.float32), kind), kind, requires_grad)


def like(name: str, make: Any, text: str) -> Any:
    """A function as `make` that takes shape and type from a tensor."""

    def function(
        input: Tensor,
        *arguments: Any,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool = False,
        **hints: Any,
    ) -> Tensor:
        need_tensor(input, "input", name)
        generator = {"generator": hints.pop("generator")} if hints.get("generator") is not None else {}
        hints.pop("generator", None)
        given = {k: hints.pop(k) for k in ("fill_value", "low", "high") if k in hints}
        check_arguments(name, device, hints)
        kind = input.dtype if dtype is None else as_dtype(dtype)
        result: Tensor = make(input.shape, *arguments, dtype=kind, requires_grad=requires_grad, **given, **generator)
        return result

    function.__name__ = function.__qualname__ = name
    function.__doc__ = text
    return function


zeros_like = like("zeros_like", zeros, "Zeros in the shape and type of `input`.")
ones_like = like("ones_like", ones, "Ones in the shape and type of `input`.")
full_like = like("full_like", full, "One value everywhere, in the shape and type of `input`.")
empty_like = like("empty_like", empty, "As `zeros_like`.")


def plain_number(function: str, value: Any, argument: str) -> Any:
    """A number, or the one in a tensor without dimensions."""
    if isinstance(value, TensorBase):
        if value.shape:
            raise ShapeError(f"{function} only supports 0-dimensional {argument} tensors, not {show(value.shape)}")
        return as_array(value).item()
    if not isinstance(value, NUMBERS):
        raise TypeError(f"{function}: {argument}={value!r} must be a number")
    return value


def arange(
    start: Any,
    end: Any = None,
    step: Any = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **hints: Any,
) -> Tensor:
    """`start`, `start + step`, ... below `end`; int64 if all are integers.

    Raises:
        ValueError: `step` is zero, does not lead to `end`, or there is no end.

    >>> arange(2, 8, 3)
    tensor([2, 5])
    """
    check_arguments("arange", device, hints)
    if end is None:
        start, end = 0, start
    start, end, step = (plain_number("arange", v, n) for v, n in ((start, "start"), (end, "end"), (step, "step")))
    if not all(math.isfinite(v) for v in (start, end, step)):
        raise ShapeError(f"arange: unsupported range: start={start}, end={end}, step={step}")
    if step == 0 or (end - start) * step < 0:
        raise ShapeError(f"arange: step={step} does not lead from start={start} to end={end}")
    kind = as_dtype(dtype) if dtype is not None else python_dtype(np.asarray([start, end, step]))
    if not kind.is_floating_point and kind is not dtypes.bool_:
        start, end, step = int(start), int(end), int(step)
        if step == 0:
            raise ShapeError(f"arange: step must be at least 1 or at most -1 in {kind}")
    count = math.ceil((end - start) / step)
    checked_shape((count,), kind)
    if state.capture is not None:
        steps = ew.iota(shape=(count,), dtype=kind.short)
        return steps * step + start if (start, step) != (0, 1) else steps  # type: ignore[no-any-return]
    return new_tensor(converted(np.arange(count) * step + start, kind), kind, requires_grad)


def converted(array: NDArray[Any], kind: DType) -> NDArray[Any]:
    """An array in a tensor\'s element type, silently."""
    with np.errstate(all="ignore"):
        return np.asarray(dtypes.encode(array, kind))


def _spaced(
    function: str, start: Any, end: Any, steps: Any, kind: DType, device: Any, hints: dict[str, Any]
) -> NDArray[Any]:
    check_arguments(function, device, hints)
    start, end = plain_number(function, start, "start"), plain_number(function, end, "end")
    if isinstance(steps, bool) or not hasattr(steps, "__index__"):
        raise TypeError(f"{function}: steps={steps!r} must be an integer")
    if int(steps) < 0:
        raise ShapeError(f"{function}: number of steps must be non-negative, not {steps}")
    checked_shape((steps,), kind)
    # From both ends, as PyTorch: the second half counts back from `end`, which is met exactly.
    count = int(steps)
    step = (end - start) / (count - 1) if count > 1 else 0.0
    if not kind.is_floating_point:
        start, end = int(start), int(end)
        step = (end - start) / (count - 1) if count > 1 else 0.0
    k = np.arange(count)
    if count < 2:
        return np.asarray(start + 0 * k)
    return np.asarray(np.where(k < (count + 1) // 2, start + step * k, end - step * (count - 1 - k)))


def linspace(
    start: Any,
    end: Any,
    steps: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **hints: Any,
) -> Tensor:
    """`steps` evenly spaced numbers from `start` to `end`, both included."""
    kind = dtypes.float32 if dtype is None else as_dtype(dtype)
    return new_tensor(converted(_spaced("linspace", start, end, steps, kind, device, hints), kind), kind, requires_grad)


def logspace(
    start: Any,
    end: Any,
    steps: Any,
    base: float = 10.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **hints: Any,
) -> Tensor:
    """`steps` powers of `base` whose exponents are evenly spaced from `start` to `end`."""
    kind = dtypes.float32 if dtype is None else as_dtype(dtype)
    with np.errstate(all="ignore"):
        powers = np.power(float(base), _spaced("logspace", start, end, steps, kind, device, hints))
    return new_tensor(converted(np.asarray(powers), kind), kind, requires_grad)


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None, **hints: Any) -> Tensor:
    """Row and column numbers of the lower triangle, as two rows."""
    return _triangle("tril_indices", np.tril_indices, row, col, offset, dtype, device, hints)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None, **hints: Any) -> Tensor:
    """Row and column numbers of the upper triangle, as two rows."""
    return _triangle("triu_indices", np.triu_indices, row, col, offset, dtype, device, hints)


def _triangle(
    name: str, indices: Any, row: int, col: int, offset: int, dtype: Any, device: Any, hints: dict[str, Any]
) -> Tensor:
    check_arguments(name, device, hints)
    if row < 0 or col < 0:
        raise ShapeError(f"{name}: row={row} and col={col} must be non-negative")
    kind = dtypes.int64 if dtype is None else as_dtype(dtype)
    return new_tensor(converted(np.stack(indices(row, offset, col)), kind), kind, False)
