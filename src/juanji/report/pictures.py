"""Thumbnails as the network sees the pictures, and where it looked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from juanji.capture.compile import compile
from juanji.data.images import open_image
from juanji.errors import DataError
from juanji.nn import Identity, Module
from juanji.tensors import Tensor, from_numpy, no_grad
from juanji.visual.gradcam import grad_cam
from juanji.visual.modes import evaluating
from juanji.zoo import Classifier

if TYPE_CHECKING:
    from juanji.tune.outcome import Outcome

#: The longer side of a thumbnail, in pixels.
SIDE = 192
#: Pictures that go through the network at once.
_BATCH = 12
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
    said, numbers, found = outcome.logits.argmax(axis=1), list(inputs), {}
    size = -(-len(numbers) // -(-len(numbers) // _BATCH)) if numbers else 1  # parts of one size, as far as it goes
    look = _looking(outcome)
    for begin in range(0, len(numbers), size):
        part = numbers[begin : begin + size]
        rows = [*part, *part[-1:] * (size - len(part))]  # filled up: another size would be compiled anew
        batch = outcome.preprocessing.normalize(np.stack([inputs[n] for n in rows]))
        try:
            maps = look(from_numpy(batch), said[rows].tolist()).numpy()
        except (ValueError, RuntimeError):  # a network without maps has no places to show
            maps = None
        for place, number in enumerate(part):
            pixels = _sized(_colours(inputs[number]))
            found[number] = Thumbnail(pixels, None if maps is None else overlay(pixels, maps[place]))
    return found


class _Head(Module):
    """What a classifier makes of its features."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.features = Identity()
        self.model = model

    def forward(self, maps: Tensor) -> Tensor:
        """Scores of feature maps."""
        return self.model.forward_head(self.features(maps))


def _looking(outcome: Outcome) -> Callable[[Tensor, list[int]], Tensor]:
    """`grad_cam` of the model, of pictures and classes. A classifier's features are computed compiled."""
    model = outcome.model
    if not isinstance(model, Classifier):
        return lambda batch, classes: grad_cam(model, batch, classes)

    def features(batch: Tensor) -> Tensor:
        with no_grad():
            return model.forward_features(batch)

    run, head = compile(features), _Head(model)

    def look(batch: Tensor, classes: list[int]) -> Tensor:
        with evaluating(model):
            maps: Tensor = run(batch)
        small = maps.ndim != 4 or maps.shape[2] * maps.shape[3] < 2
        return grad_cam(model, batch, classes) if small else grad_cam(head, maps, classes, head.features)

    return look


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
