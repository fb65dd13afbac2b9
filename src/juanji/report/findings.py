"""What a report says, as numbers: computed from an outcome's labels and logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from juanji import metrics
from juanji.metrics import Calibration, ClassMetrics, Counts, Floats

if TYPE_CHECKING:
    from juanji.tune.outcome import Outcome

#: Pictures shown of each kind.
SHOWN = 12
#: Bins of the reliability diagram.
BINS = 10


@dataclass(frozen=True)
class Findings:
    """How good a classifier is on some pictures.

    Attributes:
        count, right: of how many pictures how many were classified rightly.
        interval: between which shares the true accuracy lies (95%).
        loss: the mean cross-entropy.
        top5: the share of pictures whose class is among the first five.
        predicted: the class number given to each picture.
        probabilities: (n, classes).
        confusion: counts [true, predicted].
        classes: precision and the like.
        calibration: how far its confidence can be believed.
        confused: (true, predicted, count), the most frequent mistakes first.
        mistakes: the wrong pictures, the surest first.
        uncertain: the pictures whose two best classes are nearest to one another; none of the `mistakes` shown.
    """

    count: int
    right: int
    interval: tuple[float, float]
    loss: float
    top5: float
    predicted: Counts
    probabilities: Floats
    confusion: Counts
    classes: ClassMetrics
    calibration: Calibration
    confused: list[tuple[int, int, int]]
    mistakes: list[int]
    uncertain: list[int]

    @property
    def accuracy(self) -> float:
        """The share of the pictures that was classified rightly."""
        return self.right / self.count

    @property
    def confidence(self) -> float:
        """The mean probability of the predicted classes."""
        return float(self.probabilities.max(axis=1).mean())


def findings(outcome: Outcome, shown: int = SHOWN) -> Findings:
    """Everything that a report says of how good a model is.

    Args:
        outcome: of a fine-tuning.
        shown: how many pictures to choose of each kind.

    Raises:
        ValueError: there are no pictures, their numbers differ, or the logits are not finite.
    """
    logits, labels, count = np.asarray(outcome.logits), np.asarray(outcome.labels), len(outcome.paths)
    size = len(outcome.classes)
    if not count:
        raise ValueError("there are no evaluated pictures to report on")
    if logits.shape != (count, size) or labels.shape != (count,):
        raise ValueError(
            f"there are {count} paths and {size} classes; logits of shape {logits.shape} and labels of shape "
            f"{labels.shape} don't fit"
        )
    if not np.isfinite(logits).all():
        raise ValueError("the logits are not finite: the model gives infinite scores, or none")
    likely, said = metrics.softmax(logits), logits.argmax(axis=1)
    table = metrics.confusion_matrix(labels, said, size)
    pairs = [(int(t), int(p), int(table[t, p])) for t, p in np.argwhere(table) if t != p]
    ranked = np.sort(likely, axis=1)
    margin = ranked[:, -1] - (ranked[:, -2] if size > 1 else 0)
    wrong = [i for i in np.argsort(-likely.max(axis=1), kind="stable").tolist() if said[i] != labels[i]][:shown]
    return Findings(
        count=count,
        right=int(table.trace()),
        interval=metrics.wilson_interval(int(table.trace()), count),
        loss=float(metrics.cross_entropy(logits, labels).mean()),
        top5=metrics.top_k_accuracy(logits, labels, 5),
        predicted=said,
        probabilities=likely,
        confusion=table,
        classes=metrics.class_metrics(table),
        calibration=metrics.calibration(likely, labels, BINS),
        confused=sorted(pairs, key=lambda p: (-p[2], p[0], p[1])),
        mistakes=wrong,
        uncertain=[i for i in np.argsort(margin, kind="stable").tolist() if i not in set(wrong)][:shown],
    )
