"""Activations and dropout as layers."""

from __future__ import annotations

from juanji.nn import functional as F
from juanji.nn.module import Module
from juanji.tensors import Tensor


class ReLU(Module):
    """max(input, 0), elementwise.

    >>> import juanji as jj
    >>> jj.nn.ReLU()(jj.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        return F.relu(input, self.inplace)

    def extra_repr(self) -> str:
        """`inplace=True`, or nothing."""
        return "inplace=True" if self.inplace else ""


class Sigmoid(Module):
    """1 / (1 + exp(-input)), elementwise."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.sigmoid(input)
        return output


class Tanh(Module):
    """Hyperbolic tangent, elementwise."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.tanh(input)
        return output


class Softmax(Module):
    """exp(input) divided by its sum along `dim`, which must be given."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """Apply along `dim`."""
        return F.softmax(input, self.dim)

    def extra_repr(self) -> str:
        """`dim`."""
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """The logarithm of `Softmax`, computed without overflow; `dim` must be given."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """Apply along `dim`."""
        return F.log_softmax(input, self.dim)

    def extra_repr(self) -> str:
        """`dim`."""
        return f"dim={self.dim}"


class Dropout(Module):
    """In training sets each value to zero with probability `p` and divides the others by 1 - p.

    Raises `ValueError` unless 0 <= p <= 1.

    >>> import juanji as jj
    >>> jj.nn.Dropout(0.2).eval()(jj.ones(3))
    tensor([1., 1., 1.])
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p = p
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.dropout(input, self.p, self.training, self.inplace)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"p={self.p}, inplace={self.inplace}"
