"""Lengths and distances of vectors along a dimension."""

from __future__ import annotations

import math
from typing import Any

from juanji import dtypes
from juanji.ops import elementwise as ew
from juanji.spec import broadcast, normal_dim
from juanji.tensors import arithmetic as ar
from juanji.tensors.base import need_floating, need_tensor


def length(x: Any, p: float, dim: Any, keepdim: bool) -> Any:
    """The p-norm along `dim`; no gradient passes where there is no slope (at zero)."""
    size = x.abs()
    if math.isinf(p):
        return size.amax(dim, keepdim) if p > 0 else size.amin(dim, keepdim)
    zero, one = ar.scalar(0, x.dtype), ar.scalar(1, x.dtype)
    if p == 0:
        return ar.cast(ew.ne(x, zero), x.dtype).sum(dim, keepdim) + (x * 0).detach().sum(dim, keepdim)
    if p == 1:
        return size.sum(dim, keepdim)
    if p == 2:
        total = ew.mul(x, x).sum(dim, keepdim)
        return ew.sqrt(ew.where(ew.eq(total, zero), zero, total))
    # Zeros are replaced before the powers and put back after them, so that no infinite slope meets them.
    nothing = ew.eq(size, zero)
    total = ew.where(nothing, zero if p > 0 else ar.scalar(math.inf, x.dtype), ew.where(nothing, one, size) ** p)
    total = total.sum(dim, keepdim)
    none = ew.eq(total, zero)
    return ew.where(none, zero, ew.where(none, one, total) ** (1.0 / p))


def _no_out(name: str, out: Any) -> None:
    if out is not None:
        raise ValueError(f"{name}: out= is not available; assign the result")


def normalize(input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None) -> Any:
    """`input` divided by its p-norm along `dim`, or by `eps` where that is larger.

    Raises:
        TypeError: not a floating point tensor. IndexError: no such dimension. ValueError: `out` is given.

    >>> import juanji as jj
    >>> normalize(jj.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """
    need_floating("normalize", input=input)
    _no_out("normalize", out)
    norm, least = length(input, float(p), dim, True), ar.scalar(eps, input.dtype)
    return ew.div(input, ew.where(ew.lt(norm, least), least, norm))


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """The cosine of the angle between vectors along `dim`: their dot product over the product of their lengths.

    Shapes: both broadcast to a common shape; the result is without `dim`. Lengths below `eps` count as `eps`.

    Raises:
        TypeError: not floating point tensors. ShapeError: shapes that do not broadcast. IndexError: no such dimension.

    >>> import juanji as jj
    >>> cosine_similarity(jj.tensor([[1.0, 0.0]]), jj.tensor([[1.0, 1.0]]))
    tensor([0.7071])
    """
    need_floating("cosine_similarity", x1=x1)
    need_floating("cosine_similarity", x2=x2)
    a, b = ar.together(ar.result_dtype((x1, x2)), x1, x2)
    shape = broadcast(a.shape, b.shape)
    d = normal_dim(dim, len(shape))
    a, b = (v if v.shape == shape else v.expand(shape) for v in (a, b))

    def unit(x: Any) -> Any:
        norm = length(x, 2, d, True)
        # The bound is no part of the slope: a vector shorter than `eps` still turns.
        short = (eps - norm.detach()).relu()
        return ew.div(x, ew.add(norm, short))

    return ew.mul(unit(a), unit(b)).sum(d)


def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    """The p-norm of x1 - x2 + `eps` along the last dimension.

    Shapes: [N, D] or [D], which broadcast -> [N] or []; with `keepdim` the last dimension stays with extent 1.

    Raises:
        TypeError: not tensors of numbers. ShapeError: shapes that do not broadcast.

    >>> import juanji as jj
    >>> pairwise_distance(jj.tensor([[0.0, 0.0]]), jj.tensor([[3.0, 4.0]]))
    tensor([5.0000])
    """
    for argument, value in (("x1", x1), ("x2", x2)):
        need_tensor(value, argument, "pairwise_distance")
        if value.dtype is dtypes.bool_:
            raise TypeError(f"pairwise_distance: {argument} must be floating point or of integers, not {value.dtype}")
    broadcast(x1.shape, x2.shape)
    apart = ar.arithmetic(ew.sub, x1, x2) + eps
    return length(apart, float(p), -1, keepdim)
