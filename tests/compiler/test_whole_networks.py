"""Whole networks of the zoo in double precision: a compiled training pass means what the eager one means."""

import numpy as np
import pytest

import juanji as jj
from juanji import zoo


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18"])
def test_compiled_gradients_are_the_eager_ones(name):
    jj.manual_seed(0)
    net = zoo.create(name, num_classes=3).double()
    for module in net.modules():
        if isinstance(module, jj.nn.Dropout):
            module.p = 0.0
    x = jj.randn(2, 3, 32, 32, dtype=jj.float64)

    def step(x):
        for p in net.parameters():
            p.grad = None
        loss = net(x).sum()
        loss.backward()
        return loss

    state = {key: value.clone() for key, value in net.state_dict().items()}
    expected = step(x).item()
    gradients = [p.grad.numpy().copy() for p in net.parameters()]
    net.load_state_dict(state)
    assert jj.compile(step)(x).item() == pytest.approx(expected, rel=1e-6)
    largest = max(np.abs(g).max() for g in gradients)
    for found, gradient in zip(net.parameters(), gradients, strict=True):
        np.testing.assert_allclose(found.grad.numpy(), gradient, rtol=1e-5, atol=1e-8 * largest)
