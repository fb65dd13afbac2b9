"""Sums, extremes, means and softmax, as methods of `Tensor` and as functions."""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

from juanji import dtypes
from juanji.dtypes import as_dtype
from juanji.ops import elementwise as ew
from juanji.ops import reduce as rd
from juanji.ops.shape import reshape
from juanji.spec import normal_dim, show
from juanji.tensors.arithmetic import cast, scalar
from juanji.tensors.base import need_floating, need_tensor
from juanji.tensors.public import public

#: What `max(dim)` and `min(dim)` return.
ValuesIndices = namedtuple("ValuesIndices", ["values", "indices"])

METHODS = (
    "sum", "mean", "prod", "amax", "amin", "max", "min", "argmax", "argmin", "any", "all", "var", "std",
    "logsumexp",
)  # fmt: skip


def _dims(x: Any, dim: Any) -> tuple[int, ...]:
    need_tensor(x, "input", "reduction")
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(x.ndim))
    given = dim if isinstance(dim, (tuple, list)) else (dim,)
    dims = tuple(sorted(normal_dim(d, x.ndim) for d in given))
    if len(set(dims)) != len(dims):
        raise RuntimeError(f"dim={dim!r} names a dimension twice")
    return tuple(d for d in dims if x.ndim)


def _dropped(result: Any, x: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    if keepdim or not dims:
        return result
    return reshape(result, shape=tuple([e for i, e in enumerate(x.shape) if i not in dims]))


def _over(op: Any, x: Any, dim: Any, keepdim: bool) -> Any:
    dims = _dims(x, dim)
    return _dropped(op(x, dims=dims), x, dims, keepdim)


def _summable(x: Any, dtype: Any) -> Any:
    need_tensor(x, "input", "sum")
    if dtype is not None:
        return cast(x, as_dtype(dtype))
    return x if x.dtype.is_floating_point else cast(x, dtypes.int64)


def sum(x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Sum over the given dimensions, or all. Integers and bools are summed as int64."""
    return _over(rd.sum_, _summable(x, dtype), dim, keepdim)


def prod(x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Product over one dimension, or all."""
    return _over(rd.prod, _summable(x, dtype), dim, keepdim)


def _floating(x: Any, name: str, dtype: Any = None) -> Any:
    if dtype is not None:
        need_tensor(x, "input", name)
        x = cast(x, as_dtype(dtype))
    need_floating(name, input=x)
    return x


@public(method=False)
def mean(x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Mean over the given dimensions, or all; NaN where there is nothing to average.

    Raises:
        RuntimeError: integers; cast them first.
    """
    x = _floating(x, "mean", dtype)
    count = math.prod(x.shape[d] for d in _dims(x, dim))
    return sum(x, dim, keepdim) * (1.0 / count if count else math.nan)


@public(method=False)
def var(x: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: Any = None) -> Any:
    """Variance: squared distance from the mean, divided by the count less `correction` (1 unless said otherwise)."""
    x = _floating(x, "var")
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    dims = _dims(x, dim)
    count = math.prod(x.shape[d] for d in dims)
    less = count - (correction if correction is not None else int(unbiased))
    centred = x - mean(x, dims, True)
    total = rd.sum_(ew.mul(centred, centred), dims=dims)
    return _dropped(total / less if less > 0 else total * math.nan, x, dims, keepdim)


@public(method=False)
def std(x: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: Any = None) -> Any:
    """Standard deviation; see `var`."""
    return root(var(x, dim, unbiased, keepdim, correction=correction))


def root(x: Any) -> Any:
    """The square root of a sum of squares; where that is zero no gradient passes, instead of NaN."""
    zero = scalar(0, x.dtype)
    return ew.sqrt(ew.where(ew.eq(x, zero), zero, x))


def amax(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest values; equal ones share the gradient."""
    return _over(rd.amax, x, dim, keepdim)


def amin(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest values; equal ones share the gradient."""
    return _over(rd.amin, x, dim, keepdim)


def _extreme(x: Any, dim: Any, keepdim: bool, name: str) -> Any:
    pair = {
        "max": (rd.amax, rd.max_first, rd.argmax, ew.maximum),
        "min": (rd.amin, rd.min_first, rd.argmin, ew.minimum),
    }
    whole, first, arg, between = pair[name]
    need_tensor(x, "input", name)
    if hasattr(dim, "_version"):
        from juanji.tensors.arithmetic import arithmetic

        return arithmetic(between, x, dim)
    if dim is None:
        if not x.numel():
            raise RuntimeError(f"{name}(): expected the input to have elements, its shape is {show(x.shape)}")
        return _over(whole, x, None, False)
    d = _dims(x, normal_dim(dim, x.ndim))
    if not d:
        return ValuesIndices(x.clone(), x.detach().to(dtypes.int64) * 0)
    return ValuesIndices(_dropped(first(x, dims=d), x, d, keepdim), _dropped(arg(x, dims=d), x, d, keepdim))


def max(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest value; with `dim`, (values, indices) along it; with a tensor, the larger of each pair."""
    return _extreme(x, dim, keepdim, "max")


def min(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest value; with `dim`, (values, indices) along it; with a tensor, the smaller of each pair."""
    return _extreme(x, dim, keepdim, "min")


def _arg(op: Any, x: Any, dim: Any, keepdim: bool) -> Any:
    need_tensor(x, "input", op.name)
    if x.dtype is dtypes.bool_:
        raise RuntimeError(f"{op.name}() does not support bool input; cast it to an integer type first")
    if dim is None:
        result = op(x.reshape(-1), dims=(0,)).reshape(())
        return result.reshape((1,) * x.ndim) if keepdim else result
    if not x.ndim:
        normal_dim(dim, 0)
        return x.detach().to(dtypes.int64) * 0
    d = normal_dim(dim, x.ndim)
    return _dropped(op(x, dims=(d,)), x, (d,), keepdim)


def argmax(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Where the largest value is: the first one, in the flattened tensor or along `dim`."""
    return _arg(rd.argmax, x, dim, keepdim)


def argmin(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Where the smallest value is: the first one, in the flattened tensor or along `dim`."""
    return _arg(rd.argmin, x, dim, keepdim)


def _truth(op: Any, x: Any, dim: Any, keepdim: bool) -> Any:
    need_tensor(x, "input", op.name)
    result = _over(op, cast(x, dtypes.bool_), dim, keepdim)
    return cast(result, dtypes.uint8) if x.dtype is dtypes.uint8 else result


def any(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Whether any element is true; for uint8 the answer is uint8, as PyTorch's."""
    return _truth(rd.any_, x, dim, keepdim)


def all(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Whether all elements are true; for uint8 the answer is uint8, as PyTorch's."""
    return _truth(rd.all_, x, dim, keepdim)


def softmax(x: Any, dim: int, dtype: Any = None) -> Any:
    """exp(x) / sum(exp(x)) along `dim`."""
    x = _floating(x, "softmax", dtype)
    return rd.softmax(x, dim=normal_dim(dim, x.ndim)) if x.ndim else x * 0 + 1


def log_softmax(x: Any, dim: int, dtype: Any = None) -> Any:
    """log(softmax(x)) along `dim`, without overflow."""
    x = _floating(x, "log_softmax", dtype)
    return rd.log_softmax(x, dim=normal_dim(dim, x.ndim)) if x.ndim else x * 0


@public(method=False)
def logsumexp(x: Any, dim: Any, keepdim: bool = False) -> Any:
    """log(sum(exp(x))) over the given dimensions, without overflow."""
    need_tensor(x, "input", "logsumexp")
    x = x if x.dtype.is_floating_point else cast(x, dtypes.float32)
    dims = _dims(x, dim)
    if math.prod(x.shape[d] for d in dims) == 0:
        return ew.log(sum(x, dims, keepdim))  # of nothing: the logarithm of zero
    top = rd.amax(x.detach(), dims=dims)
    finite = ew.where(ew.lt(ew.abs_(top), scalar(math.inf, x.dtype)), top, scalar(0, x.dtype))
    total = ew.add(ew.log(rd.sum_(ew.exp(ew.sub(x, finite)), dims=dims)), finite)
    return _dropped(total, x, dims, keepdim)
