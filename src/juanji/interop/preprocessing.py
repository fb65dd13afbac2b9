"""How a model wants its pictures: the part of a trained model that is not weights, and travels with it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from juanji.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

Invert = Literal["auto", "yes", "no"]

#: Named as `PIL.Image.Resampling` names them, in small letters.
_FILTERS = ("nearest", "bilinear", "bicubic", "lanczos")
_CHANNELS = {"L": 1, "RGB": 3}
#: No network of this kind takes larger pictures; a file that says so is lying.
_LARGEST = 1024


@dataclass(frozen=True)
class Preprocessing:
    """What happens to a picture before a model sees it.

    Args:
        size: height and width that the model takes.
        mode: "L" (one grey channel) or "RGB".
        mean, std: one number for each channel, for values that are in 0..1.
        interpolation: how a picture of another size is resized: "nearest", "bilinear", "bicubic", "lanczos".
        background: "dark" where the model learned bright things on black, "any" otherwise. With "dark",
            pictures drawn dark on a light ground are inverted.
        center_ink: true for MNIST's digits. A picture of another size is then placed as MNIST's were: the ink
            in a box of 20/28 of the size, its centre of mass in the middle.
        resize: the shorter side is scaled to so many pixels and the middle of `size` is cut out, as networks trained on
            ImageNet have it. Without it the whole picture is fitted into `size`.

    Raises:
        DataError: a value is none of these.
    """

    size: tuple[int, int] = (28, 28)
    mode: str = "L"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    interpolation: str = "bilinear"
    background: str = "any"
    center_ink: bool = False
    resize: int | None = None

    def __post_init__(self) -> None:
        if len(self.size) != 2 or not all(_whole(n) and 1 <= n <= _LARGEST for n in self.size):
            raise DataError(f"preprocessing: size is {self.size!r}; it is two numbers from 1 to {_LARGEST}")
        if self.mode not in _CHANNELS:
            raise DataError(f"preprocessing: mode is {self.mode!r}; it is 'L' or 'RGB'")
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) != self.channels or not all(_finite(n) for n in numbers):
                raise DataError(
                    f"preprocessing: {name} is {numbers!r}; it is {self.channels} finite number(s) "
                    f"for mode {self.mode!r}"
                )
        if not all(n > 0 for n in self.std):
            raise DataError(f"preprocessing: std is {self.std!r}; its numbers are above zero")
        if self.interpolation not in _FILTERS:
            raise DataError(
                f"preprocessing: interpolation is {self.interpolation!r}; it is one of {', '.join(_FILTERS)}"
            )
        if self.background not in ("dark", "any"):
            raise DataError(f"preprocessing: background is {self.background!r}; it is 'dark' or 'any'")
        if not isinstance(self.center_ink, bool):
            raise DataError(f"preprocessing: center_ink is {self.center_ink!r}; it is true or false")
        if self.resize is not None and not (_whole(self.resize) and max(self.size) <= self.resize <= 2 * _LARGEST):
            raise DataError(
                f"preprocessing: resize is {self.resize!r}; it is nothing, or a number of pixels from "
                f"{max(self.size)} (the size) to {2 * _LARGEST}"
            )

    @property
    def channels(self) -> int:
        """Channels of the model's input."""
        return _CHANNELS[self.mode]

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values; `resize` only where it is set."""
        fields = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {k: v for k, v in fields.items() if v is not None}

    @classmethod
    def from_json(cls, value: Any) -> Preprocessing:
        """The inverse of `to_json`, for values that may be anything.

        Raises:
            DataError: a field is missing, unknown or has no valid value.
        """
        names = set(cls.__dataclass_fields__)
        if not isinstance(value, dict) or not set(value) <= names or not {"size", "mode"} <= set(value):
            raise DataError(
                f"preprocessing is {str(value)[:80]}; it has size and mode, and any of {', '.join(sorted(names))}"
            )
        for name in ("size", "mean", "std"):
            if name in value and not isinstance(value[name], list):
                raise DataError(f"preprocessing: {name} is {str(value[name])[:80]}; it is a list of numbers")
        for name in ("mode", "interpolation", "background"):
            if name in value and not isinstance(value[name], str):
                raise DataError(f"preprocessing: {name} is {str(value[name])[:80]}; it is a word")
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
        return cls(**fields)

    def picture(self, image: Image.Image, invert: Invert = "auto") -> NDArray[np.uint8]:
        """A picture in the model's size and channels, before normalisation: uint8 (channels, height, width).

        Colours become grey where the model is grey; the shape is kept by padding with the border's colour.

        Args:
            image: as `juanji.data.open_image` gives it.
            invert: "yes" swaps dark and light, "no" does not; "auto" does when the model knows bright things
                on black and the picture's corners are light. Only pictures for grey models are inverted.
        """
        grey = np.asarray(image.convert(self.mode), dtype=np.uint8)
        if self.mode == "L":
            light = invert == "auto" and self.background == "dark" and bool(border_level(grey) > 127)
            if invert == "yes" or light:
                grey = 255 - grey
        height, width = self.size
        if self.resize is not None:
            grey = _middle(grey, self.size, self.resize, self.interpolation)
        elif grey.shape[:2] != (height, width):
            if self.center_ink and self.mode == "L":
                grey = _centred(grey, self.size, self.interpolation)
            else:
                grey = _fitted(grey, self.size, self.interpolation)
        return grey[None] if grey.ndim == 2 else np.ascontiguousarray(grey.transpose(2, 0, 1))

    def normalize(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pictures of 0..255 as the model takes them: `(pictures / 255 - mean) / std`, float32.

        Args:
            pictures: shape (..., channels, height, width).

        Example:
            >>> import numpy as np
            >>> half = Preprocessing(size=(1, 2), mean=(0.5,), std=(0.5,))
            >>> half.normalize(np.array([[[0, 255]]], np.uint8))
            array([[[-1.,  1.]]], dtype=float32)
        """
        scale = (1 / (255 * np.asarray(self.std, np.float64))).astype(np.float32)[:, None, None]
        shift = (np.asarray(self.mean, np.float64) / np.asarray(self.std, np.float64)).astype(np.float32)
        result: NDArray[np.float32] = pictures * scale
        result -= shift[:, None, None]
        return result


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def border_level(grey: NDArray[np.uint8]) -> float:
    """The brightness of a grey picture's ground, 0..255: the median of its four corners' neighbourhoods.

    Corners, not whole edges: a coat or a bag may well touch an edge, hardly ever three corners.

    Example:
        >>> import numpy as np
        >>> border_level(np.full((28, 28), 255, np.uint8))
        255.0
    """
    height, width = grey.shape[:2]
    rows, columns = max(1, height // 14), max(1, width // 14)
    corners = (
        grey[:rows, :columns],
        grey[:rows, -columns:],
        grey[-rows:, :columns],
        grey[-rows:, -columns:],
    )
    return float(median(np.array([corner.mean() for corner in corners])))


def median(values: NDArray[Any]) -> NDArray[np.float64]:
    """The median along the first axis. `numpy.median` imports `numpy.ma`, which takes a tenth of `juanji predict`.

    Example:
        >>> import numpy as np
        >>> float(median(np.array([3, 1, 250, 2], np.uint8)))
        2.5
    """
    ordered, count = np.sort(values, axis=0).astype(np.float64), len(values)
    middle: NDArray[np.float64] = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return middle


def _fitted(picture: NDArray[np.uint8], size: tuple[int, int], filter_: str) -> NDArray[np.uint8]:
    """The whole picture within `size`, its shape kept, padded with the median of its own border."""
    height, width = picture.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    inner = (max(1, min(size[0], round(height * scale))), max(1, min(size[1], round(width * scale))))
    small = _resized(picture, inner, filter_)
    if inner == size:
        return small
    edges = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    result = np.empty((*size, *picture.shape[2:]), np.uint8)
    result[...] = median(edges).astype(np.uint8)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    result[top : top + inner[0], left : left + inner[1]] = small
    return result


def _resized(picture: NDArray[np.uint8], size: tuple[int, int], filter_: str) -> NDArray[np.uint8]:
    from PIL import Image  # training on arrays does without

    image = Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling[filter_.upper()], reducing_gap=3.0)
    return np.asarray(image)


def _middle(picture: NDArray[np.uint8], size: tuple[int, int], resize: int, filter_: str) -> NDArray[np.uint8]:
    """The middle of the picture after its shorter side was scaled to `resize`.

    Only the part that is wanted is computed: a picture of one row and a million columns would else be scaled whole.
    """
    from PIL import Image

    height, width = picture.shape[:2]
    short = min(height, width)
    # As torchvision rounds: the longer side down, the place of the middle to the nearest even.
    scaled = (resize * height // short, resize * width // short)
    corner = tuple(round((n - wanted) / 2) for n, wanted in zip(scaled, size, strict=True))
    (top, left), (down, across) = corner, (height / scaled[0], width / scaled[1])
    box = (left * across, top * down, (left + size[1]) * across, (top + size[0]) * down)
    box = (box[0], box[1], min(box[2], width), min(box[3], height))
    image = Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling[filter_.upper()], box)
    return np.asarray(image)


def _centred(picture: NDArray[np.uint8], size: tuple[int, int], filter_: str) -> NDArray[np.uint8]:
    """Bright ink on a dark ground, placed as MNIST's makers did: in a box of 20/28, by its centre of mass."""
    ground = int(border_level(picture))
    ink: NDArray[Any] = np.clip(picture.astype(np.int32) - ground, 0, 255)
    strongest = int(ink.max(initial=0))
    if strongest < 32:  # nothing is drawn: only noise would be enlarged
        return _fitted(picture, size, filter_)
    ink = np.where(ink > strongest // 4, ink * 255 // strongest, 0).astype(np.uint8)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    box = (max(1, size[0] * 20 // 28), max(1, size[1] * 20 // 28))
    scale = min(box[0] / ink.shape[0], box[1] / ink.shape[1])
    inner = (max(1, round(ink.shape[0] * scale)), max(1, round(ink.shape[1] * scale)))
    small = _resized(ink, inner, filter_)
    weight = max(1.0, float(small.sum(dtype=np.float64)))
    middle_row = float((small.sum(axis=1, dtype=np.float64) * np.arange(inner[0])).sum()) / weight
    middle_column = float((small.sum(axis=0, dtype=np.float64) * np.arange(inner[1])).sum()) / weight
    top = min(max(0, round(size[0] / 2 - middle_row)), size[0] - inner[0])
    left = min(max(0, round(size[1] / 2 - middle_column)), size[1] - inner[1])
    result = np.zeros(size, np.uint8)
    result[top : top + inner[0], left : left + inner[1]] = small
    return result
