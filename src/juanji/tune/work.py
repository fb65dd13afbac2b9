"""The state of one fine-tuning, which its steps fill one after the other."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji import nn
from juanji.data.scanning import Sample
from juanji.interop.preprocessing import Preprocessing
from juanji.train import checkpoint as checkpoints
from juanji.train.checkpoint import Checkpoint, Checkpointer, StopSignals
from juanji.tune import features as feature_cache
from juanji.tune.division import Division
from juanji.tune.loading import Photos, loader
from juanji.tune.plan import Plan
from juanji.tune.saving import digest_of
from juanji.tune.settings import Settings
from juanji.tune.told import Told
from juanji.zoo import Classifier

#: Asked in one go.
EVALUATED = 32
#: Seconds between two checkpoints at ends of epochs.
SAVING = 5.0


@dataclass
class Work:
    """What the steps of a fine-tuning share.

    Attributes:
        settings: what was asked for.
        source, out: the pictures, and the model file to write, if any.
        told: who is told.
        signals: whether to stop.
        resumed: what it goes on from, if anything.
        division: the pictures in their parts.
        plan: what was decided.
        model: the network.
        views: the ways to make pictures its input; the plan has the name of the one that counts.
        features: of the training pictures, by view.
        history: see `Outcome.history`.
        timing: see `Outcome.timing`.
        begin: when it began.
    """

    settings: Settings
    source: Path
    out: Path | None
    told: Told
    signals: StopSignals
    resumed: Checkpoint | None
    division: Division
    plan: Plan
    model: nn.Module
    views: dict[str, Preprocessing]
    features: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    timing: dict[str, float] = field(default_factory=dict)
    begin: float = field(default_factory=time.perf_counter)

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.division.classes)

    @property
    def preprocessing(self) -> Preprocessing:
        """How the network takes pictures, as decided."""
        return self.views[self.plan.view]

    @property
    def backbone(self) -> Classifier:
        """The network, which has features and a head."""
        assert isinstance(self.model, Classifier)
        return self.model

    def clock(self, name: str, since: float) -> None:
        """Counts the time since then for a part of the work."""
        self.timing[name] = self.timing.get(name, 0.0) + time.perf_counter() - since


def labels_of(samples: list[Sample]) -> NDArray[np.int64]:
    """Their class numbers, (n,)."""
    return np.array([s.label for s in samples], np.int64)


def features(work: Work, samples: list[Sample], names: list[str], text: str) -> dict[str, NDArray[np.float32]]:
    """What the last layer reads of pictures in each of some views; out of the cache where it is known."""
    with work.told.counting(text) as progress:
        found = feature_cache.compute(
            work.backbone,
            samples,
            [work.views[name] for name in names],
            workers=work.settings.workers,
            progress=progress,
            say=work.told.note,
        )
    return dict(zip(names, found, strict=True))


def val_features(work: Work) -> NDArray[np.float32]:
    """The features of the validation pictures."""
    found = features(work, work.division.val, [work.plan.view], "and in those kept for validation")
    return found[work.plan.view]


def class_weights(work: Work) -> NDArray[np.float32] | None:
    """What each class counts in the loss, or None for as much as it has pictures."""
    if not work.settings.class_weights:
        return None
    counts = np.bincount(labels_of(work.division.train), minlength=work.classes)
    return np.asarray(counts.sum() / (work.classes * counts), np.float32)


def asked(work: Work, samples: list[Sample]) -> Any:
    """Batches of pictures as `juanji predict` has them, to ask about."""
    return loader(Photos(samples, work.preprocessing), EVALUATED, shuffle=False, seed=0, workers=work.settings.workers)


def checkpointer_of(work: Work) -> Checkpointer | None:
    """What keeps the checkpoint beside the model file, if there is to be one."""
    if work.out is None:
        return None
    notes = {
        "command": "finetune",
        "source": str(work.source.absolute()),
        "out": str(work.out.absolute()),
        "settings": work.settings.plain(),
        "plan": work.plan.plain(),
    }
    found = Checkpointer(
        checkpoints.beside(work.out),
        resume=work.resumed,
        signals=work.signals,
        notes=notes,
        say=work.told.note,
        command="juanji finetune --resume",
        seconds=SAVING,
    )
    division = work.division
    found.identity = {
        "settings": {
            name: work.settings.plain()[name]
            for name in Settings.__dataclass_fields__
            if name not in ("workers", "budget")
        },
        "data": {
            "pictures": len(division.train),
            "digest": division.found.digest,
            "train": digest_of(division.train),
            "val": digest_of(division.val),
        },
        "weights": None if work.plan.weights is None else work.plan.weights["sha256"],
    }
    return found
