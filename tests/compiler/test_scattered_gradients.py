"""Gradients behind max pooling, which lie at the maxima and are zero elsewhere."""

import numpy as np
import pytest

import juanji as jj
from juanji.nn import functional as F


def whole(generator, *shape):
    return generator.integers(-3, 4, shape).astype(np.float32)


def gradients(images, weight, bias, wanted, kernel=2, stride=2, padding=0, relu=True, compiled=True):
    """Of a convolution, ReLU and max pooling: of the images, the weights and the bias."""

    def step(images, weight, bias, wanted):
        y = F.conv2d(images, weight, bias)
        y = F.max_pool2d(F.relu(y) if relu else y, kernel, stride, padding)
        (y * wanted).sum().backward()

    tensors = [jj.tensor(a, requires_grad=True) for a in (images, weight, bias)]
    run = jj.compile(step) if compiled else step
    run(*tensors, jj.tensor(wanted))
    labels = [call.label for call in run.plans[0].calls] if compiled else []
    return [t.grad.numpy().copy() for t in tensors], labels


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 3, 1), (2, 3, 1), (1, 2, 0)])
@pytest.mark.parametrize(("ins", "outs"), [(1, 6), (6, 16), (3, 5)])
def test_compiled_gradients_are_the_eager_ones(ins, outs, kernel, stride, padding, relu):
    generator = np.random.default_rng(ins + outs)
    images, weight = whole(generator, 3, ins, 13, 12), whole(generator, outs, ins, 3, 3)
    bias = whole(generator, outs)
    height, width = ((e + 2 * padding - kernel) // stride + 1 for e in (11, 10))
    wanted = whole(generator, 3, outs, height, width)
    given = (images, weight, bias, wanted, kernel, stride, padding, relu)
    eager, _ = gradients(*given, compiled=False)
    compiled, labels = gradients(*given)
    for name, a, b in zip(("images", "weight", "bias"), eager, compiled, strict=True):
        np.testing.assert_array_equal(a, b, name)
    assert not any("max_pool_grad+relu_grad" in label for label in labels)


def test_what_is_not_a_number_goes_where_it_does_eagerly():
    generator = np.random.default_rng(0)
    images, weight, bias = whole(generator, 2, 2, 8, 8), whole(generator, 4, 2, 3, 3), np.zeros(4, np.float32)
    images[0, 0, 3, 3] = np.nan
    wanted = whole(generator, 2, 4, 3, 3)
    eager, _ = gradients(images, weight, bias, wanted, compiled=False)
    compiled, _ = gradients(images, weight, bias, wanted)
    for a, b in zip(eager, compiled, strict=True):
        np.testing.assert_array_equal(a, b)


def test_few_planes_are_convolved_as_they_lie():
    generator = np.random.default_rng(0)
    images, weight = whole(generator, 2, 6, 16, 16), whole(generator, 16, 6, 3, 3)

    def network(images, weight):
        return F.conv2d(F.max_pool2d(images, 2), weight)

    compiled = jj.compile(network)
    got = compiled(jj.tensor(images), jj.tensor(weight))
    np.testing.assert_array_equal(got, network(jj.tensor(images), jj.tensor(weight)))
    labels = [call.label for call in compiled.plans[0].calls]
    assert not any("channels-last" in label for label in labels)
