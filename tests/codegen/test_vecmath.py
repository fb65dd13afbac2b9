"""Errors of the vector functions in units in the last place, and their special values.

float32 is held against NumPy's float64, float64 against NumPy's long double where that is wider.
"""

import ctypes
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from juanji import target as targets
from juanji.codegen.loops import LoopSpec
from juanji.codegen.vecmath import ULP
from juanji.codegen.vectrig import LIMIT
from juanji.runtime import jit

TARGETS = [targets._named(name) for name in targets.available()]
CALL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
WIDE = {np.float32: np.float64, np.float64: np.longdouble}
INF, NAN = math.inf, math.nan
needs_long_double = np.finfo(np.longdouble).eps < np.finfo(np.float64).eps


@pytest.fixture(params=TARGETS, ids=lambda t: t.name)
def target(request):
    return request.param


@pytest.fixture(params=[np.float32, np.float64], ids=["f32", "f64"])
def dtype(request):
    if request.param is np.float64 and not needs_long_double:
        pytest.skip("this machine's long double is no wider than float64")
    return request.param


def apply(target, op, *arrays):
    name = {4: "f32", 8: "f64"}[arrays[0].itemsize]
    out = np.full_like(arrays[0], 77)
    expr = (op, name, *[("load", name, i) for i in range(len(arrays))])
    unit = (name, "unit")
    spec = LoopSpec(1, (unit,) * len(arrays), (unit,), (("store", 0, expr),))
    pointers = [a.ctypes.data for a in (*arrays, out)]
    slots = [*pointers, out.size, out.size, *[out.itemsize] * len(pointers)]
    CALL(jit.address(spec, target))((ctypes.c_int64 * len(slots))(*slots), 0, 1)
    return out


REFERENCE = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "erf": lambda x: np.array([math.erf(v) for v in x], x.dtype),
    "pow": np.power,
}


def exact(op, *arrays):
    with np.errstate(all="ignore"):
        wide = [a.astype(WIDE[a.dtype.type]) for a in arrays]
        return REFERENCE[op](*wide) if op in REFERENCE else getattr(np, op)(*wide)


def check(target, op, *arrays):
    """Within the stated error of the exact value; equal to it where that is infinite, NaN or zero."""
    dtype = arrays[0].dtype.type
    tiny = np.finfo(dtype).tiny
    with np.errstate(all="ignore"):
        got, expected = apply(target, op, *arrays), exact(op, *arrays)
        near = expected.astype(dtype)
        normal = np.isfinite(near) & (np.abs(expected) >= tiny)
        error = np.abs((got - expected) / np.spacing(np.abs(near)).astype(expected.dtype))
    worst = np.where(normal, error, 0).argmax()
    allowed = ULP[op][0 if dtype is np.float32 else 1]
    assert not np.isnan(error[normal]).any()
    assert error[normal].max(initial=0) <= allowed, (
        op,
        [a[worst] for a in arrays],
        got[worst],
        expected[worst],
    )
    ends = ~np.isfinite(near)
    np.testing.assert_array_equal(got[ends], near[ends])
    small = np.abs(expected) < tiny
    assert (np.abs(got[small]) <= tiny).all()
    zeros = expected == 0
    np.testing.assert_array_equal(got[zeros], 0)
    np.testing.assert_array_equal(np.signbit(got[zeros]), np.signbit(near[zeros]))


def samples(dtype, count=20_000):
    """Numbers of every exponent, numbers of usual size, and the ends."""
    rng = np.random.default_rng(0)
    integers = np.int32 if dtype is np.float32 else np.int64
    info = np.iinfo(integers)
    parts = [rng.integers(info.min, info.max, count, integers).view(dtype)]
    parts += [rng.uniform(-s, s, count).astype(dtype) for s in (1e-3, 1, 3, 10, 100, 750)]
    parts += [1 + rng.uniform(-1e-3, 1e-3, count).astype(dtype)]
    edges = [0.0, -0.0, INF, -INF, NAN, 1, -1, 0.5, 2, 4, 6, -0.999999, -1.5]
    edges += [88.0, 88.3762, 88.72, 88.7228, 88.73, -87.3, -87.33654, -87.34, -88, -104, 89, 1e30, -1e30]
    edges += [709.0, 709.43, 709.78, 709.782712893384, 709.79, -708.39, -708.4, -745, -746, 3.4e38, 1e308]
    x = np.concatenate([*parts, np.array(edges, np.float64).clip(-3.4e38, 3.4e38).astype(dtype)])
    x = np.concatenate([x, np.array([INF, -INF], dtype)])
    return x[~((np.abs(x) < np.finfo(dtype).tiny) & (x != 0))]


@pytest.mark.parametrize("op", ["exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf"])
def test_accuracy(target, dtype, op):
    check(target, op, samples(dtype))


@pytest.mark.parametrize("op", ["sin", "cos"])
def test_accuracy_of_angles(target, dtype, op):
    rng = np.random.default_rng(1)
    x = samples(dtype)
    check(target, op, x[np.abs(x) < 1e5])
    # Near multiples of a quarter turn nearly every digit cancels.
    n = np.concatenate([np.arange(200), rng.integers(0, 2**26, 2000)])
    check(target, op, (n * (math.pi / 2)).astype(dtype))
    # Beyond the reduction's limit the C library's values come back, next to lanes within it.
    mixed = np.tile(np.array([1.0, LIMIT * 1.5, -LIMIT, 1e15, 0.25, 3e30], dtype), 11)
    expected = [getattr(math, op)(float(v)) for v in mixed]
    np.testing.assert_allclose(apply(target, op, mixed), np.array(expected, dtype), rtol=2 * np.finfo(dtype).eps)
    assert np.isnan(apply(target, op, np.array([INF, -INF, NAN], dtype))).all()


def test_odd_functions_keep_the_sign_of_zero(target, dtype):
    zeros = np.array([0.0, -0.0], dtype)
    for op in ("expm1", "log1p", "tanh", "erf", "sin"):
        np.testing.assert_array_equal(np.signbit(apply(target, op, zeros)), [False, True])


def test_nan_with_any_payload_stays_nan(target):
    x = np.array([0x7FC00001, 0x7F800001, 0x7FFFFFFF, 0xFFC12345, 0xFFFFFFFF], np.uint32).view(np.float32)
    for op in ULP:
        arrays = (x, np.full_like(x, 2)) if op == "pow" else (x,)
        assert np.isnan(apply(target, op, *arrays)).all(), op


def test_denormal_arguments_may_count_as_zero(target, dtype):
    info = np.finfo(dtype)
    x = np.array([info.smallest_subnormal, info.tiny / 4, -info.tiny / 4], dtype)
    for op in ("expm1", "tanh", "erf", "sin", "log1p"):
        assert (np.abs(apply(target, op, x)) <= 2 * np.abs(x)).all()
    for op in ("exp", "cos"):
        np.testing.assert_array_equal(apply(target, op, x), 1)
    assert np.isneginf(apply(target, "log", x[:2])).all()


def test_power(target, dtype):
    rng = np.random.default_rng(2)
    x, n = samples(dtype, 4000), 20_000
    y = rng.permutation(x)
    check(target, "pow", x, y)
    check(target, "pow", x, np.round(rng.uniform(-30, 30, x.size)).astype(dtype))
    check(target, "pow", rng.uniform(0, 4, n).astype(dtype), rng.uniform(-60, 60, n).astype(dtype))
    # The logarithm's polynomial at its ends, and exponents that multiply its error.
    check(target, "pow", rng.uniform(0.69, 1.43, n).astype(dtype), rng.uniform(-1900, 1900, n).astype(dtype))
    near_one = (1 + rng.uniform(-1e-3, 1e-3, n)).astype(dtype)
    check(target, "pow", near_one, rng.uniform(-1e5, 1e5, n).astype(dtype))


def test_power_special_cases(target, dtype):
    special = [0.0, -0.0, 1, -1, INF, -INF, NAN, 2, -2, 3, -3, 0.5, -0.5, 2.5, -1.5, 1e30, -1e30, 2.0**24 + 2]
    a, b = np.meshgrid(np.array(special, dtype), np.array(special, dtype))
    check(target, "pow", a.ravel().copy(), b.ravel().copy())


@given(st.floats(width=32, allow_subnormal=False), st.floats(width=32, allow_subnormal=False))
@settings(max_examples=100, deadline=None)
def test_power_of_any_two_numbers(a, b):
    for t in TARGETS:
        check(t, "pow", np.array([a], np.float32), np.array([b], np.float32))


@given(st.floats(width=32, allow_subnormal=False))
@settings(max_examples=100, deadline=None)
def test_any_number(a):
    for t in TARGETS:
        for op in ("exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf"):
            check(t, op, np.array([a], np.float32))


def test_every_lane_of_a_partial_vector(target):
    for n in (1, 7, 17):
        x = np.linspace(-3, 3, n).astype(np.float32)
        np.testing.assert_allclose(apply(target, "exp", x), np.exp(x), rtol=1e-6)
