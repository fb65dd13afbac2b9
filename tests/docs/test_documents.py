"""What the documents say is so: their Python blocks run, the commands they name exist, and so do files and pictures."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import typer.main
from PIL import Image

from juanji.cli.main import app
from juanji.data import write_idx

ROOT = Path(__file__).parents[2]
READMES = (ROOT / "README.md", ROOT / "README.zh-CN.md")
DOCUMENTS = (*READMES, *sorted((ROOT / "docs").glob("*.md")))
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in DOCUMENTS}
QUICK_START = (
    "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/juanji train mnist",
    'python3 -m venv .venv-dev && .venv-dev/bin/pip install -e ".[dev]" && .venv-dev/bin/python -m pytest',
)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language and its text."""

    document: str
    line: int
    language: str
    text: str


def blocks(document):
    """All fenced blocks of a document. A fence that is never closed is an error."""
    found, language, start, lines = [], None, 0, []
    for number, line in enumerate(TEXTS[document].splitlines(), 1):
        fence = line.strip().startswith("```")
        if fence and language is None:
            language, start, lines = line.strip()[3:], number, []
        elif fence:
            found.append(Block(document, start, language, "\n".join(lines) + "\n"))
            language = None
        elif language is not None:
            lines.append(line)
    assert language is None, f"{document}:{start}: the block is not closed"
    return found


ALL = [block for document in TEXTS for block in blocks(document)]
SHELL = [block for block in ALL if block.language == "sh"]
#: Each different Python block once: the two READMEs have the same.
PYTHON = list({block.text: block for block in reversed(ALL) if block.language == "python"}.values())[::-1]


def test_blocks_have_a_known_language():
    assert {block.language for block in ALL} <= {"python", "sh", "text"}
    assert any(block.document == "README.md" for block in PYTHON)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A working folder with a few digits where `datasets.MNIST("data")` looks first, so that nothing is fetched."""
    place = tmp_path_factory.mktemp("documents")
    raw = place / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    for stem, count in (("train", 70), ("t10k", 20)):
        write_idx(raw / f"{stem}-images-idx3-ubyte", random.integers(0, 256, (count, 28, 28)).astype(np.uint8))
        write_idx(raw / f"{stem}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
    return place


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: f"{block.document}:{block.line}")
def test_python_blocks_run(block, folder):
    script = folder / "block.py"
    # Empty lines in front, so that a traceback names the line in the document.
    script.write_text("\n" * block.line + block.text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", script.name],
        cwd=folder,
        env={**os.environ, "JUANJI_HOME": str(folder / "home"), "JUANJI_DEBUG": "0"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, f"{block.document}:{block.line}\n{done.stderr}"


# -- commands ---------------------------------------------------------------------------------------------------------
def commands(text):
    """The words of each command of a shell block: `a && b` is two, what follows a # is a comment."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while "&&" in words:
            at = words.index("&&")
            yield words[:at]
            words = words[at + 1 :]
        if words:
            yield words


def check_juanji(arguments):
    """Parses the arguments as the program would, without running anything."""
    command = typer.main.get_command(app)
    name, *rest = arguments
    while not name.startswith("-"):
        assert name in command.commands, f"juanji has no command {name!r}"
        command = command.commands[name]
        if not hasattr(command, "commands"):
            command.make_context(name, rest)
            return
        name, *rest = rest
    assert name in ("--help", "--version"), name


@pytest.mark.parametrize("block", SHELL, ids=lambda block: f"{block.document}:{block.line}")
def test_commands_exist(block):
    for words in commands(block.text):
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        program = Path(words[0]).name
        if program == "juanji":
            check_juanji(words[1:])
        elif program == "python" and words[1] != "-m":
            assert (ROOT / words[1]).is_file(), words[1]
        else:
            assert program in ("python", "python3", "pip", "source", "sudo"), words


def test_commands_in_sentences_exist():
    names = set(typer.main.get_command(app).commands)
    for document, text in TEXTS.items():
        for word in re.findall(r"`juanji ([a-z]+)", text):
            assert word in names, f"{document} names `juanji {word}`"


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.name)
def test_the_quick_start_is_two_commands(path):
    name = path.relative_to(ROOT).as_posix()
    first = [block.text.strip() for block in SHELL if block.document == name][:2]
    assert tuple(first) == QUICK_START


def test_the_checks_of_every_change_run_the_test_command():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert 'pip install --quiet -e ".[dev]"' in script
    assert 'python" -m pytest' in script


# -- links, pictures, and the two languages -------------------------------------------------------------------------
def links(document):
    """Targets of links and pictures that lie in this repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", TEXTS[document])
    return [t.partition("#")[0] for t in targets if not t.startswith(("http", "#"))]


@pytest.mark.parametrize("document", TEXTS)
def test_links_lead_somewhere(document):
    for target in links(document):
        path = (ROOT / document).parent / target
        assert path.exists(), f"{document} links to {target}"
        if path.suffix == ".png":
            assert path.stat().st_size < 200_000
            with Image.open(path) as picture:
                assert min(picture.size) > 200


def test_the_readmes_say_the_same():
    english, chinese = (path.relative_to(ROOT).as_posix() for path in READMES)

    def code(document):
        return [(b.language, re.sub(r"#.*", "", b.text)) for b in blocks(document)]

    assert code(english) == code(chinese)
    assert [t for t in links(english) if t != chinese] == [t for t in links(chinese) if t != english]
    for pattern in (r"^#+ ", r"^- ", r"^\|", r"^!\["):
        counts = [len(re.findall(pattern, TEXTS[d], re.MULTILINE)) for d in (english, chinese)]
        assert counts[0] == counts[1], pattern


def test_the_architecture_names_files_that_exist():
    text = re.sub(r"```.*?```", "", TEXTS["docs/architecture.md"], flags=re.DOTALL)
    known = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("*/**/*.py")}
    for name in re.findall(r"`([\w/]+\.py)`", text):
        assert any(path == name or path.endswith("/" + name) for path in known), name


def test_the_architecture_names_every_environment_variable():
    in_code = set()
    for path in (ROOT / "src").rglob("*.py"):
        in_code |= set(re.findall(r"JUANJI_[A-Z_]+", path.read_text(encoding="utf-8")))
    assert in_code == set(re.findall(r"JUANJI_[A-Z_]+", TEXTS["docs/architecture.md"]))


def test_the_numbers_come_from_the_measurements():
    """The tables are what the script writes; the numbers themselves may be of an earlier run than the last one."""
    spec = importlib.util.spec_from_file_location("readme_numbers", ROOT / "docs" / "readme_numbers.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))

    def without_numbers(text):
        return re.sub(r"\d[\d.,]*", "#", text)

    for name, words in script.WORDS.items():
        written = script.filled(TEXTS[name], results, words)
        assert without_numbers(written) == without_numbers(TEXTS[name]), "run python docs/readme_numbers.py"


# -- the script of the picture --------------------------------------------------------------------------------------
def test_predictions_can_be_drawn(folder, tmp_path):
    from juanji import zoo
    from juanji.interop.modelfile import save_model
    from juanji.interop.preprocessing import Preprocessing

    model = tmp_path / "model.safetensors"
    save_model(model, zoo.create("lenet"), classes=[str(i) for i in range(10)], preprocessing=Preprocessing())
    drawn = tmp_path / "drawn.png"
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "examples" / "draw_predictions.py",
            model,
            "--data",
            folder / "data" / "MNIST" / "raw",
            "--count",
            "12",
            "--out",
            drawn,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with Image.open(drawn) as picture:
        assert picture.size[0] == 830
        assert len(picture.getcolors(1 << 24)) > 50
