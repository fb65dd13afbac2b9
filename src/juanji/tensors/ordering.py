"""Sorting, counting and searching: operations on the host, with gradients through the elements they choose.

Which elements these are is found by NumPy, so a captured step refuses them; values then come by `gather`, whose
gradient they have.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from juanji import dtypes
from juanji.config import state
from juanji.dtypes import from_numpy_dtype
from juanji.errors import BoundsError, ShapeError
from juanji.ops import table
from juanji.runtime.memory import check_size
from juanji.spec import normal_dim, show
from juanji.tensors.arithmetic import NUMBERS, cast
from juanji.tensors.base import Storage, as_array, need_tensor, wrap
from juanji.tensors.public import is_tensor, public
from juanji.tensors.reductions import ValuesIndices

Sorted = namedtuple("Sorted", ["values", "indices"])


def host(name: str, *tensors: Any) -> list[Any]:
    """The values of tensors as arrays.

    Raises:
        CaptureError: a step is being captured.
    """
    if state.capture is not None:
        state.capture.refuse(f"{name} runs on the host", f"call {name} outside the step and pass the result in")
    return [as_array(t.detach()) for t in tensors]


def made(array: Any) -> Any:
    """A tensor with memory of its own from an array of a known type."""
    flat = np.ascontiguousarray(array)
    return wrap(Storage(flat.reshape(-1).copy(), tuple(np.shape(array)), from_numpy_dtype(flat.dtype)))


def _ordered(x: Any, axis: int, descending: bool) -> Any:
    """Positions in ascending or descending order, NaN last (or first), equal ones as they came."""
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    turned = np.flip(x, axis)
    return x.shape[axis] - 1 - np.flip(np.argsort(turned, axis=axis, kind="stable"), axis)


def _picked(input: Any, places: Any, d: int) -> Any:
    index = made(places.astype(np.int64))
    return Sorted(table.gather(input, index, dim=d), index)


@public()
def sort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """The elements along `dim` in order, and where they were. Always stable; NaN counts as largest.

    >>> import juanji as jj
    >>> sort(jj.tensor([3, 1, 2])).indices
    tensor([1, 2, 0])
    """
    d = normal_dim(dim, input.ndim)
    if not input.shape:
        return Sorted(input.clone(), made(np.zeros((), np.int64)))
    (x,) = host("sort", input)
    return _picked(input, _ordered(x, d, descending), d)


@public()
def argsort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """Where the elements along `dim` are when in order."""
    return sort(input.detach(), dim, descending).indices


@public()
def msort(input: Any) -> Any:
    """The rows in order along the first dimension."""
    return sort(input, 0).values


@public()
def topk(input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The `k` largest (or smallest) elements along `dim`, in order, and where they are."""
    d = normal_dim(dim, input.ndim)
    extent = input.shape[d] if input.shape else 1
    if not 0 <= int(k) <= extent:
        raise ShapeError(f"topk: selected index k out of range: k={k}, but dimension {d} has size {extent}")
    if not input.shape:
        return Sorted(input.clone(), made(np.zeros((), np.int64)))
    (x,) = host("topk", input)
    places = _ordered(x, d, largest)[(slice(None),) * d + (slice(0, int(k)),)]
    return _picked(input, places, d)


@public()
def kthvalue(input: Any, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The `k`-th smallest element along `dim`, counted from 1, and where it is."""
    d = normal_dim(dim, input.ndim)
    extent = input.shape[d] if input.shape else 1
    if not 1 <= int(k) <= extent:
        raise ShapeError(f"kthvalue: selected number k out of range for dimension {d}: k={k}, valid are 1 to {extent}")
    if not input.shape:
        return Sorted(input.clone(), made(np.zeros((), np.int64)))
    (x,) = host("kthvalue", input)
    return _one(_picked(input, np.take(_ordered(x, d, False), [int(k) - 1], d), d), d, keepdim)


def _one(pair: Any, d: int, keepdim: bool) -> Any:
    if keepdim:
        return pair
    return Sorted(*(t.reshape((*t.shape[:d], *t.shape[d + 1 :])) for t in pair))


def _middle(name: str, input: Any, dim: Any, keepdim: bool, skip_nan: bool) -> Any:
    whole = dim is None
    x = input.reshape(-1) if whole else input
    if whole and not x.numel():
        kind = input.dtype
        return input.new_full((), float("nan") if kind.is_floating_point else np.iinfo(kind.numpy).min)
    d = 0 if whole else normal_dim(dim, x.ndim)
    if not x.shape:
        return ValuesIndices(input.clone(), made(np.zeros((), np.int64)))
    if not x.shape[d]:
        raise BoundsError(f"{name}: dimension {d} of the input of shape {show(x.shape)} has no elements")
    (values,) = host(name, x)
    nan = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, np.bool_)
    count = values.shape[d] - nan.sum(d, keepdims=True) if skip_nan else np.full(1, values.shape[d])
    order = _ordered(values, d, False)
    middle = np.maximum((count - 1) // 2, 0)
    middle = np.broadcast_to(middle, tuple(1 if k == d else e for k, e in enumerate(values.shape)))
    places = np.take_along_axis(order, middle, d)
    if not skip_nan:  # one NaN makes the median NaN: the first of them
        places = np.where(nan.any(d, keepdims=True), np.argmax(nan, d, keepdims=True), places)
    pair = _picked(x, places, d)
    if whole:
        return pair.values.reshape(())
    return ValuesIndices(*_one(pair, d, keepdim))


@public()
def median(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The middle element, the lower of two: of all, or with its position along `dim`. NaN where there is one."""
    return _middle("median", input, dim, keepdim, False)


@public()
def nanmedian(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The middle of the elements that are not NaN."""
    return _middle("nanmedian", input, dim, keepdim, True)


@public()
def mode(input: Any, dim: int = -1, keepdim: bool = False) -> Any:
    """The most frequent element along `dim` (the smallest of several), and where it is last."""
    d = normal_dim(dim, input.ndim)
    if not input.shape:
        return ValuesIndices(input.clone(), made(np.zeros((), np.int64)))
    if not input.shape[d]:
        raise BoundsError(f"mode: dimension {d} of the input of shape {show(input.shape)} has no elements")
    (x,) = host("mode", input)

    def last(line: Any) -> int:
        found, counts = np.unique(line, return_counts=True)
        return int(np.flatnonzero(line == found[np.argmax(counts)])[-1])

    places = np.apply_along_axis(last, d, x) if x.size else np.zeros(np.delete(x.shape, d), np.int64)
    return ValuesIndices(*_one(_picked(input, np.expand_dims(places, d), d), d, keepdim))


def _quantile(name: str, input: Any, q: Any, dim: Any, keepdim: bool, interpolation: str, skip: bool) -> Any:
    methods = ("linear", "lower", "higher", "midpoint", "nearest")
    if interpolation not in methods:
        raise ShapeError(f"{name}: interpolation={interpolation!r} must be one of {', '.join(methods)}")
    if not input.dtype.is_floating_point:
        raise ShapeError(f"{name}() input tensor must be either float or double dtype, not {input.dtype}")
    if is_tensor(q) and (q.dtype is not input.dtype or q.ndim > 1):
        raise ShapeError(f"{name}() q must be a scalar or 1D tensor of the same dtype as the input tensor")
    parts = np.atleast_1d(host(name, q)[0] if is_tensor(q) else np.float64(q)).astype(np.float64)
    if ((parts < 0) | (parts > 1)).any():
        raise ShapeError(f"{name}() q values must be in the range [0, 1]")
    rank, x = input.ndim, input
    if dim is None:
        x, d = input.reshape(-1), 0
    else:
        d = normal_dim(dim, rank)
        x = input.reshape(1) if not rank else input
    if not x.shape[d]:
        raise ShapeError(f"{name}() input tensor must be non-empty")
    (values,) = host(name, x)
    nan = np.isnan(values)
    order = _ordered(values, d, False)
    count = values.shape[d] - nan.sum(d, keepdims=True) if skip else values.shape[d] + 0 * nan.sum(d, keepdims=True)
    results = []
    for part in parts:
        at = part * np.maximum(count - 1, 0)
        if interpolation == "nearest":
            at = np.round(at)
        low = np.floor(at) if interpolation != "higher" else np.ceil(at)
        high = np.ceil(at) if interpolation in ("linear", "midpoint", "higher") else low
        weight = np.full(at.shape, 0.5) if interpolation == "midpoint" else at - np.floor(at)
        if not skip:  # NaN are last: reading there gives NaN
            spoiled = nan.any(d, keepdims=True)
            low, high = (np.where(spoiled, values.shape[d] - 1, v) for v in (low, high))
        a, b = (_picked(x, np.take_along_axis(order, v.astype(np.int64), d), d).values for v in (low, high))
        w = made(weight.astype(values.dtype))
        results.append(a if interpolation in ("lower", "higher", "nearest") else a.lerp(b, w))
    shape = tuple(e for k, e in enumerate(x.shape) if k != d)
    if keepdim:
        shape = (1,) * rank if dim is None else tuple(1 if k == d else e for k, e in enumerate(input.shape))
    elif dim is None or not rank:
        shape = ()
    flat = [r.reshape(shape) for r in results]
    if is_tensor(q) and q.ndim:
        from juanji.tensors.creation import stack

        return stack(flat, 0)
    return flat[0]


@public()
def quantile(input: Any, q: Any, dim: Any = None, keepdim: bool = False, *, interpolation: str = "linear") -> Any:
    """The value below which the part `q` of the elements lies, over `dim` or all."""
    return _quantile("quantile", input, q, dim, keepdim, interpolation, False)


@public()
def nanquantile(input: Any, q: Any, dim: Any = None, keepdim: bool = False, *, interpolation: str = "linear") -> Any:
    """`quantile` of the elements that are not NaN."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, True)


# -- finding ---------------------------------------------------------------------------------------------------------
@public()
def nonzero(input: Any, *, as_tuple: bool = False) -> Any:
    """The indices of all elements other than zero, as rows; or one vector for each dimension."""
    (x,) = host("nonzero", input)
    if as_tuple:
        return tuple(made(i.astype(np.int64)) for i in np.nonzero(np.atleast_1d(x)))
    found = np.argwhere(x).astype(np.int64)
    return made(found.reshape(-1, input.ndim) if input.ndim else np.zeros((int(x != 0), 0), np.int64))


@public()
def argwhere(input: Any) -> Any:
    """The indices of all elements other than zero, as rows."""
    return nonzero(input)


@public()
def unique(
    input: Any,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """Each element (or slice along `dim`) once, in order; where each went; how often it was there."""
    (x,) = host("unique", input)
    axis = None if dim is None else normal_dim(dim, input.ndim)
    if axis is not None and not x.shape[axis] and x.size == 0 and 0 in np.delete(x.shape, axis):
        raise ShapeError("There are 0 sized dimensions, and they aren't selected, so unique cannot be applied")
    found, inverse, counts = np.unique(x, return_inverse=True, return_counts=True, axis=axis)
    where = inverse.reshape(x.shape if axis is None else (x.shape[axis],) if x.shape else ()).astype(np.int64)
    results = [made(found)]
    results += [made(where)] if return_inverse else []
    results += [made(counts.astype(np.int64))] if return_counts else []
    return results[0] if len(results) == 1 else tuple(results)


@public()
def unique_consecutive(
    input: Any, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """`input` without elements (or slices along `dim`) that equal the one before."""
    (x,) = host("unique_consecutive", input)
    axis = 0 if dim is None else normal_dim(dim, input.ndim)
    lines = np.moveaxis(x.reshape(-1) if dim is None else np.atleast_1d(x), axis, 0)
    flat = lines.reshape(lines.shape[0], -1)
    new = np.ones(len(flat), np.bool_)
    new[1:] = (flat[1:] != flat[:-1]).any(1)
    starts = np.flatnonzero(new)
    kept = np.moveaxis(lines[starts], 0, axis)
    inverse = (np.cumsum(new) - 1).astype(np.int64)
    results = [made(kept)]
    results += [made(inverse.reshape(x.shape) if dim is None else inverse)] if return_inverse else []
    results += [made(np.diff(np.append(starts, len(flat))).astype(np.int64))] if return_counts else []
    return results[0] if len(results) == 1 else tuple(results)


@public()
def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Any:
    """Whether each element is among `test_elements`."""
    others = test_elements if is_tensor(test_elements) else made(np.asarray(test_elements))
    a, b = host("isin", elements, others)
    return made(np.isin(a, b, invert=invert))


# -- counting --------------------------------------------------------------------------------------------------------
@public()
def bincount(input: Any, weights: Any = None, minlength: int = 0) -> Any:
    """How often each of 0, 1, 2 ... is among the elements, or the sum of their weights."""
    if input.ndim != 1 or input.dtype.is_floating_point or input.dtype is dtypes.bool_:
        raise ShapeError(
            f"bincount: input must be a vector of integers, not {input.dtype} of shape {show(input.shape)}"
        )
    if minlength < 0:
        raise ShapeError(f"bincount: minlength={minlength} should be >= 0")
    if weights is not None:
        need_tensor(weights, "weights", "bincount")
    if weights is not None and weights.shape != input.shape:
        raise ShapeError("bincount: input and weights should have the same length")
    (x,) = host("bincount", input)
    if x.size and x.min() < 0:
        raise ShapeError("bincount only supports 1-d non-negative integral inputs.")
    counted = np.bincount(x.astype(np.int64), None if weights is None else host("bincount", weights)[0], minlength)
    if weights is None:
        return made(counted.astype(np.int64))
    return made(counted.astype(np.float32 if weights.dtype is dtypes.float32 else np.float64))


@public()
def histc(input: Any, bins: int = 100, min: float = 0, max: float = 0) -> Any:
    """How many elements lie in each of `bins` equal intervals from `min` to `max` (the elements' own, if equal)."""
    if isinstance(bins, bool) or not hasattr(bins, "__index__"):
        raise TypeError(f"histc: bins={bins!r} must be an integer")
    bins = int(bins)
    if bins <= 0:
        raise ShapeError(f"histc: bins={bins} must be > 0")
    check_size((bins,), input.dtype.name)
    (x,) = host("histc", input)
    low, high = float(min), float(max)
    if low == high and x.size:
        low, high = float(x.min()), float(x.max())
    if low == high:
        low, high = low - 1, high + 1
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ShapeError(f"histc: range of [{low}, {high}] is not finite")
    if low > high:
        raise ShapeError(f"histc: max={max} must be larger than min={min}")
    values = x[(x >= low) & (x <= high)].astype(np.float64)
    place = np.minimum(((values - low) / (high - low) * bins).astype(np.int64), bins - 1)
    return made(np.bincount(place, minlength=bins).astype(input.dtype.numpy))


@public(method=False)
def searchsorted(
    sorted_sequence: Any,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Any = None,
) -> Any:
    """Where each value would have to be put into the sorted rows of `sorted_sequence` to keep them sorted."""
    if side not in (None, "left", "right"):
        raise ShapeError(f"searchsorted: side={side!r} can only be 'left' or 'right'")
    if side == "left" and right:
        raise ShapeError("searchsorted: side='left' and right=True contradict each other")
    values = input if is_tensor(input) else None
    if values is None and not isinstance(input, NUMBERS):
        raise TypeError(f"searchsorted: input must be a Tensor or a number, not {type(input).__name__}")
    if values is None and sorted_sequence.ndim != 1:
        raise ShapeError("searchsorted: input value can be a scalar only when sorted_sequence is 1-dimensional")
    if not sorted_sequence.shape:
        raise ShapeError("searchsorted: sorted_sequence must have at least 1 dimension")
    if values is not None:
        if values.dtype is not sorted_sequence.dtype:
            raise ShapeError(
                f"searchsorted: boundaries and input should have the same dtype, but they are {sorted_sequence.dtype} "
                f"and {values.dtype}"
            )
        if sorted_sequence.ndim > 1 and sorted_sequence.shape[:-1] != values.shape[:-1]:
            raise ShapeError(
                f"searchsorted: all but the last dimension of {show(sorted_sequence.shape)} and "
                f"{show(values.shape)} must match"
            )
    (rows,) = host("searchsorted", sorted_sequence)
    x = np.asarray(input) if values is None else host("searchsorted", values)[0]
    if sorter is not None:
        need_tensor(sorter, "sorter", "searchsorted")
        if sorter.dtype is not dtypes.int64:
            raise ShapeError(f"searchsorted: sorter must be a tensor of long dtype but got dtype {sorter.dtype}")
        if sorter.shape != sorted_sequence.shape:
            raise ShapeError("searchsorted: boundary and sorter must have the same size")
        (order,) = host("searchsorted", sorter)
        if order.size and (order.min() < 0 or order.max() >= rows.shape[-1]):
            raise BoundsError("searchsorted: sorter index out of range")
        rows = np.take_along_axis(rows, order, -1)
    way: Any = "right" if right or side == "right" else "left"
    if rows.ndim == 1:
        found = np.searchsorted(rows, x, way)
    else:
        flat, wanted = rows.reshape(-1, rows.shape[-1]), x.reshape(-1, x.shape[-1])
        lines = [np.searchsorted(r, v, way) for r, v in zip(flat, wanted, strict=True)]
        found = np.array(lines, np.int64).reshape(x.shape)
    return made(np.asarray(found).astype(np.int32 if out_int32 else np.int64))


def bucketize(input: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False) -> Any:
    """The number of the interval between sorted `boundaries` in which each value lies."""
    need_tensor(boundaries, "boundaries", "bucketize")
    if boundaries.ndim != 1:
        raise ShapeError(f"bucketize: boundaries tensor must be 1 dimension, but got dim({boundaries.ndim})")
    if is_tensor(input) and input.dtype is not boundaries.dtype:
        raise ShapeError(f"bucketize: input is {input.dtype}, but boundaries are {boundaries.dtype}")
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


@public(inplace=True)
def masked_scatter(input: Any, mask: Any, source: Any) -> Any:
    """`input` with the places where `mask` is true taking the elements of `source` in order."""
    from juanji.ops import elementwise as ew
    from juanji.ops.scan import scan
    from juanji.spec import broadcast

    for name, value in (("mask", mask), ("source", source)):
        need_tensor(value, name, "masked_scatter")
    if mask.dtype is not dtypes.bool_:
        raise RuntimeError(f"masked_scatter: expected mask to be a bool tensor, but got {mask.dtype}")
    if source.dtype is not input.dtype:
        raise RuntimeError(f"masked_scatter: source is {source.dtype}, but the tensor is {input.dtype}")
    shape = broadcast(input.shape, mask.shape)
    x, chosen = input.expand(shape), mask.expand(shape)
    counts = scan(cast(chosen.reshape(-1), dtypes.int64), dim=0, mode="add", reverse=False)
    if state.capture is None and counts.numel() and int(counts[-1]) > source.numel():
        raise ShapeError(f"masked_scatter: mask has {int(counts[-1])} ones, but source only {source.numel()} elements")
    if not source.numel():
        return ew.copy(x)
    place = ew.maximum(ew.sub(counts, counts.new_scalar(1)), counts.new_scalar(0))
    place = ew.minimum(place, place.new_scalar(source.numel() - 1))
    taken = table.gather(source.reshape(-1), place, dim=0).reshape(shape)
    return ew.where(chosen, taken, x)


__all__ = [
    "argsort", "argwhere", "bincount", "bucketize", "histc", "isin", "kthvalue", "masked_scatter", "median", "mode",
    "msort", "nanmedian", "nanquantile", "nonzero", "quantile", "searchsorted", "sort", "topk", "unique",
    "unique_consecutive",
]  # fmt: skip
