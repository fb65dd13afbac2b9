"""How a fine-tuning looks on a terminal and in a log."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from juanji.cli.counting import counting
from juanji.cli.downloads import showing
from juanji.cli.output import say
from juanji.data.fetch import Progress
from juanji.tune.told import Told


class Shown(Told):
    """Lines on standard error, and bars there where somebody watches."""

    def note(self, text: str) -> None:
        """Prints the sentence."""
        say(text)

    def counting(self, text: str) -> AbstractContextManager[Callable[[int, int], None] | None]:
        """A bar."""
        return counting(text)

    def epoch(self, row: dict[str, Any], epochs: int) -> None:
        """Prints a line."""
        text = f"{row['phase']} epoch {row['epoch']:{len(str(epochs))}d}/{epochs}  loss {row['train_loss']:.4f}"
        if row["val_accuracy"] is not None:
            text += f"  validation loss {row['val_loss']:.4f}, accuracy {row['val_accuracy']:.2%}"
        say(f"{text}  {row['seconds']:.1f} s, waited {row['waiting']:.0%}")

    def fetching(self) -> AbstractContextManager[Progress | None]:
        """A bar for each file."""
        return showing()
