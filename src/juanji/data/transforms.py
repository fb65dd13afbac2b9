"""What is done to a picture before it becomes a sample, with torchvision's names and results.

A transform is called with one picture. One that can also take a whole batch of uint8 pictures at once has a
method `batch(array)`, which must give bit for bit what the calls would give one by one and may overwrite its
argument; `Compose` has it when all its members have, and the sets of `juanji.data.datasets` then skip the
pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from juanji.data._pictures import INTERPOLATIONS, back, is_picture, kind, need_picture, pair, tensor_or_array
from juanji.data._tensors import Array, Tensor, as_array, overrides_agree, to_tensor
from juanji.data.augmentation import (
    GaussianNoise,
    RandomErasing,
    RandomResizedCrop,
    RandomRotation,
    RandomVerticalFlip,
)
from juanji.data.colour import ColorJitter
from juanji.data.cropping import RandomCrop
from juanji.data.mixing import CutMix, MixUp, RandomChoice
from juanji.data.randaugment import RandAugment
from juanji.data.randomness import uniform, uniform_batch

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "CutMix",
    "GaussianNoise",
    "Grayscale",
    "Lambda",
    "MixUp",
    "Normalize",
    "RandAugment",
    "RandomChoice",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomVerticalFlip",
    "Resize",
    "ToTensor",
    "batch_function",
]

_SCALE = np.float32(255)


def batch_function(transform: Any) -> Callable[[Array], Array] | None:
    """The transform's way to take a whole batch of uint8 pictures (N, H, W) or (N, H, W, C), or None.

    >>> batch_function(ToTensor())(np.zeros((2, 4, 4), np.uint8)).shape
    (2, 1, 4, 4)
    """
    if not overrides_agree(transform, "batch", "__call__"):
        return None
    if isinstance(transform, Compose):
        parts = [batch_function(t) for t in transform.transforms]
        if not parts or None in parts:
            return None
    found: Callable[[Array], Array] = transform.batch
    return found


class Compose:
    """Several transforms, one after another.

    >>> Compose([ToTensor(), Normalize((0.5,), (0.5,))])
    Compose(
        ToTensor()
        Normalize(mean=(0.5,), std=(0.5,))
    )
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        for i, transform in enumerate(transforms):
            if not callable(transform):
                raise TypeError(f"transforms[{i}]={transform!r} is not a transform: it cannot be called")
        self.transforms = list(transforms)

    def __call__(self, picture: Any) -> Any:
        """Each transform in turn."""
        for transform in self.transforms:
            picture = transform(picture)
        return picture

    def batch(self, pictures: Array) -> Array:
        """All members' `batch`, one after another (see `batch_function`)."""
        for transform in self.transforms:
            pictures = transform.batch(pictures)  # type: ignore[attr-defined]
        return pictures

    def __repr__(self) -> str:
        return "\n".join(["Compose(", *(f"    {transform}" for transform in self.transforms), ")"])


class ToTensor:
    """A Pillow picture or an (H, W) or (H, W, C) array as a float32 tensor (C, H, W), 0..255 made 0..1.

    Arrays that are not uint8, and Pillow's modes I, I;16 and F, keep their values and type, as in
    torchvision.

    Raises:
        TypeError: something else.
        ValueError: an array without two or three dimensions.

    >>> x = ToTensor()(np.array([[0, 255]], dtype=np.uint8))
    >>> tuple(x.shape), x.numpy().tolist()
    ((1, 1, 2), [[[0.0, 1.0]]])
    """

    def __call__(self, picture: Any) -> Tensor:
        """The picture as a tensor."""
        if isinstance(picture, np.ndarray):
            values = picture
        elif is_picture(picture):
            values = np.asarray(picture)
            if values.dtype == np.bool_:
                values = values.astype(np.uint8) * np.uint8(255)
            elif values.dtype == np.uint16:
                values = values.astype(np.int32)
        else:
            raise TypeError(f"ToTensor takes a Pillow picture or a NumPy array, and got {kind(picture)}")
        if values.ndim not in (2, 3):
            raise ValueError(f"ToTensor takes arrays (H, W) or (H, W, C), and got shape {values.shape}")
        return to_tensor(self._convert(values[None])[0])

    def batch(self, pictures: Array) -> Array:
        """Pictures (N, H, W) or (N, H, W, C) as (N, C, H, W)."""
        return self._convert(pictures)

    @staticmethod
    def _convert(pictures: Array) -> Array:
        if pictures.ndim == 3:
            channels_first = pictures[:, None]
        else:
            channels_first = np.ascontiguousarray(np.moveaxis(pictures, 3, 1))
        if pictures.dtype != np.uint8:
            return channels_first
        # The same division as PyTorch's: a multiplication by 1/255 would differ in the last bit.
        return np.divide(channels_first, _SCALE, dtype=np.float32)

    def __repr__(self) -> str:
        return "ToTensor()"


class Normalize:
    """`(x - mean) / std` for each channel of a tensor (C, H, W) or (N, C, H, W).

    Args:
        mean: one number for each channel, or one for all.
        std: likewise; not 0.
        inplace: overwrite the tensor that comes in.

    Raises:
        TypeError: a picture that `ToTensor` has not made a tensor, or one of integers.
        ValueError: a number of channels that does not fit.

    >>> Normalize((0.5,), (0.5,))(ToTensor()(np.full((1, 1), 255, np.uint8))).numpy().tolist()
    [[[1.0]]]
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float], inplace: bool = False) -> None:
        self.mean = mean
        self.std = std
        self.inplace = inplace
        self._mean = np.atleast_1d(np.asarray(mean, dtype=np.float64))
        self._std = np.atleast_1d(np.asarray(std, dtype=np.float64))
        self._cast: dict[np.dtype[Any], tuple[Array, Array]] = {}
        if self._mean.ndim != 1 or self._std.ndim != 1:
            raise ValueError(f"mean={mean!r} and std={std!r} must each be a number or one number per channel")
        if not np.all(np.isfinite(self._std)) or not np.all(self._std.astype(np.float32)):
            raise ValueError(f"std={std!r} must be finite and not 0: the picture is divided by it")

    def __call__(self, picture: Any) -> Any:
        """The normalised tensor (or array)."""
        if not isinstance(picture, (Tensor, np.ndarray)):
            raise TypeError(f"Normalize takes a tensor, and got {kind(picture)}; put transforms.ToTensor() before it")
        values = as_array(picture)
        if values.dtype.kind != "f":
            raise TypeError(f"Normalize takes floating-point values, and got {values.dtype}; put ToTensor() before it")
        if values.ndim < 3:
            raise ValueError(f"Normalize takes pictures (..., C, H, W), and got shape {values.shape}")
        out = self._apply(values, values if self.inplace else np.empty_like(values))
        if self.inplace:
            return picture
        return to_tensor(out) if isinstance(picture, Tensor) else out

    def _in(self, dtype: np.dtype[Any]) -> tuple[Array, Array]:
        """Mean and deviation in the type of the picture, shaped to go along its channels."""
        found = self._cast.get(dtype)
        if found is None:
            mean, std = (values.astype(dtype)[:, None, None] for values in (self._mean, self._std))
            found = self._cast[dtype] = mean, std
        return found

    def batch(self, pictures: Array) -> Array:
        """The same for pictures (N, C, H, W), in place."""
        return self._apply(pictures, pictures)

    def _apply(self, values: Array, out: Array) -> Array:
        channels = values.shape[-3]
        for name, given in (("mean", self._mean), ("std", self._std)):
            if len(given) not in (1, channels):
                raise ValueError(
                    f"Normalize has {name}={getattr(self, name)!r} for {len(given)} channels,"
                    f" and the picture of shape {values.shape} has {channels}"
                )
        mean, std = self._in(values.dtype)
        np.subtract(values, mean, out=out)
        np.divide(out, std, out=out)
        return out

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean}, std={self.std})"


class Resize:
    """A Pillow picture at another size.

    Args:
        size: (height, width), or one number for the shorter side (the other keeps the proportions).
        interpolation: "nearest", "bilinear", "bicubic", "lanczos", "box" or "hamming".
    """

    def __init__(self, size: int | Sequence[int], interpolation: str = "bilinear") -> None:
        self.size = size if isinstance(size, int) else list(size)
        pair(size)  # refuses here what would fail at the first picture
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation={interpolation!r} is unknown; valid are {', '.join(INTERPOLATIONS)}")
        self.interpolation = interpolation

    def __call__(self, picture: Image.Image) -> Image.Image:
        """The resized picture."""
        need_picture(self, picture)
        width, height = picture.size
        if isinstance(self.size, int) or len(self.size) == 1:
            short = pair(self.size)[0]
            scale = short / min(width, height)
            wanted = (short, int(scale * height)) if width <= height else (int(scale * width), short)
        else:
            wanted = (self.size[1], self.size[0])
        if wanted == (width, height):
            return picture
        return picture.resize(wanted, INTERPOLATIONS[self.interpolation])

    def __repr__(self) -> str:
        return f"Resize(size={self.size}, interpolation={self.interpolation})"


class CenterCrop:
    """The middle of a Pillow picture, or of a tensor or array (..., H, W); a smaller one gets a black border.

    Args:
        size: (height, width), or one number for both.
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = pair(size)

    def __call__(self, picture: Any) -> Any:
        """The middle."""
        height, width = self.size
        if is_picture(picture):
            left, top = _offsets(picture.size[::-1], self.size)
            return picture.crop((left, top, left + width, top + height))
        values = tensor_or_array(self, picture)
        left, top = _offsets(values.shape[-2:], self.size)
        return back(picture, _crop(values, top, left, height, width))

    def __repr__(self) -> str:
        return f"CenterCrop(size={self.size})"


class Grayscale:
    """A Pillow picture in shades of grey, with 1 channel or 3 equal ones."""

    def __init__(self, num_output_channels: int = 1) -> None:
        if num_output_channels not in (1, 3):
            raise ValueError(f"num_output_channels={num_output_channels!r} must be 1 or 3")
        self.num_output_channels = num_output_channels

    def __call__(self, picture: Image.Image) -> Image.Image:
        """The grey picture."""
        need_picture(self, picture)
        grey = picture.convert("L")
        return grey if self.num_output_channels == 1 else grey.convert("RGB")

    def __repr__(self) -> str:
        return f"Grayscale(num_output_channels={self.num_output_channels})"


class RandomHorizontalFlip:
    """Left and right changed over with probability `p`; for a Pillow picture, tensor or array (..., H, W)."""

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"p={p!r} must lie between 0 and 1")
        self.p = p

    def __call__(self, picture: Any) -> Any:
        """The picture, or its mirror image."""
        pillow = is_picture(picture)
        values = None if pillow else tensor_or_array(self, picture)
        if uniform(1)[0] >= self.p:
            return picture
        if values is None:
            return picture.transpose(0)  # Pillow's FLIP_LEFT_RIGHT
        return back(picture, values[..., ::-1].copy())

    def batch(self, pictures: Array) -> Array:
        """The same for uint8 pictures (N, H, W) or (N, H, W, C), or others (N, C, H, W)."""
        turned = uniform_batch(len(pictures), 1)[:, 0] < self.p
        mirrored = pictures[turned]
        pictures[turned] = mirrored[:, :, ::-1] if pictures.dtype == np.uint8 else mirrored[..., ::-1]
        return pictures

    def __repr__(self) -> str:
        return f"RandomHorizontalFlip(p={self.p})"


class Lambda:
    """A function of your own as a transform."""

    def __init__(self, lambd: Callable[[Any], Any]) -> None:
        if not callable(lambd):
            raise TypeError(f"Lambda takes a function, and got {lambd!r}")
        self.lambd = lambd

    def __call__(self, picture: Any) -> Any:
        """What the function returns."""
        return self.lambd(picture)

    def __repr__(self) -> str:
        return "Lambda()"


def _offsets(have: Sequence[int], wanted: tuple[int, int]) -> tuple[int, int]:
    """(left, top) of the middle; negative where the picture is smaller."""
    top, left = (_half(h - w) for h, w in zip(have, wanted, strict=True))
    return left, top


def _half(room: int) -> int:
    # torchvision rounds a crop to even and splits a border downwards
    return round(room / 2) if room >= 0 else -math.floor(-room / 2)


def _crop(values: Array, top: int, left: int, height: int, width: int) -> Array:
    """Rows top.. and columns left.. of (..., H, W); zeros outside."""
    have_h, have_w = values.shape[-2:]
    out = np.zeros((*values.shape[:-2], height, width), dtype=values.dtype)
    y0, y1 = max(top, 0), min(top + height, have_h)
    x0, x1 = max(left, 0), min(left + width, have_w)
    if y0 < y1 and x0 < x1:
        out[..., y0 - top : y1 - top, x0 - left : x1 - left] = values[..., y0:y1, x0:x1]
    return out
