"""Running sums, products, extremes and logarithms of sums along one dimension."""

from __future__ import annotations

from typing import Any

from juanji import dtypes
from juanji.dtypes import as_dtype
from juanji.ops import elementwise as ew
from juanji.ops import table
from juanji.ops.scan import last_extreme, scan
from juanji.spec import normal_dim
from juanji.tensors.arithmetic import cast
from juanji.tensors.elementary import floating
from juanji.tensors.public import public
from juanji.tensors.reductions import ValuesIndices


def _along(x: Any, dim: int, mode: str) -> Any:
    d = normal_dim(dim, x.ndim)
    return scan(x, dim=d, mode=mode, reverse=False) if x.shape else ew.copy(x)


def _whole(x: Any, dtype: Any) -> Any:
    if dtype is not None:
        return cast(x, as_dtype(dtype))
    return x if x.dtype.is_floating_point else cast(x, dtypes.int64)


@public(inplace=True)
def cumsum(input: Any, dim: int, *, dtype: Any = None) -> Any:
    """Sums of all elements up to each one along `dim`. Integers and bools are summed as int64.

    >>> import juanji as jj
    >>> cumsum(jj.tensor([1, 2, 3]), 0)
    tensor([1, 3, 6])
    """
    return _along(_whole(input, dtype), dim, "add")


@public(inplace=True)
def cumprod(input: Any, dim: int, *, dtype: Any = None) -> Any:
    """Products of all elements up to each one along `dim`."""
    return _along(_whole(input, dtype), dim, "mul")


@public()
def logcumsumexp(input: Any, dim: int) -> Any:
    """log of the running sum of exp, without overflow."""
    return _along(floating(input), dim, "logaddexp")


def _extreme(input: Any, dim: int, mode: str) -> Any:
    d = normal_dim(dim, input.ndim)
    if not input.shape:
        return ValuesIndices(ew.copy(input), input.detach().to(dtypes.int64) * 0)
    plain = input.detach()
    place = last_extreme(plain, scan(plain, dim=d, mode=mode, reverse=False), d)
    return ValuesIndices(table.gather(input, place, dim=d), place)


@public()
def cummax(input: Any, dim: int) -> Any:
    """The largest element up to each one along `dim`, and where it is (the last of equal ones)."""
    return _extreme(input, dim, "max")


@public()
def cummin(input: Any, dim: int) -> Any:
    """The smallest element up to each one along `dim`, and where it is (the last of equal ones)."""
    return _extreme(input, dim, "min")


__all__ = ["cummax", "cummin", "cumprod", "cumsum", "logcumsumexp"]
