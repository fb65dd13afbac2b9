"""What `juanji train` starts from: the arguments of the command, or those of the checkpoint it goes on from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from juanji.cli.output import UsageError, say

#: What a checkpoint remembers of the command, with the type of each.
_KEPT: dict[str, type] = {"epochs": int, "batch_size": int, "lr": float, "seed": int}


class ResumeCommand(TyperCommand):
    """A command whose option `--resume` may go without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the command line."""
        rest: list[str] = super().parse_args(ctx, _with_value(args))
        return rest


def _with_value(args: Sequence[str]) -> list[str]:
    """The same arguments with an empty value where `--resume` has none.

    >>> _with_value(["mnist", "--resume"]), _with_value(["--resume", "mnist", "--lr", "1"])
    (['mnist', '--resume='], ['--resume=', 'mnist', '--lr', '1'])
    >>> _with_value(["--resume", "file", "mnist"])
    ['--resume', 'file', 'mnist']
    """
    result = list(args)
    for i, argument in enumerate(result):
        if argument == "--resume":
            from juanji.cli import sets  # heavy, as is everything below that is imported late

            following = result[i + 1] if i + 1 < len(result) else "-"
            if following.startswith("-") or following in sets.names() or os.path.isdir(following):
                result[i] = "--resume="
    return result


@dataclass(frozen=True)
class Start:
    """Where a training starts.

    Attributes:
        name: of the data set; data: its folder, if it has one of its own.
        numbers: the recipe's: epochs, batch_size, lr, seed.
        target: the model file; checkpoint: the file beside it.
        resume: what to go on from, or None (a `juanji.train.checkpoint.Checkpoint`).
    """

    name: str
    data: Path | None
    numbers: dict[str, Any]
    target: Path
    checkpoint: Path
    resume: Any

    def notes(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that `--resume FILE` alone is enough."""
        data = None if self.data is None else str(self.data.absolute())
        return {"dataset": self.name, "data": data, "out": str(self.target.absolute()), **self.numbers}


def start(
    dataset: str | None,
    data: Path | None,
    out: Path | None,
    resume: str | None,
    numbers: Mapping[str, Any],
    given: set[str],
) -> Start:
    """Settles what a training starts from.

    Args:
        dataset, data, out, resume: as on the command line.
        numbers: epochs, batch_size, lr and seed, from the command line or their defaults.
        given: which of them the command line gave.

    Raises:
        UsageError: nothing says what to train on; the command contradicts the checkpoint, or would overwrite one.
        DataError, FileNotFoundError: the file to go on from is none.
    """
    from juanji.train import checkpoint

    found = None
    if resume:
        found = checkpoint.read(resume)
    elif resume is not None:
        path = checkpoint.beside(out or _target(dataset, data))
        if path.exists():
            found = checkpoint.read(path)
        else:
            _target(dataset, data)
            say(f"there is no checkpoint {str(path)!r}: starting from the beginning")
    chosen = dict(numbers)
    if found is not None:
        dataset, data, out = _from_notes(found, dataset, data, out)
        for option, kind in _KEPT.items():
            kept = found.notes.get(option)
            if type(kept) is not kind:
                raise UsageError(f"{str(found.path)!r} is not a checkpoint of `juanji train`: it has no {option}")
            if option in given and numbers[option] != kept:
                raise UsageError(
                    f"--{option.replace('_', '-')} {numbers[option]} contradicts the checkpoint {str(found.path)!r}, "
                    f"which has {kept}; leave it out, or train without --resume"
                )
            chosen[option] = kept
    target = out or _target(dataset, data)
    beside = checkpoint.beside(target)
    if found is None or beside.resolve() != found.path.resolve():
        _check_free(beside)
    name = dataset or (data.resolve().name if data is not None else "") or "data"
    return Start(name, data, chosen, target, beside, found)


def _target(dataset: str | None, data: Path | None) -> Path:
    from juanji.cli import sets

    if dataset is None and data is None:
        raise UsageError(f"name a data set ({', '.join(sets.names())}) or a folder with --data")
    return Path(f"{dataset or (data.resolve().name if data is not None else '') or 'data'}-lenet.safetensors")


def _from_notes(
    found: Any, dataset: str | None, data: Path | None, out: Path | None
) -> tuple[str | None, Path | None, Path | None]:
    """The command's data and file, or where it names none those of the checkpoint."""
    from juanji.cli import sets

    notes = found.notes
    name, folder, target = notes.get("dataset"), notes.get("data"), notes.get("out")
    if not isinstance(name, str) or not isinstance(target, str) or not isinstance(folder, (str, type(None))):
        raise UsageError(f"{str(found.path)!r} is not a checkpoint of `juanji train`: it names no data set")
    if dataset is not None and dataset != name:
        raise UsageError(f"the checkpoint {str(found.path)!r} is of the data set {name!r}, not {dataset!r}")
    # A folder may have moved; that its pictures are the same is checked when they are read.
    if data is None and dataset is None and folder is not None:
        data = Path(folder)
    if data is None:
        sets.check_name(name)
    return name, data, out or Path(target)


def _check_free(path: Path) -> None:
    """Refuses to replace the checkpoint of another training that is not done."""
    from juanji.errors import DataError
    from juanji.train import checkpoint

    if not path.exists():
        return
    try:
        found = checkpoint.read(path)
    except DataError:
        return
    epochs = found.notes.get("epochs")
    if isinstance(epochs, int) and found.position.epoch > epochs:
        return  # done, and kept only because somebody asked for it
    raise UsageError(
        f"{str(path)!r} holds a training that was stopped in epoch {found.position.epoch}: go on with --resume, or "
        "remove it to start anew"
    )
