"""Checkpoints: stopping and going on gives the same weights; kills lose nothing; NaN is traced to its source."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import juanji as jj
from juanji import nn, optim
from juanji.cli.output import UsageError
from juanji.cli.resume import start
from juanji.data import DataLoader, TensorDataset
from juanji.errors import DataError
from juanji.interop import statefile
from juanji.interop.modelfile import load_model
from juanji.random import Generator
from juanji.train import checkpoint, mnist
from juanji.train.checkpoint import Checkpointer, Interrupted, StopSignals
from juanji.train.loop import Listener, TrainingError, fit
from juanji.train.state import Training, generators

ROOT = Path(__file__).parents[2]


# -- stopping and going on in one process ----------------------------------------------------------------------------
class Net(nn.Module):
    """With more state than weights: dropout's counter, and a buffer that no state_dict shows."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 12), nn.Linear(12, 3)
        self.register_buffer("calls", jj.zeros(()), persistent=False)

    def forward(self, x):
        with jj.no_grad():
            self.calls.add_(1.0)
        hidden = nn.functional.relu(self.first(x)) * (1 + self.calls * 0.01)
        return self.second(nn.functional.dropout(hidden, 0.3, self.training))


class Stopping:
    """Signals that arrive after so many batches were asked for."""

    def __init__(self, after):
        self.after, self.waiting, self.seen = after, False, 0

    @property
    def received(self):
        self.seen += 1
        return signal.SIGINT if self.seen > self.after else 0


def setting(workers=0, optimizer="sgd", own=True):
    jj.manual_seed(3)
    random = np.random.default_rng(0)
    inputs = random.normal(size=(50, 4)).astype(np.float32)
    labels = random.integers(0, 3, 50)
    batches = DataLoader(
        TensorDataset(inputs, labels),
        batch_size=8,
        shuffle=True,
        num_workers=workers,
        generator=Generator().manual_seed(5) if own else None,
    )
    model = Net()
    if optimizer == "sgd":
        chosen = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
        schedule = optim.lr_scheduler.StepLR(chosen, 5, 0.9)
    else:
        chosen = optim.AdamW(model.parameters(), lr=0.01)
        schedule = optim.lr_scheduler.OneCycleLR(chosen, max_lr=0.05, total_steps=21)
    return model, batches, chosen, schedule


def run(compiled=True, checkpointer=None, listener=None, **options):
    model, batches, optimizer, schedule = setting(**options)
    fit(
        model,
        batches,
        optimizer,
        epochs=3,
        scheduler=schedule,
        compiled=compiled,
        checkpointer=checkpointer,
        listener=listener,
    )
    assert checkpointer is None or checkpointer.path.exists()
    return b"".join(p.detach().numpy().tobytes() for p in [*model.parameters(), *model.buffers()])


class Epochs(Listener):
    def __init__(self):
        self.losses = {}

    def epoch(self, progress):
        self.losses[progress.epoch] = (progress.loss, progress.accuracy, progress.step)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("options", [{}, {"optimizer": "adamw", "workers": 2}, {"own": False}])
def test_stopping_anywhere_and_going_on_gives_the_same_bits(compiled, options, tmp_path):
    path = tmp_path / "c.safetensors"
    whole = Epochs()
    expected = run(compiled, listener=whole, **options)
    for after in (0, 3, 7, 12) if compiled else (4,):
        with pytest.raises(Interrupted, match="juanji train --resume"):
            run(compiled, Checkpointer(path, signals=Stopping(after)), **options)
        found = checkpoint.read(path)
        jj.manual_seed(99)  # nothing may depend on what is there
        rest = Epochs()
        assert run(compiled, Checkpointer(path, resume=found), listener=rest, **options) == expected
        # What an epoch reports counts its first part too.
        assert all(rest.losses[e] == pytest.approx(whole.losses[e]) for e in rest.losses)
        assert checkpoint.read(path).position.epoch == 4


def test_going_on_from_a_finished_training_trains_no_more(tmp_path):
    path = tmp_path / "c.safetensors"
    expected = run(checkpointer=Checkpointer(path))
    assert run(checkpointer=Checkpointer(path, resume=checkpoint.read(path))) == expected


def test_batches_of_any_kind_are_skipped_by_taking_them():
    model, batches, optimizer, _ = setting()

    class Plain:
        def __init__(self):
            self.generator = np.random.default_rng(4)

        def __len__(self):
            return 5

        def __iter__(self):
            for _ in range(5):
                yield self.generator.integers(100), None

    training = Training(model, optimizer, None, Plain())
    source = training.begin_pass()
    taken = [next(source)[0] for _ in range(2)]
    state = training.state(checkpoint.Position(1, 2))
    expected = [x for x, _ in source]
    position, rest = training.restore(state)
    assert position.step == 2
    assert [x for x, _ in rest] == expected != taken
    assert set(generators(Plain())) == {"generator"}
    assert set(generators(batches)) == {"generator"}


# -- what is refused, and what is said -------------------------------------------------------------------------------
def test_another_training_is_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    first = Checkpointer(path)
    first.identity = {"recipe": {"seed": 1, "lr": 0.5}}
    run(checkpointer=first)
    other = Checkpointer(path, resume=checkpoint.read(path))
    other.identity = {"recipe": {"seed": 2, "lr": 0.5}}
    with pytest.raises(DataError, match="seed 1 instead of 2"):
        run(checkpointer=other)
    model = nn.Linear(4, 3)
    with pytest.raises(DataError, match="does not fit this training"):
        fit(
            model,
            setting()[1],
            optim.SGD(model.parameters(), lr=0.1),
            epochs=1,
            checkpointer=Checkpointer(path, resume=checkpoint.read(path)),
        )


def test_other_kernels_are_told_in_one_sentence(tmp_path, monkeypatch):
    path, said = tmp_path / "c.safetensors", []
    expected = run(checkpointer=Checkpointer(path))
    now = checkpoint.made_with()
    assert {"Juanji", "LLVM", "kernels for"} <= set(now)
    monkeypatch.setattr(checkpoint, "made_with", lambda: {**now, "LLVM": "99.0"})
    assert run(checkpointer=Checkpointer(path, resume=checkpoint.read(path), say=said.append)) == expected
    assert len(said) == 1
    assert f"LLVM {now['LLVM']}, and here it is LLVM 99.0" in said[0]


def test_a_full_disk_is_told_once_and_does_not_end_the_training(tmp_path, monkeypatch):
    said = []

    def full(*_):
        raise OSError(28, "No space left on device")

    expected = run()
    monkeypatch.setattr(statefile, "save", full)
    path = tmp_path / "c.safetensors"
    path.write_bytes(b"")  # what was there stays
    assert run(checkpointer=Checkpointer(path, say=said.append)) == expected
    assert len(said) == 1
    assert "No space left" in said[0]


@pytest.mark.parametrize("content", [b"", b"rubbish" * 9, "state", "lacking", "newer"])
def test_files_that_are_no_checkpoint(content, tmp_path):
    path = tmp_path / "c.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        start = {"kind": "juanji.checkpoint", "version": 1}
        states = {"state": {"a": 1}, "lacking": start, "newer": {**start, "version": 9}}
        statefile.save(states[content], path)
    with pytest.raises(DataError, match=re.escape(str(path))):
        checkpoint.read(path)
    with pytest.raises(FileNotFoundError):
        checkpoint.read(tmp_path / "none")


def test_the_first_signal_waits_and_the_second_does_not():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as signals:
        with pytest.raises(Interrupted) as stop:
            signal.raise_signal(signal.SIGTERM)
        assert stop.value.code == 143
        signals.waiting = True
        signal.raise_signal(signal.SIGINT)
        assert signals.received == signal.SIGINT
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


# -- killed ----------------------------------------------------------------------------------------------------------
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_at_random_instants_lose_nothing(tmp_path):
    """200 kills of saving and a few of training; the script by itself makes 200 of both."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else str(tmp_path)
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "kill_resume.py"), "--saving", "200", "--training", "4"],
        env={**os.environ, "TMPDIR": memory, "JUANJI_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["saving"]["whole"] == 200
    assert report["saving"]["killed_while_writing"] > 5
    assert report["training"]["identical"] == report["training"]["finished"] > 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from juanji.data import write_idx

    folder = tmp_path_factory.mktemp("set") / "bars"
    folder.mkdir()
    random = np.random.default_rng(0)
    for stem, count in (("train", 400), ("t10k", 20)):
        write_idx(folder / f"{stem}-images-idx3-ubyte", random.integers(0, 255, (count, 28, 28), np.uint8))
        write_idx(folder / f"{stem}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
    return folder


def juanji(*arguments, home, stop=None):
    """Runs `juanji train`; sends a signal when the first line of an epoch shows."""
    lines = []
    with subprocess.Popen(
        [sys.executable, "-m", "juanji.cli.main", "train", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JUANJI_DEBUG": "0", "JUANJI_HOME": str(home)},
    ) as process:
        for line in process.stderr:
            lines.append(line)
            if stop is not None and line.startswith("epoch"):
                process.send_signal(stop)
                stop = None
        out = process.stdout.read()
    return process.returncode, out, "".join(lines)


def weights(path):
    return b"".join(v.numpy().tobytes() for v in load_model(path).model.state_dict().values())


def test_the_program_stops_and_goes_on(folder, tmp_path, tmp_path_factory):
    run = functools.partial(juanji, home=tmp_path_factory.mktemp("home"))
    arguments = ("--data", folder, "--epochs", 12, "--seed", 4, "--lr", 0.001)
    code, _, _ = run(*arguments, "--out", tmp_path / "whole.safetensors")
    assert code == 0
    out, kept = tmp_path / "m.safetensors", tmp_path / "m.checkpoint.safetensors"
    code, _, said = run(*arguments, "--out", out, stop=signal.SIGINT)
    assert code == 130, said
    assert sorted(p.name for p in tmp_path.iterdir()) == [kept.name, "whole.safetensors"]
    assert said.strip().endswith(f"go on with: juanji train --resume {kept}")
    # Starting anew would lose it.
    code, _, said = run(*arguments, "--out", out)
    assert code == 2
    assert "go on with --resume, or remove it" in said
    # Stopped once more, and then to the end; the checkpoint knows all arguments.
    code, _, said = run("--resume", "--data", folder, "--out", out, stop=signal.SIGTERM)
    assert code == 143, said
    before = checkpoint.read(kept).position
    assert 1 < before.epoch < 13
    code, printed, said = run("--resume", kept, "--json")
    assert code == 0, said
    result = json.loads(printed)
    assert result["resumed"] is True
    assert result["steps"] == (12 - before.epoch + 1) * 13 - before.step
    assert weights(out) == weights(tmp_path / "whole.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == [out.name, "whole.safetensors"]


NUMBERS = {"epochs": 3, "batch_size": 8, "lr": 0.1, "seed": 4}


@pytest.fixture
def stopped(folder, tmp_path):
    """A checkpoint of `juanji train` in its first epoch."""
    path = tmp_path / "m.checkpoint.safetensors"
    kept = Checkpointer(
        path, notes={**NUMBERS, "dataset": "bars", "data": str(folder), "out": str(tmp_path / "m.safetensors")}
    )
    model, batches, optimizer, _ = setting()
    kept.begin(Training(model, optimizer, None, batches))
    kept.save(checkpoint.Position(1, 3))
    return path


def test_what_was_not_said_comes_from_the_checkpoint(stopped, folder, tmp_path):
    defaults = {"epochs": 15, "batch_size": 32, "lr": 0.005, "seed": 0}
    begin = start(None, None, None, str(stopped), defaults, set())
    assert (begin.name, begin.data, begin.numbers) == ("bars", folder, NUMBERS)
    assert (begin.target, begin.checkpoint) == (tmp_path / "m.safetensors", stopped)
    assert begin.resume.position.step == 3
    # A folder may have moved, and the model may go elsewhere; what is said twice is no contradiction.
    said = {**defaults, "seed": 4}
    begin = start("bars", tmp_path, tmp_path / "n.safetensors", str(stopped), said, {"seed"})
    assert (begin.data, begin.numbers) == (tmp_path, NUMBERS)
    assert begin.checkpoint == tmp_path / "n.checkpoint.safetensors"


def test_without_a_checkpoint_it_starts_from_the_beginning(folder, tmp_path, capsys):
    begin = start(None, folder, tmp_path / "n.safetensors", "", NUMBERS, set())
    assert begin.resume is None
    assert "starting from the beginning" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError):
        start(None, folder, None, str(tmp_path / "n.safetensors"), NUMBERS, set())


@pytest.mark.parametrize(
    ("name", "changed", "sentence"),
    [
        (None, {"seed": 5}, "--seed 5 contradicts the checkpoint"),
        (None, {"batch_size": 9}, "--batch-size 9 contradicts"),
        (None, {"epochs": 4}, "which has 3; leave it out"),
        ("mnist", {}, "is of the data set 'bars', not 'mnist'"),
    ],
)
def test_contradicting_arguments_are_refused(stopped, name, changed, sentence):
    with pytest.raises(UsageError, match=sentence):
        start(name, None, None, str(stopped), {**NUMBERS, **changed}, set(changed))


def test_a_checkpoint_is_not_overwritten_unless_it_is_done(stopped, folder):
    out = stopped.with_name("m.safetensors")
    with pytest.raises(UsageError, match="stopped in epoch 1: go on with --resume, or remove it"):
        start(None, folder, out, None, NUMBERS, set())
    content = statefile.load(stopped)
    content["state"]["position"]["epoch"] = 4
    statefile.save(content, stopped)
    assert start(None, folder, out, None, NUMBERS, set()).resume is None
    del content["notes"]["seed"]
    statefile.save(content, stopped)
    with pytest.raises(UsageError, match="has no seed"):
        start(None, folder, out, "", NUMBERS, set())


def test_other_pictures_are_refused(tmp_path):
    images, labels = np.zeros((20, 28, 28), np.uint8), np.arange(20) % 10
    recipe = mnist.Recipe(epochs=1)
    train = (images[:10], labels[:10], tuple("0123456789"))
    path = tmp_path / "c.safetensors"
    mnist.train(images, labels, *train, recipe=recipe, checkpointer=Checkpointer(path))
    images[3, 4, 5] = 1
    resume = Checkpointer(path, resume=checkpoint.read(path))
    with pytest.raises(DataError, match="is of another training: sha256 "):
        mnist.train(images, labels, *train, recipe=recipe, checkpointer=resume)


# -- no number -------------------------------------------------------------------------------------------------------
def diverging(model, *, lr=0.01, inputs=None, compiled=True, epochs=2):
    random = np.random.default_rng(0)
    inputs = random.normal(size=(40, 4)).astype(np.float32) if inputs is None else inputs
    batches = DataLoader(TensorDataset(inputs, np.arange(40) % 3), batch_size=8)
    with pytest.raises(TrainingError) as error:
        fit(model, batches, optim.SGD(model.parameters(), lr=lr), epochs=epochs, compiled=compiled)
    return str(error.value)


class Logarithm(nn.Module):
    def forward(self, x):
        return x.log()


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_first_module_without_a_number_is_named(compiled):
    jj.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), Logarithm(), nn.Linear(6, 3))
    said = diverging(model, compiled=compiled)
    assert "the loss is nan at step 1 of epoch 1: the output of 1 (Logarithm) is the first" in said


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_data_without_a_number_are_named():
    inputs = np.zeros((40, 4), np.float32)
    inputs[19, 2] = np.nan
    jj.manual_seed(0)
    said = diverging(nn.Linear(4, 3), inputs=inputs)
    assert said.startswith("the loss is nan at step 3 of epoch 1: the batch itself has NaN values, in its sample 3")
    assert said.endswith("look at the data")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_update_that_breaks_a_parameter_is_named():
    jj.manual_seed(0)
    said = diverging(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), lr=1e39)
    assert re.match(r"the loss is nan at step 2 of epoch 1: the update of step 1 made 0\.weight (NaN|infinite)", said)
    assert "learning rate" in said


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_network_that_grows_beyond_all_bounds():
    jj.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    said = diverging(model, lr=1e30, epochs=4)
    assert re.search(r"at step \d of epoch 1: the (output|gradient|update|input|loss)", said), said
    # The model is left as it was before: still numbers.
    assert "is the first that is not finite" in said or "made" in said
