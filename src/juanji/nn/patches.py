"""Windows as columns, and their sum, as layers."""

from __future__ import annotations

from collections.abc import Sequence

from juanji.nn import functional as F
from juanji.nn.module import Module
from juanji.tensors import Tensor

Size = int | Sequence[int]


class Unfold(Module):
    """The windows of a convolution, one in a column: (N, C, H, W) to (N, C · kh · kw, L). See `functional.unfold`.

    >>> import juanji as jj
    >>> tuple(jj.nn.Unfold(3, padding=1)(jj.zeros(2, 5, 4, 6)).shape)
    (2, 45, 24)
    """

    def __init__(self, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1) -> None:
        super().__init__()
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        """Columns of (N, C, H, W) or (C, H, W)."""
        output: Tensor = F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Fold(Module):
    """Columns of windows added up: (N, C · kh · kw, L) to (N, C, *output_size). See `functional.fold`.

    >>> import juanji as jj
    >>> tuple(jj.nn.Fold((4, 6), 3, padding=1)(jj.zeros(2, 45, 24)).shape)
    (2, 5, 4, 6)
    """

    def __init__(
        self, output_size: Size, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
    ) -> None:
        super().__init__()
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        """Images of (N, C · kh · kw, L) or (C · kh · kw, L)."""
        output: Tensor = F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"padding={self.padding}, stride={self.stride}"
        )


__all__ = ["Fold", "Unfold"]
