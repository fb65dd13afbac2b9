"""Particular shapes of plans that once came out wrong, or that must stay as small as they are."""

import numpy as np
import pytest

import juanji as jj
from juanji.nn import functional as F

random = np.random.default_rng(2)


def uniform(*shape):
    return jj.tensor(random.uniform(-1, 1, shape).astype(np.float32))


def same(function, *arguments, kernels=None):
    """Compiled and eager results are equal; the plan has at most so many kernel calls."""
    compiled = jj.compile(function)
    expected = function(*arguments)
    for _ in range(2):
        np.testing.assert_allclose(compiled(*arguments).numpy(), expected.numpy(), 1e-5, 1e-5)
    if kernels is not None:
        assert len(compiled.plans[0].calls) <= kernels, compiled.plans[0].describe()


def test_epilogue_operands_of_another_element_type(kernel_target):
    """A mask of bytes beside a product of floats: the same element, at another byte offset."""
    mask = jj.tensor(random.random((5, 20)) < 0.5)
    same(lambda x, w: jj.where(mask, x @ w, 0.0), uniform(5, 10), uniform(10, 20), kernels=1)
    pixels = jj.tensor(random.random((2, 7, 6, 6)) < 0.5)
    same(lambda x, w: jj.where(pixels, F.conv2d(x, w, padding=1), 1.0), uniform(2, 3, 6, 6), uniform(7, 3, 3, 3))
    same(lambda x: jj.where(pixels[:, :, :3, :3], F.max_pool2d(x, 2), 1.0), uniform(2, 7, 6, 6))


def test_epilogue_operands_in_another_order(kernel_target):
    other = uniform(20, 5)
    same(lambda x, w: x @ w + other.T, uniform(5, 10), uniform(10, 20))
    picture = uniform(6, 6, 7, 2)
    same(lambda x, w: F.conv2d(x, w, padding=1) * picture.permute(3, 2, 0, 1), uniform(2, 3, 6, 6), uniform(7, 3, 3, 3))


def test_results_written_into_strided_arguments(kernel_target):
    """The target of a product lies the other way round: an operand copied beside it must fit its layout."""
    other = uniform(5, 20)

    @jj.compile
    def step(x, w, out):
        out.copy_(x @ w + other)

    x, w = uniform(5, 10), uniform(10, 20)
    out = jj.from_numpy(np.zeros((20, 5), np.float32).T)
    step(x, w, out)
    np.testing.assert_allclose(out.numpy(), (x @ w + other).numpy(), 1e-5, 1e-5)


def test_bias_and_activation_are_part_of_the_product(kernel_target):
    x, w, b = uniform(8, 32), uniform(32, 16), uniform(16)
    same(lambda x, w, b: F.relu(x @ w + b), x, w, b, kernels=1)
    weight = uniform(16, 16, 3, 3)
    same(lambda x, w, b: F.relu(F.conv2d(x, w, b, padding=1)), uniform(2, 16, 8, 8), weight, b, kernels=4)


def test_elementwise_chains_are_one_loop():
    same(lambda x, y: ((x * 2 + y).exp() - 1).clamp(0, 3) * x, uniform(9, 40), uniform(40), kernels=1)
    same(lambda x: (x * x).sum(1), uniform(9, 40), kernels=1)
    same(lambda x: (x * 2).softmax(1), uniform(9, 40), kernels=2)


def test_softmax_cross_entropy_reads_the_scores_once_a_direction():
    x, target = uniform(6, 10), jj.tensor(random.integers(0, 10, 6))

    @jj.compile
    def step(x):
        (g,) = jj.autograd.grad(F.cross_entropy(x, target, reduction="sum"), x)
        return g

    x.requires_grad_()
    got = step(x)
    expected = x.detach().softmax(1) - jj.one_hot(target, 10).float()
    np.testing.assert_allclose(got.numpy(), expected.numpy(), 1e-5, 1e-6)
    assert sum("softmax" in call.label for call in step.plans[0].calls) == 1
    assert len(step.plans[0].calls) <= 4  # the others prepare the rows' classes


def test_one_region_written_from_another():
    def shift(x):
        y = x * 1
        y[1:] = y[:-1].clone()
        y.view(-1)[3:] = y.view(-1)[:-3].clone()
        return y

    same(shift, uniform(40, 30))


def test_writing_through_a_view_of_what_lies_in_another_order(kernel_target):
    """A pooled picture lies channels-last; its reshaped view, written to, needs it in C order."""

    def step(x):
        y = F.max_pool2d(x, 2, 1)
        y.reshape(-1)[5:90] = 3.0
        return y + 1

    same(step, uniform(2, 5, 6, 6))


@pytest.mark.parametrize("shape", [(1,), (64,), (3, 50)], ids=str)
def test_inputs_returned_and_overwritten(shape):
    x = uniform(*shape)
    before = x.tolist()

    @jj.compile
    def step(x):
        old, flat = x.clone(), x.reshape(-1).clone()
        x.mul_(2)
        return old, flat, x.clone()

    old, flat, new = step(x)
    assert old.tolist() == before
    assert flat.tolist() == old.reshape(-1).tolist()
    assert new.tolist() == x.tolist() == (old * 2).tolist()


def test_constants_are_folded():
    compiled = jj.compile(lambda x: x * (jj.ones(3) * 2 + jj.zeros(3)) / 1 + jj.tensor(0.5) * 4)
    assert compiled(jj.tensor([1.0, 2.0, 3.0])).tolist() == [4.0, 6.0, 8.0]
    (call,) = compiled.plans[0].calls
    assert call.label == "mul+add"


def test_signed_zeros_and_nan_survive_the_passes():
    compiled = jj.compile(lambda x: (x * 1, x + 0, x - 0.0, x / 1, x * 0))
    for value in (-0.0, float("nan"), float("inf"), 0.0):
        x = jj.tensor([value])
        eager = x * 1, x + 0, x - 0.0, x / 1, x * 0
        for a, b in zip(compiled(x), eager, strict=True):
            assert a.numpy().tobytes() == b.numpy().tobytes() or (np.isnan(a.item()) and np.isnan(b.item()))


def test_plans_can_be_read():
    compiled = jj.compile(lambda x: (x * 2).sum())
    compiled(jj.ones(4, 4))
    text = compiled.plans[0].describe()
    assert "mul+sum" in text
    assert "1 kernel calls" in text


def test_products_of_few_terms_are_part_of_the_update(kernel_target):
    """A weight gradient of four examples and the update that reads it are one loop; of five they are two calls."""
    weight = uniform(64, 40)

    @jj.compile
    def step(weight, gradient, x):
        change = gradient.T @ x
        weight.sub_(change * 0.5)
        return change

    for count, kernels in ((4, 1), (5, 2)):
        gradient, x, given = uniform(count, 64), uniform(count, 40), weight.clone()
        change = step(given, gradient, x)
        np.testing.assert_allclose(change.numpy(), gradient.numpy().T @ x.numpy(), 1e-5, 1e-6)
        np.testing.assert_allclose(given.numpy(), weight.numpy() - 0.5 * change.numpy(), 1e-5, 1e-6)
        assert len(step.plans[-1].calls) == kernels, step.plans[-1].describe()


def test_few_rows_need_no_transposed_weights(kernel_target):
    x, w, b = uniform(4, 64), uniform(20, 64), uniform(20)
    same(lambda x, w, b: F.relu(F.linear(x, w, b)), x, w, b, kernels=1)
    same(lambda x, w, b: F.linear(x, w, b), uniform(1, 64), w, b, kernels=1)
    same(lambda x, w, b: F.linear(x, w, b), uniform(30, 64), w, b)


@pytest.mark.parametrize("planes", [2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_planes_become_pixels(kernel_target, planes, dtype):
    """Pictures of two and three channels are brought into the kernels' order by whole vectors."""
    for pictures, height, width in ((1, 9, 11), (3, 8, 8), (2, 67, 129)):
        x = jj.from_numpy(random.integers(-99, 99, (pictures, planes, height, width)).astype(dtype))

        @jj.compile
        def pixels(x):
            return x.permute(0, 2, 3, 1).contiguous()

        np.testing.assert_array_equal(pixels(x).numpy(), x.numpy().transpose(0, 2, 3, 1))
        assert [type(c.spec).__name__ for c in pixels.plans[0].calls] == ["InterleaveSpec"]
