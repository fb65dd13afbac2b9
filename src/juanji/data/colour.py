"""Random changes of a picture's colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from juanji.data._pictures import back, between, is_picture, tensor_or_array
from juanji.data._tensors import Array
from juanji.data.randomness import uniform

_WEIGHTS = np.array([0.2989, 0.587, 0.114])  # ITU-R BT.601, in torchvision's digits


class ColorJitter:
    """Brightness, contrast, saturation and hue changed at random, in a random order.

    Takes a Pillow picture, or a floating-point tensor or array (..., C, H, W) of 0..1 with 1 or 3 channels.
    What has no colour keeps its saturation and hue.

    Args:
        brightness: factors are drawn between max(0, 1 - brightness) and 1 + brightness, or between the two
            given numbers.
        contrast: likewise.
        saturation: likewise.
        hue: shifts are drawn between -hue and hue, at most 0.5, or between the two given numbers; 1 is once
            round the circle of colours.

    Raises:
        ValueError: numbers out of range.
        TypeError: when called with integers in a tensor.

    >>> from PIL import Image
    >>> ColorJitter(brightness=(0.5, 0.5))(Image.new("L", (1, 1), 100)).getpixel((0, 0))
    50
    """

    def __init__(
        self,
        brightness: float | Sequence[float] | None = None,
        contrast: float | Sequence[float] | None = None,
        saturation: float | Sequence[float] | None = None,
        hue: float | Sequence[float] | None = None,
    ) -> None:
        self.brightness = _range("brightness", brightness)
        self.contrast = _range("contrast", contrast)
        self.saturation = _range("saturation", saturation)
        self.hue = _range("hue", hue, 0.0, -0.5, 0.5)

    def __call__(self, picture: Any) -> Any:
        """The picture in other colours."""
        pillow = is_picture(picture)
        values: Any = picture if pillow else tensor_or_array(self, picture)
        if not pillow:
            if values.dtype.kind != "f":
                raise TypeError(f"ColorJitter takes floating-point values, and got {values.dtype}; use ToTensor()")
            if values.ndim < 3 or values.shape[-3] not in (1, 3):
                raise ValueError(f"ColorJitter takes pictures (..., 1 or 3, H, W), and got shape {values.shape}")
        changes = (
            (self.brightness, adjust_brightness),
            (self.contrast, adjust_contrast),
            (self.saturation, adjust_saturation),
            (self.hue, adjust_hue),
        )
        drawn = uniform(2 * len(changes))
        for k in np.argsort(drawn[len(changes) :]):
            limits, change = changes[k]
            if limits is not None:
                values = change(values, limits[0] + (limits[1] - limits[0]) * float(drawn[k]))
        return values if pillow else back(picture, values)

    def __repr__(self) -> str:
        given = ("brightness", "contrast", "saturation", "hue")
        return f"ColorJitter({', '.join(f'{name}={getattr(self, name)}' for name in given)})"


def _range(
    name: str, value: float | Sequence[float] | None, middle: float = 1.0, least: float = 0.0, most: float = 1e6
) -> tuple[float, float] | None:
    if value is None:
        return None
    if isinstance(value, (int, float)):
        if not 0 <= value <= most:
            raise ValueError(f"{name}={value!r} must be between 0 and {most:g}")
        value = (max(middle - value, least), middle + value)
    low, high = between(value, name, least)
    if high > most:
        raise ValueError(f"{name}={value!r} must be at most {most:g}")
    return None if low == high == middle else (low, high)


def adjust_brightness(picture: Any, factor: float) -> Any:
    """All values times `factor`."""
    if is_picture(picture):
        return _enhanced("Brightness", picture, factor)
    return _blend(picture, np.zeros((), picture.dtype), factor)


def adjust_contrast(picture: Any, factor: float) -> Any:
    """The distance of all values from the picture's mean grey times `factor`."""
    if is_picture(picture):
        return _enhanced("Contrast", picture, factor)
    return _blend(picture, _grey(picture).mean((-3, -2, -1), keepdims=True), factor)


def adjust_saturation(picture: Any, factor: float) -> Any:
    """The distance of all values from their pixel's grey times `factor`."""
    if is_picture(picture):
        return _enhanced("Color", picture, factor)
    return picture if picture.shape[-3] == 1 else _blend(picture, _grey(picture), factor)


def adjust_sharpness(picture: Any, factor: float) -> Any:
    """A Pillow picture, less smooth for a factor above 1."""
    return _enhanced("Sharpness", picture, factor)


def adjust_hue(picture: Any, shift: float) -> Any:
    """All colours moved round the circle of colours by `shift`, where 1 is once round."""
    if is_picture(picture):
        return _pillow_hue(picture, shift)
    if picture.shape[-3] == 1:
        return picture
    hue, saturation, value = _hsv(np.moveaxis(picture, -3, 0).astype(np.float64))
    turned = np.moveaxis(_rgb((hue + shift) % 1.0, saturation, value), 0, -3)
    return turned.astype(picture.dtype)


def _enhanced(name: str, picture: Any, factor: float) -> Any:
    from PIL import ImageEnhance

    enhance: Callable[..., Any] = getattr(ImageEnhance, name)
    return enhance(picture).enhance(factor)


def _pillow_hue(picture: Any, shift: float) -> Any:
    from PIL import Image

    if picture.mode in ("L", "1", "I", "F") or picture.mode.startswith("I;16"):
        return picture
    hue, saturation, value = picture.convert("HSV").split()
    turned = (np.asarray(hue).astype(np.int32) + int(shift * 255)) & 255  # a circle of 256 steps
    return Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value)).convert(picture.mode)


def _blend(values: Array, other: Array, factor: float) -> Array:
    mixed = values * values.dtype.type(factor) + other * values.dtype.type(1 - factor)
    clipped: Array = np.clip(mixed, 0, 1).astype(values.dtype, copy=False)
    return clipped


def _grey(values: Array) -> Array:
    """(..., 1, H, W)."""
    if values.shape[-3] == 1:
        return values
    weights = _WEIGHTS.astype(values.dtype)[:, None, None]
    grey: Array = (values * weights).sum(-3, keepdims=True)
    return grey


def _hsv(rgb: Array) -> tuple[Array, Array, Array]:
    """Hue, saturation and value of (3, ...), each between 0 and 1 (Smith 1978)."""
    value, least = rgb.max(0), rgb.min(0)
    spread = value - least
    safe = np.where(spread == 0, 1, spread)
    red, green, blue = rgb
    sector = np.where(
        value == red,
        (green - blue) / safe % 6,
        np.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    return np.where(spread == 0, 0, sector / 6), spread / np.where(value == 0, 1, value), value


def _rgb(hue: Array, saturation: Array, value: Array) -> Array:
    """(3, ...) of hue, saturation and value."""
    out = []
    for start in (5, 3, 1):  # red, green, blue
        sector = (start + hue * 6) % 6
        out.append(value - value * saturation * np.clip(np.minimum(sector, 4 - sector), 0, 1))
    return np.stack(out)
