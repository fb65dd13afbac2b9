"""The articles' programs: each script prints what its first lines say, and the page that lists them is complete."""

import contextlib
import io
import re
import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "articles"
SCRIPTS = sorted(FOLDER.glob("a*.py"))


def promised(script):
    """The block after "Prints:" of a script's docstring."""
    text = script.read_text(encoding="utf-8")
    return text.split("Prints:\n", 1)[1].split('"""', 1)[0].replace("<BLANKLINE>", "").rstrip()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_script_prints_what_it_says(script, monkeypatch, tmp_path):
    if "plot" in script.stem:
        pytest.importorskip("matplotlib").use("agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script), "--save"])
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        runpy.run_path(str(script), run_name="__main__")
    assert output.getvalue().rstrip() == promised(script)
    if "plot" in script.stem:
        assert len(list(tmp_path.glob("*.png"))) == 3


def test_the_page_lists_every_script():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(a\d+_\w+\.py)`", page, re.M)) == [s.name for s in SCRIPTS]
