"""Random changes of a picture's geometry, and noise and holes: with torchvision's names and distributions.

Every random number is drawn through `juanji.data.randomness`: in a `DataLoader` a picture's changes depend on
the loader's seed and the picture's place in the pass, and on nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from juanji.data._pictures import (
    INTERPOLATIONS,
    back,
    between,
    interpolation_number,
    is_picture,
    kind,
    need_picture,
    pair,
    probability,
    tensor_or_array,
)
from juanji.data._tensors import Array, Tensor
from juanji.data.randomness import sample_generator, uniform, uniform_batch

if TYPE_CHECKING:
    from PIL import Image

_TRIES = 10  # as torchvision has them: shapes drawn before giving up on one that fits


class RandomResizedCrop:
    """A random part of a Pillow picture, of random area and shape, resized (Szegedy et al. 2015).

    Args:
        size: (height, width) of the result, or one number for both.
        scale: the least and greatest part of the picture's area.
        ratio: the least and greatest width / height of the part.
        interpolation: "nearest", "bilinear", "bicubic", "lanczos", "box" or "hamming".
        antialias: accepted as in torchvision; Pillow always smooths when it makes a picture smaller.

    Raises:
        ValueError: ranges that are none, an unknown interpolation.
        TypeError: when called with something that is no Pillow picture.

    >>> from PIL import Image
    >>> RandomResizedCrop((5, 4))(Image.new("RGB", (30, 20))).size
    (4, 5)
    """

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: str = "bilinear",
        antialias: bool | None = True,
    ) -> None:
        self.size = pair(size)
        self.scale = between(scale, "scale", 0)
        self.ratio = between(ratio, "ratio", 1e-9)
        self._resample = interpolation_number(interpolation, tuple(INTERPOLATIONS))
        self.interpolation = interpolation
        self.antialias = antialias

    def __call__(self, picture: Image.Image) -> Image.Image:
        """A part of the picture."""
        need_picture(self, picture)
        left, top, width, height = self._part(*picture.size)
        part = picture.crop((left, top, left + width, top + height))
        return part.resize(self.size[::-1], self._resample)

    def _part(self, width: int, height: int) -> tuple[int, int, int, int]:
        """(left, top, width, height)."""
        ratio = np.log(self.ratio)
        for area, shape, down, across in uniform(4 * _TRIES).reshape(_TRIES, 4):
            pixels = width * height * (self.scale[0] + (self.scale[1] - self.scale[0]) * area)
            aspect = math.exp(ratio[0] + (ratio[1] - ratio[0]) * shape)
            w, h = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
            if 0 < w <= width and 0 < h <= height:
                return int(across * (width - w + 1)), int(down * (height - h + 1)), w, h
        w, h = width, height  # the middle, as much of it as the shape allows
        if width / height < self.ratio[0]:
            h = min(max(round(w / self.ratio[0]), 1), height)
        elif width / height > self.ratio[1]:
            w = min(max(round(h * self.ratio[1]), 1), width)
        return (width - w) // 2, (height - h) // 2, w, h

    def __repr__(self) -> str:
        scale, ratio = ((round(a, 4), round(b, 4)) for a, b in (self.scale, self.ratio))
        return (
            f"RandomResizedCrop(size={self.size}, scale={scale}, ratio={ratio},"
            f" interpolation={self.interpolation}, antialias={self.antialias})"
        )


class RandomVerticalFlip:
    """Upper and lower changed over with probability `p`; for a Pillow picture, tensor or array (..., H, W)."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability(p)

    def __call__(self, picture: Any) -> Any:
        """The picture, or the picture upside down."""
        values = None if is_picture(picture) else tensor_or_array(self, picture)
        if uniform(1)[0] >= self.p:
            return picture
        if values is None:
            return picture.transpose(1)  # Pillow's FLIP_TOP_BOTTOM
        return back(picture, values[..., ::-1, :].copy())

    def batch(self, pictures: Array) -> Array:
        """The same for uint8 pictures (N, H, W) or (N, H, W, C), or others (N, C, H, W)."""
        turned = uniform_batch(len(pictures), 1)[:, 0] < self.p
        flipped = pictures[turned]
        pictures[turned] = flipped[:, ::-1] if pictures.dtype == np.uint8 else flipped[..., ::-1, :]
        return pictures

    def __repr__(self) -> str:
        return f"RandomVerticalFlip(p={self.p})"


class RandomRotation:
    """A Pillow picture turned by a random angle.

    Args:
        degrees: (least, greatest) angle, counted against the clock; one number d stands for (-d, d).
        interpolation: "nearest", "bilinear" or "bicubic".
        expand: make the result large enough to hold all of the turned picture.
        center: (x, y) of the point that stays where it is; by default the middle.
        fill: the colour of what comes in from outside, a number or one for each channel.

    >>> from PIL import Image
    >>> RandomRotation((90, 90), expand=True)(Image.new("L", (4, 2))).size
    (2, 4)
    """

    def __init__(
        self,
        degrees: float | Sequence[float],
        interpolation: str = "nearest",
        expand: bool = False,
        center: Sequence[float] | None = None,
        fill: float | Sequence[float] | None = 0,
    ) -> None:
        if isinstance(degrees, (int, float)):
            if not 0 <= degrees < math.inf:
                raise ValueError(f"degrees={degrees!r} must be 0 or more: it stands for (-degrees, degrees)")
            degrees = (-degrees, degrees)
        self.degrees = between(degrees, "degrees")
        self._resample = interpolation_number(interpolation, ("nearest", "bilinear", "bicubic"))
        if center is not None and len(center) != 2:
            raise ValueError(f"center={center!r} must be (x, y)")
        self.interpolation = interpolation
        self.expand = expand
        self.center = center
        self.fill = fill

    def __call__(self, picture: Image.Image) -> Image.Image:
        """The turned picture."""
        need_picture(self, picture)
        angle = self.degrees[0] + (self.degrees[1] - self.degrees[0]) * float(uniform(1)[0])
        center = None if self.center is None else (self.center[0], self.center[1])
        colour = fill_colour(picture, self.fill)
        return picture.rotate(angle, self._resample, self.expand, center, fillcolor=colour)

    def __repr__(self) -> str:
        return (
            f"RandomRotation(degrees={list(self.degrees)}, interpolation={self.interpolation},"
            f" expand={self.expand}, fill={self.fill})"
        )


def fill_colour(picture: Image.Image, fill: float | Sequence[float] | None) -> Any:
    """A `fill` argument as a colour of this picture.

    Raises:
        ValueError: a number of channels that the picture does not have.
    """
    bands = len(picture.getbands())
    values = [0] if fill is None else [fill] if isinstance(fill, (int, float)) else list(fill)
    if len(values) not in (1, bands):
        raise ValueError(f"fill={fill!r} has {len(values)} channels, and the picture of mode {picture.mode} {bands}")
    values = values * bands if len(values) == 1 else values
    if picture.mode != "F":
        values = [int(v) for v in values]
    return values[0] if bands == 1 else tuple(values)


class GaussianNoise:
    """Normal noise added to a tensor or array: floating point of 0..1, or uint8 of 0..255.

    Args:
        mean: of the noise, where 1 is the whole range.
        sigma: the noise's standard deviation, likewise.
        clip: keep the values within the range.

    Raises:
        TypeError: a Pillow picture, or numbers of another type.

    >>> noisy = GaussianNoise(sigma=0.1)(np.full((3, 8, 8), 0.5, np.float32))
    >>> noisy.dtype, bool(0.01 < noisy.std() < 0.2)
    (dtype('float32'), True)
    """

    def __init__(self, mean: float = 0.0, sigma: float = 0.1, clip: bool = True) -> None:
        if not 0 <= sigma < math.inf:
            raise ValueError(f"sigma={sigma!r} must be 0 or more")
        self.mean = mean
        self.sigma = sigma
        self.clip = clip

    def __call__(self, picture: Any) -> Any:
        """The picture with noise."""
        values = _need_values(self, picture)
        if values.dtype.kind != "f" and values.dtype != np.uint8:
            raise TypeError(f"GaussianNoise takes floating-point values or uint8, and got {values.dtype}")
        noise = self.mean + sample_generator().standard_normal(values.shape, np.float32) * np.float32(self.sigma)
        if values.dtype == np.uint8:
            noisy = values + (noise * 255).astype(np.int16)
            out = (np.clip(noisy, 0, 255) if self.clip else noisy).astype(np.uint8)
        else:
            out = (values + noise).astype(values.dtype)
            if self.clip:
                np.clip(out, 0, 1, out=out)
        return back(picture, out)

    def __repr__(self) -> str:
        return f"GaussianNoise(mean={self.mean}, sigma={self.sigma}, clip={self.clip})"


class RandomErasing:
    """A random rectangle of a tensor or array (..., C, H, W) overwritten (Zhong et al. 2020).

    Args:
        p: the probability that it happens.
        scale: the least and greatest part of the picture's area.
        ratio: the least and greatest height / width of the rectangle.
        value: what is written: a number, one for each channel, or "random" for normal noise in each pixel.
        inplace: overwrite the tensor that comes in.

    Raises:
        TypeError: a Pillow picture.
        ValueError: arguments outside of their ranges; a number of values that the picture has no channels for.

    >>> int((RandomErasing(p=1, scale=(0.25, 0.25), ratio=(1, 1))(np.ones((1, 8, 8))) == 0).sum())
    16
    """

    def __init__(
        self,
        p: float = 0.5,
        scale: Sequence[float] = (0.02, 0.33),
        ratio: Sequence[float] = (0.3, 3.3),
        value: float | str | Sequence[float] = 0,
        inplace: bool = False,
    ) -> None:
        self.p = probability(p)
        self.scale = between(scale, "scale", 0)
        if self.scale[1] > 1:
            raise ValueError(f"scale={scale!r} must be parts of the picture's area, between 0 and 1")
        self.ratio = between(ratio, "ratio", 1e-9)
        if isinstance(value, str) and value != "random":
            raise ValueError(f'value={value!r} must be a number, one for each channel, or "random"')
        self.value = value
        self.inplace = inplace

    def __call__(self, picture: Any) -> Any:
        """The picture, perhaps with a hole."""
        values = _need_values(self, picture)
        if values.ndim < 3:
            raise ValueError(f"RandomErasing takes pictures (..., C, H, W), and got shape {values.shape}")
        drawn = uniform(1 + 4 * _TRIES)
        height, width = values.shape[-2:]
        place = self._place(height, width, drawn[1:].reshape(_TRIES, 4)) if drawn[0] < self.p else None
        if place is None:
            return picture
        out = values if self.inplace else values.copy()
        top, left, height, width = place
        out[..., top : top + height, left : left + width] = self._values(values.shape[-3], height, width)
        return picture if self.inplace else back(picture, out)

    def _place(self, height: int, width: int, drawn: Array) -> tuple[int, int, int, int] | None:
        """(top, left, height, width), or None where no rectangle drawn is smaller than the picture."""
        ratio = np.log(self.ratio)
        for area, shape, down, across in drawn:
            pixels = width * height * (self.scale[0] + (self.scale[1] - self.scale[0]) * area)
            aspect = math.exp(ratio[0] + (ratio[1] - ratio[0]) * shape)
            h, w = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
            if h < height and w < width:
                return int(down * (height - h + 1)), int(across * (width - w + 1)), h, w
        return None

    def _values(self, channels: int, height: int, width: int) -> Any:
        if isinstance(self.value, str):
            return sample_generator().standard_normal((channels, height, width), np.float32)
        given = np.atleast_1d(np.asarray(self.value, np.float64))
        if given.ndim != 1 or len(given) not in (1, channels):
            raise ValueError(f"value={self.value!r} must be a number or one for each of {channels} channels")
        return given[:, None, None]

    def __repr__(self) -> str:
        return (
            f"RandomErasing(p={self.p}, scale={self.scale}, ratio={self.ratio}, value={self.value},"
            f" inplace={self.inplace})"
        )


def _need_values(transform: Any, value: Any) -> Array:
    name = type(transform).__name__
    if not isinstance(value, (Tensor, np.ndarray)):
        raise TypeError(f"{name} takes a tensor or an array, and got {kind(value)}; put {name} after ToTensor()")
    return tensor_or_array(transform, value)
