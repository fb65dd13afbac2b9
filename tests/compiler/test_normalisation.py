"""Batch normalisation inside of a step: few passes over memory, nothing kept that is quickly computed again."""

import numpy as np
import pytest

import juanji as jj
from juanji import nn, optim
from juanji.nn import functional as F

#: Enough elements for reductions in two steps: 4 x 32 x 24 x 24 = 73,728.
BATCH, CHANNELS, SIZE = 4, 32, 24


def network(activation):
    jj.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, CHANNELS, 3, padding=1, bias=False),
        nn.BatchNorm2d(CHANNELS),
        activation(),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False),
        nn.BatchNorm2d(CHANNELS),
    )


def data():
    random = np.random.default_rng(4)
    return jj.tensor(random.standard_normal((BATCH, 3, SIZE, SIZE)).astype(np.float32))


def training_step(net, compiled):
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    def step(x):
        optimizer.zero_grad()
        y = net(x)
        loss = (F.relu(y + y.mean((2, 3), keepdim=True)) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    return jj.compile(step) if compiled else step


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.Hardswish])
def test_compiled_steps_equal_eager_ones(activation):
    nets = [network(activation), network(activation)]
    steps = [training_step(net, compiled) for net, compiled in zip(nets, (False, True), strict=True)]
    for _ in range(3):
        expected, got = (step(data()).item() for step in steps)
        assert got == pytest.approx(expected, rel=1e-4)
    for (name, a), (_, b) in zip(*(net.state_dict().items() for net in nets), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), 2e-3, 2e-4, err_msg=name)


def large_calls(plan, elements):
    """Labels of the loops that touch a value of so many float32 elements, kernels over parts of one aside."""
    return [
        call.label
        for call in plan.calls
        if type(call.spec).__name__ == "LoopSpec" and any(b.nbytes == 4 * elements for b in call.buffers())
    ]


def test_passes_over_memory():
    """Forward: the moments, the normalised output. Backward: both sums, the gradient."""
    net = nn.Sequential(nn.Conv2d(16, CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS), nn.ReLU6())
    head = nn.Conv2d(CHANNELS, 16, 3, padding=1)

    @jj.compile
    def step(x):
        head(net(x)).sum().backward()

    step(jj.zeros(BATCH, 16, SIZE, SIZE))
    plan = step.plans[0]
    large = large_calls(plan, BATCH * CHANNELS * SIZE * SIZE)
    assert len(large) == 4, plan.describe()
    assert large[0] == "moments"
    assert "reorder" not in " ".join(c.label for c in plan.calls[2:-2] if c.label in large)


def test_gradients_take_the_place_of_what_they_are_made_of():
    """Kept are two values of each layer, its convolution's output and its own, and the input; two are on the way."""
    depth, elements = 6, BATCH * CHANNELS * SIZE * SIZE
    net = nn.Sequential(
        *(nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False), nn.BatchNorm2d(CHANNELS), nn.ReLU())
          for _ in range(depth))
    )  # fmt: skip

    @jj.compile
    def step(x):
        net(x).sum().backward()

    step(jj.zeros(BATCH, CHANNELS, SIZE, SIZE))
    assert step.plans[0].arena_bytes < 4 * elements * (2 * depth + 3.3)


def test_shared_factors_leave_sums():
    """The sum of x * f, f the same for all terms of a sum, is that of x times f: one sum serves both."""
    x, f = jj.randn(64, 96), jj.randn(1, 96)

    @jj.compile
    def sums(x, f):
        return x.sum(0), (x * f).sum(0), (-x).sum(0)

    results = [r.numpy() for r in sums(x, f)]
    values = x.numpy().astype(np.float64)
    for got, expected in zip(results, (values, values * f.numpy(), -values), strict=True):
        np.testing.assert_allclose(got, expected.sum(0), 1e-5, 1e-5)
    assert sum(c.label.startswith("sum") for c in sums.plans[0].calls) == 1


@pytest.mark.parametrize("layout", ["channels last", "channels first"])
def test_long_moments_far_from_zero(layout, kernel_target):
    random = np.random.default_rng(5)
    shape = (BATCH, SIZE, SIZE, CHANNELS) if layout == "channels last" else (BATCH, CHANNELS, SIZE, SIZE)
    memory = random.uniform(1000, 1001, shape).astype(np.float32)
    x = jj.from_numpy(memory)
    x = x.permute(0, 3, 1, 2) if layout == "channels last" else x
    got = F.batch_norm(x, None, None, training=True).numpy()
    values = x.numpy().astype(np.float64)
    mean, var = values.mean((0, 2, 3), keepdims=True), values.var((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(got, (values - mean) / np.sqrt(var + 1e-5), 1e-2, 1e-3)
