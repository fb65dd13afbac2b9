"""Activations computed a second time for the gradient: the same bits, in much less memory."""

import numpy as np
import pytest

import juanji as jj
from juanji import nn, optim
from juanji.compiler import again, passes
from juanji.nn import functional as F


class Net(nn.Module):
    """Normalised convolutions, one of them depthwise and one with a bias, pooling and a residual addition."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(16, 48, 1, bias=False), nn.BatchNorm2d(48), nn.ReLU6(),
                nn.Conv2d(48, 48, 3, padding=1, groups=48, bias=False), nn.BatchNorm2d(48), nn.LeakyReLU(0.1),
                nn.Conv2d(48, 16, 1, bias=False), nn.BatchNorm2d(16),
            )
            for _ in range(3)
        )  # fmt: skip
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean((2, 3)))


def trained(dtype, compiled=True):
    """Losses and parameters after three steps, and the plan."""
    jj.manual_seed(0)
    net = Net().to(dtype)
    optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    run = jj.compile(step) if compiled else step
    numbers = np.random.default_rng(0)
    x = jj.tensor(numbers.standard_normal((4, 3, 16, 16)), dtype=dtype)
    losses = [run(x, jj.tensor([0, 1, 2, 3])).item() for _ in range(3)]
    return losses, [p.detach().numpy() for p in net.parameters()], run.plans[-1] if compiled else None


@pytest.mark.parametrize("dtype", [jj.float32, jj.float64])
def test_same_bits_in_less_memory(monkeypatch, kernel_target, dtype):
    monkeypatch.setattr(again, "LARGE", 256)
    losses, parameters, plan = trained(dtype)
    eager_losses, eager_parameters, _ = trained(dtype, compiled=False)
    monkeypatch.setattr(passes, "compute_again", lambda graph, outputs: outputs)
    kept_losses, kept_parameters, kept = trained(dtype)
    assert losses == kept_losses
    for a, b in zip(parameters, kept_parameters, strict=True):
        np.testing.assert_array_equal(a, b)
    tolerance = 1e-9 if dtype is jj.float64 else 1e-3
    np.testing.assert_allclose(losses, eager_losses, tolerance)
    for a, b in zip(parameters, eager_parameters, strict=True):
        np.testing.assert_allclose(a, b, tolerance, tolerance)
    assert plan.arena_bytes < 0.75 * kept.arena_bytes, (plan.arena_bytes, kept.arena_bytes)


def test_same_bits_on_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(again, "LARGE", 256)
    before, results = jj.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 4):
            jj.set_num_threads(threads)
            results.append(trained(jj.float32)[:2])
    finally:
        jj.set_num_threads(before)
    for losses, parameters in results[1:]:
        assert losses == results[0][0]
        for a, b in zip(parameters, results[0][1], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("name", "share"), [("resnet18", 0.8), ("mobilenet_v2", 0.6)])
def test_zoo_needs_less_memory(monkeypatch, name, share):
    """Plans are made and not run; momentum exists from the second step on and is no part of either."""
    monkeypatch.setattr("juanji.compiler.plan.Plan.run", lambda *_: None)
    sizes = []
    for without in (False, True):
        if without:
            monkeypatch.setattr(passes, "compute_again", lambda graph, outputs: outputs)
        net = jj.zoo.create(name, num_classes=4)

        @jj.compile
        def step(x, net=net):
            loss = net(x).square().mean()
            loss.backward()
            return loss

        step(jj.zeros(16, 3, 224, 224))
        sizes.append(step.plans[0].arena_bytes)
    assert sizes[0] < share * sizes[1], sizes


def test_what_stays():
    """What is read again soon, what many operations make and what inference computes is computed once."""
    w = jj.tensor(np.random.default_rng(1).standard_normal((32, 32, 3, 3)) / 8)

    def far(x):
        y = F.conv2d(x, w, padding=1)
        return (y * 2).exp(), F.conv2d((y * 2).exp(), w, padding=1)

    x = jj.ones(2, 32, 40, 40, dtype=jj.float64)
    compiled = jj.compile(far)
    for got, expected in zip(compiled(x), far(x), strict=True):
        np.testing.assert_allclose(got.numpy(), expected.numpy(), 1e-12)
    assert sum("exp" in call.label for call in compiled.plans[0].calls) == 1
