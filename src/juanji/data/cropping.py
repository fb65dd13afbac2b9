"""Parts of pictures at random places, with something around the picture where asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from juanji.data._pictures import back, is_picture, pair, tensor_or_array
from juanji.data._tensors import Array
from juanji.data.augmentation import fill_colour
from juanji.data.randomness import uniform, uniform_batch

_MODES = ("constant", "edge", "reflect", "symmetric")


class RandomCrop:
    """A part of a Pillow picture, tensor or array (..., H, W), at a random place.

    Args:
        size: (height, width), or one number for both.
        padding: pixels added on every side first; or (left and right, top and bottom); or (left, top, right,
            bottom).
        pad_if_needed: add as many pixels on both sides as a picture that is smaller than the part lacks.
        fill: what "constant" adds: a number, or one for each channel.
        padding_mode: "constant"; "edge" repeats the last pixels; "reflect" mirrors without them, "symmetric"
            with them.

    Raises:
        ValueError: a picture that is smaller than the part; arguments that are not as above.

    >>> RandomCrop(4, padding=1, fill=9)(np.zeros((1, 2, 2))).tolist()
    [[[9.0, 9.0, 9.0, 9.0], [9.0, 0.0, 0.0, 9.0], [9.0, 0.0, 0.0, 9.0], [9.0, 9.0, 9.0, 9.0]]]
    """

    def __init__(
        self,
        size: int | Sequence[int],
        padding: int | Sequence[int] | None = None,
        pad_if_needed: bool = False,
        fill: float | Sequence[float] | None = 0,
        padding_mode: str = "constant",
    ) -> None:
        self.size = pair(size)
        self.padding = padding
        self._sides = _sides(padding)
        if padding_mode not in _MODES:
            raise ValueError(f"padding_mode={padding_mode!r} is unknown; valid are {', '.join(_MODES)}")
        self.pad_if_needed = pad_if_needed
        self.fill = fill
        self.padding_mode = padding_mode
        self._plain = fill in (0, None) and padding_mode == "constant"

    def __call__(self, picture: Any) -> Any:
        """A part of the picture."""
        height, width = self.size
        pillow = is_picture(picture)
        values = None if pillow else tensor_or_array(self, picture)
        have_h, have_w = picture.size[::-1] if values is None else values.shape[-2:]
        sides = self._around(have_h, have_w)
        tops, lefts = self._corners(uniform(2)[None], have_h, have_w, sides)
        top, left = int(tops[0]), int(lefts[0])
        if values is not None:
            padded = self._padded(values, values.ndim - 2, values.ndim - 3, sides)
            return back(picture, padded[..., top : top + height, left : left + width].copy())
        if self._plain:  # Pillow adds black by itself
            left, top = left - sides[0], top - sides[1]
        elif any(sides):
            picture = self._around_picture(picture, sides)
        return picture.crop((left, top, left + width, top + height))

    def batch(self, pictures: Array) -> Array:
        """The same for uint8 pictures (N, H, W) or (N, H, W, C), or others (N, C, H, W)."""
        height, width = self.size
        first = 1 if pictures.dtype == np.uint8 else 2  # the axis of the rows
        have_h, have_w = pictures.shape[first : first + 2]
        sides = self._around(have_h, have_w)
        tops, lefts = self._corners(uniform_batch(len(pictures), 2), have_h, have_w, sides)
        channels = 1 if first == 2 else 3 if pictures.ndim == 4 else -1
        padded = self._padded(pictures, first, channels, sides)
        windows = sliding_window_view(padded, (height, width), axis=(first, first + 1))
        places: tuple[Any, ...] = (np.arange(len(pictures)), *([slice(None)] * (first - 1)), tops, lefts)
        cropped = windows[places]
        # (N, h, w), (N, C, h, w) from pictures (N, C, h, w), or the same from pictures (N, H, W, C)
        return np.moveaxis(cropped, 1, 3) if first == 1 and pictures.ndim == 4 else cropped

    def _around(self, height: int, width: int) -> tuple[int, int, int, int]:
        """What is added to a picture of this size: (left, top, right, bottom)."""
        left, top, right, bottom = self._sides
        if self.pad_if_needed:
            across = max(self.size[1] - width - left - right, 0)
            down = max(self.size[0] - height - top - bottom, 0)
            left, top, right, bottom = left + across, top + down, right + across, bottom + down
        return left, top, right, bottom

    def _corners(self, random: Array, height: int, width: int, sides: tuple[int, int, int, int]) -> tuple[Array, Array]:
        """The upper left corners within the padded picture that the random numbers (N, 2) choose."""
        left, top, right, bottom = sides
        room = (height + top + bottom - self.size[0], width + left + right - self.size[1])
        if min(room) < 0:
            raise ValueError(
                f"RandomCrop(size={self.size}, padding={self.padding}) is larger than the picture, {height} x {width}"
            )
        return tuple((random * [room[0] + 1, room[1] + 1]).astype(np.intp).T)

    def _padded(self, values: Array, rows: int, channels: int, sides: tuple[int, int, int, int]) -> Array:
        """`values` with something around, where `rows` is the axis of the rows and `channels` theirs (or -1)."""
        left, top, right, bottom = sides
        widths = [(0, 0)] * values.ndim
        widths[rows : rows + 2] = (top, bottom), (left, right)
        if not any(sides):
            return values
        if self.padding_mode != "constant":
            mode: Any = self.padding_mode
            around: Array = np.pad(values, widths, mode)
            return around
        fill = np.asarray(0 if self.fill is None else self.fill)
        if fill.ndim:
            count = values.shape[channels] if channels >= 0 else 1
            if fill.shape not in ((1,), (count,)):
                raise ValueError(f"fill={self.fill!r} has {fill.size} channels, and the picture {count}")
            if channels >= 0:
                fill = fill.reshape([-1 if axis == channels else 1 for axis in range(values.ndim)])
        out = np.empty([n + sum(w) for n, w in zip(values.shape, widths, strict=True)], values.dtype)
        out[...] = fill
        out[tuple(slice(a, a + n) for n, (a, _) in zip(values.shape, widths, strict=True))] = values
        return out

    def _around_picture(self, picture: Any, sides: tuple[int, int, int, int]) -> Any:
        from PIL import Image, ImageOps

        if self.padding_mode == "constant":
            return ImageOps.expand(picture, sides, fill_colour(picture, self.fill))
        values = np.asarray(picture.convert("RGB") if picture.mode in ("P", "CMYK", "HSV", "LAB", "YCbCr") else picture)
        return Image.fromarray(self._padded(values, 0, 2 if values.ndim == 3 else -1, sides))

    def __repr__(self) -> str:
        more = f", pad_if_needed={self.pad_if_needed}" if self.pad_if_needed else ""
        if not self._plain:
            more += f", fill={self.fill}, padding_mode={self.padding_mode}"
        return f"RandomCrop(size={self.size}, padding={self.padding}{more})"


def _sides(padding: int | Sequence[int] | None) -> tuple[int, int, int, int]:
    """(left, top, right, bottom)."""
    if padding is None:
        return 0, 0, 0, 0
    if not isinstance(padding, int) and len(padding) == 4:
        (left, top), (right, bottom) = (pair(half, "padding", least=0) for half in (padding[:2], padding[2:]))
        return left, top, right, bottom
    across, down = pair(padding, "padding", least=0)
    return across, down, across, down
