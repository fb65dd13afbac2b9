"""Max unpooling: the values of max pooling written back where its maxima were, zeros elsewhere."""

from __future__ import annotations

import math
from typing import Any

from juanji import dtypes
from juanji.errors import ShapeError
from juanji.ops import table
from juanji.spec import Shape, numbers, show
from juanji.tensors.base import need_tensor
from juanji.tensors.pooling import check_images, unbatched
from juanji.tensors.tables import check_bounds


def _sizes(name: str, given: Shape, kernel_size: Any, stride: Any, padding: Any, output_size: Any) -> Shape:
    """The spatial sizes of the result.

    Raises:
        ValueError: a size that pooling would not have made into the given one.
    """
    rank = len(given)
    kernel = numbers(kernel_size, rank, "kernel_size", 1)
    steps = kernel if stride is None or stride in ([], ()) else numbers(stride, rank, "stride", 1)
    pads = numbers(padding, rank, "padding")
    usual = tuple((n - 1) * s + k - 2 * p for n, k, s, p in zip(given, kernel, steps, pads, strict=True))
    if output_size is None:
        if min(usual) < 1:
            raise ShapeError(f"{name}: the output would be {show(usual)}; padding={padding!r} leaves nothing")
        return usual
    if not isinstance(output_size, (tuple, list)) or len(output_size) not in (rank, rank + 2):
        raise ValueError(
            f"{name}: output_size={output_size!r} should be a sequence containing {rank} or {rank + 2} elements"
        )
    wanted = numbers(tuple(output_size)[-rank:], rank, "output_size", 1)
    if any(not u - s < w < u + s for u, s, w in zip(usual, steps, wanted, strict=True)):
        low, high = (tuple(u + sign * s for u, s in zip(usual, steps, strict=True)) for sign in (-1, 1))
        raise ValueError(
            f"{name}: invalid output_size {show(wanted)} (each dimension must be between {show(low)} and {show(high)}, "
            "both excluded)"
        )
    return wanted


def _unpool(
    name: str,
    rank: int,
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    output_size: Any,
) -> Any:
    x = check_images(name, input, rank)
    need_tensor(indices, "indices", name)
    if indices.dtype is not dtypes.int64:
        raise TypeError(f"{name}: elements in indices should be of type int64, but got {indices.dtype}")
    if indices.shape != input.shape:
        raise ShapeError(
            f"{name}: expected shape of indices to be the same as that of the input, {show(input.shape)}, but got "
            f"{show(indices.shape)}"
        )
    sizes = _sizes(name, x.shape[2:], kernel_size, stride, padding, output_size)
    n, c = x.shape[:2]
    places = math.prod(sizes)
    check_bounds(name, indices, places, -1)
    base = x.new_zeros((n * c, places))
    where = indices.detach().reshape(n * c, math.prod(x.shape[2:]))
    values = x.reshape(where.shape)
    written = table.scatter(base, values, where, dim=1, mode="set")
    return unbatched(written.reshape(n, c, *sizes), input)


def max_unpool1d(
    input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Any:
    """The inverse of `max_pool1d` as far as there is one: [N, C, L] or [C, L]; otherwise as `max_unpool2d`.

    >>> import juanji as jj
    >>> max_unpool1d(jj.tensor([[5.0, 3.0]]), jj.tensor([[1, 2]]), 2)
    tensor([[0., 5., 3., 0.]])
    """
    return _unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Any:
    """Zeros, with the values of `input` where `indices`, from `max_pool2d(return_indices=True)`, say.

    Shapes: [N, C, H, W] or [C, H, W]; each size n becomes (n - 1) * stride + kernel_size - 2 * padding, or
    `output_size` (of the spatial dimensions, or of all), for pooling makes several sizes into one. Where several
    values meet the last is kept.

    Raises:
        ShapeError: shapes that do not fit. IndexError: an index outside the output. ValueError: an `output_size` that
            pooling would not have made into the input's. TypeError: indices that are not int64.

    >>> import juanji as jj
    >>> max_unpool2d(jj.tensor([[[9.0]]]), jj.tensor([[[3]]]), 2)
    tensor([[[0., 0.],
             [0., 9.]]])
    """
    return _unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Any:
    """The inverse of `max_pool3d` as far as there is one: [N, C, D, H, W] or [C, D, H, W]; else as `max_unpool2d`.

    >>> import juanji as jj
    >>> max_unpool3d(jj.ones(1, 1, 1, 1), jj.zeros(1, 1, 1, 1, dtype=jj.int64), 2).sum().item()
    1.0
    """
    return _unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)
