"""Losses as layers."""

from __future__ import annotations

from juanji.nn import functional as F
from juanji.nn._arguments import require_reduction
from juanji.nn.module import Module
from juanji.tensors import Tensor


class _Loss(Module):
    def __init__(self, size_average: None, reduce: None, reduction: str) -> None:
        super().__init__()
        require_reduction(reduction, size_average, reduce)
        self.reduction = reduction


class CrossEntropyLoss(_Loss):
    """Softmax cross-entropy of scores (N, C, ...) and class numbers (N, ...) or probabilities (N, C, ...).

    Arguments as in `functional.cross_entropy`; `weight` is a buffer.

    >>> import juanji as jj
    >>> jj.nn.CrossEntropyLoss()(jj.tensor([[0.0, 0.0]]), jj.tensor([1]))
    tensor(0.6931)
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: None = None,
        ignore_index: int = -100,
        reduce: None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss: a scalar, or (N, ...) with reduction="none"."""
        output: Tensor = F.cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )
        return output


class NLLLoss(_Loss):
    """Minus the log-probability of each target: input (N, C, ...) from `LogSoftmax`, target (N, ...)."""

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: None = None,
        ignore_index: int = -100,
        reduce: None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss: a scalar, or (N, ...) with reduction="none"."""
        output: Tensor = F.nll_loss(
            input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction
        )
        return output


class MSELoss(_Loss):
    """Mean squared difference of two tensors of one shape; "sum" or "none" as `reduction` as elsewhere.

    >>> import juanji as jj
    >>> jj.nn.MSELoss()(jj.tensor([1.0, 2.0]), jj.tensor([1.0, 4.0]))
    tensor(2.)
    """

    def __init__(self, size_average: None = None, reduce: None = None, reduction: str = "mean") -> None:
        super().__init__(size_average, reduce, reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss: a scalar, or the input's shape with reduction="none"."""
        return F.mse_loss(input, target, reduction=self.reduction)
