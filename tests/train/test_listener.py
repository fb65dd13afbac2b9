"""Who sees a training that nobody was told to watch: a notebook and a terminal do, a file does not."""

import io
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import juanji as jj
from juanji.data import DataLoader, TensorDataset
from juanji.train.listener import Listener
from juanji.train.loop import fit

EPOCHS, STEPS = 3, 4


def train(**options):
    jj.manual_seed(1)
    model = jj.nn.Linear(2, 2)
    data = TensorDataset(np.eye(2, dtype=np.float32).repeat(4, 0), np.arange(2).repeat(4))
    batches = DataLoader(data, batch_size=2)
    return fit(model, batches, jj.optim.SGD(model.parameters(), lr=0.1), epochs=EPOCHS, compiled=False, **options)


@pytest.fixture
def shown(monkeypatch):
    """A notebook's kernel: what was displayed, as (HTML, plain text) of each update."""
    seen = []

    def update(thing):
        seen.append((thing._repr_html_(), repr(thing)))

    def display(thing, display_id):
        assert display_id is True
        update(thing)
        return SimpleNamespace(update=update)

    ipython, part = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())
    ipython.display = part
    part.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", part)
    return seen


def test_a_notebook_shows_a_bar_and_a_line_for_each_epoch(shown, capsys, monkeypatch):
    monkeypatch.setattr("juanji.train.loop.REPORT_SECONDS", 0.0)
    report = train()
    assert "<progress" in shown[0][0]
    assert shown[0][1] == "compiling the step ..."
    assert any(f"step 2/{STEPS}" in text and "max=" in html for html, text in shown)
    last_html, last = shown[-1]
    assert last.splitlines() == [line for line in last.splitlines() if line.startswith("epoch ")]
    assert len(last.splitlines()) == EPOCHS == len(report.epochs)
    assert "<progress" not in last_html
    assert f"loss {report.epochs[-1].loss:.4f}" in last
    assert capsys.readouterr() == ("", "")


def test_ipython_on_a_terminal_is_no_notebook(shown, capsys, monkeypatch):
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: SimpleNamespace())
    train()
    assert shown == []
    assert capsys.readouterr() == ("", "")


def test_a_listener_of_ones_own_is_the_only_one(shown):
    heard = []

    class Recorder(Listener):
        def epoch(self, progress):
            heard.append(progress.epoch)

    train(listener=Recorder())
    assert heard == [1, 2, 3]
    train(listener=Listener())
    assert shown == []


def test_a_terminal_shows_bars(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.delenv("NO_COLOR", raising=False)
    train()
    text = screen.getvalue()
    assert "epochs" in text
    assert f"{EPOCHS}/{EPOCHS}" in text
    assert "images/s" in text


def test_elsewhere_there_is_silence(capsys):
    train()
    assert capsys.readouterr() == ("", "")
