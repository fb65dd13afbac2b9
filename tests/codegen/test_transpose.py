import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from juanji import target as targets
from juanji.codegen.transpose import TransposeSpec
from juanji.runtime import jit

TARGETS = [targets._named(name) for name in targets.available()]
DTYPES = {
    "f32": np.float32, "f64": np.float64, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
    "u8": np.uint8, "b1": np.bool_,
}  # fmt: skip
CALL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
RNG = np.random.default_rng(0)


def transpose(target, source, out, dtype, grain=None):
    """Copies; both have the same shape, the source with unit stride along axis -2."""
    grain = grain or source.shape[0]
    pointers = [source.ctypes.data, out.ctypes.data]
    slots = [*pointers, grain, *source.shape, *source.strides, *out.strides]
    kernel = CALL(jit.address(TransposeSpec(dtype, source.ndim), target))
    args = (ctypes.c_int64 * len(slots))(*slots)
    for chunk in reversed(range(-(-source.shape[0] // grain))):
        kernel(args, chunk, chunk + 1)


def make(shape, dtype):
    return RNG.integers(0, 2 if dtype == "b1" else 120, shape).astype(DTYPES[dtype])


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (16, 16), (40, 3), (33, 65), (64, 48), (5, 7)])
def test_matrix(target, dtype, shape):
    source = make(shape[::-1], dtype).T
    padded = np.full((shape[0] + 1, shape[1] + 3), 77 if dtype != "b1" else 1, DTYPES[dtype])
    before = padded.copy()
    for grain in (None, 16, 5):
        padded[...] = before
        transpose(target, source, padded[: shape[0], : shape[1]], dtype, grain)
        before[: shape[0], : shape[1]] = source
        np.testing.assert_array_equal(padded, before)


@given(
    st.lists(st.integers(1, 3), min_size=0, max_size=2),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(["f32", "f64", "u8"]),
    st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_batches(outer, rows, columns, dtype, gap):
    """Planes of images between channels-last and channels-first, with gaps between the lines."""
    source = make((*outer, columns, rows * gap), dtype)[..., :rows].swapaxes(-1, -2)
    for t in TARGETS:
        out = np.zeros((*outer, rows, columns * gap), DTYPES[dtype])[..., :columns]
        transpose(t, source, out, dtype, 2)
        np.testing.assert_array_equal(out, source)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_every_bit_arrives(target):
    """NaN payloads and denormal numbers are moved, not calculated with."""
    bits = RNG.integers(0, 2**32, (50, 70), np.uint64).astype(np.uint32)
    source = bits.view(np.float32).T
    out = np.zeros((70, 50), np.float32)
    transpose(target, source, out, "f32")
    np.testing.assert_array_equal(out.view(np.uint32), bits.T)
