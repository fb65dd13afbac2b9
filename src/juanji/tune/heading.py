"""The head: how pictures are seen, how the last layer is found, and what recipe that leads to."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import juanji
from juanji.nn import Module
from juanji.tensors import Tensor, no_grad, zeros
from juanji.train.checkpoint import Interrupted
from juanji.tune import choice
from juanji.tune import features as feature_cache
from juanji.tune import head as heads
from juanji.tune.plan import settle
from juanji.tune.saving import stopped
from juanji.tune.settings import Settings
from juanji.tune.watch import Watch, loss_and_accuracy
from juanji.tune.work import Work, checkpointer_of, class_weights, features, labels_of, val_features


def find_head(work: Work) -> None:
    """Chooses what is seen of a picture and how the head is found, and finds it; then the recipe."""
    settings, plan, since = work.settings, work.plan, time.perf_counter()
    train = work.division.train
    decided = work.resumed is not None
    names = [plan.view] if decided else ["whole", "middle"] if settings.view == "auto" else [settings.view]
    work.features = features(work, train, names, "what the network sees in the pictures")
    work.clock("features", since)
    since = time.perf_counter()
    if not decided:
        _choose(work, names)
    work.features = {plan.view: work.features[plan.view]}
    x, y = work.features[plan.view], labels_of(train)
    if plan.head == "discriminant":
        assert plan.shrinkage is not None
        spread = heads.Discriminant(x, y, work.classes, settings.class_weights)
        linear = spread.linear(plan.shrinkage).scaled(plan.scale)
        linear.put_into(work.backbone.get_classifier())
        work.history.append(_row(work, x, y, linear, time.perf_counter() - since))
    work.clock("head", since)
    if plan.recipe == "auto":
        left = settings.budget - (time.perf_counter() - work.begin)
        chosen, epochs = choice.recipe(len(train), work.classes, lambda: _measured(work), left)
        plan.recipe, plan.epochs = chosen.value, epochs
        plan.reasons += chosen.reasons
        settle(plan, settings)
    if plan.recipe == "head" and plan.head == "logistic":
        usual = logistic_plan(settings)
        plan.lr, plan.epochs = usual.lr, usual.epochs


def _choose(work: Work, names: list[str]) -> None:
    """Which view, and which head, by cross-validation on the training pictures."""
    settings, plan = work.settings, work.plan
    train = work.division.train
    keep = np.arange(len(train))
    if len(train) > heads.ENOUGH:
        keep = np.sort(np.random.default_rng(settings.seed).permutation(keep)[: heads.ENOUGH])
        train = [train[i] for i in keep]
    labels = labels_of(train)
    there, labels = np.unique(labels, return_inverse=True)
    fold = heads.folds([replace(s, label=int(k)) for s, k in zip(train, labels, strict=True)], seed=settings.seed)
    methods = ["discriminant" if settings.head == "auto" else settings.head]
    if settings.recipe not in ("auto", "head"):
        methods = ["discriminant"]  # only where the training begins
    elif settings.head == "auto" and len(train) >= heads.MANY:
        methods.append("logistic")
        fold[fold > 0] = -1  # there are enough in one part
    tried = {
        name: heads.cross_validate(
            work.features[name][keep],
            labels,
            len(there),
            fold,
            methods=methods,
            plan=logistic_plan(settings),
            alike=settings.class_weights,
        )
        for name in names
    }
    plan.view = names[0]
    if len(names) > 1:
        whole, middle = tried["whole"], tried["middle"]
        plan.view = "middle" if heads.clearly_better(middle, whole) else "whole"
        plan.reasons.append(
            f"{plan.view} pictures: a head is right about {whole.accuracy:.1%} of training pictures it had not "
            f"learned from if it sees them whole, {middle.accuracy:.1%} if it sees their middle"
        )
    best = tried[plan.view]
    plan.head, plan.shrinkage, plan.scale = best.method, best.value, best.scale
    plan.cross_validated = best.accuracy
    if len(methods) > 1:
        shown = {m: max(a for n, a in best.others.items() if n.startswith(m)) for m in methods}
        plan.reasons.append(
            f"{best.method} head: right about {shown[best.method]:.1%} in cross-validation, "
            + ", ".join(f"{m} {a:.1%}" for m, a in shown.items() if m != best.method)
        )


def logistic_plan(settings: Settings) -> heads.LogisticPlan:
    """How a logistic head is trained, with what the settings say."""
    usual = heads.LogisticPlan()
    return replace(usual, epochs=settings.epochs or usual.epochs, lr=settings.lr or usual.lr)


def _row(work: Work, x: NDArray[Any], y: NDArray[Any], linear: heads.Linear, seconds: float) -> dict[str, Any]:
    """A row of the history about a head that was solved for."""
    loss, accuracy = loss_and_accuracy(linear(x), y)
    found: dict[str, Any] = {
        "phase": "head",
        "epoch": 0,
        "lr": None,
        "train_loss": loss,
        "train_accuracy": accuracy,
        "val_loss": None,
        "val_accuracy": None,
        "seconds": seconds,
        "waiting": 0.0,
    }
    if work.division.val:
        found["val_loss"], found["val_accuracy"] = loss_and_accuracy(
            linear(val_features(work)), labels_of(work.division.val)
        )
    return found


def _measured(work: Work) -> float:
    """Seconds that the network needs for a picture."""

    def forward(inputs: Tensor) -> Tensor:
        with no_grad():
            return work.backbone.forward_features(inputs)

    run = juanji.compile(forward)
    view = work.preprocessing
    inputs = zeros(feature_cache.BATCH, view.channels, *view.size)
    seconds = []
    work.model.eval()
    for _ in range(3):
        since = time.perf_counter()
        run(inputs)
        seconds.append(time.perf_counter() - since)
    return min(seconds) / feature_cache.BATCH


def train_head(work: Work) -> int:
    """Trains the head in epochs, on features."""
    settings, plan, since = work.settings, work.plan, time.perf_counter()
    x, y = work.features[plan.view], labels_of(work.division.train)
    validation = None
    if work.division.val:
        validation = heads.batches_of(val_features(work), labels_of(work.division.val))
    checkpointer = checkpointer_of(work)
    watches: list[Watch] = []

    def watching(model: Module) -> Watch:
        watches.append(
            Watch(
                model, "head", validation, patience=settings.patience, history=work.history,
                told=lambda row: work.told.epoch(row, plan.epochs),
            )
        )  # fmt: skip
        return watches[0]

    try:
        model = heads.logistic(
            x,
            y,
            work.classes,
            replace(logistic_plan(settings), epochs=plan.epochs, lr=plan.lr),
            weight=class_weights(work),
            seed=settings.seed,
            watching=watching,
            checkpointer=checkpointer,
        )
    except Interrupted as stop:
        raise stopped(checkpointer, stop, plan.epochs) from None
    watches[0].restore_best()
    model.linear.put_into(work.backbone.get_classifier())
    work.clock("head", since)
    return watches[0].best_epoch
