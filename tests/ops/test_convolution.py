"""Contractions: convolution's trio and matrix products, exact on small whole numbers whatever the order of summation."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from juanji import ops
from juanji.compiler import access
from juanji.ops.reference import reference
from juanji.spec import conv_output
from juanji.tensors import from_numpy

FLOATS = {"f32": np.float32, "f64": np.float64}
INTEGERS = {"i64": np.int64, "i32": np.int32, "i16": np.int16, "i8": np.int8, "u8": np.uint8}
NUMPY = {**FLOATS, **INTEGERS}


def whole(random, shape, dtype="f32"):
    return random.integers(-3, 4, shape).astype(NUMPY[dtype])


def run(name, *arrays, **attrs):
    return ops.TABLE[name](*[from_numpy(a) for a in arrays], **attrs).numpy()


def attributes(stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def check(x_shape, w_shape, attrs, dtype="f32", seed=0):
    """All three operations against seven loops, and the adjoint identities, with `==`."""
    random = np.random.default_rng(seed)
    x, w = whole(random, x_shape, dtype), whole(random, w_shape, dtype)
    y = run("conv", x, w, **attrs)
    np.testing.assert_array_equal(y, reference("conv", [x, w], attrs), strict=True)
    g = whole(random, y.shape, dtype)
    size, kernel = {"size": x_shape[2:]}, {"kernel": w_shape[2:]}
    dx = run("conv_input_grad", g, w, **size, **attrs)
    np.testing.assert_array_equal(dx, reference("conv_input_grad", [g, w], {**size, **attrs}))
    dw = run("conv_weight_grad", g, x, **kernel, **attrs)
    np.testing.assert_array_equal(dw, reference("conv_weight_grad", [g, x], {**kernel, **attrs}))
    if dtype not in ("i8", "i16", "u8"):  # whose sums NumPy widens
        assert (y * g).sum() == (x * dx).sum() == (w * dw).sum()


STRIDES = ((1, 1), (2, 1), (2, 3), (4, 4))
PADDINGS = (((0, 0), (0, 0)), ((1, 1), (1, 1)), ((0, 2), (3, 1)), ((5, 0), (0, 4)))
DILATIONS = ((1, 1), (2, 1), (2, 3))


@pytest.mark.parametrize("stride", STRIDES, ids=str)
@pytest.mark.parametrize("padding", PADDINGS, ids=["none", "same", "uneven", "wide"])
@pytest.mark.parametrize("dilation", DILATIONS, ids=str)
def test_geometry(kernel_target, stride, padding, dilation):
    for kernel in ((3, 3), (1, 2), (2, 1)):
        check((2, 3, 7, 9), (5, 3, *kernel), attributes(stride, padding, dilation))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "channels", [(1, 1), (1, 6), (3, 16), (6, 17), (16, 33), (17, 64), (33, 1), (65, 70), (70, 31)], ids=str
)
def test_channels(kernel_target, channels, dtype):
    ins, outs = channels
    check((2, ins, 5, 6), (outs, ins, 3, 3), attributes(padding=((1, 1), (1, 1))), dtype)


@pytest.mark.parametrize("groups", [(2, 4, 6), (3, 3, 3), (4, 68, 4), (2, 34, 66), (5, 5, 10), (33, 33, 33)], ids=str)
def test_groups(kernel_target, groups):
    """(groups, in channels, out channels), depthwise among them."""
    count, ins, outs = groups
    for stride, padding in (((1, 1), ((1, 1), (1, 1))), ((2, 2), ((0, 1), (2, 0)))):
        check((2, ins, 6, 5), (outs, ins // count, 3, 3), attributes(stride, padding, groups=count))


@pytest.mark.parametrize("dtype", FLOATS)
def test_one_by_one_kernels(kernel_target, dtype):
    for ins, outs in ((3, 5), (64, 17), (7, 70)):
        check((3, ins, 4, 5), (outs, ins, 1, 1), attributes(), dtype)
        check((1, ins, 4, 5), (outs, ins, 1, 1), attributes((2, 2)), dtype)
        check((2, ins, 4, 4), (outs, ins, 1, 1), attributes(padding=((1, 0), (0, 2))), dtype)


def test_kernel_as_large_as_the_input(kernel_target):
    check((3, 4, 5, 6), (20, 4, 5, 6), attributes())
    check((1, 2, 1, 1), (3, 2, 3, 3), attributes(padding=((1, 1), (1, 1))))
    check((1, 1, 1, 1), (1, 1, 1, 1), attributes())


def test_windows_wholly_in_the_padding(kernel_target):
    check((1, 2, 2, 2), (3, 2, 2, 2), attributes(padding=((4, 4), (3, 5))))
    check((1, 2, 3, 3), (3, 2, 2, 2), attributes((3, 3), ((4, 4), (4, 4)), (5, 5)))


@pytest.mark.parametrize("padding", [((0, 1), (0, 0)), ((0, 0), (0, 1)), ((0, 3), (0, 5)), ((2, 0), (3, 0))], ids=str)
def test_padding_on_one_side_only(kernel_target, padding):
    for kernel in ((1, 1), (3, 1), (1, 4), (2, 3)):
        for ins, outs in ((1, 2), (3, 4), (8, 2), (20, 20)):
            check((2, ins, 4, 11), (outs, ins, *kernel), attributes(padding=padding))


def test_no_images(kernel_target):
    attrs = attributes()
    x, w = np.zeros((0, 3, 5, 5), np.float32), np.ones((4, 3, 3, 3), np.float32)
    assert run("conv", x, w, **attrs).shape == (0, 4, 3, 3)
    g = np.zeros((0, 4, 3, 3), np.float32)
    assert run("conv_input_grad", g, w, size=(5, 5), **attrs).shape == (0, 3, 5, 5)
    np.testing.assert_array_equal(run("conv_weight_grad", g, x, kernel=(3, 3), **attrs), np.zeros_like(w))


def test_first_layers_of_known_networks(kernel_target):
    check((1, 3, 23, 21), (8, 3, 7, 7), attributes((2, 2), ((3, 3), (3, 3))))
    check((1, 3, 27, 27), (8, 3, 11, 11), attributes((4, 4), ((2, 2), (2, 2))))
    check((4, 1, 14, 14), (6, 1, 5, 5), attributes())


def test_inputs_in_any_memory_order(kernel_target):
    """Views as operands: permuted, sliced with steps, expanded."""
    random = np.random.default_rng(3)
    base, weights = whole(random, (9, 4, 12, 8)), whole(random, (3, 3, 6, 4))
    x = from_numpy(base).permute(1, 3, 0, 2)[1:, ::2, 1:, ::2]
    w = from_numpy(weights).permute(2, 3, 1, 0)
    attrs = attributes((1, 2), ((1, 0), (2, 2)))
    plain_x, plain_w = np.ascontiguousarray(x.numpy()), np.ascontiguousarray(w.numpy())
    y = ops.TABLE["conv"](x, w, **attrs).numpy()
    np.testing.assert_array_equal(y, reference("conv", [plain_x, plain_w], attrs))
    wide = from_numpy(whole(random, (1, 4, 1, 5))).expand(2, 4, 6, 5)
    y = ops.TABLE["conv"](wide, w, **attrs).numpy()
    np.testing.assert_array_equal(y, reference("conv", [np.array(wide.numpy()), plain_w], attrs))
    g = from_numpy(whole(random, (*y.shape[2:], y.shape[1], y.shape[0]))).permute(3, 2, 0, 1)
    plain_g = np.ascontiguousarray(g.numpy())
    dx = ops.TABLE["conv_input_grad"](g, w, size=(6, 5), **attrs).numpy()
    np.testing.assert_array_equal(dx, reference("conv_input_grad", [plain_g, plain_w], {"size": (6, 5), **attrs}))
    dw = ops.TABLE["conv_weight_grad"](g, wide, kernel=(3, 3), **attrs).numpy()
    full = {"kernel": (3, 3), **attrs}
    np.testing.assert_array_equal(dw, reference("conv_weight_grad", [plain_g, np.array(wide.numpy())], full))


# -- other ranks and element types ------------------------------------------------------------------------------------
def repeated(rank, stride=1, padding=(0, 0), dilation=1, groups=1):
    """The same attributes for each of `rank` dimensions, but the last, which has one more of padding."""
    pads = (*(padding,) * (rank - 1), (padding[0] + 1, padding[1]))
    return attributes((stride,) * rank, pads, (dilation,) * rank, groups)


CASES = (
    ((2, 2, 3), {}),
    ((2, 4, 6), {"stride": 2, "padding": (1, 2), "groups": 2}),
    ((1, 3, 3), {"padding": (1, 1), "dilation": 2, "groups": 3}),
    ((1, 17, 20), {"stride": 3, "padding": (2, 0)}),
    ((5, 1, 5), {"padding": (1, 1)}),
    ((1, 20, 2), {"padding": (0, 1)}),
)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [(9,), (4, 5, 6)], ids=["1d", "3d"])
def test_one_and_three_dimensions(kernel_target, size, dtype):
    rank = len(size)
    for (images, ins, outs), arguments in CASES:
        attrs = repeated(rank, **arguments)
        for kernel in ((2, 3, 2)[-rank:], (1, 1, 1)[-rank:], (1, 2, 3)[-rank:]):
            check((images, ins, *size), (outs, ins // attrs["groups"], *kernel), attrs, dtype)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers(kernel_target, dtype):
    """Multiplied and added in their own type, which wraps round."""
    for size in ((9,), (5, 6), (4, 3, 5)):
        for (images, ins, outs), arguments in CASES[:4:2] + CASES[4:5]:
            attrs = repeated(len(size), **arguments)
            check((images, ins, *size), (outs, ins // attrs["groups"], *(2, 1, 3)[-len(size) :]), attrs, dtype)


def test_large_integers_are_exact():
    x, w = np.array([[[2**53 + 1, 1, -(2**60)]]]), np.array([[[3, 1]]])
    np.testing.assert_array_equal(run("conv", x, w, **repeated(1)), reference("conv", [x, w], repeated(1)))
    np.testing.assert_array_equal(run("matmul", x[0], np.full((3, 2), 5)), [[5 * (2**53 + 2 - 2**60)] * 2])


def test_long_signals(kernel_target):
    """Lines of which the weight gradient sums pieces and a rest, and a plan that is made without a loop over outputs."""
    for outs, padding in ((3, (2, 2)), (20, (0, 1))):
        check((2, 2, 1500), (outs, 2, 5), attributes((1,), (padding,), (1,)))
        check((1, 2, 2, 1100), (outs, 2, 1, 3), attributes((1, 1), ((0, 0), padding), (1, 2)))
    x = np.ones((1, 1, 2**20), np.float32)
    assert run("conv", x, np.ones((1, 1, 3), np.float32), **attributes((1,), ((1, 1),), (1,))).sum() == 3 * 2**20 - 2


# -- properties ----------------------------------------------------------------------------------------------------
@st.composite
def problems(draw, ranks=4):
    """(input shape, weight shape, attributes) of a convolution of `ranks` dimensions (4: any) that has an output."""
    groups = draw(st.integers(1, 3))
    ins, outs = draw(st.integers(1, 4)) * groups, draw(st.integers(1, 4)) * groups
    rank = ranks if ranks < 4 else draw(st.integers(1, 3))
    most = 2 if rank == 3 else 4
    kernel = draw(st.tuples(*[st.integers(1, 4)] * rank))
    dilation = draw(st.tuples(*[st.integers(1, 3)] * rank))
    stride = draw(st.tuples(*[st.integers(1, 4)] * rank))
    pads = draw(st.tuples(*[st.tuples(st.integers(0, most), st.integers(0, most))] * rank))
    least = [max(1, d * (k - 1) + 1 - sum(p)) for k, d, p in zip(kernel, dilation, pads, strict=True)]
    size = tuple(low + draw(st.integers(0, 6 if rank < 3 else 2)) for low in least)
    x, w = (draw(st.integers(1, 3)), ins, *size), (outs, ins // groups, *kernel)
    return x, w, attributes(stride, pads, dilation, groups)


QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(problems(), st.integers(0, 2**32))
def test_any_convolution_is_exact(kernel_target, problem, seed):
    check(*problem, seed=seed)


@QUICK
@given(problems(), st.integers(0, 2**32))
def test_convolution_is_linear(problem, seed):
    x_shape, w_shape, attrs = problem
    random = np.random.default_rng(seed)
    (a, b), (v, w) = (whole(random, (2, *shape)) for shape in (x_shape, w_shape))
    conv = lambda x, w: run("conv", x, w, **attrs)  # noqa: E731
    np.testing.assert_array_equal(conv(3 * a - b, w), 3 * conv(a, w) - conv(b, w))
    np.testing.assert_array_equal(conv(a, 2 * v + w), 2 * conv(a, v) + conv(a, w))


@QUICK
@given(problems(2), st.integers(0, 2**32), st.integers(0, 2), st.integers(0, 2))
def test_shifting_the_input_shifts_the_output(problem, seed, down, right):
    x_shape, w_shape, attrs = problem
    (sy, sx), random = attrs["stride"], np.random.default_rng(seed)
    x, w = whole(random, x_shape), whole(random, w_shape)
    shifted = np.pad(x, ((0, 0), (0, 0), (down * sy, 0), (right * sx, 0)))
    (top, _), (left, _) = attrs["padding"]
    y = run("conv", x, w, **attrs)
    moved = run("conv", shifted, w, **attrs)
    # With no padding before, the first outputs see the shift alone; behind them the old ones follow.
    if top == left == 0:
        np.testing.assert_array_equal(moved[:, :, down : down + y.shape[2], right : right + y.shape[3]], y)
    assert moved.shape == conv_output(
        shifted.shape, w_shape, attrs["stride"], attrs["padding"], attrs["dilation"], attrs["groups"]
    )


def test_images_of_a_batch_do_not_touch(kernel_target):
    random = np.random.default_rng(0)
    x, w, attrs = whole(random, (4, 3, 6, 7)), whole(random, (5, 3, 3, 3)), attributes((2, 1), ((1, 1), (1, 1)))
    y = run("conv", x, w, **attrs)
    for i in range(4):
        np.testing.assert_array_equal(run("conv", x[i : i + 1], w, **attrs), y[i : i + 1])


# -- matrix products -----------------------------------------------------------------------------------------------
SIZES = ((1, 1, 1), (1, 70, 33), (70, 1, 5), (5, 33, 1), (17, 16, 65), (2, 300, 40), (40, 3, 300))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_matrix_products(kernel_target, sizes, dtype):
    m, k, n = sizes
    random = np.random.default_rng(m + n)
    a, b = whole(random, (m, k), dtype), whole(random, (k, n), dtype)
    expected = reference("matmul", [a, b], {})
    ta, tb = from_numpy(a), from_numpy(b)
    column_a, column_b = (from_numpy(np.ascontiguousarray(z.T)).T for z in (a, b))
    for left, right in itertools.product((ta, column_a), (tb, column_b)):
        np.testing.assert_array_equal((left @ right).numpy(), expected)
        np.testing.assert_array_equal(ops.TABLE["linear"](left, right.T).numpy(), expected)


def test_strided_and_expanded_matrices(kernel_target):
    random = np.random.default_rng(0)
    a, b = whole(random, (10, 42)), whole(random, (42, 60))
    ta, tb = from_numpy(a), from_numpy(b)
    for rows, inner, columns in (
        (slice(None, None, 3), slice(None), slice(2, 40, 2)),
        (slice(4, 5), slice(1, None, 2), slice(None)),
        (slice(None), slice(0, 41, 4), slice(7, 8)),
    ):
        got = ta[rows, inner] @ tb[inner, columns]
        np.testing.assert_array_equal(got.numpy(), a[rows, inner] @ b[inner, columns])
        got = tb.T[columns, inner] @ ta.T[inner, rows]
        np.testing.assert_array_equal(got.numpy(), b.T[columns, inner] @ a.T[inner, rows])
    row = ta[:1].expand(7, 42)
    np.testing.assert_array_equal((row @ tb).numpy(), np.repeat(a[:1], 7, 0) @ b)


def test_batches_broadcast(kernel_target):
    random = np.random.default_rng(1)
    for left, right in (
        ((3, 4, 5), (3, 5, 6)),
        ((4, 5), (3, 5, 6)),
        ((3, 4, 5), (5, 6)),
        ((2, 1, 4, 5), (3, 5, 17)),
        ((2, 3, 1, 5), (1, 3, 5, 20)),
        ((5,), (5,)),
        ((5,), (3, 5, 2)),
        ((3, 4, 5), (5,)),
        ((0, 4, 5), (5, 6)),
        ((3, 0, 5), (3, 5, 6)),
        ((3, 4, 0), (0, 6)),
    ):
        a, b = whole(random, left), whole(random, right)
        got = (from_numpy(a) @ from_numpy(b)).numpy()
        np.testing.assert_array_equal(got, a @ b)
        assert got.shape == (a @ b).shape
    a, b = whole(random, (3, 6, 5)), whole(random, (3, 20, 5))
    np.testing.assert_array_equal((from_numpy(a) @ from_numpy(b).transpose(1, 2)).numpy(), a @ b.transpose(0, 2, 1))
    np.testing.assert_array_equal((from_numpy(a).transpose(1, 2) @ from_numpy(a)).numpy(), a.transpose(0, 2, 1) @ a)


@QUICK
@given(st.integers(0, 20), st.integers(0, 40), st.integers(0, 40), st.integers(0, 2**32))
def test_matrix_product_adjoints(m, k, n, seed):
    random = np.random.default_rng(seed)
    a, b, g = whole(random, (m, k)), whole(random, (k, n)), whole(random, (m, n))
    ta, tb, tg = map(from_numpy, (a, b, g))
    y = (ta @ tb).numpy()
    assert (y * g).sum() == (a * (tg @ tb.T).numpy()).sum() == (b * (ta.T @ tg).numpy()).sum()
    np.testing.assert_array_equal((from_numpy(2 * a - 1) @ tb).numpy(), 2 * y - b.sum(0))


@pytest.mark.parametrize("made", [1, 2, 5, 8])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(("stride", "dilation"), [((1, 1), (1, 1)), ((2, 3), (1, 2))], ids=str)
def test_few_channels_made(kernel_target, made, groups, stride, dilation):
    """Sums along the lanes: forward to few channels, input gradients to few, from a number that fills no vector."""
    for padding in (0, 1):
        attrs = attributes(stride, ((padding, padding),) * 2, dilation, groups)
        check((2, 21 * groups, 6, 7), (made * groups, 21, 2, 3), attrs)
        check((2, made * groups, 6, 7), (21 * groups, made, 2, 3), attrs, "f64")


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
def test_many_small_images(kernel_target, padding, groups):
    """Weight gradients whose inner sums run over the images."""
    attrs = attributes((1, 1), ((padding, padding),) * 2, groups=groups)
    check((19, 20 * groups, 3, 2), (17 * groups, 20, 2, 2), attrs)
    check((13, 4 * groups, 3, 3), (5 * groups, 4, 3, 3), attributes((2, 2), ((1, 1), (1, 1)), groups=groups), "f64")


def test_large_results_of_groups(kernel_target, monkeypatch):
    """A group's channels begin between the boundaries of vectors: they can't be written past the caches."""
    monkeypatch.setattr(access, "STREAMED_BYTES", 0)
    check((2, 144, 9, 9), (16, 18, 4, 4), attributes((2, 2), ((1, 1), (1, 1)), groups=8))
    check((2, 16, 9, 9), (144, 2, 3, 3), attributes(groups=8))
    check((2, 64, 9, 9), (96, 32, 3, 3), attributes(groups=2))
