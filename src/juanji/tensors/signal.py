"""True convolution and correlation of whole arrays, with the names and modes of SciPy's `signal`."""

from __future__ import annotations

from typing import Any

from juanji import dtypes
from juanji.errors import ShapeError
from juanji.ops import contraction
from juanji.spec import Shape, show
from juanji.tensors import algorithms
from juanji.tensors.arithmetic import cast, result_dtype
from juanji.tensors.base import need_tensor

MODES = ("full", "same", "valid")
METHODS = ("auto", "direct", "fft")


def _operands(function: str, a: Any, b: Any, mode: str, method: str, names: tuple[str, str]) -> tuple[Any, Any]:
    for name, value in zip(names, (a, b), strict=True):
        need_tensor(value, name, function)
    if mode not in MODES:
        raise ValueError(f"{function}: mode={mode!r} must be 'full', 'same' or 'valid'")
    if method not in METHODS:
        raise ValueError(f"{function}: method={method!r} must be 'auto', 'direct' or 'fft'")
    if a.ndim != b.ndim or a.ndim > 3:
        raise ShapeError(
            f"{function}: {names[0]} of shape {show(a.shape)} and {names[1]} of shape {show(b.shape)} must have the "
            "same number of dimensions, at most 3"
        )
    if 0 in (*a.shape, *b.shape):
        raise ShapeError(
            f"{function}: {names[0]} of shape {show(a.shape)} and {names[1]} of shape {show(b.shape)} must not be empty"
        )
    dtype = result_dtype((a, b))
    if dtype is dtypes.bool_:
        raise TypeError(f"{function}: bool tensors have no products to sum; cast {names[0]} to an integer type")
    return cast(a, dtype), cast(b, dtype)


def _larger_first(function: str, a: Any, b: Any, names: tuple[str, str]) -> bool:
    """Whether `a` covers `b`; refuses the case that neither covers the other."""
    fits = all(n >= k for n, k in zip(a.shape, b.shape, strict=True))
    if not fits and any(n > k for n, k in zip(a.shape, b.shape, strict=True)):
        raise ShapeError(
            f"{function}: for mode='valid' one of {names[0]} {show(a.shape)} and {names[1]} {show(b.shape)} must be at "
            "least as large as the other in every dimension"
        )
    return fits


def convolve(x: Any, kernel: Any, mode: str = "full", method: str = "auto") -> Any:
    """The convolution of mathematics: out[i] = sum over j of x[i - j] * kernel[j], the kernel flipped.

    What neural networks call convolution is `correlate`. As `scipy.signal.convolve`, of one to three dimensions and
    without batches or channels (for those: `nn.functional.conv2d` of a flipped weight, or `conv_transpose2d`).

    Args:
        mode: "full", all positions where the two overlap; "same", the middle of that, as large as `x`; "valid", only
            where one lies wholly inside the other.
        method: "direct", "fft" (Fourier transforms, faster for large kernels), or "auto", which is "direct".

    Shapes: [n] and [k] -> [n + k - 1], [n] or [|n - k| + 1]; so for each dimension.

    Raises:
        ShapeError: different numbers of dimensions, or "valid" where neither covers the other. ValueError: an unknown
        mode or method. TypeError: no tensors.

    >>> import juanji as jj
    >>> jj.convolve(jj.tensor([1, 2, 3]), jj.tensor([0, 1, 10]))
    tensor([ 0,  1, 12, 23, 30])
    >>> jj.convolve(jj.tensor([1, 2, 3]), jj.tensor([0, 1, 10]), mode="same")
    tensor([ 1, 12, 23])
    """
    names = ("x", "kernel")
    a, b = _operands("convolve", x, kernel, mode, method, names)
    if not a.shape:
        return a * b
    if mode == "valid" and not _larger_first("convolve", a, b, names):
        a, b = b, a
    lost = _lost(a.shape, b.shape, mode)
    size = tuple(n + k - 1 - before - after for n, k, (before, after) in zip(a.shape, b.shape, lost, strict=True))
    op: Any = algorithms.fft_conv_input_grad if method == "fft" else contraction.conv_input_grad
    rank = a.ndim
    result = op(_image(a), _image(b), size=size, stride=(1,) * rank, padding=lost, dilation=(1,) * rank, groups=1)
    return result.reshape(size)


def correlate(x: Any, kernel: Any, mode: str = "full", method: str = "auto") -> Any:
    """The correlation of two arrays: the sum of x[i + j] * kernel[j] over j; `convolve` with the kernel flipped.

    As `scipy.signal.correlate`; arguments, shapes and errors as in `convolve`.

    >>> import juanji as jj
    >>> jj.correlate(jj.tensor([1, 2, 3]), jj.tensor([0, 1, 10]))
    tensor([10, 21, 32,  3,  0])
    """
    names = ("x", "kernel")
    a, b = _operands("correlate", x, kernel, mode, method, names)
    if not a.shape:
        return a * b
    rank = a.ndim
    inside = mode == "valid" and not _larger_first("correlate", a, b, names)
    lost = [(0, 0)] * rank if mode == "full" else _lost(a.shape, b.shape, mode)
    if inside:  # x slides within the kernel: the overlap is whole at these positions
        lost = [(n - 1, n - 1) for n in a.shape]
    pads = tuple((k - 1 - low, k - 1 - high) for k, (low, high) in zip(b.shape, lost, strict=True))
    op: Any = algorithms.fft_conv if method == "fft" else contraction.conv
    result = op(_image(a), _image(b), stride=(1,) * rank, padding=pads, dilation=(1,) * rank, groups=1)
    return result.reshape(result.shape[2:])


def _lost(n: Shape, k: Shape, mode: str) -> tuple[tuple[int, int], ...]:
    """How much of "full" is cut off before and after."""
    if mode == "full":
        return ((0, 0),) * len(n)
    if mode == "valid":
        return tuple((b - 1, b - 1) for b in k)
    return tuple(((b - 1) // 2, b - 1 - (b - 1) // 2) for b in k)


def _image(array: Any) -> Any:
    return array.reshape(1, 1, *array.shape)
