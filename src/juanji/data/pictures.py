"""The pictures that a scan found, as a set to load from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from juanji.data.dataset import Dataset
from juanji.data.images import open_image
from juanji.data.scanning import Sample, Scan


class Pictures(Dataset[tuple[Any, Any]]):
    """Pictures with their class numbers: all that `scan` found, or a part of it, such as `split` gives.

    Args:
        samples: a scan, or samples of one.
        transform: called with each picture (Pillow, RGB).
        target_transform: called with each class number.
        loader: opens a file; by default `open_image`.

    Attributes:
        samples: the samples.
        targets: their class numbers.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from juanji.data import scan, split
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for i in range(10):
    ...         Path(root, "ab"[i % 2]).mkdir(exist_ok=True)
    ...         Image.new("L", (4, 3), 20 * i).save(Path(root, "ab"[i % 2], f"{i}.png"))
    ...     parts = split(scan(root).samples, {"train": 0.8, "val": 0.2})
    ...     train, val = Pictures(parts["train"]), Pictures(parts["val"])
    ...     len(train), len(val), sorted(val.targets), train[0][0].size
    (8, 2, [0, 1], (4, 3))
    """

    def __init__(
        self,
        samples: Scan | Sequence[Sample],
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        loader: Callable[[str], Any] = open_image,
    ) -> None:
        self.samples = list(samples.samples if isinstance(samples, Scan) else samples)
        self.transform = transform
        self.target_transform = target_transform
        self.loader = loader

    @property
    def targets(self) -> list[int]:
        """The class number of each picture."""
        return [sample.label for sample in self.samples]

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        sample = self.samples[index]
        picture = self.loader(sample.path)
        if self.transform is not None:
            picture = self.transform(picture)
        return picture, sample.label if self.target_transform is None else self.target_transform(sample.label)

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        return f"Pictures({len(self):,} pictures of {len(set(self.targets))} classes)"
