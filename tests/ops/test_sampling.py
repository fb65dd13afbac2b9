"""Bilinear sampling against loops, and deformable convolution against its definition."""

import math

import numpy as np
import pytest

import juanji as jj
from juanji import nn, ops
from juanji.nn import functional as F
from juanji.ops.reference import reference
from juanji.tensors import from_numpy

SLOPES = ((0, 0), (1, 0), (0, 1), (1, 1))


def problem(channels, dtype, seed=0):
    random = np.random.default_rng(seed)
    image = random.standard_normal((2, channels, 4, 5)).astype(dtype)
    ys, xs = (random.uniform(-3, n, (2, 30)).astype(dtype) for n in (7, 8))
    ys[0, :8] = [-1, 0, 3, 4, -0.5, 3.5, 1, np.inf]
    xs[0, :8] = [1, 0, 4, 2, -0.5, 4.5, 5, 1]
    return image, ys, xs, random.standard_normal((2, channels, 30)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("slopes", SLOPES, ids=str)
def test_sampling_and_its_adjoint(kernel_target, slopes, dtype):
    tolerance = 60 * np.finfo(dtype).eps
    for channels in (1, 3, 17, 40):
        image, ys, xs, values = problem(channels, dtype)
        got = ops.TABLE["bilinear"](*map(from_numpy, (image, ys, xs)), slopes=slopes).numpy()
        np.testing.assert_allclose(got, reference("bilinear", [image, ys, xs], {"slopes": slopes}), 0, tolerance)
        attrs = {"slopes": slopes, "size": (4, 5)}
        back = ops.TABLE["bilinear_scatter"](*map(from_numpy, (values, ys, xs)), **attrs).numpy()
        np.testing.assert_allclose(back, reference("bilinear_scatter", [values, ys, xs], attrs), 0, tolerance)
        np.testing.assert_allclose((got * values).sum(), (image * back).sum(), 1e-3, 1e-3)


def test_against_grid_sample(torch):
    """PyTorch's sampling of the same places, and its gradients."""
    image, ys, xs, values = problem(5, np.float64)
    ys[0, 7] = 9.0  # there infinity has no gradient
    ours = [jj.tensor(a).requires_grad_() for a in (image, ys, xs)]
    theirs = [torch.tensor(a, requires_grad=True) for a in (image, ys, xs)]
    out = ops.TABLE["bilinear"](*ours, slopes=(0, 0))
    grid = torch.stack([theirs[2] / 4 * 2 - 1, theirs[1] / 3 * 2 - 1], -1)[:, :, None]
    peer = torch.nn.functional.grid_sample(theirs[0], grid, align_corners=True)[..., 0]
    np.testing.assert_allclose(out.detach().numpy(), peer.detach().numpy(), 0, 1e-9)
    (image_grad,) = jj.autograd.grad(out, ours[:1], jj.tensor(values))
    (expected,) = torch.autograd.grad(peer, theirs[:1], torch.tensor(values))
    np.testing.assert_allclose(image_grad.numpy(), expected.numpy(), 0, 1e-9)


def test_compiled_gradients():
    image, ys, xs, _ = (jj.tensor(a) for a in problem(3, np.float32))

    def slopes(image, ys, xs):
        leaves = [t.detach().requires_grad_() for t in (image, ys, xs)]
        return jj.autograd.grad((ops.TABLE["bilinear"](*leaves, slopes=(0, 0)) ** 2).sum(), leaves)

    for a, b in zip(jj.compile(slopes)(image, ys, xs), slopes(image, ys, xs), strict=True):
        assert jj.allclose(a, b, atol=1e-5)


def test_threads_change_no_bit():
    _, ys, xs, values = problem(70, np.float32)
    results, before = [], jj.get_num_threads()
    for threads in (1, 2):
        jj.set_num_threads(threads)
        attrs = {"slopes": (0, 0), "size": (4, 5)}
        results.append(ops.TABLE["bilinear_scatter"](*map(from_numpy, (values, ys, xs)), **attrs).numpy())
    jj.set_num_threads(before)
    np.testing.assert_array_equal(*results)


def test_not_a_number_stays_one():
    image = jj.ones(1, 2, 3, 3)
    nan = jj.tensor([[math.nan, 1.0]])
    got = ops.TABLE["bilinear"](image, nan, jj.ones(1, 2), slopes=(0, 0)).numpy()
    assert np.isnan(got).tolist() == [[[True, False]] * 2]


def test_gradients_of_sampling(gradcheck):
    random = np.random.default_rng(0)
    image, g = random.standard_normal((1, 2, 4, 5)), random.standard_normal((1, 2, 6))
    ys, xs = random.integers(-1, 4, (1, 6)) + random.uniform(0.2, 0.8, (1, 6)), random.uniform(0.2, 0.8, (1, 6)) + 2
    gradcheck(lambda i, y, x: ops.TABLE["bilinear"](i, y, x, slopes=(0, 0)) ** 2, image, ys, xs, order=2)
    scatter = ops.TABLE["bilinear_scatter"]
    gradcheck(lambda g, y, x: scatter(g, y, x, size=(4, 5), slopes=(0, 0)) ** 2, g, ys, xs, order=2)


# -- deformable convolution ----------------------------------------------------------------------------------------
def literal(x, offset, w, b, stride, padding, dilation, mask):
    """The definition in loops, after the papers and torchvision's documentation."""
    n, channels, height, width = x.shape
    outs, per_group, kh, kw = w.shape
    _, wide, oh, ow = offset.shape
    offset_groups, groups = wide // (2 * kh * kw), channels // per_group
    out = np.zeros((n, outs, oh, ow))

    def pixel(i, c, y, x_):
        return x[i, c, y, x_] if 0 <= y < height and 0 <= x_ < width else 0.0

    for i, o, p, q, c, u, v in np.ndindex(n, outs, oh, ow, per_group, kh, kw):
        channel = o // (outs // groups) * per_group + c
        tap = channel // (channels // offset_groups) * kh * kw + u * kw + v
        y = p * stride[0] - padding[0] + u * dilation[0] + offset[i, 2 * tap, p, q]
        z = q * stride[1] - padding[1] + v * dilation[1] + offset[i, 2 * tap + 1, p, q]
        y0, z0 = math.floor(y), math.floor(z)
        value = sum(
            pixel(i, channel, y0 + a, z0 + d) * (1 - abs(y - y0 - a)) * (1 - abs(z - z0 - d))
            for a in (0, 1)
            for d in (0, 1)
        )
        out[i, o, p, q] += w[o, c, u, v] * value * (1 if mask is None else mask[i, tap, p, q])
    return out + b[:, None, None]


def deformable(seed, groups=1, offset_groups=1, stride=(1, 1), padding=(0, 0), dilation=(1, 1), masked=True):
    random = np.random.default_rng(seed)
    x, w = random.standard_normal((2, 4, 6, 5)), random.standard_normal((6, 4 // groups, 2, 3))
    out = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip((6, 5), padding, dilation, (2, 3), stride, strict=True)
    ]
    # Never at a whole number, where the slope jumps.
    offset = random.integers(-3, 3, (2, 12 * offset_groups, *out)) + random.uniform(
        0.1, 0.9, (2, 12 * offset_groups, *out)
    )
    mask = random.uniform(0, 1, (2, 6 * offset_groups, *out)) if masked else None
    return x, offset, w, random.standard_normal(6), stride, padding, dilation, mask


CASES = (
    {},
    {"masked": False, "groups": 2},
    {"offset_groups": 2, "stride": (2, 1), "padding": (1, 2)},
    {"groups": 2, "offset_groups": 4, "dilation": (2, 1), "padding": (2, 0)},
)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_deformable_convolution(kernel_target, case):
    x, offset, w, b, *geometry, mask = deformable(case, **CASES[case])
    expected = literal(x, offset, w, b, *geometry, mask)
    for dtype in (np.float32, np.float64):
        tensors = [None if a is None else jj.tensor(a.astype(dtype)) for a in (x, offset, w, b, mask)]
        got = F.deform_conv2d(*tensors[:4], *geometry, tensors[4])
        np.testing.assert_allclose(got.numpy(), expected, 0, 300 * np.finfo(dtype).eps)
    compiled = jj.compile(lambda *t: F.deform_conv2d(*t, *geometry))(*tensors[:4])
    np.testing.assert_allclose(compiled.numpy(), literal(x, offset, w, b, *geometry, None), 0, 1e-10)


def test_without_offsets_it_is_a_convolution():
    x, w = jj.randn(2, 3, 6, 7), jj.randn(4, 3, 3, 3)
    got = F.deform_conv2d(x, jj.zeros(2, 18, 3, 4), w, stride=2, padding=1)
    assert jj.allclose(got, F.conv2d(x, w, stride=2, padding=1), atol=1e-5)


def test_gradients_of_deformable_convolution(gradcheck):
    for case in CASES[2:]:
        x, offset, w, b, *geometry, mask = deformable(0, **case)
        gradcheck(lambda x, o, w, b, m, g=geometry: F.deform_conv2d(x, o, w, b, *g, m), x, offset, w, b, mask)
    x, offset, w, b, *geometry, mask = deformable(1)
    narrow = (x[:1, :, :3, :4], offset[:1, :, :2, :2], w[:2], mask[:1, :, :2, :2])
    gradcheck(lambda x, o, w, m: F.deform_conv2d(x, o, w, mask=m), *narrow, order=2)


def test_as_torchvision(torch):
    vision = pytest.importorskip("torchvision.ops")
    for seed, case in enumerate(CASES):
        x, offset, w, b, *geometry, mask = deformable(seed, **case)
        ours = F.deform_conv2d(*map(jj.tensor, (x, offset, w, b)), *geometry, None if mask is None else jj.tensor(mask))
        given = (x, offset, w, b)
        theirs = vision.deform_conv2d(
            *map(torch.tensor, given), *geometry, None if mask is None else torch.tensor(mask)
        )
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), 1e-9, 1e-9)


def test_deformable_layer():
    layer = nn.DeformConv2d(4, 6, 3, padding=1, groups=2)
    assert repr(layer) == "DeformConv2d(4, 6, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), groups=2)"
    assert {k: tuple(v.shape) for k, v in layer.state_dict().items()} == {"weight": (6, 2, 3, 3), "bias": (6,)}
    x, offset = jj.randn(1, 4, 5, 5), jj.zeros(1, 18, 5, 5).requires_grad_()
    out = layer(x, offset, jj.full((1, 9, 5, 5), 0.5))
    plain = F.conv2d(x, layer.weight, padding=1, groups=2) / 2 + layer.bias.reshape(-1, 1, 1)
    assert jj.allclose(out, plain, atol=1e-5)
    out.sum().backward()
    assert offset.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": jj.ones(4, 6, 5)}, "input of shape .4, 6, 5. must have 4"),
        ({"offset": jj.ones(2, 12, 5, 4)}, "offset of shape .* must be .2, 2 . offset groups . 6, 5, 3"),
        ({"offset": jj.ones(2, 11, 5, 3)}, "offset of shape"),
        ({"mask": jj.ones(2, 5, 5, 3)}, "mask of shape .* must be .2, 6, 5, 3"),
        ({"w": jj.ones(6, 3, 2, 3)}, "weight of shape .* must be .out, 4 / groups"),
        ({"b": jj.ones(5)}, "bias of shape .5. must be .6"),
        ({"w": jj.ones(6, 4, 7, 7)}, "kernel size can't be greater"),
        ({"x": jj.ones(2, 4, 6, 5, dtype=jj.float64)}, "dtype"),
    ],
)
def test_deformable_errors(change, words):
    x, offset, w, b, *_, mask = (
        jj.tensor(a, dtype=jj.float32) if isinstance(a, np.ndarray) else a for a in deformable(0)
    )
    given = {"x": x, "offset": offset, "w": w, "b": b, "mask": mask, **change}
    with pytest.raises(RuntimeError, match=words):
        F.deform_conv2d(given["x"], given["offset"], given["w"], given["b"], mask=given["mask"])
