"""`juanji finetune` as a person runs it: what it prints, how it fails, and going on after a stop."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from juanji.formats import container
from tune.conftest import PROGRAM

COMMON = ("--model", "tiny", "--augment", "light", "--workers", 1)


def arguments(photos, weights, *more):
    return ("finetune", photos, "--weights", weights, *COMMON, *more)


def test_pictures_to_a_model_that_predicts_and_evaluates(program, photos, weights, tmp_path):
    path = tmp_path / "out.safetensors"
    done = program(*arguments(photos, weights, "--out", path, "--json"))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["recipe"] == "head"
    assert result["model"] == str(path)
    assert result["count"] == 6
    assert 0 <= result["accuracy"] <= 1
    assert result["data"]["counts"]["bars"]["train"] == 10
    assert "36 pictures of 3 classes: 30 train, 6 val" in done.stderr
    picture = photos / "bars" / "00.png"
    found = json.loads(program("predict", path, picture, "--json").stdout)["predictions"][0]
    assert found["class"] in ("bars", "dots", "rows")
    done = program("evaluate", path, photos, "--json")
    assert json.loads(done.stdout)["count"] == 36
    assert json.loads(done.stdout)["accuracy"] > 0.6


def test_lines_for_people_and_a_default_name(program, photos, weights, tmp_path):
    done = program(*arguments(photos, weights, "--recipe", "full", "--epochs", 2), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert "saved as photos.safetensors" in done.stdout
    assert "waited for data" in done.stderr
    assert "all epoch 2/2" in done.stderr
    assert (tmp_path / "photos.safetensors").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos-report.html", "photos.safetensors"]


def test_a_report(program, photos, weights, tmp_path):
    page = tmp_path / "report.html"
    out = ("--out", tmp_path / "a.safetensors")
    done = program(*arguments(photos, weights, *out, "--report", page, "--report-images", "--language", "zh"))
    assert done.returncode == 0, done.stderr
    text = page.read_text("utf-8")
    assert 'lang="zh-Hans"' in text
    reasons = re.search(r"<h3>理由</h3><ul>(.*?)</ul>", text)[1]
    assert all(re.search("[\u4e00-\u9fff]", reason) for reason in re.findall("<li>(.*?)</li>", reasons))
    assert {"report-confusion.png", "report-calibration.png"} <= {p.name for p in tmp_path.glob("*.png")}


def test_logs(program, photos, weights, tmp_path):
    logs = tmp_path / "deep" / "logs"
    options = ("--recipe", "full", "--epochs", 3, "--logs", logs, "--json")
    done = program(*arguments(photos, weights, "--out", tmp_path / "a.safetensors", *options))
    assert done.returncode == 0, done.stderr
    history = json.loads(done.stdout)["history"]
    assert [json.loads(line) for line in (logs / "history.jsonl").read_text("utf-8").splitlines()] == history
    assert len((logs / "history.csv").read_text("utf-8").splitlines()) == 5


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--recipe", "heads"), 2, "recipe='heads'"),
        (("--budget", "soon"), 2, "--budget 'soon'"),
        (("--language", "fr"), 2, "language='fr'"),
        (("--val", "1.5"), 2, "val=1.5"),
        (("--out", "/nowhere/x.safetensors"), 2, "does not exist"),
        (("--report", "/nowhere/x.html"), 2, "--report"),
        (("--report-images", "--no-report"), 2, "--no-report leaves nothing"),
        (("--weights", "none.pth"), 1, "none.pth"),
        (("--resume", "none.safetensors"), 1, "none.safetensors"),
    ],
)
def test_one_line_for_what_is_wrong(program, photos, weights, tmp_path, more, code, said):
    done = program(*arguments(photos, weights, *more, "--json"), cwd=tmp_path)
    assert done.returncode == code, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("juanji: ")
    assert said in line
    assert json.loads(done.stdout)["error"] in line
    assert not list(tmp_path.iterdir())


def test_sets_that_cannot_be_learned(program, photos, weights, tmp_path):
    (tmp_path / "empty").mkdir()
    shutil.copytree(photos / "bars", tmp_path / "one" / "bars")
    for folder, said in (("gone", "there is none"), ("empty", "no folders"), ("one", "only the class 'bars'")):
        done = program(*arguments(tmp_path / folder, weights), cwd=tmp_path)
        assert done.returncode == 1
        assert said in done.stderr
    assert program("finetune").returncode == 2
    # Without a network at hand, one sentence says what to put where.
    done = program("finetune", photos, "--model", "vgg13", cwd=tmp_path, **NO_NETWORK)
    assert done.returncode == 1
    assert "vgg13-19584684.pth" in done.stderr.strip().splitlines()[-1]


NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")

LONG = ("--recipe", "full", "--epochs", 40, "--batch-size", 4, "--lr", 0.002, "--threads", 1)
HEAD = ("--recipe", "head", "--head", "logistic", "--epochs", 400, "--threads", 1)


def weights_of(path):
    return {name: np.asarray(value) for name, value in container.read(path)[0].items()}


STOPS = [
    pytest.param(LONG, signal.SIGINT, id="full-int"),
    pytest.param(LONG, signal.SIGTERM, id="full-term"),
    pytest.param(LONG, getattr(signal, "SIGKILL", 9), id="full-kill"),
    pytest.param(HEAD, getattr(signal, "SIGKILL", 9), id="head-kill"),
]


@pytest.fixture(scope="module")
def whole(program, photos, weights, tmp_path_factory):
    """The weights of a training that nobody stopped, by its options."""
    kept = {}

    def of(options):
        if options not in kept:
            path = tmp_path_factory.mktemp("whole") / "whole.safetensors"
            done = program(*arguments(photos, weights, *options, "--out", path))
            assert done.returncode == 0, done.stderr
            kept[options] = weights_of(path)
        return kept[options]

    return of


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("options", "number"), STOPS)
def test_a_stopped_training_goes_on_to_the_same_weights(
    program, environment, photos, weights, tmp_path, whole, options, number
):
    expected = whole(options)
    path = tmp_path / "out.safetensors"
    beside = tmp_path / "out.checkpoint.safetensors"
    given = [str(a) for a in arguments(photos, weights, *options, "--out", path)]
    process = subprocess.Popen(
        [*PROGRAM, *given], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not beside.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("it was done before it could be stopped")
    assert "Traceback" not in errors
    if number != getattr(signal, "SIGKILL", 9):
        assert process.returncode == 128 + number, errors
        assert "go on with: juanji finetune --resume" in errors
    assert beside.exists()
    assert not path.exists()
    if number == signal.SIGINT:
        more = program(*arguments(photos, weights, *options, "--out", path))
        assert more.returncode == 2
        assert "--resume" in more.stderr
        wrong = program(*arguments(photos, weights, "--seed", 9, "--out", path, "--resume"))
        assert wrong.returncode == 1
        assert "seed=9 contradicts" in wrong.stderr
    done = program("finetune", "--resume", beside)
    assert done.returncode == 0, done.stderr
    found = weights_of(path)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out-report.html", "out.safetensors"]


def test_a_checkpoint_of_other_pictures_is_refused(program, environment, photos, weights, tmp_path):
    mine = tmp_path / "photos"
    shutil.copytree(photos, mine)
    path = tmp_path / "out.safetensors"
    given = [str(a) for a in arguments(mine, weights, *LONG, "--out", path)]
    process = subprocess.Popen([*PROGRAM, *given], env=environment, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "epoch  2/40" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    beside = tmp_path / "out.checkpoint.safetensors"
    if not beside.exists():
        pytest.skip("it was done before it could be stopped")
    os.remove(mine / "bars" / "00.png")
    done = program("finetune", "--resume", beside)
    assert done.returncode == 1
    assert "another training" in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
def test_a_full_disk_is_told_and_breaks_nothing(program, photos, weights, tmp_path):
    limited = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); " \
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"  # fmt: skip
    path = tmp_path / "out.safetensors"
    path.write_text("what was there")
    given = [str(a) for a in arguments(photos, weights, "--recipe", "full", "--epochs", 2, "--out", path)]
    done = subprocess.run(
        [sys.executable, "-c", limited, PROGRAM[1], *given],
        env={**os.environ, "JUANJI_HOME": str(tmp_path / "home"), "JUANJI_CACHE": "0", "JUANJI_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "could not be written" in done.stderr  # the checkpoint, which ends nothing
    assert str(path) in done.stderr.strip().splitlines()[-1] or "large" in done.stderr.strip().splitlines()[-1]
    assert path.read_text() == "what was there"
    assert not list(tmp_path.rglob("*.tmp"))
