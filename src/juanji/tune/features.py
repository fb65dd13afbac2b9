"""Features of a frozen network, computed once for each picture and kept on disk.

They are kept under a hash of everything that they hang on: the network's weights, how pictures are made, the version
of this program and what the kernels were compiled for; and within it by the hash of each picture's pixels. So a picture
that is renamed or moved keeps its features, and one that is changed gets new ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import juanji
from juanji import zoo
from juanji.data import DataLoader, Dataset, open_image
from juanji.data.scanning import Sample
from juanji.errors import DataError
from juanji.formats import container
from juanji.interop.preprocessing import Preprocessing
from juanji.paths import cache_dir
from juanji.tensors import from_numpy, no_grad
from juanji.train.checkpoint import made_with
from juanji.tune.loading import default_workers
from juanji.zoo import Classifier

#: Pictures at once. Always so many, so that the same kernels run whatever is left to do.
BATCH = 16
#: What is new is written after so many seconds: no more is lost when the work is ended.
SECONDS = 10.0
#: Bytes that are kept of all features; what was not used for longest goes first.
LARGEST = 1 << 30

Features = NDArray[np.float32]


@dataclass
class Store:
    """Features on disk of one network and one view of pictures.

    Args:
        folder: where they are; None keeps nothing.

    Attributes:
        known: features (F,) by the hash of a picture's pixels.
    """

    folder: Path | None
    known: dict[str, Features] = field(default_factory=dict)
    _new: dict[str, Features] = field(default_factory=dict)
    _broken: bool = False

    def __post_init__(self) -> None:
        if self.folder is None or not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                arrays, description = container.read(path)
                digests, values = description["digests"], arrays["features"]
                if len(digests) != len(values) or values.ndim != 2 or values.dtype != np.float32:
                    raise DataError("its parts do not fit")
            except (DataError, OSError, KeyError, TypeError):
                with contextlib.suppress(OSError):  # damaged: computed anew
                    path.unlink()
                continue
            self.known.update(zip(map(str, digests), values, strict=True))
        with contextlib.suppress(OSError):
            os.utime(self.folder)

    def add(self, digest: str, values: Features) -> None:
        """Takes the features of one picture."""
        self.known[digest] = self._new[digest] = values

    def save(self) -> str | None:
        """Writes what is new; whole or not at all.

        Returns:
            why it could not be written, the first time: a cache is no reason to fail.
        """
        if self.folder is None or not self._new or self._broken:
            return None
        digests = list(self._new)
        name = hashlib.sha256("".join(digests).encode()).hexdigest()[:24]
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            container.write(
                self.folder / f"{name}.safetensors",
                {"features": np.stack([self._new[d] for d in digests])},
                {"digests": digests},
            )
        except OSError as error:
            self._broken = True
            return f"{error.strerror or error}"
        self._new.clear()
        return None


def key(model: Classifier, preprocessing: Preprocessing) -> str:
    """A hash of all that a picture's features hang on, except the picture."""
    digest = hashlib.sha256()
    built = zoo.architecture(model)
    built["arguments"].pop("num_classes", None)
    description = {"built": built, "preprocessing": preprocessing.to_json(), "batch": BATCH, "made_with": made_with()}
    digest.update(json.dumps(description, sort_keys=True).encode())
    for name, value in model.state_dict().items():
        if not name.startswith(f"{model.classifier_name}."):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(value.detach().numpy()).data)
    return digest.hexdigest()[:32]


def store(model: Classifier, preprocessing: Preprocessing, folder: Path | None = None) -> Store:
    """The kept features of a network and a view.

    Args:
        model: the network; its last layer does not count.
        preprocessing: the view.
        folder: of the cache; by default `features` in the user's cache folder.
    """
    return Store((folder or features_dir()) / key(model, preprocessing))


def features_dir() -> Path:
    """The cache's folder for features."""
    return cache_dir() / "features"


class _Views(Dataset[tuple[list[NDArray[np.uint8]], int]]):
    """Several views of each picture, which is opened once."""

    def __init__(self, samples: Sequence[Sample], views: Sequence[Preprocessing]) -> None:
        self.samples, self.views = samples, views

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[list[NDArray[np.uint8]], int]:
        image = open_image(self.samples[index].path, None)
        return [view.picture(image) for view in self.views], index


def compute(
    model: Classifier,
    samples: Sequence[Sample],
    views: Sequence[Preprocessing],
    *,
    stores: Sequence[Store] | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Features]:
    """What the last layer of a network reads, for each picture and view.

    Args:
        model: in evaluation mode while this runs.
        samples: the pictures.
        views: ways to make them into inputs.
        stores: what is known already, one for each view; filled with what is new. By default those in the user's cache.
        workers: threads that open pictures ahead.
        progress: called with the number of pictures done and all.
        say: gets a sentence where the cache can't be written.

    Returns:
        for each view float32 (len(samples), F).
    """
    stores = [store(model, view) for view in views] if stores is None else list(stores)
    todo, seen = [], set()
    for sample in samples:
        if sample.digest not in seen and any(sample.digest not in s.known for s in stores):
            todo.append(sample)
            seen.add(sample.digest)
    was_training = model.training
    model.eval()

    def forward(inputs: Any) -> Any:
        with no_grad():
            return model.forward_head(model.forward_features(inputs), pre_logits=True)

    run = juanji.compile(forward)
    batches = DataLoader(
        _Views(todo, views),
        batch_size=BATCH,
        num_workers=default_workers() if workers is None else workers,
        collate_fn=list,
    )
    done = len(samples) - len(todo)
    saved = time.monotonic()
    try:
        for batch in batches if todo else ():
            for v, (view, kept) in enumerate(zip(views, stores, strict=True)):
                pictures = np.zeros((BATCH, view.channels, *view.size), np.uint8)
                for i, (made, _) in enumerate(batch):
                    pictures[i] = made[v]
                values = run(from_numpy(view.normalize(pictures))).numpy()
                for i, (_, index) in enumerate(batch):
                    kept.add(todo[index].digest, values[i].copy())
            done += len(batch)
            if progress is not None:
                progress(done, len(samples))
            if time.monotonic() - saved > SECONDS:
                _save(stores, say)
                saved = time.monotonic()
    finally:
        model.train(was_training)
        _save(stores, say)
    prune(stores)
    return [np.stack([s.known[sample.digest] for sample in samples]) for s in stores]


def _save(stores: Sequence[Store], say: Callable[[str], None] | None) -> None:
    for kept in stores:
        reason = kept.save()
        if reason is not None and say is not None:
            say(f"the features could not be kept in {kept.folder} ({reason}); the work goes on")


def prune(stores: Sequence[Store], largest: int | None = None) -> None:
    """Removes what was not used for longest, where all kept features together are too large.

    Args:
        stores: those in use, which stay.
        largest: bytes that may stay; by default `LARGEST`.
    """
    used = {s.folder for s in stores}
    folders = {s.folder.parent for s in stores if s.folder is not None}
    with contextlib.suppress(OSError):
        found = []
        for parent in folders:
            for folder in parent.iterdir() if parent.is_dir() else ():
                size = sum(file.stat().st_size for file in folder.glob("*"))
                found.append((folder.stat().st_mtime, size, folder))
        total = sum(size for _, size, _ in found)
        for _, size, folder in sorted(found):
            if total <= (LARGEST if largest is None else largest):
                break
            if folder not in used:
                shutil.rmtree(folder, ignore_errors=True)
                total -= size
