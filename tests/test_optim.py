"""Optimisers and schedules: the same steps as PyTorch, and state that can be saved."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

import juanji as jj
from juanji import config, nn, optim
from juanji.optim import lr_scheduler


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def parameter(value=1.0, gradient=None):
    p = nn.Parameter(jj.tensor([value]))
    if gradient is not None:
        p.grad = jj.tensor([gradient])
    return p


SHAPES = [(3, 4), (4,), (2, 1, 3, 3)]
CONFIGURATIONS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.01, "maximize": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 1e-3}),
    ("Adam", {"lr": 0.01, "amsgrad": True, "maximize": True}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.3, "amsgrad": True}),
]


class Pair:
    """The same parameters and gradients, ours and PyTorch's."""

    def __init__(self, torch, name, arguments):
        rng = np.random.default_rng(0)
        values = [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]
        self.torch, self.rng = torch, rng
        self.mine = [nn.Parameter(jj.from_numpy(v.copy())) for v in values]
        self.theirs = [torch.nn.Parameter(torch.from_numpy(v.copy())) for v in values]
        self.a = getattr(optim, name)(self.mine, **arguments)
        self.b = getattr(torch.optim, name)(self.theirs, **arguments)

    def steps(self, count, skip=None):
        for step in range(count):
            for number, (p, q) in enumerate(zip(self.mine, self.theirs, strict=True)):
                g = self.rng.standard_normal(tuple(p.shape)).astype(np.float32)
                absent = skip is not None and skip(step, number)
                p.grad = None if absent else jj.from_numpy(g)
                q.grad = None if absent else self.torch.from_numpy(g.copy())
            self.a.step()
            self.b.step()

    def check(self, tolerance=1e-6):
        for p, q in zip(self.mine, self.theirs, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "arguments"), CONFIGURATIONS)
class TestAgainstPyTorch:
    def test_steps(self, torch, name, arguments):
        pair = Pair(torch, name, arguments)
        for _ in range(4):
            pair.steps(5)
            pair.check(2e-6)

    def test_parameters_that_have_no_gradient_at_times(self, torch, name, arguments):
        pair = Pair(torch, name, arguments)
        pair.steps(6, skip=lambda step, number: (step + number) % 3 == 0)
        pair.check(2e-6)

    def test_state_goes_from_pytorch_to_us(self, torch, name, arguments):
        pair = Pair(torch, name, arguments)
        pair.steps(3)
        other = Pair(torch, name, arguments)
        for p, q in zip(other.mine, pair.theirs, strict=True):
            p.detach().copy_(jj.from_numpy(q.detach().numpy().copy()))
        other.a.load_state_dict(pair.b.state_dict())
        other.theirs, other.b, other.rng = pair.theirs, pair.b, pair.rng
        other.steps(3)
        other.check(3e-6)

    def test_state_has_pytorch_names(self, torch, name, arguments):
        pair = Pair(torch, name, arguments)
        pair.steps(1)
        mine, theirs = pair.a.state_dict(), pair.b.state_dict()
        assert set(mine["state"]) == set(theirs["state"])
        for number, values in theirs["state"].items():
            assert {k for k, v in values.items() if v is not None} <= set(mine["state"][number])
        for a, b in zip(mine["param_groups"], theirs["param_groups"], strict=True):
            assert a["params"] == b["params"]
            assert all(b[key] == value for key, value in a.items())


@pytest.mark.parametrize(("name", "arguments"), CONFIGURATIONS)
def test_resuming_gives_the_same_steps(name, arguments):
    rng = np.random.default_rng(1)
    gradients = [jj.from_numpy(rng.standard_normal(4).astype(np.float32)) for _ in range(6)]

    def run(p, optimizer, gradients):
        for g in gradients:
            p.grad = g.clone()
            optimizer.step()

    build = getattr(optim, name)
    p = nn.Parameter(jj.ones(4))
    optimizer = build([p], **arguments)
    run(p, optimizer, gradients[:3])
    saved = copy.deepcopy(optimizer.state_dict())
    q = nn.Parameter(p.detach().clone())
    run(p, optimizer, gradients[3:])

    other = build([q], lr=123.0)
    q.grad = gradients[0].clone()
    kept = q.detach().clone()
    other.step()
    q.detach().copy_(kept)
    group, state = other.param_groups[0], other.state[q]
    other.load_state_dict(saved)
    assert other.param_groups[0] is group
    assert other.state[q] is state
    run(q, other, gradients[3:])
    np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


class TestOptimizer:
    def test_groups(self):
        a, b = parameter(gradient=1.0), parameter(gradient=1.0)
        optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.1)
        optimizer.step()
        assert a.item() == pytest.approx(0.9)
        assert b.item() == pytest.approx(0.5)
        optimizer.param_groups[0]["lr"] = 1.0
        optimizer.step()
        assert a.item() == pytest.approx(-0.1)
        before = config.state.epoch
        c = parameter(gradient=1.0)
        optimizer.add_param_group({"params": [c]})
        assert config.state.epoch > before
        optimizer.step()
        assert c.item() == pytest.approx(0.9)

    def test_zero_grad(self):
        p = parameter(gradient=1.0)
        optimizer = optim.SGD([p])
        optimizer.zero_grad(set_to_none=False)
        assert p.grad.tolist() == [0.0]
        optimizer.zero_grad()
        assert p.grad is None
        optimizer.step()
        assert p.item() == 1.0

    def test_closure(self):
        p = parameter(3.0)
        optimizer = optim.SGD([p], lr=0.5)

        def closure():
            optimizer.zero_grad()
            loss = (p * p).sum()
            loss.backward()
            return loss

        with jj.no_grad():
            assert optimizer.step(closure).item() == 9.0
        assert p.item() == 0.0

    def test_steps_leave_no_history(self):
        p = parameter(gradient=1.0)
        optim.SGD([p], momentum=0.9).step()
        assert p.is_leaf
        assert p.requires_grad
        assert p.grad_fn is None

    def test_float64(self):
        p = nn.Parameter(jj.ones(2, dtype=jj.float64))
        p.grad = jj.ones(2, dtype=jj.float64)
        optimizer = optim.Adam([p], lr=0.1)
        optimizer.step()
        assert optimizer.state[p]["exp_avg"].dtype is jj.float64
        np.testing.assert_allclose(p.detach().numpy(), 0.9, rtol=1e-7)

    def test_many_adam_steps_keep_the_bias_correction(self):
        # With a constant gradient Adam moves by lr / (1 + eps) in each step, however many there have been.
        p = parameter(0.0)
        optimizer = optim.Adam([p], lr=0.125)
        for _ in range(300):
            p.grad = jj.tensor([3.0])
            optimizer.step()
        assert p.item() == pytest.approx(-300 * 0.125, rel=1e-5)

    @pytest.mark.parametrize(
        ("call", "error", "text"),
        [
            (lambda: optim.SGD([]), ValueError, "empty parameter list"),
            (lambda: optim.SGD(jj.zeros(1)), TypeError, "iterable of Tensors or dicts"),
            (lambda: optim.SGD([3]), TypeError, "one of the params is int"),
            (lambda: optim.SGD([{"params": {parameter()}}]), TypeError, "ordered collections"),
            (lambda: optim.SGD([parameter() * 2]), ValueError, "non-leaf"),
            (lambda: optim.SGD([parameter()] * 2), ValueError, "more than one parameter group or twice"),
            (lambda: optim.SGD([parameter()], lr=-1.0), ValueError, "Invalid learning rate value: -1.0"),
            (
                lambda: optim.SGD([parameter()], lr="fast"),
                TypeError,
                "learning rate must be a number, got str",
            ),
            (lambda: optim.SGD([parameter()], momentum=-1.0), ValueError, "Invalid momentum"),
            (lambda: optim.SGD([parameter()], nesterov=True), ValueError, "Nesterov"),
            (lambda: optim.Adam([parameter()], betas=(0.9, 1.0)), ValueError, "index 1: 1.0"),
            (lambda: optim.Adam([parameter()], betas=0.9), ValueError, "two numbers"),
            (lambda: optim.AdamW([parameter()], eps=-1.0), ValueError, "Invalid epsilon"),
        ],
    )
    def test_refusals(self, call, error, text):
        with pytest.raises(error, match=text):
            call()

    def test_loading_refusals_change_nothing(self):
        p = parameter(gradient=1.0)
        optimizer = optim.SGD([p], lr=0.1, momentum=0.9)
        optimizer.step()
        good = optimizer.state_dict()
        bad = copy.deepcopy(good)
        bad["state"][0]["momentum_buffer"] = jj.zeros(7)
        bad["param_groups"][0]["lr"] = 5.0
        with pytest.raises(ValueError, match=r"'momentum_buffer' of shape \(7,\)"):
            optimizer.load_state_dict(bad)
        assert optimizer.param_groups[0]["lr"] == 0.1
        with pytest.raises(ValueError, match="different number of parameter groups"):
            optimizer.load_state_dict({"state": {}, "param_groups": []})
        with pytest.raises(ValueError, match="doesn't match the size"):
            optimizer.load_state_dict({"state": {}, "param_groups": [{"params": [0, 1]}]})

    def test_loading_a_fresh_state_starts_anew(self):
        p = parameter(gradient=1.0)
        optimizer = optim.SGD([p], lr=0.1, momentum=0.9, dampening=0.5)
        fresh = optimizer.state_dict()
        optimizer.step()
        first = 1.0 - p.item()
        optimizer.step()
        optimizer.load_state_dict(fresh)
        before = p.item()
        optimizer.step()
        assert before - p.item() == pytest.approx(first)

    def test_repr_names_the_hyper_parameters(self):
        text = repr(optim.SGD([parameter()], lr=0.25))
        assert text.startswith("SGD (\nParameter Group 0\n    dampening: 0.0\n    lr: 0.25")


def rates(module, scheduler, build, count):
    """Learning rate and momentum after each of `count` steps."""
    schedule = build(scheduler)
    group = schedule.optimizer.param_groups[0]

    def now():
        momentum = group["betas"][0] if "betas" in group else group["momentum"]
        return float(group["lr"]), momentum

    seen = [now()]
    for _ in range(count):
        schedule.optimizer.step()
        schedule.step()
        seen.append(now())
    return seen, schedule


SCHEDULES = [
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 20}, 20),
    ("OneCycleLR", {"max_lr": [0.1], "epochs": 4, "steps_per_epoch": 5, "anneal_strategy": "linear"}, 20),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 33, "three_phase": True, "pct_start": 0.4}, 32),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 9, "cycle_momentum": False, "div_factor": 3.0}, 8),
    ("StepLR", {"step_size": 3}, 10),
    ("CosineAnnealingLR", {"T_max": 5, "eta_min": 0.01}, 17),
    ("LambdaLR", {"lr_lambda": lambda step: 1 / (1 + step)}, 10),
]


@pytest.mark.parametrize("optimizer", [("SGD", {"lr": 0.5, "momentum": 0.9}), ("AdamW", {"lr": 0.5})])
@pytest.mark.parametrize(("name", "arguments", "count"), SCHEDULES)
def test_schedules_against_pytorch(torch, optimizer, name, arguments, count):
    kind, options = optimizer

    def mine(scheduler):
        return getattr(scheduler, name)(getattr(optim, kind)([parameter()], **options), **arguments)

    def theirs(scheduler):
        p = torch.nn.Parameter(torch.ones(1))
        return getattr(scheduler, name)(getattr(torch.optim, kind)([p], **options), **arguments)

    a, schedule = rates(jj, lr_scheduler, mine, count)
    b, _ = rates(torch, torch.optim.lr_scheduler, theirs, count)
    np.testing.assert_allclose(a, b, rtol=1e-9)
    assert schedule.get_last_lr() == [a[-1][0]]


class TestSchedules:
    def build(self, p=None):
        return optim.SGD([parameter() if p is None else p], lr=0.5, momentum=0.9)

    def test_resuming(self):
        first = lr_scheduler.OneCycleLR(self.build(), max_lr=0.1, total_steps=10)
        for _ in range(4):
            first.step()
        optimizer = self.build()
        second = lr_scheduler.OneCycleLR(optimizer, max_lr=9.0, total_steps=10)
        optimizer.load_state_dict(first.optimizer.state_dict())
        second.load_state_dict(first.state_dict())
        for _ in range(5):
            first.step()
            second.step()
            assert first.get_last_lr() == second.get_last_lr()
        assert "optimizer" not in first.state_dict()

    def test_lambdas_are_not_saved(self):
        schedule = lr_scheduler.LambdaLR(self.build(), lambda step: 0.5**step)
        assert "lr_lambdas" not in schedule.state_dict()

    def test_one_cycle_ends(self):
        schedule = lr_scheduler.OneCycleLR(self.build(), max_lr=0.1, total_steps=3)
        for _ in range(3):
            schedule.step()
        with pytest.raises(ValueError, match=r"Tried to step 4 times\. The total number of steps is 3"):
            schedule.step()

    def test_one_cycle_extremes(self):
        for share in (0.0, 0.1, 1.0):
            schedule = lr_scheduler.OneCycleLR(self.build(), max_lr=0.1, total_steps=10, pct_start=share)
            seen = [schedule.get_last_lr()[0]]
            for _ in range(9):
                schedule.step()
                seen.append(schedule.get_last_lr()[0])
            assert max(seen) <= 0.1 + 1e-12
            assert all(math.isfinite(rate) and rate > 0 for rate in seen)

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ({}, "total_steps OR"),
            ({"total_steps": 0}, "positive integer total_steps"),
            ({"epochs": 2, "steps_per_epoch": 0}, "positive integer steps_per_epoch"),
            ({"total_steps": 5, "pct_start": 2.0}, "between 0 and 1 pct_start"),
            ({"total_steps": 5, "anneal_strategy": "step"}, "'cos' or 'linear'"),
            ({"total_steps": 5, "base_momentum": [0.1, 0.2]}, "expected 1 values for base_momentum, got 2"),
        ],
    )
    def test_refusals(self, arguments, text):
        with pytest.raises(ValueError, match=text):
            lr_scheduler.OneCycleLR(self.build(), max_lr=0.1, **arguments)

    def test_other_refusals(self):
        with pytest.raises(TypeError, match="int is not an Optimizer"):
            lr_scheduler.StepLR(3, 1)
        with pytest.raises(KeyError, match="initial_lr"):
            lr_scheduler.StepLR(self.build(), 1, last_epoch=3)
        with pytest.raises(ValueError, match="Expected 1 lr_lambdas, but got 2"):
            lr_scheduler.LambdaLR(self.build(), [abs, abs])
