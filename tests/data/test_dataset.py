import numpy as np
import pytest

from juanji.data import ConcatDataset, Dataset, Subset, TensorDataset, random_split
from juanji.errors import ShapeError
from juanji.random import Generator


def values(dataset):
    return [int(dataset[i][0].numpy()) for i in range(len(dataset))]


def test_tensor_dataset_gives_rows():
    dataset = TensorDataset(np.arange(12.0).reshape(4, 3), np.arange(4))
    x, y = dataset[2]
    assert x.numpy().tolist() == [6, 7, 8]
    assert int(y.numpy()) == 2
    assert len(dataset) == 4


def test_whole_batches_equal_the_rows():
    dataset = TensorDataset(np.arange(12.0).reshape(4, 3), np.arange(4))
    x, y = dataset.__getbatch__([3, 0])
    assert x.numpy().tolist() == [[9, 10, 11], [0, 1, 2]]
    assert y.numpy().tolist() == [3, 0]


@pytest.mark.parametrize("arrays", [(np.zeros(3), np.zeros(4)), (np.zeros(()),)])
def test_tensor_dataset_refuses_unequal_extents(arrays):
    with pytest.raises(ShapeError, match="TensorDataset takes"):
        TensorDataset(*arrays)


def test_tensor_dataset_needs_a_tensor():
    with pytest.raises(ValueError, match="at least one"):
        TensorDataset()


def test_subset_of_a_subset():
    inner = Subset(TensorDataset(np.arange(10)), [9, 7, 5, 3])
    outer = Subset(inner, [3, 0])
    assert values(outer) == [3, 9]
    assert outer.__getbatch__([1, 0])[0].numpy().tolist() == [9, 3]
    assert [int(s[0].numpy()) for s in outer.__getitems__([1, 0])] == [9, 3]


def test_concat():
    both = TensorDataset(np.arange(3)) + TensorDataset(np.arange(10, 12))
    assert isinstance(both, ConcatDataset)
    assert values(both) == [0, 1, 2, 10, 11]
    assert int(both[-5][0].numpy()) == 0
    assert both.cumulative_sizes == [3, 5]
    with pytest.raises(IndexError, match="index 5 is out of range for 5"):
        both[5]
    with pytest.raises(ValueError, match="at least one"):
        ConcatDataset([])


@pytest.mark.parametrize(
    ("count", "lengths", "sizes"),
    [
        (10, [7, 3], [7, 3]),
        (10, [0.75, 0.25], [8, 2]),
        (11, [0.3, 0.3, 0.4], [4, 3, 4]),
        (10, [1.0], [10]),
        (1, [1, 0], [1, 0]),
        (3, [0, 3], [0, 3]),
    ],
)
def test_random_split_sizes(count, lengths, sizes):
    parts = random_split(TensorDataset(np.arange(count)), lengths, Generator().manual_seed(4))
    assert [len(p) for p in parts] == sizes
    assert sorted(i for p in parts for i in p.indices) == list(range(count))


def test_random_split_follows_its_generator():
    dataset = TensorDataset(np.arange(50))
    first, again, other = (
        random_split(dataset, [25, 25], Generator().manual_seed(seed))[0].indices for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize("lengths", [[5, 4], [11], [-1, 11], [0.5, 0.4], [1.5, -0.5]])
def test_random_split_refuses_what_does_not_add_up(lengths):
    with pytest.raises(ValueError, match="lengths="):
        random_split(TensorDataset(np.arange(10)), lengths)


def test_a_dataset_without_getitem_says_so():
    class Nothing(Dataset):
        pass

    with pytest.raises(TypeError, match=r"Nothing defines no __getitem__"):
        Nothing()[0]
    with pytest.raises(TypeError, match=r"Nothing has no length"):
        random_split(Nothing(), [1])
