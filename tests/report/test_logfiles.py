"""Logs of a whole fine-tuning: other programs read back what the outcome says."""

import csv
import json

import numpy as np
import pytest

from juanji.report import log
from report.sample import outcome


def test_tables(tmp_path):
    made = outcome(tmp_path / "pictures")
    made.history[0]["val_loss"] = float("nan")
    for _ in range(2):  # again replaces
        written = log(made, tmp_path / "deep" / "logs", ["csv", "jsonl"])
    assert [p.name for p in written] == ["history.csv", "history.jsonl"]
    assert {p.name for p in (tmp_path / "deep" / "logs").iterdir()} == {"history.csv", "history.jsonl"}
    rows = [json.loads(line) for line in written[1].read_text("utf-8").splitlines()]
    assert rows[0]["val_loss"] is None
    assert rows[1:] == made.history[1:]
    with written[0].open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [float(row["train_loss"]) for row in table] == [row["train_loss"] for row in made.history]


def test_tensorboard_opens_it(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    made = outcome(tmp_path / "pictures")
    log(made, tmp_path / "runs", ["tensorboard"])
    found = events.EventAccumulator(str(tmp_path / "runs"), {"scalars": 0, "images": 0, "histograms": 0, "tensors": 0})
    found.Reload()
    losses = found.Scalars("loss/train")
    assert [e.step for e in losses] == list(range(1, 9))
    np.testing.assert_allclose([e.value for e in losses], [row["train_loss"] for row in made.history], rtol=1e-6)
    assert "accuracy/train" not in found.Tags()["scalars"]  # was not measured
    assert set(found.Tags()["images"]) == {"curves", "confusion", "calibration", "mistakes", "uncertain"}
    assert found.Histograms("confidence/right")[0].histogram_value.num == 24
    assert found.Histograms("weights/0.weight")[0].histogram_value.num == 9
    assert b"there are few pictures" in found.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0]


def test_formats(tmp_path):
    with pytest.raises(ValueError, match="formats has 'xml'; it may have csv, jsonl, tensorboard"):
        log(outcome(tmp_path / "pictures"), tmp_path / "logs", ["xml"])
    assert not (tmp_path / "logs").exists()
