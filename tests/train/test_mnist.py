"""The recipe: what it checks, that the same seed gives the same weights, and that it learns."""

import numpy as np
import pytest

import juanji as jj
from juanji import zoo
from juanji.data import DataLoader
from juanji.errors import DataError
from juanji.interop.preprocessing import Preprocessing
from juanji.train import mnist
from juanji.train.loop import evaluate
from juanji.train.pictures import Pictures


def bars(count, seed=0, ground=0):
    """Ten classes: a bar across or upright in five places."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    images = random.integers(0, 30, (count, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        at = 4 + 4 * (label % 5)
        image[(slice(at, at + 3), slice(5, 23)) if label < 5 else (slice(5, 23), slice(at, at + 3))] = 220
    return (255 - images if ground else images), labels.astype(np.int64)


def trained(seed=0, workers=0, ground=0, **recipe):
    return mnist.train(
        *bars(300, 1, ground),
        *bars(60, 2, ground),
        tuple("0123456789"),
        recipe=mnist.Recipe(**{"epochs": 4, "seed": seed, **recipe}),
        workers=workers,
    )


def test_it_learns_and_says_what_it_did():
    result = trained()
    assert result.evaluation.accuracy > 0.9
    assert result.report.steps == 40  # nine full batches and a short one, four times
    assert result.report.images == 1200
    assert not result.model.training
    assert result.preprocessing.background == "dark"
    assert result.preprocessing.mean[0] == pytest.approx(bars(300, 1)[0].mean() / 255, abs=1e-4)


def test_the_seed_decides_and_workers_do_not():
    def weights(*arguments, **options):
        state = trained(*arguments, epochs=1, **options).model.state_dict()
        return np.concatenate([v.numpy().ravel() for v in state.values()])

    first = weights(1)
    assert np.array_equal(first, weights(1))
    assert np.array_equal(first, weights(1, workers=2))
    assert not np.array_equal(first, weights(2))


def test_pictures_on_a_light_ground_are_not_turned_later():
    assert trained(ground=1, epochs=1).preprocessing.background == "any"


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"batch_size": 0}, {"lr": 0.0}, {"lr": float("nan")}, {"lr": -1.0}, {"seed": -1}]
)
def test_a_recipe_that_makes_no_sense(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        mnist.Recipe(**wrong)


def test_data_that_make_no_sense():
    images, labels = bars(20)
    empty = images[:0], labels[:0]
    with pytest.raises(DataError, match="test set has no pictures"):
        mnist.train(images, labels, *empty, "0123456789")
    with pytest.raises(DataError, match="labels from 0 to 9"):
        mnist.train(images, labels, images, labels, "012345678")


@pytest.mark.parametrize("size", [250, 7])
def test_a_compiled_evaluation_over_many_batches_is_the_eager_one(size):
    jj.manual_seed(0)
    model = zoo.create("lenet")
    data = Pictures(*bars(1000 if size == 250 else 100), Preprocessing())
    results = [evaluate(model, DataLoader(data, batch_size=size), "0123456789", compiled=c) for c in (True, False)]
    assert results[0].loss == pytest.approx(results[1].loss, rel=1e-4)
    assert np.abs(results[0].confusion - results[1].confusion).sum() <= 4
