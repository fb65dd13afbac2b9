"""`juanji train`, end to end in a process of its own."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from juanji.interop.modelfile import load_model


def test_json_is_one_object_and_progress_goes_to_standard_error(trained):
    result = trained.result
    assert trained.done.stdout.count("\n") == 1
    assert result["accuracy"] > 0.9
    assert result["count"] == 60
    assert result["model"] == str(trained.path)
    assert result["steps"] == 4 * 10
    assert result["seed"] == 1
    assert result["dataset"] == "bars"
    assert result["train_count"] == 300
    assert result["seconds"] >= result["seconds_compiling"] >= 0
    assert result["seconds"] >= result["seconds_waiting"] >= 0
    assert set(result["per_class"]) == set("0123456789")
    assert all(set(c) == {"accuracy", "count"} for c in result["per_class"].values())
    lines = [line for line in trained.done.stderr.splitlines() if line.startswith("epoch")]
    assert len(lines) == 4
    assert "loss" in lines[0]
    assert "images/s" in lines[0]


def test_the_model_file_says_all(trained):
    loaded = load_model(trained.path)
    assert loaded.architecture == "lenet"
    assert loaded.classes == tuple("0123456789")
    assert loaded.preprocessing.size == (28, 28)
    assert loaded.preprocessing.background == "dark"
    assert loaded.metrics["accuracy"] == pytest.approx(trained.result["accuracy"], abs=1e-6)
    assert loaded.metadata["dataset"] == "bars"
    assert loaded.metadata["recipe"]["seed"] == 1
    assert loaded.metadata["recipe"]["epochs"] == 4


def test_the_same_seed_gives_the_same_model(juanji, idx_folder, trained, tmp_path):
    again = tmp_path / "again.safetensors"
    done = juanji("train", "--data", idx_folder, "--epochs", 4, "--seed", 1, "--out", again, "--json")
    assert json.loads(done.stdout)["loss"] == trained.result["loss"]
    a, b = load_model(trained.path).model.state_dict(), load_model(again).model.state_dict()
    assert all((a[name].numpy() == b[name].numpy()).all() for name in a)


def test_without_json_there_is_a_closing_table_and_a_default_name(juanji, idx_folder, tmp_path):
    done = juanji(
        *("train", "--data", idx_folder, "--epochs", 1, "--batch-size", 64, "--lr", 0.003, "--threads", 1),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert os.listdir(tmp_path) == ["bars-lenet.safetensors"]
    for words in ("class", "accuracy", "compiling", "training", "waiting for data", "bars-lenet.safetensors"):
        assert words in done.stdout


def test_threads_are_as_many_as_asked(idx_folder):
    code = """
        import sys, juanji
        def stop(number):
            sys.exit(f"asked for {number}")
        juanji.set_num_threads = stop
        from juanji.cli.main import main
        main()
        """
    arguments = ["train", "--data", str(idx_folder), "--threads", "3"]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, timeout=120
    )
    assert "asked for 3" in done.stderr


def test_class_names_of_a_known_set_with_own_files(juanji, idx_folder, tmp_path):
    out = tmp_path / "f.safetensors"
    done = juanji(
        *("train", "fashion-mnist", "--data", idx_folder, "--epochs", 1, "--out", out, "--json"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert load_model(out).classes[1] == "Trouser"
    assert not load_model(out).preprocessing.center_ink


@pytest.mark.parametrize(
    "arguments",
    [
        ["cifar"],
        [],
        ["mnist", "--epochs", "0"],
        ["mnist", "--epochs", "many"],
        ["mnist", "--batch-size", "-1"],
        ["mnist", "--lr", "0"],
        ["mnist", "--lr", "nan"],
        ["mnist", "--seed", "-1"],
        ["mnist", "--threads", "0"],
        ["mnist", "--nonsense"],
        ["mnist", "--out", "/no/such/folder/m.safetensors"],
        ["mnist", "--out", "."],
        ["--data", "/no/such/folder"],
    ],
)
def test_wrong_usage(juanji, arguments, tmp_path):
    done = juanji("train", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr
    assert os.listdir(tmp_path) == []


def test_errors_are_one_line_and_with_json_one_object(juanji, tmp_path):
    done = juanji("train", "--data", tmp_path, "--json")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert str(tmp_path) in json.loads(done.stdout)["error"]
    done = juanji("train", "cifar", "--json")
    assert done.returncode == 2
    assert "cifar" in json.loads(done.stdout)["error"]


def test_a_diverging_training_leaves_no_file(juanji, idx_folder, tmp_path):
    out = tmp_path / "m.safetensors"
    done = juanji("train", "--data", idx_folder, "--epochs", 2, "--lr", "1e30", "--out", out)
    assert done.returncode == 1
    assert "learning rate" in done.stderr
    assert os.listdir(tmp_path) == []
