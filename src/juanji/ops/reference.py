"""What each operation means, as plain loops or the most literal NumPy: the oracle of the tests.

`reference(name, arrays, attrs)` computes in the arrays' own type; give float64 for a reference result. Nothing here is
fast, and nothing here is used by anything but tests, explanations and `JUANJI_REFERENCE=1`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji.dtypes import BY_SHORT, encode

Array = NDArray[Any]
Reference = Callable[..., Any]


def reference(name: str, arrays: Sequence[Array], attrs: dict[str, Any]) -> Array:
    """The literal result of operation `name`.

    >>> reference("add", [np.array([1, 2]), np.array([10])], {}).tolist()
    [11, 12]
    """
    with np.errstate(all="ignore"):
        return np.asarray(_TABLE[name](*arrays, **attrs))


def covered() -> set[str]:
    """Names of the operations that have a reference."""
    return set(_TABLE)


_TABLE: dict[str, Reference] = {}


def _is(name: str) -> Callable[[Reference], Reference]:
    def keep(function: Reference) -> Reference:
        _TABLE[name] = function
        return function

    return keep


_PLAIN: dict[str, Reference] = {
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "sin": np.sin,
    "cos": np.cos,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "round": np.round,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "floordiv": np.floor_divide,
    "rem": np.remainder,
    "pow": np.power,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "isnan": np.isnan,
    "where": np.where,
    "matmul": np.matmul,
}
_TABLE.update(_PLAIN)

_TABLE["rsqrt"] = lambda x: 1 / np.sqrt(x)
_TABLE["reciprocal"] = lambda x: 1 / x
_TABLE["sigmoid"] = lambda x: 1 / (1 + np.exp(-x))
_TABLE["erf"] = lambda x: np.vectorize(math.erf, otypes=[x.dtype])(x)
_TABLE["relu"] = lambda x: np.maximum(x, 0)
_TABLE["relu_grad"] = lambda g, out: np.where(out <= 0, 0, g).astype(g.dtype)
_TABLE["leaky_relu"] = lambda x, slope: np.where(x > 0, x, x * slope)
_TABLE["leaky_relu_grad"] = lambda g, x, slope: np.where(x > 0, g, g * slope)
_TABLE["hardtanh"] = lambda x, low, high: np.clip(x, low, high)
_TABLE["hardtanh_grad"] = lambda g, out, low, high: np.where((out <= low) | (out >= high), 0, g).astype(g.dtype)
_TABLE["silu"] = lambda x: x / (1 + np.exp(-x))
_TABLE["silu_grad"] = lambda g, x: g / (1 + np.exp(-x)) * (1 + x / (1 + np.exp(x)))
_TABLE["softplus"] = lambda x: np.logaddexp(0, x)
_TABLE["bce"] = lambda x, t: -t * np.maximum(np.log(x), -100) - (1 - t) * np.maximum(np.log1p(-x), -100)
_TABLE["truncdiv"] = lambda a, b: (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)
_TABLE["and"] = lambda a, b: a & b
_TABLE["or"] = lambda a, b: a | b
_TABLE["xor"] = lambda a, b: a ^ b
_TABLE["not"] = lambda a: ~a
_TABLE["copy"] = np.array
_TABLE["cast"] = lambda x, dtype: encode(x, BY_SHORT[dtype])
_TABLE["const"] = lambda shape, dtype, value: encode(np.full(shape, value), BY_SHORT[dtype])
_TABLE["iota"] = lambda shape, dtype: np.arange(math.prod(shape), dtype=BY_SHORT[dtype].numpy).reshape(shape)
_TABLE["linear"] = lambda x, w: x @ w.T


def philox(counter: int, key: int) -> tuple[int, int]:
    """The first two 32-bit words of Philox-4x32-10 (Salmon et al. 2011) of a 64-bit counter and key."""
    word = [counter & 0xFFFFFFFF, (counter >> 32) & 0xFFFFFFFF, 0, 0]
    low, high = key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF
    for _ in range(10):
        first, second = word[0] * 0xD2511F53, word[2] * 0xCD9E8D57
        word = [
            (second >> 32) ^ word[1] ^ low,
            second & 0xFFFFFFFF,
            (first >> 32) ^ word[3] ^ high,
            first & 0xFFFFFFFF,
        ]
        low, high = (low + 0x9E3779B9) & 0xFFFFFFFF, (high + 0xBB67AE85) & 0xFFFFFFFF
    return word[0], word[1]


@_is("uniform")
def _uniform(key: Array, offset: Array, shape: tuple[int, ...], dtype: str) -> Array:
    words = [philox(int(offset) + i, int(key)) for i in range(math.prod(shape))]
    if dtype == "f32":
        numbers = [(first >> 8) * 2.0**-24 for first, _ in words]
    else:
        numbers = [((first << 32 | second) >> 11) * 2.0**-53 for first, second in words]
    return np.array(numbers, BY_SHORT[dtype].numpy).reshape(shape)


# -- reductions and rows ----------------------------------------------------------------------------------
for _name, _function in {
    "sum": np.sum,
    "prod": np.prod,
    "amax": np.max,
    "amin": np.min,
    "max_first": np.max,
    "min_first": np.min,
    "any": np.any,
    "all": np.all,
}.items():

    def _reduction(x: Array, dims: tuple[int, ...], _call: Any = _function, _name: str = _name) -> Array:
        extra = {"dtype": x.dtype} if _name in ("sum", "prod") else {}
        return np.asarray(_call(x, axis=dims, keepdims=True, **extra))

    _TABLE[_name] = _reduction

_TABLE["argmax"] = lambda x, dims: np.argmax(x, axis=dims[0], keepdims=True)
_TABLE["argmin"] = lambda x, dims: np.argmin(x, axis=dims[0], keepdims=True)


@_is("moments")
def _moments(x: Array, dims: tuple[int, ...]) -> Array:
    return np.stack([x.mean(dims, keepdims=True), x.var(dims, keepdims=True)])


@_is("softmax")
def _softmax(x: Array, dim: int) -> Array:
    e = np.exp(x - x.max(axis=dim, keepdims=True))
    return np.asarray(e / e.sum(axis=dim, keepdims=True))


@_is("log_softmax")
def _log_softmax(x: Array, dim: int) -> Array:
    shifted = x - x.max(axis=dim, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=dim, keepdims=True)))


@_is("cross_entropy")
def _cross_entropy(
    x: Array, target: Array, weight: Array, ignore_index: int, smoothing: float, weighted: bool
) -> Array:
    logp = _log_softmax(x, x.ndim - 1)
    result = np.zeros(target.shape, x.dtype)
    for at in np.ndindex(*target.shape):
        t = int(target[at])
        if t == ignore_index:
            continue
        if not 0 <= t < x.shape[-1]:
            result[at] = np.nan
            continue
        w = weight if weighted else np.ones_like(weight)
        result[at] = -(1 - smoothing) * w[t] * logp[at][t] - smoothing / x.shape[-1] * (w * logp[at]).sum()
    return result


# -- views ------------------------------------------------------------------------------------------------
_TABLE["reshape"] = lambda x, shape: x.reshape(shape)
_TABLE["permute"] = lambda x, dims: x.transpose(dims)
_TABLE["expand"] = lambda x, shape: np.broadcast_to(x, shape)
_TABLE["slice"] = lambda x, bounds: x[tuple(slice(*b) for b in bounds)]


@_is("view_write")
def _view_write(base: Array, value: Array, chain: Any) -> Array:
    result = np.array(base)
    places = np.arange(base.size).reshape(base.shape)
    for name, attrs in chain:
        places = _TABLE[name](places, **dict(attrs))
    result.reshape(-1)[places.reshape(-1)] = value.reshape(-1)
    return result


# -- convolution: seven loops -------------------------------------------------------------------------------
def _taps(
    x: tuple[int, ...], out: tuple[int, ...], kernel: tuple[int, ...], stride: Any, padding: Any, dilation: Any
) -> Any:
    """(output position, kernel position, input position) of every product of one channel pair."""
    for o in itertools.product(*map(range, out)):
        for k in itertools.product(*map(range, kernel)):
            i = tuple(a * s + b * d - p[0] for a, b, s, d, p in zip(o, k, stride, dilation, padding, strict=True))
            if all(0 <= a < n for a, n in zip(i, x, strict=True)):
                yield o, k, i


@_is("conv")
def _conv(x: Array, w: Array, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
    spatial = tuple(
        (n + sum(p) - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(x.shape[2:], w.shape[2:], stride, padding, dilation, strict=True)
    )
    out = np.zeros((x.shape[0], w.shape[0], *spatial), x.dtype)
    per_in, per_out = w.shape[1], w.shape[0] // groups
    for o, k, i in _taps(x.shape[2:], spatial, w.shape[2:], stride, padding, dilation):
        for g in range(groups):
            a = x[(slice(None), slice(g * per_in, (g + 1) * per_in), *i)]
            b = w[(slice(g * per_out, (g + 1) * per_out), slice(None), *k)]
            out[(slice(None), slice(g * per_out, (g + 1) * per_out), *o)] += a @ b.T
    return out


@_is("conv_input_grad")
def _conv_input_grad(g: Array, w: Array, size: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
    out = np.zeros((g.shape[0], w.shape[1] * groups, *size), g.dtype)
    per_in, per_out = w.shape[1], w.shape[0] // groups
    for o, k, i in _taps(tuple(size), g.shape[2:], w.shape[2:], stride, padding, dilation):
        for group in range(groups):
            outs = slice(group * per_out, (group + 1) * per_out)
            out[(slice(None), slice(group * per_in, (group + 1) * per_in), *i)] += (
                g[(slice(None), outs, *o)] @ w[(outs, slice(None), *k)]
            )
    return out


@_is("conv_weight_grad")
def _conv_weight_grad(g: Array, x: Array, kernel: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
    per_in, per_out = x.shape[1] // groups, g.shape[1] // groups
    out = np.zeros((g.shape[1], per_in, *kernel), g.dtype)
    for o, k, i in _taps(x.shape[2:], g.shape[2:], tuple(kernel), stride, padding, dilation):
        for group in range(groups):
            outs = slice(group * per_out, (group + 1) * per_out)
            a = x[(slice(None), slice(group * per_in, (group + 1) * per_in), *i)]
            out[(outs, slice(None), *k)] += g[(slice(None), outs, *o)].T @ a
    return out


@_is("unfold")
def _unfold(x: Array, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Array:
    windows = zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
    places = tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in windows)
    out = np.zeros((*x.shape[:2], *kernel, *places), x.dtype)
    for o, k, i in _taps(x.shape[2:], places, kernel, stride, padding, dilation):
        out[(slice(None), slice(None), *k, *o)] = x[(slice(None), slice(None), *i)]
    return out


@_is("fold")
def _fold(x: Array, size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Array:
    out = np.zeros((*x.shape[:2], *size), x.dtype)
    for o, k, i in _taps(tuple(size), x.shape[2 + len(size) :], kernel, stride, padding, dilation):
        out[(slice(None), slice(None), *i)] += x[(slice(None), slice(None), *k, *o)]
    return out


# -- bilinear sampling ----------------------------------------------------------------------------------------
def _corners(at: float, size: int, slope: int) -> list[tuple[int, float]]:
    """The pixels (of those that exist) on both sides of a position, with their weights."""
    if not -1 < at < size:
        return []
    low = math.floor(at)
    weights = (-1.0, 1.0) if slope else (1 - (at - low), at - low)
    return [(low + k, weights[k]) for k in (0, 1) if 0 <= low + k < size]


def _samples(size: Any, ys: Array, xs: Array, slopes: Any) -> Any:
    """(image, sample, row, column, weight) of every product of one channel."""
    for n, p in np.ndindex(*ys.shape):
        for (row, a), (col, b) in itertools.product(
            _corners(float(ys[n, p]), size[0], slopes[0]), _corners(float(xs[n, p]), size[1], slopes[1])
        ):
            yield n, p, row, col, a * b


@_is("bilinear")
def _bilinear(image: Array, ys: Array, xs: Array, slopes: Any) -> Array:
    out = np.zeros((*image.shape[:2], ys.shape[1]), image.dtype)
    for n, p, row, col, weight in _samples(image.shape[2:], ys, xs, slopes):
        out[n, :, p] += weight * image[n, :, row, col]
    return out


@_is("bilinear_scatter")
def _bilinear_scatter(values: Array, ys: Array, xs: Array, size: Any, slopes: Any) -> Array:
    out = np.zeros((*values.shape[:2], *size), values.dtype)
    for n, p, row, col, weight in _samples(size, ys, xs, slopes):
        out[n, :, row, col] += weight * values[n, :, p]
    return out


# -- pooling ------------------------------------------------------------------------------------------------
def _pool_windows(x: tuple[int, ...], kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool) -> Any:
    """For each window (oh, ow): the positions inside the plane, and the count with padding included."""
    sizes = []
    for n, k, s, p, d in zip(x, kernel, stride, padding, dilation, strict=True):
        count = (n + 2 * p - d * (k - 1) - 1 + (s - 1 if ceil else 0)) // s + 1
        if ceil and (count - 1) * s >= n + p:
            count -= 1
        sizes.append(count)
    for o in itertools.product(*map(range, sizes)):
        inside, padded = [], 0
        for k in itertools.product(*map(range, kernel)):
            at = tuple(a * s + b * d - p for a, b, s, d, p in zip(o, k, stride, dilation, padding, strict=True))
            padded += all(a < n + p for a, n, p in zip(at, x, padding, strict=True))
            if all(0 <= a < n for a, n in zip(at, x, strict=True)):
                inside.append(at)
        yield o, inside, padded, tuple(sizes)


@_is("max_pool_index")
def _max_pool_index(x: Array, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool) -> Array:
    out: Any = None
    for o, inside, _, sizes in _pool_windows(x.shape[2:], kernel, stride, padding, dilation, ceil):
        if out is None:
            out = np.zeros((*x.shape[:2], *sizes), np.int64)
        values = np.stack([x[(slice(None), slice(None), *at)] for at in inside])
        flat = np.array([h * x.shape[3] + w for h, w in inside])
        nan = np.isnan(values)
        last_nan = len(inside) - 1 - np.argmax(nan[::-1], axis=0)
        out[(slice(None), slice(None), *o)] = flat[np.where(nan.any(0), last_nan, np.argmax(values, axis=0))]
    return np.asarray(out)


@_is("pool_gather")
def _pool_gather(v: Array, index: Array, **attrs: Any) -> Array:
    flat = np.take_along_axis(v.reshape(*v.shape[:2], -1), index.reshape(*index.shape[:2], -1), 2)
    return np.asarray(flat.reshape(index.shape))


@_is("max_pool")
def _max_pool(x: Array, **attrs: Any) -> Array:
    return np.asarray(_pool_gather(x, _max_pool_index(x, **attrs)))


@_is("pool_scatter")
def _pool_scatter(g: Array, index: Array, x: Any, **attrs: Any) -> Array:
    out = np.zeros((*x[:2], math.prod(x[2:])), g.dtype)
    for n, c in np.ndindex(*x[:2]):
        np.add.at(out[n, c], index[n, c].reshape(-1), g[n, c].reshape(-1))
    return out.reshape(x)


@_is("max_pool_grad")
def _max_pool_grad(g: Array, x: Array, **attrs: Any) -> Array:
    return np.asarray(_pool_scatter(g, _max_pool_index(x, **attrs), x.shape, **attrs))


@_is("conv_input_grad_at_maxima")
def _conv_input_grad_at_maxima(g: Array, x: Array, w: Array, pool: Any, **attrs: Any) -> Array:
    return np.asarray(_conv_input_grad(_max_pool_grad(g, x, **dict(pool)), w, **attrs))


@_is("conv_weight_grad_at_maxima")
def _conv_weight_grad_at_maxima(g: Array, y: Array, x: Array, pool: Any, **attrs: Any) -> Array:
    return np.asarray(_conv_weight_grad(_max_pool_grad(g, y, **dict(pool)), x, **attrs))


def _divisor(inside: list[Any], padded: int, count_include_pad: bool, divisor: int) -> int:
    return divisor or (padded if count_include_pad else len(inside))


@_is("avg_pool")
def _avg_pool(
    x: Array, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool, include_pad: bool, divisor: int
) -> Array:
    out: Any = None
    for o, inside, padded, sizes in _pool_windows(x.shape[2:], kernel, stride, padding, dilation, ceil):
        if out is None:
            out = np.zeros((*x.shape[:2], *sizes), x.dtype)
        total = sum(x[(slice(None), slice(None), *at)] for at in inside)
        out[(slice(None), slice(None), *o)] = total / _divisor(inside, padded, include_pad, divisor)
    return np.asarray(out)


@_is("avg_pool_grad")
def _avg_pool_grad(
    g: Array,
    x: Any,
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil: bool,
    include_pad: bool,
    divisor: int,
) -> Array:
    out = np.zeros(x, g.dtype)
    for o, inside, padded, _ in _pool_windows(x[2:], kernel, stride, padding, dilation, ceil):
        share = g[(slice(None), slice(None), *o)] / _divisor(inside, padded, include_pad, divisor)
        for at in inside:
            out[(slice(None), slice(None), *at)] += share
    return out


# -- tables -------------------------------------------------------------------------------------------------
@_is("gather")
def _gather(x: Array, index: Array, dim: int) -> Array:
    out = np.full(index.shape, np.nan if x.dtype.kind == "f" else 0, x.dtype)
    for at in np.ndindex(*index.shape):
        if 0 <= index[at] < x.shape[dim]:
            out[at] = x[(*at[:dim], index[at], *at[dim + 1 :])]
    return out


@_is("scatter")
@_is("scatter_reduce")
def _scatter(base: Array, source: Array, index: Array, dim: int, mode: str) -> Array:
    combine: dict[str, Any] = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
    out = np.array(base)
    for at in np.ndindex(*index.shape):
        if 0 <= index[at] < base.shape[dim]:
            place = (*at[:dim], index[at], *at[dim + 1 :])
            out[place] = source[at] if mode == "set" else combine[mode](out[place], source[at])
    return out


@_is("scan")
def _scan(x: Array, dim: int, mode: str, reverse: bool) -> Array:
    joined = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum, "logaddexp": np.logaddexp}[mode]
    line = np.moveaxis(np.flip(x, dim) if reverse else x, dim, 0)
    out = np.array(line)
    for i in range(1, len(line)):
        out[i] = joined(out[i - 1], line[i])
    out = np.moveaxis(out, 0, dim)
    return np.ascontiguousarray(np.flip(out, dim) if reverse else out)


# -- special functions --------------------------------------------------------------------------------------
_TABLE["atan"] = np.arctan
_TABLE["atan2"] = np.arctan2
_TABLE["asin"] = np.arcsin
_TABLE["acos"] = np.arccos
_TABLE["erfc"] = lambda x: np.vectorize(math.erfc, otypes=[x.dtype])(x)
