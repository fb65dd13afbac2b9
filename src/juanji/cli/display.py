"""How a training looks: live bars on a terminal, a line for each epoch elsewhere, and the closing table."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.console import Console
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from juanji.cli.output import say
from juanji.train.bars import BarsListener, bars
from juanji.train.listener import Listener, Progress, numbers
from juanji.train.loop import Evaluation, Report


class LineListener(Listener):
    """A line for each epoch, for logs."""

    def epoch(self, progress: Progress) -> None:
        """Prints the line."""
        width = len(str(progress.epochs))
        say(
            f"epoch {progress.epoch:{width}d}/{progress.epochs}  {numbers(progress)}  "
            f"waited {progress.seconds_waiting:.2f} s of {progress.seconds:.2f}"
        )


def live() -> AbstractContextManager[Any]:
    """A context that gives bars for `listener` to move, or None where no one watches."""
    if not sys.stderr.isatty():
        return nullcontext(None)
    return bars()


def listener(shown: Bars | None, epochs: int) -> Listener:
    """What shows a training's progress in the given bars, or in lines."""
    return LineListener() if shown is None else BarsListener(shown, epochs)


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


def accuracy_table(evaluation: Evaluation, title: str = "Test pictures") -> Table:
    """Accuracy by class and in all."""
    table = Table(title=title, title_justify="left", show_footer=True)
    table.add_column("class", footer="all")
    table.add_column("accuracy", justify="right", footer=f"{evaluation.accuracy:.2%}")
    table.add_column("pictures", justify="right", footer=f"{evaluation.count:,}")
    for name, row in evaluation.per_class.items():
        table.add_row(Text(name), f"{row['accuracy']:.2%}", f"{row['count']:,}")
    return table
