"""The learning-rate finder, the loader, averages, stages, and choices."""

import numpy as np
import pytest

import juanji as jj
from juanji import nn, optim, zoo
from juanji.data import scan
from juanji.interop.preprocessing import Preprocessing
from juanji.train.listener import Listener
from juanji.train.loop import fit
from juanji.train.state import Companion
from juanji.tune import choice, recipes
from juanji.tune.finder import lr_finder
from juanji.tune.loading import Photos, augmentation, loader
from juanji.tune.settings import Settings
from juanji.tune.watch import Average, Watch

VIEW = Preprocessing(size=(24, 24), mode="RGB", mean=(0.5,) * 3, std=(0.5,) * 3)


def batches(photos, **options):
    given = Photos(scan(photos).samples, VIEW, augmentation("standard", VIEW), **options)
    return loader(given, 8, shuffle=True, seed=5, workers=0)


def test_the_finder_leaves_no_trace(photos, weights):
    model = zoo.create("tiny", pretrained=weights, num_classes=3)
    optimizer = optim.AdamW(recipes.groups("bn", model, 1e-3, 0.5), lr=1e-3)
    data = batches(photos)
    before = {n: v.numpy().copy() for n, v in model.state_dict().items()}
    random = data.generator.get_state()
    found = lr_finder(model, data, optimizer, steps=30, highest=10.0)
    assert found.rates == sorted(found.rates)
    assert 1e-7 < found.suggestion < 1.0
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name], err_msg=name)
    assert [g["lr"] for g in optimizer.param_groups] == [1e-3, 1e-3]
    for state in optimizer.state_dict()["state"].values():
        assert not any(value.numpy().any() for value in state.values())  # as before the first step
    np.testing.assert_equal(data.generator.get_state(), random)


@pytest.mark.parametrize("options", [{"lowest": 0}, {"lowest": 2.0}, {"steps": 1}, {"steps": True}])
def test_the_finder_refuses_nonsense(photos, weights, options):
    model = zoo.create("tiny", pretrained=weights, num_classes=3)
    with pytest.raises(ValueError, match=next(iter(options))):
        lr_finder(model, batches(photos), optim.SGD(model.parameters(), lr=0.1), **options)


def test_what_is_kept_in_memory_changes_nothing(photos):
    passes = []
    for kept in (0, 1 << 30, 10_000):
        data = batches(photos, kept=kept)
        passes.append([x.numpy() for _ in range(2) for x, _ in data])
    for other in passes[1:]:
        for one, two in zip(passes[0], other, strict=True):
            np.testing.assert_array_equal(one, two)
    assert not np.array_equal(passes[0][0], passes[0][4])  # another pass, other changes


@pytest.mark.parametrize("name", ["none", "light", "standard", "strong"])
def test_changes_give_pictures_of_the_size(photos, name):
    for mode, channels in (("RGB", 3), ("L", 1)):
        view = Preprocessing(size=(20, 28), mode=mode, mean=(0.5,) * channels, std=(0.5,) * channels)
        data = loader(
            Photos(scan(photos).samples, view, augmentation(name, view)), 36, shuffle=False, seed=0, workers=0
        )
        ((pictures, labels),) = data
        assert pictures.shape == (36, channels, 20, 28)
        assert labels.shape == (36,)


def test_averages_follow_the_weights():
    layer = nn.Linear(1, 1)
    average = Average(layer, 0.9)
    with jj.no_grad():
        layer.weight.fill_(0)
    expected = float(average._pairs[0][1].item())
    for i in range(30):
        with jj.no_grad():
            layer.weight.fill_(float(i))
        average.update()
        keep = min(0.9, (i + 1) / (i + 10))
        expected = keep * expected + (1 - keep) * i
    average.swap()
    inside = float(layer.weight.item())
    average.swap()
    assert float(layer.weight.item()) == 29.0
    assert inside == pytest.approx(expected, rel=1e-5)


def test_the_watch_survives_its_state(photos, weights):
    model = zoo.create("tiny", pretrained=weights, num_classes=3)
    data = batches(photos)
    watch = Watch(model, "all", data, ema=0.9, patience=3)
    fit(model, data, optim.SGD(model.parameters(), lr=0.01), epochs=2, listener=Listener(), companion=watch)
    other = Watch(model, "all", data, ema=0.9, patience=3)
    other.load_state_dict(watch.state_dict())
    assert other.history == watch.history
    assert other.best_epoch == watch.best_epoch
    with pytest.raises(ValueError, match="phase"):
        Watch(model, "bn", data, ema=0.9).load_state_dict(watch.state_dict())


def test_a_companion_can_end_a_training():
    class Enough(Companion):
        seen = 0

        def after_epoch(self, progress, stopping):
            self.seen += 1
            self.finished = self.seen == 2
            return True

    model = nn.Linear(2, 2)
    data = [(jj.randn(4, 2), jj.tensor([0, 1, 0, 1]))] * 3
    report = fit(model, data, optim.SGD(model.parameters(), lr=0.1), epochs=9, listener=Listener(), companion=Enough())
    assert len(report.epochs) == 2


@pytest.mark.parametrize("compiled", [True, False])
def test_accumulated_gradients_are_those_of_the_whole(compiled):
    jj.manual_seed(0)
    whole = nn.Linear(3, 2)
    parts = nn.Linear(3, 2)
    parts.load_state_dict(whole.state_dict())
    x, y = jj.randn(20, 3), jj.tensor([0, 1] * 10)
    large = [(x[:8], y[:8]), (x[8:16], y[8:16]), (x[16:], y[16:])]
    small = [(x[i : i + 4], y[i : i + 4]) for i in range(0, 20, 4)]
    for model, data, times in ((whole, large, 1), (parts, small, 2)):
        optimizer = optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
        schedule = optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
        fit(
            model, data, optimizer, epochs=2, scheduler=schedule, listener=Listener(), accumulate=times, compiled=compiled
        )  # fmt: skip
        assert schedule.last_epoch == 6
    np.testing.assert_allclose(whole.weight.detach().numpy(), parts.weight.detach().numpy(), atol=1e-6)
    with pytest.raises(ValueError, match="accumulate=0"):
        fit(whole, small, optim.SGD(whole.parameters(), lr=0.1), epochs=1, accumulate=0)


@pytest.mark.parametrize("name", [n for n in zoo.list() if n != "lenet"])
def test_stages_have_every_parameter_once(name):
    with nn.init.skipped():
        model = zoo.create(name, num_classes=2)
    staged = [id(p) for layers in model.named_stages().values() for layer in layers for p in layer.parameters()]
    last = [id(p) for p in model.get_classifier().parameters()]
    assert sorted(staged + last) == sorted(id(p) for p in model.parameters())


def test_choices_say_why():
    few, epochs = choice.recipe(60, 3, lambda: 0.01, 600)
    assert (few.value, epochs) == ("head", 0)
    full, epochs = choice.recipe(300, 3, lambda: 0.01, 600)
    assert full.value == "full"
    assert epochs == choice.MOST
    late, epochs = choice.recipe(300, 3, lambda: 0.01, 10)
    assert late.value == "head"
    assert "too little" in late.reasons[0]


def test_the_network_is_chosen_by_time_and_by_what_is_at_hand(monkeypatch):
    from juanji.errors import DataError

    monkeypatch.setattr(zoo, "fetch_weights", lambda name, progress=None: name)
    assert choice.model(100, 600).value == choice.MODELS[0]
    slow = choice.model(100_000, 600)
    assert slow.value == choice.MODELS[-1]
    assert "would need" in slow.reasons[1]

    def offline(name, progress=None):
        if name != "mobilenet_v2":
            raise DataError(f"no {name}")

    monkeypatch.setattr(zoo, "fetch_weights", offline)
    found = choice.model(100, 600)
    assert found.value == "mobilenet_v2"
    assert "out of reach" in found.reasons[-1]
    monkeypatch.setattr(zoo, "fetch_weights", lambda name, progress=None: offline("none"))
    with pytest.raises(DataError, match="no none"):
        choice.model(100, 600)


@pytest.mark.parametrize("options", [{"head": "x"}, {"mix": "x"}, {"view": "x"}, {"patience": -1}, {"ema": 1.0}])
def test_settings_refuse_nonsense(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}="):
        Settings(**options)
