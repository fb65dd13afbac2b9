"""Gradients clipped and parameters as vectors, as PyTorch does, eager and in a compiled step."""

import math

import numpy as np
import pytest

import juanji as jj
from juanji import nn

NORMS = (1.0, 2.0, 3.0, math.inf)


def layer_with_gradients():
    jj.manual_seed(0)
    layer = nn.Linear(4, 3)
    (layer(jj.randn(5, 4)) ** 2).sum().backward()
    return layer


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_clip_by_norm(norm, limit):
    torch = pytest.importorskip("torch")
    layer = layer_with_gradients()
    theirs = [torch.nn.Parameter(torch.tensor(p.detach().numpy())) for p in layer.parameters()]
    for a, b in zip(theirs, layer.parameters(), strict=True):
        a.grad = torch.tensor(b.grad.numpy().copy())
    expected = torch.nn.utils.clip_grad_norm_(theirs, limit, norm)
    total = nn.utils.clip_grad_norm_(layer.parameters(), limit, norm)
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    for a, b in zip(theirs, layer.parameters(), strict=True):
        np.testing.assert_allclose(b.grad.numpy(), a.grad.numpy(), rtol=1e-5)


def test_clip_in_a_compiled_step():
    def step(layer, optimizer, x):
        optimizer.zero_grad()
        (layer(x) ** 2).sum().backward()
        total = nn.utils.clip_grad_norm_(layer.parameters(), 0.1)
        optimizer.step()
        return total

    first, second = layer_with_gradients(), layer_with_gradients()
    x = jj.randn(5, 4)
    eager = [step(first, o, x).item() for o in [jj.optim.SGD(first.parameters(), 0.5)] for _ in range(3)]
    optimizer = jj.optim.SGD(second.parameters(), 0.5)
    fast = jj.compile(lambda x: step(second, optimizer, x))
    assert [fast(x).item() for _ in range(3)] == pytest.approx(eager, rel=1e-5)
    np.testing.assert_allclose(second.weight.detach().numpy(), first.weight.detach().numpy(), rtol=1e-5)


def test_clip_by_value_and_errors():
    layer = layer_with_gradients()
    nn.utils.clip_grad_value_(layer.parameters(), 0.25)
    assert max(float(p.grad.abs().max()) for p in layer.parameters()) == 0.25
    layer.weight.grad[0, 0] = math.nan
    with pytest.raises(RuntimeError, match="non-finite"):
        nn.utils.clip_grad_norm_(layer.parameters(), 1.0, error_if_nonfinite=True)
    assert nn.utils.clip_grad_norm_([nn.Parameter(jj.ones(2))], 1.0).item() == 0
    with pytest.raises(TypeError, match="must be tensors, not int"):
        nn.utils.clip_grad_norm_([3], 1.0)


def test_parameters_as_a_vector():
    layer = layer_with_gradients()
    vector = nn.utils.parameters_to_vector(layer.parameters())
    assert vector.requires_grad
    nn.utils.vector_to_parameters(jj.arange(15.0), layer.parameters())
    assert layer.bias.tolist() == [12.0, 13.0, 14.0]
    with pytest.raises(ValueError, match=r"vec of shape \[3\] must be \[15\]"):
        nn.utils.vector_to_parameters(jj.zeros(3), layer.parameters())


def test_new_tensor_and_sizes():
    x = jj.zeros(2, 3, dtype=jj.float64)
    assert x.new_tensor([1, 2]).dtype is jj.float64
    assert x.new_tensor([1, 2], dtype=jj.int8).dtype is jj.int8
    assert (x.nbytes, x.itemsize) == (48, 8)
