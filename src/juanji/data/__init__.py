"""Data: sets of samples, pictures and their transforms, batches for training, and getting known sets."""

import importlib
from typing import TYPE_CHECKING, Any

from juanji.data.collate import default_collate
from juanji.data.dataset import ConcatDataset, Dataset, Subset, TensorDataset, random_split
from juanji.data.idx import load_idx_folder, read_idx, write_idx
from juanji.data.images import open_image
from juanji.data.loader import DataLoader
from juanji.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

if TYPE_CHECKING:
    from juanji.data import datasets, transforms
    from juanji.data.pictures import Pictures
    from juanji.data.scanning import scan
    from juanji.data.splitting import split

__all__ = [
    "BatchSampler",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "Pictures",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "datasets",
    "default_collate",
    "load_idx_folder",
    "open_image",
    "random_split",
    "read_idx",
    "scan",
    "split",
    "transforms",
    "write_idx",
]

_LATER = {"Pictures": "juanji.data.pictures", "scan": "juanji.data.scanning", "split": "juanji.data.splitting"}


def __getattr__(name: str) -> Any:
    # The known sets bring the machinery of downloads along, and both are wanted only by some programs.
    if name in ("datasets", "transforms"):
        return importlib.import_module(f"juanji.data.{name}")
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'juanji.data' has no attribute {name!r}")
