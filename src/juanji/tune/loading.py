"""Pictures on their way into a network: opened once where memory allows, changed at random, decoded ahead."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji.data import DataLoader, Dataset, open_image, transforms
from juanji.data.scanning import Sample
from juanji.interop.preprocessing import Preprocessing
from juanji.random import Generator
from juanji.tensors import Tensor, from_numpy

#: Pictures to train on are kept so much larger than the network takes them: random parts are then still sharp.
ROOM = 1.25
#: Bytes of opened pictures that a training keeps.
KEPT = 1 << 30
#: Every random change is drawn from these; see `augmentation`.
_MEAN_GREY = 124


class Photos(Dataset[tuple[NDArray[np.uint8], int]]):
    """Pictures of a scan in a network's size, uint8 (channels, height, width), with their class numbers.

    Args:
        samples: of a scan.
        preprocessing: how a picture is made.
        change: a random change of a larger Pillow picture to one of the size; None for pictures as `juanji predict`
            has them.
        kept: bytes of opened pictures that stay in memory, so that the next pass need not open them again. What is
            kept changes no result.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        preprocessing: Preprocessing,
        change: Callable[[Any], Any] | None = None,
        kept: int = KEPT,
    ) -> None:
        self.samples = list(samples)
        self.preprocessing = preprocessing
        self.change = change
        self._large = preprocessing if change is None else enlarged(preprocessing, ROOM)
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._free = kept
        self._lock = threading.Lock()

    @property
    def targets(self) -> list[int]:
        """The class number of each picture."""
        return [sample.label for sample in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], int]:
        picture = self._opened(index)
        if self.change is not None:
            picture = self._changed(picture)
        return picture, self.samples[index].label

    def _opened(self, index: int) -> NDArray[np.uint8]:
        picture = self._kept.get(index)
        if picture is None:
            picture = self._large.picture(open_image(self.samples[index].path, None))
            with self._lock:
                if self._free >= picture.nbytes and index not in self._kept:
                    self._kept[index] = picture
                    self._free -= picture.nbytes
        return picture

    def _changed(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        from PIL import Image

        assert self.change is not None
        grey = len(picture) == 1
        image = Image.fromarray(picture[0] if grey else picture.transpose(1, 2, 0))
        values = np.asarray(self.change(image), np.uint8)
        return values[None] if grey else values.transpose(2, 0, 1)


def enlarged(preprocessing: Preprocessing, factor: float) -> Preprocessing:
    """The same view of a picture, larger.

    >>> enlarged(Preprocessing(size=(8, 8), resize=10), 1.25)
    Preprocessing(size=(10, 10), mode='L', mean=(0.0,), std=(1.0,), interpolation='bilinear', background='any', \
center_ink=False, resize=12)
    """
    size = (round(preprocessing.size[0] * factor), round(preprocessing.size[1] * factor))
    resize = preprocessing.resize
    return replace(preprocessing, size=size, resize=None if resize is None else max(*size, round(resize * factor)))


def augmentation(name: str, preprocessing: Preprocessing) -> Callable[[Any], Any] | None:
    """How training pictures are changed at random, from a larger Pillow picture to one of the model's size.

    Args:
        name: "none", "light" (a large part, mirrored), "standard" (any part from a third up, mirrored, other colours),
            "strong" (RandAugment, and a part of it erased).
        preprocessing: the model's.

    >>> augmentation("none", Preprocessing()) is None
    True
    """
    if name == "none":
        return None
    least = 0.6 if name == "light" else 0.35
    steps: list[Callable[[Any], Any]] = [
        transforms.RandomResizedCrop(
            preprocessing.size, scale=(least, 1.0), interpolation=_smooth(preprocessing.interpolation)
        ),
        transforms.RandomHorizontalFlip(),
    ]
    if name == "standard":
        steps.append(transforms.ColorJitter(0.2, 0.2, 0.2))
    if name == "strong":
        steps += [transforms.RandAugment(fill=_MEAN_GREY), _erased]
    return transforms.Compose(steps)


def _smooth(interpolation: str) -> str:
    return "bilinear" if interpolation == "nearest" else interpolation


_erasing = transforms.RandomErasing(p=0.25, value=_MEAN_GREY / 255)


def _erased(picture: Any) -> Any:
    """A random rectangle of a picture made grey; with values of 0..1, as `RandomErasing` has them."""
    from PIL import Image

    values = np.asarray(picture, np.float32) / 255
    planes = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    erased = np.rint(np.asarray(_erasing(planes)) * 255).astype(np.uint8)
    return Image.fromarray(erased[0] if values.ndim == 2 else erased.transpose(1, 2, 0))


class Collate:
    """Makes samples of `Photos` a batch: normalised as the model takes them, and mixed where wanted.

    Args:
        preprocessing: the model's.
        mix: "none", "mixup", "cutmix" or "both" (one of them, drawn for each batch).
        classes: their number.
    """

    def __init__(self, preprocessing: Preprocessing, mix: str = "none", classes: int = 1) -> None:
        self.preprocessing = preprocessing
        ways: dict[str, Any] = {
            "mixup": transforms.MixUp(alpha=0.2, num_classes=classes),
            "cutmix": transforms.CutMix(alpha=1.0, num_classes=classes),
        }
        chosen = [] if mix == "none" else list(ways.values()) if mix == "both" else [ways[mix]]
        self._mix = transforms.RandomChoice(chosen) if chosen else None

    def __call__(self, samples: Sequence[tuple[NDArray[np.uint8], int]]) -> tuple[Tensor, Tensor]:
        """Pictures float32 (n, channels, height, width), and class numbers (n,) or shares (n, classes)."""
        pictures = self.preprocessing.normalize(np.stack([picture for picture, _ in samples]))
        labels = np.array([label for _, label in samples], np.int64)
        if self._mix is not None:
            pictures, labels = self._mix(pictures, labels)
        return from_numpy(pictures), from_numpy(labels)


def loader(
    photos: Photos,
    batch_size: int,
    *,
    shuffle: bool,
    seed: int,
    workers: int | None = None,
    mix: str = "none",
    classes: int = 1,
) -> DataLoader:
    """Batches of pictures, decoded ahead by threads. Any number of these gives the same batches.

    Args:
        photos: the pictures.
        batch_size: pictures in a batch. Where all are to be shuffled, a last one that is not full is left out, unless
            it is the only one.
        shuffle: a new random order in each pass.
        seed: of the order and of the changes.
        workers: threads; None for `default_workers()`.
        mix: see `Collate`.
        classes: their number.
    """
    return DataLoader(
        photos,
        batch_size=min(batch_size, len(photos)),
        shuffle=shuffle,
        drop_last=shuffle,
        num_workers=default_workers() if workers is None else workers,
        collate_fn=Collate(photos.preprocessing, mix, classes),
        generator=Generator().manual_seed(seed),
    )


def default_workers() -> int:
    """As many threads as there are processors for this process, at most 4."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, there)
