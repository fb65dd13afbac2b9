"""The sets that Juanji knows by name: what `juanji data list`, `get` and `path` show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from juanji.data import datasets, mnist
from juanji.data.fetch import Progress
from juanji.data.vision import ArrayImages
from juanji.errors import DataError


@dataclass(frozen=True)
class Entry:
    """One known set.

    Attributes:
        name: what to call it.
        title: what people call it.
        text: one line about it.
        train: pictures to train with.
        test: pictures to test with.
        bytes: what is downloaded.
        classes: the names.
        folder: where it lies, or None where it is not there.
        source: the line that says which set lies there, or "".
    """

    name: str
    title: str
    text: str
    train: int
    test: int
    bytes: int
    classes: tuple[str, ...]
    folder: Path | None
    source: str


_KNOWN: dict[str, type[datasets._Known]] = {
    cls.info.name: cls for cls in (datasets.MNIST, datasets.MNIST5k, datasets.FashionMNIST)
}


def names() -> list[str]:
    """The names of all known sets.

    >>> names()
    ['mnist', 'mnist-5k', 'fashion-mnist']
    """
    return list(_KNOWN)


def info(name: str) -> Entry:
    """What is known of a set, and whether it is there.

    Raises:
        DataError: an unknown name.
    """
    known = _set(name).info
    found = mnist.find(known) or (mnist.find(mnist.DIGITS_INFO) if known is mnist.MNIST_INFO else None)
    return Entry(
        known.name,
        known.title,
        known.text,
        known.counts[0],
        known.counts[1],
        known.bytes,
        known.classes,
        found.folder if found else None,
        found.source if found else "",
    )


def entries() -> list[Entry]:
    """All known sets."""
    return [info(name) for name in _KNOWN]


def get(name: str, progress: Progress | None = None) -> Entry:
    """Fetches a set into the cache where it is not there yet; says in `source` what it got.

    Raises:
        DataError: an unknown name, or a set that cannot be fetched.
    """
    mnist.get(_set(name).info, fetch=True, renew=True, progress=progress)
    return info(name)


def path(name: str) -> Path:
    """The folder of a set that is there.

    Raises:
        DataError: an unknown name, or a set that is not there; says what to put where.
    """
    return mnist.get(_set(name).info).folder


def load(
    name: str,
    train: bool,
    transform: Callable[[Any], Any] | None = None,
    *,
    download: bool = False,
    progress: Progress | None = None,
) -> ArrayImages:
    """One half of a known set.

    Raises:
        DataError: an unknown name, or a set that is not there.
    """
    return _set(name)(None, train, transform, download=download, progress=progress)


def _set(name: str) -> type[datasets._Known]:
    found = _KNOWN.get(name.lower().replace("_", "-").replace(" ", "-"))
    if found is None:
        raise DataError(f"there is no data set {name!r}; known are {', '.join(_KNOWN)}")
    return found
