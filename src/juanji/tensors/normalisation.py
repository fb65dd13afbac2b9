"""Normalisation by the mean and variance of a batch, a layer, a group or an instance; RMS and local response.

Composed of means, differences and products, so that derivatives of every order follow. The variance is the mean square
of what is left when the mean has been subtracted (two passes): no digits are lost where the mean is large.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from juanji.errors import ShapeError
from juanji.gradmode import no_grad
from juanji.ops import elementwise as ew
from juanji.ops import pool
from juanji.ops.moments import moments, part
from juanji.spec import Shape, numbers, show
from juanji.tensors import arithmetic as ar
from juanji.tensors.base import need_floating, need_tensor


def _per_channel(name: str, channels: int, **tensors: Any) -> None:
    for argument, value in tensors.items():
        if value is not None:
            need_tensor(value, argument, name)
        if value is not None and value.shape != (channels,):
            raise ShapeError(
                f"{name}: {argument} should contain {channels} elements, one for each channel, but its shape is "
                f"{show(value.shape)}"
            )


def _moments(x: Any, dims: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """(x less its mean, the mean, the variance with divisor n), each mean kept as dimensions of extent 1."""
    if not x.numel():
        mean = x.mean(dims, True)
        return ew.sub(x, mean), mean, mean
    both = moments(x, dims=dims)
    mean = part(both, 0)
    return ew.sub(x, mean), mean, part(both, 1)


def _enough(shape: Shape, count: int, what: str) -> None:
    if count == 1:
        raise ShapeError(f"Expected more than 1 {what} when training, got input size {show(shape)}")


def _update(name: str, running: Any, value: Any, momentum: Any) -> None:
    """Moves a running statistic towards `value` by the part `momentum`."""
    if running is not None:
        with no_grad():
            moved = ar.cast(value.detach().reshape(running.shape), running.dtype) * momentum + running * (1 - momentum)
            ar.into(running, ar.cast(moved, running.dtype), name)


def _affine(x: Any, weight: Any, bias: Any) -> Any:
    """x * weight + bias, where they are given."""
    if weight is not None:
        x = ew.mul(x, weight)
    return x if bias is None else ew.add(x, bias)


def _column(value: Any, rank: int) -> Any:
    """One value a channel, shaped to meet an input of `rank` dimensions."""
    return None if value is None else value.reshape(1, -1, *(1,) * (rank - 2))


def _finish(centred: Any, var: Any, weight: Any, bias: Any, eps: float) -> Any:
    """(centred / sqrt(var + eps)) * weight + bias, all of them one value a channel: few operations on the whole."""
    factor = ew.rsqrt(var + eps)
    if weight is not None:
        factor = ew.mul(factor, weight)
    return _affine(centred, factor, bias)


def _channels(name: str, input: Any) -> int:
    need_tensor(input, "input", name)
    if input.ndim < 2:
        raise ShapeError(f"{name}: input of shape {show(input.shape)} must have at least 2 dimensions [N, C, ...]")
    channels: int = input.shape[1]
    return channels


def _both(name: str, running_mean: Any, running_var: Any) -> None:
    for argument, value in (("running_mean", running_mean), ("running_var", running_var)):
        if value is None:
            raise ShapeError(f"{name}: Expected {argument} to be defined when the input's own statistics are not used")


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> Any:
    """(x - mean) / sqrt(variance + eps) * weight + bias for each channel (Ioffe and Szegedy, 2015).

    Shapes: input [N, C, ...]; the others [C] or None. With `training`, mean and variance (divisor n) are those of the
    input over all dimensions but channels, and the running statistics, if given, move towards them by the part
    `momentum`, the variance with divisor n - 1. Otherwise the running statistics are used.

    Raises:
        ShapeError: a single value per channel when training, running statistics that are missing, shapes that do not
            fit. TypeError: not floating point tensors.

    >>> import juanji as jj
    >>> batch_norm(jj.tensor([[1.0], [3.0]]), None, None, training=True, eps=0.0)
    tensor([[-1.],
            [ 1.]])
    """
    need_tensor(input, "input", "batch_norm")
    need_floating("batch_norm", input=input, weight=weight, bias=bias)
    if input.shape == (0,):
        return ew.copy(input)
    channels, rank = _channels("batch_norm", input), input.ndim
    _per_channel("batch_norm", channels, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    w, b = _column(weight, rank), _column(bias, rank)
    if not input.numel():
        return _affine(ew.copy(input), w, b)
    if not training:
        _both("batch_norm", running_mean, running_var)
        mean, var = (ar.cast(_column(v, rank), input.dtype) for v in (running_mean, running_var))
        return _finish(ew.sub(input, mean), var, w, b, eps)
    count = input.numel() // channels
    _enough(input.shape, count, "value per channel")
    centred, mean, var = _moments(input, (0, *range(2, rank)))
    _update("batch_norm", running_mean, mean, momentum)
    _update("batch_norm", running_var, var.detach() * (count / (count - 1)), momentum)
    return _finish(centred, var, w, b, eps)


def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> Any:
    """As `batch_norm`, with a mean and variance for each element of the batch (Ulyanov et al., 2016).

    The running statistics move towards the batch's averages; with `use_input_stats=False` they are used instead.

    Raises:
        ShapeError: a single value per channel, running statistics that are missing, shapes that do not fit.
        TypeError: not floating point tensors.

    >>> import juanji as jj
    >>> instance_norm(jj.tensor([[[1.0, 3.0]], [[5.0, 5.0]]]), eps=1e-9)
    tensor([[[-1.,  1.]],
    <BLANKLINE>
            [[ 0.,  0.]]])
    """
    need_floating("instance_norm", input=input, weight=weight, bias=bias)
    channels, rank = _channels("instance_norm", input), input.ndim
    _per_channel(
        "instance_norm", channels, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias
    )
    if not use_input_stats:
        _both("instance_norm", running_mean, running_var)
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    count = math.prod(input.shape[2:])
    _enough(input.shape, count, "spatial element")
    w, b = _column(weight, rank), _column(bias, rank)
    if not input.numel():
        return _affine(ew.copy(input), w, b)
    centred, mean, var = _moments(input, tuple(range(2, rank)))
    _update("instance_norm", running_mean, mean.detach().mean(0), momentum)
    _update("instance_norm", running_var, var.detach().mean(0) * (count / (count - 1)), momentum)
    return _finish(centred, var, w, b, eps)


def _normalized(name: str, input: Any, normalized_shape: Any) -> tuple[Shape, tuple[int, ...]]:
    """The shape to normalise over and its dimensions."""
    count = len(normalized_shape) if isinstance(normalized_shape, (tuple, list)) else 1
    if count == 0:
        raise ShapeError(
            f"{name}: Expected normalized_shape to be at least 1-dimensional, but got {normalized_shape!r}"
        )
    shape = numbers(normalized_shape, count, "normalized_shape")
    if input.shape[-count:] != shape or input.ndim < count:
        raise ShapeError(
            f"{name}: normalized_shape={show(shape)} expects an input whose shape ends so, but its shape is "
            f"{show(input.shape)}"
        )
    return shape, tuple(range(input.ndim - count, input.ndim))


def _same_shape(name: str, shape: Shape, **tensors: Any) -> None:
    for argument, value in tensors.items():
        if value is not None and value.shape != shape:
            raise ShapeError(
                f"{name}: Expected {argument} to be of the same shape as normalized_shape, {show(shape)}, but got "
                f"{show(value.shape)}"
            )


def layer_norm(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last dimensions (Ba, Kiros and Hinton, 2016).

    Shapes: input [..., *normalized_shape], weight and bias normalized_shape. The variance has divisor n.

    Raises:
        ShapeError: the input does not end in `normalized_shape`, or other shapes that do not fit. TypeError: not
            floating point tensors.

    >>> import juanji as jj
    >>> layer_norm(jj.tensor([[1.0, 3.0], [5.0, 9.0]]), [2], eps=0.0)
    tensor([[-1.,  1.],
            [-1.,  1.]])
    """
    need_floating("layer_norm", input=input, weight=weight, bias=bias)
    shape, dims = _normalized("layer_norm", input, normalized_shape)
    _same_shape("layer_norm", shape, weight=weight, bias=bias)
    centred, _, var = _moments(input, dims)
    return _affine(ew.mul(centred, ew.rsqrt(var + eps)), weight, bias)


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """As `layer_norm`, over each of `num_groups` groups of channels and all positions (Wu and He, 2018).

    Shapes: input [N, C, ...], weight and bias [C].

    Raises:
        ShapeError: groups that do not divide the channels, shapes that do not fit, a single value in all.
        TypeError: not floating point tensors.

    >>> import juanji as jj
    >>> group_norm(jj.tensor([[1.0, 3.0, 5.0, 9.0]]), 2, eps=0.0)
    tensor([[-1.,  1., -1.,  1.]])
    """
    need_tensor(input, "input", "group_norm")
    need_floating("group_norm", input=input, weight=weight, bias=bias)
    n, channels = input.shape[:1], _channels("group_norm", input)
    (groups,) = numbers(num_groups, 1, "num_groups", 1)
    if channels % groups:
        raise ShapeError(
            f"group_norm: Expected number of channels in input to be divisible by num_groups, but got input of shape "
            f"{show(input.shape)} and num_groups={groups}"
        )
    _per_channel("group_norm", channels, weight=weight, bias=bias)
    _enough(input.shape, n[0] * (channels // groups) * math.prod(input.shape[2:]), "value per channel")
    rows = input.reshape(*n, groups, math.prod(input.shape[1:]) // groups)
    centred, _, var = _moments(rows, (2,))
    whole = ew.mul(centred, ew.rsqrt(var + eps)).reshape(input.shape)
    return _affine(whole, _column(weight, input.ndim), _column(bias, input.ndim))


def rms_norm(input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    """x / sqrt(mean(x * x) + eps) * weight over the last dimensions (Zhang and Sennrich, 2019).

    Shapes: as `layer_norm`. `eps` is that of the element type unless given.

    Raises:
        ShapeError: shapes that do not fit. TypeError: not floating point tensors.

    >>> import juanji as jj
    >>> rms_norm(jj.tensor([3.0, 4.0, 0.0, 0.0]), [4], eps=0.0)
    tensor([1.2000, 1.6000, 0.0000, 0.0000])
    """
    need_floating("rms_norm", input=input, weight=weight)
    shape, dims = _normalized("rms_norm", input, normalized_shape)
    _same_shape("rms_norm", shape, weight=weight)
    small = float(np.finfo(input.dtype.numpy).eps) if eps is None else eps
    return _affine(ew.mul(input, ew.rsqrt(ew.mul(input, input).mean(dims, True) + small)), weight, None)


def local_response_norm(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    """x / (k + alpha * mean of the squares of `size` neighbouring channels) ** beta (Krizhevsky et al., 2012).

    Shapes: [N, C, ...] with at least one more dimension. Channels beyond the first and last count as zero.

    Raises:
        ShapeError: fewer than 3 dimensions, or a size below 1. TypeError: not a tensor.

    >>> import juanji as jj
    >>> local_response_norm(jj.full((1, 3, 1), 2.0), 3, alpha=3.0, beta=0.5).flatten()
    tensor([0.6667, 0.5547, 0.6667])
    """
    need_tensor(input, "input", "local_response_norm")
    if input.ndim < 3:
        raise ShapeError(f"Expected 3D or higher dimensionality input (got {input.ndim} dimensions)")
    (reach,) = numbers(size, 1, "size", 1)
    if not input.numel():
        return input
    n, channels = input.shape[:2]
    before = reach // 2
    squares = ew.mul(input, input).reshape(n, 1, channels, -1)
    attrs = {"kernel": (reach, 1), "stride": (1, 1), "dilation": (1, 1), "ceil": False, "include_pad": True}
    # An even size reaches one channel further back than ahead; padded alike on both sides there is one mean too many.
    means = pool.avg_pool(squares, padding=(before, 0), divisor=reach, **attrs)[:, :, :channels]
    return input / (means.reshape(input.shape) * alpha + k) ** beta
