"""Tensors begin with a cache line, however they were made: vectors that cross lines take up to twice the time."""

import numpy as np
import pytest

import juanji as jj

MADE = {
    "zeros": lambda: jj.zeros(300, 50),
    "zeros_like": lambda: jj.zeros_like(jj.empty(7, 11)),
    "full": lambda: jj.full((3, 5), 2.5),
    "arange": lambda: jj.arange(1000),
    "randn": lambda: jj.randn(13, 17),
    "rand": lambda: jj.rand(4, 1, 28, 28),
    "tensor": lambda: jj.tensor(np.zeros(100, np.float32)[1:]),
    "new_full": lambda: jj.ones(1).new_full((9, 9), 3.0),
    "parameter": lambda: jj.nn.Linear(5, 7).weight,
    "result": lambda: jj.ones(3) + 1,
}


@pytest.mark.parametrize("name", MADE)
def test_tensors_begin_with_a_cache_line(name):
    for _ in range(3):
        assert MADE[name]().data_ptr() % 64 == 0


def test_a_tensor_made_from_an_array_is_a_copy():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    made, turned = jj.tensor(array), jj.tensor(array.T)
    array[:] = 0
    assert made.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert turned.tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    again = jj.tensor(made)
    made.zero_()
    assert again[1, 2].item() == 5.0
