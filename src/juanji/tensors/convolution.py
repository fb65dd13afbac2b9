"""Convolution and transposed convolution of one to three spatial dimensions."""

from __future__ import annotations

from typing import Any

from juanji import dtypes
from juanji.errors import ShapeError
from juanji.ops import contraction
from juanji.ops import elementwise as ew
from juanji.runtime.memory import check_size
from juanji.spec import Pads, Shape, numbers, show
from juanji.tensors import algorithms
from juanji.tensors.base import need_same_dtype, need_tensor

AXES = {1: "L", 2: "H, W", 3: "D, H, W"}


def check_operands(function: str, rank: int, layout: str, input: Any, weight: Any, bias: Any, groups: Any) -> None:
    """Refuses what is no tensor, of the wrong element type or number of dimensions, and groups below 1."""
    given = {"input": input, "weight": weight, "bias": bias}
    for name, value in given.items():
        if value is not None or name != "bias":
            need_tensor(value, name, function)
            if value.dtype is dtypes.bool_:
                raise RuntimeError(f"{function}: {name} must hold numbers, but its dtype is {value.dtype}")
    need_same_dtype(function, **given)
    if weight.ndim != rank + 2:
        raise ShapeError(f"{function}: weight of shape {show(weight.shape)} must have {rank + 2} dimensions {layout}")
    if input.ndim not in (rank + 1, rank + 2):
        raise ShapeError(
            f"{function}: expected {rank + 1}D (unbatched) or {rank + 2}D (batched) input [N, C, {AXES[rank]}], but "
            f"got input of shape {show(input.shape)}"
        )
    if isinstance(groups, bool) or not hasattr(groups, "__index__"):
        raise TypeError(f"{function}: groups={groups!r} must be an integer")
    if groups < 1:
        raise ShapeError(f"{function}: groups={groups} must be at least 1")


def same_padding(kernel: Shape, dilation: Shape) -> Pads:
    """(before, after) of each dimension so that the output is as large as the input; an odd one goes after."""
    total = tuple(d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
    return tuple((t // 2, t - t // 2) for t in total)


def _pads(function: str, padding: Any, kernel: Shape, stride: Shape, dilation: Shape) -> Pads:
    if isinstance(padding, str):
        if padding == "valid":
            return tuple((0, 0) for _ in kernel)
        if padding != "same":
            raise ShapeError(f"{function}: padding={padding!r} is not valid; use 'same', 'valid' or integers")
        if any(s != 1 for s in stride):
            raise ShapeError(
                f"{function}: padding='same' is not supported for strided convolutions, but stride is {stride}"
            )
        return same_padding(kernel, dilation)
    return tuple((p, p) for p in numbers(padding, len(kernel), "padding"))


def _finish(result: Any, bias: Any, rank: int, batched: bool) -> Any:
    if bias is not None:
        result = ew.add(result, bias.reshape(-1, *(1,) * rank))
    return result if batched else result.reshape(result.shape[1:])


def _check_bias(function: str, bias: Any, channels: int) -> None:
    if bias is not None and bias.shape != (channels,):
        raise ShapeError(
            f"{function}: bias of shape {show(bias.shape)} must be {show((channels,))}, one number a channel"
        )


def convolution(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    algorithm: str | None = None,
) -> Any:
    """What `conv1d`, `conv2d` and `conv3d` have in common."""
    function = f"conv{rank}d"
    check_operands(function, rank, f"[out, in/groups, {AXES[rank]}]", input, weight, bias, groups)
    _check_bias(function, bias, weight.shape[0])
    strides = numbers(stride, rank, "stride", 1)
    dilations = numbers(dilation, rank, "dilation", 1)
    pads = _pads(function, padding, weight.shape[2:], strides, dilations)
    batched = input.ndim == rank + 2
    images = input if batched else input.unsqueeze(0)
    attrs = {"stride": strides, "padding": pads, "dilation": dilations, "groups": int(groups)}
    result = algorithms.apply(algorithm, function, images, weight, **attrs)
    return _finish(result, bias, rank, batched)


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    algorithm: str | None = None,
) -> Any:
    """One-dimensional cross-correlation, as every framework calls convolution.

    Shapes: input [N, C, L] or [C, L], weight [out, C/groups, k], bias [out] ->
    [N, out, (L + 2p - d(k - 1) - 1) // s + 1]. Arguments as in `conv2d`.

    Raises:
        ShapeError: sizes that do not fit, with the numbers. TypeError: not tensors.

    >>> import juanji as jj
    >>> conv1d(jj.tensor([[[1, 2, 3, 4]]]), jj.tensor([[[1, 0, -1]]]))
    tensor([[[-2, -2]]])
    """
    return convolution(1, input, weight, bias, stride, padding, dilation, groups, algorithm)


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    algorithm: str | None = None,
) -> Any:
    """Two-dimensional cross-correlation, as every framework calls convolution.

    Shapes: input [N, C, H, W] or [C, H, W], weight [out, C/groups, kH, kW], bias [out] ->
    [N, out, (H + 2p - d(kH - 1) - 1) // s + 1, ...]. `padding` is a number, one for each dimension, 'valid' (none) or
    'same' (the output is as large as the input; where an even kernel makes that odd, the extra zero goes after).
    All tensors have one element type: float32, float64 or an integer type, whose sums wrap round.

    `algorithm` says how: "direct" (what None picks) is the compiled kernel, "im2col" makes a matrix of the windows and
    multiplies once, "fft" uses Fourier transforms and "reference" plain loops; the last two run outside captured steps
    only. Integers agree exactly (for "fft" as long as sums stay below 2**52). In floating point each result, and each
    gradient, lies within eps * T * max|a| * max|b| of the exact one, where eps is the element type's and T the number
    of products in a sum; for "fft" T counts all elements of the padded image in its channels.

    Raises:
        ShapeError: sizes that do not fit, with the numbers. TypeError: not tensors.

    >>> import juanji as jj
    >>> x = jj.arange(9.0).reshape(1, 1, 3, 3)
    >>> conv2d(x, jj.ones(1, 1, 2, 3)).flatten()
    tensor([15., 33.])
    """
    return convolution(2, input, weight, bias, stride, padding, dilation, groups, algorithm)


def conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    algorithm: str | None = None,
) -> Any:
    """Three-dimensional cross-correlation, as every framework calls convolution.

    Shapes: input [N, C, D, H, W] or [C, D, H, W], weight [out, C/groups, kD, kH, kW], bias [out] ->
    [N, out, (D + 2p - d(kD - 1) - 1) // s + 1, ...]. Arguments as in `conv2d`.

    Raises:
        ShapeError: sizes that do not fit, with the numbers. TypeError: not tensors.

    >>> import juanji as jj
    >>> conv3d(jj.ones(1, 2, 4, 5, 6), jj.ones(7, 2, 3, 3, 3)).shape
    (1, 7, 2, 3, 4)
    """
    return convolution(3, input, weight, bias, stride, padding, dilation, groups, algorithm)


# -- transposed -------------------------------------------------------------------------------------------------------
def transposed(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: Any = 1,
    dilation: Any = 1,
) -> Any:
    """What `conv_transpose1d` to `conv_transpose3d` have in common."""
    function = f"conv_transpose{rank}d"
    check_operands(function, rank, f"[in, out/groups, {AXES[rank]}]", input, weight, bias, groups)
    channels = input.shape[-rank - 1]
    if channels != weight.shape[0]:
        raise ShapeError(
            f"{function}: input of shape {show(input.shape)} has {channels} channels, but weight of shape "
            f"{show(weight.shape)} expects {weight.shape[0]}"
        )
    if channels % groups:
        raise ShapeError(f"{function}: groups={groups} must divide the {channels} channels of the input")
    _check_bias(function, bias, weight.shape[1] * groups)
    strides, dilations = numbers(stride, rank, "stride", 1), numbers(dilation, rank, "dilation", 1)
    pads, extra = numbers(padding, rank, "padding"), numbers(output_padding, rank, "output_padding")
    kernel, small = weight.shape[2:], input.shape[-rank:]
    if any(k < 1 for k in kernel):
        raise ShapeError(f"{function}: kernel size of weight {show(weight.shape)} must be at least 1 in each dimension")
    if any(n < 1 for n in small):
        raise ShapeError(f"{function}: input of shape {show(input.shape)} must have spatial sizes of at least 1")
    if any(e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        raise ShapeError(
            f"{function}: output padding must be smaller than either stride or dilation, but output_padding={extra}, "
            f"stride={strides} and dilation={dilations}"
        )
    size = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + 1 + e
        for n, s, p, d, k, e in zip(small, strides, pads, dilations, kernel, extra, strict=True)
    )
    if any(n < 1 for n in size):
        raise ShapeError(
            f"{function}: input of shape {show(input.shape)} with kernel {show(kernel)}, stride={strides} and "
            f"padding={pads} would have an output of {show(size)}; less padding or a larger input is needed"
        )
    batched = input.ndim == rank + 2
    images = input if batched else input.unsqueeze(0)
    check_size((images.shape[0], weight.shape[1] * groups, *size), images.dtype.short)
    result = contraction.conv_input_grad(
        images,
        weight,
        size=size,
        stride=strides,
        # So that the convolution whose gradient this is gives back just the input's size.
        padding=tuple((p, p - e) for p, e in zip(pads, extra, strict=True)),
        dilation=dilations,
        groups=int(groups),
    )
    return _finish(result, bias, rank, batched)


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """One-dimensional transposed convolution: the gradient of `conv1d` with respect to its input.

    Shapes: input [N, C, L] or [C, L], weight [C, out/groups, k], bias [out]. Sizes and
    arguments as in `conv_transpose2d`.

    Raises:
        ShapeError: sizes that do not fit, with the numbers. TypeError: not tensors.

    >>> import juanji as jj
    >>> conv_transpose1d(jj.ones(1, 3, 5), jj.ones(3, 2, 3), stride=2, output_padding=1).shape
    (1, 2, 12)
    """
    return transposed(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Two-dimensional transposed convolution: the gradient of `conv2d` with respect to its input.

    Shapes: input [N, C, H, W] or [C, H, W], weight [C, out/groups, kH, kW], bias [out] -> [N, out, H', W'] with
    H' = (H - 1)s - 2p + d(kH - 1) + output_padding + 1. `output_padding` chooses among the sizes that a convolution
    of this stride makes equal: it adds positions after the others, it is no padding with zeros.

    Raises:
        ShapeError: sizes that do not fit, with the numbers. TypeError: not tensors.

    >>> import juanji as jj
    >>> conv_transpose2d(jj.ones(1, 3, 5, 5), jj.ones(3, 2, 3, 3), stride=2, output_padding=1).shape
    (1, 2, 12, 12)
    """
    return transposed(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Three-dimensional transposed convolution: the gradient of `conv3d` with respect to its input.

    Shapes: input [N, C, D, H, W] or [C, D, H, W], weight [C, out/groups, kD, kH, kW], bias [out]. Sizes and
    arguments as in `conv_transpose2d`.

    Raises:
        ShapeError: sizes that do not fit, with the numbers. TypeError: not tensors.

    >>> import juanji as jj
    >>> conv_transpose3d(jj.ones(1, 3, 2, 3, 5), jj.ones(3, 2, 1, 2, 3), stride=2, output_padding=1).shape
    (1, 2, 4, 7, 12)
    """
    return transposed(3, input, weight, bias, stride, padding, output_padding, groups, dilation)


def output_padding_for(
    output_size: Any, size: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape
) -> Shape:
    """The `output_padding` with which a transposed convolution of an input of `size` gives `output_size`.

    Raises:
        ShapeError: no such output, with the sizes that there are.

    >>> output_padding_for([10], (5,), (3,), (2,), (1,), (1,))
    (1,)
    """
    rank = len(size)
    wanted = tuple(int(n) for n in output_size)[-rank:]
    if len(output_size) not in (rank, rank + 1, rank + 2):
        raise ShapeError(f"output_size={tuple(output_size)} must have {rank} or {rank + 2} elements")
    least = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + 1
        for n, s, p, d, k in zip(size, stride, padding, dilation, kernel, strict=True)
    )
    most = tuple(low + s - 1 for low, s in zip(least, stride, strict=True))
    if any(not low <= n <= high for low, n, high in zip(least, wanted, most, strict=True)):
        raise ShapeError(
            f"output_size={wanted} cannot be made from an input of size {show(size)}: valid sizes range from "
            f"{show(least)} to {show(most)}"
        )
    return tuple(n - low for n, low in zip(wanted, least, strict=True))
