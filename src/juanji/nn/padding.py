"""Padding and rearranging pixels, as layers."""

from __future__ import annotations

from collections.abc import Sequence

from juanji.nn import functional as F
from juanji.nn.module import Module
from juanji.spec import numbers
from juanji.tensors import Tensor


class _Pad(Module):
    """What the layers share: (before, after) of each of the last `_rank` dimensions, the last one first."""

    _rank = 1
    _mode = "constant"

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        self.padding = numbers(padding, 2 * self._rank, "padding", -(2**62))

    def forward(self, input: Tensor) -> Tensor:
        """Pad (N, C, ...) or (C, ...)."""
        return F.pad(input, self.padding, self._mode)

    def extra_repr(self) -> str:
        """The padding."""
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        """Pad the last dimensions of any shape."""
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"padding={self.padding}, value={self.value}"


class _ZeroPad(_ConstantPad):
    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        """The padding."""
        return f"{self.padding}"


class ConstantPad1d(_ConstantPad):
    """`value` around the last dimension; negative paddings cut."""

    _rank = 1


class ConstantPad2d(_ConstantPad):
    """`value` around the last two dimensions; negative paddings cut."""

    _rank = 2


class ConstantPad3d(_ConstantPad):
    """`value` around the last three dimensions; negative paddings cut."""

    _rank = 3


class ZeroPad1d(_ZeroPad):
    """Zeros around the last dimension; negative paddings cut."""

    _rank = 1


class ZeroPad2d(_ZeroPad):
    """Zeros around the last two dimensions; negative paddings cut."""

    _rank = 2


class ZeroPad3d(_ZeroPad):
    """Zeros around the last three dimensions; negative paddings cut."""

    _rank = 3


class ReflectionPad1d(_Pad):
    """The last dimension mirrored at the borders, which are not repeated.

    >>> import juanji as jj
    >>> jj.nn.ReflectionPad1d(2)(jj.tensor([[0.0, 1.0, 2.0]]))
    tensor([[2., 1., 0., 1., 2., 1., 0.]])
    """

    _rank = 1
    _mode = "reflect"


class ReflectionPad2d(_Pad):
    """The last two dimensions mirrored at the borders, which are not repeated."""

    _rank = 2
    _mode = "reflect"


class ReflectionPad3d(_Pad):
    """The last three dimensions mirrored at the borders, which are not repeated."""

    _rank = 3
    _mode = "reflect"


class ReplicationPad1d(_Pad):
    """The last dimension extended by the elements at the borders."""

    _rank = 1
    _mode = "replicate"


class ReplicationPad2d(_Pad):
    """The last two dimensions extended by the elements at the borders."""

    _rank = 2
    _mode = "replicate"


class ReplicationPad3d(_Pad):
    """The last three dimensions extended by the elements at the borders."""

    _rank = 3
    _mode = "replicate"


class CircularPad1d(_Pad):
    """The last dimension extended by what is at the other end."""

    _rank = 1
    _mode = "circular"


class CircularPad2d(_Pad):
    """The last two dimensions extended by what is at the other end."""

    _rank = 2
    _mode = "circular"


class CircularPad3d(_Pad):
    """The last three dimensions extended by what is at the other end."""

    _rank = 3
    _mode = "circular"


class PixelShuffle(Module):
    """Channels become pixels: (N, C r^2, H, W) to (N, C, H r, W r) with r = `upscale_factor`."""

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        """Rearrange."""
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """Pixels become channels: (N, C, H r, W r) to (N, C r^2, H, W) with r = `downscale_factor`."""

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Tensor:
        """Rearrange."""
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """The channels of (N, C, ...) dealt out: one of each of the `groups` in turn."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:
        """Rearrange."""
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"groups={self.groups}"


__all__ = [
    "ChannelShuffle",
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "PixelShuffle",
    "PixelUnshuffle",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]
