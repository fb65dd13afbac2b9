"""Convolution layers of one to three dimensions, and their transposes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import juanji.tensors as T
from juanji.dtypes import DType
from juanji.nn import functional as F
from juanji.nn import init
from juanji.nn._arguments import integer
from juanji.nn.module import Module
from juanji.nn.parameter import Parameter
from juanji.spec import Shape, numbers
from juanji.tensors import Tensor
from juanji.tensors.convolution import output_padding_for, same_padding

Size = int | Sequence[int]
MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Module):
    """What all convolution layers have: arguments, parameters and how they begin."""

    rank: ClassVar[int]
    transposed: ClassVar[bool] = False
    weight: Parameter
    bias: Parameter | None
    padding: str | Shape

    def _prepare(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size,
        padding: str | Size,
        dilation: Size,
        groups: int,
        padding_mode: str,
    ) -> None:
        """Checks the arguments and keeps them under PyTorch's names."""
        self.groups = integer("groups", groups, 1)
        self.in_channels = self._channels("in_channels", in_channels)
        self.out_channels = self._channels("out_channels", out_channels)
        self.kernel_size = numbers(kernel_size, self.rank, "kernel_size", 1)
        self.stride = numbers(stride, self.rank, "stride", 1)
        self.dilation = numbers(dilation, self.rank, "dilation", 1)
        self.output_padding: Shape = (0,) * self.rank
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string {padding!r}, should be one of 'same', 'valid'")
            if padding == "same" and any(s != 1 for s in self.stride):
                raise ValueError(f"padding='same' is not supported for strided convolutions, got stride={stride}")
            self.padding = padding
        else:
            self.padding = numbers(padding, self.rank, "padding")
        if padding_mode not in MODES:
            raise ValueError(f"padding_mode must be one of {', '.join(map(repr, MODES))}, but got {padding_mode!r}")
        self.padding_mode = padding_mode

    def _channels(self, name: str, value: int) -> int:
        number = integer(name, value, 1)
        if number % self.groups:
            raise ValueError(f"{name} must be divisible by groups, got {number} and {self.groups}")
        return number

    def _make_parameters(self, bias: bool, device: Any, dtype: DType | None) -> None:
        T.check_device(device)
        channels = (self.out_channels, self.in_channels // self.groups)
        if self.transposed:
            channels = (self.in_channels, self.out_channels // self.groups)
        self.weight = Parameter(T.empty(*channels, *self.kernel_size, dtype=dtype))
        if bias:
            self.bias = Parameter(T.empty(self.out_channels, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial weights and biases, uniform over ±1 / sqrt(elements of a kernel)."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        none, one = (0,) * self.rank, (1,) * self.rank
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != none:
            text += f", padding={self.padding}"
        if self.dilation != one:
            text += f", dilation={self.dilation}"
        if self.output_padding != none:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class _Conv(_Convolution):
    """A convolution: the layers differ in their rank."""

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
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        self._prepare(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        self._make_parameters(bias, device, dtype)

    def _borders(self) -> list[int]:
        """How much to extend each dimension by, the last one first, as `functional.pad` takes it."""
        if self.padding == "valid":
            return [0, 0] * self.rank
        if self.padding == "same":
            return [amount for pair in reversed(same_padding(self.kernel_size, self.dilation)) for amount in pair]
        return [amount for amount in reversed(numbers(self.padding, self.rank, "padding")) for _ in range(2)]

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (N, in_channels, ...) or (in_channels, ...)."""
        return self._conv_forward(input, self.weight, self.bias)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The same with other numbers."""
        padding: str | Shape = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._borders(), mode=self.padding_mode), (0,) * self.rank
        function: Any = (F.conv1d, F.conv2d, F.conv3d)[self.rank - 1]
        output: Tensor = function(input, weight, bias, self.stride, padding, self.dilation, self.groups)
        return output


class Conv1d(_Conv):
    """One-dimensional convolution: (N, in_channels, L) to (N, out_channels, L'). Arguments as in `Conv2d`.

    >>> import juanji as jj
    >>> tuple(jj.nn.Conv1d(4, 6, 3, stride=2)(jj.zeros(2, 4, 9)).shape)
    (2, 6, 4)
    """

    rank = 1


class Conv2d(_Conv):
    """Two-dimensional convolution: (N, in_channels, H, W) to (N, out_channels, H', W'); N may be absent.

    `weight` is (out_channels, in_channels / groups, kh, kw), `bias` (out_channels) or None; both start
    uniform over ±1 / sqrt(in_channels / groups · kh · kw). `padding` is an amount, a pair, "valid" or
    "same"; `padding_mode` says what is there: "zeros", or the input mirrored ("reflect", "replicate") or
    continued from its other end ("circular"). Raises `ValueError` when the channels are not divisible by
    `groups` or an argument is out of range.

    >>> import juanji as jj
    >>> layer = jj.nn.Conv2d(1, 6, 3, padding=1)
    >>> layer
    Conv2d(1, 6, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    >>> tuple(layer(jj.zeros(2, 1, 28, 28)).shape)
    (2, 6, 28, 28)
    """

    rank = 2


class Conv3d(_Conv):
    """Three-dimensional convolution: (N, in_channels, D, H, W) to (N, out_channels, D', H', W'). As `Conv2d`.

    >>> import juanji as jj
    >>> tuple(jj.nn.Conv3d(1, 2, (1, 3, 3), padding="same")(jj.zeros(1, 4, 5, 6)).shape)
    (2, 4, 5, 6)
    """

    rank = 3


class _ConvTranspose(_Convolution):
    """A transposed convolution: the layers differ in their rank."""

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        if padding_mode != "zeros":
            raise ValueError(f'Only "zeros" padding mode is supported for {type(self).__name__}, not {padding_mode!r}')
        if isinstance(padding, str):
            raise TypeError(f"padding={padding!r} must be integers: a transposed convolution has no 'same' or 'valid'")
        self._prepare(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        self.output_padding = numbers(output_padding, self.rank, "output_padding")
        self._make_parameters(bias, device, dtype)

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Upsample (N, in_channels, ...) or (in_channels, ...); `output_size` replaces `output_padding`."""
        extra = self.output_padding
        if output_size is not None:
            padding = numbers(self.padding, self.rank, "padding")
            size = input.shape[-self.rank :]
            extra = output_padding_for(output_size, size, self.kernel_size, self.stride, padding, self.dilation)
        function: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[self.rank - 1]
        output: Tensor = function(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )
        return output


class ConvTranspose1d(_ConvTranspose):
    """One-dimensional transposed convolution: (N, in_channels, L) to (N, out_channels, L'). As `ConvTranspose2d`.

    >>> import juanji as jj
    >>> tuple(jj.nn.ConvTranspose1d(4, 6, 3, stride=2)(jj.zeros(2, 4, 9)).shape)
    (2, 6, 19)
    """

    rank = 1


class ConvTranspose2d(_ConvTranspose):
    """Two-dimensional transposed convolution: what the gradient of `Conv2d` does, as a layer that upsamples.

    `weight` is (in_channels, out_channels / groups, kh, kw). A convolution of stride s makes s input sizes equal; which
    of them comes out is said by `output_padding`, or in the call by `output_size`. Raises `ValueError` when the
    channels are not divisible by `groups` or an argument is out of range.

    >>> import juanji as jj
    >>> layer = jj.nn.ConvTranspose2d(6, 1, 3, stride=2, padding=1)
    >>> tuple(layer(jj.zeros(2, 6, 14, 14)).shape)
    (2, 1, 27, 27)
    >>> tuple(layer(jj.zeros(2, 6, 14, 14), output_size=(28, 28)).shape)
    (2, 1, 28, 28)
    """

    rank = 2


class ConvTranspose3d(_ConvTranspose):
    """Three-dimensional transposed convolution: (N, in_channels, D, H, W) to (N, out_channels, ...).

    Arguments as in `ConvTranspose2d`.

    >>> import juanji as jj
    >>> tuple(jj.nn.ConvTranspose3d(2, 1, 2, stride=2)(jj.zeros(1, 2, 2, 3, 4)).shape)
    (1, 1, 4, 6, 8)
    """

    rank = 3


__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]
