"""Fully connected layers and layers that only change the shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import juanji.tensors as T
from juanji.dtypes import DType
from juanji.nn import functional as F
from juanji.nn import init
from juanji.nn._arguments import integer
from juanji.nn.module import Module
from juanji.nn.parameter import Parameter
from juanji.tensors import Tensor
from juanji.tensors.base import need_tensor


class Linear(Module):
    """`input @ weight.T + bias`: (..., in_features) to (..., out_features).

    `weight` is (out_features, in_features), `bias` (out_features) or None; both start uniform over
    ±1 / sqrt(in_features).

    >>> import juanji as jj
    >>> tuple(jj.nn.Linear(3, 5)(jj.zeros(2, 3)).shape)
    (2, 5)
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        T.check_device(device)
        self.in_features = integer("in_features", in_features, 1)
        self.out_features = integer("out_features", out_features, 1)
        self.weight = Parameter(T.empty(self.out_features, self.in_features, dtype=dtype))
        if bias:
            self.bias = Parameter(T.empty(self.out_features, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial weights and biases."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        output: Tensor = F.linear(input, self.weight, self.bias)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Identity(Module):
    """Gives its input back; takes and ignores any arguments.

    >>> from juanji import nn
    >>> nn.Identity(54, unused=True)
    Identity()
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        """Return `input`."""
        return input


class Flatten(Module):
    """Joins the dimensions from `start_dim` to `end_dim` (both included) into one.

    >>> import juanji as jj
    >>> tuple(jj.nn.Flatten()(jj.zeros(2, 3, 4, 5)).shape)
    (2, 60)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Tensor) -> Tensor:
        """Flatten `input`."""
        need_tensor(input, "input", "Flatten")
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Splits dimension `dim` into dimensions of the sizes given, of which one may be -1.

    >>> import juanji as jj
    >>> tuple(jj.nn.Unflatten(1, (3, 4, -1))(jj.zeros(2, 60)).shape)
    (2, 3, 4, 5)
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        if isinstance(unflattened_size, str) or not isinstance(unflattened_size, Sequence):
            raise TypeError(f"unflattened_size must be a sequence of integers, got {unflattened_size!r}")
        self.dim = integer("dim", dim, -64)
        self.unflattened_size = tuple(integer("unflattened_size", size, -1) for size in unflattened_size)
        if self.unflattened_size.count(-1) > 1:
            raise ValueError(f"only one size of unflattened_size may be -1, got {self.unflattened_size}")

    def forward(self, input: Tensor) -> Tensor:
        """Split the dimension; raises `ShapeError` when its extent is not the product of the sizes."""
        need_tensor(input, "input", "Unflatten")
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
