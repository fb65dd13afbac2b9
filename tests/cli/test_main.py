"""The program as a whole: help, version, doctor, data, light imports, errors, pipes and Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

import juanji as jj
from juanji.cli import output
from juanji.cli.main import app
from juanji.runtime import system

COMMANDS = ("train", "predict", "evaluate", "doctor", "data")


def test_help_names_every_command_and_option():
    runner = CliRunner()
    text = runner.invoke(app, ["--help"]).stdout
    assert all(name in text for name in COMMANDS)
    for name in (*COMMANDS[:4], "data list", "data get", "data path", "data scan"):
        result = runner.invoke(app, [*name.split(), "--help"])
        assert result.exit_code == 0
        assert "--json" in result.stdout
    for option in ("--data", "--epochs", "--batch-size", "--lr", "--seed", "--threads", "--out"):
        assert option in runner.invoke(app, ["train", "--help"]).stdout
    assert "white on black" in " ".join(runner.invoke(app, ["predict", "--help"]).stdout.split())


def test_version(juanji):
    assert juanji("--version").stdout == f"juanji {jj.__version__}\n"


def test_help_imports_nothing_heavy():
    heavy = ["numpy", "llvmlite", "PIL", "rich.progress", "rich.markdown", "torch", "safetensors"]
    code = f"import sys, juanji.cli.main; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["data", "nonsense"], ["data", "get", "cifar"]])
def test_wrong_usage(juanji, arguments):
    done = juanji(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""


def test_doctor(juanji):
    done = juanji("doctor", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["problem"] is None
    assert found["target"]["name"] in found["target"]["available"]
    assert found["threads"]["allowed"] >= 1
    assert found["threads"]["why"]
    assert {"python", "numpy", "llvmlite", "llvm"} <= set(found["versions"])
    assert found["cache"]["set_by"] == "JUANJI_HOME"
    text = juanji("doctor").stdout
    for word in ("processor", "target", "threads", "affinity", "cgroup", "numpy", "cache"):
        assert word in text


def test_the_cache_of_kernels_is_shown_and_cleared(juanji, tmp_path):
    home = {"JUANJI_HOME": str(tmp_path)}
    assert juanji("doctor", **home).returncode == 0  # it tries a first kernel
    found = json.loads(juanji("doctor", "--json", **home).stdout)["kernels"]
    assert found["folder"] == str(tmp_path / "kernels")
    assert found["problem"] is None
    assert found["files"] > 0 < found["bytes"]
    (tmp_path / "data").mkdir()
    removed = json.loads(juanji("doctor", "--clear-cache", "--json", **home).stdout)
    assert removed["files"] == found["files"]
    assert list((tmp_path / "kernels").iterdir()) == []
    assert (tmp_path / "data").is_dir()
    assert "0 files" in juanji("doctor", "--clear-cache", **home).stdout
    assert "off" in juanji("doctor", JUANJI_CACHE="0", **home).stdout


def test_doctor_with_a_target_that_is_not_there(juanji):
    done = juanji("doctor", "--json", JUANJI_TARGET="abacus")
    assert done.returncode == 1
    assert "abacus" in json.loads(done.stdout)["problem"]
    assert "abacus" in done.stderr


def test_data_commands_with_a_set_that_is_there(juanji, idx_folder, tmp_path):
    folder = tmp_path / "data" / "mnist"
    folder.parent.mkdir()
    folder.symlink_to(idx_folder)
    home = {"JUANJI_HOME": str(tmp_path)}
    listed = {d["name"]: d for d in json.loads(juanji("data", "list", "--json", **home).stdout)["datasets"]}
    assert {"mnist", "fashion-mnist"} <= set(listed)
    assert listed["mnist"]["here"]
    assert json.loads(juanji("data", "path", "mnist", "--json", **home).stdout) == {
        "name": "mnist",
        "folder": str(folder),
    }
    assert juanji("data", "path", "mnist", **home).stdout == f"{folder}\n"
    assert json.loads(juanji("data", "get", "mnist", "--json", **home).stdout)["folder"] == str(folder)
    assert str(folder) in juanji("data", "list", **home).stdout


def test_data_path_of_a_set_that_is_not_there(juanji):
    done = juanji("data", "path", "mnist", "--json")
    assert done.returncode == 1
    assert "put" in json.loads(done.stdout)["error"]


def test_a_debug_level_shows_the_traceback(idx_folder, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "juanji.cli.main", "predict", str(tmp_path / "none"), "x.png"],
        env={**os.environ, "JUANJI_DEBUG": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_reader_that_goes_away(idx_folder):
    process = subprocess.Popen(
        [sys.executable, "-m", "juanji.cli.main", "data", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 1
    assert errors == ""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_stops_without_a_traceback_and_leaves_a_checkpoint(idx_folder, tmp_path):
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "juanji.cli.main", "train", "--data", str(idx_folder)),
            *("--epochs", "100000", "--out", str(tmp_path / "m.safetensors")),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if line.startswith("epoch"):
            break
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("juanji: stopped (epoch ")
    assert os.listdir(tmp_path) == ["m.checkpoint.safetensors"]


def test_cgroup_quota(tmp_path):
    own = tmp_path / "self"
    own.write_text("0::/a/b\n")
    assert system.cgroup_quota(tmp_path, own) is None
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "cpu.max").write_text("max 100000\n")
    assert system.cgroup_quota(tmp_path, own) is None
    (tmp_path / "a" / "cpu.max").write_text("150000 100000\n")
    assert system.cgroup_quota(tmp_path, own) == 1.5
    (tmp_path / "cpu.max").write_text("broken")
    assert system.cgroup_quota(tmp_path, own) == 1.5


def test_cgroup_quota_of_version_1(tmp_path):
    own = tmp_path / "self"
    own.write_text("4:cpu,cpuacct:/job\n1:name=systemd:/\n")
    folder = tmp_path / "cpu" / "job"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_period_us").write_text("100000")
    (folder / "cpu.cfs_quota_us").write_text("-1")
    assert system.cgroup_quota(tmp_path, own) is None
    (folder / "cpu.cfs_quota_us").write_text("200000")
    assert system.cgroup_quota(tmp_path, own) == 2


def test_errors_become_one_line():
    assert output.one_line(MemoryError()) == "there is not enough memory"
    assert output.one_line(PermissionError(13, "Permission denied", "/x")) == "/x: Permission denied"
    assert output.one_line(ValueError("a\n  b")) == "a b"
    assert output.one_line(KeyError()) == "KeyError"
