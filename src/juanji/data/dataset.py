"""Sets of samples: the base class, sets made of tensors, parts of sets and sets one after another."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from juanji.data._tensors import Tensor, as_array, overrides_agree, to_tensor
from juanji.data.randomness import place
from juanji.errors import ShapeError
from juanji.random import Generator, generator_or_default

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """A set of samples. Derive from it and define `__getitem__(index)` and `__len__()`.

    A set that can give a whole batch faster than sample by sample may also define
    `__getbatch__(indices)`, which returns exactly what `default_collate` would make of those samples, or None
    where it has no faster way. (`__getitems__(indices)` returning a list of samples, as in PyTorch, is used
    as well.)

    >>> class Squares(Dataset[int]):
    ...     def __getitem__(self, index: int) -> int:
    ...         return index * index
    ...     def __len__(self) -> int:
    ...         return 3
    >>> Squares()[2], len(Squares() + Squares())
    (4, 6)
    """

    def __getitem__(self, index: int) -> T_co:
        raise TypeError(f"{type(self).__name__} defines no __getitem__(index), so it has no samples to give")

    def __add__(self, other: Dataset[Any]) -> ConcatDataset[Any]:
        return ConcatDataset([self, other])


def size_of(dataset: Any) -> int:
    """`len(dataset)`.

    Raises:
        TypeError: a set without a length.
    """
    try:
        return len(dataset)
    except TypeError:
        raise TypeError(
            f"{type(dataset).__name__} has no length: define __len__() on the dataset, or give a sampler"
        ) from None


def whole_batch(dataset: Any) -> Callable[[Sequence[int]], Any] | None:
    """The set's way to give a whole batch at once, or None where samples have to be asked for one by one."""
    if overrides_agree(dataset, "__getbatch__", "__getitem__"):
        method: Callable[[Sequence[int]], Any] = dataset.__getbatch__
        return method
    return None


def samples_at(dataset: Any, indices: Sequence[int]) -> list[Any]:
    """The samples at `indices`, through `__getitems__` where the set has it."""
    if overrides_agree(dataset, "__getitems__", "__getitem__"):
        return list(dataset.__getitems__(indices))
    samples = []
    for k, index in enumerate(indices):
        place(k)
        samples.append(dataset[index])
    return samples


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Samples that are rows of tensors: sample `i` is `(a[i], b[i], ...)`.

    Args:
        tensors: tensors (or NumPy arrays) of equal first extent.

    Raises:
        ShapeError: extents that differ.

    >>> set_ = TensorDataset(np.arange(6.0).reshape(3, 2), np.array([7, 8, 9]))
    >>> x, y = set_[1]
    >>> x.numpy().tolist(), int(y.numpy()), len(set_)
    ([2.0, 3.0], 8, 3)
    """

    def __init__(self, *tensors: Any) -> None:
        if not tensors:
            raise ValueError("TensorDataset needs at least one tensor, and got none")
        self.tensors: tuple[Tensor, ...] = tuple(
            t if isinstance(t, Tensor) else to_tensor(as_array(t)) for t in tensors
        )
        shapes = [tuple(t.shape) for t in self.tensors]
        for shape in shapes:
            if not shape:
                raise ShapeError("TensorDataset takes tensors with at least one dimension, and got a scalar")
            if shape[0] != shapes[0][0]:
                raise ShapeError(
                    "TensorDataset takes tensors of equal first extent, and got shapes "
                    + ", ".join(str(s) for s in shapes)
                )

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)

    def __getbatch__(self, indices: Sequence[int]) -> list[Tensor] | None:
        if any(t.requires_grad for t in self.tensors):
            return None  # the samples' history has to go through their tensors
        at = np.asarray(indices, dtype=np.intp)
        return [to_tensor(t.numpy()[at]) for t in self.tensors]

    def __len__(self) -> int:
        return int(self.tensors[0].shape[0])


class Subset(Dataset[T_co]):
    """The samples of `dataset` at `indices`.

    >>> part = Subset(TensorDataset(np.arange(10)), [9, 3])
    >>> [int(x.numpy()) for (x,) in (part[0], part[1])]
    [9, 3]
    """

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> T_co:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]  # type: ignore[index]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: Sequence[int]) -> list[T_co]:
        return samples_at(self.dataset, [self.indices[i] for i in indices])

    def __getbatch__(self, indices: Sequence[int]) -> Any:
        whole = whole_batch(self.dataset)
        return None if whole is None else whole([self.indices[i] for i in indices])

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset[T_co]):
    """Several sets one after another.

    >>> both = ConcatDataset([TensorDataset(np.arange(2)), TensorDataset(np.arange(5, 8))])
    >>> len(both), int(both[3][0].numpy()), int(both[-1][0].numpy())
    (5, 6, 7)
    """

    def __init__(self, datasets: Iterable[Dataset[T_co]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset needs at least one dataset, and got an empty list")
        self.cumulative_sizes = list(itertools.accumulate(size_of(d) for d in self.datasets))

    def __getitem__(self, index: int) -> T_co:
        total = len(self)
        if not -total <= index < total:
            raise IndexError(f"index {index} is out of range for {total} samples")
        if index < 0:
            index += total
        part = bisect.bisect_right(self.cumulative_sizes, index)
        before = self.cumulative_sizes[part - 1] if part else 0
        return self.datasets[part][index - before]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


def random_split(
    dataset: Dataset[T_co], lengths: Sequence[int | float], generator: Generator | None = None
) -> list[Subset[T_co]]:
    """Divides a set at random into parts that do not overlap.

    Args:
        dataset: the set.
        lengths: the parts' sizes, which add up to `len(dataset)`, or fractions that add up to 1 (each rounded
            down; what remains goes one by one to the first parts).
        generator: where the order comes from; by default the one that `manual_seed` sets.

    Raises:
        ValueError: sizes that do not add up.

    >>> parts = random_split(TensorDataset(np.arange(10)), [0.75, 0.25], Generator().manual_seed(1))
    >>> [len(part) for part in parts], sorted(parts[0].indices + parts[1].indices) == list(range(10))
    ([8, 2], True)
    """
    count = size_of(dataset)
    if math.isclose(sum(lengths), 1):
        if any(not 0 <= fraction <= 1 for fraction in lengths):
            raise ValueError(f"lengths={list(lengths)!r}: fractions must lie between 0 and 1")
        sizes = [math.floor(count * fraction) for fraction in lengths]
        for i in range(count - sum(sizes)):
            sizes[i % len(sizes)] += 1
    else:
        sizes = [int(n) for n in lengths]
        if sum(lengths) != count or any(n < 0 for n in lengths):
            raise ValueError(
                f"lengths={list(lengths)!r} must be sizes that add up to the {count} samples of the dataset,"
                " or fractions that add up to 1"
            )
    order = generator_or_default(generator).numpy.permutation(count).tolist()
    ends = list(itertools.accumulate(sizes))
    return [Subset(dataset, order[end - n : end]) for n, end in zip(sizes, ends, strict=True)]
