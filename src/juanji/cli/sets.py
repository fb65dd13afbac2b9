"""What the commands know of data sets: names, folders of IDX files, folders with a folder for each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji.cli.downloads import showing
from juanji.cli.output import UsageError
from juanji.data import open_image, registry
from juanji.data.datasets import IDXDataset, ImageFolder
from juanji.errors import DataError
from juanji.interop.preprocessing import Invert, Preprocessing

#: The sets whose pictures are digits, placed by their ink.
_DIGITS = ("mnist", "mnist-5k")


@dataclass(frozen=True)
class Pair:
    """A data set to train and to test with.

    Attributes:
        name: what files are named after.
        source: one line that says what it is and where it is from.
        classes: the classes' names.
        digits: whether its pictures are MNIST's digits.
        train_images, test_images: uint8 (count, height, width) or (count, height, width, channels).
        train_labels, test_labels: int64 (count,).
    """

    name: str
    source: str
    classes: tuple[str, ...]
    digits: bool
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]


@dataclass(frozen=True)
class Labelled:
    """Pictures of a model's size with their class numbers, and where they are from."""

    source: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def names() -> list[str]:
    """The known sets' names."""
    return registry.names()


def check_name(name: str) -> str:
    """A known set's name, as the registry writes it.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in registry.names():
        raise UsageError(f"there is no data set {name!r}; known are {', '.join(registry.names())}")
    return name


def load(name: str, folder: Path | None) -> Pair:
    """Both halves of a known set, fetched where it is not there yet, or of a folder with IDX files.

    Args:
        name: of a known set. With a folder it gives the class names, if it is known.
        folder: the four IDX files.

    Raises:
        DataError: files that are missing, damaged, or do not belong together; a set out of reach.
    """
    train: Any
    test: Any
    if folder is not None:
        train, test = IDXDataset(folder, train=True), IDXDataset(folder, train=False)
        known = class_names(name) if name in registry.names() else ()
        highest = int(max(train.labels.max(), test.labels.max()))
        if known and highest >= len(known):
            raise DataError(f"{folder}: there is a label {highest}, and {name} has {len(known)} classes")
        classes = known or tuple(str(n) for n in range(highest + 1))
        source = f"{folder}: {len(train):,} train, {len(test):,} test"
    else:
        with showing() as progress:
            train = registry.load(name, True, download=True, progress=progress)
            test = registry.load(name, False, download=True, progress=progress)
        classes, source = class_names(name), train.source
    return Pair(name, source, classes, name in _DIGITS, train.images, train.labels, test.images, test.labels)


def class_names(name: str) -> tuple[str, ...]:
    """The classes of a known set as this program shows them: digits are "0", not "0 - zero".

    Example:
        >>> class_names("mnist")[:2], class_names("fashion-mnist")[0]
        (('0', '1'), 'T-shirt/top')
    """
    return tuple(c.partition(" - ")[0] for c in registry.info(name).classes)


def test_pictures(data: str, classes: Sequence[str], preprocessing: Preprocessing, invert: Invert) -> Labelled:
    """Labelled pictures to evaluate a model on, made into the model's size.

    Args:
        data: a known set's name (its test half), a folder of IDX files (their test half), or a folder that
            has a folder of pictures for each class.
        classes: the model's, in its order.
        preprocessing: the model's.
        invert: as for `Preprocessing.picture`; pictures in folders only.

    Raises:
        DataError: damaged files, or classes that the model does not have.
    """
    folder = Path(data)
    if data in registry.names():
        with showing() as progress:
            known = registry.load(data, False, download=True, progress=progress)
        return _of_arrays(known.source, known.images, known.labels, classes, class_names(data))
    if any(folder.glob("*idx*ubyte*")):
        part = IDXDataset(folder, train=False)
        return _of_arrays(str(folder), part.images, part.labels, classes, ())
    return _of_folder(folder, classes, preprocessing, invert)


def _of_arrays(
    source: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    names: Sequence[str],
) -> Labelled:
    if names and tuple(names) != tuple(classes):
        raise DataError(f"the model knows the classes {_few(classes)}, and this data set has {_few(names)}")
    highest = int(labels.max())
    if highest >= len(classes):
        raise DataError(f"{source}: there is a label {highest}, and the model has {len(classes)} classes")
    return Labelled(source, images, labels)


def _of_folder(folder: Path, classes: Sequence[str], preprocessing: Preprocessing, invert: Invert) -> Labelled:
    files = ImageFolder(folder, allow_empty=True)
    unknown = [name for name in files.classes if name not in classes]
    if unknown:
        raise DataError(
            f"{folder}: the model has no class {_few(unknown)}; it knows {_few(classes)}, "
            "and each folder is named after one"
        )
    if not files.samples:
        raise DataError(f"{folder}: there are no pictures in its class folders")
    number = {name: i for i, name in enumerate(classes)}
    images = np.stack([preprocessing.picture(open_image(path, None), invert) for path, _ in files.samples])
    labels = np.array([number[files.classes[i]] for i in files.targets], np.int64)
    return Labelled(str(folder), images, labels)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
