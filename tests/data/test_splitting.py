import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from juanji.data import scan, split
from juanji.data.scanning import Sample


def sample(label, digest, group=None, name=None):
    return Sample(f"/x/{digest}", name or f"{label}/{digest}.png", label, None, group, (1, 1), str(digest))


def sets(duplicates, groups):
    """Lists of samples; with duplicates, some share their content, with groups some their group."""

    def make(rows):
        return [
            sample(label, f"c{content}" if duplicates else f"{i}", f"g{group}" if groups and group < 6 else None)
            for i, (label, content, group) in enumerate(rows)
        ]

    return st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30), st.integers(0, 12)), min_size=1, max_size=60).map(
        make
    )


fractions = st.sampled_from(
    [None, {"train": 0.7, "val": 0.3}, {"train": 0.7, "val": 0.15, "test": 0.15}, {"test": 0.9, "train": 0.1}]
)


@given(sets(True, True), fractions, st.integers(-5, 5), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_what_always_holds(samples, parts, seed, rng):
    out = split(samples, parts, seed=seed)
    assert list(out) == list(parts or {"train": 0.8, "val": 0.2})
    # every sample is in one part, in the order given
    assert Counter(s for part in out.values() for s in part) == Counter(samples)
    for part in out.values():
        assert part == [s for s in samples if s in part]
    # what belongs together is together
    for key in (lambda s: s.digest, lambda s: s.group):
        homes = {}
        for name, part in out.items():
            for s in part:
                if key(s) is not None:
                    assert homes.setdefault(key(s), name) == name
    # every class can be learned
    assert {s.label for s in out["train"]} == {s.label for s in samples}
    # neither the order nor the names of files matter
    shuffled = [replace(s, path="/y", name="other") for s in samples]
    rng.shuffle(shuffled)
    again = split(shuffled, parts, seed=seed)
    for name in out:
        assert Counter((s.digest, s.label) for s in again[name]) == Counter((s.digest, s.label) for s in out[name])


@given(sets(False, False), fractions, st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_parts_have_the_classes_in_proportion(samples, parts, seed):
    out = split(samples, parts, seed=seed)
    totals = Counter(s.label for s in samples)
    for name, fraction in (parts or {"train": 0.8, "val": 0.2}).items():
        there = Counter(s.label for s in out[name])
        for label, total in totals.items():
            assert abs(there[label] - fraction * total) < 1 + 1e-9


@given(st.integers(3, 40), st.data())
@settings(max_examples=50, deadline=None)
def test_numbers_of_pictures_are_kept_for_one_class(count, data):
    n = data.draw(st.integers(2, count - 1))
    samples = [sample(0, i) for i in range(count)]
    for parts in ({"train": n, "val": count - n}, {"train": n, "val": None}, {"train": None, "val": count - n}):
        assert [len(part) for part in split(samples, parts).values()] == [n, count - n]


def test_seeds():
    samples = [sample(i % 3, i) for i in range(60)]
    picked = {tuple(s.digest for s in split(samples, seed=seed)["val"]) for seed in range(10)}
    assert len(picked) == 10
    assert split(samples, seed=3) == split(samples, seed=3)
    # each picture is drawn about as often as the others
    drawn = Counter(s.digest for seed in range(300) for s in split(samples, seed=seed)["val"])
    assert len(drawn) == 60
    assert 30 <= min(drawn.values()) <= 60 <= max(drawn.values()) <= 95


def test_groups_by_name():
    rng = random.Random(1)
    samples = [sample(i % 2, i, name=f"{i % 2}/p{rng.randrange(12)}_{i}.png") for i in range(80)]

    def person(s):
        return s.name.split("/")[1].split("_")[0]

    for group in (r"^p\d+", r"^(p\d+)_", person):
        out = split(samples, {"train": 0.75, "test": 0.25}, group=group)
        assert not {person(s) for s in out["train"]} & {person(s) for s in out["test"]}
        assert 10 <= len(out["test"]) <= 30
    mixed = split(samples)
    assert {person(s) for s in mixed["train"]} & {person(s) for s in mixed["val"]}
    # no match: alone
    assert split(samples, group="zzz") == mixed


def test_small_classes():
    two = [sample(0, "a"), sample(0, "b"), sample(1, "c")]
    assert Counter(s.label for s in split(two, {"train": 0.1, "test": 0.9})["train"]) == {0: 1, 1: 1}
    same = [sample(0, "a"), sample(0, "a"), *(sample(1, i) for i in range(8))]
    assert sum(s.label == 0 for s in split(same)["train"]) == 2
    # a group of two classes serves both
    joined = [sample(0, 1, "g"), sample(1, 2, "g"), sample(2, 3)]
    assert len(split(joined, {"val": 0.9, "train": 0.1})["train"]) == 3
    # without a part named train the first takes its place
    assert len(split([sample(0, 1)], {"one": 0.5, "two": 0.5})["one"]) == 1
    assert split(two, {"train": 1.0, "val": 0.0})["val"] == []


@pytest.mark.parametrize(
    "parts", [{"train": 0.5}, {"train": 0.8, "val": 0.3}, {"train": 2, "val": 5}, {"train": None, "val": None}]
)
def test_parts_that_do_not_add_up(parts):
    with pytest.raises(ValueError, match="parts="):
        split([sample(0, 1), sample(0, 2)], parts)


def test_refusals():
    samples = [sample(0, 1), sample(0, 2)]
    with pytest.raises(ValueError, match="samples is empty"):
        split([])
    for share in (-0.5, float("nan"), "half", True):
        with pytest.raises(ValueError, match=r"parts\['train'\]="):
            split(samples, {"train": share, "val": None})
    with pytest.raises(ValueError, match="parts=\\{\\}"):
        split(samples, {})
    with pytest.raises(ValueError, match="no regular expression"):
        split(samples, group="(")
    with pytest.raises(TypeError, match="group=3"):
        split(samples, group=3)
    with pytest.raises(TypeError, match="seed=0.5"):
        split(samples, seed=0.5)


def test_a_scanned_folder_is_split_the_same_wherever_it_lies(tmp_path):
    for where, order in (("one", range(12)), ("two", reversed(range(12)))):
        for i in order:
            folder = tmp_path / where / "ab"[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            prefix = "" if where == "one" else f"{11 - i:02d}_"
            Image.fromarray(np.full((2, 3), i // 3 if i < 3 else i, np.uint8)).save(folder / f"{prefix}{i}.png")
    first, second = (split(scan(tmp_path / where).samples, seed=4) for where in ("one", "two"))
    for name in ("train", "val"):
        assert sorted(s.digest for s in first[name]) == sorted(s.digest for s in second[name])
    # pictures 0, 1 and 2 are the same
    assert len({name for name, part in first.items() for s in part if s.name[2:] in ("0.png", "1.png", "2.png")}) == 1
