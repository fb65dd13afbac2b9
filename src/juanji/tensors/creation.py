"""Making tensors: from data, filled, counted, random, and from other tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji import dtypes
from juanji.config import state
from juanji.dtypes import DType, as_dtype, from_numpy_dtype, promote
from juanji.errors import ShapeError
from juanji.ops import elementwise as ew
from juanji.ops.shape import concatenate
from juanji.random import Generator, default_generator, generator_or_default
from juanji.runtime.memory import check_size
from juanji.spec import Shape, infer_shape, normal_dim, show
from juanji.tape import INFERENCE
from juanji.tensors.arithmetic import cast
from juanji.tensors.base import Storage, TensorBase, as_array, need_tensor, wrap
from juanji.tensors.device import check_device
from juanji.tensors.methods import Tensor


def _new(array: NDArray[Any], dtype: DType, requires_grad: bool, device: Any = None) -> Tensor:
    check_device(device)
    if requires_grad and not dtype.is_floating_point:
        raise RuntimeError(f"only floating point tensors can require gradients, not {dtype}")
    shape = tuple(array.shape)
    flat = np.ascontiguousarray(array, dtype.numpy).reshape(-1)
    result: Tensor = wrap(Storage(flat, shape, dtype), requires_grad)
    if state.inference:
        INFERENCE.add(result.storage)
    return result


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of `data`: numbers, nested sequences, NumPy arrays, tensors.

    Python floats become float32, integers int64; NumPy arrays keep their type.

    Raises:
        TypeError: data of a type no tensor holds. ValueError: ragged sequences, another device.

    >>> tensor([1, 2, 3])
    tensor([1, 2, 3])
    """
    if isinstance(data, TensorBase):
        check_size(data.shape, data.dtype.name)
        return tensor(as_array(data), dtype=dtype or data.dtype, device=device, requires_grad=requires_grad)
    if state.capture is not None and isinstance(data, (bool, int, float)):
        kind = as_dtype(dtype) if dtype is not None else _python_dtype(np.asarray(data))
        return ew.const(shape=(), dtype=kind.short, value=data)  # type: ignore[no-any-return]
    try:
        array = np.array(_plain(data))
    except ValueError as error:
        raise ValueError(f"data cannot be made into a tensor: {error}") from None
    if dtype is not None:
        kind = as_dtype(dtype)
    elif isinstance(data, (np.ndarray, np.generic)):
        kind = from_numpy_dtype(array.dtype)
    else:
        kind = _python_dtype(array)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"data of type {array.dtype} cannot be made into a tensor; valid are numbers and sequences of them"
        )
    with np.errstate(all="ignore"):
        converted = array.astype(kind.numpy)
    return _new(converted, kind, requires_grad, device)


def _plain(data: Any) -> Any:
    if isinstance(data, TensorBase):
        return as_array(data)
    if isinstance(data, (list, tuple)) and any(isinstance(d, (TensorBase, list, tuple)) for d in data):
        return [_plain(d) for d in data]
    return data


def _python_dtype(array: NDArray[Any]) -> DType:
    if array.size == 0 and array.dtype == np.float64:
        return dtypes.float32
    if array.dtype.kind == "f":
        return dtypes.float32
    if array.dtype.kind in "iu":
        return dtypes.int64
    return from_numpy_dtype(array.dtype)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a tensor, sharing memory where it already is one or is a suitable NumPy array."""
    check_device(device)
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(as_dtype(dtype))
    if isinstance(data, np.ndarray) and data.flags.writeable and data.flags.c_contiguous and data.dtype.isnative:
        shared = from_numpy(data)
        return shared if dtype is None else shared.to(as_dtype(dtype))
    return tensor(data, dtype=dtype)


def from_numpy(ndarray: NDArray[Any]) -> Tensor:
    """A tensor over the array's memory where it is contiguous and writable, else over a copy.

    Raises:
        TypeError: not a NumPy array, or of an element type without tensors.
    """
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    dtype = from_numpy_dtype(ndarray.dtype)
    array = np.require(ndarray, dtype.numpy, ["C", "W", "A"])
    result: Tensor = wrap(Storage(array.reshape(-1), tuple(array.shape), dtype))
    return result


def _shape(size: tuple[Any, ...], dtype: DType) -> Shape:
    items = tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
    for e in items:
        if isinstance(e, bool) or not hasattr(e, "__index__"):
            raise TypeError(f"sizes must be integers, not {e!r}")
        if int(e) < 0:
            raise ShapeError(f"sizes must not be negative: {show(items)}")
    shape = tuple(int(e) for e in items)
    check_size(shape, dtype.name)
    return shape


def full(
    size: Sequence[int], fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor with one value everywhere; its type follows the value unless given."""
    value = as_array(fill_value).item() if isinstance(fill_value, TensorBase) else fill_value
    kind = as_dtype(dtype) if dtype is not None else _python_dtype(np.asarray(value))
    shape = _shape((tuple(size) if not isinstance(size, int) else (size,),), kind)
    check_device(device)
    if state.capture is not None:
        return ew.const(shape=shape, dtype=kind.short, value=value)  # type: ignore[no-any-return]
    return _new(np.full(shape, value, kind.numpy), kind, requires_grad)


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros.

    >>> zeros(2, 3).shape
    (2, 3)
    """
    kind = dtypes.float32 if dtype is None else as_dtype(dtype)
    return full(_shape(size, kind), 0, dtype=kind, device=device, requires_grad=requires_grad)


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones."""
    kind = dtypes.float32 if dtype is None else as_dtype(dtype)
    return full(_shape(size, kind), 1, dtype=kind, device=device, requires_grad=requires_grad)


def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor whose values are not to be relied on (they are zero)."""
    return zeros(*size, dtype=dtype, device=device, requires_grad=requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal."""
    kind = dtypes.float32 if dtype is None else as_dtype(dtype)
    _shape((n, n if m is None else m), kind)
    return _new(np.eye(n, m, dtype=kind.numpy), kind, requires_grad)


def zeros_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False, **hints: Any) -> Tensor:
    """Zeros in the shape and type of `input`."""
    need_tensor(input, "input", "zeros_like")
    return zeros(input.shape, dtype=dtype or input.dtype, requires_grad=requires_grad)


def ones_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False, **hints: Any) -> Tensor:
    """Ones in the shape and type of `input`."""
    need_tensor(input, "input", "ones_like")
    return ones(input.shape, dtype=dtype or input.dtype, requires_grad=requires_grad)


def full_like(input: Tensor, fill_value: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """One value everywhere, in the shape and type of `input`."""
    need_tensor(input, "input", "full_like")
    return full(input.shape, fill_value, dtype=dtype or input.dtype, requires_grad=requires_grad)


def empty_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False, **hints: Any) -> Tensor:
    """As `zeros_like`."""
    return zeros_like(input, dtype=dtype, requires_grad=requires_grad)


def arange(start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """`start`, `start + step`, ... below `end`; int64 if all are integers.

    >>> arange(2, 8, 3)
    tensor([2, 5])
    """
    if end is None:
        start, end = 0, start
    if step == 0 or (end - start) * step < 0:
        raise ValueError(f"arange: step={step} does not lead from start={start} to end={end}")
    kind = as_dtype(dtype) if dtype is not None else _python_dtype(np.asarray([start, end, step]))
    count = math.ceil((end - start) / step)
    _shape((count,), kind)
    if state.capture is not None:
        steps = ew.iota(shape=(count,), dtype=kind.short)
        return steps * step + start if (start, step) != (0, 1) else steps  # type: ignore[no-any-return]
    return _new((np.arange(count) * step + start).astype(kind.numpy), kind, requires_grad)


def linspace(start: float, end: float, steps: int, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """`steps` evenly spaced numbers from `start` to `end`, both included."""
    kind = dtypes.float32 if dtype is None else as_dtype(dtype)
    _shape((steps,), kind)
    return _new(np.linspace(start, end, steps).astype(kind.numpy), kind, requires_grad)


# -- random -----------------------------------------------------------------------------------------------------------
#: What dropout and captured random numbers read: the Philox key and the number of draws so far.
counter: dict[str, Tensor] = {}


def _counter(name: str) -> Tensor:
    if name not in counter:
        counter["key"] = _new(np.array(0, np.int64), dtypes.int64, False)
        counter["offset"] = _new(np.array(0, np.int64), dtypes.int64, False)
    return counter[name]


def manual_seed(seed: int) -> Generator:
    """Starts the random numbers that belong to `seed`, those of captured steps too.

    >>> _ = manual_seed(0); a = rand(3); _ = manual_seed(0); b = rand(3)
    >>> bool((a == b).all())
    True
    """
    default_generator.manual_seed(seed)
    key = _counter("key")
    key.numpy()[...] = (int(seed) + 2**63) % 2**64 - 2**63
    _counter("offset").numpy()[...] = 0
    return default_generator


def counter_state() -> dict[str, int]:
    """Where the counter stands, for a checkpoint.

    >>> _ = manual_seed(3)
    >>> counter_state()
    {'key': 3, 'offset': 0}
    """
    return {name: int(_counter(name).item()) for name in ("key", "offset")}


def set_counter_state(saved: dict[str, int]) -> None:
    """Goes on from what `counter_state` gave, in captured steps too."""
    for name in ("key", "offset"):
        _counter(name).numpy()[...] = saved[name]


def uniform(shape: Shape, dtype: DType) -> Tensor:
    """Uniform numbers in [0, 1) from the counter: works eagerly and, replay after replay, in a captured step."""
    from juanji.tensors.state import slot

    _counter("key")
    key, offset = slot(counter, "key"), slot(counter, "offset")
    result = ew.uniform(key, offset.clone(), shape=shape, dtype=dtype.short)
    offset.copy_(offset + math.prod(shape))
    return result  # type: ignore[no-any-return]


def rand(
    *size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Uniform numbers in [0, 1)."""
    check_device(device)
    kind = dtypes.float32 if dtype is None else as_dtype(dtype)
    shape = _shape(size, kind)
    if state.capture is not None:
        if generator is not None:
            state.capture.refuse("a generator is drawn from", "leave generator out: the step then has its own counter")
        return uniform(shape, kind)
    return _new(generator_or_default(generator).numpy.random(shape, kind.numpy), kind, requires_grad)


def randn(
    *size: Any, generator: Generator | None = None, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Normal numbers of mean 0 and variance 1 (in a captured step by Box and Muller, 1958)."""
    check_device(device)
    kind = dtypes.float32 if dtype is None else as_dtype(dtype)
    shape = _shape(size, kind)
    if state.capture is not None:
        radius = (uniform(shape, kind) * -1 + 1).log() * -2
        turn: Tensor = (uniform(shape, kind) * (2 * math.pi)).cos()
        normal: Tensor = turn * radius.sqrt()
        return normal
    return _new(generator_or_default(generator).numpy.standard_normal(shape, kind.numpy), kind, requires_grad)


def _host_generator(generator: Generator | None, what: str) -> Any:
    if state.capture is not None:
        state.capture.refuse(f"{what} draws on the host", f"call {what} outside the step and pass the result in")
    return generator_or_default(generator).numpy


def randint(
    low: int, high: Any = None, size: Any = None, *, generator: Generator | None = None, dtype: Any = None
) -> Tensor:
    """Integers from `low` (0 if only one bound is given) to below `high`."""
    if size is None:
        low, high, size = 0, low, high
    if size is None or high <= low:
        raise ValueError(f"randint: needs a size and low < high, not low={low}, high={high}, size={size}")
    kind = dtypes.int64 if dtype is None else as_dtype(dtype)
    drawn = _host_generator(generator, "randint").integers(low, high, _shape((tuple(size),), kind))
    return _new(drawn.astype(kind.numpy), kind, False)


def randperm(n: int, *, generator: Generator | None = None, dtype: Any = None) -> Tensor:
    """The integers 0 to n - 1 in random order."""
    kind = dtypes.int64 if dtype is None else as_dtype(dtype)
    _shape((n,), kind)
    return _new(_host_generator(generator, "randperm").permutation(n).astype(kind.numpy), kind, False)


def rand_like(input: Tensor, **kwargs: Any) -> Tensor:
    """Uniform numbers in the shape and type of `input`."""
    return rand(input.shape, dtype=kwargs.get("dtype") or input.dtype)


def randn_like(input: Tensor, **kwargs: Any) -> Tensor:
    """Normal numbers in the shape and type of `input`."""
    return randn(input.shape, dtype=kwargs.get("dtype") or input.dtype)


# -- from other tensors -----------------------------------------------------------------------------------------------
def _several(tensors: Any, name: str) -> list[Any]:
    items = list(tensors)
    if not items:
        raise ValueError(f"{name}: expected a non-empty sequence of tensors")
    for i, t in enumerate(items):
        need_tensor(t, f"tensors[{i}]", name)
    kind = items[0].dtype
    for t in items[1:]:
        kind = promote(kind, t.dtype)
    return [cast(t, kind) for t in items]


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Joins tensors along an existing dimension.

    Raises:
        ShapeError: sizes differ in another dimension.

    >>> cat([zeros(2, 3), ones(1, 3)]).shape
    (3, 3)
    """
    given = _several(tensors, "cat")
    items = [t for t in given if t.shape != (0,)] or given  # PyTorch, too, passes over empty vectors
    return concatenate(items, normal_dim(dim, items[0].ndim))  # type: ignore[no-any-return]


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Joins tensors of one shape along a new dimension."""
    items = _several(tensors, "stack")
    for i, t in enumerate(items):
        if t.shape != items[0].shape:
            raise ShapeError(
                f"stack: each tensor must have the same shape, but tensors[0] is {show(items[0].shape)} and "
                f"tensors[{i}] is {show(t.shape)}"
            )
    at = normal_dim(dim, items[0].ndim + 1)
    return concatenate([t.unsqueeze(at) for t in items], at)  # type: ignore[no-any-return]


def reshape(input: Tensor, shape: Sequence[int]) -> Tensor:
    """The elements in another shape."""
    return input.reshape(infer_shape(shape, input.numel(), input.shape))
