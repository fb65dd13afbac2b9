"""Losses as functions."""

from __future__ import annotations

import warnings
from typing import Any

from juanji import tensors as T
from juanji.errors import ShapeError
from juanji.tensors import Tensor, cross_entropy, nll_loss
from juanji.tensors.base import need_tensor


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    weight: Any = None,
) -> Tensor:
    """Squared difference: its mean, its sum, or with "none" each.

    `weight`, of the input's shape, multiplies each; the mean is then the weighted one. Tensors of different
    shapes broadcast, with a warning.

    Raises:
        ShapeError: shapes that do not broadcast. ValueError: another `reduction`.

    >>> import juanji as jj
    >>> mse_loss(jj.tensor([1.0, 2.0]), jj.tensor([1.0, 4.0]))
    tensor(2.)
    """
    need_tensor(input, "input", "mse_loss")
    need_tensor(target, "target", "mse_loss")
    if input.shape != target.shape:
        warnings.warn(
            f"mse_loss: the target's shape {tuple(target.shape)} differs from the input's "
            f"{tuple(input.shape)}; broadcasting them is likely to give wrong results",
            stacklevel=2,
        )
    result: Tensor
    if weight is None or reduction != "mean":
        result = T.mse_loss(input, target, reduction=reduction, weight=weight)
    else:
        if weight.shape != input.shape:
            raise ShapeError(f"mse_loss: weight {weight.shape} must have the input's shape {input.shape}")
        result = T.mse_loss(input, target, reduction="sum", weight=weight) / weight.sum()
    return result


__all__ = ["cross_entropy", "mse_loss", "nll_loss"]
