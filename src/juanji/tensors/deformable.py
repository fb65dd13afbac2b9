"""Deformable convolution: a convolution whose taps are moved by offsets that are values themselves."""

from __future__ import annotations

import math
from typing import Any

from juanji.errors import ShapeError
from juanji.ops import elementwise as ew
from juanji.ops import sampling
from juanji.spec import Shape, numbers, show, window_size
from juanji.tensors import creation
from juanji.tensors.base import need_same_dtype, need_tensor
from juanji.tensors.products import matmul


def deform_conv2d(
    input: Any,
    offset: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = (1, 1),
    padding: Any = (0, 0),
    dilation: Any = (1, 1),
    mask: Any = None,
) -> Any:
    """Deformable convolution (Dai et al. 2017), with a `mask` its second version (Zhu et al. 2018).

    Names, layout and results are those of `torchvision.ops.deform_conv2d`. Each tap of each output reads the image at
    its place plus an offset, between four pixels bilinearly, zero outside, times its mask. How many groups there are
    follows from the shapes: C / weight.shape[1] weight groups, offset.shape[1] / (2 kH kW) offset groups.

    Shapes: input [N, C, H, W], offset [N, 2 * offset groups * kH * kW, H', W'] (for each group and tap first y, then
    x), weight [out, C/groups, kH, kW], bias [out], mask [N, offset groups * kH * kW, H', W'] -> [N, out, H', W'], with
    H' and W' as in `conv2d`.

    Raises:
        ShapeError: shapes that do not fit, with what would. TypeError: not tensors.

    >>> import juanji as jj
    >>> x = jj.arange(9.0).reshape(1, 1, 3, 3)
    >>> half_right = jj.tensor([0.0, 0.5]).reshape(1, 2, 1, 1).expand(1, 2, 3, 3)
    >>> deform_conv2d(x, half_right, jj.ones(1, 1, 1, 1))[0, 0, 0]
    tensor([0.5000, 1.5000, 1.0000])
    """
    name = "deform_conv2d"
    given = {"input": input, "offset": offset, "weight": weight, "bias": bias, "mask": mask}
    for what, value in given.items():
        if value is not None or what not in ("bias", "mask"):
            need_tensor(value, what, name)
            if not value.dtype.is_floating_point:
                raise RuntimeError(f"{name}: {what} must be floating point, not {value.dtype}")
    need_same_dtype(name, **given)
    for what in ("input", "offset", "weight", "mask"):
        if given[what] is not None and given[what].ndim != 4:
            raise ShapeError(f"{name}: {what} of shape {show(given[what].shape)} must have 4 dimensions")
    strides, pads = numbers(stride, 2, "stride", 1), numbers(padding, 2, "padding")
    dilations = numbers(dilation, 2, "dilation", 1)
    n, channels, height, width = input.shape
    outs, per_group, *kernel = weight.shape
    taps = math.prod(kernel)
    if 0 in weight.shape or channels == 0 or channels % per_group or outs % (channels // per_group):
        raise ShapeError(
            f"{name}: weight of shape {show(weight.shape)} must be [out, {channels} / groups, kH, kW] for input of "
            f"shape {show(input.shape)}, where groups divides both channels and outputs"
        )
    groups = channels // per_group
    if bias is not None and bias.shape != (outs,):
        raise ShapeError(f"{name}: bias of shape {show(bias.shape)} must be {show((outs,))}")
    out = tuple(
        window_size(size, k, s, (p, p), d)
        for size, k, s, p, d in zip((height, width), kernel, strides, pads, dilations, strict=True)
    )
    if min(out) < 1:
        raise ShapeError(
            f"{name}: kernel size can't be greater than the padded input: the output of {show(input.shape)} with "
            f"kernel {show(kernel)}, padding={pads} and dilation={dilations} would be {show(out)}"
        )
    offset_groups = offset.shape[1] // (2 * taps)
    if offset_groups == 0 or channels % offset_groups or offset.shape != (n, 2 * taps * offset_groups, *out):
        raise ShapeError(
            f"{name}: offset of shape {show(offset.shape)} must be [{n}, 2 * offset groups * {taps}, "
            f"{out[0]}, {out[1]}], where the number of offset groups divides the {channels} channels"
        )
    if mask is not None and mask.shape != (n, taps * offset_groups, *out):
        raise ShapeError(
            f"{name}: mask of shape {show(mask.shape)} must be {show((n, taps * offset_groups, *out))}, half as many "
            "channels as offset"
        )
    places = taps * math.prod(out)
    shifts = offset.reshape(n * offset_groups, *kernel, 2, *out)
    positions = []
    for axis in (0, 1):
        grid = _grid(axis, tuple(kernel), out, strides[axis], pads[axis], dilations[axis], input.dtype)
        positions.append((shifts[:, :, :, axis] + grid).reshape(n * offset_groups, places))
    image = input.reshape(n * offset_groups, channels // offset_groups, height, width)
    columns = sampling.bilinear(image, *positions, slopes=(0, 0))
    if mask is not None:
        columns = ew.mul(columns, mask.reshape(n * offset_groups, 1, places))
    terms = per_group * taps
    columns = columns.reshape(n, groups, terms, math.prod(out))
    result = matmul(weight.reshape(groups, outs // groups, terms), columns).reshape(n, outs, *out)
    return result if bias is None else ew.add(result, bias.reshape(-1, 1, 1))


def _grid(axis: int, kernel: Shape, out: Shape, stride: int, pad: int, dilation: int, dtype: Any) -> Any:
    """Where taps are without offsets, along one axis: [kH, kW, H', W'] with extents of 1 along the other."""
    tap = creation.arange(kernel[axis], dtype=dtype) * dilation
    start = creation.arange(out[axis], dtype=dtype) * stride - pad
    if axis == 0:
        return tap.reshape(-1, 1, 1, 1) + start.reshape(-1, 1)
    return tap.reshape(-1, 1, 1) + start
