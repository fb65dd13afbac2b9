"""RandAugment: a few operations drawn from fourteen, all of one strength."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from juanji.data._pictures import interpolation_number, need_picture
from juanji.data.augmentation import fill_colour
from juanji.data.colour import adjust_brightness, adjust_contrast, adjust_saturation, adjust_sharpness
from juanji.data.randomness import uniform

if TYPE_CHECKING:
    from PIL import Image

#: The operations, in torchvision's order.
OPERATIONS = (
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
)
# Strengths at the last step, for those that go either way; a translation is a part of the width or height.
_LIMITS = {
    "ShearX": 0.3,
    "ShearY": 0.3,
    "TranslateX": 150 / 331,
    "TranslateY": 150 / 331,
    "Rotate": 30.0,
    "Brightness": 0.9,
    "Color": 0.9,
    "Contrast": 0.9,
    "Sharpness": 0.9,
}


class RandAugment:
    """`num_ops` operations drawn at random, each applied to a Pillow picture with the same strength.

    The method is that of Cubuk et al. 2020 with torchvision's operations and strengths.

    Args:
        num_ops: how many operations, one after another.
        magnitude: the strength, 0 to num_magnitude_bins - 1.
        num_magnitude_bins: how many strengths there are.
        interpolation: "nearest", "bilinear" or "bicubic", for what moves pixels.
        fill: the colour of what comes in from outside, a number or one for each channel; None is black.

    Raises:
        ValueError: numbers out of range.
        TypeError: when called with something that is no Pillow picture.

    >>> from PIL import Image
    >>> RandAugment(num_ops=3)(Image.new("RGB", (8, 8), (200, 100, 0))).size
    (8, 8)
    """

    def __init__(
        self,
        num_ops: int = 2,
        magnitude: int = 9,
        num_magnitude_bins: int = 31,
        interpolation: str = "nearest",
        fill: float | Sequence[float] | None = None,
    ) -> None:
        if num_ops < 0:
            raise ValueError(f"num_ops={num_ops!r} must be 0 or more")
        if num_magnitude_bins < 2:
            raise ValueError(f"num_magnitude_bins={num_magnitude_bins!r} must be 2 or more")
        if not 0 <= magnitude < num_magnitude_bins:
            raise ValueError(f"magnitude={magnitude!r} must be between 0 and num_magnitude_bins - 1")
        self.num_ops = num_ops
        self.magnitude = magnitude
        self.num_magnitude_bins = num_magnitude_bins
        self._resample = interpolation_number(interpolation, ("nearest", "bilinear", "bicubic"))
        self.interpolation = interpolation
        self.fill = fill

    def __call__(self, picture: Image.Image) -> Image.Image:
        """The changed picture."""
        need_picture(self, picture)
        strength = self.magnitude / (self.num_magnitude_bins - 1)
        for which, side in uniform(2 * self.num_ops).reshape(self.num_ops, 2):
            name = OPERATIONS[int(which * len(OPERATIONS))]
            picture = apply(picture, name, -strength if side < 0.5 else strength, self._resample, self.fill)
        return picture

    def __repr__(self) -> str:
        return (
            f"RandAugment(num_ops={self.num_ops}, magnitude={self.magnitude},"
            f" num_magnitude_bins={self.num_magnitude_bins}, interpolation={self.interpolation}, fill={self.fill})"
        )


def apply(
    picture: Image.Image,
    name: str,
    strength: float,
    resample: Any = 0,
    fill: float | Sequence[float] | None = None,
) -> Image.Image:
    """One operation.

    Args:
        picture: a Pillow picture.
        name: one of `OPERATIONS`.
        strength: between -1 and 1; the sign counts for operations that go either way.
        resample: Pillow's number of the interpolation.
        fill: the colour of what comes in from outside.
    """
    from PIL import ImageOps

    by = _LIMITS.get(name, 0.0) * strength
    shift = float(int(by * (picture.width if name == "TranslateX" else picture.height)))
    # Where in the picture the pixel (x, y) of the result comes from: (a x + b y + c, d x + e y + f).
    sources = {
        "ShearX": (1.0, by, 0.0, 0.0, 1.0, 0.0),
        "ShearY": (1.0, 0.0, 0.0, by, 1.0, 0.0),
        "TranslateX": (1.0, 0.0, -shift, 0.0, 1.0, 0.0),
        "TranslateY": (1.0, 0.0, 0.0, 0.0, 1.0, -shift),
    }
    if name in sources:
        affine: Any = 0  # Pillow's number
        return picture.transform(picture.size, affine, sources[name], resample, fillcolor=fill_colour(picture, fill))
    if name == "Rotate":
        return picture.rotate(by, resample, fillcolor=fill_colour(picture, fill))
    colours = {
        "Brightness": adjust_brightness,
        "Color": adjust_saturation,
        "Contrast": adjust_contrast,
        "Sharpness": adjust_sharpness,
    }
    changed: Any = picture
    if name in colours:
        changed = colours[name](picture, 1 + by)
    elif name == "Posterize":
        changed = ImageOps.posterize(picture, int(np.round(8 - 4 * abs(strength))))
    elif name == "Solarize":
        changed = _solarized(picture, 255 * (1 - abs(strength)))
    elif name == "AutoContrast":
        changed = ImageOps.autocontrast(picture)
    elif name == "Equalize":
        changed = ImageOps.equalize(picture)
    result: Image.Image = changed
    return result


def _solarized(picture: Image.Image, threshold: float) -> Image.Image:
    """Values from `threshold` up inverted."""
    table = [value if value < threshold else 255 - value for value in range(256)]
    return picture.point(table * len(picture.getbands()))
