"""Convolution by other algorithms, and true convolution: all the same numbers."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import juanji as jj
from juanji.nn import functional as F
from juanji.ops.reference import reference
from juanji.tensors.algorithms import ALGORITHMS

CASES = (
    (1, (2, 4, 11), (6, 2, 3), {"stride": 2, "padding": 2, "groups": 2}),
    (1, (3, 20), (2, 3, 4), {"padding": "same", "dilation": 2}),
    (2, (2, 3, 7, 8), (5, 3, 3, 2), {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 3)}),
    (2, (1, 4, 5, 5), (4, 1, 2, 2), {"padding": "same", "groups": 4}),
    (3, (1, 2, 4, 5, 6), (3, 2, 2, 3, 2), {"stride": (1, 2, 2), "padding": 1}),
)


def attributes(rank, arguments, kernel):
    full = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **arguments}
    every = {k: v if isinstance(v, tuple) else (v,) * rank for k, v in full.items() if k in ("stride", "dilation")}
    if full["padding"] == "same":
        pads = tuple(
            ((d * (k - 1)) // 2, d * (k - 1) - d * (k - 1) // 2) for d, k in zip(every["dilation"], kernel, strict=True)
        )
    else:
        given = full["padding"] if isinstance(full["padding"], tuple) else (full["padding"],) * rank
        pads = tuple((p, p) for p in given)
    return {**every, "padding": pads, "groups": full["groups"]}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
@pytest.mark.parametrize("algorithm", [None, *ALGORITHMS])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_the_stated_bound(case, algorithm, dtype):
    """Results and gradients within eps * T * max|a| * max|b|; whole numbers exactly."""
    rank, x_shape, w_shape, arguments = CASES[case]
    random = np.random.default_rng(case)
    draw = lambda shape: random.standard_normal(shape) if dtype(0.5) else random.integers(0, 4, shape)  # noqa: E731
    x, w = draw(x_shape).astype(dtype), draw(w_shape).astype(dtype)
    tx, tw = jj.tensor(x), jj.tensor(w)
    if dtype(0.5):
        tx.requires_grad_()
        tw.requires_grad_()
    out = getattr(F, f"conv{rank}d")(tx, tw, algorithm=algorithm, **arguments)
    attrs = attributes(rank, arguments, w_shape[2:])
    batch = x if x.ndim == rank + 2 else x[None]
    wide = [a.astype(np.float64 if dtype(0.5) else np.int64) for a in (batch, w)]
    exact = reference("conv", wide, attrs)
    found = out.detach().numpy().reshape(exact.shape)
    if not dtype(0.5):
        np.testing.assert_array_equal(found, exact.astype(dtype))
        return
    eps = np.finfo(dtype).eps
    image = np.prod([n + sum(p) for n, p in zip(x_shape[-rank:], attrs["padding"], strict=True)]) * x_shape[-rank - 1]

    def check(got, exact, a, b, terms):
        terms = max(terms, image) if algorithm == "fft" else terms
        assert abs(got - exact).max() <= eps * terms * abs(a).max() * abs(b).max()

    check(found, exact, x, w, w[0].size)
    g = draw(out.shape).astype(dtype)
    grads = jj.autograd.grad(out, [tx, tw], jj.tensor(g))
    wide_g = g.reshape(exact.shape).astype(np.float64)
    kernel, size = {"kernel": w_shape[2:]}, {"size": x_shape[-rank:]}
    dx = reference("conv_input_grad", [wide_g, wide[1]], {**attrs, **size})
    check(grads[0].numpy().reshape(dx.shape), dx, g, w, w[:, 0].size)
    dw = reference("conv_weight_grad", [wide_g, wide[0]], {**attrs, **kernel})
    check(grads[1].numpy(), dw, g, x, g[:, 0].size if g.ndim == rank + 2 else g[0].size)


@pytest.mark.parametrize("algorithm", ["reference", "im2col", "fft"])
def test_second_derivatives(gradcheck, algorithm):
    random = np.random.default_rng(0)
    x, w = random.standard_normal((1, 2, 4, 5)), random.standard_normal((2, 1, 2, 3))
    call = lambda x, w: F.conv2d(x, w, padding=1, stride=(1, 2), groups=2, algorithm=algorithm) ** 2  # noqa: E731
    gradcheck(call, x, w, order=2)


def test_algorithms_in_a_compiled_step():
    x, w = jj.randn(1, 2, 5, 5), jj.randn(3, 2, 3, 3)
    step = jj.compile(lambda x, w: F.conv2d(x, w, algorithm="im2col"))
    assert jj.allclose(step(x, w), F.conv2d(x, w), atol=1e-5)
    with pytest.raises(jj.CaptureError, match="fft_conv runs on the host"):
        jj.compile(lambda x, w: F.conv2d(x, w, algorithm="fft"))(x, w)
    with pytest.raises(ValueError, match="algorithm='winograd' is not one of"):
        F.conv2d(x, w, algorithm="winograd")
    with pytest.raises(ValueError, match="has 2 channels"):
        F.conv2d(x, jj.ones(1, 3, 2, 2), algorithm="reference")


# -- true convolution ----------------------------------------------------------------------------------------------
def loops(x, k, mode):
    """The definition: out[i] += x[j] * k[i - j], then cut."""
    full = np.zeros([n + m - 1 for n, m in zip(x.shape, k.shape, strict=True)], np.int64)
    for i in np.ndindex(*x.shape):
        for j in np.ndindex(*k.shape):
            full[tuple(a + b for a, b in zip(i, j, strict=True))] += x[i] * k[j]
    if mode == "same":
        starts = [(m - 1) // 2 for m in k.shape]
        full = full[tuple(slice(s, s + n) for s, n in zip(starts, x.shape, strict=True))]
    if mode == "valid":
        pairs = [(min(n, m), max(n, m)) for n, m in zip(x.shape, k.shape, strict=True)]
        full = full[tuple(slice(low - 1, high) for low, high in pairs)]
    return full


SHAPES = (((5,), (3,)), ((3,), (4,)), ((6,), (4,)), ((1,), (1,)), ((5, 6), (3, 2)), ((2, 3), (4, 5)), ((4, 3, 5), (2, 3, 2)))  # fmt: skip


@pytest.mark.parametrize("method", ["auto", "direct", "fft"])
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_convolve_and_correlate(mode, method):
    random = np.random.default_rng(0)
    for a, b in SHAPES:
        x, k = random.integers(-5, 6, a), random.integers(-5, 6, b)
        expected = loops(x, k, mode)
        np.testing.assert_array_equal(
            jj.convolve(jj.tensor(x), jj.tensor(k), mode, method).numpy(), expected, strict=True
        )
        turned = np.ascontiguousarray(np.flip(k))
        np.testing.assert_array_equal(jj.correlate(jj.tensor(x), jj.tensor(turned), mode, method).numpy(), expected)
        got = jj.convolve(jj.tensor(x / 2), jj.tensor(k / 4), mode, method)
        np.testing.assert_allclose(got.numpy(), expected / 8, 1e-12, 1e-12)


def test_as_scipy():
    signal = pytest.importorskip("scipy.signal")
    random = np.random.default_rng(0)
    for (a, b), mode in itertools.product(SHAPES, ("full", "same", "valid")):
        x, k = random.standard_normal(a), random.standard_normal(b)
        for name in ("convolve", "correlate"):
            expected = getattr(signal, name)(x, k, mode)
            np.testing.assert_allclose(
                getattr(jj, name)(jj.tensor(x), jj.tensor(k), mode).numpy(), expected, 1e-9, 1e-12
            )


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_convolution_commutes_and_associates(n, m, p, seed):
    random = np.random.default_rng(seed)
    a, b, c = (jj.tensor(random.integers(-9, 10, k)) for k in (n, m, p))
    assert jj.equal(jj.convolve(a, b), jj.convolve(b, a))
    assert jj.equal(jj.convolve(jj.convolve(a, b), c), jj.convolve(a, jj.convolve(b, c)))
    # The Fourier transform of a convolution is the product of the transforms.
    whole = np.fft.rfft(a.numpy(), n + m) * np.fft.rfft(b.numpy(), n + m)
    np.testing.assert_allclose(np.fft.rfft(jj.convolve(a, b).numpy(), n + m), whole, atol=1e-9)


def test_convolve_gradients(gradcheck):
    x, k = np.random.default_rng(0).standard_normal((4, 5)), np.random.default_rng(1).standard_normal((2, 3))
    for mode, method in itertools.product(("full", "same", "valid"), ("direct", "fft")):
        gradcheck(functools.partial(jj.convolve, mode=mode, method=method), x, k, order=2)
        gradcheck(functools.partial(jj.correlate, mode=mode, method=method), k, x)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: jj.convolve(jj.ones(3), jj.ones(2), mode="max"), ValueError, "mode='max'"),
        (lambda: jj.convolve(jj.ones(3), jj.ones(2), method="x"), ValueError, "method='x'"),
        (lambda: jj.convolve(jj.ones(3), jj.ones(2, 2)), RuntimeError, "same number of dimensions"),
        (lambda: jj.correlate(jj.ones(3, 1), jj.ones(2, 2), "valid"), ValueError, "as large as the other"),
        (lambda: jj.convolve(jj.ones(0), jj.ones(2)), ValueError, "must not be empty"),
        (lambda: jj.convolve(np.ones(3), jj.ones(2)), TypeError, "x must be a Tensor"),
        (lambda: jj.convolve(jj.ones(2) > 0, jj.ones(2) > 0), TypeError, "bool"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
