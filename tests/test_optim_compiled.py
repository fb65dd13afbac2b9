"""Optimisers inside `jj.compile`: the same numbers as eagerly, and nothing baked in that may change."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import juanji as jj
from juanji import nn, optim
from juanji.errors import CaptureError
from juanji.optim import lr_scheduler

CONFIGURATIONS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95)}),
    ("Adam", {"lr": 0.01, "amsgrad": True, "maximize": True}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.3}),
]


class Run:
    """A small network, its optimiser and its step."""

    def __init__(self, name, options, compiled):
        jj.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        self.optimizer = getattr(optim, name)(self.net.parameters(), **options)
        net, optimizer = self.net, self.optimizer

        def step(x, y):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(net(x), y)
            loss.backward()
            optimizer.step()
            return loss

        self.step = jj.compile(step) if compiled else step

    def go(self, count, seed=0):
        rng = np.random.default_rng(seed)
        losses = []
        for _ in range(count):
            x, y = (jj.from_numpy(rng.standard_normal((6, n)).astype(np.float32)) for n in (4, 3))
            losses.append(self.step(x, y).item())
        return losses

    def values(self):
        return np.concatenate([p.detach().numpy().ravel() for p in self.net.parameters()])


@pytest.fixture(params=CONFIGURATIONS, ids=lambda c: "-".join([c[0], *c[1]]))
def runs(request):
    name, options = request.param
    return Run(name, options, compiled=False), Run(name, options, compiled=True)


def check(eager, compiled):
    np.testing.assert_allclose(compiled.values(), eager.values(), rtol=1e-5, atol=1e-6)


def test_same_steps(runs):
    eager, compiled = runs
    np.testing.assert_allclose(compiled.go(12), eager.go(12), rtol=1e-5)
    check(eager, compiled)
    for p, q in zip(eager.net.parameters(), compiled.net.parameters(), strict=True):
        a, b = eager.optimizer.state[p], compiled.optimizer.state[q]
        assert set(a) == set(b)
        for key, value in a.items():
            np.testing.assert_allclose(b[key].numpy(), value.numpy(), rtol=1e-5, atol=1e-6)


def test_hyper_parameters_may_change_between_steps(runs):
    eager, compiled = runs
    for run in runs:
        run.go(3)
        for group in run.optimizer.param_groups:
            group["lr"] *= 0.5
            if group.get("momentum"):
                group["momentum"] = 0.5
            if "betas" in group:
                group["betas"] = (0.7, 0.9)
        run.go(3, seed=1)
        for group in run.optimizer.param_groups:
            group["weight_decay"] = 0.0 if group["weight_decay"] else 0.1
        run.go(3, seed=2)
    check(eager, compiled)


def test_loaded_state_counts(runs):
    eager, compiled = runs
    for run in runs:
        fresh = copy.deepcopy(run.optimizer.state_dict())
        run.go(2)
        saved = copy.deepcopy(run.optimizer.state_dict())
        run.go(3, seed=1)
        run.optimizer.load_state_dict(saved)
        run.go(2, seed=2)
        run.optimizer.load_state_dict(fresh)
        run.go(2, seed=3)
    check(eager, compiled)


def test_eager_and_compiled_steps_mix(runs):
    eager, compiled = runs
    other = Run(type(compiled.optimizer).__name__, {}, compiled=False)
    other.net, other.optimizer = compiled.net, compiled.optimizer

    def step(x, y):
        other.optimizer.zero_grad()
        loss = nn.functional.mse_loss(other.net(x), y)
        loss.backward()
        other.optimizer.step()
        return loss

    other.step = step
    for seed in range(4):
        eager.go(2, seed)
        (compiled if seed % 2 else other).go(2, seed)
    check(eager, compiled)


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_one_cycle(name):
    options = {"momentum": 0.9} if name == "SGD" else {}
    both = []
    for compiled in (False, True):
        run = Run(name, options, compiled)
        schedule = lr_scheduler.OneCycleLR(run.optimizer, max_lr=0.05, total_steps=12)
        for seed in range(12):
            run.go(1, seed)
            schedule.step()
        both.append(run)
    check(*both)


def test_a_schedule_inside_the_step_is_refused():
    run = Run("SGD", {}, compiled=False)
    schedule = lr_scheduler.StepLR(run.optimizer, 1)
    before = run.values(), run.optimizer.param_groups[0]["lr"]

    @jj.compile
    def step(x):
        loss = run.net(x).sum()
        loss.backward()
        run.optimizer.step()
        schedule.step()
        return loss

    with pytest.raises(CaptureError, match="learning rate"):
        step(jj.ones(2, 4))
    np.testing.assert_array_equal(run.values(), before[0])
    assert run.optimizer.param_groups[0]["lr"] == before[1]


def test_frozen_parameters_and_new_groups():
    run = Run("SGD", {"lr": 0.1, "momentum": 0.9}, compiled=True)
    run.go(2)
    run.net[0].freeze()
    run.net.zero_grad()
    kept = run.net[0].weight.detach().clone().numpy()
    run.go(2)
    np.testing.assert_array_equal(run.net[0].weight.detach().numpy(), kept)
    run.net[0].unfreeze()
    run.go(1)
    assert (run.net[0].weight.detach().numpy() != kept).any()
