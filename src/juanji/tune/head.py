"""The last layer of a frozen network: found in closed form, or trained in epochs, on features computed once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji import metrics, nn, optim
from juanji.data import DataLoader, Dataset
from juanji.data.scanning import Sample
from juanji.data.splitting import split
from juanji.nn import functional as F
from juanji.random import Generator
from juanji.tensors import Tensor, from_numpy, manual_seed, no_grad
from juanji.train.checkpoint import Checkpointer
from juanji.train.listener import Listener
from juanji.train.loop import fit
from juanji.train.state import Companion

#: What is tried: how far the classes' common spread is drawn towards a ball.
SHRINKAGES = (0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.9)
FOLDS = 5
#: More pictures than this are not all asked in cross-validation: so many say enough.
ENOUGH = 2000
#: With fewer pictures than this the discriminant is better, and the other way is not tried unless asked for.
MANY = 1000

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """A linear classifier of features: scores are `features @ weight.T + bias`.

    Attributes:
        weight: (classes, F).
        bias: (classes,).
    """

    weight: Matrix
    bias: Matrix

    def __call__(self, features: NDArray[Any]) -> Matrix:
        """Scores (n, classes) of features (n, F)."""
        return np.asarray(features.astype(np.float64) @ self.weight.T + self.bias)

    def scaled(self, by: float) -> Linear:
        """With all scores multiplied by one number: the same decisions, surer or less sure."""
        return Linear(self.weight * by, self.bias * by)

    def put_into(self, layer: Any) -> None:
        """Makes it the weights of an `nn.Linear`."""
        with no_grad():
            layer.weight.copy_(from_numpy(self.weight.astype(np.float32)))
            layer.bias.copy_(from_numpy(self.bias.astype(np.float32)))


class Discriminant:
    """Linear discriminant analysis with a shrunk covariance, for every amount of shrinking from one decomposition.

    The classes are taken for normal distributions around their means with one covariance S, estimated as
    (1 - s) S + s tr(S)/F I, because there are fewer pictures than features. Sources: Fisher, "The use of multiple
    measurements in taxonomic problems", 1936; Friedman, "Regularized discriminant analysis", 1989.

    Args:
        features: (n, F).
        labels: class numbers (n,), of which each has a picture.
        classes: their number.
        alike: take every class for equally likely, instead of as likely as it is among the pictures.

    >>> points = np.array([[0.0, 0.1], [0.2, 0.0], [3.0, 0.1], [3.1, 0.2]], np.float32)
    >>> found = Discriminant(points, np.array([0, 0, 1, 1]), 2).linear(0.5)
    >>> found(points).argmax(1).tolist()
    [0, 0, 1, 1]
    """

    def __init__(self, features: NDArray[Any], labels: NDArray[Any], classes: int, alike: bool = False) -> None:
        x = features.astype(np.float64)
        self._middle = x.mean(axis=0)
        x -= self._middle
        counts = np.bincount(labels, minlength=classes)
        self.means = np.stack([x[labels == k].mean(axis=0) for k in range(classes)])
        self._prior = np.zeros(classes) if alike else np.log(counts / len(x))
        rest = x - self.means[labels]
        n, width = rest.shape
        # The covariance is never made where it is larger than the products of the pictures with one another.
        if n < width:
            values, vectors = np.linalg.eigh(rest @ rest.T / n)
            keep = values > max(float(values[-1]), 1e-30) * 1e-10
            self._values = values[keep]
            self._axes = rest.T @ vectors[:, keep] / np.sqrt(n * self._values)
        else:
            values, self._axes = np.linalg.eigh(rest.T @ rest / n)
            self._values = np.maximum(values, 0)
        self._ball = max(float(self._values.sum()) / width, 1e-12)

    def linear(self, shrinkage: float) -> Linear:
        """The classifier for one amount of shrinking, above 0 and up to 1."""
        spread, ball = (1 - shrinkage) * self._values, shrinkage * self._ball
        inside = self.means @ self._axes
        # The inverse of `axes diag(spread) axes.T + ball I`, applied to the means.
        weight = (self.means - (inside * (spread / (spread + ball))) @ self._axes.T) / ball
        bias = self._prior - 0.5 * (weight * self.means).sum(axis=1)
        return Linear(weight, bias - weight @ self._middle)


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Features in memory with their class numbers, handed out in whole batches."""

    def __init__(self, features: NDArray[Any], labels: NDArray[Any]) -> None:
        self.features, self.labels = np.ascontiguousarray(features, np.float32), np.asarray(labels, np.int64)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return from_numpy(self.features[index]), from_numpy(self.labels[index : index + 1])[0]

    def __getbatch__(self, indices: Sequence[int]) -> list[Tensor]:
        at = np.asarray(indices, np.intp)
        return [from_numpy(self.features[at]), from_numpy(self.labels[at])]


class LogisticHead(nn.Module):
    """Features made comparable, then one linear layer: what is trained in epochs.

    Args:
        middle, spread: mean and standard deviation of each feature, (F,).
        classes: scores.
    """

    def __init__(self, middle: NDArray[Any], spread: NDArray[Any], classes: int) -> None:
        super().__init__()
        self.register_buffer("middle", from_numpy(middle.astype(np.float32)))
        self.register_buffer("scale", from_numpy((1 / (spread * np.sqrt(len(spread)))).astype(np.float32)))
        self.fc = nn.Linear(len(middle), classes)
        for p in self.fc.parameters():
            nn.init.zeros_(p)

    def forward(self, features: Tensor) -> Tensor:
        """Scores (N, classes) of features (N, F)."""
        return self.fc((features - self.middle) * self.scale)  # type: ignore[no-any-return]

    @property
    def linear(self) -> Linear:
        """The same as one linear layer of the features as they are."""
        scale, middle, inner, bias = (
            value.detach().numpy().astype(np.float64) for value in (self.scale, self.middle, *self.fc.parameters())
        )
        weight = inner * scale
        return Linear(weight, bias - weight @ middle)

    @classmethod
    def of(cls, features: NDArray[Any], classes: int) -> LogisticHead:
        """Made for these features."""
        wide = features.astype(np.float64)
        return cls(wide.mean(axis=0), wide.std(axis=0) + 1e-6, classes)


@dataclass(frozen=True)
class LogisticPlan:
    """How a logistic head is trained.

    Args:
        epochs: passes over the features.
        batch_size: features in a step.
        lr: at the top of the one cycle.
        weight_decay: AdamW's.
        label_smoothing: as of `nn.CrossEntropyLoss`.
    """

    epochs: int = 40
    batch_size: int = 32
    lr: float = 0.02
    weight_decay: float = 0.05
    label_smoothing: float = 0.0


def logistic(
    features: NDArray[Any],
    labels: NDArray[Any],
    classes: int,
    plan: LogisticPlan,
    *,
    weight: NDArray[Any] | None = None,
    seed: int = 0,
    watching: Callable[[nn.Module], Companion] | None = None,
    checkpointer: Checkpointer | None = None,
) -> LogisticHead:
    """Multinomial logistic regression by AdamW with one cycle of the learning rate.

    Args:
        features: (n, F).
        labels: class numbers (n,).
        classes: their number.
        plan: how it is trained.
        weight: of each class in the loss, or None.
        seed: of the order.
        watching: makes the companion of the training for its model.
        checkpointer: saves the training as it goes, and continues one.
    """
    manual_seed(seed)
    model = LogisticHead.of(features, classes)
    batches = DataLoader(
        Pairs(features, labels),
        batch_size=min(plan.batch_size, len(features)),
        shuffle=True,
        drop_last=True,
        generator=Generator().manual_seed(seed),
    )
    optimizer = optim.AdamW(model.parameters(), lr=plan.lr, weight_decay=plan.weight_decay)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=plan.lr, total_steps=plan.epochs * len(batches))
    counted = None if weight is None else from_numpy(np.asarray(weight, np.float32))

    def criterion(scores: Tensor, wanted: Tensor) -> Tensor:
        return F.cross_entropy(scores, wanted, weight=counted, label_smoothing=plan.label_smoothing)

    fit(
        model,
        batches,
        optimizer,
        epochs=plan.epochs,
        scheduler=schedule,
        criterion=criterion,
        listener=Listener(),
        companion=None if watching is None else watching(model),
        checkpointer=checkpointer,
    )
    model.eval()
    return model


def batches_of(features: NDArray[Any], labels: NDArray[Any]) -> DataLoader:
    """Features in order, many at once, for validation."""
    return DataLoader(Pairs(features, labels), batch_size=256)


@dataclass
class Tried:
    """What cross-validation found.

    Attributes:
        method: "discriminant" or "logistic".
        value: its shrinkage; None for logistic.
        accuracy: of the pictures that were left out.
        right: which of the pictures it was right about, (n,); False for those that were never left out.
        scale: the factor on scores by which the probabilities of those fit best.
        others: the accuracy of each thing that was tried, by its name.
    """

    method: str
    value: float | None
    accuracy: float
    right: NDArray[np.bool_]
    scale: float
    others: dict[str, float] = field(default_factory=dict)


def folds(samples: Sequence[Sample], count: int = FOLDS, seed: int = 0) -> NDArray[np.int64]:
    """Which of `count` parts each sample is left out with: classes alike in all, duplicates together."""
    parts = split(samples, {str(i): 1 / count for i in range(count)}, seed=seed)
    place = {id(sample): int(name) for name, members in parts.items() for sample in members}
    return np.array([place[id(sample)] for sample in samples], np.int64)


def cross_validate(
    features: NDArray[Any],
    labels: NDArray[Any],
    classes: int,
    fold: NDArray[np.int64],
    *,
    methods: Sequence[str] = ("discriminant",),
    plan: LogisticPlan | None = None,
    alike: bool = False,
) -> Tried:
    """Tries ways to find a head on some training pictures and asks it about the others.

    Args:
        features: (n, F).
        labels: class numbers (n,).
        classes: their number.
        fold: which part each picture is left out with; -1 for never.
        methods: "discriminant", "logistic".
        plan: of the logistic one.
        alike: see `Discriminant`.

    Returns:
        the best one, by the likelihood of the right classes, their scores scaled to it: with few pictures many ways are
        right about the same number of them.
    """
    names: list[tuple[str, float | None]] = []
    if "discriminant" in methods:
        names += [("discriminant", s) for s in SHRINKAGES]
    if "logistic" in methods:
        names.append(("logistic", None))
    scores = {name: np.full((len(labels), classes), np.nan) for name in names}
    for part in np.unique(fold[fold >= 0]):
        out, rest = fold == part, fold != part
        there = np.unique(labels[rest])
        if len(there) < 2:
            continue
        number = np.zeros(classes, np.int64)
        number[there] = np.arange(len(there))
        own = number[labels[rest]]
        spread = Discriminant(features[rest], own, len(there), alike) if "discriminant" in methods else None
        for name in names:
            method, value = name
            if method == "discriminant":
                assert spread is not None
                assert value is not None
                linear = spread.linear(value)
            else:
                linear = logistic(features[rest], own, len(there), plan or LogisticPlan()).linear
            # A class that is only in this part can't be known: it counts as wrong.
            full = np.full((int(out.sum()), classes), -1e9)
            full[:, there] = linear(features[out])
            scores[name][out] = full
    best: Tried | None = None
    others: dict[str, float] = {}
    least = np.inf
    for method, value in names:
        found = scores[method, value]
        asked = ~np.isnan(found[:, 0])
        if not asked.any():
            continue
        right = asked & (found.argmax(axis=1) == labels)
        accuracy = float(right.sum() / asked.sum())
        scale, loss = fitted_scale(found[asked], labels[asked])
        others[method if value is None else f"{method} {value:g}"] = accuracy
        if loss < least:
            best, least = Tried(method, value, accuracy, right, scale), loss
    if best is None:  # no picture could be left out
        value = 0.5 if names[0][0] == "discriminant" else None
        best = Tried(names[0][0], value, 0.0, np.zeros(len(labels), np.bool_), 1.0)
    best.others = others
    return best


def clearly_better(one: Tried, other: Tried) -> bool:
    """Whether one is right about more pictures by more than two standard errors of that difference."""
    wins, losses = int((one.right & ~other.right).sum()), int((other.right & ~one.right).sum())
    return wins - losses > 2 * math.sqrt(wins + losses)


def fitted_scale(scores: Matrix, labels: NDArray[Any]) -> tuple[float, float]:
    """The factor on scores that makes the right classes most likely, and the mean loss with it.

    This is temperature scaling: Guo et al., "On calibration of modern neural networks", 2017. A weak prior says that
    the scores may be right as they are: otherwise those that are never wrong about a few pictures would be scaled up
    without end.

    >>> scores = np.array([[9.0, 0.0], [9.0, 0.0], [9.0, 0.0], [0.0, 9.0]] * 50)
    >>> scale, loss = fitted_scale(scores, np.array([0, 0, 1, 1] * 50))
    >>> 0.1 < scale < 0.2
    True
    """

    def loss(scale: float) -> float:
        found = float(np.minimum(metrics.cross_entropy(scores * scale, labels), 30.0).mean())
        return found + 0.2 * math.log(scale) ** 2 / len(labels)

    steps = np.exp(np.linspace(np.log(1e-3), np.log(30.0), 61))
    at = int(np.argmin([loss(s) for s in steps]))
    low, high = np.log(steps[max(at - 1, 0)]), np.log(steps[min(at + 1, 60)])
    golden: Callable[[float], float] = lambda t: loss(float(np.exp(t)))  # noqa: E731
    for _ in range(30):
        a, b = low + (high - low) * 0.382, low + (high - low) * 0.618
        low, high = (low, b) if golden(a) < golden(b) else (a, high)
    best = float(np.exp((low + high) / 2))
    return best, loss(best)
