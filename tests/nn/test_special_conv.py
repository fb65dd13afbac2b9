"""Depthwise-separable and dynamic convolution layers."""

import numpy as np
import pytest

import juanji as jj
from juanji import nn
from juanji.nn import functional as F


def test_separable_is_a_product_of_kernels():
    layer = nn.SeparableConv2d(3, 5, (3, 2), stride=2, padding=1, depth_multiplier=2)
    x = jj.randn(2, 3, 7, 6)
    depth, point = layer.depthwise.weight, layer.pointwise.weight
    whole = (point.reshape(5, 3, 2, 1, 1) * depth.reshape(1, 3, 2, 3, 2)).sum(2)
    assert jj.allclose(layer(x), F.conv2d(x, whole, layer.pointwise.bias, stride=2, padding=1), atol=1e-5)
    assert layer.depthwise.bias is None
    assert layer(x[0]).shape == (5, 4, 4)
    with pytest.raises(ValueError, match="depth_multiplier"):
        nn.SeparableConv2d(3, 5, 3, depth_multiplier=0)


@pytest.mark.parametrize("groups", [1, 2])
def test_dynamic_convolves_each_image_with_its_own_kernel(groups):
    jj.manual_seed(0)
    layer = nn.DynamicConv2d(4, 6, 3, stride=2, padding=1, groups=groups, kernels=3, temperature=0.5)
    x = jj.randn(3, 4, 6, 7)
    shares = layer.attention(x)
    np.testing.assert_allclose(shares.sum(1).detach().numpy(), 1, 1e-6)
    assert abs(shares[0] - shares[1]).max() > 1e-3
    out = layer(x)
    for i in range(3):
        kernel = (shares[i].reshape(3, 1, 1, 1, 1) * layer.weight).sum(0)
        bias = (shares[i].reshape(3, 1) * layer.bias).sum(0)
        assert jj.allclose(out[i], F.conv2d(x[i], kernel, bias, 2, 1, groups=groups), atol=1e-5)
        assert jj.allclose(layer(x[i]), out[i], atol=1e-5)
    assert jj.allclose(jj.compile(layer)(x), out, atol=1e-5)
    out.sum().backward()
    assert all(p.grad is not None and abs(p.grad).sum() > 0 for p in layer.parameters())


def test_dynamic_layer_with_one_kernel_is_a_plain_one():
    layer = nn.DynamicConv2d(2, 3, 3, padding="same", kernels=1)
    x = jj.randn(2, 2, 5, 5)
    assert jj.allclose(layer(x), F.conv2d(x, layer.weight[0], layer.bias[0], padding="same"), atol=1e-5)
    assert layer(jj.zeros(0, 2, 5, 5)).shape == (0, 3, 5, 5)
    assert repr(layer).startswith(
        "DynamicConv2d(\n  2, 3, kernel_size=(3, 3), stride=(1, 1), kernels=1, temperature=30.0"
    )


def test_a_high_temperature_mixes_evenly():
    layer, x = nn.DynamicConv2d(2, 3, 3, kernels=4, temperature=1e6), jj.randn(2, 2, 5, 5)
    np.testing.assert_allclose(layer.attention(x).detach().numpy(), 0.25, 1e-4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nn.DynamicConv2d(2, 3, 3, kernels=0), "kernels must be at least 1"),
        (lambda: nn.DynamicConv2d(2, 3, 3, temperature=0), "temperature must be positive"),
        (lambda: nn.DynamicConv2d(2, 3, 3, groups=2), "out_channels must be divisible"),
        (lambda: nn.DynamicConv2d(2, 3, 3)(jj.ones(1, 3, 5, 5)), "must be .N, 2, H, W."),
    ],
)
def test_errors(call, words):
    with pytest.raises(ValueError, match=words):
        call()
