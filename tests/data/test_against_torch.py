"""The same results as PyTorch's, where it is installed."""

import numpy as np
import pytest

from juanji.data import DataLoader, TensorDataset, default_collate, random_split
from juanji.data import transforms as T

torch = pytest.importorskip("torch")
data = pytest.importorskip("torch.utils.data")


@pytest.mark.parametrize(
    "batch", [[1, 2], [1.0, 2.0], [True, False], [np.float32(1), np.float32(2)], [np.zeros(2), np.ones(2)]]
)
def test_collate_types_and_values(batch):
    ours, theirs = default_collate(batch).numpy(), data.default_collate(batch).numpy()
    assert ours.dtype == theirs.dtype
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("lengths", [[0.1] * 10, [0.7, 0.2, 0.1], [0.29, 0.71], [3, 97]])
def test_random_split_sizes(lengths):
    ours = random_split(TensorDataset(np.arange(100)), lengths)
    theirs = data.random_split(range(100), lengths)
    assert [len(p) for p in ours] == [len(p) for p in theirs]


@pytest.mark.parametrize("drop_last", [True, False])
def test_loader_in_turn(drop_last):
    x, y = np.random.default_rng(0).random((10, 3), np.float32), np.arange(10)
    ours = list(DataLoader(TensorDataset(x, y), 4, drop_last=drop_last))
    dataset = data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    theirs = list(data.DataLoader(dataset, 4, drop_last=drop_last))
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert type(a) is type(b)
        for u, v in zip(a, b, strict=True):
            assert np.array_equal(u.numpy(), v.numpy())


def test_the_arithmetic_of_to_tensor_and_normalize():
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    theirs = torch.from_numpy(pixels).to(torch.float32).div(255)
    theirs = theirs.sub(torch.tensor(0.1307)).div(torch.tensor(0.3081))
    ours = T.Compose([T.ToTensor(), T.Normalize((0.1307,), (0.3081,))])(pixels)
    assert np.array_equal(ours.numpy()[0], theirs.numpy())
