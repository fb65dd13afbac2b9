"""A small MNIST-like set that a LeNet learns at once, and a model trained on it by the program itself."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from juanji.data import write_idx


def shapes(count, seed):
    """Pictures of ten classes: a bright bar whose place and direction is the class, on black, with noise."""
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 10).astype(np.uint8)
    images = random.integers(0, 30, (count, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        at = 4 + 4 * (int(label) % 5)
        if label < 5:
            image[at : at + 3, 5:23] = 220
        else:
            image[5:23, at : at + 3] = 220
    return images, labels


def write_set(folder: Path, train=300, test=60, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    for stem, count, number in (("train", train, seed), ("t10k", test, seed + 1)):
        images, labels = shapes(count, number)
        write_idx(folder / f"{stem}-images-idx3-ubyte", images)
        write_idx(folder / f"{stem}-labels-idx1-ubyte", labels)
    return folder


@pytest.fixture(scope="session")
def idx_folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("idx") / "bars")


@pytest.fixture(scope="session")
def juanji(tmp_path_factory):
    """Runs the program as a person does: in a process of its own, with an empty cache."""
    home = tmp_path_factory.mktemp("home")

    def run(*arguments, cwd=None, **environment):
        env = {**os.environ, "JUANJI_HOME": str(home), "JUANJI_DEBUG": "0", "JUANJI_CACHE": "1", **environment}
        done = subprocess.run(
            [sys.executable, "-m", "juanji.cli.main", *map(str, arguments)],
            cwd=cwd,
            env=env,
            capture_output=True,
            text=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def trained(juanji, idx_folder, tmp_path_factory):
    """One training with `--json`: its process, its object, and the model's path."""
    path = tmp_path_factory.mktemp("models") / "bars.safetensors"
    done = juanji("train", "--data", idx_folder, "--epochs", 4, "--seed", 1, "--out", path, "--json")
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(done=done, result=json.loads(done.stdout), path=path)
