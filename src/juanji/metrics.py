"""How good a classifier is: plain functions of class numbers and probabilities, in NumPy.

They take arrays, tensors or lists. What cannot be said, such as the precision of a class that was never predicted, is
NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Calibration",
    "ClassMetrics",
    "accuracy",
    "calibration",
    "class_metrics",
    "confusion_matrix",
    "cross_entropy",
    "softmax",
    "top_k_accuracy",
    "wilson_interval",
]

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def _class_numbers(values: ArrayLike, name: str, classes: int | None = None) -> Counts:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; it must be one class number for each sample, (n,)")
    if array.size and array.dtype.kind not in "iub":
        raise TypeError(f"{name} must be class numbers, integers, not {array.dtype}")
    numbers = array.astype(np.int64)
    if numbers.size and (numbers.min() < 0 or (classes is not None and numbers.max() >= classes)):
        valid = "0 and up" if classes is None else f"0 to {classes - 1}"
        raise ValueError(f"{name} has class numbers from {numbers.min()} to {numbers.max()}; valid are {valid}")
    return numbers


def _scores(values: ArrayLike, name: str, labels: ArrayLike) -> tuple[Floats, Counts]:
    scores = np.asarray(values)
    if scores.ndim != 2 or scores.shape[1] < 1:
        raise ValueError(f"{name} has shape {scores.shape}; it must be (n, classes)")
    numbers = _class_numbers(labels, "labels", scores.shape[1])
    if len(numbers) != len(scores):
        raise ValueError(f"there are {len(scores)} rows of {name} and {len(numbers)} labels")
    return scores.astype(np.float64), numbers


def softmax(logits: ArrayLike) -> Floats:
    """Probabilities (n, classes) of logits, in double precision.

    >>> softmax([[0.0, 0.0], [1000.0, 0.0]]).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    wide = np.asarray(logits).astype(np.float64)
    likely = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.asarray(likely / likely.sum(axis=-1, keepdims=True))


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> Floats:
    """The loss of each sample, (n,): minus the logarithm of the probability given to its class.

    Args:
        logits: (n, classes).
        labels: (n,).

    Raises:
        ValueError: shapes that don't fit, or a class that does not exist.

    >>> cross_entropy([[0.0, 0.0]], [1]).round(4).tolist()
    [0.6931]
    """
    wide, numbers = _scores(logits, "logits", labels)
    peak = wide.max(axis=1, keepdims=True)
    logs = (peak + np.log(np.exp(wide - peak).sum(axis=1, keepdims=True)))[:, 0]
    return np.asarray(logs - wide[np.arange(len(numbers)), numbers])


def accuracy(labels: ArrayLike, predicted: ArrayLike) -> float:
    """The share of samples whose class was predicted; NaN of none.

    >>> accuracy([0, 1, 2, 2], [0, 1, 2, 0])
    0.75
    """
    true, said = _class_numbers(labels, "labels"), _class_numbers(predicted, "predicted")
    if len(true) != len(said):
        raise ValueError(f"there are {len(true)} labels and {len(said)} predictions")
    return float((true == said).mean()) if len(true) else math.nan


def top_k_accuracy(scores: ArrayLike, labels: ArrayLike, k: int = 5) -> float:
    """The share of samples whose class is among the `k` of the highest scores; of equal scores the first class counts.

    Args:
        scores: logits or probabilities, (n, classes).
        labels: (n,).
        k: how many answers a sample has; all are right where `k` is the number of classes or more.

    Raises:
        ValueError: shapes that don't fit, a class that does not exist, or `k` below 1.

    >>> top_k_accuracy([[3, 2, 1], [3, 2, 1]], [1, 2], k=2)
    0.5
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"k={k!r} must be an integer, 1 or more")
    values, numbers = _scores(scores, "scores", labels)
    if not len(numbers):
        return math.nan
    best = np.argsort(-values, axis=1, kind="stable")[:, :k]
    return float((best == numbers[:, None]).any(axis=1).mean())


def confusion_matrix(labels: ArrayLike, predicted: ArrayLike, classes: int | None = None) -> Counts:
    """Counts [true, predicted], int64 (classes, classes).

    Args:
        labels: the true class numbers, (n,).
        predicted: the predicted ones, (n,).
        classes: how many there are; as many as occur unless given.

    Raises:
        ValueError: different lengths, or a class that does not exist. TypeError: not integers.

    >>> confusion_matrix([0, 0, 1], [0, 1, 1]).tolist()
    [[1, 1], [0, 1]]
    """
    true, said = _class_numbers(labels, "labels", classes), _class_numbers(predicted, "predicted", classes)
    if len(true) != len(said):
        raise ValueError(f"there are {len(true)} labels and {len(said)} predictions")
    size = classes if classes is not None else int(max(true.max(initial=-1), said.max(initial=-1))) + 1
    counts = np.bincount(true * size + said, minlength=size * size).reshape(size, size)
    return counts.astype(np.int64)


@dataclass(frozen=True)
class ClassMetrics:
    """What `class_metrics` gives, each (classes,).

    Attributes:
        precision: of what was predicted as the class, the share that is of it; NaN where nothing was.
        recall: of what is of the class, the share that was found; NaN where there is none.
        f1: 2 TP / (2 TP + FP + FN), the harmonic mean of both; NaN where neither is known.
        support: how many samples are of the class.
        predicted: how many were predicted to be.
    """

    precision: Floats
    recall: Floats
    f1: Floats
    support: Counts
    predicted: Counts

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that there are samples of."""
        return _mean(self.recall)

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the classes that occur, whether as truth or as prediction."""
        return _mean(self.f1)


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def class_metrics(confusion: ArrayLike) -> ClassMetrics:
    """Precision, recall and F1 of each class.

    Args:
        confusion: counts [true, predicted], as `confusion_matrix` gives them.

    Raises:
        ValueError: not a square matrix of counts.

    >>> found = class_metrics([[1, 1], [0, 2]])
    >>> found.precision.round(3).tolist(), found.recall.tolist(), found.f1.round(3).tolist()
    ([1.0, 0.667], [0.5, 1.0], [0.667, 0.8])
    """
    counts = np.asarray(confusion)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"confusion has shape {counts.shape}; it must be (classes, classes)")
    if counts.size and counts.min() < 0:
        raise ValueError(f"confusion has the count {counts.min()}; counts are 0 or more")
    right, support, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    return ClassMetrics(
        precision=_ratio(right, predicted),
        recall=_ratio(right, support),
        f1=_ratio(2 * right, support + predicted),
        support=support.astype(np.int64),
        predicted=predicted.astype(np.int64),
    )


def _ratio(above: NDArray[Any], below: NDArray[Any]) -> Floats:
    return np.asarray(np.divide(above, below, out=np.full(len(above), math.nan), where=below > 0))


@dataclass(frozen=True)
class Calibration:
    """What `calibration` gives: samples in bins by how sure the model was.

    Attributes:
        edges: of the bins, (bins + 1,), from 0 to 1; a bin holds what is above its lower edge, up to its upper one.
        counts: samples in each bin, (bins,).
        confidence: their mean probability of the predicted class, (bins,); NaN where there are none.
        accuracy: the share of them that is right, (bins,); NaN where there are none.
    """

    edges: Floats
    counts: Counts
    confidence: Floats
    accuracy: Floats

    @property
    def ece(self) -> float:
        """The expected calibration error: the mean gap of a bin between both, weighted by its samples."""
        if not self.counts.sum():
            return math.nan
        return float((self.counts * np.nan_to_num(self.gaps)).sum() / self.counts.sum())

    @property
    def mce(self) -> float:
        """The largest gap of a bin that has samples."""
        return float(np.nanmax(self.gaps)) if self.counts.sum() else math.nan

    @property
    def gaps(self) -> Floats:
        """How far accuracy and confidence of each bin are apart, (bins,)."""
        return np.asarray(np.abs(self.accuracy - self.confidence))


def calibration(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> Calibration:
    """How far a model can be believed when it says how sure it is.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017, equations 2 to 5.

    Args:
        probabilities: (n, classes).
        labels: (n,).
        bins: of equal width.

    Raises:
        ValueError: shapes that don't fit, a class that does not exist, no probabilities, or `bins` below 1.

    >>> found = calibration([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.3, 0.7]], [0, 1, 1, 1], bins=2)
    >>> round(found.ece, 3), found.counts.tolist()
    (0.05, [0, 4])
    """
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise ValueError(f"bins={bins!r} must be an integer, 1 or more")
    likely, numbers = _scores(probabilities, "probabilities", labels)
    if not np.all((likely >= 0) & (likely <= 1 + 1e-6)):
        raise ValueError("probabilities lie between 0 and 1; softmax makes them of logits")
    sure, right = likely.max(axis=1, initial=0), likely.argmax(axis=1) == numbers
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    return Calibration(
        edges=edges,
        counts=counts.astype(np.int64),
        confidence=_ratio(np.bincount(place, sure, bins), counts),
        accuracy=_ratio(np.bincount(place, right, bins), counts),
    )


def wilson_interval(right: int, count: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """The shares between which the true accuracy most likely lies, where `right` of `count` samples were right.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Args:
        right: how many were.
        count: of so many.
        z: of the normal distribution; the default gives 95%.

    Raises:
        ValueError: no samples, or more right ones than there are.

    >>> [round(x, 3) for x in wilson_interval(45, 50)]
    [0.786, 0.957]
    """
    if count < 1 or not 0 <= right <= count:
        raise ValueError(
            f"right={right} and count={count}: there must be a sample, and no more right ones than there are"
        )
    share, square = right / count, z * z
    middle = (share + square / (2 * count)) / (1 + square / count)
    reach = z / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    return max(0.0, middle - reach), min(1.0, middle + reach)
