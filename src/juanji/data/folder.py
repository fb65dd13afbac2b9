"""Pictures in folders, one folder for each class."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from juanji.data.dataset import Dataset
from juanji.data.images import open_image
from juanji.errors import DataError

# What Pillow reads, without loading all of its readers to ask them.
EXTENSIONS = frozenset(
    [
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".ico",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".jpx",
        ".pbm",
        ".pcx",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".psd",
        ".qoi",
        ".tga",
        ".tif",
        ".tiff",
        ".webp",
        ".xbm",
        ".xpm",
    ]
)


class ImageFolder(Dataset[tuple[Any, int]]):
    """Pictures under `root/CLASS/...`; classes are the sub-folders in alphabetical order.

    Args:
        root: the folder. Files and folders whose name begins with a dot are left out.
        transform: called with each picture (Pillow, RGB).
        target_transform: called with each class number.
        loader: opens a file; by default `open_image`.
        is_valid_file: decides which files count, instead of their extension.
        allow_empty: accept classes without a picture.

    Attributes:
        classes: the names, in order.
        class_to_idx: the number of each name.
        samples: (path, class number) of each picture, in order (`imgs` is the same).
        targets: the class numbers.

    Raises:
        DataError: no folder, no sub-folders, or a class without pictures.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for name in ("dog", "cat"):
    ...         os.mkdir(f"{root}/{name}")
    ...         Image.new("RGB", (4, 4)).save(f"{root}/{name}/1.png")
    ...     pictures = ImageFolder(root)
    ...     pictures.classes, pictures[1][0].size, pictures[1][1]
    (['cat', 'dog'], (4, 4), 1)
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        loader: Callable[[str], Any] = open_image,
        is_valid_file: Callable[[str], bool] | None = None,
        allow_empty: bool = False,
    ) -> None:
        self.root = os.fspath(root)
        self.transform = transform
        self.target_transform = target_transform
        self.loader = loader
        accepted = is_valid_file or has_extension
        folder = Path(root)
        if not folder.is_dir():
            what = "it is a file" if folder.exists() else "there is none"
            raise DataError(f"{folder}: expected a folder with one sub-folder for each class, and {what}")
        self.classes = sorted(d.name for d in folder.iterdir() if d.is_dir() and not d.name.startswith("."))
        if not self.classes:
            raise DataError(f"{folder}: expected one sub-folder for each class, and it has no sub-folders")
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        self.samples: list[tuple[str, int]] = []
        empty = []
        for name, number in self.class_to_idx.items():
            found = files_under(folder / name, accepted)
            self.samples += [(path, number) for path in found]
            if not found:
                empty.append(name)
        if empty and not allow_empty:
            more = f" and {len(empty) - 3} more" if len(empty) > 3 else ""
            raise DataError(
                f"{folder}: no pictures in the class {', '.join(empty[:3])}{more}"
                f" (known extensions: {' '.join(sorted(EXTENSIONS))})"
            )

    @property
    def imgs(self) -> list[tuple[str, int]]:
        """The same as `samples`, under torchvision's other name."""
        return self.samples

    @property
    def targets(self) -> list[int]:
        """The class number of each picture."""
        return [number for _, number in self.samples]

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        path, target = self.samples[index]
        picture = self.loader(path)
        if self.transform is not None:
            picture = self.transform(picture)
        return picture, target if self.target_transform is None else self.target_transform(target)

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        return f"ImageFolder({self.root!r}: {len(self):,} pictures of {len(self.classes)} classes)"


def has_extension(path: str) -> bool:
    """Whether a file of this name is read as a picture."""
    return os.path.splitext(path)[1].lower() in EXTENSIONS


def files_under(folder: Path, accepted: Callable[[str], bool]) -> list[str]:
    """The accepted files of a folder and its sub-folders, in order; nothing whose name begins with a dot."""
    found = []
    seen = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = os.path.join(here, name)
            if not name.startswith(".") and accepted(path):
                found.append(path)
    return found
