"""Padding and rearranging pixels, as functions."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from juanji import tensors as T
from juanji.errors import ShapeError
from juanji.ops import shape as shapes
from juanji.ops import table
from juanji.spec import show
from juanji.tensors import Tensor
from juanji.tensors import arithmetic as ar
from juanji.tensors.base import need_tensor

MODES = ("constant", "reflect", "replicate", "circular")


@functools.lru_cache(maxsize=512)
def constant(numbers: bytes, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor that is made once: tables of indices and weights, which only depend on sizes. Never written to."""
    return T.tensor(np.frombuffer(numbers, dtype).reshape(shape))


def picked(x: Any, dim: int, index: Any) -> Any:
    """The slices of `x` along `dim` at the places of a NumPy vector of indices."""
    places = constant(np.ascontiguousarray(index, np.int64).tobytes(), "int64", (len(index),))
    shape = tuple(len(index) if d == dim else e for d, e in enumerate(x.shape))
    along = places.reshape(tuple(len(index) if d == dim else 1 for d in range(x.ndim)))
    return table.gather(x, along.expand(shape), dim=dim)


def _pairs(pad: Any, rank: int) -> list[tuple[int, int]]:
    """(before, after) of each dimension from the first one on, of a list that begins with the last."""
    if not isinstance(pad, Sequence) or isinstance(pad, str):
        raise TypeError(f"pad: pad={pad!r} must be a sequence of integers")
    if any(isinstance(p, bool) or not hasattr(p, "__index__") for p in pad):
        raise TypeError(f"pad: pad={pad!r} must hold integers")
    numbers = [int(p) for p in pad]
    if len(numbers) % 2 or len(numbers) > 2 * rank:
        raise ShapeError(
            f"pad: pad={pad!r} has {len(numbers)} numbers; valid are pairs for up to {rank} dimensions, the last first"
        )
    pairs = [(numbers[i], numbers[i + 1]) for i in range(0, len(numbers), 2)]
    return [(0, 0)] * (rank - len(pairs)) + pairs[::-1]


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """`input` with borders around it; negative numbers cut borders off.

    Args:
        input: any shape; for other modes than "constant" [N, C, ...] or [C, ...], padded in its last dimensions.
        pad: (before, after) of the last dimension, then of the one before it, and so on.
        mode: "constant" (`value`, zero unless given), "reflect" (mirrored, without the border itself), "replicate"
            (the border repeated), "circular" (from the other end).
        value: for "constant" only.

    Raises:
        ShapeError: more than the input has to give, a negative size, too many or an odd number of numbers.
        ValueError: another mode, or a value where none is used.

    >>> import juanji as jj
    >>> import juanji.nn.functional as F
    >>> F.pad(jj.tensor([1, 2, 3]), (2, 1)).tolist()
    [0, 0, 1, 2, 3, 0]
    >>> F.pad(jj.tensor([[1.0, 2.0, 3.0]]), (2, 1), "reflect").tolist()
    [[3.0, 2.0, 1.0, 2.0, 3.0, 2.0]]
    """
    need_tensor(input, "input", "pad")
    pairs = _pairs(pad, input.ndim)
    if mode not in MODES:
        raise ShapeError(f"pad: mode={mode!r} is not valid; use 'constant', 'reflect', 'replicate' or 'circular'")
    sizes = [e + sum(p) for e, p in zip(input.shape, pairs, strict=True)]
    for d, (extent, size) in enumerate(zip(input.shape, sizes, strict=True)):
        if size < 0:
            raise ShapeError(
                f"pad: the padding {pairs[d]} of dimension {d}, whose size is {extent}, leaves the negative size {size}"
            )
    if mode == "constant":
        return _constant(input, pairs, 0 if value is None else value)
    if value is not None and value != 0:
        raise ShapeError(f"pad: padding mode {mode!r} does not take a value, but value={value}")
    return _from_inside(input, pairs, mode, len(pad) // 2)


def _constant(x: Any, pairs: list[tuple[int, int]], value: float) -> Tensor:
    inside = tuple((max(-a, 0), max(e - max(-b, 0), max(-a, 0)), 1) for e, (a, b) in zip(x.shape, pairs, strict=True))
    kept = x if all(i == (0, e, 1) for i, e in zip(inside, x.shape, strict=True)) else shapes.slice_(x, bounds=inside)
    result: Tensor
    if not any(a > 0 or b > 0 for a, b in pairs):
        result = kept.clone()
        return result
    sizes = tuple(e + max(a, 0) + max(b, 0) for e, (a, b) in zip(kept.shape, pairs, strict=True))
    # A dimension may be cut by more than it has and then extended: what is left begins inside of the border.
    places = tuple((max(a, 0), max(a, 0) + e, 1) for e, (a, _) in zip(kept.shape, pairs, strict=True))
    around = x.new_full(sizes, ar.scalar(value, x.dtype).item() if not x.dtype.is_floating_point else value)
    result = shapes.view_write(around, kept, chain=(("slice", (("bounds", places),)),))
    return result


def _from_inside(x: Any, pairs: list[tuple[int, int]], mode: str, count: int) -> Tensor:
    if not 1 <= count <= 3 or x.ndim not in (count + 1, count + 2):
        raise ShapeError(
            f"pad: mode {mode!r} pads the last 1 to 3 dimensions of an input with one or two more; got {2 * count} "
            f"numbers for input of shape {show(x.shape)}"
        )
    if any(e == 0 for e in x.shape[-count - 1 :]):
        raise ShapeError(f"pad: mode {mode!r}: expected no extent of 0 but that of the batch, got {show(x.shape)}")
    result = x
    for d, (before, after) in enumerate(pairs):
        n = x.shape[d]
        if not before and not after:
            continue
        most = {"reflect": n - 1, "circular": n}.get(mode)
        if most is not None and max(before, after) > most:
            raise ShapeError(
                f"pad: padding size should be less than the corresponding input dimension: ({before}, {after}) of "
                f"dimension {d} with mode {mode!r} is too much for input {show(x.shape)}; at most {most} is valid"
            )
        if n + before + after < 1:
            raise ShapeError(f"pad: the padding ({before}, {after}) leaves nothing of dimension {d} of {show(x.shape)}")
        places = np.arange(-before, n + after)
        if mode == "circular":  # what negative numbers cut off does not come back from the other end
            kept = np.arange(max(-before, 0), n - max(-after, 0))
            places = kept[np.arange(-max(before, 0), len(kept) + max(after, 0)) % max(len(kept), 1)]
        elif mode == "replicate":
            places = places.clip(0, n - 1)
        else:
            places = abs(places)
            places = np.where(places < n, places, 2 * (n - 1) - places)
        result = picked(result, d, places)
    return result.clone() if result is x else result  # type: ignore[no-any-return]


def _factor(function: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{function}: {name}={value!r} must be an integer")
    if int(value) < 1:
        raise ShapeError(f"{function}: {name}={value} must be positive")
    return int(value)


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Channels become pixels (Shi et al. 2016): [..., C r^2, H, W] to [..., C, H r, W r].

    Raises:
        ShapeError: fewer than 3 dimensions, channels that r^2 does not divide.

    >>> import juanji as jj
    >>> pixel_shuffle(jj.arange(4).reshape(4, 1, 1), 2).tolist()
    [[[0, 1], [2, 3]]]
    """
    need_tensor(input, "input", "pixel_shuffle")
    r = _factor("pixel_shuffle", "upscale_factor", upscale_factor)
    if input.ndim < 3:
        raise ShapeError(f"pixel_shuffle expects input with at least 3 dimensions, but got {show(input.shape)}")
    *lead, channels, height, width = input.shape
    if channels % (r * r):
        raise ShapeError(
            f"pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of "
            f"upscale_factor={r}, but got {channels} channels in {show(input.shape)}"
        )
    n = len(lead)
    x = input.reshape(*lead, channels // (r * r), r, r, height, width)
    x = x.permute(*range(n + 1), n + 3, n + 1, n + 4, n + 2)
    return x.reshape(*lead, channels // (r * r), height * r, width * r)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """The inverse of `pixel_shuffle`: [..., C, H r, W r] to [..., C r^2, H, W].

    Raises:
        ShapeError: fewer than 3 dimensions, a height or width that r does not divide.

    >>> import juanji as jj
    >>> pixel_unshuffle(jj.arange(4).reshape(1, 2, 2), 2).flatten().tolist()
    [0, 1, 2, 3]
    """
    need_tensor(input, "input", "pixel_unshuffle")
    r = _factor("pixel_unshuffle", "downscale_factor", downscale_factor)
    if input.ndim < 3:
        raise ShapeError(f"pixel_unshuffle expects input with at least 3 dimensions, but got {show(input.shape)}")
    *lead, channels, height, width = input.shape
    if height % r or width % r:
        raise ShapeError(
            f"pixel_unshuffle expects height and width to be divisible by downscale_factor={r}, but got "
            f"{show(input.shape)}"
        )
    n = len(lead)
    x = input.reshape(*lead, channels, height // r, r, width // r, r)
    x = x.permute(*range(n + 1), n + 2, n + 4, n + 1, n + 3)
    return x.reshape(*lead, channels * r * r, height // r, width // r)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """The channels of [N, C, ...] dealt out: one of each of the `groups` in turn (Zhang et al. 2018).

    Raises:
        ShapeError: fewer than 3 dimensions, channels that `groups` does not divide.

    >>> import juanji as jj
    >>> channel_shuffle(jj.arange(4).reshape(1, 4, 1), 2).flatten().tolist()
    [0, 2, 1, 3]
    """
    need_tensor(input, "input", "channel_shuffle")
    count = _factor("channel_shuffle", "groups", groups)
    if input.ndim < 3:
        raise ShapeError(f"channel_shuffle expects input with at least 3 dimensions, but got {show(input.shape)}")
    channels = input.shape[1]
    if channels % count:
        raise ShapeError(f"channel_shuffle: groups={count} must divide the {channels} channels of {show(input.shape)}")
    x = input.reshape(input.shape[0], count, channels // count, *input.shape[2:]).transpose(1, 2)
    return x.reshape(input.shape)


__all__ = ["channel_shuffle", "pad", "pixel_shuffle", "pixel_unshuffle"]
