"""Batches from a dataset, prepared by threads where asked.

Workers are threads, not processes: reading files, decoding pictures and NumPy's work on large arrays release
the interpreter lock, nothing has to be pickled, and a worker costs no memory. Batches come in the same order
and with the same contents for any number of workers: the order is drawn in the thread that iterates, and each
sample's random numbers come from a seed of its own (`juanji.data.randomness`).
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any

from juanji.data.collate import default_collate, default_convert
from juanji.data.dataset import samples_at, size_of, whole_batch
from juanji.data.randomness import SampleSeeds
from juanji.data.sampler import BatchSampler, RandomSampler, SequentialSampler
from juanji.random import Generator, generator_or_default

if TYPE_CHECKING:
    from concurrent.futures import Future


class DataLoader:
    """Iterates over a dataset in batches.

    Args:
        dataset: anything with `__getitem__` and `__len__`.
        batch_size: samples in a batch; None gives single samples without a batch axis.
        shuffle: a new random order in each pass.
        sampler: an order of indices of your own, instead of `shuffle`.
        batch_sampler: lists of indices of your own, instead of `batch_size`, `shuffle`, `sampler` and
            `drop_last`.
        num_workers: threads that load ahead; 0 loads in the thread that iterates. Any number gives the same
            batches.
        collate_fn: makes a batch of a list of samples; by default `default_collate`.
        pin_memory: accepted as in PyTorch; there is only one kind of memory on a CPU.
        drop_last: leave out a last batch that is not full.
        timeout: seconds to wait for a batch before an error; 0 waits for ever.
        worker_init_fn: called with the worker's number at its start.
        multiprocessing_context: must be None, since workers are threads.
        generator: where the order comes from; by default the one that `manual_seed` sets.
        prefetch_factor: batches loaded ahead for each worker; 2 by default.
        persistent_workers: accepted as in PyTorch; starting a thread costs next to nothing.

    Attributes:
        seconds_waiting: the time that iterating has waited for data so far (set it to 0 to start anew).

    Raises:
        ValueError: arguments that contradict each other.

    >>> import numpy as np
    >>> from juanji.data import TensorDataset
    >>> loader = DataLoader(TensorDataset(np.arange(5), np.arange(5) % 2), batch_size=2)
    >>> [x.numpy().tolist() for x, y in loader], len(loader)
    ([[0, 1], [2, 3], [4]], 3)
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[list[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: None = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
    ) -> None:
        if isinstance(num_workers, bool) or not isinstance(num_workers, int) or num_workers < 0:
            raise ValueError(f"num_workers={num_workers!r} must be an integer, 0 or more")
        if timeout < 0:
            raise ValueError(f"timeout={timeout!r} must be 0 (no limit) or more seconds")
        if num_workers == 0 and prefetch_factor is not None:
            raise ValueError(f"prefetch_factor={prefetch_factor!r} means something only with num_workers above 0")
        if prefetch_factor is not None and (isinstance(prefetch_factor, bool) or prefetch_factor < 1):
            raise ValueError(f"prefetch_factor={prefetch_factor!r} must be 1 or more")
        if num_workers == 0 and persistent_workers:
            raise ValueError("persistent_workers=True means something only with num_workers above 0")
        if multiprocessing_context is not None:
            raise ValueError("multiprocessing_context must be None: the workers of this loader are threads")
        if sampler is not None and shuffle:
            raise ValueError("give either sampler or shuffle=True: a sampler has an order of its own")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ValueError("batch_sampler takes the place of batch_size, shuffle, sampler and drop_last")
        if batch_size is None and drop_last:
            raise ValueError("drop_last=True means something only with a batch_size")
        generator_or_default(generator)  # refuses what is no generator here, not in the first pass
        self.dataset = dataset
        self.num_workers = num_workers
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.generator = generator
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.persistent_workers = persistent_workers
        self.prefetch_factor = 2 if prefetch_factor is None and num_workers else prefetch_factor
        self.seconds_waiting = 0.0
        if batch_sampler is not None:
            batch_size = None
        elif sampler is None:
            size_of(dataset)  # says at once what a set without a length lacks
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_size is not None and sampler is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        if collate_fn is None:
            collate_fn = default_convert if batch_sampler is None else default_collate
        self.collate_fn = collate_fn

    def __iter__(self) -> Iterator[Any]:
        return self.starting_at(0)

    def starting_at(self, batch: int) -> Iterator[Any]:
        """One pass from batch number `batch` on, as if those before had been taken: they are not loaded.

        >>> loader = DataLoader([[0], [1], [2], [3], [4]], batch_size=2)
        >>> [b[0].tolist() for b in loader.starting_at(1)]
        [[2, 3], [4]]
        """
        return _InTurn(self, batch) if self.num_workers == 0 else _Ahead(self, batch)

    def __len__(self) -> int:
        return size_of(self.sampler if self.batch_sampler is None else self.batch_sampler)


class _Loading:
    """What makes batch number `number` of one pass; does not hold the iterator, which can be collected."""

    def __init__(self, loader: DataLoader) -> None:
        self.dataset = loader.dataset
        self.collate = loader.collate_fn
        self.batched = loader.batch_sampler is not None
        # A whole batch at once is what default_collate would make, so it can stand in for nothing else.
        self.whole = whole_batch(loader.dataset) if self.collate is default_collate else None
        self.init = loader.worker_init_fn
        self.workers = itertools.count()
        self.started = threading.local()
        # Drawn once per pass whether or not it is used, so that adding a random transform reorders nothing.
        self.seed = int(generator_or_default(loader.generator).numpy.integers(0, 2**63))

    def __call__(self, number: int, wanted: Any) -> Any:
        try:
            with SampleSeeds(self.seed, number):
                if not self.batched:
                    return self.collate(self.dataset[wanted])
                if self.whole is not None:
                    batch = self.whole(wanted)
                    if batch is not None:
                        return batch
                return self.collate(samples_at(self.dataset, wanted))
        except Exception as error:
            error.add_note(f"while loading batch {number} ({_named(wanted)}) of {type(self.dataset).__name__}")
            raise

    def in_worker(self, number: int, wanted: Any) -> Any:
        """As a call, in a worker thread."""
        if self.init is not None and not hasattr(self.started, "number"):
            self.started.number = next(self.workers)
            self.init(self.started.number)
        return self(number, wanted)


class _InTurn:
    """One pass without workers."""

    def __init__(self, loader: DataLoader, first: int = 0) -> None:
        self._loader = loader
        self._load = _Loading(loader)
        self._number = itertools.count(first)
        self._indices = _indices(loader, first)

    def __iter__(self) -> _InTurn:
        return self

    def __next__(self) -> Any:
        start = perf_counter()
        try:
            wanted = next(self._indices)
            return self._load(next(self._number), wanted)
        finally:
            self._loader.seconds_waiting += perf_counter() - start


class _Ahead:
    """One pass with worker threads: a queue of batches in order, refilled as batches are taken."""

    def __init__(self, loader: DataLoader, first: int = 0) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._loader = loader
        self._load = _Loading(loader)
        self._number = itertools.count(first)
        self._indices: Iterator[Any] | None = _indices(loader, first)
        self._queue: deque[Future[Any]] = deque()
        self._pool = ThreadPoolExecutor(loader.num_workers, thread_name_prefix="juanji-data")
        self._depth = loader.num_workers * (loader.prefetch_factor or 2)
        # Leaving the loop early drops the iterator; nothing that is only queued is then loaded.
        self._stop = weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)
        self._fill()

    def _fill(self) -> None:
        while self._indices is not None and len(self._queue) < self._depth:
            try:
                wanted = next(self._indices)
            except StopIteration:
                self._indices = None
            except Exception as error:
                # What went wrong in the sampler is told where it would be without workers: after the batches
                # before.
                self._queue.append(self._pool.submit(_raise, error))
                self._indices = None
            else:
                self._queue.append(self._pool.submit(self._load.in_worker, next(self._number), wanted))

    def __iter__(self) -> _Ahead:
        return self

    def __next__(self) -> Any:
        start = perf_counter()
        try:
            if not self._queue:
                self._stop()
                raise StopIteration
            future = self._queue.popleft()
            self._fill()
            return self._result(future)
        finally:
            self._loader.seconds_waiting += perf_counter() - start

    def _result(self, future: Future[Any]) -> Any:
        timeout = self._loader.timeout
        try:
            return future.result(timeout or None)
        except TimeoutError:
            if future.done():
                raise  # the dataset's own
            self._stop()
            self._queue.clear()
            self._indices = None
            raise RuntimeError(f"DataLoader timed out: no batch within timeout={timeout} seconds") from None


def _raise(error: Exception) -> Any:
    raise error


def _indices(loader: DataLoader, first: int) -> Iterator[Any]:
    source = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    assert source is not None  # the constructor made one of the two
    indices = iter(source)
    for _ in itertools.islice(indices, first):  # drawn now, so that generators stand where they would
        pass
    return indices


def _named(wanted: Any) -> str:
    if not isinstance(wanted, list):
        return f"sample {wanted}"
    shown = ", ".join(str(index) for index in wanted[:8])
    return f"samples {shown}{', ...' if len(wanted) > 8 else ''}"
