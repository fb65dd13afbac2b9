"""Unfold and fold: against loops, each other, convolution, and PyTorch."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import juanji as jj
from juanji import ops
from juanji.nn import functional as F
from juanji.ops.reference import reference

SIZES = {1: (7,), 2: (5, 6), 3: (4, 3, 5)}
WINDOWS = (
    ((2, 3, 2), 1, (0, 0), 1),
    ((3, 2, 2), 2, (1, 2), 1),
    ((2, 1, 2), 3, (2, 0), 2),
    ((1, 1, 1), 1, (0, 0), 1),
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, np.bool_])
@pytest.mark.parametrize("rank", SIZES)
def test_against_loops(kernel_target, rank, dtype):
    random = np.random.default_rng(rank)
    for kernel, stride, padding, dilation in WINDOWS:
        attrs = {
            "kernel": kernel[:rank], "stride": (stride,) * rank, "padding": (padding,) * rank,
            "dilation": (dilation,) * rank,
        }  # fmt: skip
        x = random.integers(0, 3, (2, 3, *SIZES[rank])).astype(dtype)
        columns = ops.TABLE["unfold"](jj.from_numpy(x), **attrs).numpy()
        np.testing.assert_array_equal(columns, reference("unfold", [x], attrs), strict=True)
        back = ops.TABLE["fold"](jj.from_numpy(columns), size=SIZES[rank], **attrs).numpy()
        np.testing.assert_array_equal(back, reference("fold", [columns], {"size": SIZES[rank], **attrs}), strict=True)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_adjoint_of_each_other(data):
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    kernel, dilation, padding, stride = (
        (draw(low, high), draw(low, high)) for low, high in ((1, 3), (1, 2), (0, 2), (1, 3))
    )
    size = [max(1, d * (k - 1) + 1 - 2 * p) + draw(0, 4) for k, d, p in zip(kernel, dilation, padding, strict=True)]
    random = np.random.default_rng(draw(0, 99))
    x = jj.tensor(random.integers(-3, 4, (2, 2, *size)))
    columns = F.unfold(x, kernel, dilation, padding, stride)
    g = jj.tensor(random.integers(-3, 4, columns.shape))
    assert (columns * g).sum().item() == (x * F.fold(g, size, kernel, dilation, padding, stride)).sum().item()


def test_convolution_is_a_product_with_the_columns():
    x, w = (jj.tensor(np.random.default_rng(0).integers(-4, 5, s)) for s in ((2, 3, 7, 6), (5, 3, 3, 2)))
    columns = F.unfold(x, (3, 2), dilation=(1, 2), padding=1, stride=2)
    product = (w.reshape(5, -1) @ columns).reshape(2, 5, 4, 3)
    assert jj.equal(product, F.conv2d(x, w, stride=2, padding=1, dilation=(1, 2)))


def test_against_torch(torch):
    x = np.random.default_rng(0).standard_normal((2, 4, 7, 8)).astype(np.float32)
    for kernel, dilation, padding, stride in itertools.product((2, (3, 1)), (1, 2), (0, (1, 0)), (1, (2, 3))):
        ours = F.unfold(jj.tensor(x), kernel, dilation, padding, stride)
        theirs = torch.nn.functional.unfold(torch.tensor(x), kernel, dilation, padding, stride)
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
        ours = F.fold(ours, (7, 8), kernel, dilation, padding, stride)
        theirs = torch.nn.functional.fold(theirs, (7, 8), kernel, dilation, padding, stride)
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), 1e-6)
    for dim, size, step in ((0, 2, 1), (1, 3, 2), (-1, 8, 5), (2, 1, 3), (3, 0, 4)):
        ours, theirs = jj.tensor(x).unfold(dim, size, step), torch.tensor(x).unfold(dim, size, step)
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), strict=True)


def test_gradients(gradcheck):
    x = np.random.default_rng(0).standard_normal((2, 2, 4, 5))
    gradcheck(lambda x: F.unfold(x, (2, 3), 1, 1, 2) ** 2, x, order=2)
    columns = F.unfold(jj.tensor(x), (2, 3), 1, 1, 2).numpy()
    gradcheck(lambda c: F.fold(c, (4, 5), (2, 3), 1, 1, 2) ** 2, columns, order=2)
    gradcheck(lambda x: x.unfold(2, 3, 1) ** 2, x, order=2)


def test_layers_and_compiled_steps():
    x = jj.randn(2, 3, 5, 6)
    columns = jj.nn.Unfold(2, stride=2)(x)
    assert repr(jj.nn.Unfold(2)) == "Unfold(kernel_size=2, dilation=1, padding=0, stride=1)"
    assert jj.equal(jj.compile(jj.nn.Unfold(2, stride=2))(x), columns)
    back = jj.nn.Fold((5, 6), 2, stride=2)
    assert repr(back) == "Fold(output_size=(5, 6), kernel_size=2, dilation=1, padding=0, stride=2)"
    assert jj.equal(jj.compile(back)(columns)[:, :, :4], x[:, :, :4])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: F.unfold(x, 7), "no window fits"),
        (lambda x: F.unfold(x, (2, 2, 2)), "kernel_size"),
        (lambda x: F.unfold(x[0, 0], 2), "3D or 4D"),
        (lambda x: F.unfold(x, 2, stride=0), "stride=0"),
        (lambda x: F.fold(x[0, :, :3], (4, 4), 2), "rows of input .* divisible by the 4"),
        (lambda x: F.fold(x[0, 0].reshape(4, -1), (4, 4), 2), "8 columns, but output_size=.4, 4. has 3 . 3 = 9"),
        (lambda x: F.fold(x, (4, 4), 2), "2D or 3D"),
        (lambda x: x.unfold(1, 4, 1), "maximum size for tensor at dimension 1 is 3"),
        (lambda x: x.unfold(1, 1, 0), "step=0"),
    ],
)
def test_errors(call, words):
    with pytest.raises(RuntimeError, match=words):
        call(jj.ones(1, 3, 4, 8))
