"""Activations and dropout against PyTorch, their edges, and what dropout does to numbers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import juanji as jj
from juanji import nn
from juanji.nn import functional as F

CALLS = {
    "relu": {},
    "relu6": {},
    "leaky_relu": {"negative_slope": 0.3},
    "elu": {"alpha": 1.5},
    "selu": {},
    "celu": {"alpha": 0.7},
    "gelu": {"approximate": "tanh"},
    "silu": {},
    "mish": {},
    "logsigmoid": {},
    "hardtanh": {"min_val": -0.5, "max_val": 3.0},
    "hardswish": {},
    "hardsigmoid": {},
    "softplus": {"beta": 2.0, "threshold": 6.0},
    "softsign": {},
    "hardshrink": {"lambd": 1.0},
    "softshrink": {"lambd": 1.0},
    "tanhshrink": {},
    "threshold": {"threshold": 0.5, "value": 2.0},
    "rrelu": {},
}
POINTS = [-math.inf, -200.0, -6.0, -3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 6.0, 20.0, 200.0, math.inf, math.nan]


def values_and_gradients(library, functional, grad, name, arguments):
    x = library.tensor(POINTS, dtype=library.float64, requires_grad=True)
    y = getattr(functional, name)(x, **arguments)
    return y.detach().numpy(), grad(y.sum(), [x])[0].numpy()


@pytest.mark.parametrize("name", CALLS)
def test_values_and_gradients_are_pytorchs_everywhere(torch, name):
    expected = values_and_gradients(torch, torch.nn.functional, torch.autograd.grad, name, CALLS[name])
    found = values_and_gradients(jj, F, jj.autograd.grad, name, CALLS[name])
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12, atol=1e-14)
    # The gradient at NaN differs within PyTorch itself, by the length of the tensor.
    # PyTorch rounds some constants to float32.
    np.testing.assert_allclose(found[1][:-1], expected[1][:-1], rtol=2e-7, atol=3e-8)


def test_gelu_and_its_gradient():
    x = jj.tensor([-2.0, 0.0, 1.0], dtype=jj.float64, requires_grad=True)
    y = F.gelu(x)
    cdf = [0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()]
    np.testing.assert_allclose(y.detach().numpy(), [v * c for v, c in zip(x.tolist(), cdf, strict=True)], rtol=1e-14)
    y.sum().backward()
    density = [v * math.exp(-v * v / 2) / math.sqrt(2 * math.pi) for v in x.tolist()]
    np.testing.assert_allclose(x.grad.numpy(), np.add(cdf, density), rtol=1e-13)


@pytest.mark.parametrize("name", CALLS)
def test_second_derivatives(gradcheck, name):
    x = np.array([[-4.1, -2.2, -0.8], [0.3, 1.7, 3.9]])
    gradcheck(lambda t: getattr(F, name)(t, **CALLS[name]), x, order=2)


def test_learnt_slopes(gradcheck):
    x = np.array([[-4.0, -2.0, 0.8], [0.3, -1.5, 3.9]])
    gradcheck(lambda t, w: F.prelu(t, w), x, np.array([0.2, 0.4, -0.3]), order=2)
    x = jj.tensor([math.inf, -math.inf]).requires_grad_()
    slope = jj.tensor([0.5]).requires_grad_()
    F.prelu(x, slope).sum().backward()
    assert x.grad.tolist() == [1.0, 0.5]
    assert slope.grad.tolist() == [-math.inf]


def test_gate(gradcheck):
    gradcheck(lambda t: F.glu(t, 0), np.linspace(-2, 2, 12).reshape(4, 3), order=2)
    with pytest.raises(ValueError, match="even size"):
        F.glu(jj.zeros(3, 5))


@pytest.mark.parametrize(
    "name", ["relu", "relu6", "leaky_relu", "elu", "selu", "celu", "silu", "mish", "hardtanh", "hardswish"]
)
def test_in_place_forms(name):
    start = jj.tensor([[-4.0, -1.0, 0.5, 7.0]], requires_grad=True)
    expected = getattr(F, name)(start)
    x = start * 1
    result = getattr(F, name)(x, inplace=True)
    assert result is x
    assert x.tolist() == expected.tolist()
    again = start * 1
    if hasattr(F, name + "_"):
        assert getattr(F, name + "_")(again) is again
        assert again.tolist() == expected.tolist()
    first = jj.autograd.grad(expected.sum(), start)[0]
    assert jj.autograd.grad(x.sum(), start)[0].tolist() == first.tolist()
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        getattr(F, name)(start, inplace=True)


def test_integers():
    x = jj.tensor([-3, 2, 9])
    assert F.relu6(x).tolist() == [0, 2, 6]
    assert F.hardtanh(x, -2, 4).tolist() == [-2, 2, 4]
    assert F.threshold(x, 2, -1).tolist() == [-1, -1, 9]
    assert F.softsign(x).dtype is jj.float32
    for call in (F.silu, F.gelu, F.leaky_relu, F.softplus, F.hardshrink):
        with pytest.raises(RuntimeError, match="must be floating point, not juanji.int64"):
            call(x)


def test_names_outside_of_functional():
    x = jj.tensor([-1.0, 0.2, 3.0])
    assert x.hardshrink(0.5).tolist() == jj.hardshrink(x).tolist() == [-1, 0, 3]
    assert x.prelu(jj.tensor([0.5])).tolist() == jj.prelu(x, jj.tensor([0.5])).tolist() == F.leaky_relu(x, 0.5).tolist()
    assert jj.celu_(x) is x


def test_softmax_without_a_dimension_warns():
    for shape, dim in (((3,), 0), ((2, 3), 1), ((2, 3, 4), 0), ((2, 3, 4, 5), 1)):
        x = jj.randn(*shape)
        for function in (F.softmax, F.softmin, F.log_softmax):
            with pytest.warns(UserWarning, match="Implicit dimension choice") as caught:
                found = function(x)
            assert found.tolist() == function(x, dim).tolist()
            assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="Implicit dimension choice for softmin") as caught:
        nn.Softmin()(jj.ones(2))
    assert caught[0].filename == __file__
    assert F.softmin(jj.tensor([1, 2]), 0, dtype=jj.float64).dtype is jj.float64


def test_a_chain_of_activations_is_one_kernel():
    def step(x):
        return F.silu(F.hardswish(F.leaky_relu(x, 0.1)))

    x = jj.linspace(-5, 5, 37)
    compiled = jj.compile(step)
    np.testing.assert_allclose(compiled(x).numpy(), step(x).numpy(), rtol=2e-6, atol=1e-7)
    assert len(compiled.plans[0].calls) == 1


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: F.hardtanh(jj.zeros(2), 1, -1), ValueError, "min_val=1 cannot be greater than max_val=-1"),
        (lambda: nn.Hardtanh(1, 1), ValueError, "max_val=1 must be larger"),
        (lambda: F.celu(jj.zeros(2), 0), ValueError, "alpha=0 must not be zero"),
        (lambda: F.gelu(jj.zeros(2), "erf"), ValueError, "approximate='erf' must be 'none' or 'tanh'"),
        (lambda: F.softshrink(jj.zeros(2), -1), RuntimeError, "lambd=-1 must be at least 0"),
        (lambda: F.rrelu(jj.zeros(2), 2, 1), RuntimeError, "lower=2 and upper=1"),
        (lambda: F.prelu(jj.zeros(2, 3), jj.zeros(2)), RuntimeError, "1 or 3 elements"),
        (lambda: F.prelu(jj.zeros(2, 3), jj.zeros(1, 1)), RuntimeError, "one number or a vector"),
        (lambda: F.relu6([1.0]), TypeError, "must be a Tensor, not list"),
        (lambda: F.hardtanh(jj.zeros(2).byte()), RuntimeError, "juanji.uint8 are not negative"),
        (lambda: nn.Softmax2d()(jj.zeros(2)), ValueError, "expected input to be 3D or 4D"),
        (lambda: nn.Dropout2d(1.5), ValueError, "between 0 and 1, but got 1.5"),
        (lambda: F.dropout1d(jj.zeros(2)), ValueError, "expected 2D or 3D"),
        (lambda: F.feature_alpha_dropout(jj.zeros(2), training=True), RuntimeError, "2 dimensions or more"),
        (lambda: nn.PReLU(0), ValueError, "num_parameters must be at least 1"),
    ],
)
def test_refusals(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_modules_print_as_pytorchs(torch):
    for made in (
        "ReLU(True)", "ReLU6(True)", "LeakyReLU(0.2)", "RReLU(0.1, 0.3, True)", "ELU(1.5, True)", "CELU()", "SELU(True)",
        "GELU('tanh')", "SiLU()", "Mish(True)", "Hardswish()", "Hardsigmoid(True)", "Sigmoid()", "LogSigmoid()",
        "Tanh()", "Tanhshrink()", "Softsign()", "Softplus(2.0)", "Hardshrink()", "Softshrink(0.1)", "Threshold(1, 2)",
        "Hardtanh(-2, 2)", "PReLU(4)", "GLU(1)", "Softmax(1)", "Softmin(1)", "LogSoftmax(-1)", "Softmax2d()",
        "Dropout(0.1)", "Dropout1d()", "Dropout2d(0.2, True)", "Dropout3d()", "AlphaDropout()", "FeatureAlphaDropout()",
    ):  # fmt: skip
        ours, theirs = eval("nn." + made), eval("torch.nn." + made)
        assert repr(ours) == repr(theirs)
        assert list(ours.state_dict()) == list(theirs.state_dict())


# -- dropout ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (F.dropout1d, (4, 50, 6)),
        (F.dropout1d, (200, 6)),
        (F.dropout2d, (4, 50, 3, 4)),
        (F.dropout3d, (4, 50, 2, 3, 2)),
        (F.dropout3d, (200, 2, 3, 2)),
    ],
)
def test_whole_channels_are_dropped(function, shape):
    jj.manual_seed(4)
    x = jj.ones(*shape).requires_grad_()
    y = function(x, 0.25)
    rows = y.detach().numpy().reshape(200, -1)
    assert set(np.unique(rows)) == {0.0, np.float32(1 / 0.75)}
    assert (rows == rows[:, :1]).all()
    assert 20 < (rows[:, 0] == 0).sum() < 85
    y.sum().backward()
    assert x.grad.tolist() == y.tolist()
    assert function(x, 0.25, training=False) is x
    assert not function(x, 1.0).detach().numpy().any()


def test_three_dimensions_are_channels_of_a_sequence_in_dropout2d():
    with pytest.warns(UserWarning, match="taken as"):
        y = F.dropout2d(jj.ones(2, 30, 5), 0.5).numpy()
    assert (y == y[:, :, :1]).all()
    assert 0 < y.sum() < 2 * 30 * 5 * 2


@settings(deadline=None, max_examples=10)
@given(p=st.floats(0.05, 0.9), channels=st.booleans())
def test_alpha_dropout_keeps_mean_and_variance(p, channels):
    jj.manual_seed(2)
    x = F.selu(jj.randn(100, 100, 1))
    x = (x - x.mean()) / x.std()
    y = (F.feature_alpha_dropout if channels else F.alpha_dropout)(x, p, training=True)
    assert abs(y.mean().item()) < 0.1
    assert abs(y.std().item() - 1) < 0.12
    assert F.alpha_dropout(x, p) is x
    assert not F.alpha_dropout(x, 1.0, True).numpy().any()


def test_dropout_in_place_and_in_a_captured_step():
    x = jj.ones(10, 20, 3)
    assert F.alpha_dropout(x, 0.5, True, inplace=True) is x
    assert len(np.unique(x.numpy())) == 2
    layer = nn.Sequential(nn.Dropout1d(0.5), nn.FeatureAlphaDropout(0.5))
    compiled = jj.compile(lambda t: layer(t))
    first, second = compiled(jj.ones(10, 20, 3)).numpy(), compiled(jj.ones(10, 20, 3)).numpy()
    assert (first != second).any()
    assert (first == first[:, :, :1]).all()


def test_gumbel_softmax():
    jj.manual_seed(0)
    logits = jj.tensor([0.0, 1.0, 2.0]).expand(4000, 3).clone().requires_grad_()
    hard = F.gumbel_softmax(logits, tau=0.7, hard=True)
    np.testing.assert_allclose(hard.sum(1).detach().numpy(), 1, rtol=1e-5)
    share = hard.mean(0).detach().numpy()
    np.testing.assert_allclose(share, F.softmax(jj.tensor([0.0, 1.0, 2.0]), 0).numpy(), atol=0.03)
    hard[:, 0].sum().backward()
    assert np.isfinite(logits.grad.numpy()).all()
    assert logits.grad.numpy()[:, 0].sum() > 0
