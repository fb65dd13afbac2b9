"""Functions and their gradients beside PyTorch's, over their arguments."""

import itertools

import numpy as np
import pytest

import juanji as jj
from juanji.nn import functional as F

random = np.random.default_rng(11)


def both(torch, mine, theirs, *arrays, tolerance=2e-5):
    """The same function on the same numbers: values and gradients."""
    ours = [jj.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    others = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    x, y = mine(*ours), theirs(*others)
    assert tuple(x.shape) == tuple(y.shape)
    np.testing.assert_allclose(x.detach().numpy(), y.detach().numpy(), tolerance, tolerance)
    weights = random.uniform(0.5, 1.5, tuple(x.shape))
    (x * jj.tensor(weights).to(x.dtype)).sum().backward()
    (y * torch.tensor(weights).to(y.dtype)).sum().backward()
    for a, b in zip(ours, others, strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), 10 * tolerance, 10 * tolerance)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", range(8))
def test_conv2d(torch, case, dtype):
    shape, weight, options = (
        ((2, 3, 8, 9), (5, 3, 3, 3), {}),
        ((2, 4, 8, 9), (6, 2, 3, 2), {"groups": 2, "padding": 1}),
        ((1, 8, 7, 7), (8, 1, 3, 3), {"groups": 8, "padding": 1, "stride": 2}),
        ((4, 9, 9), (5, 4, 2, 3), {"dilation": (2, 1), "stride": (1, 2)}),
        ((2, 3, 8, 9), (5, 3, 4, 3), {"padding": "same"}),
        ((2, 3, 8, 9), (5, 3, 3, 3), {"padding": "valid", "stride": 3}),
        ((2, 16, 5, 5), (33, 16, 1, 1), {}),
        ((1, 1, 28, 28), (6, 1, 5, 5), {"padding": 2}),
    )[case]
    arrays = [random.uniform(-1, 1, s).astype(dtype) for s in (shape, weight, weight[:1])]
    theirs = torch.nn.functional.conv2d
    both(torch, lambda x, w, b: F.conv2d(x, w, b, **options), lambda x, w, b: theirs(x, w, b, **options), *arrays)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kernel", [2, 3, (2, 3), 1])
@pytest.mark.parametrize("stride", [None, 1, (2, 1)])
@pytest.mark.parametrize(("padding", "ceil"), [(0, False), (0, True), (1, False), (1, True)])
def test_pooling(torch, kernel, stride, padding, ceil):
    if padding and (kernel == 1 or isinstance(kernel, tuple)):
        padding = 0
    x = random.permutation(2 * 3 * 7 * 8).reshape(2, 3, 7, 8).astype(np.float32) / 7
    theirs = torch.nn.functional
    options = {"stride": stride, "padding": padding, "ceil_mode": ceil}
    both(torch, lambda x: F.max_pool2d(x, kernel, **options), lambda x: theirs.max_pool2d(x, kernel, **options), x)
    for extra in ({}, {"count_include_pad": False}, {"divisor_override": 3}):
        both(
            torch,
            lambda x, e=extra: F.avg_pool2d(x, kernel, **options, **e),
            lambda x, e=extra: theirs.avg_pool2d(x, kernel, **options, **e),
            x,
        )


def test_max_pool_indices_ties_and_nan(torch):
    x = random.integers(0, 3, (2, 3, 6, 6)).astype(np.float32)
    x[0, 0, 2, 2] = x[1, 1, 0, 0] = x[1, 1, 0, 1] = np.nan
    for options in (
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 1, "padding": 1},
        {"kernel_size": 2, "dilation": 2, "stride": 1},
    ):
        values, indices = jj.max_pool2d(jj.tensor(x), **options, return_indices=True)
        theirs = torch.nn.functional.max_pool2d(torch.tensor(x), **options, return_indices=True)
        np.testing.assert_array_equal(values.numpy(), theirs[0].numpy())
        np.testing.assert_array_equal(indices.numpy(), theirs[1].numpy())


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(6, 5), (5,), (2, 5, 3), (2, 5, 3, 2)], ids=str)
def test_cross_entropy(torch, shape, smoothing, weighted, reduction):
    classes = 5
    x = random.uniform(-3, 3, shape)
    target = random.integers(0, classes, shape[:1] + shape[2:] if len(shape) > 1 else ())
    if target.ndim:
        target.reshape(-1)[1] = 2
        ignore = 2
    else:
        ignore = -100
    weight = random.uniform(0.5, 2, classes) if weighted else None
    options = {"reduction": reduction, "ignore_index": ignore}
    w, v = (None, None) if weight is None else (jj.tensor(weight), torch.tensor(weight))
    theirs = torch.nn.functional
    both(
        torch,
        lambda x: F.cross_entropy(x, jj.tensor(target), w, label_smoothing=smoothing, **options),
        lambda x: theirs.cross_entropy(x, torch.tensor(target), v, label_smoothing=smoothing, **options),
        x,
        tolerance=1e-10,
    )
    if not smoothing:
        both(
            torch,
            lambda x: jj.nll_loss(x, jj.tensor(target), w, **options),
            lambda x: theirs.nll_loss(x, torch.tensor(target), v, **options),
            x,
            tolerance=1e-10,
        )
    soft = random.dirichlet(np.ones(classes), shape[:1] + shape[2:] if len(shape) > 1 else ())
    soft = np.moveaxis(soft, -1, 1 if len(shape) > 1 else 0)
    both(
        torch,
        lambda x, t: F.cross_entropy(x, t.detach(), w, label_smoothing=smoothing, reduction=reduction),
        lambda x, t: theirs.cross_entropy(x, t.detach(), v, label_smoothing=smoothing, reduction=reduction),
        x,
        np.ascontiguousarray(soft),
        tolerance=1e-10,
    )


def test_all_targets_ignored(torch):
    target = np.array([-100, -100])
    x = random.uniform(-1, 1, (2, 3))
    mine = F.cross_entropy(jj.tensor(x), jj.tensor(target)).item()
    theirs = torch.nn.functional.cross_entropy(torch.tensor(x), torch.tensor(target)).item()
    assert np.isnan(mine)
    assert np.isnan(theirs)


@pytest.mark.parametrize(
    "name",
    [
        "exp",
        "log",
        "log1p",
        "expm1",
        "sqrt",
        "rsqrt",
        "reciprocal",
        "tanh",
        "sigmoid",
        "erf",
        "sin",
        "cos",
        "relu",
        "abs",
        "square",
        "neg",
        "sign",
        "floor",
        "ceil",
        "round",
        "trunc",
    ],
)
def test_special_values_of_functions(torch, name):
    values = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1e-30, 80.0, -80.0, 200.0, -200.0, 1e30]
    values = np.array([*values, np.inf, -np.inf, np.nan])
    for dtype in (np.float32, np.float64):
        mine = getattr(jj.tensor(values.astype(dtype)), name)().numpy()
        theirs = getattr(torch.tensor(values.astype(dtype)), name)().numpy()
        tiny = np.finfo(dtype).tiny  # denormal results are flushed to zero
        np.testing.assert_allclose(mine, theirs, 4e-7 if dtype is np.float32 else 1e-14, tiny)
        plain = abs(theirs) > tiny
        assert (np.signbit(mine[plain]) == np.signbit(theirs[plain])).all()


def test_special_values_of_powers(torch):
    base = np.array([-2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0, np.inf, -np.inf, np.nan])
    for exponent in (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 2.5, np.inf, -np.inf):
        mine, theirs = jj.tensor(base), torch.tensor(base)
        np.testing.assert_allclose((mine**exponent).numpy(), (theirs**exponent).numpy(), 1e-13)
        a, b = mine ** jj.full((10,), exponent, dtype=jj.float64), theirs ** torch.full((10,), exponent).double()
        np.testing.assert_allclose(a.numpy(), b.numpy(), 1e-13)


def test_division_with_signs(torch):
    values = [7, -7, 3, -3, 1, -1, 0]
    for a, b in itertools.product(values, [2, -2, 3, -5]):
        for make in (int, float):
            x, y = jj.tensor(make(a)), torch.tensor(make(a))
            assert (x // b).item() == (y // b).item()
            assert (x % b).item() == (y % b).item()
            assert (x / b).item() == pytest.approx((y / b).item(), rel=1e-6)
            assert (b % (x + 8)).item() == (b % (y + 8)).item()


def test_dropout_statistics(torch):
    x = jj.ones(20_000)
    y = F.dropout(x, 0.3)
    kept = (y.numpy() != 0).mean()
    assert abs(kept - 0.7) < 0.02
    assert set(np.unique(y.numpy()).tolist()) == {0.0, np.float32(1 / 0.7)}
    assert F.dropout(x, 0.3, training=False) is x
    assert (F.dropout(x, 1.0).numpy() == 0).all()


def test_matmul_shapes(torch):
    for a, b in (
        ((3,), (3,)),
        ((2, 3), (3,)),
        ((3,), (3, 2)),
        ((2, 3), (3, 4)),
        ((5, 2, 3), (3, 4)),
        ((5, 2, 3), (5, 3, 4)),
        ((4, 1, 2, 3), (5, 3, 1)),
        ((3,), (5, 3, 2)),
        ((5, 2, 3), (3,)),
    ):
        arrays = random.uniform(-1, 1, a), random.uniform(-1, 1, b)
        both(torch, jj.matmul, torch.matmul, *arrays, tolerance=1e-12)
    a, b = random.integers(-9, 9, (3, 4)), random.integers(-9, 9, (4, 2))
    assert (jj.tensor(a) @ jj.tensor(b)).tolist() == (torch.tensor(a) @ torch.tensor(b)).tolist()
