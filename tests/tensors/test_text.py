"""How tensors print: exactly as PyTorch prints them, but for the name of the library."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import juanji as jj

random = np.random.default_rng(0)
INF, NAN = math.inf, math.nan
FLOATS = [
    [], [3], [1, 2, 3], [1.5, 2, 3], [0, 0], [-0.0, 1], [-1.5, 22.25], [1, NAN, INF, -INF], [NAN], [NAN, NAN], [INF],
    [1.5, NAN, INF], [1e-5, 1], [1e10, 1], [1e8, 2e8], [123456789], [1e-5], [1000.5, 0.001], [1001.5, 1], [1e5, 0.5],
    [12345.678, 1], [1e-8], [3e38], [99999999, 1], [1e4], [1e4, 0.1], [9999.5], [0.1, 0.01, 1e-4], [100000.5],
    [16777216, 1], [1e-4, 1], [2.0**53], [[INF, 1], [2, 3]], [[1, 2], [3, 4]],
]  # fmt: skip
ARRAYS = [
    *(np.array(values, np.float32) for values in FLOATS),
    *(np.array(values, np.float64) for values in FLOATS[1:]),
    np.array([1e300, 1]), np.array([1e-300]), np.array([1e300, 1e-300]),
    *(np.array([1, 2, 255]).astype(t) for t in (np.uint8, np.int8, np.int16, np.int32, np.int64)),
    np.array([-1, 2, -300]), np.array([[True], [False]]), random.random(64) > 0.5,
    *(np.zeros(shape, np.float32) for shape in ((0, 3), (2, 0, 3), (1, 1, 1, 1))), np.zeros((3, 0), np.int64),
    *(random.standard_normal(s).astype(np.float32) for s in ((3, 4), (2, 3, 4, 5), (1, 60), (20, 30), (1001,))),
    *(random.standard_normal(s) for s in ((2, 2, 2), (3, 500), (5, 2, 300), (7, 7, 7, 7))),
    random.standard_normal((4, 4)) * 10.0 ** random.integers(-6, 6, (4, 4)), random.standard_normal((12, 200)) * 1e6,
    np.arange(1000), np.arange(1001), np.arange(10**6).reshape(1000, 1000), random.integers(-5, 1000, (15, 15)),
]  # fmt: skip


def both(torch, array):
    """What PyTorch and we print of an array."""
    theirs, ours = repr(torch.from_numpy(array.copy())), repr(jj.from_numpy(array.copy()))
    return theirs.replace("torch.", "juanji."), ours


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}-{a.shape}")
def test_tensors_print_as_in_pytorch(torch, array):
    theirs, ours = both(torch, array)
    assert ours == theirs


@pytest.mark.parametrize("value", [3.0, 2.5, -1e-9, 123456.789, NAN, INF, 7, True])
def test_numbers_print_as_in_pytorch(torch, value):
    assert repr(jj.tensor(value)) == repr(torch.tensor(value))


@given(st.lists(st.floats(width=32), min_size=1, max_size=40), st.integers(1, 4))
def test_any_numbers_print_as_in_pytorch(torch, values, rows):
    theirs, ours = both(torch, np.array([values] * rows, np.float32))
    assert ours == theirs


def test_what_is_not_usual_is_said(torch):
    for count in range(1, 40):  # the note comes to stand at every column
        ours, theirs = (repr(library.ones(count, requires_grad=True)) for library in (jj, torch))
        assert ours == theirs
    for library in (jj, torch):
        assert repr(library.nn.Parameter(library.zeros(1))).startswith("Parameter containing:\ntensor([0.], requires")
    assert repr(jj.ones(2, requires_grad=True) * 2) == "tensor([2., 2.], grad_fn=<MulBackward>)"


def test_a_slice_prints_its_own_elements():
    x = jj.arange(2000.0).reshape(2, 1000)
    assert repr(x[:, 998:]) == "tensor([[ 998.,  999.],\n        [1998., 1999.]])"
