"""What a fine-tuning writes and reads again: the model file, and what its checkpoint says about it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace

from juanji.data.scanning import Sample
from juanji.errors import DataError
from juanji.interop.modelfile import save_model
from juanji.train.checkpoint import Checkpoint, Checkpointer, Interrupted
from juanji.tune.outcome import Outcome
from juanji.tune.settings import Settings


def save(path: str | os.PathLike[str], outcome: Outcome) -> None:
    """Writes a model file that `juanji predict` and `juanji evaluate` take.

    Raises:
        OSError: it can't be written.
    """
    save_model(
        path,
        outcome.model,
        classes=outcome.classes,
        preprocessing=outcome.preprocessing,
        metrics=outcome.metrics,
        metadata={
            "recipe": outcome.recipe,
            "reasons": outcome.reasons,
            "settings": outcome.settings,
            "weights": outcome.weights,
            "data": {k: outcome.data[k] for k in ("root", "layout", "digest", "counts")},
            "evaluated_on": outcome.part,
            "best_epoch": outcome.best_epoch,
            "seeds": outcome.seeds,
        },
    )


def settled(found: Checkpoint, settings: Settings, given: set[str]) -> Settings:
    """The settings of a checkpoint, which those that were given must not contradict.

    Raises:
        ValueError: one does.
        DataError: it is a checkpoint of something else.
    """
    kept = found.notes.get("settings")
    if found.notes.get("command") != "finetune" or not isinstance(kept, Mapping):
        raise DataError(f"{str(found.path)!r} is not the checkpoint of a fine-tuning")
    for name in given:
        if getattr(settings, name) != kept.get(name) and name not in ("workers", "budget"):
            raise ValueError(
                f"{name}={getattr(settings, name)!r} contradicts the checkpoint {str(found.path)!r}, which has "
                f"{kept.get(name)!r}; leave it out, or train without resume"
            )
    try:
        before = Settings.of(dict(kept))
    except (TypeError, ValueError) as error:
        raise DataError(f"{str(found.path)!r} is not the checkpoint of a fine-tuning: {error}") from None
    return replace(before, workers=settings.workers if "workers" in given else before.workers)


def stopped(checkpointer: Checkpointer | None, stop: Interrupted, epochs: int) -> Interrupted:
    """What to raise for a signal: with how to go on, where there is a checkpoint."""
    return stop if checkpointer is None else checkpointer.interrupted(stop.signal, epochs)


def digest_of(samples: list[Sample]) -> str:
    """A hash of pictures and their classes, in order."""
    return hashlib.sha256("\n".join(f"{s.digest} {s.label}" for s in samples).encode()).hexdigest()


def peak_memory() -> int:
    """The most memory of this process, in bytes; 0 where the system does not tell."""
    try:
        import resource
        import sys
    except ImportError:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most * 1024)
