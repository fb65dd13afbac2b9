"""Logs that grow with a training, and go on with it."""

import json

from juanji.tune.told import Logged, Told


class Heard(Told):
    def __init__(self):
        self.rows, self.notes = [], []

    def note(self, text):
        self.notes.append(text)

    def epoch(self, row, epochs):
        self.rows.append((row["epoch"], epochs))


def epochs(folder):
    return [json.loads(line)["epoch"] for line in (folder / "history.jsonl").read_text("utf-8").splitlines()]


def test_each_epoch_is_there_when_it_is_done(tmp_path):
    heard = Heard()
    with Logged(heard, tmp_path) as told:
        for epoch in (1, 2, 3):
            told.epoch({"epoch": epoch, "val_loss": 1 / epoch}, 5)
            assert epochs(tmp_path)[-1] == epoch
        told.note("well")
    assert heard.rows == [(1, 5), (2, 5), (3, 5)]
    assert heard.notes == ["well"]
    with Logged(heard, tmp_path) as told:  # resumed from a checkpoint after epoch 2
        told.epoch({"epoch": 3, "val_loss": 0.3}, 5)
        told.epoch({"epoch": 4, "val_loss": 0.2}, 5)
    assert epochs(tmp_path) == [1, 2, 3, 4]
    assert (tmp_path / "history.csv").read_text("utf-8").splitlines()[3] == "3,0.3"
    with Logged(heard, tmp_path) as told:  # another training
        told.epoch({"epoch": 1}, 5)
    assert epochs(tmp_path) == [1]
