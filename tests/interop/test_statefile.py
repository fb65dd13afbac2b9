"""`jj.save` and `jj.load`: what goes in comes out; what is broken is refused in one sentence."""

import contextlib
import json
import os
import random

import numpy as np
import pytest
import safetensors.numpy

import juanji as jj
from juanji.errors import DataError
from juanji.formats import container
from juanji.interop.statefile import load, save


def same(a, b):
    if isinstance(a, jj.Tensor):
        return isinstance(b, jj.Tensor) and a.dtype == b.dtype and np.array_equal(a.numpy(), b.numpy())
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and a != a:
        return b != b
    return type(a) is type(b) and a == b


def test_nested_state_round_trip(tmp_path):
    state = {
        "model": {"fc.weight": jj.rand(3, 4), "fc.bias": jj.zeros(3)},
        "optimizer": {
            "state": {0: {"step": jj.tensor(3.0), "exp_avg": jj.rand(3, 4)}, 1: {}},
            "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "nesterov": False, "params": [0, 1]}],
        },
        "epoch": 4,
        "note": "卷积",
        "nothing": None,
        "odd": [float("inf"), float("-inf"), float("nan"), -0.0],
        "numbers": np.arange(6, dtype=np.int32).reshape(2, 3),
    }
    path = tmp_path / "state.safetensors"
    save(state, path)
    assert same(state, load(path))
    assert os.listdir(tmp_path) == ["state.safetensors"]


def test_half_precision(tmp_path):
    state = {
        "h": jj.ones(2, 3).half(),
        "b": jj.arange(5).to(jj.bfloat16),
        "c": jj.tensor(2.5).to(jj.bfloat16),
        "卷": jj.ones(1),
    }
    save(state, tmp_path / "x")
    loaded = load(tmp_path / "x")
    assert [loaded[n].dtype for n in state] == [state[n].dtype for n in state]
    assert loaded["b"].float().tolist() == [0, 1, 2, 3, 4]
    assert loaded["c"].float().item() == 2.5
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    theirs = load_file(tmp_path / "x")
    assert theirs["b"].dtype is torch.bfloat16
    assert theirs["b"].tolist() == [0, 1, 2, 3, 4]
    save_file({"a": torch.ones(2, 0, 3).bfloat16(), "b": theirs["b"] * 2}, tmp_path / "y")
    loaded = load(tmp_path / "y")
    assert tuple(loaded["a"].shape) == (2, 0, 3)
    assert loaded["b"].float().tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3), (2, 0, 3)])
def test_every_dtype_and_shape(tmp_path, dtype, shape):
    array = np.ones(shape, dtype)
    save({"x": jj.from_numpy(array)}, tmp_path / "x")
    loaded = load(tmp_path / "x")["x"]
    assert loaded.dtype == getattr(jj, dtype)
    assert tuple(loaded.shape) == shape
    assert np.array_equal(loaded.numpy(), array)


def test_a_flat_state_dict_keeps_its_names_for_other_programs(tmp_path):
    save({"a.weight": jj.ones(2), "a.bias": jj.zeros(1)}, tmp_path / "x.safetensors")
    assert set(safetensors.numpy.load_file(tmp_path / "x.safetensors")) == {"a.weight", "a.bias"}


def test_views_and_transposed_tensors_are_saved_by_value(tmp_path):
    base = jj.from_numpy(np.arange(6.0, dtype=np.float32).reshape(2, 3))
    save({"t": base.t(), "row": base[1]}, tmp_path / "x")
    loaded = load(tmp_path / "x")
    assert np.array_equal(loaded["t"].numpy(), np.arange(6.0).reshape(2, 3).T)
    assert np.array_equal(loaded["row"].numpy(), [3, 4, 5])


def test_tied_tensors_stay_tied_and_clashing_names_apart(tmp_path):
    shared = jj.ones(2)
    save({"a": shared, "b": shared, "x": {"y": jj.zeros(1)}, "x.y": jj.ones(1)}, tmp_path / "x")
    loaded = load(tmp_path / "x")
    assert loaded["a"] is loaded["b"]
    assert loaded["x"]["y"].item() == 0
    assert loaded["x.y"].item() == 1


def test_files_of_other_programs_load_as_a_flat_dict(tmp_path):
    safetensors.numpy.save_file({"w": np.ones((2, 2), np.float32)}, tmp_path / "w.safetensors")
    assert np.array_equal(load(tmp_path / "w.safetensors")["w"].numpy(), np.ones((2, 2)))


@pytest.mark.parametrize("value", [object(), {"a": {1.5: 2}}, {"a": {1, 2}}, {"f": len}, {"c": 1j}])
def test_what_cannot_be_saved_is_named_and_nothing_is_written(tmp_path, value):
    with pytest.raises(TypeError):
        save(value, tmp_path / "x")
    assert os.listdir(tmp_path) == []


def test_a_circle_is_refused(tmp_path):
    state = {}
    state["self"] = state
    with pytest.raises(TypeError, match="nested"):
        save(state, tmp_path / "x")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x"
    save({"a": 1}, path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(container.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save({"a": 2}, path)
    monkeypatch.undo()
    assert load(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["x"]


def test_where_it_cannot_be_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="folder"):
        save({}, tmp_path / "no" / "x")
    with pytest.raises(IsADirectoryError):
        save({}, tmp_path)


def test_a_link_stays_a_link(tmp_path):
    save({"a": 1}, tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    save({"a": 2}, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert load(tmp_path / "real") == {"a": 2}


def raw(header: bytes, body: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + body


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"hello, this is a text file",
        b"PK\x03\x04" + bytes(100),
        b"\x80\x02}q\x00.",
        b"\x80\x04\x95" + bytes(20),
        b"\xff" * 8 + b"{}",
        (2**40).to_bytes(8, "little") + b"{}",
        raw(b"{}")[:-1],
        raw(b"{"),
        raw(b"{]"),
        raw(b"[]"),
        raw(b'{"a":1}'),
        raw(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(7)),
        raw(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(9)),
        raw(b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}', bytes(8)),
        raw(b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}', bytes(8)),
        raw(b'{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}', bytes(8)),
        raw(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}', bytes(8)),
        raw(b'{"a":{"dtype":"X99","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
        raw(b'{"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}', bytes(8)),
        raw(b'{"__metadata__":{"juanji":"{not json"}}'),
        raw(b'{"__metadata__":{"juanji":"NaN"}}'),
        raw(json.dumps({"__metadata__": {"juanji": "[" * 100_000}}).encode()),
    ],
    ids=range(24),
)
def test_hostile_files(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load(tmp_path / "none")
    with pytest.raises(DataError, match="folder"):
        load(tmp_path)


@pytest.mark.parametrize(
    "structure",
    [
        None,
        [],
        {},
        {"tensor": "b"},
        {"tensor": ["a"]},
        {"tensor": "a", "value": 1},
        {"array": None},
        {"value": {"a": 1}},
        {"float": "1"},
        {"float": []},
        {"dict": {"a": 1}},
        {"dict": [["a"]]},
        {"dict": [["a", {"value": 1}], ["a", {"value": 2}]]},
        {"dict": [[[1], {"value": 1}]]},
        {"list": 3},
        {"import os": 1},
    ],
)
def test_lying_descriptions(tmp_path, structure):
    path = tmp_path / "x"
    container.write(
        path, {"a": np.ones(2, np.float32)}, {"format": "juanji.state", "version": 1, "structure": structure}
    )
    with pytest.raises(DataError):
        load(path)


def test_a_newer_format_is_refused(tmp_path):
    container.write(tmp_path / "x", {}, {"format": "juanji.state", "version": 2, "structure": {"value": 1}})
    with pytest.raises(DataError, match="format 2"):
        load(tmp_path / "x")


def test_deep_descriptions_are_refused(tmp_path):
    structure: object = {"value": 1}
    for _ in range(200):
        structure = {"list": [structure]}
    container.write(tmp_path / "x", {}, {"format": "juanji.state", "version": 1, "structure": structure})
    with pytest.raises(DataError, match="nested"):
        load(tmp_path / "x")


def test_mutated_and_truncated_files_never_do_worse_than_a_data_error(tmp_path):
    path = tmp_path / "x"
    save({"a": jj.rand(4, 3), "b": [1, {"c": jj.zeros(2)}]}, path)
    good = path.read_bytes()
    draw = random.Random(5)
    for size in range(len(good)):
        path.write_bytes(good[:size])
        with pytest.raises(DataError):
            load(path)
    for _ in range(400):
        bad = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            bad[draw.randrange(len(bad))] = draw.randrange(256)
        path.write_bytes(bad)
        with contextlib.suppress(DataError):
            load(path)
