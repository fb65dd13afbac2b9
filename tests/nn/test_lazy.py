"""Lazy layers: what they are before and after their first input, as in PyTorch."""

import copy

import numpy as np
import pytest

import juanji as jj
from juanji import nn
from juanji.errors import CaptureError, ShapeError

CASES = [
    ("LazyConv1d", (4, 3), (2, 6, 9)),
    ("LazyConv2d", (4, 3), (2, 6, 9, 8)),
    ("LazyConv2d", (4, 3, 1, "same", 1, 2, False, "reflect"), (6, 9, 9)),
    ("LazyConv3d", (4, 3), (2, 6, 5, 5, 5)),
    ("LazyConvTranspose1d", (4, 3), (6, 5)),
    ("LazyConvTranspose2d", (4, 3, 2, 1, 1, 2), (2, 6, 5, 5)),
    ("LazyConvTranspose3d", (4, 3), (1, 2, 3, 3, 3)),
    ("LazyLinear", (4,), (2, 3, 5)),
    ("LazyLinear", (4, False), (5,)),
    ("LazyBatchNorm1d", (1e-5, None, False), (4, 2)),
    ("LazyBatchNorm2d", (), (2, 3, 4, 4)),
    ("LazyBatchNorm3d", (1e-3, 0.2, True, False), (2, 3, 2, 2, 2)),
    ("LazyInstanceNorm1d", (), (2, 3, 4)),
    ("LazyInstanceNorm2d", (), (2, 3, 4, 4)),
    ("LazyInstanceNorm3d", (), (2, 3, 2, 2, 2)),
]


@pytest.mark.parametrize(("name", "arguments", "shape"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_layers_are_those_of_pytorch(name, arguments, shape):
    torch = pytest.importorskip("torch")
    found = []
    for m in (jj, torch):
        layer = getattr(m.nn, name)(*arguments)
        before = repr(layer), list(layer.state_dict()), layer.has_uninitialized_params()
        output = layer(m.ones(*shape))
        after = repr(layer), type(layer).__name__, tuple(output.shape)
        shapes = {k: tuple(v.shape) for k, v in layer.state_dict().items()}
        found.append((before, after, shapes, [type(p).__name__ for p in layer.parameters()]))
    assert found[0] == found[1]


def test_a_network_is_trained_by_an_optimiser_that_was_there_before():
    net = nn.Sequential(nn.LazyConv2d(3, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    optimizer = jj.optim.SGD(net.parameters(), lr=0.5)
    images = jj.randn(4, 1, 5, 5)
    net(images)
    before = [p.detach().clone() for p in net.parameters()]

    @jj.compile
    def step(images):
        optimizer.zero_grad()
        loss = (net(images) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    step(images)
    for old, new in zip(before, net.parameters(), strict=True):
        if new is not net[0].bias:  # batch normalisation takes it away again
            assert not np.array_equal(old.numpy(), new.detach().numpy())


def test_a_state_gives_the_shapes():
    fixed, lazy = nn.Conv2d(2, 4, 3), nn.LazyConv2d(4, 3)
    lazy.load_state_dict(fixed.state_dict())
    assert not lazy.has_uninitialized_params()
    x = jj.randn(1, 2, 5, 5)
    assert jj.equal(lazy(x), fixed(x))
    assert repr(lazy) == repr(fixed)
    norm = nn.LazyBatchNorm1d()
    seen = nn.BatchNorm1d(3)
    seen(jj.randn(5, 3))
    norm.load_state_dict(seen.state_dict())
    assert jj.equal(norm.eval()(jj.ones(2, 3)), seen.eval()(jj.ones(2, 3)))


def test_states_without_shapes():
    state = nn.LazyConv2d(4, 3).state_dict()
    other = nn.LazyConv2d(4, 3)
    other.load_state_dict(state)
    assert other.has_uninitialized_params()
    with pytest.raises(RuntimeError, match='"weight" is uninitialized in the checkpoint'):
        nn.Conv2d(2, 4, 3).load_state_dict(state)


def test_element_types_and_copies():
    layer = copy.deepcopy(nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d()).double())
    assert layer(jj.ones(2, 5, dtype=jj.float64)).dtype is jj.float64
    assert layer[1].running_mean.dtype is jj.float64
    assert nn.LazyLinear(3, dtype=jj.float64)(jj.ones(2, dtype=jj.float64)).dtype is jj.float64
    assert nn.LazyLinear(3).requires_grad_(False)(jj.ones(2)).requires_grad is False


def test_frozen_before():
    layer = nn.LazyBatchNorm1d().freeze()
    layer(jj.randn(4, 3))
    assert layer.running_mean.tolist() == [0.0, 0.0, 0.0]
    assert not layer.weight.requires_grad


@pytest.mark.parametrize(
    "use",
    [
        lambda w: w.shape,
        lambda w: w + 1,
        lambda w: jj.relu(w),
        lambda w: w.numel(),
        lambda w: w.detach().numpy(),
        lambda w: w.sum(),
        lambda w: w.zero_(),
        lambda w: nn.functional.linear(jj.ones(1, 1), w),
    ],
)
def test_without_a_shape_nothing_is_computed(use):
    for value in (nn.LazyLinear(2).weight, nn.LazyBatchNorm1d().running_mean):
        with pytest.raises(RuntimeError, match="uninitialized parameter or buffer"):
            use(value)


def test_texts():
    layer = nn.LazyLinear(2)
    assert repr(layer.weight) == "<UninitializedParameter>"
    assert repr(nn.LazyBatchNorm1d().running_var) == "<UninitializedBuffer>"
    assert "UninitializedParameter" in layer.weight._repr_html_()
    assert "LazyLinear" in layer._repr_html_()
    assert isinstance(layer.weight, (nn.UninitializedParameter, nn.Parameter))


def test_wrong_inputs_leave_a_layer_as_it_was():
    layer = nn.LazyConv2d(4, 3, groups=2)
    with pytest.raises(ValueError, match="divisible by groups"):
        layer(jj.ones(1, 3, 5, 5))
    with pytest.raises(ShapeError, match=r"of shape \[3, 5\]"):
        layer(jj.ones(3, 5))
    with pytest.raises(TypeError, match="input"):
        layer([1.0])
    with pytest.raises(ShapeError, match="dimension"):
        nn.LazyLinear(2)(jj.tensor(1.0))
    assert layer.has_uninitialized_params()
    assert layer(jj.ones(1, 2, 5, 5)).shape == (1, 4, 3, 3)


def test_a_captured_step_says_what_to_do():
    net = nn.Sequential(nn.LazyLinear(2))
    step = jj.compile(lambda x: net(x))
    with pytest.raises(CaptureError, match="call the network once before"):
        step(jj.ones(1, 3))
    net(jj.ones(1, 3))
    assert step(jj.ones(1, 3)).shape == (1, 2)
