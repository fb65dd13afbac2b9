"""Pooling layers; arguments mean what they mean in `functional`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from juanji.nn import functional as F
from juanji.nn.module import Module
from juanji.spec import numbers
from juanji.tensors import Tensor

Size = int | Sequence[int]


class _MaxPool(Module):
    """Largest value of each window."""

    _pool: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
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
        """Pool a batch or one element of it; with `return_indices` also where the maxima are."""
        output: Tensor | tuple[Tensor, Tensor] = type(self)._pool(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """Largest value of each window: (N, C, L) to (N, C, L'); arguments as in `functional.max_pool1d`.

    >>> import juanji as jj
    >>> tuple(jj.nn.MaxPool1d(3, stride=2, ceil_mode=True)(jj.zeros(1, 3, 8)).shape)
    (1, 3, 4)
    """

    _pool = staticmethod(F.max_pool1d)


class MaxPool2d(_MaxPool):
    """Largest value of each window: (N, C, H, W) to (N, C, H', W'); arguments as in `functional.max_pool2d`.

    >>> import juanji as jj
    >>> layer = jj.nn.MaxPool2d(2)
    >>> layer
    MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)
    >>> tuple(layer(jj.zeros(1, 3, 28, 28)).shape)
    (1, 3, 14, 14)
    """

    _pool = staticmethod(F.max_pool2d)


class MaxPool3d(_MaxPool):
    """Largest value of each window: (N, C, D, H, W) to (N, C, D', H', W'); arguments as in `functional.max_pool3d`.

    >>> import juanji as jj
    >>> tuple(jj.nn.MaxPool3d((1, 2, 2))(jj.zeros(1, 3, 5, 8, 8)).shape)
    (1, 3, 5, 4, 4)
    """

    _pool = staticmethod(F.max_pool3d)


class AvgPool1d(Module):
    """Mean of each window: (N, C, L) to (N, C, L'); arguments as in `functional.avg_pool1d`.

    >>> import juanji as jj
    >>> jj.nn.AvgPool1d(3, stride=2)
    AvgPool1d(kernel_size=(3,), stride=(2,), padding=(0,))
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = numbers(kernel_size, 1, "kernel_size", 1)
        self.stride = numbers(kernel_size if stride is None else stride, 1, "stride", 1)
        self.padding = numbers(padding, 1, "padding")
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        """Pool (N, C, L) or (C, L)."""
        output: Tensor = F.avg_pool1d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AvgPool(Module):
    """Mean of each window of two or three dimensions."""

    _pool: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
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
        """Pool a batch or one element of it."""
        output: Tensor = type(self)._pool(
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


class AvgPool2d(_AvgPool):
    """Mean of each window: (N, C, H, W) to (N, C, H', W'); arguments as in `functional.avg_pool2d`.

    >>> import juanji as jj
    >>> tuple(jj.nn.AvgPool2d(3, stride=2)(jj.zeros(1, 4, 9, 9)).shape)
    (1, 4, 4, 4)
    """

    _pool = staticmethod(F.avg_pool2d)


class AvgPool3d(_AvgPool):
    """Mean of each window: (N, C, D, H, W) to (N, C, D', H', W'); arguments as in `functional.avg_pool3d`.

    >>> import juanji as jj
    >>> tuple(jj.nn.AvgPool3d(2)(jj.zeros(1, 4, 4, 8, 8)).shape)
    (1, 4, 2, 4, 4)
    """

    _pool = staticmethod(F.avg_pool3d)


class _LPPool(Module):
    """p-norm of each window."""

    _pool: ClassVar[Callable[..., Any]]

    def __init__(
        self, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
    ) -> None:
        super().__init__()
        self.norm_type = norm_type
        self.kernel_size = kernel_size
        self.stride = stride
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        """Pool a batch or one element of it."""
        output: Tensor = type(self)._pool(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"ceil_mode={self.ceil_mode}"
        )


class LPPool1d(_LPPool):
    """p-norm of each window: (N, C, L) to (N, C, L'); arguments as in `functional.lp_pool1d`.

    >>> import juanji as jj
    >>> jj.nn.LPPool1d(2, 2)(jj.tensor([[3.0, 4.0]]))
    tensor([[5.]])
    """

    _pool = staticmethod(F.lp_pool1d)


class LPPool2d(_LPPool):
    """p-norm of each window: (N, C, H, W) to (N, C, H', W'); arguments as in `functional.lp_pool2d`.

    >>> import juanji as jj
    >>> jj.nn.LPPool2d(2, 3, stride=2)
    LPPool2d(norm_type=2, kernel_size=3, stride=2, ceil_mode=False)
    """

    _pool = staticmethod(F.lp_pool2d)


class LPPool3d(_LPPool):
    """p-norm of each window: (N, C, D, H, W) to (N, C, D', H', W'); arguments as in `functional.lp_pool3d`.

    >>> import juanji as jj
    >>> jj.nn.LPPool3d(1, 2)(jj.ones(1, 2, 2, 2)).item()
    8.0
    """

    _pool = staticmethod(F.lp_pool3d)


class _AdaptivePool(Module):
    """Pooling to a given size."""

    _pool: ClassVar[Callable[..., Any]]

    def __init__(self, output_size: int | Sequence[int | None] | None) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        """Pool a batch or one element of it."""
        output: Tensor = type(self)._pool(input, self.output_size)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptivePool):
    """Mean of windows that divide a line: (N, C, L) to (N, C, output_size).

    >>> import juanji as jj
    >>> jj.nn.AdaptiveAvgPool1d(2)(jj.arange(5.0).reshape(1, 5))
    tensor([[1., 3.]])
    """

    _pool = staticmethod(F.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptivePool):
    """Mean of windows that divide a plane: (N, C, H, W) to (N, C, *output_size); 1 is global average pooling.

    >>> import juanji as jj
    >>> tuple(jj.nn.AdaptiveAvgPool2d((None, 7))(jj.zeros(1, 64, 8, 9)).shape)
    (1, 64, 8, 7)
    """

    _pool = staticmethod(F.adaptive_avg_pool2d)


class AdaptiveAvgPool3d(_AdaptivePool):
    """Mean of windows that divide a volume: (N, C, D, H, W) to (N, C, *output_size).

    >>> import juanji as jj
    >>> tuple(jj.nn.AdaptiveAvgPool3d((5, 7, 9))(jj.zeros(1, 2, 8, 9, 10)).shape)
    (1, 2, 5, 7, 9)
    """

    _pool = staticmethod(F.adaptive_avg_pool3d)


class _AdaptiveMaxPool(_AdaptivePool):
    """Maxima of windows, with their positions if asked for."""

    def __init__(self, output_size: int | Sequence[int | None] | None, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        """Pool a batch or one element of it; with `return_indices` also where the maxima are."""
        return type(self)._pool(input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Maximum of windows that divide a line: (N, C, L) to (N, C, output_size).

    >>> import juanji as jj
    >>> jj.nn.AdaptiveMaxPool1d(2)(jj.arange(5.0).reshape(1, 5))
    tensor([[2., 4.]])
    """

    _pool = staticmethod(F.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Maximum of windows that divide a plane: (N, C, H, W) to (N, C, *output_size).

    >>> import juanji as jj
    >>> jj.nn.AdaptiveMaxPool2d((5, 7))
    AdaptiveMaxPool2d(output_size=(5, 7))
    """

    _pool = staticmethod(F.adaptive_max_pool2d)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Maximum of windows that divide a volume: (N, C, D, H, W) to (N, C, *output_size).

    >>> import juanji as jj
    >>> tuple(jj.nn.AdaptiveMaxPool3d(2)(jj.zeros(1, 2, 3, 4, 5)).shape)
    (1, 2, 2, 2, 2)
    """

    _pool = staticmethod(F.adaptive_max_pool3d)


class _MaxUnpool(Module):
    """The inverse of max pooling as far as there is one."""

    _pool: ClassVar[Callable[..., Any]]
    _rank: ClassVar[int]

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> None:
        super().__init__()
        self.kernel_size = numbers(kernel_size, self._rank, "kernel_size", 1)
        self.stride = numbers(kernel_size if stride is None else stride, self._rank, "stride", 1)
        self.padding = numbers(padding, self._rank, "padding")

    def forward(self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Write a batch, or one element of it, back where `indices` say."""
        output: Tensor = type(self)._pool(input, indices, self.kernel_size, self.stride, self.padding, output_size)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """The inverse of `MaxPool1d(return_indices=True)`: see `functional.max_unpool1d`.

    >>> import juanji as jj
    >>> pool, unpool = jj.nn.MaxPool1d(2, return_indices=True), jj.nn.MaxUnpool1d(2)
    >>> unpool(*pool(jj.tensor([[1.0, 5.0, 3.0, 2.0]])))
    tensor([[0., 5., 3., 0.]])
    """

    _pool = staticmethod(F.max_unpool1d)
    _rank = 1


class MaxUnpool2d(_MaxUnpool):
    """The inverse of `MaxPool2d(return_indices=True)`: see `functional.max_unpool2d`.

    >>> import juanji as jj
    >>> jj.nn.MaxUnpool2d(2, stride=(2, 1))
    MaxUnpool2d(kernel_size=(2, 2), stride=(2, 1), padding=(0, 0))
    """

    _pool = staticmethod(F.max_unpool2d)
    _rank = 2


class MaxUnpool3d(_MaxUnpool):
    """The inverse of `MaxPool3d(return_indices=True)`: see `functional.max_unpool3d`.

    >>> import juanji as jj
    >>> pool, unpool = jj.nn.MaxPool3d(2, return_indices=True), jj.nn.MaxUnpool3d(2)
    >>> tuple(unpool(*pool(jj.zeros(1, 1, 5, 4, 4)), output_size=(5, 4, 4)).shape)
    (1, 1, 5, 4, 4)
    """

    _pool = staticmethod(F.max_unpool3d)
    _rank = 3


__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]
