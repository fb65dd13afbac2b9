"""Functions of tensors: convolution, losses and the rest that is not a method."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from juanji import dtypes
from juanji.config import state
from juanji.errors import ShapeError
from juanji.ops import contraction
from juanji.ops import elementwise as ew
from juanji.ops import reduce as rows
from juanji.spec import show
from juanji.tensors import arithmetic as ar
from juanji.tensors import creation
from juanji.tensors.base import TensorBase, as_array, need_floating, need_same_dtype, need_tensor
from juanji.tensors.methods import Tensor
from juanji.tensors.products import matmul


def where(condition: Tensor, input: Any = None, other: Any = None) -> Tensor:
    """Elements of `input` where `condition` holds, else of `other`; all broadcast.

    Raises:
        TypeError: `condition` is no bool tensor.
    """
    need_tensor(condition, "condition", "where")
    if condition.dtype is not dtypes.bool_:
        raise TypeError(f"where: condition must be a bool tensor, not {condition.dtype}")
    dtype = ar.result_dtype((input, other))
    return ew.where(condition, *ar.together(dtype, input, other))  # type: ignore[no-any-return]


def _one(name: str) -> Callable[[Any], Any]:
    def function(input: Any) -> Any:
        need_tensor(input, "input", name)
        return getattr(input, name)()

    function.__name__ = name
    function.__doc__ = f"Elementwise `{name}`; see `Tensor.{name}`."
    return function


exp, log, sqrt, rsqrt, tanh, sigmoid, relu = map(_one, ("exp", "log", "sqrt", "rsqrt", "tanh", "sigmoid", "relu"))
abs, sin, cos, erf, floor, ceil, sign = map(_one, ("abs", "sin", "cos", "erf", "floor", "ceil", "sign"))


def _two(name: str, text: str) -> Callable[[Any, Any], Any]:
    def function(input: Any, other: Any) -> Any:
        need_tensor(input, "input", name)
        return getattr(input, name)(other)

    function.__name__, function.__doc__ = name, text
    return function


maximum = _two("maximum", "The larger of each pair; NaN wins.")
minimum = _two("minimum", "The smaller of each pair; NaN wins.")


def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """`input @ weight.T + bias`.

    Shapes: input [..., in], weight [out, in], bias [out] -> [..., out].

    Raises:
        ShapeError: sizes do not fit. TypeError: not tensors.
    """
    for name, value in (("input", input), ("weight", weight), ("bias", bias)):
        if value is not None or name != "bias":
            need_tensor(value, name, "linear")
            if value.dtype is dtypes.bool_:
                raise RuntimeError(f"linear: {name} must hold numbers, but its dtype is {value.dtype}")
    need_same_dtype("linear", input=input, weight=weight, bias=bias)
    if weight.ndim not in (1, 2):
        raise ShapeError(f"linear: weight of shape {show(weight.shape)} must have 2 dimensions [out, in]")
    matrix = weight if weight.ndim == 2 else weight.reshape(1, -1)
    if not input.shape or input.shape[-1] != matrix.shape[1]:
        raise ShapeError(
            f"linear: input of shape {show(input.shape)} must end in {matrix.shape[1]} features, as weight of shape "
            f"{show(weight.shape)} expects"
        )
    if bias is not None and bias.shape not in ((), (matrix.shape[0],)):
        raise ShapeError(f"linear: bias of shape {show(bias.shape)} must be {show(matrix.shape[:1])}")
    rows = input if input.ndim == 2 else input.reshape(math.prod(input.shape[:-1]), input.shape[-1])
    result = contraction.linear(rows, matrix)
    if bias is not None:
        result = ew.add(result, bias)
    out = (*input.shape[:-1], matrix.shape[0]) if weight.ndim == 2 else input.shape[:-1]
    return result if result.shape == out else result.reshape(out)


def softmax(input: Any, dim: int, dtype: Any = None) -> Any:
    """exp(x) / sum(exp(x)) along `dim`."""
    need_tensor(input, "input", "softmax")
    return input.softmax(dim, dtype)


def log_softmax(input: Any, dim: int, dtype: Any = None) -> Any:
    """log(softmax(x)) along `dim`."""
    need_tensor(input, "input", "log_softmax")
    return input.log_softmax(dim, dtype)


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Sets elements to zero with probability `p` and scales the others by 1 / (1 - p); nothing unless `training`.

    Raises:
        ValueError: `p` outside [0, 1].
    """
    need_tensor(input, "input", "dropout")
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0.0:
        return input
    if p == 1.0:
        result = input * 0.0
    else:
        kept = ew.ge(creation.uniform(input.shape, dtypes.float32), ar.scalar(p, dtypes.float32))
        result = ew.where(kept, input * (1.0 / (1.0 - p)), ar.scalar(0.0, input.dtype))
    return ar.into(input, result, "dropout_") if inplace else result


def _check_classes(function: str, target: Any, classes: int, ignore_index: int) -> None:
    if state.capture is not None:
        return  # the kernel gives NaN for a class that does not exist
    values = as_array(target.detach())
    wrong = values[((values < 0) | (values >= classes)) & (values != ignore_index)]
    if wrong.size:
        raise IndexError(f"{function}: Target {wrong.flat[0]} is out of bounds; valid classes are 0 to {classes - 1}")


def _check_reduction(function: str, reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{function}: {reduction!r} is not a valid value for reduction; use 'none', 'mean' or 'sum'")


def _class_last(x: Any) -> Any:
    return x if x.ndim < 3 else x.permute(0, *range(2, x.ndim), 1)


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Cross-entropy between logits and class numbers or class probabilities.

    Shapes: input [C], [N, C] or [N, C, d1 ...]; target [], [N] or [N, d1 ...] of int64, or probabilities in the
    input's shape and type; weight [C]. The mean divides by the weights of the targets that are not ignored.

    Raises:
        ShapeError: shapes that do not fit. IndexError: a class that does not exist. ValueError: bad arguments.
    """
    need_floating("cross_entropy", input=input, weight=weight)
    need_tensor(target, "target", "cross_entropy")
    _check_reduction("cross_entropy", reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if not input.shape:
        raise ShapeError("cross_entropy: input needs a dimension of classes, but its shape is []")
    classes = input.shape[0 if input.ndim == 1 else 1]
    if weight is not None and weight.shape != (classes,):
        raise ShapeError(f"cross_entropy: weight of shape {show(weight.shape)} must be {show((classes,))}")
    if target.dtype.is_floating_point:
        return _soft_cross_entropy(input, target, weight, classes, reduction, label_smoothing)
    if target.dtype is not dtypes.int64:
        raise RuntimeError(f"cross_entropy: target must be int64 class numbers or {input.dtype}, not {target.dtype}")
    expected = input.shape[:1] + input.shape[2:] if input.ndim > 1 else ()
    if target.shape != expected:
        raise ShapeError(
            f"cross_entropy: expected target of shape {show(expected)} for input of shape {show(input.shape)}, "
            f"got {show(target.shape)}"
        )
    _check_classes("cross_entropy", target, classes, ignore_index)
    factors = weight.detach() if weight is not None else creation.ones(classes, dtype=input.dtype)
    losses = rows.cross_entropy(
        _class_last(input),
        target,
        factors,
        ignore_index=int(ignore_index),
        smoothing=float(label_smoothing),
        weighted=weight is not None,
    )
    if reduction == "none":
        return losses
    total = losses.sum()
    if reduction == "sum":
        return total
    kept = ew.ne(target, ar.scalar(ignore_index, dtypes.int64))
    if weight is None:
        return total / kept.to(input.dtype).sum()
    hit = ew.eq(creation.arange(classes), target.unsqueeze(-1)).to(input.dtype)
    return total / (ew.mul(hit, factors).sum(-1) * kept.to(input.dtype)).sum()


def _soft_cross_entropy(
    input: Any, target: Any, weight: Any, classes: int, reduction: str, label_smoothing: float
) -> Any:
    if target.shape != input.shape:
        raise ShapeError(
            f"cross_entropy: class probabilities of shape {show(target.shape)} must have the input's shape "
            f"{show(input.shape)}"
        )
    dim = 0 if input.ndim == 1 else 1
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    products = input.log_softmax(dim) * target
    if weight is not None:
        products = products * weight.reshape(-1, *([1] * (input.ndim - dim - 1)))
    losses = -products.sum(dim)
    if reduction == "none":
        return losses
    total = losses.sum()
    return total if reduction == "sum" else total / max(1, losses.numel())


def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """The negative of each row's log-probability at its class. Shapes as `cross_entropy` with class numbers."""
    need_floating("nll_loss", input=input, weight=weight)
    need_tensor(target, "target", "nll_loss")
    _check_reduction("nll_loss", reduction)
    expected = input.shape[:1] + input.shape[2:] if input.ndim > 1 else ()
    if not input.shape or target.shape != expected:
        raise ShapeError(
            f"nll_loss: expected target of shape {show(expected)} for input of shape {show(input.shape)}, "
            f"got {show(target.shape)}"
        )
    if target.dtype is not dtypes.int64:
        raise RuntimeError(f"nll_loss: target must be int64 class numbers, not {target.dtype}")
    classes = input.shape[0 if input.ndim == 1 else 1]
    _check_classes("nll_loss", target, classes, ignore_index)
    kept = ew.ne(target, ar.scalar(ignore_index, dtypes.int64)).unsqueeze(-1)
    hit = ew.bitwise_and(ew.eq(creation.arange(classes), target.unsqueeze(-1)), kept)
    zero = ar.scalar(0.0, input.dtype)
    factors = ar.scalar(1.0, input.dtype) if weight is None else weight.detach()
    chosen = ew.where(hit, factors, zero)
    losses = -ew.where(hit, _class_last(input) * factors, zero).sum(-1)
    if reduction == "none":
        return losses
    total = losses.sum()
    return total if reduction == "sum" else total / chosen.sum()


def mse_loss(
    input: Any, target: Any, size_average: Any = None, reduce: Any = None, reduction: str = "mean", weight: Any = None
) -> Any:
    """Mean squared error; `input` and `target` broadcast."""
    for name, value in (("input", input), ("target", target)):
        need_tensor(value, name, "mse_loss")
    _check_reduction("mse_loss", reduction)
    difference = input - target
    losses = difference * difference
    if weight is not None:
        losses = losses * weight
    return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.mean()


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all elements are close: |input - other| <= atol + rtol * |other|."""
    need_tensor(input, "input", "allclose")
    need_tensor(other, "other", "allclose")
    return bool(np.allclose(as_array(input.detach()), as_array(other.detach()), rtol, atol, equal_nan))


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and elements."""
    need_tensor(input, "input", "equal")
    need_tensor(other, "other", "equal")
    return input.shape == other.shape and bool(np.array_equal(as_array(input.detach()), as_array(other.detach())))


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Rows of zeros with a one at each class number.

    Raises:
        RuntimeError: not int64, negative, or a class beyond `num_classes`.
    """
    need_tensor(tensor, "tensor", "one_hot")
    if tensor.dtype is not dtypes.int64:
        raise RuntimeError(f"one_hot is only applicable to index tensor of type int64, not {tensor.dtype}")
    if num_classes == -1 or state.capture is None:
        values = as_array(tensor.detach())
        low, high = (int(values.min()), int(values.max())) if values.size else (0, -1)
        num_classes = high + 1 if num_classes == -1 else num_classes
        if low < 0 or high >= num_classes:
            raise RuntimeError(
                f"one_hot: class values must be in 0 to {num_classes - 1}, but reach from {low} to {high}"
            )
    return ew.eq(creation.arange(num_classes), tensor.unsqueeze(-1)).to(dtypes.int64)  # type: ignore[no-any-return]


__all__ = [
    "TensorBase", "abs", "allclose", "ceil", "cos", "cross_entropy", "dropout", "equal", "erf",
    "exp", "floor", "linear", "log", "log_softmax", "matmul", "maximum", "minimum", "mse_loss",
    "nll_loss", "one_hot", "relu", "rsqrt", "sigmoid", "sign", "sin", "softmax", "sqrt", "tanh", "where",
]  # fmt: skip
