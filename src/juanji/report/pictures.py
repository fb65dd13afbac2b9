"""Thumbnails as the network sees the pictures, and where it looked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from juanji.data.images import open_image
from juanji.errors import DataError
from juanji.tensors import from_numpy
from juanji.visual.gradcam import grad_cam

if TYPE_CHECKING:
    from juanji.tune.outcome import Outcome

#: The longer side of a thumbnail, in pixels.
SIDE = 192
#: Pictures that go through the network at once.
_BATCH = 8
#: From where the model did not look to where it looked most: each is lighter than the one before.
_RAMP = np.array([[110, 20, 120], [200, 50, 80], [250, 150, 20], [255, 245, 150]], np.float64)


@dataclass(frozen=True)
class Thumbnail:
    """One evaluated picture, uint8 (height, width, 3).

    Attributes:
        plain: as the network sees it.
        seen: the same with what spoke for the predicted class in warm colours; None where that can't be said.
    """

    plain: NDArray[np.uint8]
    seen: NDArray[np.uint8] | None


def thumbnails(outcome: Outcome, chosen: Iterable[int]) -> dict[int, Thumbnail]:
    """Thumbnails of some evaluated pictures, by their number; those that can't be opened any more are left out."""
    inputs: dict[int, NDArray[np.uint8]] = {}
    for number in chosen:
        try:
            inputs[number] = outcome.preprocessing.picture(open_image(outcome.paths[number], None))
        except (DataError, OSError):
            continue
    said = outcome.logits.argmax(axis=1)
    numbers = list(inputs)
    found: dict[int, Thumbnail] = {}
    for begin in range(0, len(numbers), _BATCH):
        part = numbers[begin : begin + _BATCH]
        batch = outcome.preprocessing.normalize(np.stack([inputs[n] for n in part]))
        try:
            maps = grad_cam(outcome.model, from_numpy(batch), said[part].tolist()).numpy()
        except (ValueError, RuntimeError):  # a network without maps has no places to show
            maps = None
        for place, number in enumerate(part):
            pixels = _sized(_colours(inputs[number]))
            seen = None if maps is None else overlay(pixels, maps[place])
            found[number] = Thumbnail(pixels, seen)
    return found


def overlay(pixels: NDArray[np.uint8], heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A picture in grey with a map over it: nothing where the map is 0, pale yellow where it is 1.

    Args:
        pixels: uint8 (height, width, 3).
        heat: of any size, 0..1.
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    sized = Image.fromarray(heat.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    level = np.clip(np.asarray(sized, np.float64), 0, 1)
    steps = np.linspace(0, 1, len(_RAMP))
    warm = np.stack([np.interp(level, steps, _RAMP[:, c]) for c in range(3)], axis=-1)
    grey = (pixels.astype(np.float64) @ [0.299, 0.587, 0.114])[..., None]
    share = 0.75 * level[..., None] ** 0.7
    return np.asarray(np.clip(np.rint(grey * (1 - share) + warm * share), 0, 255), np.uint8)


def _colours(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels (height, width, 3) of a network's input (channels, height, width)."""
    return np.ascontiguousarray(np.broadcast_to(picture, (3, *picture.shape[1:])).transpose(1, 2, 0))


def _sized(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """In the size of a thumbnail; small pictures are enlarged pixel by pixel."""
    from PIL import Image

    height, width = pixels.shape[:2]
    most = max(height, width)
    if most <= SIDE // 2:
        times = SIDE // most
        return pixels.repeat(times, axis=0).repeat(times, axis=1)
    scale = SIDE / most
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS), np.uint8)
