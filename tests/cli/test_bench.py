"""`juanji bench`."""

import json
import os

import pytest

from juanji.interop.peers import missing


def test_a_network(juanji, tmp_path):
    done = juanji("bench", "lenet", "--train", "--batch", "2", "--runs", "2", "--trace", tmp_path / "t.json", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["what"], found["mode"], found["batch"], found["threads"]) == ("lenet", "train", 2, 1)
    assert found["ms"] > 0
    assert sum(k["flops"] for k in found["profile"]["kernels"]) > 1e6
    assert json.loads((tmp_path / "t.json").read_text("utf-8"))["traceEvents"]


def test_a_convolution(juanji):
    done = juanji("bench", "16x12x12->32,k3,s2,p1", "--runs", "2")
    assert done.returncode == 0, done.stderr
    assert "16x12x12->32,k3,s2,p1, infer, batch 1, 1 thread: " in done.stdout
    assert "GFLOP/s" in done.stdout
    done = juanji("bench", "16x12x12->32,k3,p1,g2", "--train", "--runs", "2", "--json")
    labels = [k["label"] for k in json.loads(done.stdout)["profile"]["kernels"]]
    assert any("conv_weight_grad" in label for label in labels)


def test_why_a_convolution_is_computed_as_it_is(juanji):
    done = juanji("bench", "16x12x12->16,k3,p1,g16", "--runs", "2")
    assert ", depthwise " not in done.stdout
    assert " depthwise " in done.stdout
    done = juanji("bench", "16x12x12->32,k3,s2,p1", "--runs", "2", "--json")
    (kernel,) = [k for k in json.loads(done.stdout)["profile"]["kernels"] if k["flops"]]
    assert kernel["algorithm"] == "contraction"
    assert kernel["tile"].count("x") == 1
    assert ["depthwise", "one group"] in kernel["refused"]
    assert kernel["bound_seconds"] > 0


@pytest.mark.parametrize(
    ("arguments", "peers"),
    [
        (("lenet", "--train", "--batch", "2"), ("torch",)),
        (("lenet",), ("torch", "onnxruntime", "openvino")),
        (("8x9x9->8,k3,p1,g2",), ("torch", "onnxruntime", "openvino", "jax")),
        (("8x9x9->8,k3,s2", "--train"), ("torch", "jax")),
    ],
)
def test_beside_other_libraries(juanji, arguments, peers):
    here = [name for name in peers if not missing(name)]
    if not here:
        pytest.skip(f"none of {peers} is installed")
    done = juanji("bench", *arguments, "--vs", ",".join(here), "--runs", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["peers"]
    assert list(found) == here
    assert all(peer["ms"] > 0 and peer["ratio"] > 0 for peer in found.values())


def test_what_is_missing_is_one_sentence(juanji, tmp_path):
    # A module of that name that can't be found: as where it is not installed.
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = sys.modules['matplotlib'] = None\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    for option, text in (
        (("--vs", "torch"), "torch can't be raced: torch is not installed"),
        (("--roofline", "x.png"), "pictures need matplotlib"),
    ):
        done = juanji("bench", "lenet", *option, PYTHONPATH=path)
        assert (done.returncode, done.stdout) == (1, "")
        assert text in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_roofline_picture(juanji, tmp_path):
    pytest.importorskip("matplotlib")
    done = juanji("bench", "lenet", "--runs", "1", "--roofline", tmp_path / "roof.png", MPLBACKEND="agg")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "roof.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_usage(juanji):
    for arguments, text in (
        (("resnet19",), "neither a convolution"),
        (("lenet", "--vs", "caffe"), "--vs caffe: known are torch, onnxruntime, openvino, jax"),
        (("lenet", "--vs", "jax"), "--vs jax takes a convolution"),
        (("lenet", "--vs", "openvino", "--train"), "--vs openvino runs the forward pass alone"),
    ):
        done = juanji("bench", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert text in done.stderr
