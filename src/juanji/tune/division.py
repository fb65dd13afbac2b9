"""The pictures of a set in three parts: to learn from, to watch the learning, to test."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from juanji.data.scanning import Sample, Scan
from juanji.data.splitting import split
from juanji.errors import DataError

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Division:
    """What is learned from and what is tested on.

    Attributes:
        found: the scan.
        classes: those that have a picture to learn from, in order; samples are numbered by them.
        train, val, test: the samples of each part; the last two may be empty.
        notes: what should be known about it, one sentence each.
    """

    found: Scan
    classes: tuple[str, ...]
    train: list[Sample]
    val: list[Sample]
    test: list[Sample]
    notes: tuple[str, ...]

    def part(self, name: str) -> list[Sample]:
        """The samples of one part."""
        samples: list[Sample] = getattr(self, name)
        return samples

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """For each class, the number of pictures in each part."""
        table = {name: dict.fromkeys(PARTS, 0) for name in self.classes}
        for part in PARTS:
            for sample in self.part(part):
                table[self.classes[sample.label]][part] += 1
        return table

    def summary(self) -> dict[str, Any]:
        """For a report: see `Outcome.data`."""
        found = self.found
        return {
            "root": found.root,
            "layout": found.layout,
            "digest": found.digest,
            "counts": self.counts,
            "skipped": [{"name": p.name, "reason": p.reason} for p in found.problems],
            "warnings": [*found.warnings, *self.notes],
            "duplicates": [[s.name for s in group] for group in found.duplicates],
        }


def divide(found: Scan, *, val: float = 0.2, test: float = 0.0, seed: int = 0, group: str | None = None) -> Division:
    """Divides a scanned set: as it says itself, and where it does not, by class and at random.

    What shows the same pixels, and what is of one group, stays in one part.

    Args:
        found: what `juanji.data.scan` found.
        val, test: the share of each part that the set does not have itself. Where it has one of the two, only a
            missing validation part is taken from its training pictures.
        seed: another one gives another division.
        group: a regular expression for names; see `juanji.data.split`.

    Raises:
        DataError: fewer than two classes, or nothing to train on.
    """
    notes: list[str] = []
    if found.splits:
        train = found.part("train") + found.part(None)
        parts = {"val": found.part("val"), "test": found.part("test")}
        if not train:
            raise DataError(f"{found.root}: there are no pictures to train on, only {' and '.join(found.splits)}")
        if not parts["val"] and val:
            divided = split(train, {"train": None, "val": float(val)}, seed=seed, group=group)
            train, parts["val"] = divided["train"], divided["val"]
    else:
        shares: dict[str, float | None] = {"train": None, "val": float(val), "test": float(test)}
        divided = split(found.samples, {n: s for n, s in shares.items() if s != 0}, seed=seed, group=group)
        train, parts = divided["train"], {n: divided.get(n, []) for n in ("val", "test")}
    there = {sample.label for sample in train}
    if len(there) < 2:
        names = ", ".join(repr(found.classes[i]) for i in sorted(there))
        raise DataError(
            f"{found.root}: there is only the class {names} to learn; a classifier needs two or more, "
            "one folder for each"
        )
    number = {label: i for i, label in enumerate(sorted(there))}
    left_out = [s for samples in parts.values() for s in samples if s.label not in number]
    if left_out:
        names = ", ".join(sorted({repr(found.classes[s.label]) for s in left_out}))
        notes.append(f"{len(left_out)} pictures of {names} are left out of the test: nothing was learned about them")
    if not parts["val"] and not parts["test"]:
        notes.append("there are no pictures to test with: what is reported is about those that were learned from")

    def numbered(samples: list[Sample]) -> list[Sample]:
        return [replace(s, label=number[s.label]) for s in samples if s.label in number]

    return Division(
        found=found,
        classes=tuple(found.classes[label] for label in number),
        train=numbered(train),
        val=numbered(parts["val"]),
        test=numbered(parts["test"]),
        notes=tuple(notes),
    )
