"""Normalisation layers; what they compute is in `functional`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import juanji.tensors as T
from juanji.dtypes import DType, int64
from juanji.errors import ShapeError
from juanji.nn import functional as F
from juanji.nn import init
from juanji.nn._arguments import integer
from juanji.nn.module import Module
from juanji.nn.parameter import Parameter
from juanji.spec import numbers
from juanji.tensors import Tensor


def _parameters(module: Module, shape: tuple[int, ...], weight: bool, bias: bool, dtype: DType | None) -> None:
    """Registers weight and bias of `shape`; None stands for one that is not wanted."""
    for name, wanted in (("weight", weight), ("bias", bias)):
        module.register_parameter(name, Parameter(T.empty(*shape, dtype=dtype)) if wanted else None)


class _Norm(Module):
    """What the layers with running statistics share.

    With `freeze()` such a layer normalises by its running statistics and leaves them as they are, in training too.
    """

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    #: PyTorch added it in 2018; states from before, and those of some other programs, do not have it.
    _may_miss = frozenset({"num_batches_tracked"})
    #: Numbers of dimensions that an input may have.
    _ranks: ClassVar[tuple[int, ...]]

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device: str | None,
        dtype: DType | None,
        bias: bool,
    ) -> None:
        super().__init__()
        T.check_device(device)
        self.num_features = integer("num_features", num_features, 0)
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.frozen = False
        _parameters(self, (self.num_features,), affine, affine and bias, dtype)
        if track_running_stats:
            self.register_buffer("running_mean", T.zeros(self.num_features, dtype=dtype))
            self.register_buffer("running_var", T.ones(self.num_features, dtype=dtype))
            self.register_buffer("num_batches_tracked", T.tensor(0, dtype=int64))
        else:
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                self.register_buffer(name, None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget what was seen: mean 0, variance 1, no batches."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Forget what was seen; weight 1 and bias 0."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _freeze_statistics(self, frozen: bool) -> None:
        self.frozen = frozen

    def _check_rank(self, input: Tensor) -> None:
        if input.ndim not in self._ranks:
            expected = " or ".join(f"{r}D" for r in self._ranks)
            raise ShapeError(f"{type(self).__name__}: expected {expected} input (got {input.ndim}D input)")

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_Norm):
    """Batch normalisation."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: str | None = None,
        dtype: DType | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise each channel over the batch and all positions."""
        self._check_rank(input)
        training = self.training and not (self.frozen and self.running_mean is not None)
        momentum: Any = 0.0 if self.momentum is None else self.momentum
        if training and self.running_mean is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:  # the plain average of all batches
                momentum = 1.0 / self.num_batches_tracked.to(self.running_mean.dtype)
        output: Tensor = F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training or self.running_mean is None,
            momentum,
            self.eps,
        )
        return output


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L); arguments and state as `BatchNorm2d`.

    >>> import juanji as jj
    >>> jj.nn.BatchNorm1d(2, momentum=None, affine=False)(jj.tensor([[1.0, 5.0], [3.0, 5.0]]))
    tensor([[-1.0000,  0.0000],
            [ 1.0000,  0.0000]])
    """

    _ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W) (Ioffe and Szegedy, 2015): see `functional.batch_norm`.

    In training each channel is normalised by the batch's mean and variance, and the buffers `running_mean` and
    `running_var` move towards them by the part `momentum` (None: to the average of all batches), inside compiled steps
    too; in evaluation, or when frozen by `freeze()`, the buffers are used. Without `track_running_stats` there are no
    buffers. `weight` and `bias` (C) are there if `affine`. Raises `ShapeError` for inputs of another rank.

    >>> import juanji as jj
    >>> layer = jj.nn.BatchNorm2d(3)
    >>> layer
    BatchNorm2d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
    >>> _ = layer(jj.full((2, 3, 4, 4), 5.0))
    >>> layer.running_mean
    tensor([0.5000, 0.5000, 0.5000])
    """

    _ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of (N, C, D, H, W); arguments and state as `BatchNorm2d`.

    >>> import juanji as jj
    >>> tuple(jj.nn.BatchNorm3d(2)(jj.zeros(1, 2, 3, 4, 5)).shape)
    (1, 2, 3, 4, 5)
    """

    _ranks = (5,)


class _InstanceNorm(_Norm):
    """Instance normalisation."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: str | None = None,
        dtype: DType | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise each channel of each image over its positions."""
        self._check_rank(input)
        batched = input.ndim == self._ranks[1]
        channels = input.shape[1 if batched else 0]
        if channels != self.num_features:
            if self.affine:
                raise ShapeError(
                    f"{type(self).__name__}: expected input to have num_features={self.num_features} channels, but it "
                    f"has {channels}"
                )
            warnings.warn(
                f"{type(self).__name__}: the input has {channels} channels, not num_features={self.num_features}; "
                "num_features is not used when affine=False",
                stacklevel=2,
            )
        output: Tensor = F.instance_norm(
            input if batched else input.unsqueeze(0),
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.running_mean is None or (self.training and not self.frozen),
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return output if batched else output.reshape(input.shape)


class InstanceNorm1d(_InstanceNorm):
    """Instance normalisation of (N, C, L) or (C, L); arguments and state as `InstanceNorm2d`.

    >>> import juanji as jj
    >>> jj.nn.InstanceNorm1d(1, eps=1e-9)(jj.tensor([[1.0, 3.0]]))
    tensor([[-1.,  1.]])
    """

    _ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Instance normalisation of (N, C, H, W) or (C, H, W) (Ulyanov et al., 2016): see `functional.instance_norm`.

    Each channel of each image has its own mean and variance, in evaluation too, unless `track_running_stats`: then the
    buffers are those of `BatchNorm2d`. Raises `ShapeError` for inputs of another rank or, if `affine`, of another
    number of channels; without, that is a warning.

    >>> import juanji as jj
    >>> jj.nn.InstanceNorm2d(3)
    InstanceNorm2d(3, eps=1e-05, momentum=0.1, affine=False, bias=False, track_running_stats=False)
    """

    _ranks = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """Instance normalisation of (N, C, D, H, W) or (C, D, H, W); arguments and state as `InstanceNorm2d`.

    >>> import juanji as jj
    >>> tuple(jj.nn.InstanceNorm3d(2)(jj.zeros(1, 2, 3, 4, 5)).shape)
    (1, 2, 3, 4, 5)
    """

    _ranks = (4, 5)


class _Affine(Module):
    """What the layers with nothing but weight and bias share."""

    weight: Parameter | None
    bias: Parameter | None

    def reset_parameters(self) -> None:
        """Weight 1 and bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


class LayerNorm(_Affine):
    """Normalisation over the last dimensions (Ba, Kiros and Hinton, 2016): see `functional.layer_norm`.

    `weight` and `bias`, of `normalized_shape`, are there if `elementwise_affine` (and `bias`). Raises `ShapeError` when
    an input does not end in `normalized_shape`.

    >>> import juanji as jj
    >>> layer = jj.nn.LayerNorm(2)
    >>> layer
    LayerNorm((2,), eps=1e-05, elementwise_affine=True, bias=True)
    >>> layer(jj.tensor([1.0, 201.0])).detach()
    tensor([-1.,  1.])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        T.check_device(device)
        self.normalized_shape = _shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        _parameters(self, self.normalized_shape, elementwise_affine, elementwise_affine and bias, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (..., *normalized_shape)."""
        output: Tensor = F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


def _shape(normalized_shape: Any) -> tuple[int, ...]:
    count = len(normalized_shape) if isinstance(normalized_shape, (tuple, list)) else 1
    if not count:
        raise ShapeError(f"normalized_shape={normalized_shape!r} must have at least one dimension")
    return numbers(normalized_shape, count, "normalized_shape", 1)


class GroupNorm(_Affine):
    """Normalisation over groups of channels (Wu and He, 2018): see `functional.group_norm`.

    `weight` and `bias` (num_channels) are there if `affine`. Raises `ValueError` when `num_groups` does not divide
    `num_channels`.

    >>> import juanji as jj
    >>> layer = jj.nn.GroupNorm(2, 6)
    >>> layer
    GroupNorm(2, 6, eps=1e-05, affine=True, bias=True)
    >>> tuple(layer(jj.randn(1, 6, 4, 4)).shape)
    (1, 6, 4, 4)
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: str | None = None,
        dtype: DType | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        T.check_device(device)
        self.num_groups = integer("num_groups", num_groups, 1)
        self.num_channels = integer("num_channels", num_channels, 0)
        if self.num_channels % self.num_groups:
            raise ValueError(
                f"num_channels must be divisible by num_groups, got num_channels={num_channels} and "
                f"num_groups={num_groups}"
            )
        self.eps = eps
        self.affine = affine
        _parameters(self, (self.num_channels,), affine, affine and bias, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, num_channels, ...)."""
        output: Tensor = F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(_Affine):
    """Division by the root of the mean square (Zhang and Sennrich, 2019): see `functional.rms_norm`.

    `weight`, of `normalized_shape`, is there if `elementwise_affine`; `eps` is that of the element type unless given.

    >>> import juanji as jj
    >>> jj.nn.RMSNorm(4)(jj.tensor([3.0, 4.0, 0.0, 0.0])).detach()
    tensor([1.2000, 1.6000, 0.0000, 0.0000])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: str | None = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        T.check_device(device)
        self.normalized_shape = _shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.register_parameter(
            "weight", Parameter(T.empty(*self.normalized_shape, dtype=dtype)) if elementwise_affine else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (..., *normalized_shape)."""
        output: Tensor = F.rms_norm(input, self.normalized_shape, self.weight, self.eps)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class LocalResponseNorm(Module):
    """Division by a power of the neighbouring channels' mean square: see `functional.local_response_norm`.

    >>> import juanji as jj
    >>> jj.nn.LocalResponseNorm(5)
    LocalResponseNorm(5, alpha=0.0001, beta=0.75, k=1.0)
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = integer("size", size, 1)
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, ...)."""
        output: Tensor = F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class CosineSimilarity(Module):
    """The cosine of the angle between vectors along `dim`: see `functional.cosine_similarity`.

    >>> import juanji as jj
    >>> jj.nn.CosineSimilarity(dim=0)(jj.tensor([2.0, 0.0]), jj.tensor([3.0, 0.0]))
    tensor(1.)
    """

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim = dim
        self.eps = eps

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Compare tensors of shapes that broadcast."""
        output: Tensor = F.cosine_similarity(x1, x2, self.dim, self.eps)
        return output


class PairwiseDistance(Module):
    """The length of x1 - x2 + `eps` along the last dimension: see `functional.pairwise_distance`.

    >>> import juanji as jj
    >>> jj.nn.PairwiseDistance(p=1)(jj.tensor([[1.0, 2.0]]), jj.tensor([[3.0, 5.0]])).item() > 4.99
    True
    """

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm = p
        self.eps = eps
        self.keepdim = keepdim

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Compare (N, D) or (D)."""
        output: Tensor = F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
        return output


__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "CosineSimilarity",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "PairwiseDistance",
    "RMSNorm",
]
