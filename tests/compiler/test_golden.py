"""The algorithm and the register tile of representative convolutions are what they were."""

import importlib
import json
from pathlib import Path

import pytest

FILE = Path(__file__).parent / "golden.json"
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def golden(monkeypatch):
    if not BENCHMARKS.is_dir():
        pytest.skip("the folder of benchmarks is not here")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("golden")


def test_choices_are_what_they_were(golden, kernel_target):
    pinned = json.loads(FILE.read_text("utf-8"))[kernel_target]
    found = golden.choices()
    assert len(found) == len(golden.PROBLEMS) == len(pinned)
    changed = [f"{name}: {pinned.get(name)} -> {ways}" for name, ways in found.items() if pinned.get(name) != ways]
    assert not changed, "choices have changed; if they shall: python benchmarks/golden.py --write\n" + "\n".join(
        changed
    )


def test_every_algorithm_is_among_them(golden):
    pinned = json.loads(FILE.read_text("utf-8"))["avx512"]
    names = {way.rsplit(" ", 1)[0] if way[-1].isdigit() else way for ways in pinned.values() for way in ways}
    assert {"contraction", "depthwise", "few pixels", "dot products", "planes", "images exchanged"} <= names
