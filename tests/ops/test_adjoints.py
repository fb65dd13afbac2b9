"""Every operation that says it is linear: <op(x), g> == <x, gradient(g)>, exactly, on whole numbers."""

import math

import numpy as np
import pytest

import juanji as jj
import recording
from juanji import ops

whole = np.random.default_rng(3)
CONV = {"stride": (2, 1), "padding": ((1, 0), (0, 2)), "dilation": (1, 2), "groups": 2}
WINDOW = {"kernel": (2, 2), "stride": (1, 2), "padding": (0, 0), "dilation": (1, 1), "ceil": False}
BOUNDS = {"bounds": ((1, 3, 1), (0, 6, 2))}


def numbers(*shape):
    return jj.tensor(whole.integers(-4, 5, shape).astype(np.float64))


def cases():
    """(inputs, attributes) of each linear operation that is not elementwise."""
    planes = jj.tensor(whole.permutation(60).reshape(1, 3, 4, 5).astype(np.float64))
    index = ops.TABLE["max_pool_index"](planes, **WINDOW)
    average = {"kernel": (2, 2), "stride": (1, 2), "padding": (1, 0), "dilation": (1, 1), "ceil": True}
    average |= {k: v for k, v in average_extras().items() if k not in average}
    pooled = ops.TABLE["avg_pool"](planes, **average).shape
    places = jj.tensor(whole.integers(0, 3, (4, 5)))

    trio = {
        "conv": ((numbers(2, 4, 6, 5), numbers(6, 2, 3, 2)), CONV),
        "conv_input_grad": ((numbers(2, 6, 3, 5), numbers(6, 2, 3, 2)), {"size": (6, 5), **CONV}),
        "conv_weight_grad": ((numbers(2, 6, 3, 5), numbers(2, 4, 6, 5)), {"kernel": (3, 2), **CONV}),
    }
    patches = {"kernel": (3, 2), "stride": (2, 1), "padding": ((1, 1), (0, 2)), "dilation": (1, 2)}
    columns = ops.TABLE["unfold"](numbers(2, 3, 6, 5), **patches).shape
    y, x = (jj.tensor(whole.integers(-2, 9, (2, 7)) / 2) for _ in range(2))  # halves: the weights are exact
    return {
        "bilinear": ((numbers(2, 3, 4, 5), y, x), {"slopes": (0, 0)}),
        "bilinear_scatter": ((numbers(2, 3, 7), y, x), {"slopes": (0, 0), "size": (4, 5)}),
        **{prefix + name: case for name, case in trio.items() for prefix in ("", "reference_", "fft_")},
        "unfold": ((numbers(2, 3, 6, 5),), patches),
        "fold": ((numbers(*columns),), {"size": (6, 5), **patches}),
        "reshape": ((numbers(3, 4),), {"shape": (2, 6)}),
        "permute": ((numbers(3, 4, 2),), {"dims": (2, 0, 1)}),
        "slice": ((numbers(3, 6),), BOUNDS),
        "expand": ((numbers(1, 4),), {"shape": (5, 3, 4)}),
        "matmul": ((numbers(2, 3, 4), numbers(2, 4, 5)), {}),
        "linear": ((numbers(3, 4), numbers(5, 4)), {}),
        "sum": ((numbers(2, 3, 4),), {"dims": (0, 2)}),
        "pool_scatter": ((numbers(*index.shape), index), {"x": (1, 3, 4, 5), **WINDOW}),
        "pool_gather": ((numbers(1, 3, 4, 5), index), WINDOW),
        "avg_pool": ((numbers(1, 3, 4, 5),), average),
        "avg_pool_grad": ((numbers(*pooled),), {"x": (1, 3, 4, 5), **average}),
        "gather": ((numbers(3, 5), places), {"dim": 0}),
    }


def average_extras():
    """The attributes of average pooling beyond the geometry, as the public function gives them."""
    x = numbers(1, 1, 4, 4).requires_grad_()
    function = jj.avg_pool2d(x, 2, divisor_override=4).grad_fn
    while function is not None and function.op.name != "avg_pool":
        function = function.next_functions[0][0]
    return dict(function.attrs)


def names():
    jj.tensor(0)
    return sorted(op.name for op in ops.TABLE.values() if op.linear and any(op.grads))


@pytest.fixture(scope="module")
def known():
    return cases()


@pytest.mark.parametrize("name", names())
def test_adjoint(known, name):
    op = ops.TABLE[name]
    if name in known:
        values, attrs = known[name]
    else:
        assert op.kind == "map", f"give {name}, which says it is linear, a case above"
        values = [numbers(3, 7) for _ in op.grads]
        attrs = {"dtype": "f32"} if name == "cast" else {}
        if name == "where":
            values[0] = values[0] > 0
        if name == "div":
            values[1] = jj.full((3, 7), 2.0, dtype=jj.float64)
    for i in op.linear:
        inputs = [v.detach().clone().requires_grad_() if j == i else v for j, v in enumerate(values)]
        y = op(*inputs, **attrs)
        g = jj.tensor(whole.integers(-4, 5, y.shape)).to(y.dtype)
        (back,) = jj.autograd.grad(y, inputs[i], g)
        zero = op(*[v * 0 if j == i else v for j, v in enumerate(values)], **attrs)
        linear = (y - zero).detach().double()  # an operation can be linear in two inputs together
        total, adjoint = (linear * g).sum().item(), (inputs[i] * back).sum().item()
        if name.startswith("fft_"):  # not exact, even on whole numbers
            assert abs(total - adjoint) <= 1e-10 * (linear * g).abs().sum().item()
        else:
            assert total == adjoint
        assert math.isfinite(total)
    recording.note("adjoint", name)
