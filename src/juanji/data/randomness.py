"""Random numbers for transforms: the same ones for any number of workers, one by one or in batches.

While a `DataLoader` loads, the numbers of a sample depend only on the loader's seed of this pass and the
sample's place in it, so neither the number of workers nor their timing can change a picture. Outside of a
loader they come from the generator that `manual_seed` sets.

Transforms of Juanji draw through `uniform` (one sample) and `uniform_batch` (one row for each sample of a
batch), which give the same numbers: each is a hash of where it belongs, so a whole batch of them is made at
once. Transforms of your own may use `sample_generator()`, a NumPy generator with everything that those have.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji.random import default_generator

_local = threading.local()
_STEP = np.uint64(0x9E3779B97F4A7C15)


class SampleSeeds:
    """While active in this thread, `place(k)` starts the random numbers of sample `k` of one batch.

    Args:
        base: the seed of this pass over the data, 0 to 2**63 - 1.
        batch: the number of the batch within it.
    """

    def __init__(self, base: int, batch: int) -> None:
        self.base = base
        self.batch = batch
        self.sample = 0
        self.drawn = 0
        self.made: np.random.Generator | None = None
        self.outer: SampleSeeds | None = None

    def place(self, sample: int) -> None:
        """From here on, numbers are drawn for this sample."""
        self.sample = sample
        self.drawn = 0
        self.made = None

    def generator(self) -> np.random.Generator:
        """The generator of the current sample, made when first asked for: most samples draw nothing."""
        if self.made is None:
            key = np.array([self.base, (self.batch << 32) | self.sample], dtype=np.uint64)
            self.made = np.random.Generator(np.random.Philox(key=key))
        return self.made

    def uniform(self, first: int, samples: int, count: int) -> NDArray[np.float64]:
        """The next `count` numbers of each of `samples` samples from `first` on, in [0, 1)."""
        rows = np.arange(first, first + samples, dtype=np.uint64)[:, None]
        columns = np.arange(self.drawn, self.drawn + count, dtype=np.uint64)[None, :]
        self.drawn += count
        start = _mixed(np.array([self.base], dtype=np.uint64) + np.array([self.batch], dtype=np.uint64) * _STEP)
        bits = _mixed(_mixed(start + rows * _STEP) + columns * _STEP)
        out: NDArray[np.float64] = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return out

    def __enter__(self) -> SampleSeeds:
        self.outer = getattr(_local, "seeds", None)
        _local.seeds = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _local.seeds = self.outer


def _active() -> SampleSeeds | None:
    seeds: SampleSeeds | None = getattr(_local, "seeds", None)
    return seeds


def _mixed(values: NDArray[Any]) -> NDArray[Any]:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014): each bit depends on every bit of the input."""
    values = values + _STEP
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[Any] = values ^ (values >> np.uint64(31))
    return mixed


def place(sample: int) -> None:
    """Says that sample `sample` of the batch is loaded next; nothing outside of a loader."""
    seeds = _active()
    if seeds is not None:
        seeds.place(sample)


def uniform(count: int) -> NDArray[np.float64]:
    """`count` random numbers in [0, 1) for the current sample.

    >>> with SampleSeeds(7, 0) as seeds:
    ...     rows = uniform_batch(3, 2)
    ...     place(1)
    ...     bool((uniform(2) == rows[1]).all())
    True
    """
    seeds = _active()
    if seeds is None:
        return default_generator.numpy.random(count)
    row: NDArray[np.float64] = seeds.uniform(seeds.sample, 1, count)[0]
    return row


def uniform_batch(samples: int, count: int) -> NDArray[np.float64]:
    """A row of what `uniform(count)` gives for each sample of a batch."""
    seeds = _active()
    if seeds is None:
        return default_generator.numpy.random((samples, count))
    return seeds.uniform(0, samples, count)


def sample_generator() -> np.random.Generator:
    """A generator for the current sample, for transforms of your own.

    >>> from juanji.random import default_generator
    >>> sample_generator() is default_generator.numpy
    True
    """
    seeds = _active()
    return default_generator.numpy if seeds is None else seeds.generator()
