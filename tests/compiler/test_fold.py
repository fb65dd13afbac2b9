"""Batch normalisation is folded into the convolutions of networks that are not trained, and nowhere else."""

import numpy as np
import pytest

import juanji as jj
from juanji import nn, optim
from juanji.nn import functional as F

#: Input channels, size, and the convolution: every way in which convolutions are lowered.
CONVOLUTIONS = {
    "dense": (16, 9, lambda: nn.Conv2d(16, 32, 3, padding=1)),
    "bias": (8, 9, lambda: nn.Conv2d(8, 12, 3, stride=2, bias=True)),
    "pointwise": (32, 7, lambda: nn.Conv2d(32, 48, 1, bias=False)),
    "depthwise": (20, 9, lambda: nn.Conv2d(20, 20, 3, padding=1, groups=20, bias=False)),
    "grouped": (16, 9, lambda: nn.Conv2d(16, 32, 3, groups=4)),
    "first": (3, 32, lambda: nn.Conv2d(3, 16, 7, stride=2, padding=3, bias=False)),
    "planar": (1, 40, lambda: nn.Conv2d(1, 3, 5, padding=2)),
    "few pixels": (64, 3, lambda: nn.Conv2d(64, 96, 3)),
    "few columns": (32, 16, lambda: nn.Conv2d(32, 2, 3)),
    "dilated": (8, 14, lambda: nn.Conv2d(8, 8, 3, dilation=2, padding=2)),
    "half the kernel in padding": (64, 1, lambda: nn.Conv2d(64, 64, 3, padding=1)),
}


def settled(net):
    """Statistics and factors as after training."""
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            with jj.no_grad():
                module.running_mean.copy_(jj.randn(*module.running_mean.shape))
                module.running_var.copy_(jj.rand(*module.running_var.shape) + 0.25)
                module.weight.copy_(jj.randn(*module.weight.shape))
                module.bias.copy_(jj.randn(*module.bias.shape))
    return net.eval()


def compiled(net):
    @jj.compile
    def step(x):
        with jj.no_grad():
            return net(x)

    return step


def repeated(step):
    """Labels of what runs at every call."""
    plan = step.plans[0]
    return [call.label for call in plan.calls[plan.steady :]]


def error(found, exact):
    return np.abs(found - exact).max() / np.abs(exact).max()


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_what_runs_at_every_call_adds_only(name):
    jj.manual_seed(3)
    channels, size, make = CONVOLUTIONS[name]
    conv = make()
    net = settled(nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU6()))
    x = jj.randn(2, channels, size, size)
    step = compiled(net)
    found, eager = step(x).numpy(), net(x).detach().numpy()
    labels = repeated(step)
    assert any("conv" in label and "add" in label for label in labels)
    assert not [label for label in labels if {"mul", "sub", "div", "rsqrt"} & set(label.split("+"))]
    exact = net.double()(x.double()).detach().numpy()
    assert error(found, exact) < max(3 * error(eager, exact), 1e-6)


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks(rank):
    jj.manual_seed(4)
    conv, norm = ((nn.Conv1d, nn.BatchNorm1d), None, (nn.Conv3d, nn.BatchNorm3d))[rank - 1]
    net = settled(nn.Sequential(conv(8, 16, 3, padding=1), norm(16), nn.ReLU()))
    x, step = jj.randn(2, 8, *(6,) * rank), compiled(net)
    np.testing.assert_allclose(step(x).numpy(), net(x).detach().numpy(), 1e-4, 1e-5)
    assert "conv+add+relu" in repeated(step)


def test_arithmetic_by_hand():
    """Every operation that is taken in, on both sides, with one number for all channels and one for each."""
    jj.manual_seed(5)
    weight, vector, x = jj.randn(6, 4, 3, 3), jj.rand(6, 1, 1) + 1, jj.randn(2, 4, 7, 7)

    def forward(x):
        y = (vector + F.conv2d(x, weight)) / vector * 3.0 - vector
        return vector * y / 2.0 + 1.0

    step = jj.compile(forward)
    np.testing.assert_allclose(step(x).numpy(), forward(x).numpy(), 1e-4, 1e-4)
    assert [label for label in repeated(step) if "conv" in label] == ["conv+add"]


def test_where_it_must_not_be_done():
    jj.manual_seed(6)
    weight, vector, x = jj.randn(6, 6, 3, 3), jj.rand(6, 1, 1) + 1, jj.randn(2, 6, 7, 7)

    def read_twice(x):
        y = F.conv2d(x, weight)
        return y * vector + y.relu()

    def returned(x):
        y = F.conv2d(x, weight)
        return y, y * vector + vector

    def along_rows(x):
        return F.conv2d(x, weight) * vector.reshape(1, 1, 1, 6)[..., :5] + vector

    def by_the_images(x):
        return F.conv2d(x, weight) * x.mean((2, 3), keepdim=True)

    def reversed_difference(x):
        return vector - F.conv2d(x, weight)

    for forward in (read_twice, returned, along_rows, by_the_images, reversed_difference):
        step = jj.compile(forward)
        found, expected = step(x), forward(x)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), 1e-4, 1e-4)
        assert {"mul", "sub"} & {part for label in repeated(step) for part in label.split("+")}

    @jj.compile
    def given(x, weight):
        return F.conv2d(x, weight) * vector + vector

    given(x, weight)
    assert "conv+mul+add" in repeated(given)


def test_training_leaves_weights_as_they_are():
    """Frozen statistics in a step that trains, with an optimiser or without."""
    jj.manual_seed(7)
    net = settled(nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU()))
    net[1].requires_grad_(False)
    optimizer, x = optim.SGD(net.parameters(), lr=0.1), jj.randn(2, 4, 6, 6)

    @jj.compile
    def gradients(x):
        net.zero_grad()
        net(x).sum().backward()

    @jj.compile
    def training(x):
        optimizer.zero_grad()
        net(x).sum().backward()
        optimizer.step()

    for step in (gradients, training):
        step(x)
        assert any(label.startswith("conv+") and "mul" in label for label in repeated(step))


def test_changes_are_seen():
    jj.manual_seed(8)
    net, x = settled(nn.Sequential(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU())), jj.randn(1, 6, 8, 8)
    step = compiled(net)
    for name, value in net.state_dict().items():
        if value.dtype == jj.float32:
            before = step(x).numpy()
            with jj.no_grad():
                value.mul_(1.5)
            after = step(x).numpy()
            np.testing.assert_allclose(after, net(x).detach().numpy(), 1e-4, 1e-5)
            assert np.abs(after - before).max() > 1e-3, name
    net.load_state_dict({k: v * 2 for k, v in net.state_dict().items()})
    np.testing.assert_allclose(step(x).numpy(), net(x).detach().numpy(), 1e-4, 1e-5)
    assert step.traces == 1


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_lite0", "vgg11_bn"])
def test_networks(name):
    """No multiplication is left behind a convolution; the result is as exact as before, and the same on any threads."""
    jj.manual_seed(9)
    net = jj.zoo.create(name, num_classes=10).eval()
    size = 64 if name != "vgg11_bn" else 32
    x, step = jj.randn(1, 3, size, size), compiled(net)
    found, eager = step(x).numpy(), net(x).detach().numpy()
    assert not [label for label in repeated(step) if "conv" in label and {"mul", "sub"} & set(label.split("+"))]
    try:
        for threads in (2, 3, 4):
            jj.set_num_threads(threads)
            for _ in range(3):
                np.testing.assert_array_equal(step(x).numpy(), found)
    finally:
        jj.set_num_threads(1)
    exact = net.double()(x.double()).detach().numpy()
    assert error(found, exact) < max(3 * error(eager, exact), 1e-6)
