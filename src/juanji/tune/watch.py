"""What goes along with a fine-tuning: a running average of the weights, validation, the best weights, an early end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import juanji
from juanji import metrics
from juanji.nn import Module
from juanji.tensors import Tensor, from_numpy, no_grad, ones, zeros
from juanji.train.listener import Progress
from juanji.train.state import Companion, copied

Pairs = Iterable[tuple[Tensor, Tensor]]


def loss_and_accuracy(logits: NDArray[Any], labels: NDArray[Any]) -> tuple[float, float]:
    """Mean cross-entropy and share of right answers.

    >>> loss_and_accuracy(np.array([[0.0, 0.0]]), np.array([0]))
    (0.6931471805599453, 1.0)
    """
    return float(metrics.cross_entropy(logits, labels).mean()), metrics.accuracy(labels, logits.argmax(axis=1))


class Asking:
    """Asks a model about batches, compiled once for all times."""

    def __init__(self, model: Module) -> None:
        def forward(inputs: Tensor) -> Tensor:
            with no_grad():
                found: Tensor = model(inputs)
            return found

        self.model = model
        self._run = juanji.compile(forward)

    def __call__(self, batches: Pairs) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Logits (n, classes) and labels (n,), the model in evaluation mode meanwhile."""
        found = self.unless(batches, lambda: False)
        assert found is not None
        return found

    def unless(
        self, batches: Pairs, stopping: Callable[[], bool]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
        """The same, or None if it was stopped in the midst."""
        was_training = self.model.training
        self.model.eval()
        logits, labels = [], []
        try:
            for inputs, wanted in batches:
                logits.append(np.asarray(self._run(inputs).numpy(), np.float32).copy())
                labels.append(wanted.numpy())
                if stopping():
                    return None
        finally:
            self.model.train(was_training)
        return np.concatenate(logits), np.concatenate(labels)


class Average:
    """A running average of a model's weights and statistics (Polyak and Juditsky, 1992).

    The first updates count for more, so that where the training began is soon forgotten.

    Args:
        model: whose.
        keep: the share of the average that an update keeps, in the long run.
    """

    def __init__(self, model: Module, keep: float) -> None:
        self.keep = keep
        self._pairs = [
            (value, from_numpy(value.detach().numpy().copy()))
            for name, value in model.state_dict().items()
            if value.dtype.is_floating_point and not _still(model, name)
        ]
        self.count = zeros(())
        self._most = ones(()) * keep

    def update(self) -> None:
        """Takes the present weights in."""
        with no_grad():
            self.count.add_(1)
            keep = juanji.minimum(self._most, self.count / (self.count + 9))
            for value, mean in self._pairs:
                mean.mul_(keep).add_(value.detach() * (1 - keep))

    def swap(self) -> None:
        """Exchanges the model's weights and the average; a second time puts them back."""
        with no_grad():
            for value, mean in self._pairs:
                kept = from_numpy(value.detach().numpy().copy())
                value.detach().copy_(mean)
                mean.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """The averages, and how many updates they have seen."""
        return {"count": self.count, "means": [mean for _, mean in self._pairs]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned."""
        if len(state["means"]) != len(self._pairs):
            raise ValueError("the running average is of another model")
        with no_grad():
            self.count.copy_(state["count"])
            for (_, mean), saved in zip(self._pairs, state["means"], strict=True):
                mean.copy_(saved)


def _still(model: Module, name: str) -> bool:
    """Whether a weight or statistic stays as it is, being frozen."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    if leaf in module._parameters:
        return not getattr(module, leaf).requires_grad
    return bool(getattr(module, "frozen", False))


class Watch(Companion):
    """Measures a model after each epoch, keeps the best, and ends a training that gets no better.

    Args:
        model: what is trained.
        phase: its name in the history.
        validation: batches to measure with; None measures nothing, and keeps the last weights.
        ema: see `Average`; 0 for none.
        patience: epochs without a better one after which it ends; 0 for never.
        history: epochs of earlier phases; longer by one dict after each epoch.
        told: called with each new one.

    Attributes:
        best: the weights of the best epoch.
        best_epoch: its number in the history; 0 before the first.
    """

    def __init__(
        self,
        model: Module,
        phase: str,
        validation: Pairs | None,
        *,
        ema: float = 0.0,
        patience: int = 0,
        history: list[dict[str, Any]] | None = None,
        told: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.model, self.phase, self.validation = model, phase, validation
        self.history = [] if history is None else history
        self.average = Average(model, ema) if ema else None
        self.best: dict[str, Any] | None = None
        self.best_epoch = max((row["epoch"] for row in self.history), default=0)
        self.finished = False
        self._patience, self._since, self._told = patience, 0, told
        self._score: tuple[float, float] | None = None
        self._ask = Asking(model)

    def consider(self, row: dict[str, Any]) -> None:
        """Takes the model as it is for the best so far, with the validation that a row of the history has."""
        self._score = (row["val_accuracy"], -row["val_loss"])
        self.best, self.best_epoch = _weights(self.model), row["epoch"]

    def after_update(self) -> None:
        """Averages."""
        if self.average is not None:
            self.average.update()

    def after_epoch(self, progress: Progress, stopping: Callable[[], bool]) -> bool:
        """Measures the average, or the model where there is none, and keeps it if it is the best."""
        row: dict[str, Any] = {
            "phase": self.phase,
            "epoch": max((r["epoch"] for r in self.history), default=0) + 1,
            "lr": progress.learning_rate,
            "train_loss": progress.loss,
            "train_accuracy": progress.accuracy,
            "val_loss": None,
            "val_accuracy": None,
            "seconds": progress.seconds,
            "waiting": progress.seconds_waiting / max(progress.seconds, 1e-9),
        }
        if self.average is not None:
            self.average.swap()
        try:
            if self.validation is not None:
                found = self._ask.unless(self.validation, stopping)
                if found is None:
                    return False
                row["val_loss"], row["val_accuracy"] = loss_and_accuracy(*found)
            self._keep(row)
        finally:
            if self.average is not None:
                self.average.swap()
        self.history.append(row)
        if self._told is not None:
            self._told(row)
        return True

    def _keep(self, row: dict[str, Any]) -> None:
        if row["val_loss"] is None:
            better, score = True, (0.0, 0.0)
        else:
            loss = row["val_loss"]
            score = (row["val_accuracy"], -loss if math.isfinite(loss) else -math.inf)
            better = self._score is None or score > self._score
        if better:
            self._score, self._since = score, 0
            self.best, self.best_epoch = _weights(self.model), row["epoch"]
        else:
            self._since += 1
            self.finished = 0 < self._patience <= self._since

    def restore_best(self) -> None:
        """Puts the best weights into the model."""
        if self.best is not None:
            self.model.load_state_dict(self.best)

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the training hangs on."""
        return {
            "phase": self.phase,
            "history": [dict(row) for row in self.history],
            "average": None if self.average is None else self.average.state_dict(),
            "best": self.best,
            "best_epoch": self.best_epoch,
            "score": None if self._score is None else list(self._score),
            "since": self._since,
            "finished": self.finished,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned."""
        if state["phase"] != self.phase or (state["average"] is None) != (self.average is None):
            raise ValueError(f"it is in the phase {state['phase']!r}, not {self.phase!r}")
        self.history[:] = [dict(row) for row in state["history"]]
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.best, self.best_epoch = copied(state["best"]), int(state["best_epoch"])
        self._score = None if state["score"] is None else (float(state["score"][0]), float(state["score"][1]))
        self._since, self.finished = int(state["since"]), bool(state["finished"])


def _weights(model: Module) -> dict[str, Any]:
    """A copy of a model's weights and statistics."""
    kept: dict[str, Any] = copied(dict(model.state_dict()))
    return kept
