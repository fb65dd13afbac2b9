"""The kernel of dot products against NumPy: every size of the last block and of the last tile, epilogues, accuracy."""

from __future__ import annotations

import ctypes
import itertools
from typing import Any

import numpy as np
import pytest

from juanji import target as targets
from juanji.codegen.dot import DotSpec, block
from juanji.runtime import jit

NUMPY = {"f32": "f4", "f64": "f8"}
Array = np.ndarray[Any, Any]


@pytest.fixture(params=["avx512", "avx2", "sse42", "portable"])
def target(request: pytest.FixtureRequest) -> targets.Target:
    if request.param not in targets.available():
        pytest.skip(f"this machine cannot run {request.param}")
    return targets._named(request.param)


def rows(values: Array, gap: int = 3) -> Array:
    """The values with NaN after each row."""
    whole = np.full((values.shape[0] + 1, values.shape[1] + gap), np.nan, values.dtype)
    whole[: values.shape[0], : values.shape[1]] = values
    return whole[: values.shape[0], : values.shape[1]]


def execute(spec: DotSpec, target: targets.Target, a: Array, b: Array, extras: list[Array], alone: bool) -> Array:
    """Runs a kernel, all chunks at once or each by itself, and checks that nothing around the result is written."""
    whole = np.full((len(a) + 1, len(b) + 5), 77, a.dtype)
    c = whole[: len(a), : len(b)]
    slots = [x.ctypes.data for x in (a, b, c)] + [len(a), len(b), a.shape[1]]
    slots += [x.strides[0] for x in (a, b, c)] + [x.ctypes.data for x in extras]
    args = (ctypes.c_int64 * len(slots))(*slots)
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(jit.address(spec, target))
    chunks = -(-len(b) // block(target, spec.dtype))
    for begin, end in reversed([(i, i + 1) for i in range(chunks)]) if alone else [(0, chunks)]:
        kernel(ctypes.addressof(args), begin, end)
    result = c.copy()
    c[...] = 77
    assert (whole == 77).all(), "the kernel wrote beyond its result"
    return result


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_every_size_is_exact_on_integers(target: targets.Target, dtype: str) -> None:
    rng = np.random.default_rng(1)
    least = block(target, dtype)
    for m, n, k in itertools.product((1, 2, 3, 4, 5, 9), (least, least + 1, 2 * least + 3, 24), (1, 7, 16, 33)):
        a, b = (rows(rng.integers(-4, 5, shape).astype(NUMPY[dtype])) for shape in ((m, k), (n, k)))
        for alone in (False, True):
            np.testing.assert_array_equal(execute(DotSpec(dtype), target, a, b, [], alone), a @ b.T, f"{m}, {n}, {k}")


def test_epilogue(target: targets.Target) -> None:
    acc, f = ("acc", "f32"), "f32"
    bias, old, factor = (("load", f, i) for i in range(3))
    spec = DotSpec(f, ("mul", f, ("add", f, ("add", f, acc, bias), old), factor), ((f, "n"), (f, "c"), (f, "s")))
    rng = np.random.default_rng(2)
    a, b = (rows(rng.integers(-4, 5, shape).astype("f4")) for shape in ((5, 20), (11, 20)))
    bias_values, factors = rng.integers(-4, 5, 11).astype("f4"), np.array([3], "f4")
    old_values = rows(rng.integers(-4, 5, (5, 11)).astype("f4"), 5)
    result = execute(spec, target, a, b, [bias_values, old_values, factors], True)
    np.testing.assert_array_equal(result, (a @ b.T + bias_values + old_values) * 3)


def test_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="'f32' or 'f64', not 'i32'"):
        DotSpec("i32")
    with pytest.raises(ValueError, match="'n', 'c' or 's', not 'm'"):
        DotSpec("f32", None, (("f32", "m"),))
