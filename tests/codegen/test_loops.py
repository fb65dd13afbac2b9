import ctypes
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from juanji import target as targets
from juanji.codegen.loops import LoopSpec
from juanji.runtime import jit

DTYPES = {
    "f32": np.float32, "f64": np.float64, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
    "u8": np.uint8, "b1": np.bool_,
}  # fmt: skip
TARGETS = [targets._named(name) for name in targets.available()]
CALL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
RNG = np.random.default_rng(0)


@pytest.fixture(params=TARGETS, ids=lambda t: t.name)
def target(request):
    return request.param


def name_of(array):
    return next(k for k, v in DTYPES.items() if array.dtype == v)


def class_of(array, extent):
    stride = array.strides[-1]
    if stride == 0:
        return "zero"
    return "unit" if stride == array.itemsize else "any"


def run(target, extents, inputs, outputs, stages, reduced=0, column=False, grain=None, classes=None, order=1):
    """Runs a kernel on arrays that have already been broadcast to `extents`."""
    ins = tuple((name_of(a), class_of(a, extents[-1])) for a in inputs)
    outs = tuple((name_of(a), class_of(a, extents[-1])) for a in outputs)
    if classes:
        ins = tuple((dtype, classes) for dtype, _ in ins)
    spec = LoopSpec(len(extents), ins, outs, tuple(stages), reduced, column)
    grain = grain or extents[0]
    slots = [a.ctypes.data for a in (*inputs, *outputs)] + [grain, *extents]
    for a in (*inputs, *outputs):
        assert a.shape == tuple(extents)
        slots += a.strides
    args = (ctypes.c_int64 * len(slots))(*slots)
    kernel = CALL(jit.address(spec, target))
    for chunk in range(-(-extents[0] // grain))[::order]:
        kernel(args, chunk, chunk + 1)


def rows(out, extents):
    """A view of an array of one element a row (or column) with zero strides along the reduced axes."""
    return np.lib.stride_tricks.as_strided(
        out, extents, [0 if e == 1 else s for e, s in zip(out.shape, out.strides, strict=True)]
    )


def load(i, dtype="f32"):
    return ("load", dtype, i)


def random(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


# -- map --------------------------------------------------------------------------------------------------
ADD = ("store", 0, ("add", "f32", load(0), load(1)))


@pytest.mark.parametrize("n", [0, 1, 5, 7, 8, 16, 31, 33, 64, 100, 257])
@pytest.mark.parametrize("grain", [1000, 13])
def test_map_flat(target, n, grain):
    a, b, c = random(n), random(n), np.full(n + 3, 7, np.float32)
    run(target, (n,), (a, b), (c[:n],), [ADD], grain=grain)
    np.testing.assert_array_equal(c[:n], a + b)
    np.testing.assert_array_equal(c[n:], 7)


@given(
    st.lists(st.integers(1, 6), min_size=0, max_size=3),
    st.integers(1, 70),
    st.lists(st.sampled_from(["full", "row", "scalar", "strided", "transposed"]), min_size=2, max_size=2),
    st.sampled_from(["full", "strided"]),
    st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_map_strides(outer, inner, kinds, out_kind, grain):
    extents = (*outer, inner)

    def make(kind):
        if kind == "row":
            return np.broadcast_to(random(inner), extents)
        if kind == "scalar":
            return np.broadcast_to(random(*extents[:-1], 1), extents)
        if kind == "strided":
            return random(*outer, inner * 3)[..., ::3]
        if kind == "transposed":
            return random(*extents[::-1]).T
        return random(*extents)

    a, b = map(make, kinds)
    for t in TARGETS:
        c = make(out_kind)
        run(t, extents, (a, b), (c,), [ADD], grain=grain, order=-1)
        np.testing.assert_array_equal(c, a + b)


def test_map_of_mixed_types_and_two_outputs(target):
    for n in (1, 19, 80, 131):
        image = RNG.integers(0, 256, (3, n)).astype(np.uint8)
        mean = np.broadcast_to(random(3, 1), (3, n))
        out, bright = np.zeros((3, n), np.float32), np.zeros((3, n), np.bool_)
        value = ("sub", "f32", ("cast", "f32", load(0, "u8")), load(1))
        stages = [("store", 0, value), ("store", 1, ("gt", "b1", value, ("const", "f32", 100)))]
        run(target, (3, n), (image, mean), (out, bright), stages, grain=2)
        np.testing.assert_array_equal(out, image - mean)
        np.testing.assert_array_equal(bright, image - mean > 100)


@pytest.mark.parametrize("dtype", DTYPES)
def test_map_copies_every_dtype(target, dtype):
    a = RNG.integers(0, 2 if dtype == "b1" else 100, (4, 77)).astype(DTYPES[dtype])
    for source in (a, np.broadcast_to(a[:, :1], a.shape), a[:, ::-1], np.asfortranarray(a)):
        out = np.zeros_like(a)
        run(target, a.shape, (source,), (out,), [("store", 0, load(0, dtype))])
        np.testing.assert_array_equal(out, source)


def test_map_in_place_and_swap(target):
    a, b = random(203), random(203)
    first, second = a.copy(), b.copy()
    run(target, (203,), (a, b), (a, b), [("store", 0, load(1)), ("store", 1, load(0))])
    np.testing.assert_array_equal(a, second)
    np.testing.assert_array_equal(b, first)


def test_map_positions(target):
    for extents in ((150,), (5, 37), (2, 3, 20)):
        index, col = np.zeros(extents, np.int64), np.zeros(extents, np.int64)
        run(
            target,
            extents,
            (),
            (index, col),
            [("store", 0, ("index", "i64")), ("store", 1, ("col", "i64"))],
            grain=2,
        )
        np.testing.assert_array_equal(index, np.arange(index.size).reshape(extents))
        np.testing.assert_array_equal(col, np.broadcast_to(np.arange(extents[-1]), extents))


def test_map_of_doubles(target):
    a = random(3, 50, dtype=np.float64)
    out = np.zeros_like(a)
    run(target, a.shape, (a,), (out,), [("store", 0, ("sqrt", "f64", ("abs", "f64", load(0, "f64"))))])
    np.testing.assert_array_equal(out, np.sqrt(np.abs(a)))


# -- row and column ---------------------------------------------------------------------------------------
NUMPY = {"sum": np.sum, "prod": np.prod, "max": np.max, "min": np.min, "any": np.any, "all": np.all,
         "argmax": np.argmax, "argmin": np.argmin}  # fmt: skip


def result_of(kind, dtype):
    return "i64" if kind.startswith("arg") else dtype


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("dtype", ["f32", "f64", "i64", "i32", "u8"])
@pytest.mark.parametrize("kind", ["sum", "prod", "max", "min", "argmax", "argmin"])
def test_reduce(target, kind, dtype, column):
    for n in (1, 3, 10, 33, 200):
        extents = (2, n, 21) if column else (2, 3, n)
        axis = 1 if column else 2
        if dtype.startswith("f"):
            a = np.round(random(*extents, dtype=DTYPES[dtype]), 1)
        else:
            a = RNG.integers(0, 4, extents).astype(DTYPES[dtype])
        kept = tuple(1 if i == axis else e for i, e in enumerate(extents))
        into = result_of(kind, dtype)
        out = np.zeros(kept, DTYPES[into])
        stages = [("reduce", kind, load(0, dtype)), ("store_row", 0, ("red", into, 0))]
        run(target, extents, (a,), (rows(out, extents),), stages, 1, column, grain=1)
        with np.errstate(over="ignore"):
            expected = NUMPY[kind](a, axis=axis, keepdims=True)
        if kind in ("sum", "prod"):
            expected = expected.astype(out.dtype)
        rtol = {"f32": 2e-6, "f64": 1e-14}.get(dtype, 0)
        np.testing.assert_allclose(out, expected, rtol=rtol, atol=10 * rtol)


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("kind", ["any", "all"])
def test_any_all(target, kind, column):
    for n in (1, 40, 300):
        extents, axis = ((1, n, 40), 1) if column else ((1, 40, n), 2)
        a = RNG.random(extents) < (1 / n if kind == "any" else 1 - 1 / n)
        out = np.zeros(tuple(1 if i == axis else e for i, e in enumerate(extents)), np.bool_)
        stages = [("reduce", kind, load(0, "b1")), ("store_row", 0, ("red", "b1", 0))]
        run(target, extents, (a,), (rows(out, extents),), stages, 1, column)
        np.testing.assert_array_equal(out, NUMPY[kind](a, axis=axis, keepdims=True))


@given(
    st.lists(st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0]), min_size=1, max_size=150),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_special_values(values, column):
    row = np.array(values, np.float32)
    extents = (1, row.size, 1) if column else (1, row.size)
    a = row.reshape(extents)
    for t in TARGETS:
        for kind in ("max", "min", "argmax", "argmin", "sum"):
            into = result_of(kind, "f32")
            out = np.zeros([1] * len(extents), DTYPES[into])
            stages = [("reduce", kind, load(0)), ("store_row", 0, ("red", into, 0))]
            run(t, extents, (a,), (rows(out, extents),), stages, 1, column)
            with np.errstate(invalid="ignore"):  # NumPy too: the first of ties, and of NaNs
                np.testing.assert_array_equal(out.ravel()[0], NUMPY[kind](row))


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=2),
    st.lists(st.integers(1, 5), min_size=0, max_size=2),
    st.integers(1, 140),
    st.sampled_from(["full", "strided", "zero"]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_several_axes(kept, middle, inner, layout, column):
    extents = (*kept, *middle, 3, inner) if column else (*kept, *middle, inner)
    reduced = len(middle) + 1
    axes = tuple(range(len(kept), len(kept) + reduced))
    a = random(*extents)
    if layout == "strided":
        a = random(*extents[:-1], 2 * inner)[..., ::2]
    elif layout == "zero":
        a = np.broadcast_to(random(*extents[:-1], 1), extents)
    weight = random(*extents)
    for t in TARGETS:
        shape = tuple(1 if i in axes else e for i, e in enumerate(extents))
        total, most = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        stages = [
            ("reduce", "sum", ("mul", "f32", load(0), load(1))),
            ("reduce", "max", load(0)),
            ("store_row", 0, ("red", "f32", 0)),
            ("store_row", 1, ("red", "f32", 1)),
        ]
        outputs = (rows(total, extents), rows(most, extents))
        run(t, extents, (a, weight), outputs, stages, reduced, column)
        product = a.astype(np.float64) * weight
        np.testing.assert_allclose(total, product.sum(axes, keepdims=True), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(most, a.max(axes, keepdims=True))


@pytest.mark.parametrize("column", [False, True])
def test_normalise_rows(target, column):
    """Two dependent reductions, a store over the rows in place, and a store of one number a row."""
    for n in (1, 10, 33, 130):
        extents, axis = ((2, n, 50), 1) if column else ((4, 5, n), 2)
        a = random(*extents)
        before = a.copy()
        kept = tuple(1 if i == axis else e for i, e in enumerate(extents))
        scale, var = np.full(kept, 3, np.float32), np.zeros(kept, np.float32)
        mean = ("mul", "f32", ("red", "f32", 0), ("const", "f32", 1 / n))
        centred = ("sub", "f32", load(0), mean)
        stages = [
            ("reduce", "sum", load(0)),
            ("reduce", "sum", ("mul", "f32", centred, centred)),
            ("store", 0, ("mul", "f32", centred, load(1))),
            ("store_row", 1, ("mul", "f32", ("red", "f32", 1), load(1))),
        ]
        run(target, extents, (a, rows(scale, extents)), (a, rows(var, extents)), stages, 1, column, grain=1)
        wide = before.astype(np.float64)
        expected = wide - wide.mean(axis, keepdims=True)
        np.testing.assert_allclose(a, expected * 3, atol=1e-5)
        np.testing.assert_allclose(var, 3 * (expected**2).sum(axis, keepdims=True), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("column", [False, True])
def test_long_sums_are_accurate(target, column):
    n = 1_000_000
    a = RNG.random((1, n), np.float32) + 100
    exact = math.fsum(a[0].tolist())
    extents = (1, n, 1) if column else (1, n)
    out = np.zeros([1] * len(extents), np.float32)
    stages = [("reduce", "sum", load(0)), ("store_row", 0, ("red", "f32", 0))]
    run(target, extents, (a.reshape(extents),), (rows(out, extents),), stages, 1, column)
    assert abs(out.item() - exact) / exact < 3e-7


def test_results_do_not_depend_on_chunks(target):
    a = random(30, 1000)
    results = []
    for grain in (1, 7, 30):
        out = np.zeros((30, 1), np.float32)
        stages = [("reduce", "sum", load(0)), ("store_row", 0, ("red", "f32", 0))]
        run(target, a.shape, (a,), (rows(out, a.shape),), stages, 1, grain=grain, order=-1)
        results.append(out)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_refusals(target):
    stages = (("reduce", "median", load(0)), ("store_row", 0, ("red", "f32", 0)))
    spec = LoopSpec(2, (("f32", "unit"),), (("f32", "unit"),), stages, 1)
    with pytest.raises(ValueError, match="median"):
        spec.generate("k", target)
    spec = LoopSpec(2, (("f32", "unit"),), (("f32", "unit"),), (("reduce", "sum", load(0)),), 2)
    with pytest.raises(ValueError, match="kept outer axis"):
        spec.generate("k", target)
