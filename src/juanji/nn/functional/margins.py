"""Losses of margins and distances, as functions, and the distances themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from juanji import tensors as T
from juanji.errors import ShapeError
from juanji.nn._arguments import legacy_reduction
from juanji.nn.functional.activations import floating, logsigmoid
from juanji.nn.functional.losses import check_targets, reduced, same_type
from juanji.ops import elementwise as ew
from juanji.ops import table
from juanji.spec import show
from juanji.tensors import Tensor
from juanji.tensors.base import need_tensor
from juanji.tensors.distances import pairwise_distance


def _hinge(x: Any) -> Any:
    """max(x, 0), whose gradient at zero is one, as that of clamp."""
    return ew.where(ew.lt(x, x.new_scalar(0)), x.new_scalar(0), x)


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """x where the target is 1, max(0, margin - x) where it is -1.

    >>> import juanji as jj
    >>> hinge_embedding_loss(jj.tensor([0.5, 0.25]), jj.tensor([1, -1]), reduction="none")
    tensor([0.5000, 0.7500])
    """
    floating("hinge_embedding_loss", input=input)
    need_tensor(target, "target", "hinge_embedding_loss")
    reduction = legacy_reduction(size_average, reduce, reduction)
    zero = input.new_scalar(0)
    apart = ew.where(target != 1, _hinge(margin - input), zero)
    return reduced(apart + ew.where(target != -1, input, zero), reduction)


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, -t (x1 - x2) + margin): the first input should be the larger where the target t is 1, else the second.

    Raises:
        ShapeError: different numbers of dimensions.

    >>> import juanji as jj
    >>> margin_ranking_loss(jj.tensor([1.0]), jj.tensor([3.0]), jj.tensor([1]))
    tensor(2.)
    """
    for name, value in (("input1", input1), ("input2", input2), ("target", target)):
        need_tensor(value, name, "margin_ranking_loss")
    reduction = legacy_reduction(size_average, reduce, reduction)
    if not input1.ndim == input2.ndim == target.ndim:
        raise ShapeError(
            f"margin_ranking_loss: all input tensors should have same dimension but got sizes: "
            f"input1: {show(input1.shape)}, input2: {show(input2.shape)}, target: {show(target.shape)}"
        )
    return reduced(_hinge(-target * (input1 - input2) + margin), reduction)


def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """log(1 + exp(-t x)) for targets t of 1 and -1.

    >>> import juanji as jj
    >>> soft_margin_loss(jj.tensor([0.0]), jj.tensor([1.0]))
    tensor(0.6931)
    """
    need_tensor(input, "input", "soft_margin_loss")
    need_tensor(target, "target", "soft_margin_loss")
    reduction = legacy_reduction(size_average, reduce, reduction)
    x, t = same_type("soft_margin_loss", input, target)
    return reduced(ew.softplus(ew.neg(ew.mul(t, x))), reduction)


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over classes (the last dimension) of -(t logsigmoid(x) + (1 - t) logsigmoid(-x)).

    >>> import juanji as jj
    >>> multilabel_soft_margin_loss(jj.tensor([[0.0, 0.0]]), jj.tensor([[1.0, 0.0]]))
    tensor(0.6931)
    """
    floating("multilabel_soft_margin_loss", input=input)
    need_tensor(target, "target", "multilabel_soft_margin_loss")
    reduction = legacy_reduction(size_average, reduce, reduction)
    losses: Any = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    if weight is not None:
        need_tensor(weight, "weight", "multilabel_soft_margin_loss")
        losses = losses * weight
    return reduced(losses.sum(-1) / input.shape[-1], reduction)


def _rows(function: str, input: Any) -> Any:
    """The input as [rows, classes].

    Raises:
        ShapeError: more than two dimensions, or no classes.
    """
    if input.ndim > 2 or (input.ndim == 2 and not input.shape[1]) or (input.ndim == 1 and not input.shape[0]):
        raise ShapeError(f"{function}: expected non-empty vector or matrix, got input of shape {show(input.shape)}")
    return input if input.ndim == 2 else input.reshape(1, -1)


def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The sum over target classes j and other classes i of max(0, 1 - (x[j] - x[i])), over the number of classes.

    Shapes: input [N, C] or [C]; target of the same shape, int64: the classes of each row up to the first -1.

    Raises:
        ShapeError: shapes that do not fit, a class that does not exist.

    >>> import juanji as jj
    >>> multilabel_margin_loss(jj.tensor([0.1, 0.2, 0.4, 0.8]), jj.tensor([3, 0, -1, 1]))
    tensor(0.8500)
    """
    floating("multilabel_margin_loss", input=input)
    reduction = legacy_reduction(size_average, reduce, reduction)
    x = _rows("multilabel_margin_loss", input)
    need_tensor(target, "target", "multilabel_margin_loss")
    if target.shape != input.shape and (target.ndim > 1 or input.ndim > 1 or target.numel() != input.numel()):
        raise ShapeError(
            f"multilabel_margin_loss: inconsistent target size: {show(target.shape)} for input of size: "
            f"{show(input.shape)}"
        )
    classes = x.shape[1]
    check_targets("multilabel_margin_loss", target, -1, classes)
    listed = target.reshape(x.shape)
    number = T.arange(classes)
    ended = (listed < 0).to(T.tensor(0).dtype)
    first = T.where(ended.sum(1, keepdim=True) > 0, ended.argmax(1, keepdim=True), classes)
    valid = number < first
    mine = T.where(valid, listed, 0)
    is_target = ((mine.unsqueeze(2) == number) & valid.unsqueeze(2)).any(1)
    own = table.gather(x, mine, dim=1)
    costs = T.relu(1 - own.unsqueeze(2) + x.unsqueeze(1))
    counted = valid.unsqueeze(2) & ~is_target.unsqueeze(1)
    losses = ew.where(counted, costs, x.new_scalar(0)).sum((1, 2)) / classes
    return reduced(losses if input.ndim == 2 else losses.reshape(()), reduction)


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The sum over classes i other than the target j of w[j] max(0, margin - x[j] + x[i])^p, over their number.

    Shapes: input [N, C] or [C], target [N] or [] of int64, weight [C].

    Raises:
        ShapeError: shapes that do not fit, a class that does not exist. ValueError: `p` other than 1 and 2.

    >>> import juanji as jj
    >>> multi_margin_loss(jj.tensor([0.1, 0.2, 0.4, 0.8]), jj.tensor(3))
    tensor(0.3250)
    """
    floating("multi_margin_loss", input=input)
    reduction = legacy_reduction(size_average, reduce, reduction)
    if p not in (1, 2):
        raise ShapeError(f"multi_margin_loss: only p == 1 and p == 2 supported, not p={p}")
    x = _rows("multi_margin_loss", input)
    rows, classes = x.shape
    need_tensor(target, "target", "multi_margin_loss")
    if target.ndim > 1 or target.numel() != rows:
        raise ShapeError(
            f"multi_margin_loss: inconsistent target size, expected {show((rows,))} but got {show(target.shape)}"
        )
    check_targets("multi_margin_loss", target, 0, classes)
    listed = target.reshape(rows, 1)
    costs = T.relu(margin - table.gather(x, listed, dim=1) + x)
    if p == 2:
        costs = costs * costs
    if weight is not None:
        floating("multi_margin_loss", weight=weight)
        if weight.shape != (classes,):
            raise ShapeError(
                f"multi_margin_loss: inconsistent weight size, expected {show((classes,))} but got {show(weight.shape)}"
            )
        costs = costs * table.gather(weight, target.reshape(rows), dim=0).unsqueeze(1)
    other = T.arange(classes) != listed
    losses = ew.where(other, costs, x.new_scalar(0)).sum(1) / classes
    return reduced(losses if input.ndim == 2 else losses.reshape(()), reduction)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) with `pairwise_distance` d (Balntas et al. 2016).

    `swap` takes d(positive, negative) instead of d(anchor, negative) where it is smaller.

    Raises:
        ValueError: a `margin` that is not positive. ShapeError: different numbers of dimensions.

    >>> import juanji as jj
    >>> triplet_margin_loss(jj.zeros(1, 2), jj.zeros(1, 2), jj.tensor([[0.0, 0.5]])).item() < 0.51
    True
    """
    for name, value in (("anchor", anchor), ("positive", positive), ("negative", negative)):
        need_tensor(value, name, "triplet_margin_loss")
    reduction = legacy_reduction(size_average, reduce, reduction)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        result: Tensor = pairwise_distance(a, b, p, eps)
        return result

    return _triplet("triplet_margin_loss", anchor, positive, negative, distance, margin, swap, reduction)


def _triplet(
    function: str,
    anchor: Any,
    positive: Any,
    negative: Any,
    distance: Callable[[Any, Any], Any],
    margin: float,
    swap: bool,
    reduction: str,
) -> Tensor:
    if not margin > 0:
        raise ShapeError(f"{function}: margin={margin} must be greater than 0")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise ShapeError(
            f"{function}: the anchor, positive, and negative tensors are expected to have the same number of "
            f"dimensions, but got: anchor {anchor.ndim}D, positive {positive.ndim}D, and negative {negative.ndim}D"
        )
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = T.minimum(far, distance(positive, negative))
    return reduced(_hinge(near - far + margin), reduction)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """`triplet_margin_loss` with a distance of one's own; `pairwise_distance` unless given."""
    for name, value in (("anchor", anchor), ("positive", positive), ("negative", negative)):
        need_tensor(value, name, "triplet_margin_with_distance_loss")
    reduction = legacy_reduction(None, None, reduction)
    return _triplet(
        "triplet_margin_with_distance_loss", anchor, positive, negative, distance_function or pairwise_distance, margin,
        swap, reduction,
    )  # fmt: skip


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos(x1, x2) where the target is 1, max(0, cos(x1, x2) - margin) where it is -1.

    Shapes: inputs [N, D] with target [N], or [D] with target [].

    Raises:
        ShapeError: other numbers of dimensions.

    >>> import juanji as jj
    >>> cosine_embedding_loss(jj.tensor([[1.0, 0.0]]), jj.tensor([[0.0, 1.0]]), jj.tensor([1]))
    tensor(1.)
    """
    function = "cosine_embedding_loss"
    for name, value in (("input1", input1), ("input2", input2), ("target", target)):
        need_tensor(value, name, function)
    reduction = legacy_reduction(size_average, reduce, reduction)
    if target.ndim > 1:
        raise ShapeError(f"{function}: 0D or 1D target tensor expected, multi-target not supported: {target.shape}")
    if input1.ndim != target.ndim + 1 or input2.ndim != target.ndim + 1:
        raise ShapeError(
            f"{function}: {target.ndim}D target tensor expects {target.ndim + 1}D input tensors, but found inputs with "
            f"sizes {show(input1.shape)} and {show(input2.shape)}"
        )
    a, b = (x if x.dtype.is_floating_point else x.float() for x in (input1, input2))
    tiny = 1e-12
    lengths = ((a * a).sum(-1) + tiny) * ((b * b).sum(-1) + tiny)
    cosine = (a * b).sum(-1) / lengths.sqrt()
    zero = cosine.new_scalar(0)
    alike = ew.where(target == 1, 1 - cosine, zero)
    return reduced(alike + ew.where(target == -1, _hinge(cosine - margin), zero), reduction)


__all__ = [
    "cosine_embedding_loss", "hinge_embedding_loss", "margin_ranking_loss", "multi_margin_loss",
    "multilabel_margin_loss", "multilabel_soft_margin_loss", "soft_margin_loss",
    "triplet_margin_loss", "triplet_margin_with_distance_loss",
]  # fmt: skip
