"""Making tensors: from data, filled, counted, random, and from other tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji import dtypes
from juanji.config import state
from juanji.dtypes import DType, as_dtype, promote
from juanji.errors import ShapeError
from juanji.ops import elementwise as ew
from juanji.ops.shape import concatenate
from juanji.random import Generator, default_generator, generator_or_default
from juanji.runtime.memory import check_size
from juanji.spec import Shape, infer_shape, normal_dim, show
from juanji.tensors.arithmetic import cast
from juanji.tensors.base import Storage, TensorBase, as_array, need_tensor, wrap
from juanji.tensors.device import check_device
from juanji.tensors.filling import arange as arange
from juanji.tensors.filling import check_arguments, checked_shape, like, new_tensor, python_dtype
from juanji.tensors.filling import empty as empty
from juanji.tensors.filling import empty_like as empty_like
from juanji.tensors.filling import eye as eye
from juanji.tensors.filling import full as full
from juanji.tensors.filling import full_like as full_like
from juanji.tensors.filling import linspace as linspace
from juanji.tensors.filling import ones as ones
from juanji.tensors.filling import ones_like as ones_like
from juanji.tensors.filling import zeros as zeros
from juanji.tensors.filling import zeros_like as zeros_like
from juanji.tensors.methods import Tensor


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
        kind = as_dtype(dtype) if dtype is not None else python_dtype(np.asarray(data))
        return ew.const(shape=(), dtype=kind.short, value=data)  # type: ignore[no-any-return]
    try:
        array = np.asarray(_plain(data))
    except ValueError as error:
        raise ValueError(f"data cannot be made into a tensor: {error}") from None
    if dtype is not None:
        kind = as_dtype(dtype)
    elif isinstance(data, (np.ndarray, np.generic)):
        array, kind = dtypes.storable(array)
    else:
        kind = python_dtype(array)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"data of type {array.dtype} cannot be made into a tensor; valid are numbers and sequences of them"
        )
    with np.errstate(all="ignore"):
        converted = dtypes.encode(array, kind)
    return new_tensor(converted, kind, requires_grad, device)


def _plain(data: Any) -> Any:
    if isinstance(data, TensorBase):
        return as_array(data)
    if isinstance(data, (list, tuple)) and any(isinstance(d, (TensorBase, list, tuple)) for d in data):
        return [_plain(d) for d in data]
    return data


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
    ndarray, dtype = dtypes.storable(ndarray)
    array = np.require(ndarray, dtype.numpy, ["C", "W", "A"])
    result: Tensor = wrap(Storage(array.reshape(-1), tuple(array.shape), dtype))
    return result


# -- random -----------------------------------------------------------------------------------------------------------
#: What dropout and captured random numbers read: the Philox key and the number of draws so far.
counter: dict[str, Tensor] = {}


def _counter(name: str) -> Tensor:
    if name not in counter:
        counter["key"] = new_tensor(np.array(0, np.int64), dtypes.int64, False)
        counter["offset"] = new_tensor(np.array(0, np.int64), dtypes.int64, False)
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


def _floats(generator: Generator | None, name: str, shape: Shape, kind: DType) -> Any:
    if not kind.is_floating_point:
        raise RuntimeError(f"random numbers with a fraction need a floating point type, not {kind}")
    drawn = getattr(generator_or_default(generator).numpy, name)(
        shape, np.float64 if kind is dtypes.float64 else np.float32
    )
    return dtypes.encode(drawn, kind)


def rand(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **hints: Any,
) -> Tensor:
    """Uniform numbers in [0, 1)."""
    if "size" in hints:
        size = (hints.pop("size"),)
    check_arguments("rand", device, hints)
    kind = dtypes.float32 if dtype is None else as_dtype(dtype)
    shape = checked_shape(size, kind)
    if state.capture is not None:
        if generator is not None:
            state.capture.refuse("a generator is drawn from", "leave generator out: the step then has its own counter")
        return uniform(shape, kind)
    return new_tensor(_floats(generator, "random", shape, kind), kind, requires_grad)


def randn(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **hints: Any,
) -> Tensor:
    """Normal numbers of mean 0 and variance 1 (in a captured step by Box and Muller, 1958)."""
    if "size" in hints:
        size = (hints.pop("size"),)
    check_arguments("randn", device, hints)
    kind = dtypes.float32 if dtype is None else as_dtype(dtype)
    shape = checked_shape(size, kind)
    if state.capture is not None:
        radius = (uniform(shape, kind) * -1 + 1).log() * -2
        turn: Tensor = (uniform(shape, kind) * (2 * math.pi)).cos()
        normal: Tensor = turn * radius.sqrt()
        return normal
    return new_tensor(_floats(generator, "standard_normal", shape, kind), kind, requires_grad)


def _host_generator(generator: Generator | None, what: str) -> Any:
    if state.capture is not None:
        state.capture.refuse(f"{what} draws on the host", f"call {what} outside the step and pass the result in")
    return generator_or_default(generator).numpy


def randint(*args: Any, **kwargs: Any) -> Tensor:
    """Integers from `low` (0 if only one bound is given) to below `high`: `randint(high, size)`
    or `randint(low, high, size)`.

    Further arguments: generator, dtype (int64), device, requires_grad.

    Raises:
        ValueError: an empty range, or bounds that the type does not hold.
    """
    names = ("high", "size") if len(args) + ("size" in kwargs) + ("high" in kwargs) == 2 else ("low", "high", "size")
    given = dict(zip(names, args, strict=False))
    given.update({k: kwargs.pop(k) for k in ("low", "high", "size") if k in kwargs})
    generator, dtype = kwargs.pop("generator", None), kwargs.pop("dtype", None)
    requires_grad = kwargs.pop("requires_grad", False)
    check_arguments("randint", kwargs.pop("device", None), kwargs)
    for name in ("low", "high"):
        if isinstance(given.get(name), float) and not math.isfinite(given[name]):
            raise ShapeError(f"randint: {name}={given[name]} must be an integer")
    low, high, size = int(given.get("low", 0)), given.get("high"), given.get("size")
    if size is None or high is None or int(high) <= low:
        raise ShapeError(f"randint: needs a size and low < high, not low={low}, high={high}, size={size}")
    kind = dtypes.int64 if dtype is None else as_dtype(dtype)
    shape = checked_shape((size if isinstance(size, (tuple, list)) else (size,),), kind)
    drawn = _host_generator(generator, "randint").integers(low, int(high), shape)
    return new_tensor(dtypes.encode(drawn, kind), kind, requires_grad)


def randperm(
    n: int, *, generator: Generator | None = None, dtype: Any = None, device: Any = None, **hints: Any
) -> Tensor:
    """The integers 0 to n - 1 in random order."""
    requires_grad = hints.pop("requires_grad", False)
    check_arguments("randperm", device, hints)
    kind = dtypes.int64 if dtype is None else as_dtype(dtype)
    checked_shape((n,), kind)
    order = _host_generator(generator, "randperm").permutation(n)
    return new_tensor(dtypes.encode(order, kind), kind, requires_grad)


def _randint_shape(shape: Shape, *bounds: Any, **kwargs: Any) -> Tensor:
    return randint(*bounds, size=shape, **kwargs)


rand_like = like("rand_like", rand, "Uniform numbers in the shape and type of `input`.")
randn_like = like("randn_like", randn, "Normal numbers in the shape and type of `input`.")
randint_like = like("randint_like", _randint_shape, "Integers below `high`, from `low`, in the shape of `input`.")


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


def cat(tensors: Sequence[Tensor], dim: int = 0, **hints: Any) -> Tensor:
    """Joins tensors along an existing dimension.

    Raises:
        ShapeError: sizes differ in another dimension.

    >>> cat([zeros(2, 3), ones(1, 3)]).shape
    (3, 3)
    """
    check_arguments("cat", None, hints)
    if isinstance(tensors, TensorBase):
        raise TypeError("cat: tensors must be a sequence of tensors, not one Tensor")
    given = _several(tensors, "cat")
    items = [t for t in given if t.shape != (0,)] or given  # PyTorch, too, passes over empty vectors
    return concatenate(items, normal_dim(dim, items[0].ndim))  # type: ignore[no-any-return]


def stack(tensors: Sequence[Tensor], dim: int = 0, **hints: Any) -> Tensor:
    """Joins tensors of one shape along a new dimension."""
    check_arguments("stack", None, hints)
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
    need_tensor(input, "input", "reshape")
    return input.reshape(infer_shape(shape, input.numel(), input.shape))


concat = cat
