"""Elementwise, shaping and scanning functions beside PyTorch's: values, element types, gradients, captured."""

import numpy as np
import pytest

import juanji as jj

X = np.linspace(-1.9, 2.3, 12).reshape(3, 4)
P = np.abs(X) + 0.2
SMALL = X / 3
WHOLE = np.arange(-5, 7).reshape(3, 4)
MASK = WHOLE % 3 == 0

#: name: arguments; arrays become tensors, those of floats with gradients.
CASES = [
    *[(name, X) for name in (
        "sinh", "cosh", "tan", "atan", "asinh", "sinc", "deg2rad", "rad2deg", "erfc", "exp2", "frac", "sgn", "isfinite",
        "nan_to_num", "signbit", "positive", "angle", "ravel", "fliplr", "flipud", "rot90", "tril", "triu", "diag",
        "trace", "square", "trunc", "isinf", "expm1",
    )],
    *[(name, SMALL) for name in ("asin", "acos", "atanh")],
    *[(name, P) for name in ("log2", "log10", "log1p", "reciprocal")],
    ("acosh", P + 1),
    ("logit", P / 3),
    ("logit", X, 1e-3),
    ("round", X * 100, ("decimals", -1)),
    ("round", X, ("decimals", 1)),
    ("atan2", X, P), ("hypot", X, P), ("logaddexp", X, P), ("logaddexp2", X, P), ("xlogy", P, P + 1),
    ("copysign", X, -X), ("fmod", X, P), ("fmod", X, 0.7), ("fmax", X, SMALL), ("fmin", X, SMALL), ("ldexp", X, np.abs(WHOLE)),
    ("float_power", P, 1.5), ("floor_divide", X.astype(np.float32), 0.6), ("div", X, P, ("rounding_mode", "trunc")), ("rsub", X, 2.0),
    ("lerp", X, P, 0.3), ("lerp", X, P, SMALL), ("addcmul", X, P, SMALL, ("value", 0.5)), ("addcdiv", X, SMALL, P),
    ("clamp_min", X, 0.5), ("clamp_max", X, P), ("isclose", X, X + 1e-9), ("heaviside", WHOLE, WHOLE + 1),
    ("bitwise_and", WHOLE, 6), ("bitwise_or", WHOLE, 6), ("bitwise_xor", WHOLE, 5), ("bitwise_not", WHOLE),
    ("bitwise_left_shift", WHOLE, 3), ("bitwise_right_shift", WHOLE, 1), ("fmod", WHOLE, 4), ("floor_divide", WHOLE, 4),
    ("pow", WHOLE, np.abs(WHOLE)),
    ("cumsum", X, 1), ("cumprod", X, 0), ("logcumsumexp", X, 1), ("cummax", X, 1), ("cummin", X[::-1].copy(), 0),
    ("cumsum", WHOLE, 0), ("cumsum", MASK, 0),
    ("movedim", X.reshape(3, 2, 2), (0, 1), (2, 0)), ("broadcast_to", X, (2, 3, 4)), ("tile", X, (2, 2)),
    ("repeat_interleave", X, 2, 1), ("repeat_interleave", X, np.array([2, 0, 1]), 0), ("flip", X, (0, 1)),
    ("roll", X, 2, 1), ("roll", X, 5), ("narrow", X, 1, 1, 2), ("select", X, 1, -1), ("split", X, 3, 1),
    ("split", X, [1, 3], 1), ("chunk", X, 3, 1), ("tensor_split", X, 3, 1), ("tensor_split", X, (1, 3), 1),
    ("unbind", X, 1), ("diagonal", X, 1), ("diag_embed", X, 1), ("diagflat", X), ("unfold", X, 1, 2, 1),
    ("select_scatter", X, P[0], 0, 1), ("slice_scatter", X, P[:, ::2], 1, 0, 4, 2), ("tril", X, -1),
    ("diagonal_scatter", X, P[0, :3], 1), ("sum_to_size", X, (1, 4)), ("swapaxes", X, 0, 1), ("masked_fill", X, MASK, 9),
]  # fmt: skip


def call(library, name, arguments, compiled=False):
    given, named, leaves = [], {}, []
    for value in arguments:
        if isinstance(value, np.ndarray):
            value = library.tensor(value)
            if value.dtype is library.float64:
                leaves.append(value.requires_grad_())
        if isinstance(value, tuple) and isinstance(value[0], str):
            named[value[0]] = value[1]
        else:
            given.append(value)
    function = getattr(library, name, None) or getattr(library.Tensor, name)
    out = jj.compile(lambda: function(*given, **named))() if compiled else function(*given, **named)
    results = list(out) if isinstance(out, (tuple, list)) else [out]
    if not compiled and any(r.requires_grad for r in results):
        sum((r * r).sum() for r in results if r.requires_grad).backward()
    return [r.detach() for r in results], [t.grad for t in leaves]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_against_pytorch(torch, case):
    name, *arguments = case
    (mine, gradients), (theirs, expected) = call(jj, name, arguments), call(torch, name, arguments)
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        assert a.dtype.name == str(b.dtype).removeprefix("torch.")
        np.testing.assert_allclose(a.numpy(), b.numpy(), 1e-12, 1e-14)
    for a, b in zip(gradients, expected, strict=True):
        if a is not None or b is not None:
            np.testing.assert_allclose(
                0 if a is None else a.numpy(), 0 if b is None else b.numpy(force=True), 1e-9, 1e-12
            )


@pytest.mark.parametrize("case", CASES[::4], ids=lambda case: case[0])
def test_captured(case):
    name, *arguments = case
    if any(isinstance(a, np.ndarray) and a.ndim == 1 and a.dtype.kind == "i" for a in arguments):
        return  # the size of the result depends on values
    for a, b in zip(call(jj, name, arguments)[0], call(jj, name, arguments, compiled=True)[0], strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_joining(torch):
    a, b = np.arange(6.0).reshape(2, 3), np.arange(3.0)
    for name in ("hstack", "vstack", "dstack", "column_stack"):
        for pair in ((a, a + 1), (b, b + 1)):
            mine = getattr(jj, name)([jj.tensor(p) for p in pair])
            np.testing.assert_array_equal(mine.numpy(), getattr(torch, name)([torch.tensor(p) for p in pair]).numpy())
    for indexing in ("ij", "xy"):
        mine = jj.meshgrid(jj.tensor(b), jj.tensor(a[0]), jj.arange(2.0).double(), indexing=indexing)
        theirs = torch.meshgrid(torch.tensor(b), torch.tensor(a[0]), torch.arange(2.0).double(), indexing=indexing)
        for m, t in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(m.numpy(), t.numpy())
    assert jj.block_diag(jj.ones(1, 2), jj.ones(2)).tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]
    assert jj.cartesian_prod(jj.tensor([1, 2]), jj.tensor([3, 4])).tolist() == [[1, 3], [1, 4], [2, 3], [2, 4]]


def test_parts_are_views():
    x = jj.zeros(4, 6)
    x.diagonal().fill_(1)
    x.narrow(1, 4, 2).fill_(2)
    x.split(3, 1)[0].select(0, 3).add_(5)
    for row in x.unbind(0)[:1]:
        row.mul_(10)
    assert x.tolist() == [[10, 0, 0, 0, 20, 20], [0, 1, 0, 0, 2, 2], [0, 0, 1, 0, 2, 2], [5, 5, 5, 1, 2, 2]]


def test_refusals():
    x = jj.zeros(2, 3)
    for error, call_, message in (
        (IndexError, lambda: x.narrow(1, 4, 1), "out of range"),
        (ValueError, lambda: x.split([1, 1], 1), "sum exactly to 3"),
        (ValueError, lambda: x.chunk(0), "greater than 0"),
        (RuntimeError, lambda: x.flip(0, 0), "twice"),
        (TypeError, lambda: jj.exp(2.0), "must be a Tensor"),
        (TypeError, lambda: jj.sinh(x, out=x), "out= is not available"),
        (RuntimeError, lambda: x.long().frac(), "floating point"),
        (ValueError, lambda: x.div(x, rounding_mode="up"), "rounding_mode"),
        (RuntimeError, lambda: jj.meshgrid(x), "1D"),
        (TypeError, lambda: x.maximum(1), "must be a Tensor"),
    ):
        with pytest.raises(error, match=message):
            call_()
