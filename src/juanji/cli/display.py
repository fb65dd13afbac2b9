"""How a training looks: live bars on a terminal, a line for each epoch elsewhere, and the closing table."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars
from rich.table import Column, Table
from rich.text import Text

from juanji.cli.output import say
from juanji.train.loop import Evaluation, Listener, Progress, Report


class _Numbers(ProgressColumn):
    """The numbers beside the step bar."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("numbers", "")), style="progress.percentage")


class LiveListener(Listener):
    """Two bars, epochs and steps, with loss, accuracy, pictures a second and time spent waiting for data."""

    def __init__(self, bars: Bars, epochs: int) -> None:
        self._bars = bars
        self._epochs = bars.add_task("epochs", total=epochs, numbers="compiling the step ...")
        self._steps = bars.add_task("steps", total=None, numbers="")
        self._waiting = 0.0

    def progress(self, progress: Progress) -> None:
        """Moves the step bar."""
        self._bars.update(
            self._epochs,
            completed=progress.epoch - 1 + progress.step / progress.steps,
            numbers=f"learning rate {progress.learning_rate:.1e}  "
            f"waited {self._waiting + progress.seconds_waiting:.1f} s",
        )
        self._bars.update(self._steps, completed=progress.step, total=progress.steps, numbers=_numbers(progress))

    def epoch(self, progress: Progress) -> None:
        """Moves the epoch bar."""
        self.progress(progress)
        self._waiting += progress.seconds_waiting


class LineListener(Listener):
    """A line for each epoch, for logs."""

    def epoch(self, progress: Progress) -> None:
        """Prints the line."""
        width = len(str(progress.epochs))
        say(
            f"epoch {progress.epoch:{width}d}/{progress.epochs}  {_numbers(progress)}  "
            f"waited {progress.seconds_waiting:.2f} s of {progress.seconds:.2f}"
        )


def _numbers(progress: Progress) -> str:
    return f"loss {progress.loss:.4f}  accuracy {progress.accuracy:6.2%}  {progress.images_per_second:7,.0f} images/s"


def live() -> AbstractContextManager[Any]:
    """A context that gives bars for `listener` to move, or None where no one watches."""
    if not sys.stderr.isatty():
        return nullcontext(None)
    return Bars(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        MofNCompleteColumn(),
        _Numbers(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        expand=True,  # the bars take what the numbers leave
    )


def listener(bars: Bars | None, epochs: int) -> Listener:
    """What shows a training's progress in the given bars, or in lines."""
    return LineListener() if bars is None else LiveListener(bars, epochs)


def closing_table(evaluation: Evaluation, report: Report, console: Console | None = None) -> None:
    """The end of a training on standard output: accuracy, also by class, and where the seconds went."""
    console = console or Console(highlight=False)
    console.print(accuracy_table(evaluation))
    rest = max(0.0, report.seconds - report.seconds_compiling - report.seconds_waiting)
    times = Table(title="Seconds", title_justify="left")
    for name in ("compiling", "training", "waiting for data", "in all"):
        times.add_column(name, justify="right")
    times.add_row(*(f"{s:.2f}" for s in (report.seconds_compiling, rest, report.seconds_waiting, report.seconds)))
    console.print(times)


def accuracy_table(evaluation: Evaluation) -> Table:
    """Accuracy by class and in all."""
    table = Table(title="Test pictures", title_justify="left", show_footer=True)
    table.add_column("class", footer="all")
    table.add_column("accuracy", justify="right", footer=f"{evaluation.accuracy:.2%}")
    table.add_column("pictures", justify="right", footer=f"{evaluation.count:,}")
    for name, row in evaluation.per_class.items():
        table.add_row(Text(name), f"{row['accuracy']:.2%}", f"{row['count']:,}")
    return table
