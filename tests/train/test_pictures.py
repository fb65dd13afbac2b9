"""Pictures in memory: normalised, shifted, and the same for any number of workers."""

import numpy as np
import pytest

from juanji.data import DataLoader
from juanji.errors import DataError
from juanji.interop.preprocessing import Preprocessing
from juanji.random import Generator
from juanji.train.pictures import Pictures, statistics

SMALL = Preprocessing(size=(6, 5), mean=(0.2,), std=(0.4,))


def pictures(count=20, **options):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 6, 5), np.uint8)
    return Pictures(images, np.arange(count) % 3, SMALL, **options)


def test_samples_and_batches_are_the_same_and_normalised():
    data = pictures()
    images, labels = data.__getbatch__([3, 7])
    one, label = data[7]
    assert tuple(images.shape) == (2, 1, 6, 5)
    assert np.array_equal(images.numpy()[1], one.numpy())
    assert labels.numpy().tolist() == [0, 1]
    assert label == 1
    assert np.allclose(one.numpy(), (data.images[7] / 255 - 0.2) / 0.4, atol=1e-6)


def test_shifts_are_of_whole_pixels_and_small():
    data = pictures(shift=2)
    padded = np.pad(data.images[4, 0], 2, mode="edge")
    allowed = {
        np.float32(SMALL.normalize(padded[None, r : r + 6, c : c + 5])).tobytes() for r in range(5) for c in range(5)
    }
    seen = {data.__getbatch__([4])[0].numpy().tobytes() for _ in range(200)}
    assert seen <= allowed
    assert len(seen) > 15


@pytest.mark.parametrize("shift", [0, 1])
def test_any_number_of_workers_gives_the_same(shift):
    def everything(workers):
        loader = DataLoader(
            pictures(shift=shift),
            batch_size=3,
            shuffle=True,
            generator=Generator().manual_seed(5),
            num_workers=workers,
        )
        return [np.concatenate([x.numpy().ravel() for x, _ in loader]) for _ in range(2)]

    first, again = everything(0), everything(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_colour_pictures_of_files_are_turned_channels_first():
    colour = Preprocessing(size=(6, 5), mode="RGB", mean=(0.0,) * 3, std=(1.0,) * 3)
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 5, 3), np.uint8)
    data = Pictures(images, np.zeros(2, np.int64), colour)
    assert np.array_equal(data.images, images.transpose(0, 3, 1, 2))


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match="labels"):
        Pictures(np.zeros((2, 6, 5), np.uint8), np.zeros(3), SMALL)
    with pytest.raises(DataError, match="the model takes"):
        Pictures(np.zeros((2, 7, 5), np.uint8), np.zeros(2), SMALL)
    with pytest.raises(DataError, match="float32"):
        Pictures(np.zeros((2, 6, 5), np.float32), np.zeros(2), SMALL)  # type: ignore[arg-type]


def test_statistics_are_those_of_the_pixels():
    images = np.random.default_rng(1).integers(0, 200, (50, 6, 5), np.uint8)
    mean, deviation = statistics(images)
    assert mean == pytest.approx(images.mean() / 255, abs=1e-4)
    assert deviation == pytest.approx(images.std() / 255, abs=1e-4)
    assert statistics(np.zeros((1, 2), np.uint8)) == (0.0, 1e-4)
