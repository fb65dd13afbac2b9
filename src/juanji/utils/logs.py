"""Numbers of a training, row by row, in a CSV or a JSON-lines file that survives whatever happens to the training.

A row is added by one write at the end of the file and is on the disk when `write` returns. A program that is killed
leaves whole rows and at most one that is not; the next one that opens the file takes that away.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from juanji.errors import DataError
from juanji.formats.container import write_whole

__all__ = ["CSVLog", "JSONLog", "Log", "open_log"]

Row = Mapping[str, Any]


class Log:
    """A log of rows; see `CSVLog` and `JSONLog`.

    Args:
        path: the file. Rows that it has already are kept, and new ones come behind them.
        append: false begins anew.
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = True) -> None:
        self.path = Path(path)
        content = self.path.read_bytes() if append and self.path.exists() else b""
        whole = content[: self._whole(content)]
        if whole != content or not self.path.exists() or not append:
            write_whole(self.path, whole)
        self._file: int | None = os.open(self.path, os.O_WRONLY | os.O_APPEND)

    def write(self, row: Row) -> None:
        """Adds a row: values by name. They are numbers, texts, truth values or None; other things become text.

        Raises:
            ValueError: the log is closed. OSError: it can't be written.
        """
        self._append(self._line({str(key): _plain(value) for key, value in row.items()}))

    def rows(self) -> list[dict[str, Any]]:
        """All rows of the file."""
        return self._parse(self.path.read_bytes())

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Takes rows away: before a training goes on from a checkpoint, those of what will be done again.

        Args:
            wanted: says whether a row stays.
        """
        rows = self.rows()
        kept = [row for row in rows if wanted(row)]
        if len(kept) < len(rows):
            self._replace(b"".join(self._encoded(kept)))

    def close(self) -> None:
        """Closes the file; doing so again does nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, line: bytes) -> None:
        if self._file is None:
            raise ValueError(f"the log {str(self.path)!r} is closed")
        before = os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) != len(line):
                raise OSError(f"the log {str(self.path)!r} can't be written: the disk is full")
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, before)
            raise

    def _replace(self, content: bytes) -> None:
        self.close()
        write_whole(self.path, content)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND)

    def _whole(self, content: bytes) -> int:
        """How many of the bytes are whole rows."""
        raise NotImplementedError

    def _line(self, row: dict[str, Any]) -> bytes:
        raise NotImplementedError

    def _parse(self, content: bytes) -> list[dict[str, Any]]:
        raise NotImplementedError

    def _encoded(self, rows: list[dict[str, Any]]) -> list[bytes]:
        raise NotImplementedError


class JSONLog(Log):
    """One JSON object a line. Numbers that are infinite or none, which JSON lacks, become null.

    >>> import tempfile
    >>> with JSONLog(tempfile.mkdtemp() + "/log.jsonl") as log:
    ...     log.write({"epoch": 1, "loss": 0.5})
    ...     print(log.path.read_text(), end="")
    {"epoch": 1, "loss": 0.5}
    """

    def _whole(self, content: bytes) -> int:
        return content.rfind(b"\n") + 1

    def _line(self, row: dict[str, Any]) -> bytes:
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        return (json.dumps(finite, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")

    def _parse(self, content: bytes) -> list[dict[str, Any]]:
        try:
            rows = [json.loads(line) for line in content.splitlines() if line.strip()]
        except ValueError as error:
            raise DataError(f"{str(self.path)!r} is no log of JSON lines: {error}") from None
        if not all(isinstance(row, dict) for row in rows):
            raise DataError(f"{str(self.path)!r} is no log of JSON lines: a line is no object")
        return rows

    def _encoded(self, rows: list[dict[str, Any]]) -> list[bytes]:
        return [self._line(row) for row in rows]


class CSVLog(Log):
    """A table with a line of names. A row with a new name rewrites the file with one more column.

    >>> import tempfile
    >>> with CSVLog(tempfile.mkdtemp() + "/log.csv") as log:
    ...     log.write({"epoch": 1, "loss": 0.5})
    ...     log.write({"epoch": 2, "loss": None, "accuracy": 0.75})
    ...     print(log.path.read_text(), end="")
    epoch,loss,accuracy
    1,0.5,
    2,,0.75
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = True) -> None:
        super().__init__(path, append)
        rows = list(csv.reader(io.StringIO(self.path.read_text("utf-8"))))
        self._names: list[str] = rows[0] if rows else []

    def write(self, row: Row) -> None:
        """Adds a row; see `Log.write`."""
        new = [str(name) for name in row if str(name) not in self._names]
        if new:
            if self._file is None:
                raise ValueError(f"the log {str(self.path)!r} is closed")
            rows = self.rows()
            self._names += new
            self._replace(b"".join(self._encoded(rows)))
        super().write(row)

    def _whole(self, content: bytes) -> int:
        # A line's end inside of quotes is part of a text.
        whole, at, quotes = 0, 0, 0
        while (end := content.find(b"\n", at) + 1) > 0:
            quotes += content.count(b'"', at, end)
            at = end
            if quotes % 2 == 0:
                whole = end
        return whole

    def _line(self, row: dict[str, Any]) -> bytes:
        return _csv([row.get(name) for name in self._names])

    def _parse(self, content: bytes) -> list[dict[str, Any]]:
        text = content.decode("utf-8", "replace")
        return [{k: _value(v) for k, v in row.items() if k} for row in csv.DictReader(io.StringIO(text))]

    def _encoded(self, rows: list[dict[str, Any]]) -> list[bytes]:
        return [_csv(self._names), *(self._line(row) for row in rows)] if self._names else []


def open_log(path: str | os.PathLike[str], append: bool = True) -> Log:
    """A log by its file's ending: `.csv`, or `.jsonl`.

    Args:
        path: the file.
        append: false begins anew.

    Raises:
        ValueError: another ending.
    """
    suffix = Path(path).suffix.lower()
    kinds: dict[str, type[Log]] = {".csv": CSVLog, ".jsonl": JSONLog}
    if suffix not in kinds:
        raise ValueError(f"the log {str(path)!r} must end in {' or '.join(kinds)}")
    return kinds[suffix](path, append)


def _plain(value: Any) -> Any:
    """A number, text, truth value or None; what has one element, as tensors and NumPy's numbers may, becomes that."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "item") and math.prod(getattr(value, "shape", ())) == 1:
        return value.item()
    return str(value)


def _csv(values: list[Any]) -> bytes:
    target = io.StringIO()
    csv.writer(target, lineterminator="\n").writerow(["" if v is None else v for v in values])
    return target.getvalue().encode("utf-8", "backslashreplace")


def _value(text: str | None) -> Any:
    """A cell as what it was: a number or None where it looks like one."""
    if not text:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
