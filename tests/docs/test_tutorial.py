"""The tutorial: every page runs from top to bottom and prints what it says; both languages have the same code."""

import contextlib
import io
import re
from pathlib import Path

import pytest
from PIL import Image

from juanji import zoo

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "tutorial"
PAGES = sorted(path.name for path in (FOLDER / "en").glob("*.md"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(path):
    """(language, text, line) of each fenced block."""
    text = path.read_text(encoding="utf-8")
    assert text.count("\n```") % 2 == 0, f"{path.name}: a block is not closed"
    return [(m[1], m[2], text.count("\n", 0, m.start()) + 1) for m in FENCE.finditer(text)]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_and_prints_what_it_says(page, monkeypatch):
    monkeypatch.setattr("juanji.zoo.registry._registry", dict(zoo.registry._registry))  # a page may enter a network
    path = FOLDER / "en" / page
    names, printed, where = {"__name__": "__main__"}, None, 0
    for language, text, line in blocks(path):
        if language == "text":
            assert printed == text, f"{page}:{line}"
            printed = None
            continue
        assert language == "python", f"{page}:{line}: {language}"
        assert not printed, f"{page}:{where}: prints {printed!r}, which no block shows"
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile("\n" * line + text, str(path), "exec"), names)
        printed, where = output.getvalue(), line
    assert not printed


@pytest.mark.parametrize("page", PAGES)
def test_both_languages_have_the_same_code_and_pictures(page):
    english, chinese = (FOLDER / language / page for language in ("en", "zh"))
    assert [b[:2] for b in blocks(english)] == [b[:2] for b in blocks(chinese)]
    texts = [p.read_text(encoding="utf-8") for p in (english, chinese)]
    assert len({tuple(re.findall(r"^!\[.*?\]\((.*?)\)", t, re.M)) for t in texts}) == 1
    assert len({len(re.findall(r"^#+ ", t, re.M)) for t in texts}) == 1
    assert len({len(re.findall(r"^\|", t, re.M)) for t in texts}) == 1


def test_links_lead_somewhere():
    for path in FOLDER.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
            found = path.parent / target
            assert found.exists(), f"{path.name} links to {target}"
            if found.suffix == ".png":
                with Image.open(found) as picture:
                    assert min(picture.size) > 150
    assert {p.name for p in (FOLDER / "zh").glob("*.md")} == set(PAGES)
