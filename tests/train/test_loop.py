"""The training loop: what it reports, how it stops, and that compiled and eager steps agree."""

import numpy as np
import pytest

import juanji as jj
from juanji import nn, optim
from juanji.data import DataLoader, TensorDataset
from juanji.train.loop import Listener, TrainingError, evaluate, fit, scores


def batches(count=50, batch_size=8, seed=0, shuffle=False):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    inputs = random.normal(size=(count, 4)).astype(np.float32)
    inputs[np.arange(count), labels] += 3
    return DataLoader(TensorDataset(inputs, labels.astype(np.int64)), batch_size=batch_size, shuffle=shuffle)


def network(seed=0):
    jj.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))


class Recorder(Listener):
    def __init__(self):
        self.epochs, self.reports = [], []

    def progress(self, progress):
        self.reports.append(progress)

    def epoch(self, progress):
        self.epochs.append(progress)


def trained(compiled, epochs=6, **options):
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    listener = Recorder()
    report = fit(model, batches(), optimizer, epochs=epochs, listener=listener, compiled=compiled, **options)
    return model, report, listener


@pytest.mark.parametrize("compiled", [False, True])
def test_it_learns_and_reports(compiled):
    model, report, listener = trained(compiled)
    assert [p.epoch for p in listener.epochs] == [1, 2, 3, 4, 5, 6]
    assert listener.epochs == report.epochs
    assert all(p.step == p.steps == 7 and p.epochs == 6 for p in report.epochs)
    assert (report.steps, report.images) == (42, 300)
    assert report.epochs[-1].loss < report.epochs[0].loss / 2
    assert report.epochs[-1].accuracy > 0.9
    assert 0 <= report.seconds_waiting <= report.seconds
    assert report.seconds_compiling >= 0
    assert model.training


def test_compiled_and_eager_agree():
    eager, compiled = trained(False)[0], trained(True)[0]
    for a, b in zip(eager.parameters(), compiled.parameters(), strict=True):
        assert np.allclose(a.detach().numpy(), b.detach().numpy(), atol=1e-4)


def test_the_reported_loss_is_the_mean_over_pictures_not_batches():
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    report = fit(model, batches(), optimizer, epochs=1, compiled=False)
    assert report.epochs[0].loss == pytest.approx(evaluate(model, batches(), "abc", compiled=False).loss, rel=1e-5)


def test_the_schedule_moves_every_step():
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=14)
    listener = Recorder()
    fit(model, batches(), optimizer, epochs=2, scheduler=schedule, listener=listener, compiled=True)
    assert listener.epochs[-1].learning_rate < 0.01 < listener.epochs[0].learning_rate


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_a_loss_that_is_no_number_stops_the_training(compiled):
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=1e30)
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step \d+ of epoch 1.*learning rate"):
        fit(model, batches(), optimizer, epochs=3, compiled=compiled)


def test_no_pictures():
    empty = DataLoader(TensorDataset(np.zeros((0, 4), np.float32), np.zeros(0, np.int64)), batch_size=4)
    model = network()
    with pytest.raises(TrainingError, match="no pictures"):
        fit(model, empty, optim.SGD(model.parameters(), lr=0.1), epochs=1)
    with pytest.raises(TrainingError, match="no pictures"):
        evaluate(model, empty, "abc")


@pytest.mark.parametrize("compiled", [False, True])
def test_evaluation_counts_right(compiled):
    model, _, _ = trained(False)
    evaluation = evaluate(model, batches(), ["a", "b", "c"], compiled=compiled)
    assert evaluation.count == 50
    assert evaluation.confusion.sum() == 50
    assert evaluation.accuracy == pytest.approx(evaluation.confusion.trace() / 50)
    assert sum(c["count"] for c in evaluation.per_class.values()) == 50
    assert list(evaluation.per_class) == ["a", "b", "c"]
    weighted = sum(c["accuracy"] * c["count"] for c in evaluation.per_class.values()) / 50
    assert weighted == pytest.approx(evaluation.accuracy, abs=1e-5)
    x, y = next(iter(batches(batch_size=50)))
    with jj.no_grad():
        expected = nn.functional.cross_entropy(model(x), y).item()
    assert evaluation.loss == pytest.approx(expected, rel=1e-4)


def test_a_class_without_pictures_is_left_out():
    model = nn.Linear(2, 3)
    data = DataLoader(TensorDataset(np.zeros((4, 2), np.float32), np.array([0, 0, 2, 2])), batch_size=3)
    assert set(evaluate(model, data, ["a", "b", "c"], compiled=False).per_class) == {"a", "c"}


def test_scores_that_do_not_fit_the_classes():
    with pytest.raises(TrainingError, match="2 classes"):
        evaluate(network(), batches(), ["a", "b"], compiled=False)


@pytest.mark.parametrize("mode", [True, False])
def test_scores_put_the_mode_back(mode):
    model = network().train(mode)
    for _ in scores(model, batches(), compiled=False):
        assert not model.training
    assert model.training is mode
