"""Pictures, weights and the program for the tests of fine-tuning."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from juanji import zoo
from tune import tiny


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    return tiny.pictures(tmp_path_factory.mktemp("photos") / "photos")


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    return str(tiny.weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors"))


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch):
    monkeypatch.setitem(zoo.registry._registry, "tiny", tiny.ENTRY)


@pytest.fixture(autouse=True)
def own_features(tmp_path, monkeypatch):
    """Each test has a cache of features of its own."""
    monkeypatch.setattr("juanji.tune.features.features_dir", lambda: tmp_path / "features")
    return tmp_path / "features"


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """Of a process of its own: with an empty cache."""
    home = tmp_path_factory.mktemp("home")
    return {**os.environ, "JUANJI_HOME": str(home), "JUANJI_DEBUG": "0", "JUANJI_THREADS": "1"}


PROGRAM = [sys.executable, str(Path(__file__).parent / "tiny.py")]


@pytest.fixture(scope="session")
def program(environment):
    """Runs `juanji` with the tiny network, as a person does."""

    def run(*arguments, cwd=None, **more):
        done = subprocess.run(
            [*PROGRAM, *map(str, arguments)],
            cwd=cwd,
            env={**environment, **more},
            capture_output=True,
            text=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run
