"""`juanji bench`."""

import json


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


def test_wrong_usage(juanji):
    for arguments, text in (
        (("resnet19",), "neither a convolution"),
        (("lenet", "--vs", "jax"), "only torch is known"),
        (("lenet", "--vs", "torch"), "takes a convolution"),
    ):
        done = juanji("bench", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert text in done.stderr
