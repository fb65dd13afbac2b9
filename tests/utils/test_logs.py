"""Logs: whole rows whatever happens, and the same rows read as were written."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import juanji as jj
from juanji.errors import DataError
from juanji.utils.logs import CSVLog, JSONLog, open_log

ROWS = [
    {"epoch": 1, "loss": 0.5, "phase": "head"},
    {"epoch": 2, "loss": None, "phase": 'a "quoted", 卷积\nline', "accuracy": 0.75},
    {"epoch": 3, "loss": 1e-7, "phase": "all", "accuracy": 1.0},
]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_rows_come_back(tmp_path, suffix):
    with open_log(tmp_path / f"log.{suffix}") as log:
        for row in ROWS[:2]:
            log.write(row)
    with open_log(tmp_path / f"log.{suffix}") as log:  # goes on
        log.write(ROWS[2])
        found = log.rows()
    for mine, wanted in zip(found, ROWS, strict=True):
        assert {k: v for k, v in mine.items() if v is not None} == {k: v for k, v in wanted.items() if v is not None}
    with open_log(tmp_path / f"log.{suffix}", append=False) as log:
        assert log.rows() == []


def test_other_programs_read_them(tmp_path):
    for suffix in ("csv", "jsonl"):
        with open_log(tmp_path / f"log.{suffix}") as log:
            for row in ROWS:
                log.write(row)
    with (tmp_path / "log.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["epoch", "loss", "phase", "accuracy"]
    assert [row["phase"] for row in table] == [row["phase"] for row in ROWS]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text("utf-8").splitlines()]
    assert lines == ROWS


def test_values(tmp_path):
    row = {
        "a": np.float32(0.5),
        "b": jj.tensor(3),
        "c": float("nan"),
        "d": [1, 2],
        "e": True,
        "f": np.int64(7),
        "g": float("inf"),
    }
    with JSONLog(tmp_path / "x.jsonl") as log:
        log.write(row)
    assert json.loads((tmp_path / "x.jsonl").read_text()) == {
        "a": 0.5,
        "b": 3,
        "c": None,
        "d": "[1, 2]",
        "e": True,
        "f": 7,
        "g": None,
    }


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_every_cut_leaves_whole_rows(tmp_path, suffix):
    path = tmp_path / f"log.{suffix}"
    with open_log(path) as log:
        for row in ROWS:
            log.write(row)
        whole = log.rows()
    content = path.read_bytes()
    counts = set()
    for size in [*range(0, len(content), 3), len(content)]:
        path.write_bytes(content[:size])
        with open_log(path) as log:
            found = log.rows()
            assert found == whole[: len(found)]
            counts.add(len(found))
            log.write(ROWS[0])
            assert log.rows()[-1]["epoch"] == 1
            assert len(log.rows()) == len(found) + 1
    assert counts == {0, 1, 2, 3}


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_what_will_be_done_again_is_taken_away(tmp_path, suffix):
    with open_log(tmp_path / f"log.{suffix}") as log:
        for row in ROWS:
            log.write(row)
        log.keep(lambda row: row["epoch"] < 2)
        log.write(ROWS[2])
        assert [row["epoch"] for row in log.rows()] == [1, 3]


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    log = JSONLog(tmp_path / "log.jsonl")
    log.write(ROWS[0])
    write = os.write

    def full(file, data):
        write(file, data[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        log.write(ROWS[1])
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:5]))
    with pytest.raises(OSError, match="disk is full"):
        log.write(ROWS[1])
    monkeypatch.undo()
    assert log.rows() == ROWS[:1]
    log.write(ROWS[2])
    assert log.rows() == [ROWS[0], ROWS[2]]


def test_a_killed_program_leaves_whole_rows(tmp_path):
    code = (
        "import sys; from juanji.utils.logs import CSVLog; log = CSVLog(sys.argv[1])\n"
        "for i in range(10**6):\n    log.write({'step': i, 'text': 'x' * 50})\n    print(i, flush=True)"
    )
    path = tmp_path / "log.csv"
    program = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    for line in program.stdout:
        if int(line) >= 20:
            break
    program.send_signal(signal.SIGKILL)
    program.communicate()
    with CSVLog(path) as log:
        steps = [row["step"] for row in log.rows()]
    assert steps == list(range(len(steps)))
    assert len(steps) > 20


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.csv or \.jsonl"):
        open_log(tmp_path / "log.txt")
    for suffix in ("csv", "jsonl"):
        log = open_log(tmp_path / f"log.{suffix}")
        log.close()
        log.close()
        with pytest.raises(ValueError, match="closed"):
            log.write({"a": 1})
    (tmp_path / "bad.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match="no object"):
        open_log(tmp_path / "bad.jsonl").rows()
    (tmp_path / "bad.jsonl").write_text("{\n")
    with pytest.raises(DataError, match="no log of JSON lines"):
        open_log(tmp_path / "bad.jsonl").rows()
