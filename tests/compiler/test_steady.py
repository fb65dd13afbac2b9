"""What depends only on a network's weights is computed once, and again as soon as somebody has changed them."""

import gc

import numpy as np
import pytest

import juanji as jj
from juanji import nn, optim
from juanji.nn import functional as F


def network():
    jj.manual_seed(1)
    return nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 1)).eval()


def compiled(net):
    @jj.compile
    def step(x):
        with jj.no_grad():
            return net(x)

    return step


def runs_of(step):
    """How often the plan's first calls have run since."""
    plan, count = step.plans[0], []
    run = plan._prologue.run
    plan._prologue.run = lambda: (count.append(1), run())
    return count


def test_weights_are_packed_once():
    net, x = network(), jj.randn(1, 8, 6, 6)
    step = compiled(net)
    step(x)
    plan = step.plans[0]
    packing = [i for i, c in enumerate(plan.calls) if "pack weights" in c.label]
    assert len(packing) == 2
    assert max(packing) < plan.steady
    assert "when what they read has changed" in plan.describe()
    count = runs_of(step)
    for _ in range(4):
        np.testing.assert_allclose(step(x).numpy(), net(x).detach().numpy(), 1e-5, 1e-5)
    assert not count


def in_place(net):
    net[0].weight.detach().mul_(2.0)


def loading(net):
    net.load_state_dict({k: v * 2 for k, v in net.state_dict().items()})


def statistics(net):
    net.train()(jj.randn(4, 8, 6, 6))
    net.eval()


def training(net):
    optimizer = optim.SGD(net.parameters(), lr=0.5)

    @jj.compile
    def step(x):
        optimizer.zero_grad()
        (net(x) ** 2).mean().backward()
        optimizer.step()

    step(jj.randn(2, 8, 6, 6))


def numpy_view(net):
    net[0].weight.detach().numpy()[...] *= 2


def replaced(net):
    net[0].weight = nn.Parameter(net[0].weight.detach() * 2)


def memory_of_an_array(net):
    net[0].weight = nn.Parameter(jj.from_numpy(np.full((16, 8, 3, 3), 0.1, np.float32)))


CHANGES = (in_place, loading, statistics, training, numpy_view, replaced, memory_of_an_array)


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__)
def test_changed_weights_are_seen(change):
    net, x = network(), jj.randn(1, 8, 6, 6)
    step = compiled(net)
    for _ in range(2):
        before = step(x).numpy()
    for _ in range(2):
        change(net)
        gc.collect()
        for _ in range(2):
            np.testing.assert_allclose(step(x).numpy(), net(x).detach().numpy(), 1e-4, 1e-5)
    assert abs(step(x).numpy() - before).max() > 1e-3


def test_an_array_that_shows_the_weights_may_change_them_at_any_time():
    net, x = network(), jj.randn(1, 8, 6, 6)
    step, array = compiled(net), net[3].weight.detach().numpy()
    for _ in range(3):
        array *= 1.5
        np.testing.assert_allclose(step(x).numpy(), net(x).detach().numpy(), 1e-4, 1e-5)
    count = runs_of(step)
    array *= 2
    del array
    gc.collect()
    for _ in range(3):
        np.testing.assert_allclose(step(x).numpy(), net(x).detach().numpy(), 1e-4, 1e-5)
    assert len(count) == 1


def test_memory_from_outside():
    """The array that a parameter was made of is written to."""
    memory = np.ones((4, 3, 1, 1), np.float32)
    weight, x = jj.from_numpy(memory), jj.ones(1, 3, 5, 5)
    step = jj.compile(lambda x: F.conv2d(x, weight))
    for factor in (1, 2, 5):
        memory[...] = factor
        assert step(x).flatten().tolist() == [3.0 * factor] * 100
    other = np.frombuffer(bytearray(48), np.float32).reshape(4, 3, 1, 1)
    weight = jj.from_numpy(other)
    step = jj.compile(lambda x: F.conv2d(x, weight))
    for factor in (1, 2, 5):
        other[...] = factor
        assert step(x).flatten().tolist() == [3.0 * factor] * 100


def test_frozen_layers_of_a_network_that_is_trained():
    net, head = network(), nn.Linear(8 * 36, 3)
    net.requires_grad_(False)
    optimizer = optim.SGD(head.parameters(), lr=0.1)

    @jj.compile
    def step(x):
        optimizer.zero_grad()
        loss = (head(net(x).flatten(1)) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    x = jj.randn(2, 8, 6, 6)
    losses = [step(x).item() for _ in range(3)]
    assert losses[2] < losses[1] < losses[0]
    labels = [c.label for c in step.plans[0].calls[: step.plans[0].steady]]
    assert sum("pack weights" in label for label in labels) == 2


def test_few_pixels_take_the_panels_that_are_kept():
    """Weights as they lie spare packing them; where that is done once, panels are better."""
    jj.manual_seed(0)
    net, x = nn.Conv2d(128, 64, 3).eval(), jj.randn(1, 128, 4, 4)

    @jj.compile
    def inference(x):
        with jj.no_grad():
            return net(x)

    @jj.compile
    def given(x, weight):
        return nn.functional.conv2d(x, weight)

    np.testing.assert_allclose(inference(x).numpy(), net(x).detach().numpy(), rtol=1e-4, atol=1e-5)
    given(x, net.weight.detach())
    ways = [[c.algorithm for c in step.plans[0].calls if c.flops] for step in (inference, given)]
    assert ways == [["contraction"], ["few pixels"]]
