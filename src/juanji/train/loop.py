"""The training loop: one compiled step, run over batches, with events for whoever shows its progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import juanji
from juanji import metrics
from juanji.nn import Module
from juanji.nn import functional as F
from juanji.runtime import jit
from juanji.tensors import Tensor, no_grad
from juanji.train.checkpoint import Checkpointer
from juanji.train.diagnose import NotFinite, Rewind
from juanji.train.listener import Listener as Listener
from juanji.train.listener import Progress as Progress
from juanji.train.listener import watching
from juanji.train.state import Batches, Companion, Optimizer, Position, Scheduler, Training

#: Seconds between two progress reports. Losses are read only then: reading one waits for nothing, but costs
#: Python time, which a step of a small network has little of.
REPORT_SECONDS = 0.1
#: So many losses are kept unread at most.
_MOST_UNREAD = 256


class TrainingError(RuntimeError):
    """A training that can't go on, such as one whose loss is no number; the message says what to try."""


@dataclass
class Report:
    """What a training took.

    Attributes:
        epochs: the last `Progress` of each epoch.
        steps, images: how many were done, without those before a checkpoint that it went on from.
        seconds: likewise, of which `seconds_compiling` were spent on machine code and `seconds_waiting` on
            waiting for data.
    """

    epochs: list[Progress] = field(default_factory=list)
    steps: int = 0
    images: int = 0
    seconds: float = 0.0
    seconds_compiling: float = 0.0
    seconds_waiting: float = 0.0


class _Epoch:
    """Sums of one epoch; losses stay tensors until someone wants to see them."""

    def __init__(self, at: Position, epochs: int, steps: int) -> None:
        self.number, self.epochs, self.steps = at.epoch, epochs, steps
        self.begin = time.perf_counter()
        self.waiting = 0.0
        self.first = self.step = at.step
        self.images = 0
        self.rate = 0.0
        self._unread: list[tuple[Tensor, Tensor, int]] = []
        self._loss, self._correct, self._counted = at.loss, at.correct, at.counted

    def add(self, loss: Tensor, correct: Tensor, count: int) -> None:
        self._unread.append((loss, correct, count))
        self.step += 1
        self.images += count

    @property
    def full(self) -> bool:
        return len(self._unread) >= _MOST_UNREAD

    def read(self) -> Progress:
        first = self.step - len(self._unread) + 1
        for step, (loss, correct, count) in enumerate(self._unread, first):
            value = float(loss.item())
            if not math.isfinite(value):
                raise NotFinite(value, step, self.number)
            self._loss += value * count
            self._correct += int(correct.item())
            self._counted += count
        self._unread.clear()
        seconds = time.perf_counter() - self.begin
        return Progress(
            epoch=self.number,
            epochs=self.epochs,
            step=self.step,
            steps=self.steps,
            loss=self._loss / max(1, self._counted),
            accuracy=self._correct / max(1, self._counted),
            learning_rate=self.rate,
            images_per_second=self.images / max(seconds, 1e-9),
            seconds=seconds,
            seconds_waiting=self.waiting,
        )

    def position(self) -> Position:
        """Where it stands, all losses read."""
        return Position(self.number, self.step, self._loss, self._correct, self._counted)


def fit(
    model: Module,
    batches: Batches,
    optimizer: Optimizer,
    *,
    epochs: int,
    scheduler: Scheduler | None = None,
    criterion: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    listener: Listener | None = None,
    compiled: bool = True,
    checkpointer: Checkpointer | None = None,
    accumulate: int = 1,
    companion: Companion | None = None,
) -> Report:
    """Trains a classifier: forward, backward and update of each batch as one compiled step.

    Args:
        model: takes the batches' inputs (count, ...) and gives scores (count, classes). Left in training
            mode.
        batches: pairs of inputs and class numbers (count,), int64, or shares of each class (count, classes). The last
            batch may be short.
        optimizer: over the model's parameters.
        epochs: passes over the batches.
        scheduler: stepped after each update.
        criterion: the loss, of scores and class numbers.
        listener: told of the progress. Where none is given, bars show it in a notebook and on a terminal, and
            nothing does elsewhere; `Listener()` is always silent.
        compiled: false runs the same step eagerly.
        checkpointer: saves after each epoch and when a signal asks to stop, and continues from a checkpoint.
        accumulate: the weights are updated after so many batches, and after the last of an epoch, by the mean of
            their gradients: as with so much larger a batch, in the memory of one.
        companion: what else belongs to the training and its state; may end it.

    Raises:
        ValueError: `accumulate` is below 1.
        TrainingError: the loss became infinite or no number, or there are no batches. The message says where
            that first showed; the model is left about as it was before that step.
        DataError: the checkpoint to continue from is of another training.
        Interrupted: a signal asked to stop; a checkpoint is saved.
    """
    steps = len(batches)
    if steps < 1:
        raise TrainingError("there are no pictures to train on")

    if accumulate < 1:
        raise ValueError(f"accumulate={accumulate!r} must be 1 or more")
    along = companion or Companion()

    def step(inputs: Tensor, labels: Tensor, first: bool, last: bool, share: float) -> tuple[Tensor, Tensor]:
        if first:
            optimizer.zero_grad()
        scores = model(inputs)
        loss = criterion(scores, labels)
        (loss if first and last else loss * share).backward()
        if last:
            optimizer.step()
            along.after_update()
        return loss.detach(), (scores.detach().argmax(1) == (labels if labels.ndim == 1 else labels.argmax(1))).sum()

    run = _Step(juanji.compile(step) if compiled else step, accumulate, steps)
    model.train()
    report = Report()
    begin, compiling = time.perf_counter(), jit.statistics.seconds
    training = Training(model, optimizer, scheduler, batches, companion)
    rewind = Rewind(training, run, criterion)
    at, source = (Position(), None) if checkpointer is None else checkpointer.begin(training)
    with watching(listener, epochs) as told:
        while at.epoch <= epochs and not along.finished:
            rewind.remember(at)
            epoch = _Epoch(at, epochs, steps)
            try:
                _run_epoch(epoch, training, source, run, rewind, told, checkpointer)
                last = epoch.read()
                if companion is not None:
                    done = companion.after_epoch(last, lambda: checkpointer is not None and checkpointer.stopping)
                    if not done and checkpointer is not None:
                        checkpointer.stop(epoch.position(), epochs)
                    model.train()
            except NotFinite as found:
                raise TrainingError(rewind.explain(found, epoch.rate)) from None
            report.epochs.append(last)
            report.steps += epoch.step - epoch.first
            report.images += epoch.images
            report.seconds_waiting += epoch.waiting
            at, source = Position(at.epoch + 1), None
            if checkpointer is not None:
                checkpointer.save_now_and_then(at)
            told.epoch(last)
            if checkpointer is not None and checkpointer.stopping:
                break
    if checkpointer is not None:
        checkpointer.finish(epochs)
    report.seconds = time.perf_counter() - begin
    report.seconds_compiling = jit.statistics.seconds - compiling
    return report


def _run_epoch(
    epoch: _Epoch,
    training: Training,
    source: Iterator[Any] | None,
    run: _Step,
    rewind: Rewind,
    listener: Listener,
    checkpointer: Checkpointer | None,
) -> None:
    """All steps of an epoch, or those that are left of it."""
    shown = epoch.begin
    if source is None:
        source = training.begin_pass()
    groups, scheduler = training.optimizer.param_groups, training.scheduler
    while True:
        before = time.perf_counter()
        batch = next(source, None)
        now = time.perf_counter()
        epoch.waiting += now - before
        if batch is None:
            return
        inputs, labels = batch
        epoch.rate = float(groups[0]["lr"])
        loss, correct = run(inputs, labels, epoch.step)
        epoch.add(loss, correct, len(labels))
        if not run.updates(epoch.step):  # gradients of half an update are no state to keep
            continue
        if scheduler is not None:
            scheduler.step()
        if now - shown >= REPORT_SECONDS or epoch.full:
            listener.progress(epoch.read())
            rewind.remember_now_and_then(epoch.position())
            shown = now
        if checkpointer is not None and checkpointer.stopping:
            epoch.read()
            checkpointer.stop(epoch.position(), epoch.epochs)


class _Step:
    """The compiled step, told by the number of the batch where in a group of accumulated ones it is."""

    def __init__(self, run: Callable[..., tuple[Tensor, Tensor]], accumulate: int, steps: int) -> None:
        self._run, self._accumulate, self._steps = run, accumulate, steps

    def __call__(self, inputs: Tensor, labels: Tensor, done: int) -> tuple[Tensor, Tensor]:
        """Runs it.

        Args:
            inputs, labels: the batch.
            done: batches of this epoch before it.
        """
        begin = done - done % self._accumulate
        count = min(self._accumulate, self._steps - begin)
        return self._run(inputs, labels, done == begin, self.updates(done + 1), 1.0 / count)

    def updates(self, done: int) -> bool:
        """Whether after so many batches of an epoch nothing is waiting for an update."""
        return done % self._accumulate == 0 or done == self._steps


@dataclass(frozen=True)
class Evaluation:
    """How well a model does on a data set.

    Attributes:
        accuracy: the share of all pictures that were classified rightly.
        count: how many pictures there were.
        loss: the mean cross-entropy.
        per_class: for each class that has pictures, by name: their `count` and `accuracy`.
        confusion: `confusion[true, predicted]`, counts.
    """

    accuracy: float
    count: int
    loss: float
    per_class: dict[str, dict[str, Any]]
    confusion: NDArray[np.int64]


def scores(model: Module, batches: Batches, *, compiled: bool = True) -> Iterator[tuple[NDArray[Any], Any]]:
    """The model's scores (count, classes) of each batch, with the batch's labels as they came.

    The model is put into evaluation mode for as long as this runs, and back.
    """

    def forward(inputs: Tensor) -> Tensor:
        with no_grad():
            result: Tensor = model(inputs)
        return result

    run: Callable[[Tensor], Tensor] = juanji.compile(forward) if compiled else forward
    was_training = model.training
    model.eval()
    try:
        for inputs, labels in batches:
            yield run(inputs).numpy(), labels
    finally:
        model.train(was_training)


def per_class(confusion: NDArray[np.int64], classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Count and accuracy of each class that has pictures, by name.

    >>> per_class(np.array([[3, 1], [0, 0]]), ["cat", "dog"])
    {'cat': {'accuracy': 0.75, 'count': 4}}
    """
    found = metrics.class_metrics(confusion)
    return {
        name: {"accuracy": round(float(found.recall[i]), 6), "count": int(found.support[i])}
        for i, name in enumerate(classes)
        if found.support[i]
    }


def evaluate(model: Module, batches: Batches, classes: Sequence[str], *, compiled: bool = True) -> Evaluation:
    """Measures a classifier on batches of (inputs, class numbers).

    Raises:
        TrainingError: there are no pictures, or the scores don't fit the classes.
    """
    size = len(classes)
    confusion = np.zeros((size, size), np.int64)
    loss = 0.0
    for values, labels in scores(model, batches, compiled=compiled):
        if values.ndim != 2 or values.shape[1] != size:
            raise TrainingError(f"the model gives scores of shape {values.shape} for {size} classes")
        true = np.asarray(labels.numpy() if isinstance(labels, Tensor) else labels, dtype=np.int64)
        loss += float(metrics.cross_entropy(values, true).sum())
        confusion += metrics.confusion_matrix(true, values.argmax(axis=1), size)
    count = int(confusion.sum())
    if not count:
        raise TrainingError("there are no pictures to evaluate on")
    return Evaluation(float(confusion.trace() / count), count, loss / count, per_class(confusion, classes), confusion)
