"""Kernels with a name, as weights: (kernels, 1, height, width), ready for `conv2d` on images of one channel.

They are written for what networks call convolution, which does not flip: a derivative is positive where brightness
grows to the right or downwards. For images of C channels use `depthwise`; to begin a layer with one, `init_`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji import tensors as T
from juanji.dtypes import DType, float32
from juanji.gradmode import no_grad
from juanji.spec import numbers, show
from juanji.tensors import Tensor

Array = NDArray[Any]
Pair = int | Sequence[int]


def _weight(kernels: Any, dtype: DType | None) -> Tensor:
    array = np.asarray(kernels, np.float64)
    array = array.reshape(-1, 1, *array.shape[-2:])
    return T.tensor(array, dtype=float32 if dtype is None else dtype)


def _odd(name: str, size: Any, least: int = 3) -> int:
    (number,) = numbers(size, 1, "size", 1)
    if number % 2 == 0 or number < least:
        raise ValueError(f"{name}: size={size} must be odd and at least {least}")
    return number


def _positive(name: str, argument: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 < float(value) < math.inf:
        raise ValueError(f"{name}: {argument}={value!r} must be a positive number")
    return float(value)


def _binomial(n: int) -> Array:
    return np.array([math.comb(n, k) for k in range(n + 1)], np.float64)


def _gradient(smooth: Array, slope: Array, normalize: bool, dtype: DType | None) -> Tensor:
    """Both derivatives: `slope` across one axis, `smooth` along the other."""
    across = np.outer(smooth, slope)
    if normalize:
        across /= (across * (np.arange(len(slope)) - len(slope) // 2)).sum()
    return _weight([across, across.T], dtype)


def sobel(size: Pair = 3, normalize: bool = False, dtype: DType | None = None) -> Tensor:
    """Horizontal and vertical derivative, smoothed across by binomials (Sobel and Feldman 1968): [2, 1, size, size].

    Each sums to 0. With `normalize` a ramp that grows by 1 a pixel gives 1.

    Raises:
        ValueError: an even size, or below 3.

    >>> sobel()[0, 0]
    tensor([[-1., 0., 1.],
            [-2., 0., 2.],
            [-1., 0., 1.]])
    """
    n = _odd("sobel", size)
    slope = np.convolve(_binomial(n - 3), [-1.0, 0.0, 1.0])
    return _gradient(_binomial(n - 1), slope, normalize, dtype)


def scharr(normalize: bool = False, dtype: DType | None = None) -> Tensor:
    """Sobel's derivatives with weights 3, 10, 3, nearly the same in all directions (Scharr 2000): [2, 1, 3, 3].

    >>> scharr()[1, 0]
    tensor([[ -3., -10.,  -3.],
            [  0.,   0.,   0.],
            [  3.,  10.,   3.]])
    """
    return _gradient(np.array([3.0, 10.0, 3.0]), np.array([-1.0, 0.0, 1.0]), normalize, dtype)


def prewitt(size: Pair = 3, normalize: bool = False, dtype: DType | None = None) -> Tensor:
    """Horizontal and vertical slope of the plane that fits a window best (Prewitt 1970): [2, 1, size, size].

    Raises:
        ValueError: an even size, or below 3.

    >>> prewitt()[0, 0]
    tensor([[-1., 0., 1.],
            [-1., 0., 1.],
            [-1., 0., 1.]])
    """
    n = _odd("prewitt", size)
    return _gradient(np.ones(n), np.arange(n) - n // 2.0, normalize, dtype)


def laplacian(neighbors: int = 4, dtype: DType | None = None) -> Tensor:
    """The sum of both second derivatives, over 4 or 8 neighbours: [1, 1, 3, 3]; sums to 0.

    Raises:
        ValueError: another number of neighbours.

    >>> laplacian()[0, 0]
    tensor([[ 0.,  1.,  0.],
            [ 1., -4.,  1.],
            [ 0.,  1.,  0.]])
    """
    if neighbors not in (4, 8):
        raise ValueError(f"laplacian: neighbors={neighbors!r} must be 4 or 8")
    corner = float(neighbors == 8)
    return _weight([[corner, 1, corner], [1, -neighbors, 1], [corner, 1, corner]], dtype)


def _grid(name: str, size: Pair | None, reach: float) -> tuple[Array, Array]:
    """Coordinates (y, x) from the middle of a kernel; by default of the odd size that holds ±`reach`."""
    height, width = (2 * math.ceil(reach) + 1,) * 2 if size is None else numbers(size, 2, "size", 1)
    y, x = np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2
    return y[:, None], x[None, :]


def gaussian(size: Pair | None = None, sigma: float | Sequence[float] = 1.0, dtype: DType | None = None) -> Tensor:
    """A Gaussian bell, which sums to 1: [1, 1, height, width].

    Args:
        size: one number or (height, width); None is the odd size that holds ±3 sigma, 99.7 % of the bell.
        sigma: in pixels; one number or (vertical, horizontal).

    Raises:
        ValueError: a sigma that is not positive.

    >>> gaussian(3, sigma=0.8)[0, 0]
    tensor([[0.0571, 0.1248, 0.0571],
            [0.1248, 0.2725, 0.1248],
            [0.0571, 0.1248, 0.0571]])
    """
    sigmas = tuple(sigma) if isinstance(sigma, (tuple, list)) else (sigma, sigma)
    if len(sigmas) != 2:
        raise ValueError(f"gaussian: sigma={sigma!r} must be one number or two")
    down, across = (_positive("gaussian", "sigma", s) for s in sigmas)
    if size is None:
        size = (2 * math.ceil(3 * down) + 1, 2 * math.ceil(3 * across) + 1)
    y, x = _grid("gaussian", size, 0)
    bell = np.exp(-0.5 * ((y / down) ** 2 + (x / across) ** 2))
    return _weight(bell / bell.sum(), dtype)


def log(size: Pair | None = None, sigma: float = 1.4, dtype: DType | None = None) -> Tensor:
    """Laplacian of a Gaussian (Marr and Hildreth 1980): [1, 1, height, width]; sums to 0, positive around its middle.

    It answers to spots of radius sigma * sqrt(2); `size` is by default the odd one that holds ±4 sigma.

    Raises:
        ValueError: a sigma that is not positive.

    >>> log(sigma=1.0).shape, abs(log(sigma=1.0).sum().item()) < 1e-6
    ((1, 1, 9, 9), True)
    """
    s = _positive("log", "sigma", sigma)
    y, x = _grid("log", size, 4 * s)
    r = (x * x + y * y) / (2 * s * s)
    shape = (r - 1) * np.exp(-r) / (math.pi * s**4)
    return _weight(shape - shape.mean(), dtype)


def box(size: Pair = 3, dtype: DType | None = None) -> Tensor:
    """The mean of a window: [1, 1, height, width], all equal, which sums to 1.

    >>> box(2)[0, 0]
    tensor([[0.2500, 0.2500],
            [0.2500, 0.2500]])
    """
    height, width = numbers(size, 2, "size", 1)
    return _weight(np.full((height, width), 1 / (height * width)), dtype)


def sharpen(amount: float = 1.0, neighbors: int = 4, dtype: DType | None = None) -> Tensor:
    """The image minus `amount` times its Laplacian: [1, 1, 3, 3], which sums to 1.

    >>> sharpen()[0, 0]
    tensor([[ 0., -1.,  0.],
            [-1.,  5., -1.],
            [ 0., -1.,  0.]])
    """
    rest = laplacian(neighbors).numpy()[0, 0].astype(np.float64)
    return _weight(_impulse() - amount * rest, dtype)


def emboss(strength: float = 1.0, dtype: DType | None = None) -> Tensor:
    """The image plus `strength` times its slope towards the lower right, as if lit from there: [1, 1, 3, 3], sum 1.

    >>> emboss()[0, 0]
    tensor([[-2., -1.,  0.],
            [-1.,  1.,  1.],
            [ 0.,  1.,  2.]])
    """
    slope = np.array([[-2.0, -1.0, 0.0], [-1.0, 0.0, 1.0], [0.0, 1.0, 2.0]])
    return _weight(_impulse() + strength * slope, dtype)


def _impulse() -> Array:
    middle = np.zeros((3, 3))
    middle[1, 1] = 1
    return middle


def gabor(
    size: Pair | None = None,
    sigma: float = 2.0,
    theta: float | Sequence[float] = 0.0,
    wavelength: float = 4.0,
    gamma: float = 0.5,
    psi: float = 0.0,
    zero_mean: bool = True,
    dtype: DType | None = None,
) -> Tensor:
    """Waves under a Gaussian, one kernel for each direction (Daugman 1985): [directions, 1, height, width].

    exp(-(u^2 + (gamma v)^2) / (2 sigma^2)) * cos(2 pi u / wavelength + psi), where u runs along `theta`.

    Args:
        size: by default the odd one that holds ±3 sigma in all directions.
        theta: angle in radians of the direction in which the wave travels, from right towards down; or several.
        wavelength: pixels of one period, at least 2.
        gamma: how much shorter than wide the bell is along the wave's crests; below 1 it is longer.
        psi: phase; 0 is even (lines), pi / 2 odd (edges).
        zero_mean: subtract the mean, so that even brightness gives 0.

    Raises:
        ValueError: a sigma or gamma that is not positive, a wavelength below 2.

    >>> gabor(theta=[0.0, math.pi / 2]).shape
    (2, 1, 25, 25)
    """
    s, g = _positive("gabor", "sigma", sigma), _positive("gabor", "gamma", gamma)
    if _positive("gabor", "wavelength", wavelength) < 2:
        raise ValueError(f"gabor: wavelength={wavelength} must be at least 2 pixels: shorter waves cannot be sampled")
    y, x = _grid("gabor", size, 3 * s * max(1.0, 1 / g))
    found = []
    for angle in theta if isinstance(theta, (tuple, list)) else (theta,):
        u = x * math.cos(angle) + y * math.sin(angle)
        v = y * math.cos(angle) - x * math.sin(angle)
        wave = np.exp(-(u**2 + (g * v) ** 2) / (2 * s * s)) * np.cos(2 * math.pi * u / wavelength + psi)
        found.append(wave - wave.mean() if zero_mean else wave)
    return _weight(found, dtype)


def dct(size: int = 8, dtype: DType | None = None) -> Tensor:
    """The patterns of the two-dimensional cosine transform (Ahmed et al. 1974): [size^2, 1, size, size].

    Pattern u * size + v has u half waves downwards and v to the right; each has length 1 and they are orthogonal, so a
    convolution with stride `size` and its transpose are each other's inverse.

    >>> dct(2)[:, 0].flatten(1)
    tensor([[ 0.5000,  0.5000,  0.5000,  0.5000],
            [ 0.5000, -0.5000,  0.5000, -0.5000],
            [ 0.5000,  0.5000, -0.5000, -0.5000],
            [ 0.5000, -0.5000, -0.5000,  0.5000]])
    """
    (n,) = numbers(size, 1, "size", 1)
    k, i = np.arange(n)[:, None], np.arange(n)[None, :]
    waves = np.cos(math.pi * (2 * i + 1) * k / (2 * n)) * np.where(k == 0, math.sqrt(1 / n), math.sqrt(2 / n))
    return _weight(np.einsum("ui,vj->uvij", waves, waves), dtype)


# -- using them --------------------------------------------------------------------------------------------------------
def depthwise(kernel: Tensor, channels: int) -> Tensor:
    """The kernels repeated for each of `channels`: a weight for `conv2d(..., groups=channels)`.

    Shapes: [K, 1, h, w] -> [channels * K, 1, h, w]; channel c's results are numbers c * K to c * K + K - 1.

    >>> depthwise(sobel(), 3).shape
    (6, 1, 3, 3)
    """
    (count,) = numbers(channels, 1, "channels", 1)
    weight = _checked(kernel)
    k, _, height, width = weight.shape
    result: Tensor = weight.unsqueeze(0).expand(count, k, 1, height, width).reshape(count * k, 1, height, width)
    return result


def _checked(kernel: Any) -> Any:
    if not isinstance(kernel, Tensor):
        raise TypeError(f"kernel must be a Tensor, not {type(kernel).__name__}")
    if kernel.ndim == 2:
        return kernel.reshape(1, 1, *kernel.shape)
    if kernel.ndim != 4 or kernel.shape[1] != 1:
        raise ValueError(f"kernel of shape {show(kernel.shape)} must be [K, 1, height, width] or [height, width]")
    return kernel


def init_(layer: Any, kernel: Tensor, frozen: bool = False) -> Any:
    """Begins a `Conv2d` with named kernels, its bias with zeros; returns the layer.

    Output channel o gets kernel o % K; where a channel reads several input channels, it reads their mean. A kernel
    smaller than the layer's is put in its middle.

    Args:
        layer: its number of output channels must be a multiple of the number of kernels.
        frozen: the weight and bias then require no gradient, so that training leaves them.

    Raises:
        ValueError: numbers or sizes that do not fit. TypeError: no such layer, or no tensor.

    >>> import juanji as jj
    >>> layer = init_(jj.nn.Conv2d(3, 2, 3, padding=1), sobel(), frozen=True)
    >>> layer.weight[0, 2, 1], layer.weight.requires_grad
    (tensor([-0.6667, 0.0000, 0.6667]), False)
    """
    weight = _checked(kernel)
    own = getattr(layer, "weight", None)
    if not isinstance(own, Tensor) or own.ndim != 4 or getattr(layer, "transposed", False):
        raise TypeError(f"layer must have a weight [out, in, height, width], as Conv2d has: {type(layer).__name__}")
    outs, ins, *sizes = own.shape
    count, _, *given = weight.shape
    if outs % count:
        raise ValueError(f"the layer's {outs} output channels must be a multiple of the {count} kernels")
    if any(n < k or (n - k) % 2 for n, k in zip(sizes, given, strict=True)):
        raise ValueError(
            f"a kernel of size {show(given)} has no middle place in the layer's kernel_size {show(sizes)}: that must "
            "be as large, or larger by an even number"
        )
    top, left = ((n - k) // 2 for n, k in zip(sizes, given, strict=True))
    values = np.zeros(own.shape)
    values[:, :, top : top + given[0], left : left + given[1]] = np.resize(
        weight.detach().numpy().astype(np.float64), (outs, 1, *given)
    )
    with no_grad():
        own.copy_(T.tensor(values / ins, dtype=own.dtype))
        if layer.bias is not None:
            layer.bias.zero_()
    if frozen:
        own.requires_grad_(False)
        if layer.bias is not None:
            layer.bias.requires_grad_(False)
    return layer


__all__ = [
    "box", "dct", "depthwise", "emboss", "gabor", "gaussian", "init_", "laplacian", "log", "prewitt", "scharr",
    "sharpen", "sobel",
]  # fmt: skip
