"""Concatenations: what makes a part writes it to its place, gradients read their parts, and values are the eager ones."""

import numpy as np
import pytest

import juanji as jj
from juanji.nn import functional as F

#: Calls that only move elements of feature maps.
MOVES = ("write region", "copy base", "stage", "reorder", "match")


def moves(plan):
    return [call.label for call in plan.calls if call.label.startswith(MOVES)]


def weights(*shapes, dtype):
    numbers = np.random.default_rng(3)
    return [jj.tensor(numbers.standard_normal(s) / 4, dtype=dtype).requires_grad_() for s in shapes]


def both(function, x, parameters):
    """Results and gradients of a function, compiled and eagerly, and the plan."""
    found = []
    compiled = jj.compile(function)
    for run in (compiled, function):
        for p in parameters:
            p.grad = None
        out = run(x)
        found.append([out.detach().numpy().copy(), *(p.grad.numpy().copy() for p in parameters)])
    return (*found, compiled.plans[0])


def agree(got, expected, dtype):
    tolerance = 1e-10 if dtype is jj.float64 else 2e-4
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, tolerance, tolerance * np.abs(b).max())


@pytest.mark.parametrize("dtype", [jj.float32, jj.float64])
def test_inception_block(kernel_target, dtype):
    """Convolutions of several kernels, a depthwise one and pooling side by side, as in GoogLeNet."""
    w = weights((16, 16, 3, 3), (24, 16, 1, 1), (16, 1, 3, 3), (16, 72, 3, 3), (16, 3, 3, 3), dtype=dtype)
    x = jj.tensor(np.random.default_rng(0).standard_normal((2, 3, 12, 11)), dtype=dtype)

    def step(x):
        x = F.conv2d(x, w[4], padding=1)
        parts = [F.relu(F.conv2d(x, w[0], padding=1)), F.conv2d(x, w[1]).tanh(), F.max_pool2d(x, 3, 1, 1)]
        joined = jj.cat([*parts, F.conv2d(x, w[2], padding=1, groups=16)], 1)
        loss = F.conv2d(joined, w[3], padding=1).square().mean()
        loss.backward()
        return loss

    got, expected, plan = both(step, x, w)
    agree(got, expected, dtype)
    assert len(moves(plan)) <= 1, "the network's input"


@pytest.mark.parametrize("dtype", [jj.float32, jj.float64])
def test_dense_block(kernel_target, dtype):
    """Every layer reads all before it, as in DenseNet: what a layer adds is written to its place in the last of all."""
    w = weights((16, 16, 3, 3), (16, 32, 3, 3), (16, 48, 3, 3), dtype=dtype)
    x = jj.tensor(np.random.default_rng(1).standard_normal((2, 16, 9, 9)), dtype=dtype)

    def step(x):
        for weight in w:
            x = jj.cat([x, F.relu(F.conv2d(x, weight, padding=1))], 1)
        loss = (x * x).sum()
        loss.backward()
        return loss

    got, expected, plan = both(step, x, w)
    agree(got, expected, dtype)
    assert sum(label.startswith("write region") for label in moves(plan)) == 1, "the network's input"
    assert "copy base" not in moves(plan)


@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_parts_that_live_on(dim):
    """A part is read again after the whole has been changed; a part is there twice; another is a view."""
    numbers = np.random.default_rng(2)
    x = jj.tensor(numbers.standard_normal((16, 16, 16, 16)))

    def step(x):
        a, b = x * 2, x.exp()
        whole = jj.cat([a, b, a, x.transpose(0, 1)], dim).tanh()
        other = jj.cat([b, whole.narrow(dim, 5, 3), a + 1], dim)
        return whole, other, a * b

    for got, expected in zip(jj.compile(step)(x), step(x), strict=True):
        np.testing.assert_array_equal(got.numpy(), expected.numpy())


def test_whole_in_memory_that_is_read():
    """The whole replaces a tensor whose old content the parts are made of."""

    def step(p, x):
        with jj.no_grad():
            p.copy_(jj.cat([p[4:] * 2, x + p[:4], p[:0]]))
        return p.sum()

    p, q = jj.arange(8.0), jj.arange(8.0)
    x = jj.ones(4)
    assert jj.compile(step)(p, x).item() == step(q, x).item()
    np.testing.assert_array_equal(p.numpy(), q.numpy())


def test_doubled_and_shuffled_pictures_stay_channels_last():
    """Copies for reshaping keep the order in which maps lie."""
    w = jj.tensor(np.random.default_rng(4).standard_normal((16, 16, 3, 3)))

    def step(x):
        n, c, h, v = x.shape
        x = F.conv2d(x, w, padding=1)
        x = x.reshape(n, 4, c // 4, h, v).transpose(1, 2).reshape(n, c, h, v)
        x = x.reshape(n, c, h, 1, v, 1).expand(n, c, h, 2, v, 2).reshape(n, c, 2 * h, 2 * v)
        return F.conv2d(x, w, padding=1).amax((2, 3))

    x = jj.tensor(np.random.default_rng(5).standard_normal((2, 16, 6, 7)))
    compiled = jj.compile(step)
    np.testing.assert_allclose(compiled(x).numpy(), step(x).numpy(), 1e-12, 1e-12)
    reorders = [label for label in moves(compiled.plans[0]) if "reorder" in label]
    assert len(reorders) == 3, reorders  # the input, the shuffle and the doubling


def test_gradient_of_slices_reads_no_zeros():
    """Slices of what was written part by part are the parts: one value a channel is not made into two and one again."""
    net = jj.nn.Sequential(jj.nn.Conv2d(3, 8, 3, padding=1), jj.nn.BatchNorm2d(8), jj.nn.ReLU())

    @jj.compile
    def step(x):
        loss = net(x).square().sum()
        loss.backward()
        return loss

    step(jj.randn(2, 3, 8, 8))
    assert not [call.label for call in step.plans[0].calls if call.label in ("copy base", "write region")]
