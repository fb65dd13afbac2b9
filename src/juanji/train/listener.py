"""Who watches a training: nobody, a terminal or a notebook."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes:
        epoch, epochs: the running epoch, from 1, and how many there will be.
        step, steps: finished steps of this epoch, and how many it has.
        loss: the mean of this epoch's steps so far.
        accuracy: the share of this epoch's training pictures so far that were classified rightly.
        learning_rate: of the last step.
        images_per_second: over this epoch so far, waiting included.
        seconds: since this epoch began.
        seconds_waiting: of these, the time in which the loop waited for data.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    learning_rate: float
    images_per_second: float
    seconds: float
    seconds_waiting: float


class Listener:
    """Told of a training's progress; does nothing. Subclasses show it."""

    def progress(self, progress: Progress) -> None:
        """About ten times a second."""

    def epoch(self, progress: Progress) -> None:
        """At the end of each epoch."""


def numbers(progress: Progress) -> str:
    """Loss, accuracy and speed in one line."""
    return f"loss {progress.loss:.4f}  accuracy {progress.accuracy:6.2%}  {progress.images_per_second:7,.0f} images/s"


class Sheet:
    """What a notebook shows of a training: a bar for the running epoch, and a line for each that is done.

    Args:
        epochs: how many there will be.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.done: list[str] = []
        self.running: Progress | None = None

    def _line(self, progress: Progress) -> str:
        return f"epoch {progress.epoch:{len(str(self.epochs))}d}/{self.epochs}  {numbers(progress)}"

    def __repr__(self) -> str:
        if self.running is not None:
            running = [f"{self._line(self.running)}  step {self.running.step}/{self.running.steps}"]
        else:
            running = [] if self.done else ["compiling the step ..."]
        return "\n".join([*self.done, *running])

    def _repr_html_(self) -> str:
        bar = ""
        if self.running is not None or not self.done:
            at = self.running.step / self.running.steps if self.running is not None else 0.0
            bar = f'<progress value="{at:.4f}" max="1" style="width: 40em; max-width: 100%"></progress>'
        return f'<pre style="margin: 0">{self!r}</pre>{bar}'


class SheetListener(Listener):
    """Shows a training in a notebook.

    Args:
        display: IPython's: shows an object and gives a handle whose `update` shows another in its place.
        epochs: how many there will be.
    """

    def __init__(self, display: Callable[..., Any], epochs: int) -> None:
        self._sheet = Sheet(epochs)
        self._handle = display(self._sheet, display_id=True)

    def progress(self, progress: Progress) -> None:
        """Moves the bar."""
        self._sheet.running = progress
        self._handle.update(self._sheet)

    def epoch(self, progress: Progress) -> None:
        """Adds the epoch's line."""
        self._sheet.running = None
        self._sheet.done.append(self._sheet._line(progress))
        self._handle.update(self._sheet)


def notebook() -> Callable[..., Any] | None:
    """IPython's `display` where a notebook's kernel runs this code; else None. IPython is never imported for it."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or not hasattr(shell, "kernel"):  # plain Python, or IPython on a terminal
        return None
    display: Callable[..., Any] = importlib.import_module("IPython.display").display
    return display


@contextmanager
def watching(listener: Listener | None, epochs: int) -> Iterator[Listener]:
    """The given listener; where there is none, one that shows a training in a notebook or on a terminal, else silence.

    Args:
        listener: the caller's, or None.
        epochs: how many there will be.
    """
    display = None
    if listener is not None:
        yield listener
    elif (display := notebook()) is not None:
        yield SheetListener(display, epochs)
    elif sys.stderr is not None and sys.stderr.isatty():
        from juanji.train.bars import BarsListener, bars  # rich takes a while to import

        with bars() as shown:
            yield BarsListener(shown, epochs)
    else:
        yield Listener()
