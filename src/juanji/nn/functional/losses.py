"""Losses of numbers, probabilities and classes, as functions. Those of margins and distances are in `margins`."""

from __future__ import annotations

import math
import warnings
from typing import Any

from juanji import tensors as T
from juanji.config import state
from juanji.dtypes import int64
from juanji.errors import ShapeError
from juanji.nn._arguments import legacy_reduction
from juanji.nn.functional.activations import floating
from juanji.ops import elementwise as ew
from juanji.ops import losses as ops
from juanji.spec import show
from juanji.tensors import Tensor
from juanji.tensors import arithmetic as ar
from juanji.tensors.base import TensorBase, as_array, need_tensor


def reduced(losses: Any, reduction: str) -> Tensor:
    """The losses themselves ("none"), their sum or their mean."""
    result: Tensor = losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.mean()
    return result


def same_type(function: str, input: Any, other: Any) -> tuple[Any, Any]:
    """Two tensors in the element type that both promote to, which must be floating point.

    Raises:
        RuntimeError: two tensors of integers.
    """
    dtype = ar.result_dtype((input, other))
    if not dtype.is_floating_point:
        raise RuntimeError(f"{function}: input and target must be floating point, not {input.dtype}, {other.dtype}")
    return ar.cast(input, dtype), ar.cast(other, dtype)


def _differing(function: str, input: Any, target: Any) -> None:
    """Checks that both are tensors, and warns where their shapes are to be broadcast."""
    need_tensor(input, "input", function)
    need_tensor(target, "target", function)
    if input.shape != target.shape:
        warnings.warn(
            f"{function}: using a target size ({show(target.shape)}) that is different to the input size "
            f"({show(input.shape)}). This will likely lead to incorrect results due to broadcasting.",
            stacklevel=3,
        )


def _weighted(function: str, losses: Any, weight: Any, input: Any, reduction: str) -> Tensor:
    """The reduction of losses, each times its weight; the mean is the weighted one."""
    if weight is None:
        return reduced(losses, reduction)
    need_tensor(weight, "weight", function)
    if weight.shape != input.shape:
        raise ShapeError(f"{function}: weight {show(weight.shape)} must have the input's shape {show(input.shape)}")
    result: Tensor = reduced(losses * weight, "sum" if reduction == "mean" else reduction)
    return result / weight.sum() if reduction == "mean" else result


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Squared difference: its mean, its sum, or with "none" each.

    `weight`, of the input's shape, multiplies each; the mean is then the weighted one. Tensors of different
    shapes broadcast, with a warning.

    Raises:
        ShapeError: shapes that do not broadcast. ValueError: another `reduction`. RuntimeError: integers.

    >>> import juanji as jj
    >>> mse_loss(jj.tensor([1.0, 2.0]), jj.tensor([1.0, 4.0]))
    tensor(2.)
    """
    _differing("mse_loss", input, target)
    reduction = legacy_reduction(size_average, reduce, reduction)
    x, y = same_type("mse_loss", input, target)
    difference = ew.sub(x, y)
    return _weighted("mse_loss", ew.mul(difference, difference), weight, input, reduction)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Absolute difference; arguments as `mse_loss`.

    >>> import juanji as jj
    >>> l1_loss(jj.tensor([1.0, 2.0]), jj.tensor([1.0, 4.0]))
    tensor(1.)
    """
    _differing("l1_loss", input, target)
    reduction = legacy_reduction(size_average, reduce, reduction)
    return _weighted("l1_loss", abs(input - target), weight, input, reduction)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """d^2 / (2 beta) for differences d below `beta`, |d| - beta / 2 beyond (Girshick 2015).

    Raises:
        ShapeError: a negative `beta`, shapes that do not broadcast.

    >>> import juanji as jj
    >>> smooth_l1_loss(jj.tensor([0.0, 0.0]), jj.tensor([1.0, 4.0]), reduction="none")
    tensor([0.5000, 3.5000])
    """
    _differing("smooth_l1_loss", input, target)
    reduction = legacy_reduction(size_average, reduce, reduction)
    if beta < 0:
        raise ShapeError(f"smooth_l1_loss: beta={beta} must not be negative")
    x, y = same_type("smooth_l1_loss", input, target)
    size = ew.abs_(ew.sub(x, y))
    if beta == 0:
        return reduced(size, reduction)
    # Where the other piece is taken the square must not overflow: infinity times zero would be its gradient.
    near = ew.lt(size, size.new_scalar(beta))
    small = ew.where(near, size, size.new_scalar(0))
    return reduced(ew.where(near, small * small * (0.5 / beta), size - 0.5 * beta), reduction)


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """d^2 / 2 for differences d up to `delta`, delta (|d| - delta / 2) beyond (Huber 1964).

    Raises:
        ShapeError: `delta` not positive, shapes that do not broadcast.

    >>> import juanji as jj
    >>> huber_loss(jj.tensor([0.0, 0.0]), jj.tensor([1.0, 4.0]), "none", delta=2.0)
    tensor([0.5000, 6.0000])
    """
    _differing("huber_loss", input, target)
    reduction = legacy_reduction(None, None, reduction)
    if not delta > 0:
        raise ShapeError(f"huber_loss: delta={delta} must be greater than 0")
    x, y = same_type("huber_loss", input, target)
    size = ew.abs_(ew.sub(x, y))
    near = ew.le(size, size.new_scalar(delta))
    small = ew.where(near, size, size.new_scalar(0))
    losses = ew.where(near, small * small * 0.5, (size - 0.5 * delta) * delta)
    if reduction == "mean" and weight is not None:  # unlike the others, divided by the number, as PyTorch does
        result: Tensor = _weighted("huber_loss", losses, weight, input, "none").mean()
        return result
    return _weighted("huber_loss", losses, weight, input, reduction)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy between logits and class numbers or class probabilities.

    Shapes: input [C], [N, C] or [N, C, d1 ...]; target [], [N] or [N, d1 ...] of int64, or probabilities in the
    input's shape and type; weight [C]. The mean divides by the weights of the targets that are not ignored.

    Raises:
        ShapeError: shapes that do not fit. IndexError: a class that does not exist. ValueError: bad arguments.

    >>> import juanji as jj
    >>> cross_entropy(jj.zeros(2, 4), jj.tensor([0, 3]))
    tensor(1.3863)
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    result: Tensor = T.cross_entropy(
        input, target, weight, None, ignore_index, None, reduction, label_smoothing=label_smoothing
    )
    return result


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The negative of each row's log-probability at its class. Shapes as `cross_entropy` with class numbers.

    >>> import juanji as jj
    >>> nll_loss(jj.tensor([[-1.0, -2.0]]), jj.tensor([1]))
    tensor(2.)
    """
    reduction = legacy_reduction(size_average, reduce, reduction)
    result: Tensor = T.nll_loss(input, target, weight, None, ignore_index, None, reduction)
    return result


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(t log x + (1 - t) log(1 - x)) for probabilities x and targets t of one shape; logarithms not below -100.

    `weight` broadcasts to the target's shape.

    Raises:
        ShapeError: another shape. RuntimeError: an input outside [0, 1] (in a captured step its loss is NaN).

    >>> import juanji as jj
    >>> binary_cross_entropy(jj.tensor([0.5, 0.0]), jj.tensor([1.0, 1.0]), reduction="none")
    tensor([  0.6931, 100.0000])
    """
    floating("binary_cross_entropy", input=input, target=target)
    reduction = legacy_reduction(size_average, reduce, reduction)
    if input.shape != target.shape:
        raise ShapeError(
            f"binary_cross_entropy: target of shape {show(target.shape)} must have the input's, {show(input.shape)}"
        )
    if input.dtype is not target.dtype:
        raise ShapeError(f"binary_cross_entropy: input is {input.dtype}, but target is {target.dtype}")
    if state.capture is None and input.numel():
        values = as_array(input.detach())
        if ((values < 0) | (values > 1)).any():
            raise RuntimeError(
                "binary_cross_entropy: all elements of input should be between 0 and 1, but they reach from "
                f"{values.min()} to {values.max()}"
            )
    losses = ops.bce(input, target)
    if weight is not None:
        need_tensor(weight, "weight", "binary_cross_entropy")
        losses = losses * weight.expand(target.shape)
    return reduced(losses, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """`binary_cross_entropy` of sigmoid(input), without overflow; `pos_weight` multiplies the cost of targets 1.

    `weight` and `pos_weight` broadcast.

    Raises:
        ShapeError: input and target of different shapes.

    >>> import juanji as jj
    >>> binary_cross_entropy_with_logits(jj.tensor([0.0, 100.0]), jj.tensor([1.0, 0.0]), reduction="none")
    tensor([  0.6931, 100.0000])
    """
    function = "binary_cross_entropy_with_logits"
    floating(function, input=input)
    need_tensor(target, "target", function)
    reduction = legacy_reduction(size_average, reduce, reduction)
    if input.shape != target.shape:
        raise ShapeError(f"{function}: target size {show(target.shape)} must be the input size {show(input.shape)}")
    x, t = same_type(function, input, target)
    curve = ew.softplus(ew.neg(x))
    if pos_weight is not None:
        need_tensor(pos_weight, "pos_weight", function)
        curve = curve * ((pos_weight - 1) * t + 1)
    losses = (1 - t) * x + curve
    if weight is not None:
        need_tensor(weight, "weight", function)
        losses = losses * weight
    return reduced(losses, reduction)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """t (log t - x) for log-probabilities x and probabilities t, or their logarithms with `log_target`.

    `reduction="batchmean"` divides the sum by the first extent: the divergence as mathematics has it.

    Raises:
        ValueError: another `reduction`. ShapeError: shapes that do not broadcast.

    >>> import juanji as jj
    >>> kl_div(jj.tensor([[0.5, 0.5]]).log(), jj.tensor([[0.0, 1.0]]), reduction="batchmean")
    tensor(0.6931)
    """
    need_tensor(input, "input", "kl_div")
    need_tensor(target, "target", "kl_div")
    batch = reduction == "batchmean" and size_average is None and reduce is None
    reduction = "sum" if batch else legacy_reduction(size_average, reduce, reduction)
    if reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size. 'batchmean' divides "
            "only by the batch size, and aligns with the KL div math definition.",
            stacklevel=2,
        )
    x, t = same_type("kl_div", input, target)
    if log_target:
        losses = ew.mul(ew.exp(t), ew.sub(t, x))
    else:
        zero = ew.eq(t, t.new_scalar(0))
        entropy = ew.mul(t, ew.log(ew.where(zero, t.new_scalar(1), t)))  # 0 log 0 is 0
        losses = ew.sub(entropy, ew.mul(t, x))
    result = reduced(losses, reduction)
    return result / input.shape[0] if batch and input.ndim else result


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """exp(x) - t x for logarithms x of a rate and counts t; x - t log(x + eps) for rates with `log_input` false.

    `full` adds Stirling's approximation of log(t!) for targets above 1.

    >>> import juanji as jj
    >>> poisson_nll_loss(jj.tensor([0.0]), jj.tensor([2.0]))
    tensor(1.)
    """
    need_tensor(input, "input", "poisson_nll_loss")
    need_tensor(target, "target", "poisson_nll_loss")
    reduction = legacy_reduction(size_average, reduce, reduction)
    losses: Any = T.exp(input) - target * input if log_input else input - target * T.log(input + eps)
    if full:
        t = target if target.dtype.is_floating_point else target.to(losses.dtype)
        large = t > 1
        safe = T.where(large, t, t.new_scalar(2))
        stirling = safe * safe.log() - safe + 0.5 * (2 * math.pi * safe).log()
        losses = losses + T.where(large, stirling, t.new_scalar(0))
    return reduced(losses, reduction)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """(log var + (input - target)^2 / var) / 2 for variances not below `eps`; `full` adds log(2 pi) / 2.

    Shapes: `var` is a number, or has the input's shape, or that with one extent 1, or the last left out.
    Gradients pass through the bound of the variance.

    Raises:
        ShapeError: another shape of `var`, a negative variance.

    >>> import juanji as jj
    >>> gaussian_nll_loss(jj.tensor([0.0]), jj.tensor([2.0]), 1.0)
    tensor(2.)
    """
    floating("gaussian_nll_loss", input=input)
    need_tensor(target, "target", "gaussian_nll_loss")
    reduction = legacy_reduction(None, None, reduction)
    variance: Any = var
    if not isinstance(var, TensorBase):
        if not var >= 0:
            raise ShapeError(f"gaussian_nll_loss: var={var} must not be negative")
        variance = T.full_like(input, float(var))
    elif var.shape != input.shape:
        if var.shape == input.shape[:-1]:
            variance = variance.unsqueeze(-1)
        elif var.ndim != input.ndim or [v for v, e in zip(var.shape, input.shape, strict=True) if v != e] != [1]:
            raise ShapeError(
                f"gaussian_nll_loss: var of shape {show(var.shape)} must be {show(input.shape)}, or that with one "
                "extent 1 or the last left out"
            )
    if state.capture is None and (as_array(variance.detach()) < 0).any():
        raise ShapeError("gaussian_nll_loss: var has negative entries")
    held = variance.detach()
    bounded = variance + (held.clamp(min=eps) - held)
    difference = input - target
    losses = 0.5 * (bounded.log() + difference * difference / bounded)
    if full:
        losses = losses + 0.5 * math.log(2 * math.pi)
    return reduced(losses, reduction)


def check_targets(function: str, target: Any, lowest: int, classes: int) -> None:
    """Refuses class numbers outside `lowest` to `classes - 1`; inside a capture nothing is known.

    Raises:
        TypeError: not a tensor. RuntimeError: not int64. ShapeError: out of range.
    """
    need_tensor(target, "target", function)
    if target.dtype is not int64:
        raise RuntimeError(f"{function}: target must be int64 class numbers, not {target.dtype}")
    if state.capture is None and target.numel():
        values = as_array(target)
        if values.min() < lowest or values.max() >= classes:
            raise ShapeError(
                f"{function}: target has classes from {values.min()} to {values.max()}; valid are {lowest} to "
                f"{classes - 1}"
            )


__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "gaussian_nll_loss", "huber_loss",
    "kl_div", "l1_loss", "mse_loss", "nll_loss", "poisson_nll_loss", "smooth_l1_loss",
]  # fmt: skip
