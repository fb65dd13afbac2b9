"""Images of another size, as functions: nearest, linear, cubic and area interpolation, with and without antialiasing.

All modes work along one axis after the other. Where an output reads and with which weights only depends on sizes: these
tables are made in NumPy, in the arithmetic PyTorch uses, and kept.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji.dtypes import float32, float64, uint8
from juanji.errors import ShapeError
from juanji.nn.functional.padding import constant, picked
from juanji.ops import elementwise as ew
from juanji.spec import show
from juanji.tensors import Tensor
from juanji.tensors.base import need_tensor

#: The modes and how many dimensions an image may have for each; those in `_CORNERS` know `align_corners`.
_RANKS = {
    "nearest": (1, 2, 3),
    "nearest-exact": (1, 2, 3),
    "area": (1, 2, 3),
    "linear": (1,),
    "bilinear": (2,),
    "bicubic": (2,),
    "trilinear": (3,),
}
_CORNERS = ("linear", "bilinear", "bicubic", "trilinear")
Taps = tuple[NDArray[Any], NDArray[Any]]


def _sizes(name: str, given: Any, rank: int, integers: bool) -> list[Any]:
    items = list(given) if isinstance(given, (tuple, list)) else [given] * rank
    if len(items) != rank:
        raise ShapeError(f"interpolate: {name}={given!r} must be one number or {rank}, one for each spatial dimension")
    for item in items:
        if isinstance(item, bool) or (integers and not hasattr(item, "__index__")) or not hasattr(item, "__float__"):
            raise TypeError(f"interpolate: {name}={given!r} must be {'integers' if integers else 'numbers'}")
        if not item > 0 or not math.isfinite(item):
            raise ShapeError(f"interpolate: {name}={given!r} must be greater than 0")
    return [int(i) if integers else float(i) for i in items]


def _step(size: int, out: int, align: bool, scale: float | None, kind: Any) -> Any:
    """How far apart in the input neighbouring outputs are."""
    if align:
        return kind(size - 1) / kind(out - 1) if out > 1 else kind(0)
    return kind(1.0 / scale) if scale is not None else kind(size) / kind(out)


def _cubic(t: Any, a: float) -> Any:
    """Keys' cubic kernel (1981) at distances `t`."""
    t = abs(t)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


@functools.lru_cache(maxsize=256)
def _taps(mode: str, size: int, out: int, align: bool, scale: float | None, smooth: bool, double: bool) -> Taps:
    """For each output: the inputs it reads, and their weights; zero where it reads fewer than others."""
    kind: Any = np.float64 if double else np.float32
    at = np.arange(out)
    if mode == "area":
        begin, end = at * size // out, -(-(at + 1) * size // out)
        index = begin[:, None] + np.arange(int((end - begin).max()))
        inside = index < end[:, None]
        return np.where(inside, index, 0), inside / kind(1) / (end - begin)[:, None].astype(kind)
    step = _step(size, out, align, scale, kind)
    if smooth:
        return _smooth_taps(mode, size, out, step, kind)
    if mode != "bicubic":
        if size == out:
            place = at.astype(kind)
        else:
            place = at.astype(kind) * step if align else np.maximum(step * (at.astype(kind) + kind(0.5)) - kind(0.5), 0)
        first = np.minimum(place.astype(np.int64), size - 1)
        part = np.clip(place - first.astype(kind), 0, 1).astype(kind)
        return np.stack([first, np.minimum(first + 1, size - 1)], 1), np.stack([kind(1) - part, part], 1)
    place = at.astype(kind) * step if align else step * (at.astype(kind) + kind(0.5)) - kind(0.5)
    first = np.floor(place)
    offsets = np.arange(-1, 3)
    weights = _cubic((place - first)[:, None] - offsets.astype(kind), -0.75)
    return np.clip(first.astype(np.int64)[:, None] + offsets, 0, size - 1), weights.astype(kind)


def _smooth_taps(mode: str, size: int, out: int, step: Any, kind: Any) -> Taps:
    """The kernel widened by the factor of shrinking, its weights made to sum to one, as Pillow does it."""
    reach = (2.0 if mode == "bicubic" else 1.0) * max(float(step), 1.0)
    center = step * (np.arange(out).astype(kind) + kind(0.5))
    begin = np.maximum((center - reach + 0.5).astype(np.int64), 0)
    end = np.minimum((center + reach + 0.5).astype(np.int64), size)
    index = begin[:, None] + np.arange(int((end - begin).max()))
    distance = (index - center[:, None] + kind(0.5)) / max(float(step), 1.0)
    weights = _cubic(distance, -0.5) if mode == "bicubic" else np.maximum(1 - abs(distance), 0)
    inside = index < end[:, None]
    weights = np.where(inside, weights, 0)
    return np.where(inside, index, 0), (weights / weights.sum(1, keepdims=True)).astype(kind)


def _fixed_point(weights: NDArray[Any]) -> NDArray[Any]:
    """Weights rounded to as many binary places as fit 16 bits: sums of bytes are then exact."""
    places = 0
    while places < 22 and int(0.5 + float(weights.max()) * 2 ** (places + 1)) < 2**15:
        places += 1
    scaled = weights * 2.0**places
    return np.asarray(np.trunc(scaled + np.copysign(0.5, scaled)) / 2.0**places, np.float32)


def _weighted(x: Any, d: int, taps: Taps) -> Any:
    """Along dimension `d`, the weighted sums of what the taps name."""
    index, weights = taps
    out, count = index.shape
    parts = picked(x, d, index.reshape(-1)).reshape(*x.shape[:d], out, count, *x.shape[d + 1 :])
    shape = (*(1,) * d, out, count, *(1,) * (x.ndim - d - 1))
    factors = constant(weights.tobytes(), str(weights.dtype), shape)
    if (weights == 0).any() and count > 2:
        # What is not read must not spread its NaN: zero times NaN is NaN.
        read = constant((weights != 0).tobytes(), "bool", shape)
        parts = ew.where(read, parts, parts.new_scalar(0))
    return (parts * factors).sum(d + 1)


def _nearest(x: Any, outs: Sequence[int], scales: Sequence[float | None], exact: bool) -> Any:
    places = []
    for size, out, scale in zip(x.shape[2:], outs, scales, strict=True):
        step = _step(size, out, False, scale, np.float32)
        at = np.arange(out).astype(np.float32) + np.float32(0.5 if exact else 0)
        if not exact and x.ndim == 4 and out in (size, 2 * size):  # whatever the factor was, in PyTorch's images only
            places.append(np.arange(out) // (out // size))
        else:
            places.append(np.minimum(np.floor(at * step).astype(np.int64), size - 1))
    factors = [out // size if out % size == 0 else 0 for size, out in zip(x.shape[2:], outs, strict=True)]
    if all(
        f and np.array_equal(p, np.arange(s) // f) for f, p, s in zip(factors, places, outs, strict=True)
    ):  # whole repetitions: one copy
        split = [e for size in x.shape[2:] for e in (size, 1)]
        repeated = [e for size, f in zip(x.shape[2:], factors, strict=True) for e in (size, f)]
        return x.reshape(*x.shape[:2], *split).expand(*x.shape[:2], *repeated).reshape(*x.shape[:2], *outs)
    for d, index in enumerate(places, 2):
        x = picked(x, d, index)
    return x


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Images of another size.

    Shapes: input [N, C, L], [N, C, H, W] or [N, C, D, H, W]; the result has the spatial sizes `size`, or those of the
    input times `scale_factor`, rounded down.

    Args:
        mode: "nearest", "nearest-exact" (rounds as Pillow does), "area" (means), "linear" (3-D input), "bilinear" and
            "bicubic" (4-D), "trilinear" (5-D).
        align_corners: for the last four: the corner pixels' centres stay, instead of the corners of the image.
        recompute_scale_factor: use the ratio of the sizes instead of `scale_factor` to find places.
        antialias: for "bilinear" and "bicubic": smooth what becomes smaller first.

    Raises:
        ShapeError: a shape, size or factor that cannot be, or a mode that does not suit. TypeError: not numbers.

    >>> import juanji as jj
    >>> interpolate(jj.tensor([[[0.0, 4.0]]]), size=4, mode="linear").tolist()
    [[[0.0, 1.0, 3.0, 4.0]]]
    """
    need_tensor(input, "input", "interpolate")
    if mode not in _RANKS:
        raise ShapeError(f"interpolate: mode={mode!r} is not valid; use {', '.join(map(repr, _RANKS))}")
    rank = input.ndim - 2
    if rank not in _RANKS[mode]:
        valid = " or ".join(str(r + 2) for r in _RANKS[mode])
        raise ShapeError(
            f"interpolate: mode {mode!r} needs an input of {valid} dimensions [N, C, spatial], got {show(input.shape)}"
        )
    if align_corners is not None and mode not in _CORNERS:
        raise ShapeError(
            f"interpolate: align_corners={align_corners} can only be set with the modes linear, bilinear, bicubic and "
            f"trilinear, not {mode!r}"
        )
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ShapeError(f"interpolate: antialias needs mode 'bilinear' or 'bicubic', not {mode!r}")
    if (size is None) == (scale_factor is None):
        raise ShapeError(
            f"interpolate: only one of size and scale_factor should be defined, got {size!r} and {scale_factor!r}"
        )
    if recompute_scale_factor and size is not None:
        raise ShapeError("interpolate: recompute_scale_factor is not meaningful with an explicit size")
    if 0 in input.shape[1:]:
        raise ShapeError(f"interpolate: input must be non-empty but for the batch, got {show(input.shape)}")
    scales: list[float | None] = [None] * rank
    if size is not None:
        outs = _sizes("size", size, rank, True)
    else:
        factors = _sizes("scale_factor", scale_factor, rank, False)
        outs = [math.floor(float(e) * f) for e, f in zip(input.shape[2:], factors, strict=True)]
        if min(outs) < 1:
            raise ShapeError(f"interpolate: scale_factor={scale_factor!r} leaves nothing of input {show(input.shape)}")
        if not recompute_scale_factor:
            scales = list(factors)
    result: Tensor
    if mode in ("nearest", "nearest-exact"):
        result = _nearest(input, outs, scales, mode == "nearest-exact")
        return result
    bytes_too = mode in ("bilinear", "bicubic")
    if input.dtype not in (float32, float64) and not (bytes_too and input.dtype is uint8):
        raise RuntimeError(f"interpolate: mode {mode!r} is not available for {input.dtype}")
    if tuple(outs) == tuple(input.shape[2:]) and (mode != "bicubic" or antialias):
        return input.clone()  # whatever the factor was
    result = input if input.dtype is not uint8 else input.float()
    for d in range(input.ndim - 1, 1, -1):  # the last first, as in the input's memory
        taps = _taps(
            mode, input.shape[d], outs[d - 2], bool(align_corners), scales[d - 2], bool(antialias),
            input.dtype is not float32,
        )  # fmt: skip
        if input.dtype is uint8:
            taps = taps[0], _fixed_point(taps[1])
        if mode == "bicubic" or antialias or input.shape[d] != outs[d - 2]:
            result = _weighted(result, d, taps)
            if input.dtype is uint8:
                result = (result + 0.5).floor().clamp(0, 255)
    return result.to(input.dtype)


def upsample(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """An old name of `interpolate`."""
    _old("upsample", "interpolate")
    return interpolate(input, size, scale_factor, mode, align_corners)


def _old(name: str, instead: str) -> None:
    warnings.warn(f"`nn.functional.{name}` is deprecated. Use `nn.functional.{instead}` instead.", stacklevel=3)


def upsample_nearest(
    input: Tensor, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None
) -> Tensor:
    """An old name of `interpolate(mode="nearest")`."""
    _old("upsample_nearest", "interpolate")
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(
    input: Tensor, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None
) -> Tensor:
    """An old name of `interpolate(mode="bilinear", align_corners=True)`."""
    _old("upsample_bilinear", "interpolate")
    return interpolate(input, size, scale_factor, "bilinear", True)


__all__ = ["interpolate", "upsample", "upsample_bilinear", "upsample_nearest"]
