"""The order in which samples are loaded: in turn, shuffled, weighted, in batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from juanji.data._tensors import as_array
from juanji.data.dataset import size_of
from juanji.random import Generator, generator_or_default

T_co = TypeVar("T_co", covariant=True)


class Sampler(Generic[T_co]):
    """An order of indices. Derive from it and define `__iter__` and, where it is known, `__len__`."""

    def __iter__(self) -> Iterator[T_co]:
        raise TypeError(f"{type(self).__name__} defines no __iter__(), so it has no indices to give")


class SequentialSampler(Sampler[int]):
    """Every index in turn.

    >>> list(SequentialSampler("abc"))
    [0, 1, 2]
    """

    def __init__(self, data_source: Any) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(size_of(self.data_source)))

    def __len__(self) -> int:
        return size_of(self.data_source)


class RandomSampler(Sampler[int]):
    """Indices at random: a permutation, or drawn with replacement.

    Args:
        data_source: the set.
        replacement: draw each index independently of the others.
        num_samples: how many indices; by default as many as there are samples.
        generator: where they come from; by default the one that `manual_seed` sets.

    >>> sorted(RandomSampler("abc"))
    [0, 1, 2]
    """

    def __init__(
        self,
        data_source: Any,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        self.data_source = data_source
        self.replacement = replacement
        self.generator = generator
        self._num_samples = num_samples
        if num_samples is not None and (isinstance(num_samples, bool) or num_samples < 0):
            raise ValueError(f"num_samples={num_samples!r} must be a number of samples, 0 or more")

    @property
    def num_samples(self) -> int:
        """How many indices one pass gives."""
        return size_of(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        random = generator_or_default(self.generator).numpy
        count = size_of(self.data_source)
        wanted = self.num_samples
        if wanted and not count:
            raise ValueError(f"cannot draw {wanted} samples from an empty dataset")
        if self.replacement:
            order: list[int] = random.integers(0, count, wanted).tolist() if wanted else []
            return iter(order)
        passes = -(-wanted // count) if count else 0
        shuffled = itertools.chain.from_iterable(random.permutation(count).tolist() for _ in range(passes))
        return itertools.islice(shuffled, wanted)

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """The given indices in random order."""

    def __init__(self, indices: Sequence[int], generator: Generator | None = None) -> None:
        self.indices = indices
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        for i in generator_or_default(self.generator).numpy.permutation(len(self.indices)).tolist():
            yield self.indices[i]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """Indices drawn with probability proportional to `weights` (balances classes of unequal size).

    Raises:
        ValueError: negative or unusable weights, or more draws without replacement than there are weights
            above 0.

    >>> set(WeightedRandomSampler([0.0, 1.0, 3.0], 50)) <= {1, 2}
    True
    """

    def __init__(
        self,
        weights: Sequence[float],
        num_samples: int,
        replacement: bool = True,
        generator: Generator | None = None,
    ) -> None:
        self.weights = as_array(weights).astype(np.float64)
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator
        usable = self.weights.ndim == 1 and bool(np.all(np.isfinite(self.weights) & (self.weights >= 0)))
        if not usable or not self.weights.sum() > 0:
            raise ValueError("weights must be one row of finite numbers, 0 or more, not all of them 0")
        if isinstance(num_samples, bool) or num_samples <= 0:
            raise ValueError(f"num_samples={num_samples!r} must be 1 or more")
        if not replacement and num_samples > np.count_nonzero(self.weights):
            raise ValueError(
                f"num_samples={num_samples} without replacement is more than the "
                f"{np.count_nonzero(self.weights)} weights above 0"
            )

    def __iter__(self) -> Iterator[int]:
        random = generator_or_default(self.generator).numpy
        drawn: list[int] = random.choice(
            len(self.weights), self.num_samples, self.replacement, self.weights / self.weights.sum()
        ).tolist()
        return iter(drawn)

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Groups the indices of another sampler into batches.

    >>> list(BatchSampler(SequentialSampler("abcde"), 2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size <= 0:
            raise ValueError(f"batch_size={batch_size!r} must be an integer, 1 or more")
        if not isinstance(drop_last, bool):
            raise ValueError(f"drop_last={drop_last!r} must be True or False")
        self.sampler = sampler
        self.batch_size = int(batch_size)
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self.sampler)
        while batch := list(itertools.islice(indices, self.batch_size)):
            if len(batch) < self.batch_size and self.drop_last:
                return
            yield batch

    def __len__(self) -> int:
        count = size_of(self.sampler)
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)
