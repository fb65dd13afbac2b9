"""Convolutions with one kernel for each channel, exact on small whole numbers, forward and both gradients."""

import itertools

import numpy as np
import pytest

from juanji import ops
from juanji.codegen.depthwise import DepthwiseSpec
from juanji.compiler import access, lower_depthwise
from juanji.compiler.access import strides_in_order
from juanji.compiler.plan import build
from juanji.graph import Graph
from juanji.ops.reference import reference
from juanji.spec import Spec, conv_output
from juanji.tensors import from_numpy

NUMPY = {"f32": np.float32, "f64": np.float64, "i64": np.int64, "i32": np.int32, "i16": np.int16, "u8": np.uint8}


def attributes(rank, stride=1, padding=0, dilation=1, groups=1):
    return {
        "stride": (stride,) * rank,
        "padding": ((padding, padding),) * rank,
        "dilation": (dilation,) * rank,
        "groups": groups,
    }


def trio(x, w, g, attrs):
    """Output, input gradient and weight gradient by whole maps, one tap of the kernel after another."""
    before = [b for b, _ in attrs["padding"]]
    wide = np.pad(x, [(0, 0), (0, 0), *attrs["padding"]])
    dwide, y, dw = np.zeros_like(wide), np.zeros_like(g), np.zeros_like(w)
    for tap in itertools.product(*map(range, w.shape[2:])):
        places = zip(tap, attrs["dilation"], attrs["stride"], g.shape[2:], strict=True)
        seen = (..., *(slice(k * d, k * d + s * (out - 1) + 1, s) for k, d, s, out in places))
        factor = w[(slice(None), 0, *tap)].reshape(-1, *(1,) * len(tap))
        y += wide[seen] * factor
        dwide[seen] += g * factor
        dw[(slice(None), 0, *tap)] = (wide[seen] * g).sum((0, *range(2, g.ndim)), dtype=g.dtype)
    inside = (..., *(slice(b, b + size) for b, size in zip(before, x.shape[2:], strict=True)))
    return y, dwide[inside], dw


def check(x_shape, kernel, attrs, dtype="f32"):
    random = np.random.default_rng(len(x_shape))
    channels = x_shape[1]

    def whole(shape):
        return random.integers(-3, 4, shape).astype(NUMPY[dtype])

    def run(name, *arrays, **more):
        return ops.TABLE[name](*[from_numpy(a) for a in arrays], **attrs, **more).numpy()

    x, w = whole(x_shape), whole((channels, 1, *kernel))
    shape = conv_output(x.shape, w.shape, attrs["stride"], attrs["padding"], attrs["dilation"], channels, "conv")
    g = whole(shape)
    y, dx, dw = trio(x, w, g, attrs)
    np.testing.assert_array_equal(run("conv", x, w), y, strict=True)
    np.testing.assert_array_equal(run("conv_input_grad", g, w, size=x_shape[2:]), dx, strict=True)
    np.testing.assert_array_equal(run("conv_weight_grad", g, x, kernel=kernel), dw, strict=True)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [((3, 3), 1, 1, 1), ((3, 3), 2, 1, 1), ((5, 5), 1, 2, 1), ((5, 5), 2, 2, 1), ((3, 3), 1, 2, 2), ((3, 2), 3, 1, 2),
     ((1, 9), 1, 4, 1), ((2, 1), 2, 0, 1), ((3, 3), 2, 0, 2), ((1, 1), 1, 1, 1)],
)  # fmt: skip
def test_geometry(kernel_target, kernel, stride, padding, dilation):
    for channels in (2, 37):  # the kernels are the same
        check((2, channels, 9, 13), kernel, attributes(2, stride, padding, dilation, channels))


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 9, 14, 16, 17, 25])
def test_line_ends(kernel_target, width):
    check((1, 19, 4, width), (5, 5), attributes(2, 1, 2, 1, 19))
    check((1, 19, 4, width), (3, 3), attributes(2, 2, 1, 1, 19))
    check((1, 19, 3, width), (3, 7), attributes(2, 1, 3, 1, 19))


@pytest.mark.parametrize("dtype", NUMPY)
def test_element_types(kernel_target, dtype):
    check((2, 35, 7, 6), (3, 3), attributes(2, 1, 1, 1, 35), dtype)


def test_ranks(kernel_target):
    check((2, 20, 300), (9,), attributes(1, 1, 4, 1, 20))
    check((3, 33, 41), (4,), attributes(1, 2, 1, 3, 33))
    check((2, 18, 4, 5, 6), (3, 3, 3), attributes(3, 1, 1, 1, 18))
    check((1, 5, 7, 6, 9), (2, 3, 2), attributes(3, 2, 1, 1, 5))


def test_many_chunks_strips_and_blocks(kernel_target, monkeypatch):
    """Images cut into bands of lines, these into strips, channels into blocks; small images several to a chunk."""
    for name, value in (("CHUNK_BYTES", 4000), ("PASS_BYTES", 2000), ("STRIP", 4), ("PARTIAL_SHARE", 1)):
        monkeypatch.setattr(lower_depthwise, name, value)
    check((2, 75, 11, 13), (3, 3), attributes(2, 1, 1, 1, 75))
    check((2, 75, 11, 13), (3, 3), attributes(2, 2, 1, 1, 75))
    check((2, 70, 200), (5,), attributes(1, 1, 2, 1, 70))
    check((2, 19, 5, 6, 7), (3, 3, 3), attributes(3, 1, 1, 1, 19))
    monkeypatch.setattr(lower_depthwise, "CHUNK_BYTES", 10000)
    check((7, 18, 5, 3), (3, 3), attributes(2, 1, 1, 1, 18))


@pytest.mark.parametrize("group", [(1, 2), (1, 8), (2, 2), (4, 4), (8, 8), (2, 4), (4, 1), (8, 2), (1, 16)], ids=str)
def test_groups_of_few_channels(kernel_target, group):
    """(channels in, channels out) of a group; what does not suit the kernel is a contraction."""
    (ins, outs), random = group, np.random.default_rng(0)
    for groups, attrs in ((7, attributes(2, 1, 1, 1, 7)), (32, attributes(2, 2, 1, 1, 32))):
        x, w = (
            random.integers(-3, 4, s).astype(np.float32) for s in ((2, groups * ins, 5, 7), (groups * outs, ins, 3, 3))
        )
        y = ops.TABLE["conv"](from_numpy(x), from_numpy(w), **attrs).numpy()
        np.testing.assert_array_equal(y, reference("conv", [x, w], attrs))
        g = random.integers(-3, 4, y.shape).astype(np.float32)
        for name, second, more in (
            ("conv_input_grad", w, {"size": (5, 7)}),
            ("conv_weight_grad", x, {"kernel": (3, 3)}),
        ):
            found = ops.TABLE[name](from_numpy(g), from_numpy(second), **attrs, **more).numpy()
            np.testing.assert_array_equal(found, reference(name, [g, second], {**attrs, **more}))


def test_windows_in_the_padding_and_no_images(kernel_target):
    check((2, 6, 2, 2), (2, 2), attributes(2, 1, 4, 1, 6))
    check((0, 6, 4, 4), (3, 3), attributes(2, 1, 1, 1, 6))


def test_specification():
    with pytest.raises(ValueError, match="'slide' or 'weight'"):
        DepthwiseSpec("other", "f32", 1, 1, (3,))
    with pytest.raises(ValueError, match="dtype"):
        DepthwiseSpec("slide", "b1", 1, 1, (3,))
    with pytest.raises(ValueError, match="lengths 1 to 7"):
        DepthwiseSpec("slide", "f32", 1, 1, (8,))


@pytest.mark.parametrize("dtype", ["f32", "f64", "i16"])
def test_results_past_the_caches(kernel_target, monkeypatch, dtype):
    monkeypatch.setattr(access, "STREAMED_BYTES", 0)
    for channels in (64, 72):  # 72 is no whole number of vectors
        check((2, channels, 6, 11), (3, 3), attributes(2, 1, 1, 1, channels), dtype)
        check((2, channels, 6, 11), (3, 3), attributes(2, 2, 1, 1, channels), dtype)


@pytest.mark.parametrize("shift", [0, 4])
def test_results_past_the_caches_need_aligned_memory(kernel_target, monkeypatch, shift):
    monkeypatch.setattr(access, "STREAMED_BYTES", 0)
    shapes = ((1, 64, 5, 7), (64, 1, 3, 3), (1, 64, 5, 7))
    graph, arrays = Graph(), []
    for shape, fill in zip(shapes, (1, 2, 0), strict=True):
        graph.input(Spec(shape, "f32"), strides_in_order(shape, (0, 2, 3, 1)))
        room = np.full(64 * 35 * 4 + 128, fill, np.float32)
        start = -room.__array_interface__["data"][0] % 64 // 4 + shift
        arrays.append(room[start : start + 64 * 35])
    x, w, result = graph.slots
    node = graph.node(ops.TABLE["conv"], (x, w), tuple(sorted(attributes(2, 1, 1, 1, 64).items())), result.spec)
    plan = build(graph, [], [(2, node)], keep_arena=True)
    assert [call.args[-1] for call in plan.calls if isinstance(call.spec, DepthwiseSpec)] == [1]
    plan.run([a.__array_interface__["data"][0] for a in arrays], ())
    out = arrays[2].reshape(5, 7, 64)
    assert (out[1:4, 1:6] == 18).all()
    assert (out[0, 1:6] == 12).all()
    assert (out[4, 6] == 8).all()
