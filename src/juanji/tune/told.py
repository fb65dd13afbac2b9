"""Who is told how a fine-tuning goes."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

from juanji.data.fetch import Progress
from juanji.train.listener import Listener
from juanji.utils.logs import open_log


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


class Logged(Told):
    """Passes everything on, and adds each epoch to `history.csv` and `history.jsonl` when it is done.

    A training that goes on from a checkpoint goes on with the files, too: what it does again replaces what is there.

    Args:
        inner: who is told.
        folder: of the files; made if it is not there.
    """

    def __init__(self, inner: Told, folder: str | os.PathLike[str]) -> None:
        self.inner = inner
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.logs = [open_log(Path(folder) / f"history.{suffix}") for suffix in ("csv", "jsonl")]

    def __enter__(self) -> Logged:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for log in self.logs:
            log.close()

    def note(self, text: str) -> None:
        """Passed on."""
        self.inner.note(text)

    def counting(self, text: str) -> AbstractContextManager[Callable[[int, int], None] | None]:
        """Passed on."""
        return self.inner.counting(text)

    def epoch(self, row: dict[str, Any], epochs: int) -> None:
        """Adds the row, and passes it on."""
        for log in self.logs:
            log.keep(lambda there: isinstance(there.get("epoch"), int) and there["epoch"] < row["epoch"])
            log.write(row)
        self.inner.epoch(row, epochs)

    def listener(self, epochs: int) -> Listener:
        """Passed on."""
        return self.inner.listener(epochs)

    def fetching(self) -> AbstractContextManager[Progress | None]:
        """Passed on."""
        return self.inner.fetching()
