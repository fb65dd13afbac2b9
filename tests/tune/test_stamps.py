"""`juanji finetune` from real photographs to a report, where Debian's stamps are installed and weights can be had."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from juanji import zoo
from juanji.errors import DataError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder for each class."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("stamps", BENCHMARKS / "stamps.py")
        stamps = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(stamps)
    finally:
        sys.path.remove(str(BENCHMARKS))
    if not stamps.FOLDER.is_dir():
        pytest.skip("tuxpaint-stamps-default is not installed")
    try:
        zoo.create("efficientnet_lite0", pretrained=True)
    except (DataError, OSError) as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("stamps") / "photos"
    assert stamps.photographs(stamps.FOLDER, folder) == 211
    return folder


def juanji(*arguments, cwd):
    command = [sys.executable, "-m", "juanji.cli.main", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_photographs_to_a_model_and_a_report(photographs, tmp_path):
    text = juanji("finetune", photographs, "--model", "efficientnet_lite0", "--json", cwd=tmp_path)
    found = json.loads(text)
    assert found["recipe"] == "head"
    assert found["count"] == 42
    assert found["accuracy"] > 0.78  # 89% in the mean of splits; of 42 pictures, two standard errors less
    page = (tmp_path / "photos-report.html").read_text("utf-8")
    assert all(name in page for name in found["classes"])
    assert len(re.findall("data:image/", page)) > 10  # thumbnails and what the network looked at
    birds = sorted((photographs / "birds").iterdir())[:5]
    told = json.loads(juanji("predict", "photos.safetensors", *birds, "--json", cwd=tmp_path))["predictions"]
    assert sum(row["class"] == "birds" for row in told) >= 4
    whole = json.loads(juanji("evaluate", "photos.safetensors", photographs, "--json", cwd=tmp_path))
    assert whole["count"] == 211
    assert whole["accuracy"] > 0.9  # most of them it has learned from
