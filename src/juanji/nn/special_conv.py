"""Convolution layers beyond the plain one: depthwise-separable, deformable, dynamic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import juanji.tensors as T
from juanji.dtypes import DType
from juanji.errors import ShapeError
from juanji.nn import functional as F
from juanji.nn import init
from juanji.nn._arguments import integer
from juanji.nn.conv import Conv2d
from juanji.nn.linear import Linear
from juanji.nn.module import Module
from juanji.nn.parameter import Parameter
from juanji.spec import numbers
from juanji.tensors import Tensor
from juanji.tensors.deformable import deform_conv2d

Size = int | Sequence[int]


class SeparableConv2d(Module):
    """Depthwise-separable convolution (Sifre 2014; Howard et al. 2017): one kernel a channel, then 1 x 1 across them.

    (N, in_channels, H, W) to (N, out_channels, H', W') with kh · kw + out_channels weights an input channel, where
    `Conv2d` has kh · kw · out_channels. `depthwise` makes `depth_multiplier` images of each channel, `pointwise` mixes
    them; nothing is between the two, and `bias` belongs to the second.

    >>> import juanji as jj
    >>> layer = jj.nn.SeparableConv2d(8, 16, 3, padding=1)
    >>> tuple(layer(jj.zeros(2, 8, 5, 5)).shape), sum(p.numel() for p in layer.parameters())
    ((2, 16, 5, 5), 216)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: str | Size = 0,
        dilation: Size = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        depth_multiplier: int = 1,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        inner = integer("in_channels", in_channels, 1) * integer("depth_multiplier", depth_multiplier, 1)
        self.depthwise = Conv2d(
            in_channels, inner, kernel_size, stride, padding, dilation, in_channels, False, padding_mode, device, dtype
        )
        self.pointwise = Conv2d(inner, out_channels, 1, bias=bias, device=device, dtype=dtype)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (N, in_channels, H, W) or (in_channels, H, W)."""
        output: Tensor = self.pointwise(self.depthwise(input))
        return output


class DeformConv2d(Module):
    """Deformable convolution: its call takes offsets, and masks, beside the image. See `functional.deform_conv2d`.

    Arguments and parameters are those of `torchvision.ops.DeformConv2d`. Offsets usually come from a `Conv2d` of the
    same geometry that begins at zero.

    >>> import juanji as jj
    >>> layer = jj.nn.DeformConv2d(4, 6, 3, padding=1)
    >>> tuple(layer(jj.ones(1, 4, 5, 5), offset=jj.zeros(1, 18, 5, 5)).shape)
    (1, 6, 5, 5)
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.groups = integer("groups", groups, 1)
        self.in_channels = integer("in_channels", in_channels, 1)
        self.out_channels = integer("out_channels", out_channels, 1)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % self.groups:
                raise ValueError(f"{name} must be divisible by groups, got {channels} and {groups}")
        self.kernel_size = numbers(kernel_size, 2, "kernel_size", 1)
        self.stride, self.padding = numbers(stride, 2, "stride", 1), numbers(padding, 2, "padding")
        self.dilation = numbers(dilation, 2, "dilation", 1)
        self.weight = Parameter(T.empty(out_channels, in_channels // groups, *self.kernel_size))
        if bias:
            self.bias = Parameter(T.empty(out_channels))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial weights and biases, as `Conv2d` does."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolve (N, in_channels, H, W) at places moved by `offset`, times `mask`."""
        output: Tensor = deform_conv2d(
            input, offset, self.weight, self.bias, self.stride, self.padding, self.dilation, mask
        )
        return output

    def extra_repr(self) -> str:
        """The arguments, as torchvision prints them."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0, 0):
            text += f", padding={self.padding}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text + (", bias=False" if self.bias is None else "")


class DynamicConv2d(Module):
    """A convolution whose kernel depends on its input (Chen et al. 2020, "Attention over Convolution Kernels").

    `kernels` weights and biases are mixed anew for each image: its means over the plane go through two linear layers
    and a softmax, which gives the shares. A high `temperature` makes the shares nearly equal, as the paper advises for
    the beginning of training; lower it later (it is a plain attribute).

    `weight` is (kernels, out_channels, in_channels / groups, kh, kw), `bias` (kernels, out_channels) or None. All
    images are convolved in one call, as groups. Raises `ValueError` for arguments out of range.

    >>> import juanji as jj
    >>> layer = jj.nn.DynamicConv2d(4, 6, 3, padding=1, kernels=3)
    >>> tuple(layer(jj.randn(2, 4, 5, 5)).shape)
    (2, 6, 5, 5)
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: str | Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        kernels: int = 4,
        reduction: int = 4,
        temperature: float = 30.0,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        # Its checks and its first weights are those of a plain layer, kernel by kernel.
        plain = [
            Conv2d(
                in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, "zeros", device, dtype
            )
            for _ in range(integer("kernels", kernels, 1))
        ]
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature!r}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.padding = plain[0].kernel_size, plain[0].stride, plain[0].padding
        self.dilation, self.temperature = plain[0].dilation, float(temperature)
        self.weight = Parameter(T.stack([layer.weight.detach() for layer in plain]))
        if bias:
            self.bias = Parameter(T.stack([layer.bias.detach() for layer in plain if layer.bias is not None]))
        else:
            self.register_parameter("bias", None)
        hidden = max(1, in_channels // integer("reduction", reduction, 1))
        self.squeeze = Linear(in_channels, hidden, bias=False, dtype=dtype)
        self.excite = Linear(hidden, kernels, dtype=dtype)

    def attention(self, input: Tensor) -> Tensor:
        """The share of each kernel for each image: (N, kernels), rows of which sum to 1."""
        means: Any = input.mean((2, 3))
        shares: Tensor = F.softmax(self.excite(F.relu(self.squeeze(means))) / self.temperature, dim=1)
        return shares

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (N, in_channels, H, W), or one image (in_channels, H, W), each with a kernel of its own."""
        batched = input.ndim == 4
        images: Any = input if batched else input.unsqueeze(0)
        if images.ndim != 4 or images.shape[1] != self.in_channels:
            raise ShapeError(f"input of shape {tuple(input.shape)} must be (N, {self.in_channels}, H, W) or without N")
        if not images.shape[0]:
            stride, padding, dilation = self.stride, self.padding, self.dilation
            nothing: Tensor = F.conv2d(images, self.weight[0], None, stride, padding, dilation, self.groups)
            return nothing
        shares: Any = self.attention(images)
        n = images.shape[0]
        kernels: Any = (shares @ self.weight.flatten(1)).reshape(n * self.out_channels, *self.weight.shape[2:])
        biases = None if self.bias is None else (shares @ self.bias).flatten()
        # One image with n times the channels and groups.
        side_by_side = images.reshape(1, n * self.in_channels, *images.shape[2:])
        result: Any = F.conv2d(side_by_side, kernels, biases, self.stride, self.padding, self.dilation, n * self.groups)
        return result.reshape(n, self.out_channels, *result.shape[2:]) if batched else result[0]  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """The arguments."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text + f", kernels={self.weight.shape[0]}, temperature={self.temperature}"


__all__ = ["DeformConv2d", "DynamicConv2d", "SeparableConv2d"]
