"""What does it cost to start: importing, `juanji --help`, and how much is installed?

Every start is a new process, in turns. Sizes are those of the installed files of a package and of everything it
needs, read from this environment, or with --fresh from a new one made with pip (downloads about 90 MB).

    python benchmarks/start_up.py [--fresh] [--quick]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from pathlib import Path
from typing import Any

import race

#: name -> (package it needs, program)
STARTS = {
    "python, nothing imported": ("", "pass"),
    "import numpy": ("numpy", "import numpy"),
    "import juanji": ("juanji", "import juanji"),
    "import juanji, all loaded": ("juanji", "import juanji as jj; jj.Tensor, jj.nn.Conv2d, jj.optim.SGD, jj.compile"),
    "juanji --help": ("typer", "import sys; sys.argv = ['juanji', '--help']; from juanji.cli.main import main; main()"),
    "import torch": ("torch", "import torch"),
    "import jax.numpy": ("jax", "import jax.numpy"),
    "import tensorflow": ("tensorflow", "import tensorflow"),
}


def seconds(program: str) -> float:
    """Seconds that a new process takes."""
    path = os.pathsep.join([str(race.ROOT / "src"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **race.KEPT_MODULES, **race.ONE_THREAD, "PYTHONPATH": path},
    )
    return time.perf_counter() - begin


def requirements(names: list[str]) -> set[str]:
    """These packages and all they need here, without extras."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.split(r"[^A-Za-z0-9._-]", waiting.pop().strip())[0]
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in found:
            continue
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another system or Python
        found.add(key)
        waiting += [need.split(";")[0] for need in needs if "extra ==" not in need]
    return found


def size_of(name: str) -> int:
    """Bytes of a package's installed files, compiled Python files included."""
    total = 0
    for file in importlib.metadata.files(name) or []:
        path = Path(str(file.locate()))
        if path.is_file():
            total += path.stat().st_size
    return total


def tree_size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def sizes() -> dict[str, dict[str, float]]:
    """Megabytes of Juanji and of PyTorch with all they need: package -> part -> size."""
    project = tomllib.loads((race.ROOT / "pyproject.toml").read_text())["project"]
    sets = {"Juanji": project["dependencies"]}
    if race.installed("torch"):
        sets["PyTorch (CPU build)"] = ["torch", "numpy"]
    result = {}
    for label, names in sets.items():
        parts = {name: size_of(name) / 1e6 for name in sorted(requirements(names))}
        if label == "Juanji":
            parts["juanji"] = tree_size(race.ROOT / "src" / "juanji") / 1e6
        result[label] = parts
    return result


def fresh_size() -> float:
    """Megabytes that `pip install` of this project adds to a new environment."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        before = tree_size(Path(folder))
        python = str(Path(folder) / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "-q", str(race.ROOT)], check=True)
        return (tree_size(Path(folder)) - before) / 1e6


def measure(quick: bool = False, fresh: bool = False) -> dict[str, Any]:
    """Medians of start times, and sizes."""
    programs = {
        name: program
        for name, (package, program) in STARTS.items()
        if not package or package == "juanji" or race.installed(package)
    }
    for program in programs.values():
        seconds(program)  # files into the system's cache, .pyc files written
    times: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(3 if quick else 9):
        for name, program in programs.items():
            if turn < 3 or name not in ("import tensorflow", "import jax.numpy"):
                times[name].append(seconds(program))
    result: dict[str, Any] = {"seconds": {name: statistics.median(t) for name, t in times.items()}, "sizes": sizes()}
    for key, name in (("added", "import juanji"), ("added_all", "import juanji, all loaded")):
        result[key] = statistics.median(b - a for a, b in zip(times["import numpy"], times[name], strict=True))
    if fresh:
        result["fresh"] = fresh_size()
    race.note(", ".join(f"{name} {s:.2f} s" for name, s in result["seconds"].items()))
    return result


def losses(result: dict[str, Any]) -> list[str]:
    """Where a peer starts faster."""
    ours = result["seconds"]["import juanji, all loaded"]
    peers = [name for name in result["seconds"] if name in ("import torch", "import jax.numpy", "import tensorflow")]
    return [
        f"`import juanji` and its parts: {ours:.2f} s, `{name}` {result['seconds'][name]:.2f} s."
        for name in peers
        if result["seconds"][name] < ours
    ]


def markdown(result: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    rows = [[name, f"{seconds:.2f}"] for name, seconds in result["seconds"].items()]
    text = (
        "## Starting and installing\n\nA new process each time, medians, files in the system's cache. "
        f"Against `import numpy`, `import juanji` takes {result['added']:+.2f} s, and {result['added_all']:+.2f} s "
        "with its parts loaded, which happens when they are first used.\n\n"
        + race.table(["start", "seconds"], rows)
        + "\n\nInstalled size, with everything needed:\n\n"
    )
    rows = []
    for label, parts in result["sizes"].items():
        largest = sorted(parts, key=lambda name: -parts[name])[:4]
        rows.append([label, f"{sum(parts.values()):.0f}", ", ".join(f"{name} {parts[name]:.1f}" for name in largest)])
    text += race.table(["package", "MB", "largest parts"], rows) + "\n"
    if "fresh" in result:
        text += f"\n`pip install` into a new environment added {result['fresh']:.0f} MB.\n"
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--fresh", action="store_true", help="also install into a new environment")
    parser.add_argument("--quick", action="store_true", help="three starts each")
    given = parser.parse_args()
    measured = measure(given.quick, given.fresh)
    print(markdown(measured))
    print("\n".join(losses(measured)))
