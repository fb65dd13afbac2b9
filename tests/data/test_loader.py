import gc
import itertools
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from juanji.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)
from juanji.data.randomness import sample_generator
from juanji.random import Generator, default_generator


class Squares(Dataset):
    """Sample by sample only."""

    def __init__(self, count):
        self.count = count

    def __getitem__(self, index):
        return np.full(2, index * index), index

    def __len__(self):
        return self.count


class Noisy(Squares):
    """Draws random numbers, a different count of them in each sample, and takes its time."""

    def __getitem__(self, index):
        time.sleep(0.001 * (index % 3))
        return sample_generator().random(1 + index % 4)[-1], index


def plain(batches):
    return [[part.numpy().tolist() for part in batch] for batch in batches]


def workers_left():
    return [t for t in threading.enumerate() if t.name.startswith("juanji-data")]


def test_batches_in_turn():
    loader = DataLoader(Squares(5), batch_size=2)
    assert plain(loader) == [
        [[[0, 0], [1, 1]], [0, 1]],
        [[[4, 4], [9, 9]], [2, 3]],
        [[[16, 16]], [4]],
    ]


@given(
    count=st.integers(0, 30),
    batch_size=st.integers(1, 9),
    drop_last=st.booleans(),
    shuffle=st.booleans(),
    workers=st.integers(0, 3),
)
@settings(max_examples=40, deadline=None)
def test_every_sample_once_and_the_length_is_right(count, batch_size, drop_last, shuffle, workers):
    loader = DataLoader(Squares(count), batch_size, shuffle, drop_last=drop_last, num_workers=workers)
    batches = plain(loader)
    assert len(batches) == len(loader) == (count // batch_size if drop_last else -(-count // batch_size))
    seen = [i for _, part in batches for i in part]
    assert len(seen) == len(set(seen)) == (count // batch_size * batch_size if drop_last else count)
    if not shuffle:
        assert seen == list(range(len(seen)))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_number_of_workers_gives_the_same(workers):
    def epochs(num_workers):
        loader = DataLoader(Noisy(40), 3, shuffle=True, num_workers=num_workers, generator=Generator().manual_seed(8))
        return [plain(loader) for _ in range(2)]

    alone = epochs(0)
    assert epochs(workers) == alone
    assert alone[0] != alone[1]


def test_the_default_generator_gives_the_order():
    loader = DataLoader(Squares(20), 4, shuffle=True)
    default_generator.manual_seed(5)
    first = plain(loader)
    default_generator.manual_seed(5)
    assert plain(loader) == first
    assert plain(loader) != first


def test_only_the_generator_moves():
    default_generator.manual_seed(0)
    before = default_generator.get_state()
    list(DataLoader(Noisy(6), 2, shuffle=True, generator=Generator().manual_seed(1)))
    after = default_generator.get_state()
    assert str(before) == str(after)


@pytest.mark.parametrize("workers", [0, 2])
def test_whole_batches_equal_single_samples(workers):
    x, y = np.random.default_rng(0).random((11, 3)), np.arange(11)
    dataset = TensorDataset(x, y)

    class OneByOne(Dataset):
        def __getitem__(self, index):
            return dataset[index]

        def __len__(self):
            return len(dataset)

    def batches(source):
        return plain(DataLoader(source, 4, True, num_workers=workers, generator=Generator().manual_seed(3)))

    assert batches(dataset) == batches(OneByOne())
    part = Subset(dataset, [4, 2, 8])
    assert plain(DataLoader(part, 2))[0][1] == [4, 2]


def test_an_override_is_not_passed_by():
    class Negative(TensorDataset):
        def __getitem__(self, index):
            return (-super().__getitem__(index)[0].numpy(),)

    dataset = Negative(np.arange(1, 4))
    assert plain(DataLoader(dataset, 2)) == [[[-1, -2]], [[-3]]]
    assert plain(DataLoader(Subset(dataset, [2, 1]), 2)) == [[[-3, -2]]]


def test_getitems_is_used():
    class Many(Squares):
        def __getitems__(self, indices):
            return [10 * i for i in indices]

    assert [b.numpy().tolist() for b in DataLoader(Many(3), 2)] == [[0, 10], [20]]


def test_collate_fn_gets_samples():
    loader = DataLoader(TensorDataset(np.arange(3)), 2, collate_fn=len)
    assert list(loader) == [2, 1]


def test_without_batches():
    loader = DataLoader(Squares(3), batch_size=None)
    assert len(loader) == 3
    samples = list(loader)
    assert samples[2][0].numpy().tolist() == [4, 4]
    assert samples[2][1] == 2


def test_samplers():
    data = "abcdef"
    assert sorted(RandomSampler(data)) == list(range(6))
    assert len(list(RandomSampler(data, num_samples=15))) == 15
    assert sorted(RandomSampler(data, num_samples=12)) == sorted([*range(6), *range(6)])
    assert set(RandomSampler(data, replacement=True, num_samples=40)) <= set(range(6))
    assert sorted(SubsetRandomSampler([7, 3, 5])) == [3, 5, 7]
    drawn = list(WeightedRandomSampler([0, 1, 1], 2, replacement=False))
    assert sorted(drawn) == [1, 2]
    assert len(BatchSampler(SequentialSampler(data), 4, drop_last=True)) == 1
    loader = DataLoader(Squares(6), batch_sampler=[[5], [0, 1]])
    assert [y.numpy().tolist() for _, y in loader] == [[5], [0, 1]]
    assert len(loader) == 2
    loader = DataLoader(Squares(6), 2, sampler=[3, 4, 5])
    assert [y.numpy().tolist() for _, y in loader] == [[3, 4], [5]]


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_keep_their_type_and_say_where(workers):
    class Broken(Squares):
        def __getitem__(self, index):
            if index == 5:
                raise LookupError("no sample five")
            return index

    batches = iter(DataLoader(Broken(9), 2, num_workers=workers))
    assert [next(batches).numpy().tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(LookupError, match="no sample five") as caught:
        next(batches)
    assert caught.value.__notes__ == ["while loading batch 2 (samples 4, 5) of Broken"]
    assert next(batches).numpy().tolist() == [6, 7]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_the_sampler_comes_in_its_turn(workers):
    def order():
        yield from [0, 1]
        raise OSError("lost")

    class Order:
        def __iter__(self):
            return order()

    batches = iter(DataLoader(Squares(9), None, sampler=Order(), num_workers=workers))
    assert [next(batches)[1] for _ in range(2)] == [0, 1]
    with pytest.raises(OSError, match="lost"):
        next(batches)


def test_leaving_early_stops_the_workers():
    loaded = []

    class Counting(Squares):
        def __getitem__(self, index):
            loaded.append(index)
            return index

    for _ in DataLoader(Counting(1000), 1, num_workers=3):
        break
    gc.collect()
    end = time.monotonic() + 20
    while workers_left() and time.monotonic() < end:
        time.sleep(0.01)
    assert not workers_left()
    assert len(loaded) < 20


def test_two_passes_at_once():
    loader = DataLoader(Squares(6), 2, num_workers=2)
    pairs = [(a[1].numpy().tolist(), b[1].numpy().tolist()) for a, b in zip(loader, loader, strict=True)]
    assert pairs == [([0, 1], [0, 1]), ([2, 3], [2, 3]), ([4, 5], [4, 5])]


def test_worker_init_fn_and_timeout():
    started = []
    list(DataLoader(Noisy(12), 1, num_workers=2, worker_init_fn=started.append))
    assert set(started) <= {0, 1}
    assert len(started) == len(set(started)) >= 1

    release = threading.Event()

    class Slow(Squares):
        def __getitem__(self, index):
            release.wait(30)
            return index

    batches = iter(DataLoader(Slow(3), 1, num_workers=1, timeout=0.05))
    with pytest.raises(RuntimeError, match=r"timed out: no batch within timeout=0\.05"):
        next(batches)
    release.set()
    with pytest.raises(StopIteration):
        next(batches)


def test_the_time_waiting_is_counted():
    ticks = itertools.count()
    loader = DataLoader(Squares(4), 2, collate_fn=lambda samples: next(ticks))
    assert loader.seconds_waiting == 0
    list(loader)
    once = loader.seconds_waiting
    assert once > 0
    list(loader)
    assert loader.seconds_waiting > once


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_workers": -1}, "num_workers=-1"),
        ({"num_workers": True}, "num_workers=True"),
        ({"timeout": -1}, "timeout=-1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"prefetch_factor": 2}, "prefetch_factor=2 means something only"),
        ({"prefetch_factor": 0, "num_workers": 1}, "prefetch_factor=0"),
        ({"persistent_workers": True}, "persistent_workers=True"),
        ({"multiprocessing_context": "fork"}, "threads"),
        ({"sampler": [1], "shuffle": True}, "either sampler or shuffle"),
        ({"batch_sampler": [[1]], "drop_last": True}, "batch_sampler takes the place"),
        ({"batch_sampler": [[1]], "batch_size": 3}, "batch_sampler takes the place"),
        ({"batch_size": None, "drop_last": True}, "drop_last=True"),
    ],
)
def test_contradictions_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(Squares(3), **arguments)


def test_what_is_no_dataset_or_generator_is_refused():
    with pytest.raises(TypeError, match=r"int has no length: define __len__"):
        DataLoader(3)
    with pytest.raises(TypeError, match="generator="):
        DataLoader(Squares(3), generator=4)


def test_pytorchs_other_arguments_are_taken():
    loader = DataLoader(
        Squares(4),
        2,
        True,
        None,
        None,
        2,
        None,
        True,
        False,
        0,
        None,
        None,
        prefetch_factor=3,
        persistent_workers=True,
    )
    assert sorted(i for _, y in loader for i in y.numpy().tolist()) == [0, 1, 2, 3]
