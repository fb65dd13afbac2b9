"""Other ways to compute a convolution, for learners and tests: plain loops, im2col, the Fourier transform.

The host operations come in threes like `conv`, `conv_input_grad` and `conv_weight_grad`, and are each other's gradients
in the same way: with `algorithm="fft"` backward is made of Fourier transforms too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji.ops import contraction, patches
from juanji.ops.core import TABLE, Context, Op, register
from juanji.ops.reference import reference
from juanji.spec import Pads, Shape
from juanji.tensors.indexing import HOST
from juanji.tensors.products import matmul

Array = NDArray[Any]
ALGORITHMS = ("reference", "im2col", "direct", "fft")
_TRIO = ("conv", "conv_input_grad", "conv_weight_grad")


def _host_trio(prefix: str, run: Callable[..., Array]) -> Op:
    """Registers the trio of convolution as host operations that call `run(name, a, b, **attributes)`."""
    own: dict[str, Op] = {}

    def geometry(c: Context) -> dict[str, Any]:
        return {k: c.attrs[k] for k in ("stride", "padding", "dilation", "groups")}

    def input_grad(g: Any, w: Any, c: Context, size: Shape) -> Any:
        return own["conv_input_grad"](g, w, size=size, **geometry(c))

    def weight_grad(g: Any, x: Any, c: Context, kernel: Shape) -> Any:
        return own["conv_weight_grad"](g, x, kernel=kernel, **geometry(c))

    grads: dict[str, tuple[Callable[[Context], Any], ...]] = {
        "conv": (
            lambda c: input_grad(c.g, c.x(1), c, c.shape(0)[2:]),
            lambda c: weight_grad(c.g, c.x(0), c, c.shape(1)[2:]),
        ),
        "conv_input_grad": (
            lambda c: own["conv"](c.g, c.x(1), **geometry(c)),
            lambda c: weight_grad(c.x(0), c.g, c, c.shape(1)[2:]),
        ),
        "conv_weight_grad": (
            lambda c: own["conv"](c.x(1), c.g, **geometry(c)),
            lambda c: input_grad(c.x(0), c.g, c, c.shape(1)[2:]),
        ),
    }
    for name in _TRIO:

        def on_host(a: Array, b: Array, _name: str = name, **attrs: Any) -> Array:
            return run(_name, a, b, **attrs)

        key = f"{prefix}_{name}"
        HOST[key] = on_host
        own[name] = register(Op(key, TABLE[name].shape, "host", grads[name], ("1", "0"), linear=(0, 1)))
    return own["conv"]


# -- the Fourier transform ---------------------------------------------------------------------------------------------
def _smooth(n: int) -> int:
    """The next number without prime factors above 5: transforms of that length are fast.

    >>> [_smooth(n) for n in (7, 13, 64, 97)]
    [8, 15, 64, 100]
    """
    while True:
        rest = n
        for p in (2, 3, 5):
            while rest % p == 0:
                rest //= p
        if rest == 1:
            return n
        n += 1


def _spread(array: Array, steps: Shape, first: Shape, size: Shape) -> Array:
    """Images on a canvas of zeros, element i of each spatial dimension at `first + i * steps`."""
    canvas = np.zeros((*array.shape[:2], *size))
    places = tuple(
        slice(max(f, 0), f + (n - 1) * s + 1, s) for f, n, s in zip(first, array.shape[2:], steps, strict=True)
    )
    canvas[(slice(None), slice(None), *places)] = array
    return canvas


def _fourier(
    name: str,
    a: Array,
    b: Array,
    stride: Shape,
    padding: Pads,
    dilation: Shape,
    groups: int,
    size: Shape = (),
    kernel: Shape = (),
) -> Array:
    """The trio by the convolution theorem, in double precision.

    A correlation multiplies one spectrum with the conjugate of the other. Strided outputs are spread apart, dilated
    kernels too; the canvas is large enough that nothing wraps round.
    """
    rank = len(stride)
    size = a.shape[2:] if name == "conv" else b.shape[2:] if name == "conv_weight_grad" else size
    kernel = kernel if name == "conv_weight_grad" else b.shape[2:]
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    if name == "conv":
        out = tuple((n + sum(p) - r) // s + 1 for n, p, r, s in zip(size, padding, reach, stride, strict=True))
    else:
        out = a.shape[2:]
    before = tuple(p[0] for p in padding)
    least = tuple(max(p + n, (o - 1) * s + r) for p, n, o, s, r in zip(before, size, out, stride, reach, strict=True))
    canvas = tuple(map(_smooth, least))
    axes = tuple(range(-rank, 0))
    zero = (0,) * rank

    def spectrum(array: Array, steps: Shape, first: Shape) -> Array:
        return np.asarray(np.fft.rfftn(_spread(array, steps, first, canvas), axes=axes))

    def grouped(s: Array, axis: int) -> Array:
        return s.reshape(*s.shape[:axis], groups, s.shape[axis] // groups, *s.shape[axis + 1 :])

    def back(s: Array, steps: Shape, first: Shape, count: Shape) -> Array:
        whole = np.fft.irfftn(s.reshape(s.shape[0], -1, *s.shape[-rank:]), canvas, axes)
        places = tuple(slice(f, f + (n - 1) * t + 1, t) for f, n, t in zip(first, count, steps, strict=True))
        return np.asarray(whole[(slice(None), slice(None), *places)])

    one = (1,) * rank
    if name == "conv":
        x, w = grouped(spectrum(a, one, before), 1), grouped(spectrum(b, dilation, zero), 0)
        result = back(np.einsum("ngc...,goc...->ngo...", x, w.conj()), stride, zero, out)
    elif name == "conv_input_grad":
        g, w = grouped(spectrum(a, stride, zero), 1), grouped(spectrum(b, dilation, zero), 0)
        result = back(np.einsum("ngo...,goc...->ngc...", g, w), one, before, size)
    else:
        g, x = grouped(spectrum(a, stride, zero), 1), grouped(spectrum(b, one, before), 1)
        product = np.einsum("ngo...,ngc...->goc...", g.conj(), x)
        result = back(product.reshape(-1, *product.shape[2:]), dilation, zero, kernel)
    return result if a.dtype.kind == "f" else np.rint(result)


def _loops(name: str, a: Array, b: Array, **attrs: Any) -> Array:
    return reference(name, [a, b], attrs)


#: Seven loops in plain NumPy, and Fourier transforms; both only outside captured steps.
reference_conv = _host_trio("reference", _loops)
fft_conv = _host_trio("fft", _fourier)
fft_conv_input_grad = TABLE["fft_conv_input_grad"]


def im2col_conv(x: Any, w: Any, stride: Shape, padding: Pads, dilation: Shape, groups: int) -> Any:
    """The convolution as one matrix product with the windows as columns."""
    windows = patches.unfold(x, kernel=w.shape[2:], stride=stride, padding=padding, dilation=dilation)
    rank, outs = len(stride), w.shape[0]
    places = windows.shape[2 + rank :]
    terms = math.prod(w.shape[1:])
    columns = windows.reshape(x.shape[0], groups, terms, math.prod(places))
    result = matmul(w.reshape(groups, outs // groups, terms), columns)
    return result.reshape(x.shape[0], outs, *places)


def apply(algorithm: Any, function: str, x: Any, w: Any, **attrs: Any) -> Any:
    """The convolution of [N, C, ...] by a named algorithm; None is the compiled kernel, "direct".

    Raises:
        ValueError: no such algorithm.
    """
    if algorithm is None or algorithm == "direct":
        return contraction.conv(x, w, **attrs)
    if algorithm not in ALGORITHMS:
        raise ValueError(
            f"{function}: algorithm={algorithm!r} is not one of {', '.join(map(repr, ALGORITHMS))} or None, which picks"
        )
    TABLE["conv"].shape((x.spec, w.spec), attrs)  # its errors
    others: dict[str, Callable[..., Any]] = {"reference": reference_conv, "fft": fft_conv, "im2col": im2col_conv}
    return others[algorithm](x, w, **attrs)
