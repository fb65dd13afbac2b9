"""Reading and writing by tensors of indices: gather, scatter, index_select, index_add, take and their like.

An index out of range is an `IndexError` (and a `RuntimeError`) in an eager call. Inside a captured step, where values
are not known while tracing, it reads NaN (0 in integer types) and what it would write is dropped.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from juanji import dtypes
from juanji.config import state
from juanji.dtypes import category
from juanji.errors import BoundsError, ShapeError
from juanji.ops import elementwise as ew
from juanji.ops import shape as shapes
from juanji.ops import table
from juanji.spec import Shape, broadcast, normal_dim, show
from juanji.tensors.arithmetic import NUMBERS, cast, scalar
from juanji.tensors.base import as_array, need_tensor
from juanji.tensors.public import is_tensor, public

_REDUCTIONS = {"sum": "add", "prod": "mul", "amax": "max", "amin": "min", "mean": "add"}


def check_bounds(function: str, index: Any, size: int, dim: int, lowest: int = 0) -> None:
    """Refuses an index outside `lowest` to `size - 1`; inside a capture nothing is known.

    Raises:
        BoundsError: an `IndexError` and a `RuntimeError`.
    """
    if state.capture is not None or not math.prod(index.shape):
        return
    values = as_array(index)
    low, high = int(values.min()), int(values.max())
    if low < lowest or high >= size:
        wrong = low if low < lowest else high
        raise BoundsError(
            f"{function}: index {wrong} is out of bounds for dimension {dim} with size {size}; valid are {lowest} to "
            f"{size - 1}"
        )


def index64(function: str, index: Any, argument: str = "index") -> Any:
    """An index as int64, without history.

    Raises:
        TypeError: no tensor. BoundsError: another element type than int64 or int32.
    """
    need_tensor(index, argument, function)
    if index.dtype not in (dtypes.int64, dtypes.int32):
        raise BoundsError(f"{function}: expected dtype int64 for {argument}, got {index.dtype}")
    return cast(index, dtypes.int64)


def _same_type(function: str, input: Any, src: Any, argument: str) -> None:
    need_tensor(src, argument, function)
    if src.dtype is not input.dtype:
        raise RuntimeError(
            f"{function}: expected {argument} to have the same dtype as the input, {input.dtype}, got {src.dtype}"
        )


def _full_rank(value: Any) -> Any:
    return value.reshape(1) if not value.shape else value


def _within(function: str, index: Any, other: Any, what: str, but: int | None) -> None:
    if index.ndim != other.ndim:
        raise ShapeError(
            f"{function}: index of shape {show(index.shape)} must have as many dimensions as {what} of shape "
            f"{show(other.shape)}"
        )
    for d, (mine, bound) in enumerate(zip(index.shape, other.shape, strict=True)):
        if d != but and mine > bound:
            raise ShapeError(
                f"{function}: index of shape {show(index.shape)} must not be larger than {what} of shape "
                f"{show(other.shape)}" + ("" if but is None else f" apart from dimension {but}")
            )


def _cut(value: Any, shape: Shape, but: int | None = None) -> Any:
    """The leading part of `value` that has the extents of `shape`, but for dimension `but`."""
    bounds = tuple((0, e if d == but else shape[d], 1) for d, e in enumerate(value.shape))
    return value if all(b[1] == e for b, e in zip(bounds, value.shape, strict=True)) else _sliced(value, bounds)


def _sliced(value: Any, bounds: Any) -> Any:
    return shapes.slice_(value, bounds=bounds)


@public()
def gather(input: Any, dim: int, index: Any, *, sparse_grad: bool = False) -> Any:
    """out[i, j, ..] = input[index[i, j, ..], j, ..] for `dim` 0, and so on for the others.

    Shapes: index has as many dimensions as input and is nowhere larger but along `dim`; the result has index's shape.

    Raises:
        BoundsError: an index out of range, or not int64. ShapeError: shapes that do not fit.

    >>> import juanji as jj
    >>> gather(jj.tensor([[1, 2], [3, 4]]), 1, jj.tensor([[0, 0], [1, 0]]))
    tensor([[1, 1],
            [4, 3]])
    """
    need_tensor(index, "index", "gather")
    places = index64("gather", index) if index.numel() else index.detach()
    d = normal_dim(dim, input.ndim)
    if not places.numel():
        return input.new_zeros(places.shape) if not input.requires_grad else cast(places, input.dtype) + input.sum() * 0
    x, listed = _full_rank(input), _full_rank(places)
    _within("gather", listed, x, "input", d)
    check_bounds("gather", listed, x.shape[d], d)
    result = table.gather(_cut(x, listed.shape, d), listed, dim=d)
    return result if places.shape else result.reshape(())


def combine(input: Any, d: int, index: Any, src: Any, mode: str) -> Any:
    """`input` with `src` brought in at the places of `index` along `d`: shapes as `scatter`'s, checked before."""
    if not index.numel():
        return ew.copy(input)
    x, listed, values = _full_rank(input), _full_rank(index), _full_rank(src)
    values = _cut(values, listed.shape)
    region = _cut(x, listed.shape, d)
    op = table.scatter if mode in ("set", "add") else table.scatter_reduce
    result = op(region, values, listed, dim=d, mode=mode)
    if region is not x:
        bounds = tuple((0, e, 1) for e in region.shape)
        result = shapes.view_write(x, result, chain=(("slice", (("bounds", bounds),)),))
    return result if input.shape else result.reshape(())


def _scatter_arguments(function: str, input: Any, dim: int, index: Any, src: Any) -> tuple[int, Any, Any]:
    places = index64(function, index)
    d = normal_dim(dim, input.ndim)
    if not is_tensor(src):
        if not isinstance(src, NUMBERS):
            raise TypeError(f"{function}: src must be a Tensor or a number, not {type(src).__name__}")
        src = scalar(src, input.dtype).expand(places.shape)
    _same_type(function, input, src, "src")
    if places.numel():
        _within(function, _full_rank(places), _full_rank(input), "input", d)
        _within(function, _full_rank(places), _full_rank(src), "src", None)
        check_bounds(function, places, _full_rank(input).shape[d], d)
    return d, places, src


@public(inplace=True)
def scatter(input: Any, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: str | None = None) -> Any:
    """`input` with out[index[i, j, ..], j, ..] = src[i, j, ..] for `dim` 0, and so on for the others.

    Args:
        src: a tensor nowhere smaller than index, or a number.
        reduce: None, "add" or "multiply" instead of setting. Where indices repeat, the last one stays.

    Raises:
        BoundsError: an index out of range. ShapeError: shapes that do not fit. ValueError: another `reduce`.

    >>> import juanji as jj
    >>> scatter(jj.zeros(2, 3), 1, jj.tensor([[2], [0]]), 5.0)
    tensor([[0., 0., 5.],
            [5., 0., 0.]])
    """
    if (src is None) == (value is None):
        raise TypeError("scatter: one of src and value must be given")
    modes = {None: "set", "add": "add", "multiply": "mul"}
    if reduce not in modes:
        raise ShapeError(f"scatter: reduce={reduce!r} must be either 'add' or 'multiply'")
    d, places, values = _scatter_arguments("scatter", input, dim, index, value if src is None else src)
    return combine(input, d, places, values, modes[reduce])


@public(inplace=True)
def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Any:
    """`input` with src added at the places of index along `dim`; see `scatter`. Exact order for any thread count."""
    need_tensor(src, "src", "scatter_add")
    d, places, values = _scatter_arguments("scatter_add", input, dim, index, src)
    return combine(input, d, places, values, "add")


@public(inplace=True)
def scatter_reduce(input: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True) -> Any:
    """`input` with what index brings together reduced: "sum", "prod", "mean", "amax" or "amin".

    Args:
        include_self: the element of `input` takes part; else only places that nothing comes to keep it.
    """
    need_tensor(src, "src", "scatter_reduce")
    if reduce not in _REDUCTIONS:
        raise ShapeError(f"scatter_reduce: reduce={reduce!r} must be either sum, prod, mean, amax or amin")
    d, places, values = _scatter_arguments("scatter_reduce", input, dim, index, src)
    return reduced(input, d, places, _cut(_full_rank(values), _full_rank(places).shape), reduce, include_self)


def reduced(input: Any, d: int, index: Any, src: Any, reduce: str, include_self: bool) -> Any:
    """`scatter_reduce` after its checks."""
    base = input
    if not index.numel():
        return ew.copy(input)
    if not include_self:
        neutral = {"sum": 0, "mean": 0, "prod": 1, "amax": lowest(input.dtype), "amin": highest(input.dtype)}[reduce]
        base = combine(input, d, index, scalar(neutral, input.dtype).expand(src.shape), "set")
    result = combine(base, d, index, src, _REDUCTIONS[reduce])
    if reduce != "mean":
        return result
    ones = cast(scalar(1, dtypes.int64).expand(src.shape), input.dtype)
    start = input.detach() * 0 + 1 if include_self else combine(input.detach() * 0 + 1, d, index, ones * 0, "set")
    if not input.dtype.is_floating_point:
        start = start.to(dtypes.int64)
    count = combine(start, d, index, ones.to(start.dtype), "add")
    count = ew.maximum(count, scalar(1, count.dtype))
    if input.dtype.is_floating_point:
        return ew.div(result, count)
    return cast(ew.floordiv(cast(result, dtypes.int64), count), input.dtype)


def lowest(dtype: Any) -> Any:
    """The smallest value of an element type."""
    return dtypes.limits(dtype)[0]


def highest(dtype: Any) -> Any:
    """The largest value of an element type."""
    return dtypes.limits(dtype)[1]


# -- whole slices -----------------------------------------------------------------------------------------------------
def _vector(function: str, input: Any, dim: int, index: Any) -> tuple[int, Any]:
    places = index64(function, index)
    if places.ndim > 1:
        raise BoundsError(f"{function}: index must have 0 or 1 dimensions, its shape is {show(places.shape)}")
    d = normal_dim(dim, input.ndim)
    places = _full_rank(places)
    check_bounds(function, places, _full_rank(input).shape[d], d)
    return d, places


def spread(index: Any, shape: Shape, d: int) -> Any:
    """A vector of indices along `d` as an index of `shape`, by strides of zero."""
    along = index.reshape(tuple(shape[d] if k == d else 1 for k in range(len(shape))))
    return along if along.shape == shape else along.expand(shape)


@public()
def index_select(input: Any, dim: int, index: Any) -> Any:
    """The slices of `input` along `dim` that a vector of indices names.

    >>> import juanji as jj
    >>> index_select(jj.tensor([[1, 2], [3, 4]]), 0, jj.tensor([1, 1, 0]))
    tensor([[3, 4],
            [3, 4],
            [1, 2]])
    """
    d, places = _vector("index_select", input, dim, index)
    if not input.shape:
        if places.numel() != 1:
            raise BoundsError("index_select: index of a tensor without dimensions must have one element")
        return table.gather(input.reshape(1), places, dim=0).reshape(())
    shape = (*input.shape[:d], places.shape[0], *input.shape[d + 1 :])
    return table.gather(input, spread(places, shape, d), dim=d)


def _slices(function: str, input: Any, dim: int, index: Any, source: Any) -> tuple[int, Any, Any]:
    _same_type(function, input, source, "source")
    d, places = _vector(function, input, dim, index)
    x, values = _full_rank(input), _full_rank(source)
    expected = (*x.shape[:d], places.shape[0], *x.shape[d + 1 :])
    if values.shape != expected:
        raise BoundsError(
            f"{function}: source of shape {show(source.shape)} must have the shape {show(expected)}, with one slice "
            f"for each of the {places.shape[0]} indices"
        )
    return d, spread(places, expected, d), values


@public(inplace=True)
def index_add(input: Any, dim: int, index: Any, source: Any, *, alpha: Any = 1) -> Any:
    """`input` with `alpha * source` added at the slices along `dim` that index names."""
    d, places, values = _slices("index_add", input, dim, index, source)
    if isinstance(alpha, float) and not input.dtype.is_floating_point:
        raise RuntimeError(f"index_add: for integral tensors alpha must not be a floating point number: {alpha}")
    return combine(input, d, places, values if alpha == 1 else values * alpha, "add")


@public(inplace=True)
def index_copy(input: Any, dim: int, index: Any, source: Any) -> Any:
    """`input` with the slices along `dim` that index names replaced by those of `source`."""
    d, places, values = _slices("index_copy", input, dim, index, source)
    return combine(input, d, places, values, "set")


@public(inplace=True)
def index_fill(input: Any, dim: int, index: Any, value: Any) -> Any:
    """`input` with the slices along `dim` that index names set to `value`, a number or a tensor of no dimensions."""
    d, places = _vector("index_fill", input, dim, index)
    x = _full_rank(input)
    filled = one_value("index_fill", input, value)
    size = x.shape[d]
    hit = ew.const(shape=(size,), dtype="b1", value=False)
    ones = ew.const(shape=places.shape, dtype="b1", value=True)
    hit = table.scatter(hit, ones, places, dim=0, mode="set")
    result = ew.where(hit.reshape(tuple(size if k == d else 1 for k in range(x.ndim))), filled, x)
    return result if input.shape else result.reshape(())


@public(inplace=True)
def index_reduce(input: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True) -> Any:
    """`scatter_reduce` of whole slices along `dim`: "prod", "mean", "amax" or "amin"."""
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise ShapeError(f"index_reduce: reduce={reduce!r} must be either prod, mean, amax or amin")
    d, places, values = _slices("index_reduce", input, dim, index, source)
    result = reduced(_full_rank(input), d, places, values, reduce, include_self)
    return result if input.shape else result.reshape(())


def one_value(function: str, input: Any, value: Any) -> Any:
    """A number or a tensor of no dimensions in `input`'s element type.

    Raises:
        RuntimeError: a tensor with dimensions, or a number out of the element type's range. A fraction is cut off.
    """
    if is_tensor(value):
        if value.shape:
            raise RuntimeError(
                f"{function}: only supports a 0-dimensional value tensor, but its shape is {show(value.shape)}"
            )
        if category(value.dtype) > category(input.dtype):
            raise RuntimeError(f"{function}: value of {value.dtype} cannot be converted to {input.dtype}")
        return cast(value, input.dtype)
    if not isinstance(value, NUMBERS):
        raise TypeError(f"{function}: value must be a number or a tensor of no dimensions, not {type(value).__name__}")
    if not input.dtype.is_floating_point and input.dtype.short != "b1":
        limits = np.iinfo(input.dtype.numpy)
        # As in PyTorch, -1 may stand for 255, but -1.0 not.
        lowest = limits.min if limits.min or isinstance(value, float) else -limits.max
        if not lowest <= value <= limits.max:  # nor is NaN between them
            raise RuntimeError(f"{function}: value {value} cannot be converted to {input.dtype} without overflow")
        value = int(value) & limits.max if limits.min == 0 else int(value)
    return scalar(value, input.dtype)


# -- flat indices -----------------------------------------------------------------------------------------------------
def wrapped(index: Any, size: int) -> Any:
    """Negative indices counted from the end."""
    return ew.where(ew.lt(index, scalar(0, dtypes.int64)), ew.add(index, scalar(size, dtypes.int64)), index)


@public()
def take(input: Any, index: Any) -> Any:
    """The elements of the flattened `input` at `index` (negative ones count from the end), in index's shape."""
    places = index64("take", index)
    check_bounds("take", places, input.numel(), 0, -input.numel())
    if not input.numel() and places.numel():
        raise BoundsError("take: cannot take from a tensor without elements")
    flat = wrapped(places.reshape(-1), input.numel())
    return table.gather(input.reshape(-1), flat, dim=0).reshape(places.shape)


@public(inplace=True)
def put(input: Any, index: Any, source: Any, accumulate: bool = False) -> Any:
    """`input` with the elements at flat positions `index` replaced by those of `source`, or these added."""
    _same_type("put", input, source, "source")
    places = index64("put", index)
    if places.numel() != source.numel():
        raise BoundsError(
            f"put: expected source and index to have the same number of elements, but they have {source.numel()} and "
            f"{places.numel()}"
        )
    check_bounds("put", places, input.numel(), 0, -input.numel())
    flat = wrapped(places.reshape(-1), input.numel())
    result = combine(input.reshape(-1), 0, flat, source.reshape(-1), "add" if accumulate else "set")
    return result.reshape(input.shape)


@public()
def take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Any:
    """`gather` whose input and indices broadcast against each other but along `dim`; flat without `dim`."""
    places = index64("take_along_dim", indices, "indices")
    if dim is None:
        return take(input, places).reshape(-1)
    if input.ndim != places.ndim:
        raise ShapeError(
            f"take_along_dim: input of shape {show(input.shape)} and indices of shape {show(places.shape)} must have "
            "the same number of dimensions"
        )
    d = normal_dim(dim, input.ndim)
    shared = list(broadcast(_but(input.shape, d), _but(places.shape, d)))
    x = input.expand(*(input.shape[d] if k == d else e for k, e in enumerate(shared)))
    check_bounds("take_along_dim", places, x.shape[d], d, -x.shape[d])
    places = wrapped(places, x.shape[d])
    return gather(x, d, places.expand(*(places.shape[d] if k == d else e for k, e in enumerate(shared))))


def _but(shape: Shape, d: int) -> Shape:
    return tuple(1 if k == d else e for k, e in enumerate(shape))


# -- masks ------------------------------------------------------------------------------------------------------------
def _mask(function: str, mask: Any) -> Any:
    need_tensor(mask, "mask", function)
    if mask.dtype is not dtypes.bool_:
        raise RuntimeError(f"{function}: expected mask to be a bool tensor, but got {mask.dtype}")
    return mask


@public(inplace=True)
def masked_fill(input: Any, mask: Any, value: Any) -> Any:
    """`value` where the bool tensor `mask` is true, else `input`; they broadcast."""
    return ew.where(_mask("masked_fill", mask), one_value("masked_fill", input, value), input)


@public()
def masked_select(input: Any, mask: Any) -> Any:
    """The elements of `input` where `mask` is true, as a vector (on the host: its length depends on values)."""
    shape = broadcast(input.shape, _mask("masked_select", mask).shape)
    x = input if input.shape == shape else input.expand(shape)
    return x[mask if mask.shape == shape else mask.expand(shape)] if shape else x.reshape(1)[mask.reshape(1)]


__all__ = [
    "gather", "index_add", "index_copy", "index_fill", "index_reduce", "index_select", "masked_fill", "masked_select",
    "put", "scatter", "scatter_add", "scatter_reduce", "take", "take_along_dim",
]  # fmt: skip
