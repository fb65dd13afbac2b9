"""Metrics: values computed by hand, what holds for any data, and refusals."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import juanji as jj
from juanji import metrics

LABELS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


def test_confusion_and_class_metrics_by_hand():
    # Three classes; the third is never predicted, and a fourth never occurs.
    true = [0, 0, 0, 1, 1, 2]
    said = [0, 0, 1, 1, 0, 0]
    table = metrics.confusion_matrix(true, said, classes=4)
    assert table.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    found = metrics.class_metrics(table)
    np.testing.assert_allclose(found.precision, [2 / 4, 1 / 2, math.nan, math.nan])
    np.testing.assert_allclose(found.recall, [2 / 3, 1 / 2, 0, math.nan])
    np.testing.assert_allclose(found.f1, [4 / 7, 1 / 2, 0, math.nan])
    assert found.support.tolist() == [3, 2, 1, 0]
    assert found.predicted.tolist() == [4, 2, 0, 0]
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 3)
    assert found.macro_f1 == pytest.approx((4 / 7 + 1 / 2) / 3)


@given(LABELS)
def test_confusion_properties(pairs):
    true, said = np.array(pairs).T
    table = metrics.confusion_matrix(true, said, classes=5)
    assert table.sum() == len(pairs)
    assert (table == metrics.confusion_matrix(said, true, classes=5).T).all()
    assert table.trace() / len(pairs) == pytest.approx(metrics.accuracy(true, said))
    found, turned = metrics.class_metrics(table), metrics.class_metrics(table.T)
    np.testing.assert_array_equal(found.precision, turned.recall)
    np.testing.assert_allclose(found.f1, turned.f1)
    both = ~np.isnan(found.precision) & ~np.isnan(found.recall) & (found.precision + found.recall > 0)
    p, r = found.precision[both], found.recall[both]
    np.testing.assert_allclose(found.f1[both], 2 * p * r / (p + r))
    weighted = np.nansum(found.recall * found.support) / len(pairs)
    assert weighted == pytest.approx(metrics.accuracy(true, said))


def test_calibration_by_hand():
    sure = [0.55, 0.65, 0.95, 0.95, 1.0]
    probabilities = np.array([[p, 1 - p] for p in sure])
    found = metrics.calibration(probabilities, [0, 1, 0, 0, 1], bins=10)
    assert found.counts.tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 0, 3]
    np.testing.assert_allclose(found.confidence[[5, 6, 9]], [0.55, 0.65, 2.9 / 3])
    np.testing.assert_allclose(found.accuracy[[5, 6, 9]], [1, 0, 2 / 3])
    assert np.isnan(found.accuracy[0])
    assert found.ece == pytest.approx((0.45 + 0.65 + 3 * 0.3) / 5)
    assert found.mce == pytest.approx(0.65)


def test_a_bin_holds_its_upper_edge():
    assert metrics.calibration([[0.5, 0.5]], [0], bins=2).counts.tolist() == [1, 0]
    assert metrics.calibration([[0.25] * 4], [0], bins=4).counts.tolist() == [1, 0, 0, 0]


@given(LABELS, st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_calibration_properties(pairs, bins, seed):
    labels = np.array(pairs)[:, 0]
    likely = metrics.softmax(np.random.default_rng(seed).normal(0, 3, (len(pairs), 5)))
    found = metrics.calibration(likely, labels, bins)
    assert found.counts.sum() == len(pairs)
    assert 0 <= found.ece <= found.mce + 1e-12 <= 1 + 1e-12
    assert np.nansum(found.accuracy * found.counts) == pytest.approx((likely.argmax(1) == labels).sum())
    inside = found.counts > 0
    assert (found.confidence[inside] >= found.edges[:-1][inside] - 1e-9).all()
    assert (found.confidence[inside] <= found.edges[1:][inside] + 1e-9).all()


def test_one_bin_is_confidence_minus_accuracy():
    likely = metrics.softmax(np.random.default_rng(0).normal(0, 2, (50, 3)))
    labels = np.random.default_rng(1).integers(0, 3, 50)
    right = (likely.argmax(1) == labels).mean()
    assert metrics.calibration(likely, labels, bins=1).ece == pytest.approx(abs(likely.max(1).mean() - right))


def test_top_k():
    scores = [[0.1, 0.5, 0.4], [0.6, 0.3, 0.1], [0.2, 0.2, 0.2]]
    assert metrics.top_k_accuracy(scores, [2, 2, 1], k=1) == 0
    assert metrics.top_k_accuracy(scores, [2, 2, 1], k=2) == pytest.approx(2 / 3)  # of equal ones the first count
    assert metrics.top_k_accuracy(scores, [2, 2, 1], k=3) == 1
    assert metrics.top_k_accuracy(scores, [2, 2, 1], k=9) == 1
    values = np.random.default_rng(0).normal(size=(30, 7))
    labels = np.random.default_rng(1).integers(0, 7, 30)
    shares = [metrics.top_k_accuracy(values, labels, k) for k in range(1, 8)]
    assert shares == sorted(shares)
    assert shares[0] == metrics.accuracy(labels, values.argmax(1))


def test_loss_and_softmax_are_the_networks():
    logits = jj.randn(20, 5) * 10
    labels = jj.randint(0, 5, (20,))
    expected = jj.nn.functional.cross_entropy(logits, labels, reduction="none").numpy()
    np.testing.assert_allclose(metrics.cross_entropy(logits, labels), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(metrics.softmax(logits), logits.softmax(1).numpy(), rtol=1e-4, atol=1e-6)
    assert metrics.cross_entropy([[1e5, 0]], [1]).tolist() == [1e5]


def test_wilson():
    # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3.
    assert metrics.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert metrics.wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert metrics.wilson_interval(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert metrics.wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert metrics.wilson_interval(29, 29)[1] == 1


def test_nothing_gives_nan():
    assert math.isnan(metrics.accuracy([], []))
    assert math.isnan(metrics.top_k_accuracy(np.zeros((0, 3)), []))
    empty = metrics.calibration(np.zeros((0, 3)), [])
    assert math.isnan(empty.ece)
    assert math.isnan(empty.mce)
    assert metrics.confusion_matrix([], [], 2).tolist() == [[0, 0], [0, 0]]
    assert math.isnan(metrics.class_metrics(np.zeros((2, 2), int)).macro_f1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: metrics.confusion_matrix([0, 3], [0, 0], 3),
            ValueError,
            "labels has class numbers from 0 to 3; valid are 0 to 2",
        ),
        (lambda: metrics.confusion_matrix([0], [-1]), ValueError, "predicted has class numbers from -1"),
        (lambda: metrics.confusion_matrix([0, 1], [0]), ValueError, "2 labels and 1 predictions"),
        (lambda: metrics.confusion_matrix([0.5], [0]), TypeError, "integers, not float64"),
        (lambda: metrics.confusion_matrix([[0]], [0]), ValueError, r"shape \(1, 1\)"),
        (lambda: metrics.accuracy([0, 1], [0]), ValueError, "2 labels"),
        (lambda: metrics.class_metrics([[1, 2]]), ValueError, r"shape \(1, 2\)"),
        (lambda: metrics.class_metrics([[-1]]), ValueError, "count -1"),
        (lambda: metrics.top_k_accuracy([[1, 2]], [0], 0), ValueError, "k=0"),
        (lambda: metrics.top_k_accuracy([1, 2], [0]), ValueError, r"shape \(2,\)"),
        (lambda: metrics.calibration([[1.0, 0]], [0], 0), ValueError, "bins=0"),
        (lambda: metrics.calibration([[5.0, 0]], [0]), ValueError, "between 0 and 1"),
        (lambda: metrics.calibration([[math.nan, 0]], [0]), ValueError, "between 0 and 1"),
        (lambda: metrics.cross_entropy([[1.0, 0]], [2]), ValueError, "valid are 0 to 1"),
        (lambda: metrics.wilson_interval(2, 1), ValueError, "right=2"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
