"""The ways a set of pictures lies on disk: folders of classes, such folders for each part, a table."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path

from juanji.data.folder import files_under, has_extension
from juanji.errors import DataError

SPLITS = ("train", "val", "test")
_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_PATH_NAMES = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "picture")
_LABEL_NAMES = ("label", "class", "class_name", "category", "target")
# Pictures, by their extension, of kinds that Pillow does not read, or not without another program.
_UNREAD = frozenset(
    [
        ".ai",
        ".arw",
        ".cr2",
        ".cr3",
        ".dng",
        ".eps",
        ".heic",
        ".heif",
        ".jxl",
        ".nef",
        ".orf",
        ".pdf",
        ".raw",
        ".rw2",
        ".svg",
    ]
)


@dataclass(frozen=True)
class Problem:
    """A file (or a table's row) that cannot be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Entry:
    """A file that should be a picture; nobody has opened it yet."""

    path: str
    name: str
    label: str
    split: str | None = None
    group: str | None = None


@dataclass
class Found:
    """What lies on disk."""

    layout: str
    classes: list[str]
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ignored: int = 0


def find(source: Path, group_column: str | None = None) -> Found:
    """The files of a set in any of the layouts that `scan` describes.

    Raises:
        DataError: none of them.
    """
    if source.is_file():
        return _table(source, group_column)
    if not source.is_dir():
        raise DataError(f"{source}: expected a folder of pictures or a CSV table, and there is none")
    try:
        folders = _folders(source)
        tables = sorted(p for p in source.glob("*.csv") if p.is_file() and not p.name.startswith("."))
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror})") from None
    for table in tables:
        if table.name == "labels.csv" or (not folders and len(tables) == 1):
            return _table(table, group_column)
    if group_column is not None:
        raise DataError(f"{source}: group_column={group_column!r} needs a CSV table, and this is a folder of folders")
    parts = _parts(source, folders)
    if parts:
        return _tree(source, parts, sorted(set(folders) - {folder.name for folder in parts.values()}))
    if not folders:
        raise DataError(
            f"{source}: expected a folder for each class (or train, val and test with such folders, or a CSV"
            " table of paths and labels), and it has no folders"
        )
    found = Found("folders", list(folders))
    _strays(found, source)
    for name, folder in folders.items():
        _class_folder(found, source, folder, name, None)
    return found


def _parts(source: Path, folders: dict[str, Path]) -> dict[str, Path]:
    """The folder of each part, where the folders are parts and not classes."""
    named: dict[str, Path] = {}
    for name, folder in folders.items():
        split = _SPLIT_NAMES.get(name.lower())
        if split is None:
            continue
        if split in named:
            raise DataError(f"{source}: both {named[split].name} and {name} mean the part {split!r}; keep one")
        named[split] = folder
    # A class may be called "train": only with another part, or alone with folders inside, is it one of the parts.
    if "train" not in named:
        whole = len(named) == len(folders) > 0
    else:
        whole = len(named) > 1 or len(folders) == 1
    if not whole or not any(child.is_dir() for folder in named.values() for child in folder.iterdir()):
        return {}
    return {split: named[split] for split in SPLITS if split in named}


def _tree(source: Path, parts: dict[str, Path], others: list[str]) -> Found:
    found = Found("tree", [])
    inside: dict[str, dict[str, Path]] = {}
    for split, folder in parts.items():
        inside[split] = _folders(folder)
        _strays(found, folder)
    found.classes = sorted({name for names in inside.values() for name in names})
    for split, names in inside.items():
        for name, folder in names.items():
            _class_folder(found, source, folder, name, split)
    if others:
        found.notes.append(f"beside {', '.join(parts)} there are other folders, left out: {_few(others)}")
    _strays(found, source)
    return found


def _class_folder(found: Found, root: Path, folder: Path, label: str, split: str | None) -> None:
    for path in files_under(folder, lambda _: True):
        name = printable(os.path.relpath(path, root)).replace(os.sep, "/")
        suffix = os.path.splitext(path)[1].lower()
        if has_extension(path):
            found.entries.append(Entry(path, name, label, split))
        elif suffix in _UNREAD:
            found.problems.append(Problem(name, f"{suffix[1:].upper()} files are not read; save it as PNG or JPEG"))
        else:
            found.ignored += 1


def _folders(folder: Path) -> dict[str, Path]:
    return {printable(d.name): d for d in sorted(folder.iterdir()) if d.is_dir() and not d.name.startswith(".")}


def printable(name: str) -> str:
    """A file's name as text that can be printed, also where its bytes are no UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _strays(found: Found, folder: Path) -> None:
    """Remarks on pictures that lie beside the class folders."""
    strays = [
        printable(p.name)
        for p in sorted(folder.iterdir())
        if p.is_file() and has_extension(p.name) and p.name[0] != "."
    ]
    if strays:
        verb = "is" if len(strays) == 1 else "are"
        found.notes.append(f"{folder.name or folder}: {_few(strays)} {verb} in no class folder, and left out")


def _table(table: Path, group_column: str | None) -> Found:
    try:
        text = table.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{table}: expected a CSV table in UTF-8, and its bytes are no UTF-8 text") from None
    except OSError as error:
        raise DataError(f"{table}: cannot be read ({error.strerror})") from None
    first = text.partition("\n")[0]
    delimiter = next((d for d in ",;\t" if d in first), ",")
    try:
        rows = [
            (n, [cell.strip() for cell in row])
            for n, row in enumerate(csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True), 1)
            if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise DataError(f"{table}: is no CSV table of paths and labels ({error})") from None
    if not rows:
        raise DataError(f"{table}: expected rows of path,label, and it is empty")
    columns, header = _columns(table, rows[0][1], group_column)
    found = Found("table", [])
    for number, row in rows[header:]:
        _row(found, table.parent, f"{table.name} row {number}", row, columns)
    labels = {entry.label for entry in found.entries}
    # Class numbers count as numbers: 2 comes before 10.
    found.classes = sorted(labels, key=int) if all(_is_number(label) for label in labels) else sorted(labels)
    return found


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdecimal() and str(int(label[:18])) == label


def _columns(table: Path, first: list[str], group_column: str | None) -> tuple[dict[str, int], int]:
    """Which column means what, and the number of header rows."""
    names = [cell.lower() for cell in first]
    path = next((names.index(n) for n in _PATH_NAMES if n in names), None)
    label = next((names.index(n) for n in _LABEL_NAMES if n in names), None)
    if path is None or label is None:
        # Without known names the first two columns serve, below a header if the first cell can be no picture.
        header = not has_extension(first[0]) and not (table.parent / first[0][:255]).is_file()
        path, label = 0, 1
    else:
        header = True
    if len(first) < 2:
        raise DataError(f"{table}: expected columns path,label, and its first row is {first[0][:80]!r}")
    columns = {"path": path, "label": label}
    if header and "split" in names:
        columns["split"] = names.index("split")
    if group_column is not None:
        if not header or group_column not in first:
            has = f"its columns are {_few(first)}" if header else "it has no header"
            raise DataError(f"{table}: there is no column group_column={group_column!r}; {has}")
        columns["group"] = first.index(group_column)
    return columns, int(header)


def _row(found: Found, folder: Path, where: str, row: list[str], columns: dict[str, int]) -> None:
    def cell(name: str) -> str:
        at = columns.get(name, len(row))
        return row[at] if at < len(row) else ""

    given, label = cell("path"), cell("label")
    if not given or not label:
        found.problems.append(Problem(given or where, f"{where} has no {'label' if given else 'path'}"))
        return
    if "\0" in given:
        found.problems.append(Problem(where, f"{where}: the path has a null character"))
        return
    split = None
    if cell("split"):
        split = _SPLIT_NAMES.get(cell("split").lower())
        if split is None:
            reason = f"{where}: split {cell('split')!r} is none of train, val, test"
            found.problems.append(Problem(given, reason))
            return
    if os.path.isabs(given):
        path = given
    else:
        path = os.path.normpath(os.path.join(folder, given.replace("\\", "/") if os.sep == "/" else given))
        try:
            real = os.path.realpath(path)
            outside = os.path.commonpath([real, os.path.realpath(folder)]) != os.path.realpath(folder)
        except (OSError, ValueError):
            outside = True
        if outside:
            reason = f"{where}: the path leads outside of the table's folder; make it absolute if it is meant to"
            found.problems.append(Problem(given, reason))
            return
    found.entries.append(Entry(path, given, label, split, cell("group") or None))


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
