"""Bilinear layers and tables of vectors."""

from __future__ import annotations

import math

import juanji.tensors as T
from juanji.dtypes import DType
from juanji.errors import ShapeError
from juanji.nn import functional as F
from juanji.nn import init
from juanji.nn._arguments import integer
from juanji.nn.module import Module
from juanji.nn.parameter import Parameter
from juanji.spec import show
from juanji.tensors import Tensor
from juanji.tensors.base import need_tensor


class Bilinear(Module):
    """out[k] = sum over i, j of input1[i] weight[k, i, j] input2[j], plus bias[k].

    `weight` is (out_features, in1_features, in2_features), `bias` (out_features) or None; both start uniform over
    ±1 / sqrt(in1_features).

    >>> import juanji as jj
    >>> tuple(jj.nn.Bilinear(3, 4, 5)(jj.zeros(2, 3), jj.zeros(2, 4)).shape)
    (2, 5)
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        T.check_device(device)
        self.in1_features = integer("in1_features", in1_features, 1)
        self.in2_features = integer("in2_features", in2_features, 1)
        self.out_features = integer("out_features", out_features, 1)
        self.weight = Parameter(T.empty(self.out_features, self.in1_features, self.in2_features, dtype=dtype))
        if bias:
            self.bias = Parameter(T.empty(self.out_features, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial weights and biases."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """Map (..., in1_features) and (..., in2_features) to (..., out_features)."""
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Embedding(Module):
    """A table of `num_embeddings` vectors of `embedding_dim` numbers, read by their numbers.

    Arguments as in `functional.embedding`; `weight` starts normally distributed, the row `padding_idx` with zeros.

    >>> import juanji as jj
    >>> tuple(jj.nn.Embedding(10, 3)(jj.tensor([[1, 2], [9, 0]])).shape)
    (2, 2, 3)
    """

    weight: Parameter

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        T.check_device(device)
        if sparse:
            raise ValueError("Embedding: sparse=True is not available; gradients are dense")
        self.num_embeddings = integer("num_embeddings", num_embeddings, 1)
        self.embedding_dim = integer("embedding_dim", embedding_dim, 1)
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ValueError(f"Embedding: padding_idx={padding_idx} must be within num_embeddings={num_embeddings}")
            padding_idx %= num_embeddings
        self.padding_idx = padding_idx
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.sparse = sparse
        if _weight is None:
            self.weight = Parameter(T.empty(num_embeddings, embedding_dim, dtype=dtype), requires_grad=not _freeze)
            self.reset_parameters()
        else:
            if tuple(_weight.shape) != (num_embeddings, embedding_dim):
                raise ShapeError(
                    f"Embedding: weight of shape {show(_weight.shape)} must be {show((num_embeddings, embedding_dim))}"
                )
            self.weight = Parameter(_weight, requires_grad=not _freeze)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """A table over given vectors; `freeze` keeps them from learning.

        >>> import juanji as jj
        >>> jj.nn.Embedding.from_pretrained(jj.tensor([[1.0, 2.0]])).weight.requires_grad
        False
        """
        need_tensor(embeddings, "embeddings", "Embedding.from_pretrained")
        if embeddings.ndim != 2:
            raise ShapeError(f"Embedding: embeddings of shape {show(embeddings.shape)} must have 2 dimensions")
        rows, features = embeddings.shape
        return cls(
            rows,
            features,
            padding_idx,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            sparse,
            _weight=embeddings,
            _freeze=freeze,
        )

    def reset_parameters(self) -> None:
        """Draw new initial vectors."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with T.no_grad():
                self.weight[self.padding_idx].fill_(0)

    def forward(self, input: Tensor) -> Tensor:
        """Map class numbers (...) to vectors (..., embedding_dim)."""
        return F.embedding(
            input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse
        )

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        if self.padding_idx is not None:
            text += f", padding_idx={self.padding_idx}"
        if self.max_norm is not None:
            text += f", max_norm={self.max_norm}"
        if self.norm_type != 2:
            text += f", norm_type={self.norm_type}"
        if self.scale_grad_by_freq:
            text += f", scale_grad_by_freq={self.scale_grad_by_freq}"
        return text


__all__ = ["Bilinear", "Embedding"]
