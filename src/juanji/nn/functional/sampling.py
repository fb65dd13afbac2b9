"""Images read at any places: `grid_sample` and `affine_grid` (Jaderberg et al. 2015), as functions."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from juanji.dtypes import int64
from juanji.errors import ShapeError
from juanji.nn.functional.activations import floating
from juanji.nn.functional.padding import constant
from juanji.ops import elementwise as ew
from juanji.ops import table
from juanji.spec import show
from juanji.tensors import Tensor
from juanji.tensors.base import need_same_dtype


def _aligned(function: str, align_corners: bool | None) -> bool:
    if align_corners is None:
        warnings.warn(
            "Default grid_sample and affine_grid behavior has changed to align_corners=False since 1.3.0. Please "
            f"specify align_corners=True if the old behavior is desired; see {function}.",
            stacklevel=3,
        )
    return bool(align_corners)


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The places in an input image, for `grid_sample`, of the pixels of an output image that `theta` maps.

    Shapes: theta [N, 2, 3] and size (N, C, H, W) -> [N, H, W, 2]; theta [N, 3, 4] and size (N, C, D, H, W) ->
    [N, D, H, W, 3].

    Raises:
        ShapeError: shapes that do not fit, sizes below 1. RuntimeError: `theta` of integers.

    >>> import juanji as jj
    >>> affine_grid(jj.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]), (1, 1, 1, 2), align_corners=True).tolist()
    [[[[-1.0, 0.0], [1.0, 0.0]]]]
    """
    floating("affine_grid", theta=theta)
    aligned = _aligned("affine_grid", align_corners)
    sizes = tuple(int(e) for e in size)
    if len(sizes) not in (4, 5):
        raise ShapeError(f"affine_grid: size={size!r} must be (N, C, H, W) or (N, C, D, H, W)")
    if min(sizes) < 1:
        raise ShapeError(f"affine_grid: size={size!r}: expected non-zero, positive output size")
    rank = len(sizes) - 2
    if tuple(theta.shape) != (sizes[0], rank, rank + 1):
        raise ShapeError(
            f"affine_grid: expected a batch of {rank}D affine matrices of shape {show((sizes[0], rank, rank + 1))} for "
            f"size {size!r}, got theta {show(theta.shape)}"
        )
    spatial = sizes[2:]
    axes = []
    for n in spatial:
        line = np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
        axes.append(line if aligned else line * (n - 1) / n)
    mesh = np.meshgrid(*axes, indexing="ij")[::-1]  # x, the last dimension, comes first
    base = np.stack([*mesh, np.ones(spatial)], -1).reshape(-1, rank + 1).astype(theta.dtype.numpy)
    points: Any = constant(base.tobytes(), str(base.dtype), base.shape)
    result: Tensor = points.unsqueeze(0).expand(sizes[0], *base.shape) @ theta.transpose(1, 2)
    return result.reshape(sizes[0], *spatial, rank)


def _clipped(c: Any, size: int) -> Any:
    """Coordinates cut to the image, NaN to its beginning; at and beyond its borders they have no gradient."""
    low, high = c.new_scalar(0), c.new_scalar(size - 1)
    return ew.where(ew.gt(c, low), ew.where(ew.ge(c, high), high, c), low)


def _reflected(c: Any, size: int, aligned: bool) -> Any:
    """Coordinates mirrored at the borders (with `aligned` at the border pixels' centres) until they are inside."""
    low, span = (0.0, size - 1.0) if aligned else (-0.5, float(size))
    if span <= 0:
        return c * 0
    distance = ew.abs_(c - low)
    turns = ew.floor(distance / span).detach()
    rest = distance - turns * span
    odd = ew.ne(turns - ew.floor(turns / 2) * 2, c.new_scalar(0))
    return ew.where(odd, span - rest, rest) + low


def _padded(c: Any, size: int, mode: str, aligned: bool) -> Any:
    if mode == "zeros":
        return c
    return _clipped(_reflected(c, size, aligned) if mode == "reflection" else c, size)


class _Image:
    """[N, C, *sizes], read at whole coordinates that are tensors [N, P]; zero outside."""

    def __init__(self, input: Any) -> None:
        self.sizes = input.shape[2:]
        self.flat = input.reshape(*input.shape[:2], math.prod(self.sizes))

    def read(self, places: Sequence[Any]) -> Any:
        """The pixels at one whole coordinate a dimension, as [N, C, P]."""
        inside: Any = None
        for place, size in zip(places, self.sizes, strict=True):
            here = ew.bitwise_and(
                ew.ge(place, place.new_scalar(0)), ew.le(place, place.new_scalar(size - 1))
            )  # false for NaN
            inside = here if inside is None else ew.bitwise_and(inside, here)
        index: Any = None
        for place, size in zip(places, self.sizes, strict=True):
            whole = ew.cast(ew.where(inside, place, place.new_scalar(0)).detach(), dtype=int64.short)
            index = whole if index is None else index * size + whole
        n, channels, _ = self.flat.shape
        points = index.shape[1]
        index = index.unsqueeze(1).expand(n, channels, points)
        pixels = table.gather(self.flat, index, dim=2)
        return ew.where(inside.unsqueeze(1), pixels, pixels.new_scalar(0))


def _linear(image: _Image, places: Sequence[Any]) -> Any:
    corners = [(ew.floor(c), c) for c in places]
    result: Any = None
    for corner in itertools.product((0, 1), repeat=len(places)):
        weight: Any = None
        at = []
        for side, (low, c) in zip(corner, corners, strict=True):
            at.append(low + 1 if side else low)
            share = c - low if side else (low + 1) - c
            weight = share if weight is None else weight * share
        part = image.read(at) * weight.unsqueeze(1)
        result = part if result is None else result + part
    return result


def _cubic_weights(t: Any) -> list[Any]:
    """Keys' cubic kernel (1981) with a = -0.75 at the distances 1 + t, t, 1 - t and 2 - t."""
    a = -0.75

    def near(d: Any) -> Any:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Any) -> Any:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _cubic(image: _Image, places: Sequence[Any], mode: str, aligned: bool) -> Any:
    whole = [ew.floor(c) for c in places]
    weights = [_cubic_weights(c - low) for c, low in zip(places, whole, strict=True)]
    taps = [
        [ew.round_(_padded(low + float(k), size, mode, aligned)) for k in range(-1, 3)]
        for low, size in zip(whole, image.sizes, strict=True)
    ]
    result: Any = None
    for i, j in itertools.product(range(4), repeat=2):
        part = image.read((taps[0][i], taps[1][j])) * (weights[0][i] * weights[1][j]).unsqueeze(1)
        result = part if result is None else result + part
    return result


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """`input` read at the places that `grid` gives: (x, y) or (x, y, z), -1 and 1 being the borders of the image.

    Shapes: input [N, C, H, W], grid [N, H', W', 2] -> [N, C, H', W']; or input [N, C, D, H, W], grid
    [N, D', H', W', 3] -> [N, C, D', H', W'].

    Args:
        mode: "bilinear" (trilinear for volumes), "nearest", or "bicubic" (images only).
        padding_mode: what is outside: "zeros", "border" (the nearest border pixel), "reflection" (mirrored).
        align_corners: -1 and 1 are the centres of the border pixels, not their outer edges.

    Raises:
        ShapeError: shapes that do not fit, an unknown mode. RuntimeError: integers.

    >>> import juanji as jj
    >>> x = jj.tensor([[[[0.0, 4.0]]]])
    >>> grid_sample(x, jj.tensor([[[[0.0, 0.0], [0.5, 0.0]]]]), align_corners=True).tolist()
    [[[[2.0, 3.0]]]]
    """
    floating("grid_sample", input=input, grid=grid)
    need_same_dtype("grid_sample", input=input, grid=grid)
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ShapeError(f"grid_sample: mode={mode!r} must be 'bilinear', 'nearest' or 'bicubic'")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ShapeError(f"grid_sample: padding_mode={padding_mode!r} must be 'zeros', 'border' or 'reflection'")
    aligned = _aligned("grid_sample", align_corners)
    rank = input.ndim - 2
    if rank not in (2, 3) or grid.ndim != input.ndim:
        raise ShapeError(
            f"grid_sample: expected 4D or 5D input and grid with same number of dimensions, but got input "
            f"{show(input.shape)} and grid {show(grid.shape)}"
        )
    if grid.shape[0] != input.shape[0] or grid.shape[-1] != rank:
        raise ShapeError(
            f"grid_sample: grid {show(grid.shape)} must have the batch size {input.shape[0]} of input "
            f"{show(input.shape)} and {rank} coordinates in its last dimension"
        )
    if 0 in input.shape[2:]:
        raise ShapeError(f"grid_sample: expected input to have non-empty spatial dimensions, got {show(input.shape)}")
    if mode == "bicubic" and rank == 3:
        raise ShapeError("grid_sample: bicubic interpolation only supports 4D input")
    n, points = input.shape[0], math.prod(grid.shape[1:-1])
    image = _Image(input)
    flat: Any = grid.reshape(n, points, rank)
    places = []
    for k, size in enumerate(image.sizes):
        c = flat[:, :, rank - 1 - k]
        c = (c + 1) * ((size - 1) / 2) if aligned else ((c + 1) * size - 1) / 2
        places.append(c if mode == "bicubic" else _padded(c, size, padding_mode, aligned))
    if mode == "bilinear":
        result = _linear(image, places)
    elif mode == "nearest":
        result = image.read([ew.round_(c) for c in places])
        if grid.requires_grad:
            result = result + (flat.sum() * 0).reshape(1, 1, 1)  # the gradient of the grid is zero, not missing
    else:
        result = _cubic(image, places, padding_mode, aligned)
    final: Tensor = result.reshape(n, input.shape[1], *grid.shape[1:-1])
    return final


__all__ = ["affine_grid", "grid_sample"]
