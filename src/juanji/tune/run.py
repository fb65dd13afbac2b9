"""`juanji.finetune`: from a folder of pictures to a model that tells its classes apart."""

from __future__ import annotations

import os
import platform
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji.data.scanning import Sample, scan
from juanji.tensors import from_numpy, manual_seed, no_grad
from juanji.train import checkpoint as checkpoints
from juanji.train.checkpoint import Checkpoint, StopSignals, made_with
from juanji.tune import choice
from juanji.tune.division import Division, divide
from juanji.tune.heading import find_head, train_head
from juanji.tune.outcome import Outcome
from juanji.tune.plan import Plan, network, settle, starting_weights, views
from juanji.tune.saving import peak_memory, save, settled
from juanji.tune.settings import Settings
from juanji.tune.told import Logged, Told
from juanji.tune.training import train_layers
from juanji.tune.watch import Asking, loss_and_accuracy
from juanji.tune.work import Work, asked, features, labels_of
from juanji.zoo import Classifier


def finetune(
    source: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool | str | os.PathLike[str] = False,
    report: str | os.PathLike[str] | None = None,
    report_images: bool = False,
    language: str = "en",
    logs: str | os.PathLike[str] | None = None,
    told: Told | None = None,
    **options: Any,
) -> Outcome:
    """Makes a pretrained network a classifier of one's own pictures.

    The set is looked through first; files that can't be read are told and left out. A part of it is kept for validation
    (see `juanji.data.scan` and `juanji.data.split`: same pictures, and groups, stay together). Unless told otherwise,
    the network, the recipe, and whether the network sees pictures whole or their middle are chosen by the number of
    pictures, the time there is, and cross-validation on the training pictures; `Outcome.reasons` says what and why.

    Args:
        source: a folder with a folder for each class; a folder with train, val and test of such; a CSV of path and
            label.
        out: the model file to write, for `juanji predict` and `juanji evaluate`. Beside it lies a checkpoint while it
            trains.
        resume: go on from that checkpoint (or from another, by its path), to the same weights, bit for bit, as without
            the interruption.
        report: an HTML file to write, about what came of it.
        report_images: write its charts and pictures also as PNG files beside it.
        language: of the report: "en" or "zh".
        logs: a folder for `history.csv` and `history.jsonl`, to which each epoch is added when it is done, and, where
            TensorBoard is installed, its event files.
        told: who is told of the progress.
        options: see `juanji.tune.settings.Settings`: model, recipe, budget, size, epochs, batch_size, lr, seed, ...

    Raises:
        ValueError, TypeError: an option that makes no sense; the message has those that do.
        DataError: no pictures, fewer than two classes, weights that can't be had, a checkpoint of another training.
        TrainingError: the loss became infinite or no number.
        Interrupted: Ctrl-C or SIGTERM; a checkpoint is saved, and the message says how to go on.
        OSError: the model can't be written.

    Example:
        >>> import os, tempfile, juanji as jj
        >>> from PIL import Image
        >>> folder = tempfile.mkdtemp()
        >>> for i in range(12):
        ...     name = ("dark", "light")[i % 2]
        ...     os.makedirs(f"{folder}/{name}", exist_ok=True)
        ...     Image.new("L", (28, 28), 60 + 5 * i + 90 * (i % 2)).save(f"{folder}/{name}/{i}.png")
        >>> outcome = jj.finetune(folder, model="lenet", recipe="scratch", epochs=20, augment="none", ema=0)
        >>> outcome.classes, outcome.part, len(outcome.paths)
        (['dark', 'light'], 'val', 2)
    """
    if language not in ("en", "zh"):
        raise ValueError(f"language={language!r} must be 'en' or 'zh'")
    settings = Settings.of(options)
    with StopSignals() as signals, ExitStack() as stack:
        told = told or Told()
        if logs is not None:
            told = stack.enter_context(Logged(told, logs))
        work = _begun(settings, Path(source), out, resume, told, signals, set(options))
        best_epoch = _trained(work)
        outcome = _outcome(work, best_epoch)
        if work.out is not None:
            save(work.out, outcome)
            checkpoints.beside(work.out).unlink(missing_ok=True)
        if report is not None:
            from juanji.report import write

            write(outcome, report, language=language, images=report_images)
        if logs is not None:
            from juanji.report import log

            stack.close()
            log(outcome, logs, language=language)
        return outcome


def _begun(
    settings: Settings,
    source: Path,
    out: str | os.PathLike[str] | None,
    resume: bool | str | os.PathLike[str],
    told: Told,
    signals: StopSignals,
    given: set[str],
) -> Work:
    """Pictures looked through and divided, and the network with its first weights."""
    begin = time.perf_counter()
    target = None if out is None else Path(out)
    resumed = _checkpoint(target, resume, told)
    if resumed is not None:
        settings = settled(resumed, settings, given)
    division = _divided(source, settings, told)
    scanned = time.perf_counter() - begin
    plan = Plan.of(resumed.notes.get("plan")) if resumed is not None else _planned(division, settings, told)
    path = None
    if plan.recipe != "scratch":
        with told.fetching() as progress:
            path, plan.weights = starting_weights(settings, plan.architecture, progress)
    manual_seed(settings.seed)
    model = network(plan, len(division.classes), path)
    seen = views(settings, plan.architecture)
    work = Work(settings, source, target, told, signals, resumed, division, plan, model, seen, begin=begin)
    work.timing["scan"] = scanned
    return work


def _checkpoint(out: Path | None, resume: bool | str | os.PathLike[str], told: Told) -> Checkpoint | None:
    """What to go on from, if anything."""
    if resume is False:
        return None
    if not isinstance(resume, bool):
        return checkpoints.read(resume)
    if out is None:
        raise ValueError("resume=True needs out=..., the model file beside which the checkpoint lies")
    path = checkpoints.beside(out)
    if path.exists():
        return checkpoints.read(path)
    told.note(f"there is no checkpoint {str(path)!r}: starting from the beginning")
    return None


def _divided(source: Path, settings: Settings, told: Told) -> Division:
    with told.counting("looking through the pictures") as progress:
        found = scan(source, group_column=settings.group_column, progress=progress)
    for warning in found.warnings:
        told.note(warning)
    for problem in found.problems[:10]:
        told.note(f"left out: {problem.name}: {problem.reason}")
    division = divide(found, val=settings.val, test=settings.test, seed=settings.seed, group=settings.group)
    for text in division.notes:
        told.note(text)
    counts = ", ".join(f"{len(division.part(p)):,} {p}" for p in ("train", "val", "test") if division.part(p))
    told.note(f"{len(found.samples):,} pictures of {len(division.classes)} classes: {counts}")
    return division


def _planned(division: Division, settings: Settings, told: Told) -> Plan:
    """The network, and what is known of its training before it has seen a picture."""
    plan = Plan(settings.model, settings.recipe)
    if settings.model == "auto":
        if settings.weights is not None or settings.recipe == "scratch":
            why = "weights are given" if settings.weights is not None else "recipe='scratch'"
            raise ValueError(f"model='auto' is for pretrained networks: name the model where {why}")
        pictures = len(division.train) + len(division.val) + len(division.test)
        with told.fetching() as progress:
            chosen = choice.model(pictures, settings.budget, settings.size, progress)
        plan.architecture, plan.reasons = chosen.value, chosen.reasons
    settle(plan, settings)
    return plan


def _trained(work: Work) -> int:
    """Does what the recipe says; gives the number of the best epoch."""
    plan = work.plan
    best_epoch = 0
    if plan.recipe == "scratch":
        plan.view = "whole" if work.settings.view == "auto" else work.settings.view
        plan.head = "random"
    elif not isinstance(work.model, Classifier):
        raise ValueError(f"model={plan.architecture!r} has no features to start from: recipe='scratch' trains it")
    elif work.resumed is None or plan.recipe == "head":
        find_head(work)
    if plan.recipe != "head":
        best_epoch = train_layers(work)
    elif plan.head == "logistic":
        best_epoch = train_head(work)
    work.model.eval()
    return best_epoch


def _outcome(work: Work, best_epoch: int) -> Outcome:
    """Asks the model about the pictures that it has not learned from."""
    since, division, plan = time.perf_counter(), work.division, work.plan
    part = next(name for name in ("test", "val", "train") if division.part(name))
    metrics: dict[str, Any] = {}
    shown: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None
    ask = Asking(work.model)
    for name in ("val", "test") if part != "train" else ("train",):
        samples = division.part(name)
        if not samples:
            continue
        logits, labels = _logits(work, ask, samples)
        loss, accuracy = loss_and_accuracy(logits, labels)
        prefix = "" if name == part else f"{name}_"
        metrics.update({f"{prefix}accuracy": accuracy, f"{prefix}loss": loss, f"{prefix}count": len(labels)})
        if name == part:
            shown = (logits, labels)
    assert shown is not None
    if plan.cross_validated is not None:
        metrics["head_cross_validated_accuracy"] = plan.cross_validated
    work.clock("evaluation", since)
    settings = {**work.settings.plain(), "model": plan.architecture, "recipe": plan.recipe, "view": plan.view}
    settings |= {"size": work.preprocessing.size[0], "head": plan.head, "epochs": plan.epochs, "lr": plan.lr}
    return Outcome(
        model=work.model,
        preprocessing=work.preprocessing,
        classes=list(division.classes),
        recipe=plan.recipe,
        reasons=list(plan.reasons),
        settings=settings,
        history=work.history,
        best_epoch=best_epoch,
        part=part,
        paths=[s.path for s in division.part(part)],
        labels=shown[1],
        logits=shown[0],
        metrics=metrics,
        seeds={"split": work.settings.seed, "training": work.settings.seed},
        seconds=time.perf_counter() - work.begin,
        peak_memory=peak_memory(),
        data=division.summary(),
        weights=plan.weights,
        versions={**made_with(), "python": platform.python_version()},
        timing={name: round(seconds, 3) for name, seconds in work.timing.items()},
    )


def _logits(work: Work, ask: Asking, samples: list[Sample]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    if work.plan.recipe != "head":
        return ask(asked(work, samples))
    # The features are known or will be wanted again; and the last layer alone is asked as it is saved.
    found = features(work, samples, [work.plan.view], "asking about pictures it has not seen")[work.plan.view]
    with no_grad():
        logits = work.backbone.get_classifier()(from_numpy(found)).numpy()
    return np.asarray(logits, np.float32), labels_of(samples)
