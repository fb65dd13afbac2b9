"""Pooling over windows of one to three spatial dimensions: largest values, means, p-norms.

The engine pools planes. One spatial dimension is a plane of height 1. Three are pooled over rows and columns first and
over depth then: a maximum of maxima and a sum of sums, and the first (or, of NaN, last) maximum of a block is in the
first (last) slice that has it, so that positions come out as PyTorch's too.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import Any

from juanji import dtypes
from juanji.errors import ShapeError
from juanji.ops import elementwise as ew
from juanji.ops import pool
from juanji.spec import Shape, numbers, show, window_size
from juanji.tensors import arithmetic as ar
from juanji.tensors import creation
from juanji.tensors.base import need_tensor


def check_images(name: str, input: Any, rank: int) -> Any:
    """`input` with a batch dimension.

    Raises:
        TypeError: no tensor, or of bools. ShapeError: another number of dimensions, or no channels.
    """
    need_tensor(input, "input", name)
    if input.dtype is dtypes.bool_:
        raise TypeError(f"{name}: input must be floating point or of integers, not {input.dtype}")
    if input.ndim not in (rank + 1, rank + 2):
        raise ShapeError(
            f"{name}: expected {rank + 1}D or {rank + 2}D input (channels and {rank} spatial dimensions, with or "
            f"without a batch), but got input of shape {show(input.shape)}"
        )
    if 0 in input.shape[-rank - 1 :]:
        raise ShapeError(
            f"{name}: input of shape {show(input.shape)} has a dimension of size 0; only the batch may be empty"
        )
    return input if input.ndim == rank + 2 else input.unsqueeze(0)


def unbatched(result: Any, input: Any) -> Any:
    """`result` without the batch dimension that `input` did not have."""
    return result if result.ndim == input.ndim else result.reshape(result.shape[1:])


@dataclass(frozen=True, eq=False)
class Windows:
    """Where windows lie, one entry a spatial dimension, and how many there are."""

    kernel: Shape
    stride: Shape
    padding: Shape
    dilation: Shape
    ceil: bool
    sizes: Shape
    planes: dict[tuple[int | None, ...], dict[str, Any]] = field(default_factory=dict)

    def plane(self, *axes: int | None) -> dict[str, Any]:
        """The attributes of plane pooling over two of the dimensions; None is one that is not pooled."""
        found = self.planes.get(axes)
        if found is None:

            def each(values: Shape, neutral: int) -> tuple[int, ...]:
                return tuple(neutral if axis is None else values[axis] for axis in axes)

            found = self.planes[axes] = {
                "kernel": each(self.kernel, 1),
                "stride": each(self.stride, 1),
                "padding": each(self.padding, 0),
                "dilation": each(self.dilation, 1),
                "ceil": self.ceil,
            }
        return found


def windows(
    name: str, x: Any, kernel_size: Any, stride: Any, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Windows:
    """The windows that arguments as PyTorch's describe over the spatial dimensions of a batch.

    Raises:
        TypeError: not integers. ShapeError: too small, too many, padding beyond half of the kernel, no window fits, or
            a window with none of the input in it (PyTorch reads and writes outside of its memory there).
    """
    given: tuple[Any, ...] = (kernel_size, stride, padding, dilation)
    if list in map(type, given):
        given = tuple(tuple(v) if isinstance(v, list) else v for v in given)
    # A layer describes the same windows at every step.
    return _windows(name, x.shape, *given, bool(ceil_mode))


@functools.lru_cache(maxsize=1024, typed=True)
def _windows(
    name: str, shape: Shape, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil: bool
) -> Windows:
    rank = len(shape) - 2
    kernel = numbers(kernel_size, rank, "kernel_size", 1)
    steps = kernel if stride is None or stride == () else numbers(stride, rank, "stride", 1)
    pads = numbers(padding, rank, "padding")
    apart = numbers(dilation, rank, "dilation", 1)
    if any(p * 2 > d * (k - 1) + 1 for k, p, d in zip(kernel, pads, apart, strict=True)):
        raise ShapeError(
            f"{name}: padding={show(pads)} should be at most half of the kernel's reach, "
            f"kernel_size={show(kernel)} with dilation={show(apart)}"
        )
    sizes = tuple(
        window_size(n, k, s, (p, p), d, ceil)
        for n, k, s, p, d in zip(shape[2:], kernel, steps, pads, apart, strict=True)
    )
    if any(size < 1 for size in sizes):
        raise ShapeError(
            f"{name}: input of shape {show(shape)} is smaller than one window (kernel_size={show(kernel)}, "
            f"padding={show(pads)}, dilation={show(apart)}); the output would be {show((*shape[:2], *sizes))}"
        )
    for d, (n, k, s, p, gap, count) in enumerate(zip(shape[2:], kernel, steps, pads, apart, sizes, strict=True)):
        # Only taps further apart than the input is long can step over it.
        if gap > n and any(not any(0 <= o * s - p + i * gap < n for i in range(k)) for o in range(count)):
            raise ShapeError(
                f"{name}: input of shape {show(shape)} has {n} elements in spatial dimension {d}, and a window with "
                f"dilation={show(apart)}, kernel_size={show(kernel)} and padding={show(pads)} steps over all of them"
            )
    return Windows(kernel, steps, pads, apart, ceil, sizes)


def _over_planes(op: Any, x: Any, w: Windows, **extra: Any) -> Any:
    """`op` over a line, over a plane, or over rows and columns and then over depth."""
    n, c, *spatial = x.shape
    if len(spatial) == 1:
        return op(x.reshape(n, c, 1, *spatial), **w.plane(None, 0), **extra).reshape(n, c, *w.sizes)
    if len(spatial) == 2:
        return op(x, **w.plane(0, 1), **extra)
    d, height, width = spatial
    flat = op(x.reshape(n, c * d, height, width), **w.plane(1, 2), **extra)
    deep = op(flat.reshape(n, c, d, math.prod(w.sizes[1:])), **w.plane(0, None), **extra)
    return deep.reshape(n, c, *w.sizes)


def max_values(x: Any, w: Windows) -> Any:
    """The largest value of each window of a batch."""
    return _over_planes(pool.max_pool, x, w)


def max_positions(x: Any, w: Windows) -> Any:
    """Where each window's maximum is in the flattened spatial dimensions (int64)."""
    n, c, *spatial = x.shape
    if len(spatial) < 3:
        return _over_planes(pool.max_pool_index, x, w)
    d, height, width = spatial
    pixels = math.prod(w.sizes[1:])
    slices, down = x.reshape(n, c * d, height, width), w.plane(0, None)
    inside = pool.max_pool_index(slices, **w.plane(1, 2)).reshape(n, c, d, pixels)
    everywhere = inside + creation.arange(d).reshape(d, 1) * (height * width)
    best = pool.max_pool(slices, **w.plane(1, 2)).reshape(n, c, d, pixels)
    chosen = pool.pool_gather(everywhere, pool.max_pool_index(best, **down), **down)
    return chosen.reshape(n, c, *w.sizes)


def _max_pool(
    name: str,
    rank: int,
    input: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    x = check_images(name, input, rank)
    w = windows(name, x, kernel_size, stride, padding, dilation, ceil_mode)
    values = unbatched(max_values(x, w), input)
    if not return_indices:
        return values
    return values, unbatched(max_positions(x.detach(), w), input)


def max_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value of each window of a line: [N, C, L] or [C, L]; arguments and errors as `max_pool2d`.

    >>> import juanji as jj
    >>> max_pool1d(jj.tensor([[1.0, 5.0, 3.0, 2.0]]), 2)
    tensor([[5., 3.]])
    """
    return _max_pool("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value of each window.

    Shapes: [N, C, H, W] or [C, H, W]; windows as in `conv2d`, `stride` is `kernel_size` unless given. With `ceil_mode`
    a last window may overhang the input. With `return_indices`, also where each maximum is in its flattened plane (the
    first one; NaN counts as largest, and the last NaN is taken).

    Raises:
        ShapeError: no window fits, or padding beyond half of the kernel. TypeError: not a tensor of numbers.

    >>> import juanji as jj
    >>> max_pool2d(jj.tensor([[[7.0, 10.0], [18.0, 25.0]]]), 2).item()
    25.0
    """
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value of each window of a volume: [N, C, D, H, W] or [C, D, H, W]; otherwise as `max_pool2d`.

    >>> import juanji as jj
    >>> values, where = max_pool3d(jj.arange(8.0).reshape(1, 2, 2, 2), 2, return_indices=True)
    >>> values.item(), where.item()
    (7.0, 7)
    """
    return _max_pool("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _count(n: int, size: int, w: Windows, axis: int, include_pad: bool) -> Any:
    """How many positions of one dimension each window's mean is over."""
    start = creation.arange(size) * w.stride[axis] - w.padding[axis]
    end = start + w.kernel[axis]
    if include_pad:
        return end.clamp(max=n + w.padding[axis]) - start
    return end.clamp(max=n) - start.clamp(min=0)


def mean_values(x: Any, w: Windows, include_pad: bool = True, divisor: int = 0) -> Any:
    """The mean of each window of a batch; its sum divided by `divisor` if that is not 0."""
    if len(w.kernel) < 3 or (divisor == 0 and x.dtype.is_floating_point):
        return _over_planes(pool.avg_pool, x, w, include_pad=include_pad, divisor=divisor)
    wide = x if x.dtype.is_floating_point else ar.cast(x, dtypes.int64)
    total = _over_planes(pool.avg_pool, wide, w, include_pad=include_pad, divisor=1)
    if x.dtype.is_floating_point:
        return total / divisor
    # Of integers only the quotient of the whole sum is right: a mean of truncated means is not.
    count = ar.scalar(divisor, dtypes.int64)
    if not divisor:
        d, height, width = (_count(n, w.sizes[i], w, i, include_pad) for i, n in enumerate(x.shape[2:]))
        count = d.reshape(-1, 1, 1) * height.reshape(-1, 1) * width
    return ar.cast(ew.truncdiv(total, count), x.dtype)


def _avg_pool(
    name: str,
    rank: int,
    input: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: Any,
) -> Any:
    x = check_images(name, input, rank)
    if divisor_override is not None and divisor_override == 0:
        raise ShapeError(f"{name}: divisor must be not zero; divisor_override={divisor_override!r}")
    w = windows(name, x, kernel_size, stride, padding, 1, ceil_mode)
    return unbatched(mean_values(x, w, bool(count_include_pad), int(divisor_override or 0)), input)


def avg_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """The mean of each window of a line: [N, C, L] or [C, L]; arguments and errors as `avg_pool2d`.

    >>> import juanji as jj
    >>> avg_pool1d(jj.tensor([[1.0, 5.0, 3.0, 2.0]]), 2)
    tensor([[3.0000, 2.5000]])
    """
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The mean of each window; windows as in `max_pool2d`.

    Zeros of the padding count unless `count_include_pad` is False (what overhangs with `ceil_mode` never does);
    `divisor_override` divides the sums instead of the count. Means of integers are truncated.

    Raises:
        ShapeError: no window fits, padding beyond half of the kernel, or a divisor of 0. TypeError: no such tensor.

    >>> import juanji as jj
    >>> avg_pool2d(jj.tensor([[[1.0, 2.0], [3.0, 6.0]]]), 2).item()
    3.0
    """
    return _avg_pool(
        "avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The mean of each window of a volume: [N, C, D, H, W] or [C, D, H, W]; otherwise as `avg_pool2d`.

    >>> import juanji as jj
    >>> avg_pool3d(jj.arange(8.0).reshape(1, 2, 2, 2), 2).item()
    3.5
    """
    return _avg_pool(
        "avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def _lp_pool(name: str, rank: int, input: Any, norm_type: Any, kernel_size: Any, stride: Any, ceil: bool) -> Any:
    x = check_images(name, input, rank)
    if not x.dtype.is_floating_point:
        raise TypeError(f"{name}: input must be floating point, not {x.dtype}")
    p = float(norm_type)
    if p == 0 or math.isnan(p):
        raise ValueError(f"{name}: norm_type={norm_type!r} must be a number other than 0")
    w = windows(name, x, kernel_size, stride, 0, 1, ceil)
    means = mean_values(x**p, w)
    # A root has no slope at zero that could be used: no gradient passes there, as in PyTorch.
    zero = ar.scalar(0, x.dtype)
    total = means.detach().sign() * ew.where(ew.eq(means, zero), zero, means).abs() * float(math.prod(w.kernel))
    return unbatched(total ** (1.0 / p), input)


def lp_pool1d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """The `norm_type`-norm of each window of a line: [N, C, L] or [C, L]; otherwise as `lp_pool2d`.

    >>> import juanji as jj
    >>> lp_pool1d(jj.tensor([[3.0, 4.0, 5.0, 12.0]]), 2, 2)
    tensor([[ 5., 13.]])
    """
    return _lp_pool("lp_pool1d", 1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """(sum of x ** p over each window) ** (1 / p) with p = `norm_type`; windows as in `max_pool2d`, without padding.

    A window that overhangs (`ceil_mode`) counts as if its missing values were the mean of those it has.

    Raises:
        ShapeError: no window fits. ValueError: `norm_type` is 0. TypeError: not a floating point tensor.

    >>> import juanji as jj
    >>> lp_pool2d(jj.tensor([[[1.0, 1.0], [1.0, 1.0]]]), 2, 2).item()
    2.0
    """
    return _lp_pool("lp_pool2d", 2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """The `norm_type`-norm of each window of a volume: [N, C, D, H, W] or [C, D, H, W]; otherwise as `lp_pool2d`.

    >>> import juanji as jj
    >>> lp_pool3d(jj.ones(1, 2, 2, 2), 1, 2).item()
    8.0
    """
    return _lp_pool("lp_pool3d", 3, input, norm_type, kernel_size, stride, ceil_mode)
