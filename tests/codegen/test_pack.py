"""Weights into panels and back, on every target: all of the panels, and nothing beside them."""

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from juanji import target as targets
from juanji.codegen.pack import PackSpec
from juanji.runtime import jit

TARGETS = [targets._named(name) for name in targets.available()]
CALL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def run(target, dtype, back, rows, panels, columns, outer, inner, per):
    """`rows` is [columns, outer * inner], `panels` [block, inner, outer, columns of a block]."""
    steps = [rows.strides[0], panels.strides[0], panels.strides[2], panels.strides[1]]
    slots = [rows.ctypes.data, panels.ctypes.data, columns, outer, inner, *steps, per]
    args = (ctypes.c_int64 * len(slots))(*slots)
    kernel = CALL(jit.address(PackSpec(dtype, back), target))
    for chunk in reversed(range(-(-columns // target.lanes(dtype)))):
        kernel(args, chunk, chunk + 1)


@pytest.mark.parametrize("back", [False, True], ids=["pack", "back"])
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@given(
    st.integers(1, 3),
    st.integers(1, 40),
    st.integers(1, 11),
    st.integers(1, 50),
    st.sampled_from(["f32", "f64", "i32"]),
)
@settings(max_examples=25, deadline=None)
def test_any_sizes(target, back, per, outer, inner, columns, dtype):
    rng = np.random.default_rng(outer * 1000 + inner)
    block = per * target.lanes(dtype)
    blocks = -(-columns // block)
    kind = {"f32": np.float32, "f64": np.float64, "i32": np.int32}[dtype]
    rows = rng.integers(0, 1000, (columns, outer * inner + 3)).astype(kind)
    panels = rng.integers(0, 1000, (blocks, inner, outer, block)).astype(kind)
    there = np.broadcast_to(np.arange(blocks * block).reshape(blocks, 1, 1, block) < columns, panels.shape)
    long = rows[:, : outer * inner].reshape(columns, outer, inner)
    if back:
        wanted = rows.copy()
        flat = panels.transpose(0, 3, 2, 1).reshape(blocks * block, outer, inner)[:columns]
        wanted[:, : outer * inner] = flat.reshape(columns, outer * inner)
        run(target, dtype, True, rows, panels, columns, outer, inner, per)
        np.testing.assert_array_equal(rows, wanted)
    else:
        whole = np.zeros((blocks * block, outer, inner), kind)
        whole[:columns] = long
        wanted = np.where(there, whole.reshape(blocks, block, outer, inner).transpose(0, 3, 2, 1), panels)
        run(target, dtype, False, rows, panels, columns, outer, inner, per)
        np.testing.assert_array_equal(panels, wanted)
