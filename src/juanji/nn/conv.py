"""Convolution layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import juanji.tensors as T
from juanji.dtypes import DType
from juanji.nn import functional as F
from juanji.nn import init
from juanji.nn._arguments import integer, pair
from juanji.nn.module import Module
from juanji.nn.parameter import Parameter
from juanji.tensors import Tensor


class Conv2d(Module):
    """Two-dimensional convolution: (N, in_channels, H, W) to (N, out_channels, H', W').

    `weight` is (out_channels, in_channels / groups, kh, kw), `bias` (out_channels) or None; both start
    uniform over ±1 / sqrt(in_channels / groups · kh · kw). `padding` is an amount, a pair, "valid" or
    "same". Raises `ValueError` when the channels are not divisible by `groups` or an argument is out of
    range.

    >>> import juanji as jj
    >>> layer = jj.nn.Conv2d(1, 6, 3, padding=1)
    >>> layer
    Conv2d(1, 6, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    >>> tuple(layer(jj.zeros(2, 1, 28, 28)).shape)
    (2, 6, 28, 28)
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: str | int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        T.check_device(device)
        self.in_channels = integer("in_channels", in_channels, 1)
        self.out_channels = integer("out_channels", out_channels, 1)
        self.groups = integer("groups", groups, 1)
        if self.in_channels % self.groups:
            raise ValueError(f"in_channels must be divisible by groups, got {in_channels} and {groups}")
        if self.out_channels % self.groups:
            raise ValueError(f"out_channels must be divisible by groups, got {out_channels} and {groups}")
        self.kernel_size = pair("kernel_size", kernel_size, 1)
        self.stride = pair("stride", stride, 1)
        self.dilation = pair("dilation", dilation, 1)
        self.padding: str | tuple[int, int]
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string {padding!r}, should be one of 'same', 'valid'")
            if padding == "same" and self.stride != (1, 1):
                raise ValueError(f"padding='same' is not supported for strided convolutions, got stride={stride}")
            self.padding = padding
        else:
            self.padding = pair("padding", padding, 0)
        if padding_mode in ("reflect", "replicate", "circular"):
            raise ValueError(f"padding_mode={padding_mode!r} is not available yet: only 'zeros' is")
        if padding_mode != "zeros":
            raise ValueError(f"padding_mode must be 'zeros', got {padding_mode!r}")
        self.padding_mode = padding_mode
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.weight = Parameter(T.empty(*shape, dtype=dtype))
        if bias:
            self.bias = Parameter(T.empty(self.out_channels, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial weights and biases."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (N, in_channels, H, W) or (in_channels, H, W)."""
        output: Tensor = F.conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0, 0):
            text += f", padding={self.padding}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        return text
