"""Model files: a model comes back as it was saved, and a file that lies is refused in one sentence."""

import contextlib
import json
import os
import random

import numpy as np
import pytest

import juanji as jj
from juanji import zoo
from juanji.errors import DataError
from juanji.formats import container
from juanji.interop.modelfile import load_model, save_model
from juanji.interop.preprocessing import Preprocessing
from juanji.interop.statefile import load

CLASSES = [str(n) for n in range(10)]


def write(path, **changes):
    jj.manual_seed(3)
    model = zoo.create("lenet", num_classes=10)
    save_model(
        path,
        model,
        **{
            "classes": CLASSES,
            "preprocessing": Preprocessing(mean=(0.13,), std=(0.3,)),
            "metrics": {"accuracy": 0.98},
            "metadata": {"seed": 3, "dataset": "mnist"},
            **changes,
        },
    )
    return model


def forged(path, **changes):
    """A valid model file with some entries of its description replaced (or, with ..., left out)."""
    write(path)
    arrays, description = container.read(path)
    for name, value in changes.items():
        if value is ...:
            del description[name]
        else:
            description[name] = value
    container.write(path, arrays, description)


def refused(path):
    with pytest.raises(DataError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_round_trip(tmp_path):
    path = tmp_path / "m.safetensors"
    model = write(path)
    loaded = load_model(path)
    assert loaded.classes == tuple(CLASSES)
    assert loaded.preprocessing == Preprocessing(mean=(0.13,), std=(0.3,))
    assert loaded.metrics == {"accuracy": 0.98}
    assert loaded.metadata == {"seed": 3, "dataset": "mnist"}
    assert loaded.architecture == "lenet"
    assert set(loaded.versions) == {"juanji", "python", "numpy"}
    assert not loaded.model.training
    model.eval()
    x = jj.rand(2, 1, 28, 28)
    with jj.no_grad():
        assert np.array_equal(model(x).numpy(), loaded.model(x).numpy())
    assert os.listdir(tmp_path) == ["m.safetensors"]


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_the_bytes(tmp_path, kind):
    jj.manual_seed(3)
    model = zoo.create("resnet18", num_classes=2).to(getattr(jj, kind))
    for name in ("half", "whole"):
        model = model.float() if name == "whole" else model
        save_model(
            tmp_path / name,
            model,
            classes=["a", "b"],
            preprocessing=Preprocessing((32, 32), "RGB", (0.5,) * 3, (0.5,) * 3),
        )
    assert 0.49 < (tmp_path / "half").stat().st_size / (tmp_path / "whole").stat().st_size < 0.51
    loaded = load_model(tmp_path / "half").model
    for name, value in model.state_dict().items():
        found = loaded.state_dict()[name]
        assert found.dtype is value.dtype, name
        np.testing.assert_array_equal(found.numpy(), value.numpy())
    kinds = {str(v.dtype) for v in load(tmp_path / "half").values()}
    assert kinds == {f"juanji.{kind}", "juanji.int64"}


def test_loading_draws_no_random_numbers(tmp_path):
    path = tmp_path / "m.safetensors"
    write(path)
    jj.manual_seed(5)
    expected = jj.rand(3).tolist()
    jj.manual_seed(5)
    load_model(path)
    assert jj.rand(3).tolist() == expected
    assert float(jj.nn.Linear(50, 50).weight.abs().max()) > 0.1, "and other networks are drawn again"


def test_load_of_a_model_file_is_its_state_dict(tmp_path):
    model = write(tmp_path / "m")
    state = load(tmp_path / "m")
    assert set(state) == set(model.state_dict())
    model.load_state_dict(state)


def test_the_file_is_plain_safetensors_with_json(tmp_path):
    import safetensors

    write(tmp_path / "m")
    with safetensors.safe_open(str(tmp_path / "m"), "numpy") as file:
        description = json.loads(file.metadata()["juanji"])
    assert description["architecture"] == "lenet"
    assert description["classes"] == CLASSES


def test_saving_what_makes_no_sense(tmp_path):
    path = tmp_path / "m"
    with pytest.raises(TypeError, match="not a registered architecture"):
        save_model(path, jj.nn.Linear(2, 2), classes=["a", "b"], preprocessing=Preprocessing())
    with pytest.raises(ValueError, match="twice"):
        write(path, classes=["a", "a"])
    with pytest.raises(TypeError):
        write(path, metadata={"x": object()})
    with pytest.raises(TypeError):
        write(path, metrics={"loss": float("nan")})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "not a model"),
        ({"format": ...}, "not a model"),
        ({"version": 99}, "format '99'"),
        ({"architecture": "resnet9000"}, "unknown"),
        ({"architecture": 3}, "architecture"),
        ({"architecture": ...}, "architecture"),
        ({"arguments": []}, "arguments"),
        ({"arguments": {"num_classes": 11}}, "shape"),
        ({"arguments": {"num_classes": 10**12}}, "does not fit"),
        ({"arguments": {"num_classes": -1}}, "cannot load"),
        ({"arguments": {"num_classes": "ten"}}, "cannot load"),
        ({"arguments": {"num_classes": {"a": 1}}}, "plain"),
        ({"arguments": {"nonsense": 1}}, "can't be built"),
        ({"classes": []}, "classes"),
        ({"classes": "0123456789"}, "classes"),
        ({"classes": list(range(10))}, "classes"),
        ({"classes": CLASSES[:9]}, "9 classes"),
        ({"classes": ["a"] * 10}, "twice"),
        ({"preprocessing": {}}, "preprocessing"),
        ({"preprocessing": ...}, "preprocessing"),
        ({"preprocessing": {**Preprocessing().to_json(), "size": [32, 32]}}, "32x32"),
        ({"preprocessing": {**Preprocessing().to_json(), "std": [0]}}, "std"),
        ({"metrics": 3}, "metrics"),
        ({"versions": None}, "versions"),
        ({"metadata": "x"}, "metadata"),
    ],
)
def test_lying_descriptions(tmp_path, changes, message):
    forged(tmp_path / "m", **changes)
    assert message in refused(tmp_path / "m")


@pytest.mark.parametrize("description", [None, [], 3, "juanji.model"])
def test_descriptions_that_are_none(tmp_path, description):
    write(tmp_path / "m")
    arrays, _ = container.read(tmp_path / "m")
    container.write(tmp_path / "m", arrays, description)
    assert "not a model" in refused(tmp_path / "m")


def test_weights_that_do_not_fit(tmp_path):
    path = tmp_path / "m"
    write(path)
    arrays, description = container.read(path)
    name = min(arrays)

    def tried(changed):
        container.write(path, changed, description)
        return refused(path)

    assert "missing" in tried({k: v for k, v in arrays.items() if k != name})
    assert "lacks" in tried({**arrays, "extra": np.zeros(1, np.float32)})
    assert "shape" in tried({**arrays, name: np.zeros((2, *arrays[name].shape), np.float32)})
    assert "type" in tried({**arrays, name: arrays[name].astype(np.float64)})
    assert "type" in tried({**arrays, name: arrays[name].astype(np.uint8)})


def test_truncations_and_mutations(tmp_path):
    path = tmp_path / "m"
    write(path)
    good = path.read_bytes()
    draw = random.Random(7)
    header = 8 + int.from_bytes(good[:8], "little")
    for size in [*range(0, header, 7), *(draw.randrange(header, len(good)) for _ in range(20))]:
        path.write_bytes(good[:size])
        refused(path)
    for _ in range(150):
        bad = bytearray(good)
        bad[draw.randrange(header)] = draw.randrange(256)
        path.write_bytes(bad)
        with contextlib.suppress(DataError):
            load_model(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "none")
