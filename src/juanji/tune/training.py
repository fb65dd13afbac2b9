"""Training layers of a network by its recipe."""

from __future__ import annotations

import math
import time
from typing import Any

from juanji import optim
from juanji.nn import functional as F
from juanji.tensors import Tensor, from_numpy, zeros
from juanji.train.checkpoint import Interrupted
from juanji.train.loop import fit
from juanji.tune import recipes
from juanji.tune.finder import lr_finder
from juanji.tune.folding import folded
from juanji.tune.loading import Photos, augmentation, loader
from juanji.tune.saving import stopped
from juanji.tune.watch import Watch
from juanji.tune.work import Work, asked, checkpointer_of, class_weights


def train_layers(work: Work) -> int:
    """Trains layers of the network by its recipe, in epochs."""
    settings, plan, since = work.settings, work.plan, time.perf_counter()
    division = work.division
    model: Any = work.model
    photos = Photos(division.train, work.preprocessing, augmentation(settings.augment, work.preprocessing))
    batches = loader(
        photos, settings.batch_size, shuffle=True, seed=settings.seed, workers=settings.workers, mix=settings.mix,
        classes=work.classes,
    )  # fmt: skip
    groups = recipes.groups(plan.recipe, model, plan.lr, settings.decay)
    optimizer = optim.AdamW(groups, lr=plan.lr, weight_decay=settings.weight_decay)
    counted = class_weights(work)
    weight = None if counted is None else from_numpy(counted)

    def criterion(scores: Tensor, wanted: Tensor) -> Tensor:
        return F.cross_entropy(scores, wanted, weight=weight, label_smoothing=settings.label_smoothing)

    if settings.find_lr and work.resumed is None:
        found = lr_finder(model, batches, optimizer, criterion=criterion)
        plan.lr = found.suggestion
        plan.reasons.append(f"learning rate {plan.lr:.2g}: a tenth of where the loss was least in a test")
        work.told.note(plan.reasons[-1])
        groups = recipes.groups(plan.recipe, model, plan.lr, settings.decay)
        optimizer = optim.AdamW(groups, lr=plan.lr, weight_decay=settings.weight_decay)
    updates = plan.epochs * math.ceil(len(batches) / settings.accumulate)
    schedule = optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=[g["lr"] for g in groups], total_steps=updates, pct_start=0.25
    )
    validation = None
    if division.val:
        validation = asked(work, division.val)
    watch = Watch(
        model,
        "all" if plan.recipe == "full" else plan.recipe,
        validation,
        ema=settings.ema,
        patience=settings.patience,
        history=work.history,
        told=lambda row: work.told.epoch(row, plan.epochs),
    )
    if work.history and work.history[-1]["val_accuracy"] is not None:
        watch.consider(work.history[-1])
    checkpointer = checkpointer_of(work)
    view = work.preprocessing
    try:
        with folded(model, zeros(1, view.channels, *view.size)):
            fit(
                model,
                batches,
                optimizer,
                epochs=plan.epochs,
                scheduler=schedule,
                criterion=criterion,
                listener=work.told.listener(plan.epochs),
                checkpointer=checkpointer,
                accumulate=settings.accumulate,
                companion=watch,
            )
    except Interrupted as stop:
        raise stopped(checkpointer, stop, plan.epochs) from None
    watch.restore_best()
    work.clock("training", since)
    return watch.best_epoch
