"""Looking through a set of pictures before training: what is there, what cannot be read, what is there twice."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import statistics
import warnings as python_warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from juanji.data.images import open_image
from juanji.data.layouts import SPLITS, Entry, Problem, find, printable
from juanji.errors import DataError

__all__ = ["Problem", "Sample", "Scan", "scan"]

_SHOWN = 10  # files named in a printed report; `to_json` has them all


@dataclass(frozen=True)
class Sample:
    """One picture that can be read.

    Attributes:
        path: the file.
        name: its path within the scanned folder, with "/" (or the absolute path that a table gave).
        label: the number of its class.
        split: "train", "val" or "test" where the set says so itself, else None.
        group: what the table's group column says, else None.
        size: (width, height) after turning it upright.
        digest: a hash of the pixels as `open_image` gives them: equal for equal pictures, whatever the
            files' names, formats and remarks.
        kinds: what the reader had to do about it: "alpha", "16-bit", "float", "cmyk", "rotated", "animated".
    """

    path: str
    name: str
    label: int
    split: str | None
    group: str | None
    size: tuple[int, int]
    digest: str
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scan:
    """What `scan` found. `str()` gives a report to read, `to_json()` everything.

    Attributes:
        root: the folder, or the table.
        layout: "folders", "tree" or "table".
        classes: the names of the classes that have a readable picture, in the order of their numbers.
        samples: the pictures that can be read, in the order of their names.
        problems: the files that cannot, each with the reason.
        notes: remarks on the arrangement, such as files in no class folder.
        ignored: how many files are no pictures by their extension.
    """

    root: str
    layout: str
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    ignored: int = 0

    @property
    def splits(self) -> tuple[str, ...]:
        """The parts the set comes in, of "train", "val", "test"; empty where it has none."""
        there = {sample.split for sample in self.samples}
        return tuple(name for name in SPLITS if name in there)

    def part(self, split: str | None) -> list[Sample]:
        """The samples of one part of the set."""
        return [sample for sample in self.samples if sample.split == split]

    @property
    def targets(self) -> list[int]:
        """The class number of each sample."""
        return [sample.label for sample in self.samples]

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """For each class, the number of pictures in each part and in "all"."""
        table: dict[str, dict[str, int]] = {c: dict.fromkeys((*self.splits, "all"), 0) for c in self.classes}
        for sample in self.samples:
            row = table[self.classes[sample.label]]
            row["all"] += 1
            if sample.split is not None:
                row[sample.split] += 1
        return table

    @functools.cached_property
    def duplicates(self) -> list[tuple[Sample, ...]]:
        """Groups of samples that show the same pixels."""
        by_digest: dict[str, list[Sample]] = {}
        for sample in self.samples:
            by_digest.setdefault(sample.digest, []).append(sample)
        return [tuple(group) for group in by_digest.values() if len(group) > 1]

    @property
    def leaks(self) -> list[tuple[Sample, ...]]:
        """The duplicates that are in more than one part: what is tested on has been trained on."""
        return [group for group in self.duplicates if len({sample.split for sample in group}) > 1]

    @property
    def contradictions(self) -> list[tuple[Sample, ...]]:
        """The duplicates that are in more than one class."""
        return [group for group in self.duplicates if len({sample.label for sample in group}) > 1]

    @property
    def kinds(self) -> dict[str, int]:
        """How many pictures are of each kind that needs more than reading: see `Sample.kinds`."""
        return dict(sorted(Counter(kind for sample in self.samples for kind in sample.kinds).items()))

    @property
    def sizes(self) -> dict[str, dict[str, float]]:
        """The least, middle and greatest width and height."""
        columns = zip(("width", "height"), zip(*(s.size for s in self.samples), strict=True), strict=True)
        return {k: {"min": min(v), "median": statistics.median(v), "max": max(v)} for k, v in columns}

    @property
    def digest(self) -> str:
        """A hash of the whole set: of pictures, class names and parts, not of the files' names or order."""
        lines = sorted(f"{s.digest} {s.split or ''} {self.classes[s.label]}" for s in self.samples)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def warnings(self) -> list[str]:
        """What should be known before training, one sentence each."""
        said = list(self.notes)
        if self.problems:
            said.append(f"{_count(len(self.problems), 'file')} cannot be read and will be left out")
        said += [f"the class {name!r} has no readable picture and is left out" for name in self.empty]
        if len(self.classes) == 1:
            said.append(f"there is only one class, {self.classes[0]!r}: nothing can be told apart")
        for name, row in self.counts.items():
            there = [split for split in self.splits if row[split]]
            if self.splits and "train" in self.splits and "train" not in there:
                said.append(f"the class {name!r} is only in {' and '.join(there)}: it cannot be learned")
            elif row["all"] == 1:
                said.append(f"the class {name!r} has only one picture: nothing is left to test it with")
        if self.splits and "train" not in self.splits:
            said.append("there are no pictures to train on: every one is in " + " or ".join(self.splits))
        if self.leaks:
            said.append(
                f"{_count(len(self.leaks), 'picture')} in more than one of {', '.join(self.splits)}:"
                " results there will look better than they are"
            )
        if self.contradictions:
            said.append(f"{_count(len(self.contradictions), 'picture')} in more than one class")
        same = len(self.duplicates) - len({id(g) for g in self.leaks} | {id(g) for g in self.contradictions})
        if same:
            said.append(f"{_count(same, 'picture')} more than once in the same class")
        return said

    def as_dict(self) -> dict[str, Any]:
        """Everything, as plain dictionaries, lists, strings and numbers."""

        def plain(sample: Sample) -> dict[str, Any]:
            return {
                "name": sample.name,
                "class": self.classes[sample.label],
                "split": sample.split,
                "group": sample.group,
                "size": list(sample.size),
                "digest": sample.digest,
                "kinds": list(sample.kinds),
            }

        return {
            "root": self.root,
            "layout": self.layout,
            "digest": self.digest,
            "classes": list(self.classes),
            "counts": self.counts,
            "sizes": self.sizes,
            "kinds": self.kinds,
            "warnings": self.warnings,
            "problems": [{"name": p.name, "reason": p.reason} for p in self.problems],
            "duplicates": [[sample.name for sample in group] for group in self.duplicates],
            "ignored": self.ignored,
            "samples": [plain(sample) for sample in self.samples],
        }

    def to_json(self, indent: int | None = 2) -> str:
        """Everything, as one JSON object."""
        return json.dumps(self.as_dict(), ensure_ascii=False, indent=indent)

    def __str__(self) -> str:
        columns = [*self.splits, "all"]
        wide = max(len(name) for name in (*self.classes, "class"))
        lines = [
            f"{self.root}: {_count(len(self.samples), 'picture')}, {_count(len(self.classes), 'class')}",
            "  ".join([f"  {'class':{wide}s}", *(f"{c:>7s}" for c in columns)]),
        ]
        for name, row in self.counts.items():
            lines.append("  ".join([f"  {name:{wide}s}", *(f"{row[c]:7,d}" for c in columns)]))
        across, down = self.sizes["width"], self.sizes["height"]
        lines.append(
            f"  sizes: {across['min']:g} x {down['min']:g} to {across['max']:g} x {down['max']:g},"
            f" in the middle {across['median']:g} x {down['median']:g}"
        )
        if self.kinds:
            lines.append("  handled: " + ", ".join(f"{n:,} {kind}" for kind, n in self.kinds.items()))
        if self.ignored:
            lines.append(f"  {_count(self.ignored, 'other file')} without a picture's extension")
        lines += [f"  warning: {text}" for text in self.warnings]
        lines += _list("cannot be read", [f"{p.name}: {p.reason}" for p in self.problems])
        lines += _list("the same picture", [" = ".join(s.name for s in group) for group in self.duplicates])
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Scan({self.root!r}: {len(self.samples):,} pictures of {len(self.classes)} classes)"


def scan(
    source: str | os.PathLike[str],
    *,
    group_column: str | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Scan:
    """Opens every picture of a set once and says what is there. Bad files are listed, and never fatal.

    The set is one of: a folder with a folder for each class; a folder with the folders `train`, `val` (or
    `valid`, `validation`) and `test`, each with a folder for each class; a CSV table of paths and labels, or a
    folder with one (`labels.csv`). A table may have a header, and with one the columns `split` and
    `group_column`. Its paths count from the table's folder and must stay in it, or are absolute.

    A picture's size is read from its header first, and one of more than `PIL.Image.MAX_IMAGE_PIXELS` is not
    decoded.

    Args:
        source: the folder or table.
        group_column: the table's column that says which pictures belong together (see `split`).
        workers: threads that decode; by default as many as there are processors, at most 8.
        progress: called with the number of files looked at and the number there are.

    Raises:
        DataError: a folder or table that is none, or without a single picture that can be read.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for name, value in (("cat/1", 0), ("cat/2", 0), ("dog/1", 99)):
    ...         os.makedirs(f"{root}/{name[:3]}", exist_ok=True)
    ...         Image.new("L", (4, 3), value).save(f"{root}/{name}.png")
    ...     found = scan(root)
    >>> found.classes, [[s.name for s in group] for group in found.duplicates]
    (('cat', 'dog'), [['cat/1.png', 'cat/2.png']])
    >>> for warning in found.warnings:
    ...     print(warning)
    the class 'dog' has only one picture: nothing is left to test it with
    1 picture more than once in the same class
    """
    if workers is None:
        workers = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ValueError(f"workers={workers!r} must be an integer, 1 or more")
    found = find(Path(source), group_column)
    problems = list(found.problems)
    good: list[tuple[Entry, _Look]] = []
    for entry, look in zip(found.entries, _look_at_all(found.entries, workers, progress), strict=True):
        if isinstance(look, str):
            problems.append(Problem(entry.name, look))
        else:
            good.append((entry, look))
    if not good:
        why = f"; the first of {_count(len(problems), 'problem')}: {problems[0].name}: {problems[0].reason}"
        raise DataError(f"{source}: there is no picture that can be read" + (why if problems else ""))
    there = {entry.label for entry, _ in good}
    classes = tuple(name for name in found.classes if name in there)
    number = {name: i for i, name in enumerate(classes)}
    samples = [
        Sample(e.path, e.name, number[e.label], e.split, e.group, look.size, look.digest, look.kinds)
        for e, look in good
    ]
    return Scan(
        root=printable(os.fspath(source)),
        layout=found.layout,
        classes=classes,
        samples=tuple(sorted(samples, key=lambda s: (SPLITS.index(s.split) if s.split else -1, s.label, s.name))),
        problems=tuple(sorted(problems, key=lambda p: p.name)),
        notes=tuple(found.notes),
        empty=tuple(name for name in found.classes if name not in there),
        ignored=found.ignored,
    )


@dataclass(frozen=True)
class _Look:
    size: tuple[int, int]
    digest: str
    kinds: tuple[str, ...]


def _look_at_all(
    entries: Sequence[Entry], workers: int, progress: Callable[[int, int], None] | None
) -> list[_Look | str]:
    looks: list[_Look | str] = []
    # Filters belong to the whole process, so they are set here once, not in the threads.
    with python_warnings.catch_warnings(), ThreadPoolExecutor(workers, thread_name_prefix="juanji-scan") as pool:
        python_warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            for look in pool.map(_look_at, (entry.path for entry in entries)):
                looks.append(look)
                if progress is not None:
                    progress(len(looks), len(entries))
        except BaseException:  # Ctrl-C, above all: leaving the pool would wait for all that is queued
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return looks


def _look_at(path: str) -> _Look | str:
    """What a picture is, or why it cannot be read."""
    try:
        picture = open_image(path)
        digest = hashlib.sha256(f"{picture.width} {picture.height} ".encode())
        digest.update(picture.tobytes())
    except DataError as error:
        return str(error).removeprefix(f"{path}: ")
    except (OSError, MemoryError) as error:
        return str(error) or type(error).__name__
    return _Look(picture.size, digest.hexdigest(), _kinds(path))


def _kinds(path: str) -> tuple[str, ...]:
    from PIL import Image

    kinds = []
    with contextlib.suppress(Exception), Image.open(path) as file:  # it has been read: this only adds remarks
        mode = file.mode
        if mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in file.info:
            kinds.append("alpha")
        if mode.startswith("I"):
            kinds.append("16-bit")
        if mode == "F":
            kinds.append("float")
        if mode == "CMYK":
            kinds.append("cmyk")
        if file.getexif().get(0x0112, 1) in range(2, 9):
            kinds.append("rotated")
        if getattr(file, "is_animated", False):
            kinds.append("animated")
    return tuple(kinds)


def _count(n: int, noun: str) -> str:
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{n:,} {noun if n == 1 else plural}"


def _list(title: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    more = [f"    and {len(lines) - _SHOWN:,} more"] if len(lines) > _SHOWN else []
    return [f"  {title}:", *(f"    {line}" for line in lines[:_SHOWN]), *more]
