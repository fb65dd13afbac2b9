"""Norms, means and deviations in pairs, and sums that pass over NaN."""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

from juanji import dtypes
from juanji.dtypes import as_dtype
from juanji.errors import BoundsError, ShapeError
from juanji.ops import elementwise as ew
from juanji.spec import normal_dim, show
from juanji.tensors import reductions as rd
from juanji.tensors.arithmetic import cast, scalar
from juanji.tensors.base import need_tensor
from juanji.tensors.elementary import floating
from juanji.tensors.public import public

MinMax = namedtuple("MinMax", ["min", "max"])


def _several(x: Any, dim: Any) -> tuple[int, ...]:
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(x.ndim))
    return tuple(normal_dim(d, x.ndim) for d in (dim if isinstance(dim, (tuple, list)) else (dim,)))


@public()
def var_mean(
    input: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: Any = None
) -> Any:
    """Variance and mean; see `var`."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    return input.var(dim, unbiased, keepdim, correction=correction), input.mean(dim, keepdim)


@public()
def std_mean(
    input: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: Any = None
) -> Any:
    """Standard deviation and mean; see `std`."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    return input.std(dim, unbiased, keepdim, correction=correction), input.mean(dim, keepdim)


@public()
def aminmax(input: Any, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """The smallest and the largest element, over all or along `dim`."""
    if dim is None and not input.numel():
        raise ShapeError(f"aminmax(): cannot compute aminmax over an empty dimension, the shape is {show(input.shape)}")
    return MinMax(input.amin(dim, keepdim), input.amax(dim, keepdim))


@public()
def nansum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """`sum` in which NaN counts as zero."""
    x = ew.where(ew.isnan(input), scalar(0, input.dtype), input) if input.dtype.is_floating_point else input
    return x.sum(dim, keepdim, dtype=dtype)


@public()
def nanmean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The mean of the elements that are not NaN."""
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"nanmean(): expected input to have floating point dtype but got {input.dtype}")
    kind = input.dtype if dtype is None else as_dtype(dtype)
    count = cast(ew.bitwise_not(ew.isnan(input)), kind).sum(dim, keepdim)
    return nansum(input, dim, keepdim, dtype=kind) / count


@public()
def count_nonzero(input: Any, dim: Any = None) -> Any:
    """How many elements are other than zero."""
    return cast(ew.ne(input, scalar(0, input.dtype)), dtypes.int64).sum(dim)


@public(method=False)
def vector_norm(x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The `ord`-norm of all elements over `dim` (or all): any number, inf and -inf; 0 counts those other than zero.

    Raises:
        RuntimeError: integers; or nothing to take an extreme of.
    """
    if not x.dtype.is_floating_point:
        raise RuntimeError(f"linalg.vector_norm: Expected a floating point tensor as input. Got {x.dtype}")
    if isinstance(ord, (str, bool)):
        raise TypeError(f"linalg.vector_norm: ord={ord!r} must be a number")
    if dtype is not None:
        kind = as_dtype(dtype)
        if not kind.is_floating_point or kind.rank < x.dtype.rank:
            raise RuntimeError(f"linalg.vector_norm: dtype={kind} must be as wide as {x.dtype}")
        x = cast(x, kind)
    order = float(ord)
    dims = _several(x, dim)
    if len(set(dims)) != len(dims):
        raise ShapeError(f"linalg.vector_norm: dim={dim!r} names a dimension twice")
    count = math.prod(x.shape[d] for d in dims) if x.shape else 1
    if not count and (order < 0 or order == math.inf):
        raise BoundsError(
            f"linalg.vector_norm cannot compute the {order} norm on an empty tensor of shape {show(x.shape)}: the "
            "operation does not have an identity"
        )
    size = ew.abs_(x)
    if order == math.inf:
        return size.amax(dims, keepdim)
    if order == -math.inf:
        return size.amin(dims, keepdim)
    if order == 0:
        sign = ew.sign(x)
        return ew.mul(sign, sign).sum(dims, keepdim)
    if order == 1:
        return size.sum(dims, keepdim)
    if order == 2:
        return rd.root(ew.mul(x, x).sum(dims, keepdim))
    zero = scalar(0, x.dtype)
    if order > 0:  # no gradient where the norm or an element is zero, instead of NaN
        quiet = ew.eq(size, zero)
        powers = ew.where(quiet, zero, ew.where(quiet, scalar(1, x.dtype), size) ** order)
        total = powers.sum(dims, keepdim)
        none = ew.eq(total, zero)
        return ew.where(none, zero, ew.where(none, scalar(1, x.dtype), total) ** (1 / order))
    return (size**order).sum(dims, keepdim) ** (1 / order)


@public(method=False)
def matrix_norm(A: Any, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The norm of matrices: "fro", 1, -1, inf and -inf (those of singular values are not available)."""
    if not A.dtype.is_floating_point:
        raise RuntimeError(f"linalg.matrix_norm: Expected a floating point tensor as input. Got {A.dtype}")
    if A.ndim < 2:
        raise ShapeError("linalg.matrix_norm: The input tensor A must have at least 2 dimensions.")
    dims = tuple(normal_dim(d, A.ndim) for d in dim)
    if len(dims) != 2 or dims[0] == dims[1]:
        raise ShapeError(f"linalg.matrix_norm: dim={dim!r} must be two different dimensions")
    x = A if dtype is None else cast(A, as_dtype(dtype))
    if ord == "fro":
        return vector_norm(x, 2, dims, keepdim)
    if ord not in (1, -1, math.inf, -math.inf):
        raise ShapeError(f"linalg.matrix_norm: ord={ord!r} is not available; valid are 'fro', 1, -1, inf and -inf")
    summed, kept = (dims[0], dims[1]) if abs(ord) == 1 else (dims[1], dims[0])
    sums = ew.abs_(x).sum(summed, True)
    result = sums.amax(kept, True) if ord > 0 else sums.amin(kept, True)
    return result if keepdim else result.reshape(tuple(e for d, e in enumerate(A.shape) if d not in dims))


def linalg_norm(A: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """`vector_norm` or `matrix_norm`, by the number of dimensions: of two with `ord` given it is a matrix's."""
    if ord is not None:
        two = len(dim) == 2 if isinstance(dim, (tuple, list)) else dim is None and A.ndim == 2
        if isinstance(ord, str) or two:
            if dim is None and A.ndim != 2:
                raise ShapeError(f"linalg.norm: ord={ord!r} without dim needs a matrix, not {A.ndim} dimensions")
            return matrix_norm(A, ord, (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
        if dim is None and A.ndim > 2:
            raise ShapeError("linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D.")
    return vector_norm(A, 2 if ord is None else ord, dim, keepdim, dtype=dtype)


@public()
def norm(input: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    """The p-norm over the given dimensions, or all: any number, inf, -inf, or "fro" (2)."""
    if p == "nuc":
        raise ShapeError("norm: p='nuc' needs singular values, which are not available; valid are numbers and 'fro'")
    if isinstance(p, str) and p != "fro":
        raise ShapeError(f"norm: p={p!r} must be a number, inf, -inf or 'fro'")
    x = input if dtype is None else cast(input, as_dtype(dtype))
    if not x.dtype.is_floating_point:
        raise RuntimeError(f"norm(): input dtype should be floating point. Got {x.dtype}")
    return vector_norm(x, 2 if p in ("fro", None) else p, dim, keepdim)


@public()
def dist(input: Any, other: Any, p: Any = 2) -> Any:
    """The p-norm of the difference."""
    return vector_norm(floating(input - other), p)


@public(inplace=True)
def renorm(input: Any, p: float, dim: int, maxnorm: float) -> Any:
    """Each slice along `dim` whose p-norm is above `maxnorm` scaled down to it."""
    if input.ndim < 2:
        raise ShapeError(f"renorm: input needs at least 2 dimensions, got {input.ndim} dimensions")
    if not p > 0 or maxnorm < 0:
        raise ShapeError(f"renorm: p={p} must be positive and maxnorm={maxnorm} not negative")
    d = normal_dim(dim, input.ndim)
    norms = vector_norm(input, p, tuple(k for k in range(input.ndim) if k != d), True)
    factor = ew.where(ew.gt(norms, scalar(maxnorm, norms.dtype)), maxnorm / (norms + 1e-7), scalar(1, norms.dtype))
    return input * factor


@public()
def diff(input: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """Differences of neighbours along `dim`, `n` times over."""
    if not input.shape:
        raise ShapeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise ShapeError(f"diff: order must be non-negative but got {n}")
    d = normal_dim(dim, input.ndim)
    if n == 0:
        return ew.copy(input)
    if prepend is not None or append is not None:
        from juanji.tensors.creation import cat

        parts = [t for t in (prepend, input, append) if t is not None]
        for t in parts:
            need_tensor(t, "prepend or append", "diff")
        if any(t.ndim != input.ndim for t in parts):
            raise ShapeError("diff expects prepend or append to be the same dimension as input")
        input = cat(parts, d)
    for _ in range(min(n, input.shape[d])):
        size = input.shape[d] - 1
        later, former = input.narrow(d, 1, max(size, 0)), input.narrow(d, 0, max(size, 0))
        input = ew.ne(later, former) if input.dtype is dtypes.bool_ else later - former
    return input


__all__ = [
    "aminmax", "count_nonzero", "diff", "dist", "nanmean", "nansum", "norm", "renorm", "std_mean", "var_mean",
]  # fmt: skip
