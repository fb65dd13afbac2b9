"""Named kernels: their values, what they answer to, and layers that begin with them."""

import math

import numpy as np
import pytest

import juanji as jj
from juanji import kernels, nn
from juanji.nn import functional as F


def matrix(kernel):
    return kernel.numpy()[0, 0].tolist()


def test_values_from_the_books():
    assert matrix(kernels.sobel()) == [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
    assert matrix(kernels.sobel(5))[2] == [-6, -12, 0, 12, 6]
    assert matrix(kernels.prewitt(5))[0] == [-2, -1, 0, 1, 2]
    assert matrix(kernels.scharr()) == [[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]]
    assert matrix(kernels.laplacian(8)) == [[1, 1, 1], [1, -8, 1], [1, 1, 1]]
    assert matrix(kernels.sharpen(0.5)) == [[0, -0.5, 0], [-0.5, 3, -0.5], [0, -0.5, 0]]
    assert matrix(kernels.emboss(2.0))[0] == [-4, -2, 0]
    assert np.allclose(kernels.box((2, 3)).numpy(), 1 / 6)


@pytest.mark.parametrize("name", ["sobel", "scharr", "prewitt", "laplacian", "log", "gabor"])
def test_differences_do_not_see_an_even_surface(name):
    kernel = getattr(kernels, name)(dtype=jj.float64)
    assert kernel.dtype is jj.float64
    assert abs(F.conv2d(jj.ones(1, 1, 30, 30, dtype=jj.float64), kernel).numpy()).max() < 1e-12


@pytest.mark.parametrize("name", ["gaussian", "box", "sharpen", "emboss"])
def test_smoothing_keeps_brightness(name):
    assert math.isclose(getattr(kernels, name)(dtype=jj.float64).sum().item(), 1, rel_tol=1e-12)


@pytest.mark.parametrize("make", [kernels.sobel, kernels.prewitt])
def test_derivatives_of_a_plane(make):
    y, x = np.mgrid[0:9, 0:9]
    plane = jj.tensor((3.0 * x - 2.0 * y + 7)[None, None])
    for size in (3, 5, 7):
        right, down = F.conv2d(plane, make(size, normalize=True, dtype=jj.float64))[0].numpy()
        np.testing.assert_allclose(right, 3, 1e-9)
        np.testing.assert_allclose(down, -2, 1e-9)


def test_laplacians_of_a_bowl():
    y, x = np.mgrid[-6:7, -6:7].astype(float)
    bowl = jj.tensor((x * x + 2 * y * y)[None, None])
    assert F.conv2d(bowl, kernels.laplacian(dtype=jj.float64))[0, 0, 5, 5].item() == pytest.approx(6)
    assert F.conv2d(bowl, kernels.log(sigma=1.2, dtype=jj.float64))[0, 0, 1, 1].item() == pytest.approx(6, rel=0.02)


def test_gaussians_convolved_add_their_variances():
    twice = jj.convolve(kernels.gaussian(25, 1.5)[0, 0], kernels.gaussian(25, 2.0)[0, 0])
    assert jj.allclose(twice, kernels.gaussian(49, 2.5)[0, 0], atol=1e-6)
    assert kernels.gaussian(sigma=(1.0, 2.0)).shape == (1, 1, 7, 13)


def test_gabor_prefers_its_own_direction_and_wavelength():
    y, x = np.mgrid[0:25, 0:25]
    bank = kernels.gabor(theta=[i * math.pi / 4 for i in range(4)], wavelength=5.0)
    for i in range(4):
        u = x * math.cos(i * math.pi / 4) + y * math.sin(i * math.pi / 4)
        answers = []
        for wavelength in (3.0, 5.0, 9.0):
            wave = jj.tensor(np.cos(2 * math.pi / wavelength * (u - u[12, 12])).astype(np.float32)[None, None])
            answers.append(F.conv2d(wave, bank).flatten().numpy())
        assert np.argmax(answers) == 4 + i


def test_dct_is_orthonormal():
    for size in (1, 3, 8):
        rows = kernels.dct(size, dtype=jj.float64).flatten(1)
        np.testing.assert_allclose((rows @ rows.T).numpy(), np.eye(size * size), atol=1e-12)


def test_layers_begin_with_kernels():
    layer = nn.Conv2d(3, 4, 5)
    assert kernels.init_(layer, kernels.sobel()) is layer
    np.testing.assert_allclose(layer.weight.detach().numpy()[3, 2, 1:4, 1:4], kernels.sobel().numpy()[1, 0] / 3)
    assert layer.weight.detach().numpy()[:, :, 0].any() == layer.bias.detach().numpy().any() == False  # noqa: E712
    assert layer.weight.requires_grad
    gray = jj.rand(1, 1, 9, 9)
    colours = gray.expand(1, 3, 9, 9)
    assert jj.allclose(layer(colours)[:, :2], F.conv2d(gray[:, :, 1:-1, 1:-1], kernels.sobel()), atol=1e-6)


def test_frozen_layers_do_not_learn():
    net = nn.Sequential(kernels.init_(nn.Conv2d(1, 2, 3), kernels.sobel(), frozen=True), nn.Conv2d(2, 1, 1))
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = jj.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    net(jj.rand(1, 1, 6, 6)).sum().backward()
    optimizer.step()
    same = [jj.equal(a, b) for a, b in zip(before, net.parameters(), strict=True)]
    assert same == [True, True, False, False]


def test_depthwise_layers():
    layer = kernels.init_(nn.Conv2d(3, 6, 3, groups=3, bias=False), kernels.sobel())
    x = jj.rand(2, 3, 7, 7)
    assert jj.allclose(layer(x), F.conv2d(x, kernels.depthwise(kernels.sobel(), 3), groups=3))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: kernels.sobel(4), ValueError, "size=4 must be odd"),
        (lambda: kernels.prewitt(1), ValueError, "at least 3"),
        (lambda: kernels.laplacian(6), ValueError, "neighbors=6"),
        (lambda: kernels.gaussian(sigma=0), ValueError, "sigma=0"),
        (lambda: kernels.gaussian(sigma=(1, 2, 3)), ValueError, "one number or two"),
        (lambda: kernels.gabor(wavelength=1.5), ValueError, "at least 2 pixels"),
        (lambda: kernels.init_(nn.Conv2d(1, 3, 3), kernels.sobel()), ValueError, "multiple of the 2 kernels"),
        (lambda: kernels.init_(nn.Conv2d(1, 2, 4), kernels.sobel()), ValueError, "no middle place"),
        (lambda: kernels.init_(nn.Linear(2, 2), kernels.sobel()), TypeError, "Linear"),
        (lambda: kernels.init_(nn.ConvTranspose2d(1, 2, 3), kernels.sobel()), TypeError, "ConvTranspose2d"),
        (lambda: kernels.depthwise(jj.ones(2, 2, 3, 3), 2), ValueError, r"\[K, 1, height, width\]"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()
