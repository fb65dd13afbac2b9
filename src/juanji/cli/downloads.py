"""How fetching a data set looks: a bar on a terminal, the notes alone elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from juanji.data.fetch import Notes, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


class _Bar:
    """A bar for each file, made when the first file comes: most runs fetch nothing."""

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}

    def note(self, text: str) -> None:
        """Prints the line above the bars."""
        if self._bars is None:
            Notes().note(text)
        else:
            self._bars.console.print(text, markup=False, highlight=False)

    def update(self, name: str, done: int, total: int | None) -> None:
        """Moves the bar of one file."""
        if self._bars is None:
            self._bars = _bars()
            self._bars.start()
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total)
        self._bars.update(self._tasks[name], completed=done, total=total)

    def close(self) -> None:
        """Leaves the bars as they are."""
        if self._bars is not None:
            self._bars.stop()


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Bars(*columns, console=Console(stderr=True))


@contextmanager
def showing() -> Iterator[Progress]:
    """What shows the fetching of files while the context is open; on standard error."""
    if not sys.stderr.isatty():
        yield Notes()
        return
    bar = _Bar()
    try:
        yield bar
    finally:
        bar.close()
