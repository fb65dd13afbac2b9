"""Layers and functions: shapes, initial values, printed form, refusals, and the same numbers as PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest

import juanji as jj
import juanji.nn.functional as F
from juanji import nn
from juanji.random import Generator


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def ours(array):
    return jj.from_numpy(np.ascontiguousarray(array))


class TestInitialisation:
    def test_bounds(self):
        jj.manual_seed(0)
        conv = nn.Conv2d(8, 64, 3, groups=2)
        bound = 1 / math.sqrt(4 * 9)
        for p in (conv.weight, conv.bias):
            assert p.abs().max().item() <= bound
            assert p.abs().max().item() > 0.9 * bound
        linear = nn.Linear(100, 50)
        assert 0.09 < linear.weight.abs().max().item() <= 0.1
        assert linear.bias.abs().max().item() <= 0.1

    def test_seeded(self):
        jj.manual_seed(3)
        a = nn.Linear(4, 4).weight.tolist()
        jj.manual_seed(3)
        assert nn.Linear(4, 4).weight.tolist() == a
        assert nn.Linear(4, 4).weight.tolist() != a

    @pytest.mark.parametrize(
        ("name", "arguments", "std"),
        [
            ("uniform_", {"a": -1.0, "b": 1.0}, 1 / math.sqrt(3)),
            ("normal_", {"mean": 0.0, "std": 0.3}, 0.3),
            ("kaiming_uniform_", {"nonlinearity": "relu"}, math.sqrt(2 / 200)),
            ("kaiming_normal_", {"mode": "fan_out", "nonlinearity": "relu"}, math.sqrt(2 / 300)),
            ("xavier_uniform_", {}, math.sqrt(2 / 500)),
            ("xavier_normal_", {"gain": 2.0}, 2 * math.sqrt(2 / 500)),
        ],
    )
    def test_spread(self, name, arguments, std):
        w = jj.empty(300, 200)
        assert getattr(nn.init, name)(w, generator=Generator().manual_seed(1), **arguments) is w
        values = w.numpy()
        assert abs(values.std() / std - 1) < 0.02
        assert abs(values.mean()) < 0.02 * std

    def test_constants_and_refusals(self):
        assert nn.init.ones_(jj.empty(2)).tolist() == [1.0, 1.0]
        assert nn.init.zeros_(jj.empty(2)).tolist() == [0.0, 0.0]
        assert nn.init._calculate_fan_in_and_fan_out(jj.empty(6, 3, 5, 5)) == (75, 150)
        with pytest.raises(ValueError, match="fewer than 2 dimensions"):
            nn.init.xavier_uniform_(jj.empty(3))
        with pytest.raises(ValueError, match="Unsupported nonlinearity swish"):
            nn.init.calculate_gain("swish")
        with pytest.raises(ValueError, match="Mode both not supported"):
            nn.init.kaiming_normal_(jj.empty(3, 3), mode="both")

    def test_parameters_stay_leaves(self):
        p = nn.Parameter(jj.empty(3, 3))
        nn.init.kaiming_uniform_(p)
        assert p.is_leaf
        assert p.requires_grad


LAYERS = [
    ("Conv2d", (1, 6, 3), {}),
    ("Conv2d", (2, 4, (3, 5)), {"stride": 2, "padding": (1, 2), "dilation": 2, "groups": 2, "bias": False}),
    ("Conv2d", (1, 1, 4), {"padding": "same"}),
    ("Linear", (3, 2), {"bias": False}),
    ("MaxPool2d", (2,), {}),
    ("MaxPool2d", ((3, 2),), {"stride": 1, "ceil_mode": True}),
    ("AvgPool2d", (2,), {"padding": 1}),
    ("ReLU", (), {}),
    ("ReLU", (True,), {}),
    ("Flatten", (), {}),
    ("Unflatten", (1, (2, 3)), {}),
    ("Dropout", (0.3,), {}),
    ("Identity", (), {}),
    ("Softmax", (1,), {}),
    ("LogSoftmax", (), {"dim": 1}),
    ("Sigmoid", (), {}),
    ("Tanh", (), {}),
    ("CrossEntropyLoss", (), {}),
    ("NLLLoss", (), {}),
    ("MSELoss", (), {}),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), LAYERS)
def test_printed_as_in_pytorch(torch, name, args, kwargs):
    assert repr(getattr(nn, name)(*args, **kwargs)) == repr(getattr(torch.nn, name)(*args, **kwargs))


def test_lenet_printed_as_in_pytorch(torch):
    def build(n):
        return n.Sequential(n.Conv2d(1, 6, 3), n.Sequential(n.ReLU(), n.Linear(2, 2)), n.ModuleDict({"a": n.Tanh()}))

    assert repr(build(nn)) == repr(build(torch.nn))


class TestAgainstPyTorch:
    """The same values and gradients, forward and backward, as PyTorch."""

    def compare(self, torch, mine, theirs, *inputs, tolerance=1e-5):
        xs = [ours(x) for x in inputs]
        ys = [torch.from_numpy(x.copy()) for x in inputs]
        for x, y in zip(xs, ys, strict=True):
            if x.dtype.is_floating_point:
                x.requires_grad_()
                y.requires_grad_()
        a, b = mine(*xs), theirs(*ys)
        assert tuple(a.shape) == tuple(b.shape)
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=tolerance, atol=tolerance)
        weight = np.random.default_rng(9).standard_normal(tuple(b.shape)).astype(b.detach().numpy().dtype)
        (a * ours(weight)).sum().backward()
        (b * torch.from_numpy(weight)).sum().backward()
        for x, y in zip(xs, ys, strict=True):
            if x.dtype.is_floating_point:
                np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=tolerance, atol=tolerance)

    def data(self, *shape):
        return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)

    @pytest.mark.parametrize(
        "arguments",
        [
            {},
            {"padding": 1, "stride": 2},
            {"padding": "same"},
            {"padding": "same", "dilation": (1, 3)},
            {"padding": "valid", "groups": 2},
            {"padding": (2, 0), "dilation": 2, "bias": False},
        ],
    )
    @pytest.mark.parametrize("kernel", [3, (2, 4)])
    @pytest.mark.filterwarnings("ignore:Using padding='same'")
    def test_conv2d(self, torch, arguments, kernel):
        theirs = torch.nn.Conv2d(4, 6, kernel, **arguments)
        mine = nn.Conv2d(4, 6, kernel, **arguments)
        mine.load_state_dict(theirs.state_dict())
        self.compare(torch, mine, theirs, self.data(2, 4, 11, 13))
        for name, p in theirs.named_parameters():
            gradient = mine.get_parameter(name).grad.numpy()
            np.testing.assert_allclose(gradient, p.grad.numpy(), rtol=1e-4, atol=1e-4)

    def test_unbatched_conv2d(self, torch):
        theirs, mine = torch.nn.Conv2d(3, 5, 3), nn.Conv2d(3, 5, 3)
        mine.load_state_dict(theirs.state_dict())
        self.compare(torch, mine, theirs, self.data(3, 8, 9))

    @pytest.mark.parametrize("shape", [(7, 5), (5,), (2, 3, 5)])
    def test_linear(self, torch, shape):
        theirs, mine = torch.nn.Linear(5, 4), nn.Linear(5, 4)
        mine.load_state_dict(theirs.state_dict())
        self.compare(torch, mine, theirs, self.data(*shape))
        np.testing.assert_allclose(mine.weight.grad.numpy(), theirs.weight.grad.numpy(), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"kernel_size": 2},
            {"kernel_size": (3, 2), "stride": (2, 1), "padding": 1},
            {"kernel_size": 3, "stride": 2, "ceil_mode": True},
            {"kernel_size": 2, "dilation": 2, "stride": 1},
        ],
    )
    def test_max_pool2d(self, torch, arguments):
        self.compare(torch, nn.MaxPool2d(**arguments), torch.nn.MaxPool2d(**arguments), self.data(2, 3, 9, 10))

    def test_max_pool2d_indices(self, torch):
        x = self.data(2, 3, 9, 10)
        values, indices = nn.MaxPool2d(2, return_indices=True)(ours(x))
        expected, places = torch.nn.MaxPool2d(2, return_indices=True)(torch.from_numpy(x))
        np.testing.assert_array_equal(values.numpy(), expected.numpy())
        np.testing.assert_array_equal(indices.numpy(), places.numpy())

    @pytest.mark.parametrize(
        "arguments",
        [
            {"kernel_size": 2},
            {"kernel_size": (3, 2), "stride": (2, 1), "padding": 1},
            {"kernel_size": 3, "stride": 2, "ceil_mode": True, "padding": 1, "count_include_pad": False},
            {"kernel_size": 3, "divisor_override": 5},
        ],
    )
    def test_avg_pool2d(self, torch, arguments):
        self.compare(torch, nn.AvgPool2d(**arguments), torch.nn.AvgPool2d(**arguments), self.data(2, 3, 9, 10))

    @pytest.mark.parametrize("name", ["ReLU", "Sigmoid", "Tanh", "Identity", "Flatten"])
    def test_elementwise(self, torch, name):
        self.compare(torch, getattr(nn, name)(), getattr(torch.nn, name)(), self.data(3, 4, 5))

    @pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
    @pytest.mark.parametrize("dim", [0, 1, -1])
    def test_softmax(self, torch, name, dim):
        self.compare(torch, getattr(nn, name)(dim=dim), getattr(torch.nn, name)(dim=dim), self.data(3, 4, 5))

    def test_inplace_relu(self, torch):
        self.compare(
            torch,
            lambda x: nn.ReLU(inplace=True)(x * 2),
            lambda x: torch.nn.ReLU(inplace=True)(x * 2),
            self.data(3, 4),
        )

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize("shape", [(5, 4), (2, 4, 3, 3)])
    @pytest.mark.parametrize("extra", [{}, {"weighted": True}, {"label_smoothing": 0.1}])
    def test_cross_entropy(self, torch, reduction, shape, extra):
        rng = np.random.default_rng(0)
        target = rng.integers(0, 4, (shape[0], *shape[2:]))
        target.flat[0] = -100
        extra = dict(extra)
        w = self.data(4) ** 2 if extra.pop("weighted", False) else None
        mine = nn.CrossEntropyLoss(None if w is None else ours(w), reduction=reduction, **extra)
        theirs = torch.nn.CrossEntropyLoss(None if w is None else torch.from_numpy(w), reduction=reduction, **extra)
        self.compare(
            torch,
            lambda x: mine(x, ours(target)),
            lambda x: theirs(x, torch.from_numpy(target)),
            self.data(*shape),
        )

    def test_cross_entropy_of_probabilities(self, torch):
        p = np.random.default_rng(0).dirichlet(np.ones(4), 5).astype(np.float32)
        self.compare(
            torch,
            lambda x: F.cross_entropy(x, ours(p)),
            lambda x: torch.nn.functional.cross_entropy(x, torch.from_numpy(p)),
            self.data(5, 4),
        )

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    def test_nll_loss(self, torch, reduction):
        target = np.array([0, 3, 2, -100, 1])
        mine, theirs = nn.NLLLoss(reduction=reduction), torch.nn.NLLLoss(reduction=reduction)
        self.compare(
            torch,
            lambda x: mine(x, ours(target)),
            lambda x: theirs(x, torch.from_numpy(target)),
            self.data(5, 4),
        )

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    def test_mse_loss(self, torch, reduction):
        mine, theirs = nn.MSELoss(reduction=reduction), torch.nn.MSELoss(reduction=reduction)
        self.compare(torch, mine, theirs, self.data(5, 4), self.data(4, 5).T.copy())

    def test_one_hot(self, torch):
        classes = np.array([[0, 2], [1, 4]])
        for count in (-1, 6):
            expected = torch.nn.functional.one_hot(torch.from_numpy(classes), count).numpy()
            np.testing.assert_array_equal(F.one_hot(ours(classes), count).numpy(), expected)

    def test_initial_values_have_the_same_spread(self, torch):
        for build in (lambda n: n.Conv2d(16, 64, 3), lambda n: n.Linear(300, 200)):
            mine, theirs = build(nn), build(torch.nn)
            for name, p in theirs.named_parameters():
                value = mine.get_parameter(name).detach().numpy()
                # The standard error of a standard deviation of n values is about 1 / sqrt(2 n).
                assert abs(value.std() / p.detach().numpy().std() - 1) < 5 / math.sqrt(value.size)


class TestDropout:
    def test_statistics(self):
        jj.manual_seed(0)
        x = jj.ones(200, 200)
        y = F.dropout(x, 0.25).numpy()
        assert set(np.unique(y).tolist()) == {0.0, np.float32(1 / 0.75).item()}
        assert abs((y == 0).mean() - 0.25) < 0.01

    def test_seed_and_gradient(self):
        jj.manual_seed(1)
        x = jj.ones(50, requires_grad=True)
        y = F.dropout(x)
        y.sum().backward()
        np.testing.assert_array_equal(y.detach().numpy(), x.grad.numpy())
        jj.manual_seed(1)
        np.testing.assert_array_equal(F.dropout(jj.ones(50)).numpy(), y.detach().numpy())

    def test_modes(self):
        x = jj.ones(50)
        layer = nn.Dropout(1.0)
        assert layer(x).sum().item() == 0.0
        assert layer.eval()(x).tolist() == x.tolist()
        assert F.dropout(x, 0.0).tolist() == x.tolist()
        assert F.dropout(x, 1.0, inplace=True) is x
        assert x.sum().item() == 0.0
        with pytest.raises(ValueError, match=r"between 0 and 1, but got 1\.5"):
            nn.Dropout(1.5)


class TestRefusals:
    @pytest.mark.parametrize(
        ("call", "error", "text"),
        [
            (lambda: F.relu([1.0]), TypeError, "relu: input must be a Tensor, not list"),
            (
                lambda: F.conv2d(jj.zeros(1, 1, 3, 3), 3),
                TypeError,
                "conv2d: weight must be a Tensor, not int",
            ),
            (lambda: F.linear(jj.zeros(1), jj.zeros(1), 3), TypeError, "linear: bias must be a Tensor"),
            (
                lambda: F.max_pool2d(jj.zeros(1, 2, 2), 2, padding=2),
                ValueError,
                "at most half",
            ),
            (lambda: F.max_pool2d(jj.zeros(1, 2, 2), 0), ValueError, "kernel_size=0 must not be below 1"),
            (lambda: F.max_pool2d(jj.zeros(1, 2, 2), (1, 2, 3)), ValueError, "one integer or 2"),
            (
                lambda: F.max_pool2d(jj.zeros(1, 2, 2), 1.5),
                TypeError,
                "kernel_size=1.5 must be an integer",
            ),
            (
                lambda: F.avg_pool2d(jj.zeros(1, 2, 2), 2, divisor_override=0),
                RuntimeError,
                "divisor must be not zero",
            ),
            (lambda: F.cross_entropy(jj.zeros(1, 2), jj.zeros(1), reduction="avg"), ValueError, "'avg'"),
            (
                lambda: F.cross_entropy(jj.zeros(1, 2), jj.tensor([0]), label_smoothing=2.0),
                RuntimeError,
                "smoothing",
            ),
            (lambda: F.one_hot(jj.tensor([3]), 2), RuntimeError, "in 0 to 1, but reach from 3 to 3"),
            (lambda: F.one_hot(jj.tensor([0.5])), RuntimeError, "int64"),
            (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "in_channels must be divisible by groups"),
            (lambda: nn.Conv2d(4, 3, 3, groups=2), ValueError, "out_channels must be divisible by groups"),
            (lambda: nn.Conv2d(1, 1, 3, padding="full"), ValueError, "'full'"),
            (lambda: nn.Conv2d(1, 1, 3, stride=2, padding="same"), ValueError, "strided"),
            (lambda: nn.Conv2d(1, 1, 3, padding_mode="x"), ValueError, "must be one of 'zeros'"),
            (lambda: nn.Conv2d(1, 1, 3, device="cuda"), ValueError, "cuda"),
            (lambda: nn.Linear(0, 1), ValueError, "in_features must be at least 1, got 0"),
            (lambda: nn.Linear(2, 3)(jj.zeros(2, 5)), RuntimeError, "must end in 2 features"),
            (lambda: nn.Unflatten(1, (2, 4))(jj.zeros(1, 6)), RuntimeError, "is invalid for input"),
            (lambda: nn.init.zeros_(3), TypeError, "must be a Tensor, not int"),
        ],
    )
    def test_text(self, call, error, text):
        with pytest.raises(error, match=text):
            call()

    def test_mse_of_different_shapes_warns(self):
        with pytest.warns(UserWarning, match="is different to the input size"):
            F.mse_loss(jj.zeros(2, 1), jj.zeros(2))


def test_unflatten():
    x = jj.arange(24.0).reshape(2, 12)
    assert tuple(nn.Unflatten(1, (3, -1))(x).shape) == (2, 3, 4)
    assert tuple(nn.Unflatten(-1, (2, 6))(x).shape) == (2, 2, 6)


def test_float64_layers():
    conv = nn.Conv2d(1, 2, 3, dtype=jj.float64)
    assert conv(jj.zeros(1, 1, 4, 4, dtype=jj.float64)).dtype is jj.float64
