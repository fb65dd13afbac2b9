"""Features: computed once, kept by what they hang on, and the heads found on them."""

import numpy as np
import pytest

import juanji as jj
from juanji import zoo
from juanji.data import scan
from juanji.interop.preprocessing import Preprocessing
from juanji.tune import features, head
from tune import tiny

VIEW = Preprocessing(size=(24, 24), mode="RGB", mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.fixture
def model(weights):
    return zoo.create("tiny", pretrained=weights, num_classes=3)


@pytest.fixture
def samples(photos):
    return list(scan(photos).samples)


def test_features_are_what_the_last_layer_reads(model, samples):
    (found,) = features.compute(model, samples, [VIEW], workers=0)
    from juanji.data import open_image

    pictures = np.stack([VIEW.picture(open_image(s.path)) for s in samples])
    model.eval()
    with jj.no_grad():
        maps = model.forward_features(jj.from_numpy(VIEW.normalize(pictures)))
        expected = model.forward_head(maps, pre_logits=True).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_second_time_nothing_is_computed(model, samples, monkeypatch):
    first = features.compute(model, samples, [VIEW], workers=0)
    monkeypatch.setattr("juanji.tune.features.open_image", lambda *a: pytest.fail("a picture was opened"))
    again = features.compute(model, samples[::-1], [VIEW], workers=0)
    np.testing.assert_array_equal(first[0], again[0][::-1])


def test_what_is_missing_is_computed_to_the_same_bits(model, samples, own_features):
    (whole,) = features.compute(model, samples, [VIEW], workers=0)
    for path in own_features.rglob("*.safetensors"):
        path.unlink()
    features.compute(model, samples[5:20], [VIEW], workers=0)
    (rest,) = features.compute(model, samples, [VIEW], workers=2)
    np.testing.assert_array_equal(whole, rest)


def test_everything_that_changes_features_changes_their_key(model, weights, monkeypatch):
    key = features.key(model, VIEW)
    assert features.key(zoo.create("tiny", pretrained=weights, num_classes=9), VIEW) == key  # the last layer does not
    assert features.key(zoo.create("tiny", num_classes=3), VIEW) != key
    assert features.key(model, Preprocessing(size=(24, 25), mode="RGB", mean=(0.5,) * 3, std=(0.5,) * 3)) != key
    assert features.key(model, Preprocessing(size=(24, 24), mode="RGB", mean=(0.5, 0.5, 0.4), std=(0.5,) * 3)) != key
    with jj.no_grad():
        model.one[1].running_mean.add_(1e-3)
    moved = features.key(model, VIEW)
    assert moved != key
    monkeypatch.setattr("juanji.tune.features.made_with", lambda: {"Juanji": "another"})
    assert features.key(model, VIEW) != moved


def test_a_changed_picture_gets_new_features(model, photos, tmp_path):
    import shutil

    mine = tmp_path / "mine"
    shutil.copytree(photos, mine)
    (before,) = features.compute(model, scan(mine).samples, [VIEW], workers=0)
    tiny.picture("dots", np.random.default_rng(99)).save(mine / "bars" / "00.png")
    (after,) = features.compute(model, scan(mine).samples, [VIEW], workers=0)
    assert [i for i in range(len(before)) if not np.array_equal(before[i], after[i])] == [0]


def test_damaged_files_of_the_cache_are_computed_anew(model, samples, own_features):
    (whole,) = features.compute(model, samples, [VIEW], workers=0)
    (path,) = own_features.rglob("*.safetensors")
    content = path.read_bytes()
    for bad in (b"", content[: len(content) // 2], b"x" * 100):
        path.write_bytes(bad)
        (again,) = features.compute(model, samples, [VIEW], workers=0)
        np.testing.assert_array_equal(whole, again)


def test_a_cache_that_cannot_be_written_is_told_and_no_failure(model, samples, tmp_path):
    (tmp_path / "features").write_text("a file where the folder should be")
    said = []
    (found,) = features.compute(model, samples[:3], [VIEW], workers=0, say=said.append)
    assert found.shape == (3, 12)
    assert len(said) == 1


def test_old_features_make_room(model, samples, own_features):
    stores = [features.store(model, VIEW, own_features)]
    features.compute(model, samples, [VIEW], stores=stores, workers=0)
    old = own_features / "old"
    old.mkdir()
    (old / "a.safetensors").write_bytes(b"0" * 1000)
    import os

    os.utime(old, (1, 1))
    features.prune(stores, largest=100)
    assert not old.exists()
    assert stores[0].folder.exists()


# -- heads ---------------------------------------------------------------------------------------------------


def clouds(n, width, seed=0):
    random = np.random.default_rng(seed)
    means = random.normal(size=(3, width))
    labels = np.arange(n) % 3
    return (means[labels] + random.normal(size=(n, width))).astype(np.float32), labels


@pytest.mark.parametrize(("n", "width"), [(12, 40), (90, 5)], ids=["wide", "tall"])
def test_the_discriminant_is_fishers(n, width):
    x, y = clouds(n, width)
    linear = head.Discriminant(x, y, 3).linear(0.3)
    wide = x.astype(np.float64)
    means = np.stack([wide[y == k].mean(0) for k in range(3)])
    rest = wide - means[y]
    spread = rest.T @ rest / n
    shrunk = 0.7 * spread + 0.3 * np.trace(spread) / width * np.eye(width)
    inverse = np.linalg.inv(shrunk)
    expected = np.stack([-0.5 * ((wide - m) @ inverse * (wide - m)).sum(1) + np.log((y == k).mean())
                         for k, m in enumerate(means)], 1)  # fmt: skip
    found = linear(x)
    # Scores count up to a number for each picture.
    np.testing.assert_allclose(
        found - found.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True), rtol=1e-6, atol=1e-6
    )


def test_cross_validation_tells_a_good_head_from_chance():
    x, y = clouds(60, 20)
    fold = np.arange(60) // 3 % 5
    good = head.cross_validate(x, y, 3, fold)
    chance = head.cross_validate(np.random.default_rng(1).normal(size=x.shape).astype(np.float32), y, 3, fold)
    assert good.accuracy > 0.9 > 0.6 > chance.accuracy
    assert head.clearly_better(good, chance)
    assert not head.clearly_better(good, good)
    assert chance.scale < good.scale
    both = head.cross_validate(x, y, 3, fold, methods=("discriminant", "logistic"))
    assert both.others["logistic"] > 0.9


def test_a_class_with_one_picture_is_no_obstacle():
    x, y = clouds(31, 20)
    y[y == 2] = 0
    y[-1] = 2
    tried = head.cross_validate(x, y, 3, np.arange(31) % 5)
    assert 0.5 < tried.accuracy <= 30 / 31


def test_logistic_heads_are_linear():
    x, y = clouds(60, 8)
    model = head.logistic(x, y, 3, head.LogisticPlan(epochs=20))
    with jj.no_grad():
        scores = model(jj.from_numpy(x)).numpy()
    np.testing.assert_allclose(model.linear(x), scores, atol=1e-4)
    assert (scores.argmax(1) == y).mean() > 0.9


def test_folds_keep_duplicates_together(photos):
    samples = list(scan(photos).samples)
    fold = head.folds([*samples, *samples], 4)
    assert set(fold) == {0, 1, 2, 3}
    np.testing.assert_array_equal(fold[: len(samples)], fold[len(samples) :])
