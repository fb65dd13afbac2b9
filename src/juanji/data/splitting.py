"""Dividing a set of pictures for training and testing: by class, with what belongs together kept together."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from juanji.data.scanning import Sample

__all__ = ["split"]

_DEFAULT = {"train": 0.8, "val": 0.2}


def split(
    samples: Sequence[Sample],
    parts: Mapping[str, float | int | None] | None = None,
    *,
    seed: int = 0,
    group: str | re.Pattern[str] | Callable[[Sample], str | None] | None = None,
) -> dict[str, list[Sample]]:
    """Divides pictures at random into parts that each have the classes in the same proportions.

    Pictures with the same pixels, and those of one group, go to the same part, so that no part is tested on
    what another has learned. The pictures' contents and the seed alone decide, not the files' names or order.
    Every class has a picture in the part "train" (or, without one of that name, in the first part); without
    duplicates and groups, each part has of each class what is due to it to within one picture.

    The algorithm is iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011): rare classes first,
    each picture to the part that lacks its class most.

    Args:
        samples: the pictures, such as `scan(...).samples`.
        parts: for each part's name its fraction (they add up to 1) or its number of pictures; one of them may
            be None, the rest. By default {"train": 0.8, "val": 0.2}.
        seed: another seed gives another split.
        group: what belongs together: a regular expression that is searched for in the file's name (its first
            group, or else all that it matched, names the group; files without a match stand alone), or a
            function of the sample. Groups of the table's group column (`Sample.group`) count in any case.

    Returns:
        For each part its samples, in the order of `samples`.

    Raises:
        ValueError: parts that do not add up, an expression that is none, or no samples.
        TypeError: a `group` or `seed` of another kind.

    >>> pictures = [Sample(f"{i}.png", f"{i}.png", i % 2, None, None, (1, 1), str(i)) for i in range(10)]
    >>> halves = split(pictures, {"train": 6, "val": None}, seed=1)
    >>> [(name, len(part), sum(s.label for s in part)) for name, part in halves.items()]
    [('train', 6, 3), ('val', 4, 2)]
    """
    if not samples:
        raise ValueError("samples is empty: there is nothing to split")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed={seed!r} must be an integer")
    fractions = _fractions(_DEFAULT if parts is None else parts, len(samples))
    units = _units(samples, _key(group), seed)
    chosen = _assigned(units, fractions, max(sample.label for sample in samples) + 1)
    part_of = {i: name for unit, name in zip(units, chosen, strict=True) for i in unit.members}
    return {name: [s for i, s in enumerate(samples) if part_of[i] == name] for name in fractions}


@dataclass(frozen=True)
class _Unit:
    """Samples that stay together."""

    members: tuple[int, ...]
    counts: dict[int, int]  # how many of each class
    rank: bytes


def _fractions(parts: Mapping[str, float | int | None], total: int) -> dict[str, float]:
    if not isinstance(parts, Mapping) or not parts:
        raise ValueError(f"parts={parts!r} must give each part's name its fraction or number of pictures")
    given = {name: share for name, share in parts.items() if share is not None}
    for name, share in given.items():
        good = isinstance(share, (int, float)) and not isinstance(share, bool) and math.isfinite(share) and share >= 0
        if not good:
            raise ValueError(
                f"parts[{name!r}]={share!r} must be a fraction, a number of pictures, or None for the rest"
            )
    # Integers are numbers of pictures; only {"train": 1, "val": 0} means all and nothing.
    whole = all(isinstance(share, int) for share in given.values()) and set(given.values()) != {0, 1}
    whole = whole and bool(given)
    one = total if whole else 1.0
    rest = one - sum(given.values())
    open_ = [name for name, share in parts.items() if share is None]
    what = f"the {total:,} samples" if whole else "1"
    if len(open_) > 1:
        raise ValueError(f"parts={dict(parts)!r}: only one part can be the rest (None)")
    if rest < -1e-9 or (not open_ and abs(rest) > 1e-9):
        raise ValueError(f"parts={dict(parts)!r} must add up to {what}, or have one None for the rest")
    return {name: max(rest if share is None else share, 0) / one for name, share in parts.items()}


def _key(group: str | re.Pattern[str] | Callable[[Sample], str | None] | None) -> Callable[[Sample], str | None]:
    if group is None:
        return lambda sample: None
    if isinstance(group, (str, re.Pattern)):
        try:
            pattern = re.compile(group)
        except re.error as error:
            raise ValueError(f"group={group!r} is no regular expression: {error}") from None

        def searched(sample: Sample) -> str | None:
            match = pattern.search(sample.name.rpartition("/")[2])
            if match is None:
                return None
            found: str | None = match.group(1) if pattern.groups else match.group()
            return found or None

        return searched
    if not callable(group):
        raise TypeError(f"group={group!r} must be a regular expression or a function of a sample")
    return group


def _units(samples: Sequence[Sample], key: Callable[[Sample], str | None], seed: int) -> list[_Unit]:
    """The samples joined by equal contents, by the caller's group and by the table's, in a random order."""
    parent = list(range(len(samples)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, sample in enumerate(samples):
        for kind, name in (("content", sample.digest), ("column", sample.group), ("group", key(sample))):
            if name is not None:
                j = first.setdefault((kind, str(name)), i)
                parent[root(i)] = root(j)
    members: dict[int, list[int]] = {}
    for i in range(len(samples)):
        members.setdefault(root(i), []).append(i)
    units = []
    for indices in members.values():
        counts: dict[int, int] = {}
        for i in indices:
            counts[samples[i].label] = counts.get(samples[i].label, 0) + 1
        content = min(samples[i].digest for i in indices)
        # A hash in place of a shuffle: the order hangs on the contents alone, not on how the files were found.
        units.append(_Unit(tuple(indices), counts, hashlib.sha256(f"{seed} {content}".encode()).digest()))
    return sorted(units, key=lambda unit: unit.rank)


def _assigned(units: list[_Unit], fractions: dict[str, float], classes: int) -> list[str]:
    totals = [sum(unit.counts.get(c, 0) for unit in units) for c in range(classes)]
    lacking = {name: [fraction * n for n in totals] for name, fraction in fractions.items()}
    names = [name for name, fraction in fractions.items() if fraction > 0]
    learning = "train" if "train" in names else names[0]
    lacking_in_all = {name: fraction * sum(totals) for name, fraction in fractions.items()}
    out = [""] * len(units)

    def give(u: int, name: str) -> None:
        out[u] = name
        for c, n in units[u].counts.items():
            lacking[name][c] -= n
            lacking_in_all[name] -= n

    of_class = [[u for u, unit in enumerate(units) if c in unit.counts] for c in range(classes)]
    rare_first = sorted((c for c in range(classes) if of_class[c]), key=lambda c: (len(of_class[c]), c))
    for c in rare_first:
        if not any(out[u] == learning for u in of_class[c]):
            # The smallest, for a large group would upset the proportions most.
            give(min(of_class[c], key=lambda u: (len(units[u].members), u)), learning)
    for c in rare_first:
        # Large groups while there is still room for them.
        for u in sorted((u for u in of_class[c] if not out[u]), key=lambda u: (-units[u].counts[c], u)):
            give(u, max(names, key=lambda name: (lacking[name][c], lacking_in_all[name], name == learning)))
    return out
