"""Convolutions with few output pixels, as products with the weights as they lie: exact on small whole numbers."""

import numpy as np
import pytest

import juanji as jj
from juanji import ops
from juanji.compiler import lower_few
from juanji.ops.reference import reference
from juanji.spec import conv_output
from juanji.tensors import from_numpy


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation"),
    [((3, 3), (2, 2), (1, 1), (2, 2)), ((3, 4), (3, 3), (1, 1), (1, 1)), ((5, 5), (3, 2), (2, 3), (1, 1)),
     ((7,), (3,), (2,), (1,)), ((3, 3, 3), (3, 3, 3), (1, 1, 1), (1, 1, 1)), ((5, 6), (3, 3), (3, 3), (1, 1))],
)  # fmt: skip
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("images", [1, 2])
def test_both_directions(kernel_target, monkeypatch, size, kernel, stride, dilation, padding, images):
    monkeypatch.setattr(lower_few, "LEAST_WEIGHTS", 0)
    random = np.random.default_rng(0)
    attrs = {"stride": stride, "padding": ((padding,) * 2,) * len(size), "dilation": dilation, "groups": 1}
    for outs in (5, 33):
        x, w = (random.integers(-3, 4, s).astype(np.float32) for s in ((images, 21, *size), (outs, 21, *kernel)))
        g = random.integers(-3, 4, conv_output(x.shape, w.shape, stride, attrs["padding"], dilation, 1, "conv"))
        g = g.astype(np.float32)
        y = ops.TABLE["conv"](from_numpy(x), from_numpy(w), **attrs).numpy()
        np.testing.assert_array_equal(y, reference("conv", [x, w], attrs))
        dw = ops.TABLE["conv_weight_grad"](from_numpy(g), from_numpy(x), kernel=kernel, **attrs).numpy()
        np.testing.assert_array_equal(dw, reference("conv_weight_grad", [g, x], {**attrs, "kernel": kernel}))


def test_no_weights_are_packed():
    """With bias and activation behind it, forward and backward bring no weights into another order."""
    w, b = jj.randn(32, 64, 3, 3), jj.randn(32)

    @jj.compile
    def step(x, w, b):
        w = w.detach().requires_grad_()
        return jj.autograd.grad(jj.relu(jj.nn.functional.conv2d(x, w, b)).sum(), w)[0]

    x = jj.randn(2, 64, 3, 3)
    found = step(x, w, b).numpy()
    labels = [call.label for call in step.plans[0].calls]
    assert not [label for label in labels if "pack" in label or "C order" in label]
    y = (x.numpy()[:, None] * w.numpy()).sum((2, 3, 4)) + b.numpy()
    np.testing.assert_allclose(found, np.einsum("no,nchw->ochw", y > 0, x.numpy()), rtol=1e-5, atol=1e-5)


def test_weights_that_meet_only_padding_are_not_read():
    """On a map of one pixel, one weight of 49 is used."""
    w = jj.randn(96, 64, 7, 7)
    step = jj.compile(lambda x, w: jj.nn.functional.conv2d(x, w, padding=3))
    x = jj.randn(50, 64, 1, 1)
    found = step(x, w).numpy()
    np.testing.assert_allclose(found[..., 0, 0], x.numpy()[..., 0, 0] @ w.numpy()[..., 3, 3].T, rtol=1e-4, atol=1e-4)
    assert step.plans[0].arena_bytes < w.numpy().nbytes // 10
