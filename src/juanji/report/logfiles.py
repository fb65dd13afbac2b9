"""A fine-tuning as files that other programs read: CSV, JSON lines, and events for TensorBoard."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from juanji.formats.container import write_whole
from juanji.report.charts import epoch_of
from juanji.report.findings import findings
from juanji.report.pictures import thumbnails
from juanji.report.raster import image
from juanji.report.texts import Texts
from juanji.report.writing import sheets
from juanji.utils.logs import open_log
from juanji.utils.tensorboard import SummaryWriter

if TYPE_CHECKING:
    from juanji.tune.outcome import Outcome

_FORMATS = ("csv", "jsonl", "tensorboard")
#: What TensorBoard calls the columns of a history: losses share a chart, and so do accuracies.
_TAGS = {
    "train_loss": "loss/train",
    "val_loss": "loss/val",
    "train_accuracy": "accuracy/train",
    "val_accuracy": "accuracy/val",
    "lr": "learning rate",
    "seconds": "time/seconds",
    "waiting": "time/waiting for data",
}


def log(
    outcome: Outcome, folder: str | os.PathLike[str], formats: Sequence[str] | None = None, language: str = "en"
) -> list[Path]:
    """Writes a fine-tuning's epochs, and for TensorBoard its charts, pictures, distributions and texts too.

    Args:
        outcome: what `juanji.finetune` returned.
        folder: where; made if it is not there. `history.csv` and `history.jsonl` in it are replaced whole.
        formats: any of "csv", "jsonl" and "tensorboard"; the last needs `pip install "juanji[tensorboard]"`. All of
            them unless given, the last where it is installed.
        language: of the texts: "en" or "zh".

    Returns:
        The files written, and the folder where TensorBoard's are.

    Raises:
        ValueError: another format or language. MissingExtraError: TensorBoard is not installed.
        OSError: a file can't be written.
    """
    if formats is None:
        formats = _FORMATS if importlib.util.find_spec("tensorboard") else _FORMATS[:2]
    unknown = [name for name in formats if name not in _FORMATS]
    if unknown:
        raise ValueError(f"formats has {unknown[0]!r}; it may have {', '.join(_FORMATS)}")
    texts, target, written = Texts(language), Path(folder), []
    target.mkdir(parents=True, exist_ok=True)
    for suffix in ("csv", "jsonl"):
        if suffix in formats:
            path = target / f"history.{suffix}"
            temporary = target / f".history.{suffix}"
            with open_log(temporary, append=False) as rows:
                for row in outcome.history:
                    rows.write(row)
            write_whole(path, temporary.read_bytes())
            temporary.unlink()
            written.append(path)
    if "tensorboard" in formats:
        with SummaryWriter(target) as writer:
            _events(outcome, writer, texts)
        written.append(target)
    return written


def _events(outcome: Outcome, writer: SummaryWriter, texts: Texts) -> None:
    for i, row in enumerate(outcome.history):
        for key, tag in _TAGS.items():
            value = row.get(key)
            value = max(value, default=None) if isinstance(value, (list, tuple)) else value
            if isinstance(value, (int, float)) and math.isfinite(value):
                writer.add_scalar(tag, value, int(epoch_of(row, i)))
    found = findings(outcome)
    pictures = thumbnails(outcome, [*found.mistakes, *found.uncertain])
    step = outcome.best_epoch
    for name, drawing in sheets(outcome, found, pictures, texts).items():
        writer.add_image(name, np.asarray(image(drawing)), step, dataformats="HWC")
    right = found.predicted == np.asarray(outcome.labels)
    sure = found.probabilities.max(axis=1)
    for name, chosen in (("right", right), ("wrong", ~right)):
        if chosen.any():
            writer.add_histogram(f"confidence/{name}", sure[chosen], step)
    for name, parameter in outcome.model.named_parameters():
        writer.add_histogram(f"weights/{name}", parameter, step)
    writer.add_text(
        "recipe", "\n".join([f"**{outcome.recipe}**", "", *(f"- {texts.sentence(r)}" for r in outcome.reasons)]), step
    )
    rows = [f"| {key} | {value} |" for key, value in outcome.settings.items()]
    writer.add_text("settings", "\n".join(["| | |", "|---|---|", *rows]), step)
