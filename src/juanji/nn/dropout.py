"""Dropout as layers."""

from __future__ import annotations

from juanji.nn import functional as F
from juanji.nn.functional.dropping import check_probability
from juanji.nn.module import Module
from juanji.tensors import Tensor


class _Dropout(Module):
    """What the layers share. Raises `ValueError` unless 0 <= p <= 1."""

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        check_probability(p)
        self.p = p
        self.inplace = inplace

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """In training sets each value to zero with probability `p` and divides the others by 1 - p.

    Raises `ValueError` unless 0 <= p <= 1.

    >>> import juanji as jj
    >>> jj.nn.Dropout(0.2).eval()(jj.ones(3))
    tensor([1., 1., 1.])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.dropout(input, self.p, self.training, self.inplace)
        return output


class Dropout1d(_Dropout):
    """`Dropout` of whole channels of (N, C, L) or (C, L)."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop channels."""
        return F.dropout1d(input, self.p, self.training, self.inplace)


class Dropout2d(_Dropout):
    """`Dropout` of whole channels of (N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop channels."""
        return F.dropout2d(input, self.p, self.training, self.inplace)


class Dropout3d(_Dropout):
    """`Dropout` of whole channels of (N, C, D, H, W) or (C, D, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop channels."""
        return F.dropout3d(input, self.p, self.training, self.inplace)


class AlphaDropout(_Dropout):
    """Dropout that keeps mean 0 and variance 1: the companion of `SELU` (Klambauer et al. 2017)."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        return F.alpha_dropout(input, self.p, self.training, self.inplace)


class FeatureAlphaDropout(_Dropout):
    """`AlphaDropout` of whole channels of (N, C, ...)."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop channels."""
        return F.feature_alpha_dropout(input, self.p, self.training, self.inplace)


__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]
