"""Pooling layers."""

from __future__ import annotations

from collections.abc import Sequence

from juanji.nn import functional as F
from juanji.nn.module import Module
from juanji.tensors import Tensor


class MaxPool2d(Module):
    """Largest value of each window: (N, C, H, W) to (N, C, H', W'); arguments as in `functional.max_pool2d`.

    >>> import juanji as jj
    >>> layer = jj.nn.MaxPool2d(2)
    >>> layer
    MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)
    >>> tuple(layer(jj.zeros(1, 3, 28, 28)).shape)
    (1, 3, 14, 14)
    """

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Pool (N, C, H, W) or (C, H, W)."""
        output: Tensor | tuple[Tensor, Tensor] = F.max_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class AvgPool2d(Module):
    """Mean of each window: (N, C, H, W) to (N, C, H', W'); arguments as in `functional.avg_pool2d`.

    >>> import juanji as jj
    >>> tuple(jj.nn.AvgPool2d(3, stride=2)(jj.zeros(1, 4, 9, 9)).shape)
    (1, 4, 4, 4)
    """

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        """Pool (N, C, H, W) or (C, H, W)."""
        output: Tensor = F.avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
