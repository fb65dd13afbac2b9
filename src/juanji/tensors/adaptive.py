"""Pooling to a given size.

Window i of n inputs pooled to m outputs goes from floor(i n / m) to ceil((i + 1) n / m). Where m divides n, that is
ordinary pooling. Elsewhere every dimension is pooled by itself: with g = gcd(n, m) the windows repeat
themselves g times, n / g inputs apart, so that m / g of them, each over g blocks at once, are all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from juanji import dtypes
from juanji.errors import ShapeError
from juanji.ops import pool
from juanji.ops.elementwise import copy
from juanji.ops.shape import concatenate
from juanji.runtime.memory import check_size
from juanji.spec import Shape, numbers
from juanji.tensors import creation
from juanji.tensors.pooling import Windows, check_images, max_positions, max_values, mean_values, unbatched


def _target(name: str, output_size: Any, spatial: Shape) -> Shape:
    """The sizes to pool to; None keeps a dimension's.

    Raises:
        TypeError: not integers. ShapeError: negative, or another number of them.
    """
    given = list(output_size) if isinstance(output_size, (tuple, list)) else [output_size] * len(spatial)
    if len(given) == 1 < len(spatial):
        given *= len(spatial)
    if len(given) != len(spatial):
        raise ShapeError(f"{name}: output_size={output_size!r} must be one integer or {len(spatial)}")
    sizes = [n if size is None else size for size, n in zip(given, spatial, strict=True)]
    return numbers(sizes, len(spatial), "output_size")


def _even(spatial: Shape, sizes: Shape) -> Windows | None:
    """The windows, where they are those of ordinary pooling."""
    if any(m == 0 or n % m for n, m in zip(spatial, sizes, strict=True)):
        return None
    kernel, rank = tuple(n // m for n, m in zip(spatial, sizes, strict=True)), len(sizes)
    return Windows(kernel, kernel, (0,) * rank, (1,) * rank, False, sizes)


def _pieces(n: int, m: int) -> Iterator[tuple[int, int]]:
    """(first, end) of the windows inside one of the gcd(n, m) blocks.

    >>> list(_pieces(10, 4))
    [(0, 3), (2, 5)]
    """
    g = math.gcd(n, m)
    for i in range(m // g):
        yield i * n // m, -(-(i + 1) * n // m)


def _blocks(x: Any, axis: int, size: int) -> Any:
    """`x` as [1, blocks, positions of a block, the rest], windows over `axis` lying within blocks."""
    lead, n, rest = math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])
    g = math.gcd(n, size)
    return x.reshape(1, lead * g, n // g, rest)


def _joined(pieces: list[Any], x: Any, axis: int, size: int) -> Any:
    """The windows' results, [1, blocks, 1, the rest] each, with `size` of them along `axis`."""
    whole = pieces[0] if len(pieces) == 1 else concatenate(pieces, 2)
    return whole.reshape(*x.shape[:axis], size, *x.shape[axis + 1 :])


def _empty(x: Any, sizes: Shape) -> Any:
    """A result without elements, still part of the history of `x`."""
    return (x[:, :, :0] * 1).reshape(*x.shape[:2], *sizes)


def _adaptive(name: str, rank: int, input: Any, output_size: Any) -> tuple[Any, Shape]:
    x = check_images(name, input, rank)
    if not x.dtype.is_floating_point:
        raise TypeError(f"{name}: input must be floating point, not {x.dtype}")
    sizes = _target(name, output_size, x.shape[2:])
    check_size((*x.shape[:2], *sizes), x.dtype.name)
    return x, sizes


def _average(name: str, rank: int, input: Any, output_size: Any) -> Any:
    x, sizes = _adaptive(name, rank, input, output_size)
    if 0 in sizes:
        return unbatched(_empty(x, sizes), input)
    if sizes == x.shape[2:]:
        return unbatched(copy(x), input)
    if math.prod(sizes) == 1:
        return unbatched(x.mean(tuple(range(2, rank + 2)), True), input)
    even = _even(x.shape[2:], sizes)
    if even is not None:
        return unbatched(mean_values(x, even), input)
    for axis, size in enumerate(sizes, 2):
        n = x.shape[axis]
        if n and size % n == 0:  # each window is one position
            around, inner = x.shape[:axis], x.shape[axis + 1 :]
            x = x.reshape(*around, n, 1, *inner).expand(*around, n, size // n, *inner).reshape(*around, size, *inner)
        else:
            g, around, inner = math.gcd(n, size), x.shape[:axis], x.shape[axis + 1 :]
            blocks, all_before = x.reshape(*around, g, n // g, *inner), (slice(None),) * (axis + 1)
            parts = [blocks[(*all_before, slice(first, end))].mean(axis + 1, True) for first, end in _pieces(n, size)]
            x = concatenate(parts, axis + 1).reshape(*around, size, *inner)
    return unbatched(x, input)


def _maximum(name: str, rank: int, input: Any, output_size: Any, return_indices: bool) -> Any:
    x, sizes = _adaptive(name, rank, input, output_size)
    if 0 in sizes:
        values = unbatched(_empty(x, sizes), input)
        return (values, values.detach().to(dtypes.int64)) if return_indices else values
    even = _even(x.shape[2:], sizes)
    if even is not None:
        values = unbatched(max_values(x, even), input)
        return (values, unbatched(max_positions(x.detach(), even), input)) if return_indices else values
    where = None
    if return_indices:
        where = creation.arange(math.prod(x.shape[2:])).reshape(x.shape[2:]).expand(x.shape)
    # The last dimension first: what is left of ties is then the first in memory.
    for axis, size in reversed(list(enumerate(sizes, 2))):
        if x.shape[axis] != size:
            x, where = _maximum_over(x, where, axis, size)
    return (unbatched(x, input), unbatched(where, input)) if return_indices else unbatched(x, input)


def _maximum_over(x: Any, where: Any, axis: int, size: int) -> tuple[Any, Any]:
    """The maxima over one dimension, and what `where` says at them."""
    blocks = _blocks(x, axis, size)
    values, positions = [], []
    for first, end in _pieces(x.shape[axis], size):
        piece = blocks[:, :, first:end]
        pair = (end - first, 1)
        attrs = {"kernel": pair, "stride": pair, "padding": (0, 0), "dilation": (1, 1), "ceil": False}
        values.append(pool.max_pool(piece, **attrs))
        if where is not None:
            own = _blocks(where, axis, size)[:, :, first:end]
            positions.append(pool.pool_gather(own, pool.max_pool_index(piece.detach(), **attrs), **attrs))
    found = None if where is None else _joined(positions, x, axis, size)
    return _joined(values, x, axis, size), found


def adaptive_avg_pool1d(input: Any, output_size: Any) -> Any:
    """Means of windows that divide a line into `output_size` parts: [N, C, L] or [C, L].

    Raises:
        ShapeError: a negative size, or an input of the wrong shape. TypeError: not a floating point tensor.

    >>> import juanji as jj
    >>> adaptive_avg_pool1d(jj.arange(5.0).reshape(1, 5), 2)
    tensor([[1., 3.]])
    """
    return _average("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input: Any, output_size: Any) -> Any:
    """Means of windows that divide a plane into `output_size` parts, (height, width) or one number for both.

    Shapes: [N, C, H, W] or [C, H, W]. None in `output_size` keeps that dimension's size; 1 is global pooling. Window i
    of n inputs goes from floor(i n / m) to ceil((i + 1) n / m); neighbours overlap where m does not divide n.

    Raises:
        ShapeError: a negative size, or an input of the wrong shape. TypeError: not a floating point tensor.

    >>> import juanji as jj
    >>> adaptive_avg_pool2d(jj.arange(6.0).reshape(1, 2, 3), (1, None))
    tensor([[[1.5000, 2.5000, 3.5000]]])
    """
    return _average("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_avg_pool3d(input: Any, output_size: Any) -> Any:
    """Means of windows that divide a volume: [N, C, D, H, W] or [C, D, H, W]; otherwise as `adaptive_avg_pool2d`.

    >>> import juanji as jj
    >>> adaptive_avg_pool3d(jj.arange(8.0).reshape(1, 2, 2, 2), 1).item()
    3.5
    """
    return _average("adaptive_avg_pool3d", 3, input, output_size)


def adaptive_max_pool1d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """The largest value of each window of `adaptive_avg_pool1d`; with `return_indices` also where it is.

    >>> import juanji as jj
    >>> adaptive_max_pool1d(jj.tensor([[4.0, 1.0, 2.0, 3.0, 0.0]]), 2, return_indices=True)
    (tensor([[4., 3.]]), tensor([[0, 3]]))
    """
    return _maximum("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """The largest value of each window of `adaptive_avg_pool2d`; errors as there.

    With `return_indices`, also where each maximum is in its flattened plane.

    >>> import juanji as jj
    >>> adaptive_max_pool2d(jj.arange(6.0).reshape(1, 2, 3), (1, 2))
    tensor([[[4., 5.]]])
    """
    return _maximum("adaptive_max_pool2d", 2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """The largest value of each window of `adaptive_avg_pool3d`; otherwise as `adaptive_max_pool2d`.

    >>> import juanji as jj
    >>> adaptive_max_pool3d(jj.arange(8.0).reshape(1, 2, 2, 2), 1).item()
    7.0
    """
    return _maximum("adaptive_max_pool3d", 3, input, output_size, return_indices)
