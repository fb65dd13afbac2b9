"""Every operation's kernel against its reference, on both vector targets.

Results of small integers are exact whatever the order of summation, so most comparisons are `==`.
"""

import math
from pathlib import Path

import numpy as np
import pytest

from juanji import ops
from juanji.codegen.vecmath import ULP
from juanji.ops.reference import covered, reference
from juanji.ops.table import MODES
from juanji.tensors import from_numpy

FLOATS = {"f32": np.float32, "f64": np.float64}
INTEGERS = {"i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64, "u8": np.uint8}
NUMPY = {**FLOATS, **INTEGERS, "b1": np.bool_}
EXACT_UNARY = ("neg", "abs", "sign", "floor", "ceil", "trunc", "round", "relu", "sqrt", "copy")
EXACT_BINARY = ("add", "sub", "mul", "div", "maximum", "minimum", "floordiv", "rem")
COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
#: Shapes of (first, second) operand: vectors with and without a tail, broadcasts in each dimension, scalars, empties.
PAIRS = (
    ((37,), (37,)),
    ((5, 19), (5, 19)),
    ((5, 19), (19,)),
    ((5, 1), (1, 67)),
    ((2, 3, 17), (3, 1)),
    ((), ()),
    ((6,), ()),
    ((0, 4), (1, 4)),
)
#: Enough where only the arithmetic differs: every loop with two operands is the same but for its expression.
FEW = (PAIRS[1], PAIRS[3])


def whole(seed, shape, dtype, low=-4, high=5):
    """Small whole numbers; unsigned types take no negative ones."""
    low = max(low, 0) if dtype in ("u8", "b1") else low
    return np.asarray(np.random.default_rng(seed).integers(low, high, shape)).astype(NUMPY[dtype])


def kernel(name, arrays, **attrs):
    return ops.TABLE[name](*[from_numpy(np.array(a)) for a in arrays], **attrs).numpy()


def assert_exact(name, *arrays, **attrs):
    expected = reference(name, arrays, attrs)
    got = kernel(name, arrays, **attrs)
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


def test_every_operation_has_a_reference():
    without = {name for name, op in ops.TABLE.items() if op.kind != "host"} - covered()
    assert not without


def test_every_reference_belongs_to_an_operation():
    assert covered() <= set(ops.TABLE)


def test_records_are_consistent():
    for name, op in ops.TABLE.items():
        assert op.name == name
        assert len(op.grads) == len(op.needs), name
        assert set(op.linear) <= set(range(len(op.grads))), name
        assert all(set(need) <= set("012o") for need in op.needs), name


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", EXACT_UNARY)
def test_exact_unary(kernel_target, name, dtype):
    special = np.array([0.0, -0.0, 0.5, 1.5, -2.5, 1e9, -1e30, math.inf, -math.inf, math.nan], NUMPY[dtype])
    if name == "sign":
        special = special[:-1]  # PyTorch's sign(nan) is 0, NumPy's nan: tested with the tensors
    for array in (special, special[::2], whole(1, (3, 41), dtype) / 2, np.zeros((0, 3), NUMPY[dtype])):
        array = array.astype(NUMPY[dtype])
        assert_exact(name, abs(array) if name == "sqrt" else array)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", ["neg", "abs", "sign", "relu", "copy", "not"])
def test_integer_unary(kernel_target, name, dtype):
    assert_exact(name, whole(2, (3, 41), dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", EXACT_BINARY)
def test_exact_binary(kernel_target, name, dtype):
    for i, (a, b) in enumerate(PAIRS if name == "add" else FEW):
        second = whole(10 + i, b, dtype)
        if name in ("floordiv", "rem"):
            second = np.where(second == 0, 3, second).astype(second.dtype)
        assert_exact(name, whole(i, a, dtype), second)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", ["add", "sub", "mul", "maximum", "minimum", "floordiv", "truncdiv", "rem"])
def test_integer_binary(kernel_target, name, dtype):
    for i, (a, b) in enumerate(FEW[:1]):
        second = whole(10 + i, b, dtype)
        if "div" in name or name == "rem":
            second = np.where(second == 0, 3, second).astype(second.dtype)
        assert_exact(name, whole(i, a, dtype), second)


@pytest.mark.parametrize("dtype", ["f32", "f64", "i64", "u8", "b1"])
@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons(kernel_target, name, dtype):
    for i, (a, b) in enumerate(FEW[:1]):
        assert_exact(name, whole(i, a, dtype, -2, 3), whole(20 + i, b, dtype, -2, 3))


@pytest.mark.parametrize("name", [*COMPARISONS, "maximum", "minimum", "add", "mul", "div"])
def test_special_values_of_pairs(kernel_target, name):
    values = np.array([0.0, -0.0, 1.0, math.inf, -math.inf, math.nan], np.float32)
    assert_exact(name, values[:, None], values[None, :])


@pytest.mark.parametrize("dtype", ["b1", *INTEGERS])
@pytest.mark.parametrize("name", ["and", "or", "xor"])
def test_bitwise(kernel_target, name, dtype):
    for i, (a, b) in enumerate(FEW[:1]):
        assert_exact(name, whole(i, a, dtype, 0, 2), whole(30 + i, b, dtype, 0, 2))
    assert_exact(name, whole(8, (70,), dtype, -9, 9), whole(9, (70,), dtype, -9, 9))


def test_logical_not_and_isnan(kernel_target):
    assert_exact("not", np.array([True, False, True]))
    for dtype in FLOATS.values():
        assert_exact("isnan", np.array([1, math.nan, math.inf, -math.nan, 0] * 7, dtype))


@pytest.mark.parametrize("dtype", NUMPY)
def test_where(kernel_target, dtype):
    condition = whole(1, (4, 1, 19), "b1", 0, 2)
    assert_exact("where", condition, whole(2, (3, 1), dtype), whole(3, (19,), dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_relu_gradient(kernel_target, dtype):
    out = np.maximum(whole(1, (5, 37), dtype), 0)
    assert_exact("relu_grad", whole(2, (5, 37), dtype), out)
    assert_exact("relu_grad", np.ones(3, NUMPY[dtype]), np.array([math.nan, -0.0, math.inf], NUMPY[dtype]))


def test_activations(kernel_target):
    random = np.random.default_rng(4)
    x, g = np.concatenate([[0, -0.5, 2, 1e3], random.standard_normal(61)]), random.standard_normal(65)
    for name, attrs in (("leaky_relu", {"slope": 0.25}), ("hardtanh", {"low": -0.5, "high": 2.0}), ("silu", {})):
        np.testing.assert_allclose(kernel(name, [x], **attrs), reference(name, [x], attrs), rtol=1e-14, atol=1e-15)
    for name, attrs in (
        ("leaky_relu_grad", {"slope": 0.25}),
        ("hardtanh_grad", {"low": -0.5, "high": 2.0}),
        ("silu_grad", {}),
    ):
        found, expected = kernel(name, [g, x], **attrs), reference(name, [g, x], attrs)
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)


def test_binary_cross_entropy(kernel_target):
    random = np.random.default_rng(4)
    x, t = np.concatenate([[0, 1, 0, 1], random.random(61)]), np.concatenate([[0, 1, 1, 0], random.random(61)])
    np.testing.assert_allclose(kernel("bce", [x, t]), reference("bce", [x, t], {}), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("to", NUMPY)
@pytest.mark.parametrize("dtype", NUMPY)
def test_cast(kernel_target, dtype, to):
    array = whole(1, (3, 41), dtype)
    if dtype in FLOATS:
        array = array + np.asarray(0.75, array.dtype) * (1 if to in FLOATS or to == "b1" else np.sign(array))
    if to == "u8":
        array = abs(array)
    assert_exact("cast", array.astype(NUMPY[dtype]), dtype=to)


@pytest.mark.parametrize("dtype", FLOATS)
def test_cast_of_nan_and_rounding(kernel_target, dtype):
    assert_exact("cast", np.array([math.nan, 0.0, -0.0, 1e-30], NUMPY[dtype]), dtype="b1")
    assert_exact("cast", np.array([1 + 2.0**-24, 1 / 3, 2.0**100, math.inf], NUMPY[dtype]), dtype="f32")
    big = np.array([2**53 - 1, -(2**40) - 1, 2**24 + 1, -1], np.int64)
    assert_exact("cast", big, dtype=dtype)


@pytest.mark.parametrize("dtype", NUMPY)
def test_sources(kernel_target, dtype):
    for shape in ((), (5,), (3, 41), (0, 2)):
        assert_exact("const", shape=shape, dtype=dtype, value=1)
        if dtype != "b1":
            assert_exact("iota", shape=shape, dtype=dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform_is_philox_of_the_counter(kernel_target, dtype):
    for key, offset in ((0, 0), (12345, 7), (-1, 2**32 - 3), (2**62 + 5, 2**40)):
        assert_exact("uniform", np.array(key), np.array(offset), shape=(3, 13), dtype=dtype)


# -- transcendental functions: within the stated units in the last place -------------------------------------------
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "name", ["exp", "log", "log1p", "expm1", "tanh", "sigmoid", "softplus", "erf", "sin", "cos", "rsqrt", "reciprocal"]
)
def test_transcendental(kernel_target, name, dtype):
    random = np.random.default_rng(5)
    x = random.uniform(-8, 8, 4001).astype(NUMPY[dtype])
    if name in ("log", "log1p", "rsqrt"):
        x = abs(x) + np.asarray(1e-3, x.dtype)
    wide = np.longdouble if dtype == "f64" and name != "erf" else np.float64
    exact = reference(name, [x.astype(wide)], {})
    got = kernel(name, [x])
    bound = ULP.get(name, (2.0, 2.0))[list(FLOATS).index(dtype)] + (0.5 if name == "erf" and dtype == "f64" else 0)
    spacing = np.spacing(abs(exact).astype(NUMPY[dtype])).astype(wide)
    assert float((abs(got.astype(wide) - exact) / spacing).max()) <= bound


@pytest.mark.parametrize("dtype", FLOATS)
def test_pow(kernel_target, dtype):
    random = np.random.default_rng(6)
    base, exponent = random.uniform(0.01, 9, 3001), random.uniform(-5, 5, 3001)
    base, exponent = base.astype(NUMPY[dtype]), exponent.astype(NUMPY[dtype])
    wide = np.longdouble if dtype == "f64" else np.float64
    exact = reference("pow", [base.astype(wide), exponent.astype(wide)], {})
    spacing = np.spacing(exact.astype(NUMPY[dtype])).astype(wide)
    bound = ULP["pow"][list(FLOATS).index(dtype)]
    assert float((abs(kernel("pow", [base, exponent]).astype(wide) - exact) / spacing).max()) <= bound
    whole_base = np.array([-3, -2, -1, 0, 1, 2, 3], NUMPY[dtype])[:, None]
    assert_exact("pow", whole_base, np.array([0, 1, 2, 3, 4], NUMPY[dtype]))


# -- reductions and rows --------------------------------------------------------------------------------------------
REDUCED = (
    ((7,), (0,)),
    ((130,), (0,)),
    ((3, 67), (1,)),
    ((3, 67), (0,)),
    ((67, 3), (0, 1)),
    ((2, 5, 9), (1,)),
    ((2, 5, 9), (0, 2)),
    ((4, 1, 6), (1,)),
    ((2, 3, 4, 5), (0, 2, 3)),
    ((), ()),
)


@pytest.mark.parametrize("dtype", ["f32", "f64", "i64"])
@pytest.mark.parametrize("name", ["sum", "prod", "amax", "amin"])
def test_reductions(kernel_target, name, dtype):
    for i, (shape, dims) in enumerate(REDUCED):
        x = whole(i, shape, dtype, -1, 2) if name == "prod" else whole(i, shape, dtype, -9, 9)
        assert_exact(name, x, dims=dims)


@pytest.mark.parametrize("dtype", ["f32", "f64", "i64"])
@pytest.mark.parametrize("name", ["argmax", "argmin", "max_first", "min_first"])
def test_reductions_of_one_dimension(kernel_target, name, dtype):
    for i, (shape, dims) in enumerate(REDUCED):
        if len(dims) == 1:
            assert_exact(name, whole(i, shape, dtype, -3, 3), dims=dims)  # many ties: the first one wins


@pytest.mark.parametrize("name", ["amax", "amin", "argmax", "argmin"])
def test_nan_wins_reductions(kernel_target, name):
    x = whole(3, (6, 45), "f32")
    for row, column in ((0, 0), (1, 44), (2, 17), (3, 5), (3, 30)):
        x[row, column] = math.nan
    assert_exact(name, x, dims=(1,))
    assert_exact(name, x, dims=(0,))


@pytest.mark.parametrize("name", ["any", "all"])
def test_any_and_all(kernel_target, name):
    for i, (shape, dims) in enumerate(REDUCED):
        for density in (0.02, 0.5, 0.98):
            x = np.asarray(np.random.default_rng(i).random(shape) < density)
            assert_exact(name, x, dims=dims)


@pytest.mark.parametrize("name", ["sum", "prod", "any", "all"])
def test_empty_reductions(kernel_target, name):
    for shape, dims in (((0,), (0,)), ((0, 3), (0,)), ((3, 0), (1,)), ((2, 0, 3), (0, 1, 2)), ((0, 3), (1,))):
        assert_exact(name, whole(0, shape, "b1" if name in ("any", "all") else "f32"), dims=dims)


@pytest.mark.parametrize("dtype", FLOATS)
def test_long_float_sums_are_accurate(kernel_target, dtype):
    x = np.random.default_rng(0).uniform(0, 1, 200_003).astype(NUMPY[dtype])
    exact = math.fsum(x.tolist())
    assert abs(float(kernel("sum", [x], dims=(0,))[0]) - exact) / exact <= 8 * np.finfo(NUMPY[dtype]).eps


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(kernel_target, name, dtype):
    tolerance = 40 * np.finfo(NUMPY[dtype]).eps
    for i, (shape, dim) in enumerate((((5, 10), 1), ((3, 67), 0), ((2, 5, 9), 1), ((1, 1), 1), ((4, 300), 1))):
        x = np.random.default_rng(i).uniform(-30, 30, shape).astype(NUMPY[dtype])
        exact = reference(name, [x.astype(np.float64)], {"dim": dim})
        np.testing.assert_allclose(kernel(name, [x], dim=dim), exact, tolerance, tolerance)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", FLOATS)
def test_cross_entropy(kernel_target, dtype, smoothing, weighted):
    random = np.random.default_rng(1)
    for shape in ((4, 10), (3, 67), (2, 5, 7), (1, 1)):
        x = random.uniform(-9, 9, shape).astype(NUMPY[dtype])
        target = random.integers(0, shape[-1], shape[:-1])
        target.reshape(-1)[0] = -100
        weight = random.uniform(0.5, 2, shape[-1]).astype(NUMPY[dtype])
        attrs = {"ignore_index": -100, "smoothing": smoothing, "weighted": weighted}
        exact = reference("cross_entropy", [x.astype(np.float64), target, weight.astype(np.float64)], attrs)
        tolerance = 60 * np.finfo(NUMPY[dtype]).eps
        np.testing.assert_allclose(kernel("cross_entropy", [x, target, weight], **attrs), exact, tolerance, tolerance)


def test_cross_entropy_of_a_class_that_does_not_exist_is_nan(kernel_target):
    attrs = {"ignore_index": -100, "smoothing": 0.0, "weighted": False}
    got = kernel("cross_entropy", [np.zeros((3, 4), np.float32), np.array([4, -1, 3]), np.ones(4, np.float32)], **attrs)
    assert np.isnan(got).tolist() == [True, True, False]


# -- views and writes ----------------------------------------------------------------------------------------------
def test_views():
    x = whole(1, (4, 3, 5), "f32")
    assert_exact("reshape", x, shape=(6, 10))
    assert_exact("permute", x, dims=(2, 0, 1))
    assert_exact("expand", x[:, :1], shape=(2, 4, 3, 5))
    assert_exact("slice", x, bounds=((1, 4, 2), (0, 3, 1), (4, 5, 1)))


@pytest.mark.parametrize("dtype", NUMPY)
def test_view_write(kernel_target, dtype):
    base = whole(1, (6, 5, 37), dtype)
    piece = (("slice", (("bounds", ((1, 6, 2), (0, 5, 1), (3, 30, 1))),)),)
    turned = (*piece, ("permute", (("dims", (2, 0, 1)),)))
    flat = (("reshape", (("shape", (1110,)),)), ("slice", (("bounds", ((5, 1000, 7),)),)))
    assert_exact("view_write", base, whole(2, (3, 5, 27), dtype), chain=piece)
    assert_exact("view_write", base, whole(3, (27, 3, 5), dtype), chain=turned)
    assert_exact("view_write", base, whole(4, (143,), dtype), chain=flat)


# -- scans ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", NUMPY)
def test_scan(kernel_target, dtype):
    for shape, dim in (((5,), 0), ((3, 4, 5), 0), ((3, 4, 5), 1), ((2, 19), 1), ((0, 3), 0), ((3, 0), 0)):
        for mode in ("add", "mul", "max", "min"):
            for reverse in (False, True):
                assert_exact("scan", whole(1, shape, dtype, -2, 3), dim=dim, mode=mode, reverse=reverse)


def test_scan_of_logarithms(kernel_target):
    x = np.array([[1.0, -math.inf, 3.0, 800.0, -800.0], [-math.inf, -math.inf, 2.0, math.inf, 1.0]])
    attrs = {"dim": 1, "mode": "logaddexp", "reverse": False}
    np.testing.assert_allclose(kernel("scan", [x], **attrs), reference("scan", [x], attrs), 1e-15)


# -- special functions ---------------------------------------------------------------------------------------------
SPECIAL_ULP = {"atan": 3, "asin": 4, "acos": 4, "atan2": 3, "erfc": 6}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", SPECIAL_ULP)
def test_special_functions(kernel_target, name, dtype):
    random = np.random.default_rng(4)
    ends = np.array([0.0, -0.0, 1, -1, 0.5, -0.5, math.tan(math.pi / 8), math.inf, -math.inf, math.nan])
    x = np.concatenate([ends, random.uniform(-1, 1, 4000), random.uniform(-6, 9, 4000)]).astype(NUMPY[dtype])
    arrays = [x, np.roll(x, 5)] if name == "atan2" else [x]
    exact = reference(name, [a.astype(np.float64) for a in arrays], {})
    got = kernel(name, arrays)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(exact))
    kept = ~np.isnan(exact) & (abs(exact) > np.finfo(NUMPY[dtype]).tiny)
    unit = np.spacing(abs(exact[kept]).astype(NUMPY[dtype])).astype(np.float64)
    assert (abs(got[kept] - exact[kept]) / unit).max() <= SPECIAL_ULP[name]
    if name == "atan2":  # the sign of zero chooses the side
        zeros = [np.array(z, NUMPY[dtype]) for z in ([0.0, -0.0, 0.0, -0.0], [-0.0, -0.0, 0.0, 0.0])]
        np.testing.assert_array_equal(np.signbit(kernel(name, zeros)), [False, True, False, True])
        np.testing.assert_allclose(abs(kernel(name, zeros)), [math.pi, math.pi, 0, 0], 1e-6)


# -- tables --------------------------------------------------------------------------------------------------------
#: (shape of the table, of the index, dimension)
TABLES = (((5, 7), (3, 7), 0), ((5, 7), (5, 9), 1), ((4, 5, 6), (4, 2, 6), 1), ((9,), (20,), 0), ((3, 4), (0, 4), 0))


def scatter_name(mode):
    """The operation that scatters so."""
    return "scatter" if mode in ("set", "add") else "scatter_reduce"


@pytest.mark.parametrize("dtype", NUMPY)
def test_gather_and_scatter(kernel_target, dtype):
    for i, (shape, listed, dim) in enumerate(TABLES):
        table, values = whole(i, shape, dtype), whole(i + 9, listed, dtype)
        index = np.random.default_rng(i).integers(-1, shape[dim] + 1, listed)  # also outside: NaN, and nothing written
        assert_exact("gather", table, index, dim=dim)
        for mode in MODES:
            assert_exact(scatter_name(mode), table, values, index, dim=dim, mode=mode)


@pytest.mark.parametrize("width", [1, 3, 40, 48])
def test_rows_of_tables(kernel_target, width):
    """An index that does not move along the rows, as an embedding's: whole rows are moved."""
    index = np.array([4, 0, 4, 7, 2])
    spread = from_numpy(index.reshape(5, 1)).expand(5, width)
    for order in ("C", "F"):
        table = np.asarray(np.arange(5.0 * width).reshape(5, width), np.float32, order=order)
        values = np.asarray(np.arange(5.0 * width).reshape(5, width)[::-1], np.float32, order=order)
        shown = from_numpy(np.ascontiguousarray(table.T)).T if order == "F" else from_numpy(table)
        full = np.broadcast_to(index.reshape(5, 1), (5, width))
        got = ops.TABLE["gather"](shown, spread, dim=0).numpy()
        np.testing.assert_array_equal(got, reference("gather", [table, full], {"dim": 0}))
        for mode in MODES:
            attrs = {"dim": 0, "mode": mode}
            got = ops.TABLE[scatter_name(mode)](shown, from_numpy(values), spread, **attrs).numpy()
            np.testing.assert_array_equal(got, reference(scatter_name(mode), [table, values, full], attrs))


# -- matrices ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", FLOATS)
def test_matrix_products(kernel_target, dtype):
    for m, k, n in ((1, 1, 1), (5, 7, 3), (33, 20, 70), (1, 40, 17), (64, 1, 9), (3, 0, 4), (0, 3, 4), (3, 4, 0)):
        a, b = whole(m, (m, k), dtype), whole(n, (k, n), dtype)
        assert_exact("matmul", a, b)
        assert_exact("linear", a, np.ascontiguousarray(b.T))
    assert_exact("matmul", whole(1, (4, 5, 6), dtype), whole(2, (4, 6, 19), dtype))


# -- pooling -------------------------------------------------------------------------------------------------------
WINDOWS = (
    {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1), "ceil": False},
    {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 1), "ceil": False},
    {"kernel": (2, 3), "stride": (1, 2), "padding": (0, 1), "dilation": (2, 1), "ceil": False},
    {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1), "dilation": (1, 1), "ceil": True},
    {"kernel": (2, 2), "stride": (3, 3), "padding": (0, 0), "dilation": (1, 1), "ceil": True},
    {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "ceil": False},
)
PLANES = ((1, 1, 4, 4), (2, 3, 7, 8), (1, 17, 5, 6))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("window", range(len(WINDOWS)))
def test_max_pooling(kernel_target, window, dtype):
    attrs = WINDOWS[window]
    for i, shape in enumerate(PLANES):
        x = whole(i, shape, dtype)  # many ties
        assert_exact("max_pool", x, **attrs)
        assert_exact("max_pool_index", x, **attrs)
        index = reference("max_pool_index", [x], attrs)
        g = whole(50 + i, index.shape, dtype)
        assert_exact("pool_gather", x, index, **attrs)
        assert_exact("pool_scatter", g, index, x=shape, **attrs)
        if all(
            s >= d * (k - 1) + 1 for s, d, k in zip(*(attrs[n] for n in ("stride", "dilation", "kernel")), strict=True)
        ):
            assert_exact("max_pool_grad", g, x, **attrs)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("outs", "ins", "kernel", "window", "stride"),
    [
        (16, 6, (3, 3), (2, 2), (2, 2)),
        (9, 10, (5, 5), (2, 2), (2, 2)),
        (20, 1, (5, 5), (2, 2), (2, 2)),
        (3, 2, (3, 2), (2, 3), (3, 3)),
        (1, 3, (1, 3), (3, 1), (3, 2)),
    ],
)
def test_convolution_gradients_behind_max_pooling(kernel_target, outs, ins, kernel, window, stride, dtype):
    pool = {"kernel": window, "stride": stride, "padding": (0, 0), "dilation": (1, 1), "ceil": False}
    conv = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    y = whole(0, (3, outs, 9, 10), dtype)  # many ties
    y[1, 0, 0, :2] = math.nan
    g = whole(1, reference("max_pool", [y], pool).shape, dtype)
    w = whole(2, (outs, ins, *kernel), dtype)
    size = (9 + kernel[0] - 1, 10 + kernel[1] - 1)
    attrs = {"pool": tuple(sorted(pool.items())), **conv}
    assert_exact("conv_input_grad_at_maxima", g, y, w, size=size, **attrs)
    for images in (3, 17):  # one part, and two
        g, y = (np.resize(a, (images, *a.shape[1:])) for a in (g, y))
        x = whole(3, (images, ins, *size), dtype)
        assert_exact("conv_weight_grad_at_maxima", g, y, x, kernel=kernel, **attrs)


def test_max_pooling_of_nan(kernel_target):
    x = whole(0, (1, 2, 6, 6), "f32")
    x[0, 0, 1, 1] = x[0, 0, 1, 2] = x[0, 1, 5, 5] = math.nan
    x[0, 1, 0, :2] = x[0, 1, 1, :2] = -math.inf
    for window in WINDOWS[:3]:
        assert_exact("max_pool", x, **window)
        assert_exact("max_pool_index", x, **window)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("include_pad", "divisor"), [(True, 0), (False, 0), (True, 3)])
@pytest.mark.parametrize("window", [w for w, attrs in enumerate(WINDOWS) if attrs["dilation"] == (1, 1)])
def test_average_pooling(kernel_target, window, include_pad, divisor, dtype):
    attrs = {**WINDOWS[window], "include_pad": include_pad, "divisor": divisor}
    tolerance = 4 * np.finfo(NUMPY[dtype]).eps
    for i, shape in enumerate(PLANES):
        x = whole(i, shape, dtype) * 12
        expected = reference("avg_pool", [x.astype(np.float64)], attrs)
        np.testing.assert_allclose(kernel("avg_pool", [x], **attrs), expected, tolerance, tolerance)
        g = whole(50 + i, expected.shape, dtype) * 12
        expected = reference("avg_pool_grad", [g.astype(np.float64)], {"x": shape, **attrs})
        np.testing.assert_allclose(kernel("avg_pool_grad", [g], x=shape, **attrs), expected, tolerance, 20 * tolerance)


@pytest.mark.parametrize("dtype", FLOATS)
def test_moments(kernel_target, dtype):
    """Far from zero too, where a sum of squares less the square of the sum would have no digits left."""
    tolerance = 8 * np.finfo(NUMPY[dtype]).eps
    for i, (shape, dims) in enumerate([((3, 37), (1,)), ((4, 5, 6, 19), (0, 2, 3)), ((2, 3), (0, 1)), ((7, 0), (0,))]):
        x = np.random.default_rng(i).uniform(1000, 1001, shape).astype(NUMPY[dtype])
        expected = reference("moments", [x.astype(np.float64)], {"dims": dims})
        got = kernel("moments", [x], dims=dims)
        np.testing.assert_allclose(got[0], expected[0], tolerance)
        np.testing.assert_allclose(got[1], expected[1], 1e-3 if dtype == "f32" else 1e-9)


def test_tested_operations_are_all_of_them():
    """Whoever adds an operation adds its test: these names are looked for in the text of this file and its neighbour."""
    folder = Path(__file__).parent
    text = "".join(
        (folder / f"test_{name}.py").read_text("utf-8") for name in ("reference", "convolution", "patches", "sampling")
    )
    missing = [name for name, op in ops.TABLE.items() if op.kind != "host" and f'"{name}"' not in text]
    assert not missing
