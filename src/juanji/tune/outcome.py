"""What a fine-tuning leaves behind: the model, how it did, and everything a report about it needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji import metrics
from juanji.interop.preprocessing import Preprocessing
from juanji.nn import Module


@dataclass
class Outcome:
    """The result of `juanji.finetune`: plain values, and the model itself.

    Attributes:
        model: the best one that was seen, in evaluation mode.
        preprocessing: how it takes pictures.
        classes: the name of each output, in order.
        recipe: "head", "full", "bn", "last:N" or "scratch".
        reasons: why this recipe, model and number of epochs, one sentence each.
        settings: what was chosen, as plain values: architecture, epochs, batch_size, lr, weight_decay and so on.
        history: one dict for each epoch, in order, with "phase" ("head", "all", ...), "epoch" (from 1, through all
            phases), "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds" and "waiting" (which
            share of them was spent waiting for data). What was not measured is None. Where the last layer was solved
            for instead of trained, the first of them is that head, of phase "head", epoch 0 and no "lr".
        best_epoch: the epoch in `history` whose weights the model has; 0 where the model is no epoch's, as a head that
            was solved for.
        part: "val" or "test": from which part of the set `paths`, `labels` and `logits` are; "train" where there was
            nothing else.
        paths: the files of the pictures that were evaluated.
        labels: their class numbers, int64 (n,).
        logits: what the model says about them, float32 (n, classes).
        metrics: "accuracy", "loss" and "count" of these, and those of the other parts as "train_accuracy" and so on.
        seeds: the numbers that all random choices hang on, by what they are for.
        seconds: from the first look at the pictures to the last number.
        timing: seconds of each part of the work: "scan", "features", "head" and so on.
        peak_memory: of the process, in bytes.
        data: of the pictures: "root", "layout", "digest" (a hash of all), "counts" ({class: {part: n}}), "skipped" (a
            list of {"name", "reason"}), "warnings" (sentences), "duplicates" (lists of names).
        weights: what the training began with: "name", "file", "sha256", "licence", "origin"; None for random weights.
        versions: of juanji, python, numpy, and the kernels' target.
    """

    model: Module
    preprocessing: Preprocessing
    classes: list[str]
    recipe: str
    reasons: list[str]
    settings: dict[str, Any]
    history: list[dict[str, Any]]
    best_epoch: int
    part: str
    paths: list[str]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    metrics: dict[str, Any]
    seeds: dict[str, int]
    seconds: float
    peak_memory: int
    data: dict[str, Any]
    weights: dict[str, Any] | None
    versions: dict[str, str]
    timing: dict[str, float] = field(default_factory=dict)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """The softmax of `logits`, (n, classes)."""
        return metrics.softmax(self.logits)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The class that the model gives to each picture, (n,)."""
        return np.asarray(self.logits.argmax(axis=1), np.int64)

    @property
    def accuracy(self) -> float:
        """The share of the evaluated pictures that the model classifies rightly."""
        return metrics.accuracy(self.labels, self.predicted)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """`confusion[true, predicted]`, counts."""
        return metrics.confusion_matrix(self.labels, self.predicted, len(self.classes))
