"""Activations as functions."""

from __future__ import annotations

from typing import Any

from juanji import tensors as T
from juanji.dtypes import DType
from juanji.tensors import Tensor, sigmoid, tanh
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


__all__ = ["log_softmax", "relu", "sigmoid", "softmax", "tanh"]
