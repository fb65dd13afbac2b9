"""Who is told how a fine-tuning goes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from juanji.data.fetch import Progress
from juanji.train.listener import Listener


class Told:
    """Who is told how a fine-tuning goes; this one keeps silent."""

    def note(self, text: str) -> None:
        """One sentence worth knowing."""

    def counting(self, text: str) -> AbstractContextManager[Callable[[int, int], None] | None]:
        """A context for work of a known number of pieces, whose value is called with (done, all)."""
        return nullcontext(None)

    def epoch(self, row: dict[str, Any], epochs: int) -> None:
        """An epoch is done: a row of `Outcome.history`, and how many there will be."""

    def listener(self, epochs: int) -> Listener:
        """Who is told of steps."""
        return Listener()

    def fetching(self) -> AbstractContextManager[Progress | None]:
        """A context for downloads."""
        return nullcontext(None)
