"""Layers without state, as functions: `import juanji.nn.functional as F`. Signatures are PyTorch's.

Most are the functions of `juanji.tensors` under the names by which networks know them.
"""

from __future__ import annotations

import warnings
from typing import Any

from juanji import tensors as T
from juanji.dtypes import DType
from juanji.errors import ShapeError
from juanji.tensors import (
    Tensor,
    avg_pool2d,
    conv2d,
    cross_entropy,
    dropout,
    linear,
    max_pool2d,
    nll_loss,
    one_hot,
    sigmoid,
    tanh,
)
from juanji.tensors.base import need_tensor


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(input, 0), elementwise; `inplace` overwrites the input.

    Raises:
        TypeError: `input` is no tensor.

    >>> import juanji as jj
    >>> relu(jj.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    need_tensor(input, "input", "relu")
    x: Any = input
    result: Tensor = x.relu_() if inplace else x.relu()
    return result


def softmax(input: Tensor, dim: int | None = None, *, dtype: DType | None = None) -> Tensor:
    """exp(input) divided by its sum along `dim`; `dtype` converts the input first.

    Raises:
        TypeError: `input` is no tensor, or `dim` is not given.

    >>> import juanji as jj
    >>> softmax(jj.tensor([0.0, 0.0]), dim=0)
    tensor([0.5000, 0.5000])
    """
    result: Tensor = T.softmax(input, _dimension("softmax", dim), dtype)
    return result


def log_softmax(input: Tensor, dim: int | None = None, *, dtype: DType | None = None) -> Tensor:
    """The logarithm of `softmax`, computed without overflow; arguments as there.

    >>> import juanji as jj
    >>> log_softmax(jj.tensor([1000.0, 1000.0]), dim=0)
    tensor([-0.6931, -0.6931])
    """
    result: Tensor = T.log_softmax(input, _dimension("log_softmax", dim), dtype)
    return result


def _dimension(function: str, dim: int | None) -> int:
    if dim is None:
        raise TypeError(f"{function}() needs dim, the dimension that sums to one (1 for a batch of scores)")
    return dim


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


__all__ = [
    "avg_pool2d",
    "conv2d",
    "cross_entropy",
    "dropout",
    "linear",
    "log_softmax",
    "max_pool2d",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "relu",
    "sigmoid",
    "softmax",
    "tanh",
]
