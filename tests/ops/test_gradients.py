"""Gradients against central differences in float64, and gradients of gradients.

`tests/docs/test_operations.py` sees to it that no differentiable operation is left out, here or in the other files.
"""

import numpy as np
import pytest

import juanji as jj
from juanji import ops

random = np.random.default_rng(7)
SIGNED = random.uniform(0.3, 2.0, (3, 5)) * np.where(random.random((3, 5)) < 0.5, -1, 1)
POSITIVE = abs(SIGNED)
INNER = SIGNED / 2.5
# Distinct values, apart by more than a difference step: no ties at a maximum.
APART = random.permutation(60).reshape(1, 3, 4, 5) / 10.0

SMOOTH = {
    "neg": (SIGNED,),
    "exp": (SIGNED,),
    "expm1": (SIGNED,),
    "log": (POSITIVE,),
    "log1p": (INNER,),
    "sqrt": (POSITIVE,),
    "rsqrt": (POSITIVE,),
    "reciprocal": (SIGNED,),
    "tanh": (SIGNED,),
    "sigmoid": (SIGNED,),
    "softplus": (SIGNED,),
    "erf": (SIGNED,),
    "erfc": (SIGNED,),
    "atan": (SIGNED,),
    "asin": (INNER,),
    "acos": (INNER,),
    "atan2": (SIGNED, POSITIVE),
    "sin": (SIGNED,),
    "cos": (SIGNED,),
    "add": (SIGNED, POSITIVE),
    "sub": (SIGNED, POSITIVE),
    "mul": (SIGNED, POSITIVE),
    "div": (POSITIVE, SIGNED),
    "pow": (POSITIVE, SIGNED),
    "copy": (SIGNED,),
}
CORNERED = {
    "abs": (SIGNED,),
    "relu": (SIGNED,),
    "sign": (SIGNED,),
    "floor": (SIGNED,),
    "ceil": (SIGNED,),
    "trunc": (SIGNED,),
    "round": (SIGNED,),
    "maximum": (SIGNED, POSITIVE * 0.9),
    "minimum": (SIGNED, POSITIVE * 0.9),
    "rem": (SIGNED, POSITIVE * 0.37),
    "floordiv": (SIGNED, POSITIVE * 0.37),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_elementwise_twice(gradcheck, name):
    gradcheck(ops.TABLE[name], *SMOOTH[name], order=2)


@pytest.mark.parametrize("name", CORNERED)
def test_cornered_elementwise(gradcheck, name):
    gradcheck(ops.TABLE[name], *CORNERED[name], order=2)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "pow", "maximum"])
def test_broadcast_operands(gradcheck, name):
    for a, b in (((4, 3), (3,)), ((4, 1), (1, 3)), ((), (2, 2)), ((2, 1, 3), (4, 1))):
        gradcheck(ops.TABLE[name], random.uniform(0.5, 2, a), random.uniform(0.5, 2, b), order=2)


def test_powers_of_numbers(gradcheck):
    for exponent in (2, 3, 1, 0, 0.5, -1, -1.5, 2.5, 4):
        gradcheck(lambda x, e=exponent: x**e, POSITIVE, order=2)
    gradcheck(lambda x: 3.0**x, SIGNED, order=2)
    gradcheck(lambda x: x**3, SIGNED)


def test_relu_gradient_operation(gradcheck):
    gradcheck(ops.TABLE["relu_grad"], SIGNED, POSITIVE, order=2)


@pytest.mark.parametrize(
    ("name", "attrs"), [("leaky_relu", {"slope": 0.25}), ("hardtanh", {"low": -0.9, "high": 1.1}), ("silu", {})]
)
def test_activations(gradcheck, name, attrs):
    gradcheck(lambda x: ops.TABLE[name](x, **attrs), SIGNED, order=2)
    gradcheck(lambda g, x: ops.TABLE[name + "_grad"](g, x, **attrs), POSITIVE, SIGNED, order=2)


def test_binary_cross_entropy(gradcheck):
    gradcheck(ops.TABLE["bce"], random.uniform(0.1, 0.9, (3, 5)), random.uniform(0, 1, (3, 5)), order=2)


def test_where_and_clamp(gradcheck):
    condition = jj.tensor(random.random((3, 5)) < 0.5)
    gradcheck(lambda a, b: jj.where(condition, a * a, b), SIGNED, random.uniform(1, 2, (5,)), order=2)
    gradcheck(lambda x: x.clamp(-0.7, 0.9) ** 2, SIGNED, order=2)


def test_cast(gradcheck):
    gradcheck(lambda x: ops.TABLE["cast"](x, dtype="f64") ** 2, SIGNED, order=2)


def test_cast_passes_gradients_back_in_the_input_type():
    x = jj.tensor([1.0, 2.0], requires_grad=True)
    (x.double() * jj.tensor([3.0, 5.0], dtype=jj.float64)).sum().backward()
    assert x.grad.dtype is jj.float32
    assert x.grad.tolist() == [3.0, 5.0]


@pytest.mark.parametrize("dims", [(0,), (1,), (0, 2), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("name", ["sum", "prod"])
def test_sums_and_products(gradcheck, name, dims):
    gradcheck(lambda x: ops.TABLE[name](x, dims=dims), random.uniform(0.5, 1.5, (2, 3, 4)), order=2)


@pytest.mark.parametrize("dims", [(0,), (0, 2), (0, 1, 2)], ids=str)
def test_moments(gradcheck, dims):
    gradcheck(lambda x: ops.TABLE["moments"](x, dims=dims) ** 2, random.uniform(0.5, 1.5, (2, 3, 4)), order=2)


def test_products_with_zeros(gradcheck):
    x = np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 4.0], [1.0, 2.0, 5.0]])
    gradcheck(lambda x: x.prod(1), x, order=3)
    gradcheck(lambda x: x.prod(), x[1:], order=2)
    gradcheck(lambda x: ops.TABLE["prod"](x, dims=(0, 2)), np.stack([x, x + 1]), order=2)


@pytest.mark.parametrize("name", ["amax", "amin"])
def test_extremes(gradcheck, name):
    gradcheck(lambda x: getattr(x, name)((1, 3)) ** 2, APART, order=2)
    gradcheck(lambda x: getattr(x, name)() ** 2, APART, order=2)


@pytest.mark.parametrize("name", ["max_first", "min_first"])
def test_first_extremes(gradcheck, name):
    gradcheck(lambda x: ops.TABLE[name](x, dims=(2,)) ** 2, APART, order=2)


@pytest.mark.parametrize("name", ["mean", "var", "std", "logsumexp", "norm"])
def test_statistics(gradcheck, name):
    gradcheck(lambda x: getattr(x, name)(1), random.uniform(0.5, 2, (3, 4)), order=2)


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(gradcheck, name, dim):
    gradcheck(lambda x: ops.TABLE[name](x, dim=dim), random.uniform(-2, 2, (2, 3, 4)), order=2)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy(gradcheck, reduction, smoothing, weighted):
    weight = jj.tensor([0.5, 2.0, 1.0, 3.0], dtype=jj.float64) if weighted else None
    target = jj.tensor([1, 3, 0, -100, 1])

    def loss(x):
        return jj.cross_entropy(x, target, weight, reduction=reduction, label_smoothing=smoothing)

    gradcheck(loss, random.uniform(-2, 2, (5, 4)), order=2)


def test_other_losses(gradcheck):
    target = jj.tensor([1, 3, 0, -100, 1])
    gradcheck(lambda x: jj.nll_loss(x, target), random.uniform(-2, 2, (5, 4)), order=2)
    gradcheck(jj.mse_loss, SIGNED, POSITIVE, order=2)
    probabilities = jj.tensor(random.dirichlet(np.ones(4), 5))
    gradcheck(lambda x: jj.cross_entropy(x, probabilities, label_smoothing=0.1), random.uniform(-2, 2, (5, 4)), order=2)
    planes = jj.tensor(random.integers(0, 3, (2, 2, 2)))
    gradcheck(lambda x: jj.cross_entropy(x, planes), random.uniform(-2, 2, (2, 3, 2, 2)), order=2)


def test_views(gradcheck):
    x = random.uniform(-1, 1, (2, 3, 4))
    gradcheck(lambda x: x.reshape(4, 6) ** 2, x, order=2)
    gradcheck(lambda x: x.permute(2, 0, 1) ** 2, x, order=2)
    gradcheck(lambda x: x[1:, ::2, 1:3] ** 2, x, order=2)
    gradcheck(lambda x: x[:, 1:2].expand(5, 2, 3, 4) ** 2, x, order=2)
    gradcheck(lambda x: x[1].T.reshape(-1)[::3] ** 2, x, order=2)
    gradcheck(lambda a, b: jj.cat([a, b * b, a], 1), x, random.uniform(-1, 1, (2, 1, 4)), order=2)
    gradcheck(lambda a, b: jj.stack([a, b * b], 2), x, x + 1, order=2)


def test_writes(gradcheck):
    def program(x, y):
        z = x * 2
        z[1:, ::2] = y * y
        z[0] *= x[1]
        z.view(-1)[3:7].mul_(z.view(-1)[5:9].clone())
        return z

    gradcheck(program, random.uniform(0.5, 1, (2, 4, 3)), random.uniform(0.5, 1, (1, 2, 3)), order=2)


def test_indexing_by_arrays(gradcheck):
    rows = np.array([2, 0, 2])
    mask = random.random((3, 5)) < 0.5
    gradcheck(lambda x: x[rows] ** 2, SIGNED, order=2)
    gradcheck(lambda x: x[mask] ** 2, SIGNED, order=2)
    gradcheck(lambda x: x[rows, [1, 1, 4]] ** 2, SIGNED, order=2)

    def written(x, y):
        z = x * 1
        z[mask] = y
        return z * z

    gradcheck(written, SIGNED, random.uniform(1, 2, int(mask.sum())), order=2)


@pytest.mark.parametrize(
    "attrs", [{}, {"stride": (2, 1), "padding": (1, 2)}, {"dilation": 2, "padding": 2, "groups": 2}], ids=str
)
def test_convolution(gradcheck, attrs):
    x, w = random.uniform(-1, 1, (2, 4, 5, 6)), random.uniform(-1, 1, (6, 4 // attrs.get("groups", 1), 3, 2))
    gradcheck(lambda x, w, b: jj.conv2d(x, w, b, **attrs), x, w, random.uniform(-1, 1, 6), order=2)
    gradcheck(lambda x, w: jj.conv2d(x, w, **attrs) ** 2, x, w, order=2)


@pytest.mark.parametrize("way", ["", "reference_", "fft_"])
def test_gradients_of_convolution_are_differentiable(gradcheck, way):
    attrs = {"stride": (2, 1), "padding": ((1, 0), (0, 2)), "dilation": (1, 2), "groups": 2}
    x, w = random.uniform(-1, 1, (2, 4, 6, 5)), random.uniform(-1, 1, (6, 2, 3, 2))
    g = random.uniform(-1, 1, ops.TABLE["conv"](jj.tensor(x), jj.tensor(w), **attrs).shape)
    gradcheck(lambda g, w: ops.TABLE[way + "conv_input_grad"](g, w, size=(6, 5), **attrs), g, w, order=2)
    gradcheck(lambda g, x: ops.TABLE[way + "conv_weight_grad"](g, x, kernel=(3, 2), **attrs), g, x, order=2)


def test_matrix_products(gradcheck):
    a, b = random.uniform(-1, 1, (3, 4)), random.uniform(-1, 1, (4, 5))
    gradcheck(lambda a, b: a @ b, a, b, order=2)
    gradcheck(lambda a, b: a @ b, random.uniform(-1, 1, (2, 3, 4)), random.uniform(-1, 1, (2, 4, 2)), order=2)
    gradcheck(lambda a, b: a @ b, random.uniform(-1, 1, (2, 3, 4)), b, order=2)
    gradcheck(lambda a, b: a @ b, a, random.uniform(-1, 1, 4), order=2)
    gradcheck(lambda a, b: a @ b, random.uniform(-1, 1, (2, 1, 3, 4)), random.uniform(-1, 1, (3, 4, 2)), order=2)
    gradcheck(jj.linear, a, random.uniform(-1, 1, (5, 4)), random.uniform(-1, 1, 5), order=2)
    gradcheck(lambda a: a @ a.T, a, order=2)


@pytest.mark.parametrize("attrs", [{}, {"stride": 1}, {"stride": 2, "padding": 1, "ceil_mode": True}], ids=str)
def test_max_pooling(gradcheck, attrs):
    gradcheck(lambda x: jj.max_pool2d(x, (2, 3), **attrs) ** 2, APART, order=2)


@pytest.mark.parametrize(
    "attrs", [{}, {"stride": 1, "padding": 1}, {"count_include_pad": False, "padding": 1}], ids=str
)
def test_average_pooling(gradcheck, attrs):
    gradcheck(lambda x: jj.avg_pool2d(x, (2, 3), **attrs) ** 2, APART, order=2)
    y = jj.avg_pool2d(jj.tensor(APART).requires_grad_(), (2, 3), **attrs)
    function = y.grad_fn
    while function.op.name != "avg_pool":
        function = function.next_functions[0][0]
    back = ops.TABLE["avg_pool_grad"]
    gradcheck(lambda g: back(g, x=APART.shape, **function.attrs) ** 2, random.uniform(-1, 1, y.shape), order=2)


def test_pool_gather_and_scatter(gradcheck):
    attrs = {"kernel": (2, 2), "stride": (1, 2), "padding": (0, 0), "dilation": (1, 1), "ceil": False}
    index = ops.TABLE["max_pool_index"](jj.tensor(APART), **attrs)
    gradcheck(lambda x: ops.TABLE["pool_gather"](x, index, **attrs) ** 2, APART, order=2)
    g = random.uniform(-1, 1, index.shape)
    gradcheck(lambda g: ops.TABLE["pool_scatter"](g, index, x=APART.shape, **attrs) ** 2, g, order=2)


def scatter_name(mode):
    """The operation that scatters so."""
    return "scatter" if mode in ("set", "add") else "scatter_reduce"


def test_tables(gradcheck):
    index = jj.tensor(random.integers(0, 3, (4, 5)))
    gradcheck(lambda x: ops.TABLE["gather"](x, index, dim=0) ** 2, SIGNED, order=2)
    source = APART.reshape(-1)[:20].reshape(4, 5) + 0.05
    for mode in ("set", "add", "mul", "max", "min"):
        places = jj.tensor([[0, 1, 2, 0, 1], [1, 2, 0, 2, 0]]) if mode == "set" else index
        values = source[:2] if mode == "set" else source
        attrs = {"dim": 0, "mode": mode}
        gradcheck(
            lambda b, s, i=places, a=attrs: ops.TABLE[scatter_name(a["mode"])](b, s, i, **a) ** 2,
            SIGNED,
            values,
            order=2,
        )


@pytest.mark.parametrize("mode", ["add", "mul", "max", "min", "logaddexp"])
def test_scans(gradcheck, mode):
    x = APART.reshape(3, 20)[:, :6]
    for dim in (0, 1):
        gradcheck(lambda x, d=dim: ops.TABLE["scan"](x, dim=d, mode=mode, reverse=False) ** 2, x - 2, order=2)
    if mode == "mul":
        gradcheck(lambda x: x.cumprod(0), np.array([[2.0, 0.0, 1.0], [3.0, 4.0, 0.0], [5.0, 0.0, 0.0]]))


def test_ties_share_gradients_as_in_pytorch():
    x = jj.tensor([2.0, 2.0, 1.0], requires_grad=True)
    x.amax().backward()
    assert x.grad.tolist() == [0.5, 0.5, 0.0]
    x.grad = None
    x.max(0).values.backward()
    assert x.grad.tolist() == [1.0, 0.0, 0.0]
    x.grad = None
    jj.maximum(x, jj.tensor([2.0, 1.0, 3.0])).sum().backward()
    assert x.grad.tolist() == [0.5, 1.0, 0.0]
    x.grad = None
    x.clamp(1, 2).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 1.0]


def test_third_derivative():
    x = jj.tensor(1.3, dtype=jj.float64, requires_grad=True)
    (first,) = jj.autograd.grad(x.sin() * x * x, x, create_graph=True)
    (second,) = jj.autograd.grad(first, x, create_graph=True)
    (third,) = jj.autograd.grad(second, x)
    expected = -(1.3**2) * np.cos(1.3) - 6 * 1.3 * np.sin(1.3) + 6 * np.cos(1.3)
    assert abs(third.item() - expected) < 1e-12
