"""`juanji finetune`: one's own pictures in folders in, a model file out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from juanji.cli.output import JsonOption, UsageError, command, emit, say, show

if TYPE_CHECKING:
    from juanji.tune.outcome import Outcome
    from juanji.tune.told import Told

_UNITS = {"": 1.0, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
#: Parameters of the command that are no settings of the training.
_OWN = ("source", "out", "resume", "report", "no_report", "report_images", "language", "logs", "threads", "as_json")


@command
def finetune(
    ctx: typer.Context,
    source: Annotated[
        Path | None,
        typer.Argument(
            help="A folder with a folder for each class, or with train, val and test that have such folders, or a CSV "
            "table of paths and labels. Optional with --resume FILE."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The model file; SOURCE.safetensors here by default.")
    ] = None,
    model: Annotated[str, typer.Option(help="A network (`juanji models --pretrained`), or auto.")] = "auto",
    recipe: Annotated[
        str, typer.Option(help="What is trained: auto, head, full, bn, last:N (the last N stages), scratch.")
    ] = "auto",
    budget: Annotated[str, typer.Option(help="Time to make the most of, such as 90s, 10min, 1h.")] = "10min",
    weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="A file with the network's weights, instead of the known ones.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Height and width of the pictures that the model takes.")] = None,
    view: Annotated[str, typer.Option(help="What it sees of a picture: auto, whole, middle.")] = "auto",
    head: Annotated[str, typer.Option(help="How the last layer is found: auto, discriminant, logistic.")] = "auto",
    epochs: Annotated[int | None, typer.Option(help="Passes over the training pictures.")] = None,
    batch_size: Annotated[int, typer.Option(help="Pictures in a step.")] = 16,
    accumulate: Annotated[int, typer.Option(help="Steps for each update, as with so much larger a batch.")] = 1,
    lr: Annotated[float | None, typer.Option(help="The highest learning rate, that of the last layer.")] = None,
    find_lr: Annotated[bool, typer.Option("--find-lr", help="Look for the learning rate first.")] = False,
    decay: Annotated[float, typer.Option(help="Factor on the learning rate from each stage to the one before.")] = 0.6,
    weight_decay: Annotated[float, typer.Option(help="AdamW's weight decay.")] = 0.05,
    label_smoothing: Annotated[float, typer.Option(help="Share of each label that is spread over all classes.")] = 0.1,
    class_weights: Annotated[
        bool, typer.Option("--class-weights", help="Count each class alike, however few pictures it has.")
    ] = False,
    augment: Annotated[
        str, typer.Option(help="How training pictures are changed: none, light, standard, strong.")
    ] = "standard",
    mix: Annotated[str, typer.Option(help="Training pictures mixed in pairs: none, mixup, cutmix, both.")] = "none",
    ema: Annotated[float, typer.Option(help="Running average of the weights; 0 for none.")] = 0.98,
    patience: Annotated[int, typer.Option(help="End after so many epochs that were no better; 0 for never.")] = 0,
    val: Annotated[float, typer.Option(help="Share kept for validation, where the set has no such part.")] = 0.2,
    test: Annotated[float, typer.Option(help="Share kept for a test, where the set has no parts.")] = 0.0,
    group: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Pictures whose names agree in this stay in one part.")
    ] = None,
    group_column: Annotated[
        str | None, typer.Option(help="The table's column that says which pictures belong together.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same model.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Threads that decode ahead; any number, the same model.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Threads to compute with.")] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            metavar="[FILE]",
            help="Go on from a checkpoint; the one beside --out by default. Its arguments need not be repeated.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="FILE", help="The report about it, one HTML file; beside the model file by default."
        ),
    ] = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write none.")] = False,
    report_images: Annotated[
        bool, typer.Option("--report-images", help="Write the report's charts and pictures also as PNG files.")
    ] = False,
    language: Annotated[str, typer.Option(help="The report's language: en or zh.")] = "en",
    logs: Annotated[
        Path | None,
        typer.Option(
            "--logs", metavar="FOLDER", help="Write the epochs as CSV and JSON lines, and TensorBoard's event files."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a pretrained network a classifier of your own pictures, and save it.

    Progress goes to standard error; the closing table (or, with --json, one object) to standard output. What is
    trained in epochs has a checkpoint beside the model file, also after Ctrl-C; --resume goes on from it and ends with
    the same model as a training that was never stopped.
    """
    from juanji.cli.train import check_writable

    seconds = duration(budget)
    if source is None and not resume:
        raise UsageError("name a folder of pictures, with a folder in it for each class")
    given = {n for n in ctx.params if getattr(ctx.get_parameter_source(n), "name", "") != "DEFAULT"} - {*_OWN}
    options = {name: ctx.params[name] for name in given}
    if "budget" in options:
        options["budget"] = seconds
    started = _started(source, out, resume)
    check_writable(started.out)
    if no_report:
        if report is not None or report_images:
            raise UsageError("--no-report leaves nothing to --report and --report-images")
    else:
        report = report or started.out.with_name(f"{started.out.stem}-report.html")
        check_writable(report, "--report")

    import juanji
    from juanji.cli.told import Shown
    from juanji.tune.run import finetune as tune
    from juanji.tune.settings import Settings

    try:
        Settings.of(options)
        if language not in ("en", "zh"):
            raise ValueError(f"language={language!r} must be en or zh")
    except ValueError as error:
        raise UsageError(str(error)) from None
    if threads is not None:
        juanji.set_num_threads(threads)
    told: Told = Shown()
    outcome = tune(
        started.source,
        out=started.out,
        resume=started.resume or False,
        report=report,
        report_images=report_images,
        language=language,
        logs=logs,
        told=told,
        **options,
    )
    if as_json:
        emit(_plain(outcome, started, report))
    else:
        _show(outcome, started.out, report)


class _Start:
    """Pictures, model file and checkpoint of a fine-tuning."""

    def __init__(self, source: Path, out: Path, resume: Path | None) -> None:
        self.source, self.out, self.resume = source, out, resume


def _started(source: Path | None, out: Path | None, resume: str | None) -> _Start:
    """Settles what a fine-tuning starts from; a checkpoint knows its pictures and its model file.

    Raises:
        UsageError: the checkpoint of another fine-tuning would be overwritten, or is none.
        DataError, FileNotFoundError: there is none, or it is damaged.
    """
    from juanji.train import checkpoint

    if resume:
        found = checkpoint.read(resume)
        known, target = found.notes.get("source"), found.notes.get("out")
        if found.notes.get("command") != "finetune" or not isinstance(known, str) or not isinstance(target, str):
            raise UsageError(f"{resume!r} is not a checkpoint of `juanji finetune`")
        return _Start(source or Path(known), out or Path(target), Path(resume))
    assert source is not None
    target_path = out or Path(f"{source.resolve().name.removesuffix('.csv') or 'pictures'}.safetensors")
    beside = checkpoint.beside(target_path)
    if resume is None and beside.exists():
        raise UsageError(
            f"{str(beside)!r} holds a training that was stopped: go on with --resume, or remove it to start anew"
        )
    if resume is not None and not beside.exists():
        say(f"there is no checkpoint {str(beside)!r}: starting from the beginning")
        return _Start(source, target_path, None)
    return _Start(source, target_path, beside if resume is not None else None)


def duration(text: str) -> float:
    """Seconds of a text such as "90s", "10min" or "1.5h".

    Raises:
        UsageError: it is none.

    >>> duration("10min"), duration("90"), duration("1.5 h")
    (600.0, 90.0, 5400.0)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if match is None or match[2] not in _UNITS or float(match[1]) == 0:
        raise UsageError(f"--budget {text!r} is no time; it is such as 90s, 10min or 1h")
    return float(match[1]) * _UNITS[match[2]]


def waiting(history: list[dict[str, Any]]) -> float:
    """The share of the time of all epochs that was spent waiting for data."""
    seconds = sum(row["seconds"] for row in history)
    return sum(row["seconds"] * row["waiting"] for row in history) / seconds if seconds else 0.0


def _plain(outcome: Outcome, started: _Start, report: Path | None) -> dict[str, Any]:
    from juanji.train.loop import per_class

    return {
        "accuracy": round(outcome.accuracy, 6),
        "count": len(outcome.labels),
        "evaluated_on": outcome.part,
        "metrics": outcome.metrics,
        "per_class": per_class(outcome.confusion, outcome.classes),
        "model": str(started.out),
        "report": None if report is None else str(report),
        "recipe": outcome.recipe,
        "reasons": outcome.reasons,
        "settings": outcome.settings,
        "classes": outcome.classes,
        "data": outcome.data,
        "weights": outcome.weights,
        "history": outcome.history,
        "best_epoch": outcome.best_epoch,
        "resumed": started.resume is not None,
        "seconds": round(outcome.seconds, 3),
        "seconds_waiting_share": round(waiting(outcome.history), 4),
        "timing": outcome.timing,
        "peak_memory": outcome.peak_memory,
        "seeds": outcome.seeds,
        "versions": outcome.versions,
    }


def _show(outcome: Outcome, target: Path, report: Path | None) -> None:
    from rich.console import Console

    from juanji.cli.display import accuracy_table
    from juanji.train.loop import Evaluation, per_class

    for reason in outcome.reasons:
        say(f"  {reason}")
    evaluation = Evaluation(
        outcome.accuracy,
        len(outcome.labels),
        outcome.metrics["loss"],
        per_class(outcome.confusion, outcome.classes),
        outcome.confusion,
    )
    kinds = {"val": "Validation pictures", "test": "Test pictures", "train": "Training pictures"}
    Console(highlight=False).print(accuracy_table(evaluation, kinds[outcome.part]))
    if outcome.recipe != "head":
        say(f"waited for data {waiting(outcome.history):.1%} of the training")
    parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in outcome.timing.items())
    show(f"{outcome.seconds:.1f} s ({parts})")
    show(f"accuracy {outcome.accuracy:.2%} on {len(outcome.labels):,} pictures, saved as {target}")
    if report is not None:
        show(f"report: {report}")
