"""Values and gradients at zeros, infinities and NaN: they go where PyTorch's go, for every elementwise operation."""

import math

import numpy as np
import pytest

import juanji as jj
from juanji import ops

SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 1e30, -1e30, math.inf, -math.inf, math.nan])
#: The tensor method or function that is the operation, where it is called otherwise.
NAMES = {"div": "div", "rem": "remainder", "copy": "clone", "floordiv": "floor_divide"}
#: Operations that no user calls, or whose gradient PyTorch does not have.
OTHERS = {"where", "cast", "floordiv", "bce"}


def names(count):
    jj.tensor(0)
    return sorted(
        name
        for name, op in ops.TABLE.items()
        if op.kind == "map"
        and len(op.grads) == count
        and any(op.grads)
        and name not in OTHERS
        and not name.endswith("_grad")
    )


def function(lib, name):
    method = NAMES.get(name, name)
    for place in (lib.Tensor, lib, lib.nn.functional):
        if hasattr(place, method):
            return getattr(place, method)
    return None


def gradients(lib, f, arrays, order=1):
    leaves = [lib.tensor(a, dtype=lib.float64, requires_grad=True) for a in arrays]
    y = f(*leaves)
    first = lib.autograd.grad(y, leaves, lib.ones(tuple(y.shape), dtype=lib.float64), create_graph=order > 1)
    return [y, *first]


def compare(torch, name, arrays):
    theirs, mine = function(torch, name), function(jj, name)
    assert theirs is not None, f"{name} is not in PyTorch: add it to OTHERS"
    assert mine is not None, f"{name} is in the table, but users cannot call it"
    for part, (a, b) in enumerate(zip(gradients(torch, theirs, arrays), gradients(jj, mine, arrays), strict=True)):
        np.testing.assert_allclose(
            b.detach().numpy(), a.detach().numpy(), rtol=1e-9, atol=1e-300, err_msg=f"{name}, {('value', 'gradient', 'gradient')[part]}"
        )  # fmt: skip


@pytest.mark.parametrize("name", names(1))
def test_of_one(torch, name):
    compare(torch, name, [SPECIAL])


@pytest.mark.parametrize("name", names(2))
def test_of_two(torch, name):
    a, b = (x.reshape(-1) for x in np.meshgrid(SPECIAL, SPECIAL))
    compare(torch, name, [a, b])
