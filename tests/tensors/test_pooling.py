"""Pooling of lines, planes and volumes: against PyTorch, against plain loops, and by its properties."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import juanji as jj
import juanji.nn.functional as F
from juanji.errors import ShapeError

SIZES = {1: (9,), 2: (7, 6), 3: (5, 6, 7)}
#: (kernel, stride, padding, dilation, ceil_mode), cut to the rank.
WINDOWS = (
    ((2, 2, 2), None, 0, 1, False),
    ((3, 2, 3), (2, 1, 2), (1, 0, 1), 1, False),
    ((2, 3, 2), 2, (1, 1, 0), (2, 1, 2), True),
    ((3, 3, 3), 3, 1, 1, True),
)


def cut(value, rank):
    return value[-rank:] if isinstance(value, tuple) else value


def options(window, rank):
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    return {name: cut(value, rank) for name, value in zip(names, WINDOWS[window], strict=True)}


def tied(seed, shape):
    """Few different values: ties everywhere."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def same(mine, theirs, tolerance=1e-6):
    mine = mine if isinstance(mine, (tuple, list)) else (mine,)
    theirs = theirs if isinstance(theirs, (tuple, list)) else (theirs,)
    for a, b in zip(mine, theirs, strict=True):
        assert str(a.dtype).split(".")[-1] == str(b.dtype).split(".")[-1]
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), tolerance, tolerance)


def both(torch, name, x, *args, tolerance=1e-6, **kwargs):
    """Values, indices, gradients and gradients of gradients of one function of PyTorch and of ours."""
    a = jj.tensor(x).requires_grad_()
    b = torch.tensor(x, requires_grad=True)
    mine = getattr(F, name)(a, *args, **kwargs)
    theirs = getattr(torch.nn.functional, name)(b, *args, **kwargs)
    same(mine, theirs, tolerance)
    if isinstance(mine, tuple):
        mine, theirs = mine[0], theirs[0]
    (first,) = jj.autograd.grad((mine * mine).sum(), a, create_graph=True)
    (expected,) = torch.autograd.grad((theirs * theirs).sum(), b, create_graph=True)
    same(first, expected, 10 * tolerance)
    (second,) = jj.autograd.grad((first * first).sum(), a)
    (expected,) = torch.autograd.grad((expected * expected).sum(), b)
    same(second, expected, 100 * tolerance)


@pytest.mark.parametrize("window", range(len(WINDOWS)))
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_pool_is_pytorchs(torch, rank, window):
    given = options(window, rank)
    for shape in ((2, 3, *SIZES[rank]), (3, *SIZES[rank])):
        both(torch, f"max_pool{rank}d", tied(window, shape), **given, return_indices=True)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_pool_of_nan_and_infinity(torch, rank):
    x = tied(rank, (2, 3, *SIZES[rank])).astype(np.float64)
    flat = x.reshape(-1)
    flat[::7], flat[::3] = math.nan, -math.inf
    x[0, 0] = -math.inf
    for window in range(len(WINDOWS)):
        given = options(window, rank)
        if given["dilation"] != 1 or given["padding"] != 0:
            continue
        mine = getattr(F, f"max_pool{rank}d")(jj.tensor(x), **given, return_indices=True)
        same(mine, getattr(torch.nn.functional, f"max_pool{rank}d")(torch.tensor(x), **given, return_indices=True))


@pytest.mark.parametrize("window", [w for w, row in enumerate(WINDOWS) if row[3] == 1])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_avg_pool_is_pytorchs(torch, rank, window):
    given = options(window, rank)
    del given["dilation"]
    x = np.random.default_rng(window).standard_normal((2, 3, *SIZES[rank]))
    for extra in ({}, {"count_include_pad": False}, {"divisor_override": 5}):
        if rank > 1 or "divisor_override" not in extra:
            both(torch, f"avg_pool{rank}d", x, **given, **extra)
    both(torch, f"avg_pool{rank}d", x[0].astype(np.float32), **given, tolerance=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_lp_pool_is_pytorchs(torch, rank):
    x = np.random.default_rng(rank).uniform(0.2, 2, (2, 2, *SIZES[rank]))
    for p, ceil in ((1, False), (2, True), (3.5, False)):
        both(torch, f"lp_pool{rank}d", x, p, 2, ceil_mode=ceil, tolerance=1e-9)
    zeros = jj.zeros(1, 1, *SIZES[rank], requires_grad=True)
    getattr(F, f"lp_pool{rank}d")(zeros, 2, 3, 2).sum().backward()
    assert (zeros.grad == 0).all().item()


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_adaptive_pool_is_pytorchs(torch, kind, rank):
    name = f"adaptive_{kind}_pool{rank}d"
    x = tied(rank, (2, 2, *SIZES[rank])).astype(np.float64)
    sizes = {1: (1, 3, 4, 12), 2: (1, (7, 3), (None, 4), (9, 1)), 3: (1, 2, (5, None, 3), (None, 4, 8))}[rank]
    extra = {"return_indices": True} if kind == "max" else {}
    for size in sizes:
        both(torch, name, x, size, **extra)
    both(torch, name, x[0], sizes[2], **extra)
    x[0, 1].reshape(-1)[::5] = math.nan
    same(
        getattr(F, name)(jj.tensor(x), sizes[1], **extra),
        getattr(torch.nn.functional, name)(torch.tensor(x), sizes[1], **extra),
    )


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_gradients_by_differences(gradcheck, rank):
    random = np.random.default_rng(rank)
    shape = (2, 2, *SIZES[rank])
    apart = random.permutation(math.prod(shape)).reshape(shape) / 7.0
    pool = {n: getattr(F, f"{n}_pool{rank}d") for n in ("max", "avg", "lp", "adaptive_max", "adaptive_avg")}
    gradcheck(lambda x: pool["max"](x, 3, 2, 1) ** 2, apart, order=2)
    gradcheck(lambda x: pool["avg"](x, 3, 2, 1) ** 2, apart, order=2)
    gradcheck(lambda x: pool["lp"](x, 3, 2), apart / 10 + 0.5, order=2)
    gradcheck(lambda x: pool["adaptive_max"](x, 4) ** 2, apart, order=2)
    gradcheck(lambda x: pool["adaptive_avg"](x, 4) ** 2, apart, order=2)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_unpool_is_pytorchs(torch, gradcheck, rank):
    x = np.random.default_rng(rank).standard_normal((2, 3, *SIZES[rank]))
    pool, unpool = (getattr(torch.nn.functional, f"max_{n}{rank}d") for n in ("pool", "unpool"))
    mine = getattr(F, f"max_unpool{rank}d")
    for kernel, stride, padding in ((2, None, 0), (3, 2, 1)):
        values, where = pool(torch.tensor(x), kernel, stride, padding, return_indices=True)
        given = (jj.tensor(values.numpy()), jj.tensor(where.numpy()), kernel, stride, padding)
        for size in (SIZES[rank], list(x.shape)):
            same(mine(*given, size), unpool(values, where, kernel, stride, padding, size))
        if padding == 0:  # where windows share a maximum PyTorch gives each the gradient, and so do we
            gradcheck(lambda v, g=given: mine(v, *g[1:], SIZES[rank]) ** 3, values.numpy(), order=2)
    even = torch.tensor(x[(slice(None), slice(None), *[slice(0, 4)] * rank)])
    values, where = pool(even, 2, return_indices=True)
    same(mine(jj.tensor(values.numpy()), jj.tensor(where.numpy()), 2), unpool(values, where, 2))
    # What was pooled comes back, and pooling it again gives the same; also unbatched.
    line = jj.tensor(np.abs(x[0]) + 1)
    values, where = getattr(F, f"max_pool{rank}d")(line, 2, return_indices=True)
    back = mine(values, where, 2, output_size=SIZES[rank])
    np.testing.assert_array_equal(getattr(F, f"max_pool{rank}d")(back, 2).numpy(), values.numpy())
    np.testing.assert_array_equal(back.numpy()[back.numpy() != 0], line.numpy()[back.numpy() != 0])


def plain(x, kernel, stride, padding, reduce):
    """Pooling of one array as a loop over windows; `reduce` gets the values inside and how many the window has."""
    sizes = [(n + 2 * p - k) // s + 1 for n, k, s, p in zip(x.shape, kernel, stride, padding, strict=True)]
    out = np.zeros(sizes, x.dtype)
    for at in itertools.product(*map(range, sizes)):
        bounds = [(a * s - p, a * s - p + k) for a, k, s, p in zip(at, kernel, stride, padding, strict=True)]
        values = x[tuple(slice(max(0, b), e) for b, e in bounds)]
        out[at] = reduce(values, math.prod(kernel))
    return out


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int16, np.int8, np.uint8])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_integers_exactly(rank, dtype):
    low, high = (0, 200) if dtype is np.uint8 else (-100, 100)
    x = np.random.default_rng(rank).integers(low, high, (1, 2, *SIZES[rank])).astype(dtype)
    overlapping, apart = ((3, 2, 3), (2, 1, 2), (1, 1, 0)), ((2, 2, 2), (2, 2, 2), (0, 0, 0))
    for arguments in ([tuple(v[:rank]) for v in row] for row in (overlapping, apart)):
        largest = getattr(F, f"max_pool{rank}d")(jj.tensor(x), *arguments).numpy()
        means = getattr(F, f"avg_pool{rank}d")(jj.tensor(x), *arguments).numpy()
        assert largest.dtype == means.dtype == dtype
        for c in range(2):
            np.testing.assert_array_equal(largest[0, c], plain(x[0, c], *arguments, lambda v, count: v.max()))
            wide = plain(x[0, c].astype(np.int64), *arguments, lambda v, count: int(int(v.sum()) / count))
            np.testing.assert_array_equal(means[0, c], wide.astype(dtype))


def test_integer_divisor_of_volumes():
    x = jj.arange(-13, 14).reshape(1, 3, 3, 3)
    assert F.avg_pool3d(x, 2, 1, divisor_override=5).flatten().tolist() == [
        int(s / 5) for s in (F.avg_pool3d(x, 2, 1, divisor_override=1)).flatten().tolist()
    ]


@settings(max_examples=25, deadline=None)
@given(
    rank=st.integers(1, 3), kernel=st.integers(1, 3), stride=st.integers(1, 2), axis=st.integers(0, 2),
    kind=st.sampled_from(["max", "avg"]), seed=st.integers(0, 99),
)  # fmt: skip
def test_shifting_the_input_shifts_the_output(rank, kernel, stride, axis, kind, seed):
    axis = 2 + axis % rank
    x = jj.tensor(tied(seed, (1, 2, *SIZES[rank])))
    pool = getattr(F, f"{kind}_pool{rank}d")
    whole = pool(x, kernel, stride)
    cut = tuple(slice(stride if d == axis else 0, None) for d in range(rank + 2))
    fewer = tuple(slice(1 if d == axis else 0, None) for d in range(rank + 2))
    np.testing.assert_array_equal(pool(x[cut], kernel, stride).numpy(), whole[fewer].numpy())


@settings(max_examples=20, deadline=None)
@given(order=st.permutations([0, 1, 2]), seed=st.integers(0, 99), kind=st.sampled_from(["max", "avg"]))
def test_volumes_pool_alike_along_every_axis(order, seed, kind):
    """3-D pooling is done as rows and columns, then depth: which axis is which must not matter."""
    x = jj.tensor(tied(seed, (1, 2, *SIZES[3])))
    kernel, stride = (3, 2, 1), (2, 1, 2)
    pool = getattr(F, f"{kind}_pool3d")
    turned = (0, 1, *(2 + d for d in order))
    mine = pool(x.permute(turned), tuple(kernel[d] for d in order), tuple(stride[d] for d in order))
    np.testing.assert_allclose(mine.numpy(), pool(x, kernel, stride).permute(turned).numpy(), 1e-6, 1e-6)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 12), m=st.integers(1, 14), seed=st.integers(0, 99))
def test_adaptive_windows_are_the_documented_ones(n, m, seed):
    x = tied(seed, (1, 2, n))
    bounds = [(math.floor(i * n / m), math.ceil((i + 1) * n / m)) for i in range(m)]
    means = np.stack([x[..., a:b].mean(-1) for a, b in bounds], -1)
    best = np.stack([x[..., a:b].argmax(-1) + a for a, b in bounds], -1)
    np.testing.assert_allclose(F.adaptive_avg_pool1d(jj.tensor(x), m).numpy(), means, 1e-6, 1e-6)
    values, where = F.adaptive_max_pool1d(jj.tensor(x), m, return_indices=True)
    np.testing.assert_array_equal(where.numpy(), best)
    np.testing.assert_array_equal(values.numpy(), np.take_along_axis(x, best, -1))


CALLS = {
    "max1": (1, lambda x: F.max_pool1d(x, 3, 2, 1, return_indices=True)),
    "max3": (3, lambda x: F.max_pool3d(x, 2, 1, dilation=(1, 2, 1), return_indices=True)),
    "avg1": (1, lambda x: F.avg_pool1d(x, 3, 2, 1, count_include_pad=False)),
    "avg3": (3, lambda x: F.avg_pool3d(x, 3, 2, 1, ceil_mode=True)),
    "lp2": (2, lambda x: F.lp_pool2d(x, 3, 2)),
    "adaptive_avg2": (2, lambda x: F.adaptive_avg_pool2d(x, (5, 1))),
    "adaptive_max3": (3, lambda x: F.adaptive_max_pool3d(x, (2, 4, 7), return_indices=True)),
    "unpool2": (2, lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)),
    "global": (3, lambda x: F.adaptive_avg_pool3d(x, 1)),
}


@pytest.mark.parametrize("name", CALLS)
def test_compiled_is_eager(name):
    rank, call = CALLS[name]

    def step(x):
        result = call(x)
        values = result[0] if isinstance(result, tuple) else result
        (values * values).sum().backward()
        return result

    x = np.random.default_rng(0).standard_normal((2, 3, *SIZES[rank])).astype(np.float32)
    a, b = (jj.tensor(x).requires_grad_() for _ in range(2))
    eager, compiled = step(a), jj.compile(step)(b)
    for mine, other in zip(*((r if isinstance(r, tuple) else (r,)) for r in (eager, compiled)), strict=True):
        np.testing.assert_allclose(other.detach().numpy(), mine.detach().numpy(), 1e-5, 1e-6)
    np.testing.assert_allclose(b.grad.numpy(), a.grad.numpy(), 1e-5, 1e-6)


@pytest.mark.parametrize("name", CALLS)
def test_empty_batch(name):
    rank, call = CALLS[name]
    one, none = call(jj.zeros(1, 2, *SIZES[rank])), call(jj.zeros(0, 2, *SIZES[rank], requires_grad=True))
    one, none = ((r if isinstance(r, tuple) else (r,)) for r in (one, none))
    for a, b in zip(one, none, strict=True):
        assert tuple(b.shape) == (0, *a.shape[1:])
    none[0].sum().backward()


LINE, VOLUME = jj.zeros(1, 2, 8), jj.zeros(1, 2, 4, 4, 4)
WRONG = (
    (lambda: F.max_pool1d(jj.zeros(8), 2), ShapeError, r"max_pool1d: expected 2D or 3D input .*\[8\]"),
    (lambda: F.max_pool3d(LINE, 2), ShapeError, r"max_pool3d: expected 4D or 5D input .*\[1, 2, 8\]"),
    (lambda: F.max_pool1d(LINE, 9), ShapeError, r"max_pool1d: input of shape \[1, 2, 8\] is smaller than one window"),
    (lambda: F.avg_pool3d(VOLUME, 2, padding=2), ShapeError, r"avg_pool3d: padding=\[2, 2, 2\] should be at most half"),
    (lambda: F.max_pool3d(VOLUME, (2, 2)), ShapeError, r"kernel_size=\(2, 2\) must be one integer or 3"),
    (lambda: F.max_pool1d(LINE, 2, dilation=0), ShapeError, r"dilation=0 must not be below 1"),
    (
        lambda: F.max_pool3d(VOLUME, 2, 1, 1, (1, 1, 5)),
        ShapeError,
        r"4 elements in spatial dimension 2, .* steps over all",
    ),
    (lambda: F.max_pool1d(jj.zeros(2, 0, 4), 2), ShapeError, r"\[2, 0, 4\] has a dimension of size 0"),
    (lambda: F.max_pool1d(LINE.bool(), 2), TypeError, r"max_pool1d: input must be floating point or of integers"),
    (lambda: F.avg_pool3d(VOLUME, 2, divisor_override=0), RuntimeError, r"divisor must be not zero"),
    (lambda: F.lp_pool1d(LINE, 0, 2), ValueError, r"lp_pool1d: norm_type=0 must be a number other than 0"),
    (lambda: F.lp_pool1d(LINE.long(), 2, 2), TypeError, r"lp_pool1d: input must be floating point, not"),
    (lambda: F.adaptive_avg_pool3d(VOLUME, -1), ShapeError, r"output_size=\[-1, -1, -1\] must not be below 0"),
    (lambda: F.adaptive_max_pool1d(LINE, (1, 2)), ShapeError, r"adaptive_max_pool1d: output_size=\(1, 2\)"),
    (lambda: F.adaptive_avg_pool1d(LINE.long(), 1), TypeError, r"adaptive_avg_pool1d: input must be floating point"),
    (lambda: F.max_unpool1d(LINE, LINE, 2), TypeError, r"max_unpool1d: elements in indices should be of type int64"),
    (lambda: F.max_unpool1d(LINE, LINE[:, :1].long(), 2), ShapeError, r"shape of indices to be the same .*\[1, 1, 8\]"),
    (lambda: F.max_unpool1d(LINE, LINE.long() + 16, 2), IndexError, r"max_unpool1d: index 16 is out of bounds"),
    (
        lambda: F.max_unpool1d(LINE, LINE.long(), 2, output_size=(18,)),
        ValueError,
        r"invalid output_size \[18\].*\[14\] and",
    ),
    (lambda: F.max_unpool1d(LINE, LINE.long(), 2, output_size=16), ValueError, r"output_size=16 should be a sequence"),
    (lambda: F.adaptive_avg_pool1d([1.0], 1), TypeError, r"adaptive_avg_pool1d: input must be a Tensor, not list"),
)


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_arguments(number):
    call, error, words = WRONG[number]
    with pytest.raises(error, match=words):
        call()


LAYERS = (
    ("MaxPool1d", (3,), {"stride": 2, "padding": 1}, 1),
    ("MaxPool3d", (2,), {"ceil_mode": True, "return_indices": True}, 3),
    ("AvgPool1d", (2,), {"count_include_pad": False, "padding": 1}, 1),
    ("AvgPool3d", ((1, 2, 2),), {"divisor_override": 3}, 3),
    ("LPPool1d", (2, 3), {}, 1),
    ("LPPool2d", (2, 3), {"stride": 2}, 2),
    ("LPPool3d", (1, 2), {"ceil_mode": True}, 3),
    ("AdaptiveAvgPool1d", (4,), {}, 1),
    ("AdaptiveAvgPool2d", ((None, 3),), {}, 2),
    ("AdaptiveAvgPool3d", (2,), {}, 3),
    ("AdaptiveMaxPool1d", (4,), {}, 1),
    ("AdaptiveMaxPool2d", ((2, 3), True), {}, 2),
    ("AdaptiveMaxPool3d", ((2, 3, None),), {}, 3),
)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unpooling_layers(torch, rank):
    x = np.random.default_rng(0).standard_normal((2, 3, *SIZES[rank])).astype(np.float32)
    layers = [
        (getattr(nn, f"MaxPool{rank}d")(3, 2, 1, return_indices=True), getattr(nn, f"MaxUnpool{rank}d")(3, 2, 1))
        for nn in (jj.nn, torch.nn)
    ]
    assert repr(layers[0][1]) == repr(layers[1][1])
    mine, theirs = (
        back(*there(t(x)), output_size=x.shape)
        for (there, back), t in zip(layers, (jj.tensor, torch.tensor), strict=True)
    )
    same(mine, theirs)


@pytest.mark.parametrize(("name", "args", "kwargs", "rank"), LAYERS, ids=[row[0] for row in LAYERS])
def test_layers(torch, name, args, kwargs, rank):
    mine, theirs = getattr(jj.nn, name)(*args, **kwargs), getattr(torch.nn, name)(*args, **kwargs)
    assert repr(mine) == repr(theirs)
    x = np.random.default_rng(0).uniform(0.1, 1, (2, 3, *SIZES[rank])).astype(np.float32)
    same(mine(jj.tensor(x)), theirs(torch.tensor(x)), 1e-5)
