"""Windows as an array of their own: `unfold` (im2col), its adjoint `fold` (col2im), and `Tensor.unfold`."""

from __future__ import annotations

import math
from typing import Any

from juanji.errors import ShapeError
from juanji.ops import patches
from juanji.spec import Shape, normal_dim, numbers, show
from juanji.tensors.base import need_tensor


def _windows(function: str, size: Shape, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> dict[str, Any]:
    rank = len(size)
    kernel, dilations = numbers(kernel_size, rank, "kernel_size", 1), numbers(dilation, rank, "dilation", 1)
    pads, strides = numbers(padding, rank, "padding"), numbers(stride, rank, "stride", 1)
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True))
    if any(n + 2 * p < r for n, p, r in zip(size, pads, reach, strict=True)):
        raise ShapeError(
            f"{function}: no window fits: spatial size {show(size)} with padding={show(pads)} must be at least the "
            f"kernel's reach {show(reach)} (kernel_size={show(kernel)}, dilation={show(dilations)})"
        )
    return {"kernel": kernel, "stride": strides, "padding": tuple((p, p) for p in pads), "dilation": dilations}


def unfold(input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """The windows that a convolution of these arguments sees, one in a column (im2col).

    Shapes: input [N, C, H, W] or [C, H, W] -> [N, C * kH * kW, L] with a column for each of the L positions.

    Raises:
        ShapeError: no window fits, or another number of dimensions. TypeError: no tensor.

    >>> import juanji as jj
    >>> unfold(jj.arange(6.0).reshape(1, 1, 2, 3), 2)
    tensor([[[0., 1.],
             [1., 2.],
             [3., 4.],
             [4., 5.]]])
    """
    need_tensor(input, "input", "unfold")
    if input.ndim not in (3, 4) or 0 in input.shape[1 - input.ndim % 2 :]:
        raise ShapeError(
            "unfold: expected 3D or 4D input, where only the batch may be empty, but got input of shape "
            f"{show(input.shape)}"
        )
    images = input if input.ndim == 4 else input.unsqueeze(0)
    windows = _windows("unfold", images.shape[2:], kernel_size, dilation, padding, stride)
    result = patches.unfold(images, **windows)
    n, c = images.shape[:2]
    shape = (c * math.prod(windows["kernel"]), math.prod(result.shape[4:]))
    return result.reshape((n, *shape) if input.ndim == 4 else shape)


def fold(input: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """Columns of windows added up into images, the adjoint of `unfold` (col2im).

    Shapes: input [N, C * kH * kW, L] or without N -> [N, C, *output_size], where L must be the number of windows that
    fit there. It is no inverse: where windows overlap, their elements are summed.

    Raises:
        ShapeError: sizes that do not fit, with the numbers. TypeError: no tensor.

    >>> import juanji as jj
    >>> fold(jj.ones(1, 4, 2), (2, 3), 2)
    tensor([[[[1., 2., 1.],
              [1., 2., 1.]]]])
    """
    need_tensor(input, "input", "fold")
    size = numbers(output_size, 2, "output_size", 1)
    windows = _windows("fold", size, kernel_size, dilation, padding, stride)
    kernel = windows["kernel"]
    if input.ndim not in (2, 3) or 0 in input.shape[-2:]:
        raise ShapeError(
            "fold: expected 2D or 3D input [N, C * kH * kW, L], where only the batch may be empty, but got input of "
            f"shape {show(input.shape)}"
        )
    area = math.prod(kernel)
    if input.shape[-2] % area:
        raise ShapeError(
            f"fold: the {input.shape[-2]} rows of input {show(input.shape)} must be divisible by the {area} elements "
            f"of kernel_size={show(kernel)}"
        )
    attrs = [windows[name] for name in ("kernel", "stride", "padding", "dilation")]
    counts = tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(size, *attrs, strict=True))
    if input.shape[-1] != math.prod(counts):
        raise ShapeError(
            f"fold: input of shape {show(input.shape)} has {input.shape[-1]} columns, but output_size={show(size)} has "
            f"{' * '.join(map(str, counts))} = {math.prod(counts)} windows"
        )
    channels = input.shape[-2] // area
    columns = input.reshape(math.prod(input.shape[:-2]), channels, *kernel, *counts)
    result = patches.fold(columns, size=size, **windows)
    return result if input.ndim == 3 else result.reshape(result.shape[1:])


def unfold_dimension(tensor: Any, dimension: int, size: int, step: int) -> Any:
    """What `Tensor.unfold` does."""
    flat = not tensor.shape
    if flat:
        tensor = tensor.reshape(1)
    dim = normal_dim(dimension, tensor.ndim, "dimension")
    for name, value, least in (("size", size, 0), ("step", step, 1)):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"unfold: {name}={value!r} must be an integer")
        if value < least:
            raise ShapeError(f"unfold: {name}={value} must be at least {least}")
    extent = tensor.shape[dim]
    if size > extent:
        raise ShapeError(f"unfold: maximum size for tensor at dimension {dimension} is {extent} but size is {size}")
    count = (extent - size) // step + 1
    others = [d for d in range(tensor.ndim) if d != dim]
    rest = tuple(tensor.shape[d] for d in others)
    if size == 0:
        return tensor.new_zeros((*tensor.shape[:dim], count, *tensor.shape[dim + 1 :], 0))
    lines = tensor.permute(*others, dim).reshape(math.prod(rest), 1, extent)
    windows = patches.unfold(lines, kernel=(int(size),), stride=(int(step),), padding=((0, 0),), dilation=(1,))
    order = [*range(len(rest)), len(rest), len(rest) + 1]
    order.insert(dim, order.pop())  # the number of windows comes where the dimension was
    result = windows.reshape(*rest, int(size), count).permute(*order)
    return result.reshape(result.shape[1:]) if flat else result
