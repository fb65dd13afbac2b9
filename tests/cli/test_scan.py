"""`juanji data scan`."""

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def pictures(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for i in range(2):
            Image.fromarray(np.full((3, 4), 100 * i + len(label), np.uint8)).save(tmp_path / label / f"{i}.png")
    (tmp_path / "dog" / "bad.png").write_bytes(b"no picture")
    return tmp_path


def test_a_report_and_its_json(juanji, pictures):
    done = juanji("data", "scan", pictures)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 pictures, 2 classes" in done.stdout
    assert "dog/bad.png: expected a picture" in done.stdout
    done = juanji("data", "scan", pictures, "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["counts"] == {"cat": {"all": 2}, "dog": {"all": 2}}
    assert [p["name"] for p in found["problems"]] == ["dog/bad.png"]
    assert len(found["duplicates"]) == 2


def test_a_folder_that_is_none(juanji, tmp_path):
    done = juanji("data", "scan", tmp_path / "none", "--json")
    assert done.returncode == 1
    assert "there is none" in json.loads(done.stdout)["error"]
    assert done.stderr.startswith("juanji: ")
    assert done.stderr.count("\n") == 1
    assert juanji("data", "scan").returncode == 2
