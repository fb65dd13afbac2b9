import numpy as np
import pytest

import juanji as jj
from juanji.data import transforms as T
from juanji.data.randomness import SampleSeeds
from juanji.errors import ShapeError

PICTURES = np.random.default_rng(0).random((6, 3, 8, 10)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 1])


def test_mixup_blends_with_the_picture_before():
    shares = []
    for k in range(200):
        with SampleSeeds(1, k):
            mixed, soft = T.MixUp(alpha=0.4, num_classes=3)(PICTURES, LABELS)
        share = soft[2, 2]  # picture 2 and picture 1 are of different classes
        assert np.allclose(mixed, share * PICTURES + (1 - share) * np.roll(PICTURES, 1, 0), atol=1e-6)
        assert np.allclose(soft, share * np.eye(3)[LABELS] + (1 - share) * np.eye(3)[np.roll(LABELS, 1)], atol=1e-6)
        shares.append(share)
    assert mixed.dtype == soft.dtype == np.float32
    assert abs(np.mean(shares) - 0.5) < 0.08
    assert abs(np.var(shares) - 0.25 / 1.8) < 0.03  # of Beta(a, a): 1 / (4 (2a + 1))


def test_cutmix_pastes_a_rectangle():
    shares = []
    for k in range(200):
        with SampleSeeds(2, k):
            mixed, soft = T.CutMix(num_classes=3)(PICTURES, LABELS)
        taken = (mixed == np.roll(PICTURES, 1, 0)).all((0, 1))
        assert (taken | (mixed == PICTURES).all((0, 1))).all()
        rows, columns = np.nonzero(taken)
        if len(rows):
            assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        share = 1 - taken.mean()
        assert np.allclose(soft, share * np.eye(3)[LABELS] + (1 - share) * np.eye(3)[np.roll(LABELS, 1)], atol=1e-6)
        shares.append(share)
    assert min(shares) < 0.5
    assert max(shares) == 1


@pytest.mark.parametrize("mix", [T.MixUp(num_classes=3), T.CutMix(num_classes=3), T.MixUp(), T.CutMix()])
def test_batches_of_tensors(mix):
    x = jj.from_numpy(PICTURES)
    y = jj.from_numpy(LABELS if mix.num_classes else np.eye(3, dtype=np.float32)[LABELS])
    with SampleSeeds(3, 0):
        two = mix(x, y)
    with SampleSeeds(3, 0):
        one = mix([x, y])
    assert (type(two), type(one)) == (tuple, list)
    for a, b in zip(two, one, strict=True):
        assert isinstance(a, jj.Tensor)
        assert np.array_equal(a.numpy(), b.numpy())
    assert np.allclose(two[1].numpy().sum(1), 1)
    assert np.array_equal(x.numpy(), PICTURES)
    loss = jj.nn.CrossEntropyLoss()(jj.zeros(6, 3), two[1])
    assert abs(float(loss) - np.log(3)) < 1e-5


def test_refusals():
    mix = T.MixUp(num_classes=3)
    for batch, error, match in (
        ((PICTURES,), TypeError, "takes a batch of pictures and its labels, and got ndarray"),
        ((PICTURES[0], LABELS), ShapeError, r"whole batches"),
        (((PICTURES * 255).astype(np.uint8), LABELS), ShapeError, "uint8"),
        ((PICTURES, LABELS[:3]), ShapeError, r"labels must be \(6,\)"),
        ((PICTURES, LABELS + 1), ValueError, "labels go from 1 to 3; num_classes=3"),
        ((PICTURES, LABELS * 0.5), TypeError, "class numbers"),
        ((PICTURES, np.eye(4)[LABELS]), ShapeError, "num_classes=3"),
        (("a", LABELS), TypeError, "got str"),
    ):
        with pytest.raises(error, match=match):
            mix(*batch)
    with pytest.raises(ValueError, match="needs num_classes"):
        T.CutMix()(PICTURES, LABELS)
    with pytest.raises(ValueError, match="alpha=0"):
        T.MixUp(alpha=0)
    with pytest.raises(ValueError, match="num_classes=0"):
        T.CutMix(num_classes=0)


def test_random_choice():
    choice = T.RandomChoice([lambda x: "a", lambda x: "b", lambda x: "c"], p=[1, 3, 0])
    seen = []
    for k in range(400):
        with SampleSeeds(6, k):
            seen.append(choice(0))
    assert set(seen) == {"a", "b"}
    assert abs(seen.count("b") / 400 - 0.75) < 0.08
    with pytest.raises(TypeError, match="one or more transforms"):
        T.RandomChoice([])
    for p in ([1], [1, -1], [0, 0], [1, float("nan")]):
        with pytest.raises(ValueError, match="p="):
            T.RandomChoice([abs, abs], p)
