"""Layers that learn how many channels or features come in from their first input, or from a state that is loaded."""

from __future__ import annotations

from typing import Any, ClassVar

import juanji.tensors as T
from juanji.config import state
from juanji.dtypes import DType
from juanji.errors import ShapeError
from juanji.nn.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d, Size
from juanji.nn.linear import Linear
from juanji.nn.module import Module
from juanji.nn.normalisation import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
)
from juanji.nn.parameter import UninitializedBuffer, UninitializedParameter
from juanji.tensors import Tensor
from juanji.tensors.base import need_tensor


class _Lazy(Module):
    """What lazy layers share: the first forward gives the parameters their shapes, and the layer its final class."""

    #: What such a layer is once its parameters have shapes.
    cls_to_become: ClassVar[type[Module]]

    def has_uninitialized_params(self) -> bool:
        """Whether a parameter or buffer has no shape yet."""
        return any(
            isinstance(value, (UninitializedParameter, UninitializedBuffer))
            for registry in (self._parameters, self._buffers)
            for value in registry.values()
        )

    def initialize_parameters(self, input: Tensor) -> None:
        """Gives parameters and buffers the shapes that `input` asks for, and initial values."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Draw new initial values; nothing while there are no shapes."""
        if not self.has_uninitialized_params():
            super().reset_parameters()  # type: ignore[misc]

    def _materialise(self, **shapes: tuple[int, ...]) -> None:
        """Shapes for what has none, then initial values, unless a state was loaded in the meantime."""
        if not self.has_uninitialized_params():
            return
        for name, shape in shapes.items():
            value = getattr(self, name)
            if isinstance(value, (UninitializedParameter, UninitializedBuffer)):
                value.materialize(shape)
        with T.no_grad():
            self.reset_parameters()

    def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Take the shapes from `input`, become the usual layer, and compute as that."""
        need_tensor(input, "input", type(self).__name__)
        if state.capture is not None:
            state.capture.refuse(
                f"{type(self).__name__} takes the shapes of its parameters from its first input",
                "call the network once before, outside the step",
            )
        self.initialize_parameters(input)
        self._become()
        return self.forward(input, *args, **kwargs)

    def _become(self) -> None:
        self._report("__class__", type(self), self.cls_to_become)
        self.__class__ = self.cls_to_become  # type: ignore[assignment]


def _pair(bias: bool, dtype: DType | None) -> tuple[UninitializedParameter, UninitializedParameter | None]:
    return UninitializedParameter(dtype=dtype), UninitializedParameter(dtype=dtype) if bias else None


class LazyLinear(_Lazy, Linear):
    """A `Linear` whose `in_features` is the size of its first input's last dimension.

    Its parameters have no shape before; run the network once before they are given to an optimiser or counted.

    >>> import juanji as jj
    >>> layer = jj.nn.LazyLinear(2)
    >>> layer.weight
    <UninitializedParameter>
    >>> tuple(layer(jj.zeros(4, 3)).shape), layer
    ((4, 2), Linear(in_features=3, out_features=2, bias=True))
    """

    cls_to_become = Linear

    def __init__(self, out_features: int, bias: bool = True, device: Any = None, dtype: DType | None = None) -> None:
        super().__init__(1, out_features, bias, device, dtype)
        self.in_features = 0
        self.weight, self.bias = _pair(bias, dtype)

    def initialize_parameters(self, input: Tensor) -> None:
        """Gives weight and bias their shapes."""
        if not input.ndim:
            raise ShapeError("LazyLinear: input must have at least one dimension")
        self.in_features = input.shape[-1]
        self._materialise(weight=(self.out_features, self.in_features), bias=(self.out_features,))


class _LazyConvolution(_Lazy):
    """What lazy convolutions share."""

    rank: ClassVar[int]

    def initialize_parameters(self, input: Tensor) -> None:
        """Gives weight and bias their shapes."""
        if input.ndim not in (self.rank + 1, self.rank + 2):
            raise ShapeError(
                f"{type(self).__name__}: expected {self.rank + 1}D (unbatched) or {self.rank + 2}D (batched) input, "
                f"but it is of shape {list(input.shape)}"
            )
        layer: Any = self
        layer.in_channels = layer._channels("in_channels", input.shape[-self.rank - 1])
        channels = (layer.out_channels, layer.in_channels // layer.groups)
        if layer.transposed:
            channels = (layer.in_channels, layer.out_channels // layer.groups)
        self._materialise(weight=(*channels, *layer.kernel_size), bias=(layer.out_channels,))


class _LazyConv(_LazyConvolution):
    """A convolution without in_channels."""

    def __init__(
        self,
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
        given = (stride, padding, dilation, groups, bias, padding_mode, device, dtype)
        super().__init__(groups, out_channels, kernel_size, *given)  # type: ignore[call-arg]
        self.in_channels = 0
        self.weight, self.bias = _pair(bias, dtype)


class _LazyConvTranspose(_LazyConvolution):
    """A transposed convolution without in_channels."""

    def __init__(
        self,
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
        given = (stride, padding, output_padding, groups, bias, dilation, padding_mode, device, dtype)
        super().__init__(groups, out_channels, kernel_size, *given)  # type: ignore[call-arg]
        self.in_channels = 0
        self.weight, self.bias = _pair(bias, dtype)


class LazyConv1d(_LazyConv, Conv1d):  # type: ignore[misc]
    """A `Conv1d` whose `in_channels` is the number of channels of its first input.

    The other arguments are those of `Conv1d`. See `LazyLinear` for what such a layer is before.

    >>> import juanji as jj
    >>> layer = jj.nn.LazyConv1d(4, 3, padding=1)
    >>> _ = layer(jj.zeros(1, 2, 5))
    >>> layer
    Conv1d(2, 4, kernel_size=(3,), stride=(1,), padding=(1,))
    """

    cls_to_become = Conv1d


class LazyConv2d(_LazyConv, Conv2d):  # type: ignore[misc]
    """A `Conv2d` whose `in_channels` is the number of channels of its first input.

    The other arguments are those of `Conv2d`. See `LazyLinear` for what such a layer is before.

    >>> import juanji as jj
    >>> layer = jj.nn.LazyConv2d(4, 3, padding=1)
    >>> _ = layer(jj.zeros(1, 2, 5, 5))
    >>> layer
    Conv2d(2, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """

    cls_to_become = Conv2d


class LazyConv3d(_LazyConv, Conv3d):  # type: ignore[misc]
    """A `Conv3d` whose `in_channels` is the number of channels of its first input.

    The other arguments are those of `Conv3d`. See `LazyLinear` for what such a layer is before.

    >>> import juanji as jj
    >>> layer = jj.nn.LazyConv3d(4, 3, padding=1)
    >>> _ = layer(jj.zeros(1, 2, 5, 5, 5))
    >>> layer
    Conv3d(2, 4, kernel_size=(3, 3, 3), stride=(1, 1, 1), padding=(1, 1, 1))
    """

    cls_to_become = Conv3d


class LazyConvTranspose1d(_LazyConvTranspose, ConvTranspose1d):  # type: ignore[misc]
    """A `ConvTranspose1d` whose `in_channels` is the number of channels of its first input.

    The other arguments are those of `ConvTranspose1d`. See `LazyLinear` for what such a layer is before.

    >>> import juanji as jj
    >>> layer = jj.nn.LazyConvTranspose1d(4, 3, padding=1)
    >>> _ = layer(jj.zeros(1, 2, 5))
    >>> layer
    ConvTranspose1d(2, 4, kernel_size=(3,), stride=(1,), padding=(1,))
    """

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyConvTranspose, ConvTranspose2d):  # type: ignore[misc]
    """A `ConvTranspose2d` whose `in_channels` is the number of channels of its first input.

    The other arguments are those of `ConvTranspose2d`. See `LazyLinear` for what such a layer is before.

    >>> import juanji as jj
    >>> layer = jj.nn.LazyConvTranspose2d(4, 3, padding=1)
    >>> _ = layer(jj.zeros(1, 2, 5, 5))
    >>> layer
    ConvTranspose2d(2, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyConvTranspose, ConvTranspose3d):  # type: ignore[misc]
    """A `ConvTranspose3d` whose `in_channels` is the number of channels of its first input.

    The other arguments are those of `ConvTranspose3d`. See `LazyLinear` for what such a layer is before.

    >>> import juanji as jj
    >>> layer = jj.nn.LazyConvTranspose3d(4, 3, padding=1)
    >>> _ = layer(jj.zeros(1, 2, 5, 5, 5))
    >>> layer
    ConvTranspose3d(2, 4, kernel_size=(3, 3, 3), stride=(1, 1, 1), padding=(1, 1, 1))
    """

    cls_to_become = ConvTranspose3d


class _LazyNorm(_Lazy):
    """A normalisation with running statistics, without num_features."""

    _ranks: ClassVar[tuple[int, ...]]
    #: Whether the first of `_ranks` is for inputs without a batch.
    _unbatched: ClassVar[bool] = False

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: str | None = None,
        dtype: DType | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(1, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)  # type: ignore[call-arg]
        layer: Any = self
        layer.num_features = 0
        for name in ("weight", "bias"):
            if getattr(self, name) is not None:
                setattr(self, name, UninitializedParameter(dtype=dtype))
        for name in ("running_mean", "running_var"):
            if getattr(self, name) is not None:
                setattr(self, name, UninitializedBuffer(dtype=dtype))

    def initialize_parameters(self, input: Tensor) -> None:
        """Gives parameters and statistics their shapes."""
        layer: Any = self
        layer._check_rank(input)
        layer.num_features = input.shape[0 if self._unbatched and input.ndim == self._ranks[0] else 1]
        names = ("weight", "bias", "running_mean", "running_var")
        self._materialise(**dict.fromkeys(names, (layer.num_features,)))


class LazyBatchNorm1d(_LazyNorm, BatchNorm1d):  # type: ignore[misc]
    """A `BatchNorm1d` whose `num_features` is the number of channels of its first input.

    The other arguments are those of `BatchNorm1d`.

    >>> import juanji as jj
    >>> layer = jj.nn.LazyBatchNorm1d()
    >>> _ = layer(jj.zeros(2, 3, 4))
    >>> layer.num_features, type(layer).__name__
    (3, 'BatchNorm1d')
    """

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_LazyNorm, BatchNorm2d):  # type: ignore[misc]
    """A `BatchNorm2d` whose `num_features` is the number of channels of its first input.

    The other arguments are those of `BatchNorm2d`.

    >>> import juanji as jj
    >>> layer = jj.nn.LazyBatchNorm2d()
    >>> _ = layer(jj.zeros(2, 3, 4, 4))
    >>> layer.num_features, type(layer).__name__
    (3, 'BatchNorm2d')
    """

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_LazyNorm, BatchNorm3d):  # type: ignore[misc]
    """A `BatchNorm3d` whose `num_features` is the number of channels of its first input.

    The other arguments are those of `BatchNorm3d`.

    >>> import juanji as jj
    >>> layer = jj.nn.LazyBatchNorm3d()
    >>> _ = layer(jj.zeros(2, 3, 4, 4, 4))
    >>> layer.num_features, type(layer).__name__
    (3, 'BatchNorm3d')
    """

    cls_to_become = BatchNorm3d


class LazyInstanceNorm1d(_LazyNorm, InstanceNorm1d):  # type: ignore[misc]
    """A `InstanceNorm1d` whose `num_features` is the number of channels of its first input.

    The other arguments are those of `InstanceNorm1d`, but `affine` and `track_running_stats` are true unless given.

    >>> import juanji as jj
    >>> layer = jj.nn.LazyInstanceNorm1d()
    >>> _ = layer(jj.zeros(2, 3, 4))
    >>> layer.num_features, type(layer).__name__
    (3, 'InstanceNorm1d')
    """

    cls_to_become = InstanceNorm1d
    _unbatched = True


class LazyInstanceNorm2d(_LazyNorm, InstanceNorm2d):  # type: ignore[misc]
    """A `InstanceNorm2d` whose `num_features` is the number of channels of its first input.

    The other arguments are those of `InstanceNorm2d`, but `affine` and `track_running_stats` are true unless given.

    >>> import juanji as jj
    >>> layer = jj.nn.LazyInstanceNorm2d()
    >>> _ = layer(jj.zeros(2, 3, 4, 4))
    >>> layer.num_features, type(layer).__name__
    (3, 'InstanceNorm2d')
    """

    cls_to_become = InstanceNorm2d
    _unbatched = True


class LazyInstanceNorm3d(_LazyNorm, InstanceNorm3d):  # type: ignore[misc]
    """A `InstanceNorm3d` whose `num_features` is the number of channels of its first input.

    The other arguments are those of `InstanceNorm3d`, but `affine` and `track_running_stats` are true unless given.

    >>> import juanji as jj
    >>> layer = jj.nn.LazyInstanceNorm3d()
    >>> _ = layer(jj.zeros(2, 3, 4, 4, 4))
    >>> layer.num_features, type(layer).__name__
    (3, 'InstanceNorm3d')
    """

    cls_to_become = InstanceNorm3d
    _unbatched = True


__all__ = [
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "LazyConv1d",
    "LazyConv2d",
    "LazyConv3d",
    "LazyConvTranspose1d",
    "LazyConvTranspose2d",
    "LazyConvTranspose3d",
    "LazyInstanceNorm1d",
    "LazyInstanceNorm2d",
    "LazyInstanceNorm3d",
    "LazyLinear",
]
