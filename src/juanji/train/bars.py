"""Live bars on a terminal, drawn by rich: epochs and steps, with the numbers beside them."""

from __future__ import annotations

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
from rich.table import Column
from rich.text import Text

from juanji.train.listener import Listener, Progress, numbers


class _Numbers(ProgressColumn):
    """The numbers beside the step bar."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("numbers", "")), style="progress.percentage")


class BarsListener(Listener):
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
        self._bars.update(self._steps, completed=progress.step, total=progress.steps, numbers=numbers(progress))

    def epoch(self, progress: Progress) -> None:
        """Moves the epoch bar."""
        self.progress(progress)
        self._waiting += progress.seconds_waiting


def bars() -> Bars:
    """Bars on standard error; a context that draws them while it is open."""
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
