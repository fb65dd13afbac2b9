"""Linear and bilinear layers, tables of vectors, and class numbers, as functions."""

from __future__ import annotations

import math
from typing import Any

from juanji import tensors as T
from juanji.dtypes import int32, int64
from juanji.errors import ShapeError
from juanji.ops import elementwise as ew
from juanji.ops import table
from juanji.spec import show
from juanji.tensors import Tensor, linear, one_hot
from juanji.tensors import arithmetic as ar
from juanji.tensors.base import need_same_dtype, need_tensor
from juanji.tensors.tables import check_bounds


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """out[k] = sum over i, j of input1[i] weight[k, i, j] input2[j], plus bias[k].

    Shapes: input1 [..., in1], input2 [..., in2], weight [out, in1, in2], bias [out] -> [..., out].

    Raises:
        ShapeError: sizes do not fit. TypeError: not tensors.

    >>> import juanji as jj
    >>> bilinear(jj.tensor([[1.0, 2.0]]), jj.tensor([[3.0]]), jj.ones(1, 2, 1))
    tensor([[9.]])
    """
    for name, value in (("input1", input1), ("input2", input2), ("weight", weight)):
        need_tensor(value, name, "bilinear")
    need_same_dtype("bilinear", input1=input1, input2=input2, weight=weight, bias=bias)
    if weight.ndim != 3 or input1.ndim < 1 or input1.ndim != input2.ndim or input1.shape[:-1] != input2.shape[:-1]:
        raise ShapeError(
            f"bilinear: inputs {show(input1.shape)} and {show(input2.shape)} must agree in all but the last dimension, "
            f"and weight {show(weight.shape)} have 3"
        )
    out, first, second = weight.shape
    if (input1.shape[-1], input2.shape[-1]) != (first, second):
        raise ShapeError(
            f"bilinear: inputs {show(input1.shape)} and {show(input2.shape)} must end in {first} and {second}, as "
            f"weight {show(weight.shape)} expects"
        )
    if bias is not None and tuple(bias.shape) != (out,):
        raise ShapeError(f"bilinear: bias of shape {show(bias.shape)} must be {show((out,))}")
    rows = math.prod(input1.shape[:-1])
    matrix = weight.permute(1, 0, 2).reshape(first, out * second)
    products: Any = (input1.reshape(rows, first) @ matrix).reshape(rows, out, second)
    result: Tensor = (products * input2.reshape(rows, 1, second)).sum(-1).to(weight.dtype)
    if bias is not None:
        result = result + bias
    return result.reshape(*input1.shape[:-1], out)


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of `weight` that `input` names.

    Shapes: input any, int64 or int32; weight [rows, features] -> [*input, features].

    Args:
        padding_idx: a row that gets no gradient; negative ones count from the end.
        max_norm: rows that are longer are shortened to that, in `weight` itself, before they are read.
        norm_type: the p of the norm that `max_norm` bounds.
        scale_grad_by_freq: each row's gradient is divided by how often the row is named.
        sparse: must be false.

    Raises:
        IndexError: a row that does not exist. ValueError: `sparse`. RuntimeError: an index of another type.

    >>> import juanji as jj
    >>> embedding(jj.tensor([2, 0]), jj.arange(6.0).reshape(3, 2))
    tensor([[4., 5.],
            [0., 1.]])
    """
    need_tensor(input, "input", "embedding")
    need_tensor(weight, "weight", "embedding")
    if sparse:
        raise ShapeError("embedding: sparse=True is not available; gradients are dense")
    if input.dtype not in (int64, int32):
        raise RuntimeError(f"embedding: expected input to be of int64 or int32, but got {input.dtype}")
    if weight.ndim != 2:
        raise ShapeError(f"embedding: weight of shape {show(weight.shape)} must have 2 dimensions [rows, features]")
    rows, features = weight.shape
    if padding_idx is not None and not -rows <= padding_idx < rows:
        raise ShapeError(f"embedding: padding_idx={padding_idx} must be within the {rows} rows of weight")
    index: Any = ar.cast(input, int64).reshape(-1)
    check_bounds("embedding", index, rows, 0)
    if max_norm is not None:
        _shorten(weight, index, max_norm, norm_type)
    count = index.shape[0]
    found: Any = table.gather(weight, index.reshape(count, 1).expand(count, features), dim=0)
    if found.requires_grad and (padding_idx is not None or scale_grad_by_freq):
        factor: Any = found.new_ones(count)
        if scale_grad_by_freq:
            times = table.scatter(found.new_zeros(rows), factor, index, dim=0, mode="add")
            factor = 1 / table.gather(times, index, dim=0)
        if padding_idx is not None:
            padded = ew.eq(index, ar.scalar(padding_idx % rows, int64))
            factor = ew.where(padded, factor.new_scalar(0), factor)
        column = factor.detach().reshape(count, 1)
        found.register_hook(lambda g: g * column)
    result: Tensor = found.reshape(*input.shape, features)
    return result


def _shorten(weight: Any, index: Any, max_norm: float, norm_type: float) -> None:
    """Scales the rows named by `index` whose norm is above `max_norm` down to it, in place."""
    with T.no_grad():
        size = abs(weight)
        if math.isinf(norm_type):
            norms = size.amax(1)
        elif norm_type == 2:
            norms = (size * size).sum(1).sqrt()
        else:
            norms = (size**norm_type).sum(1) ** (1.0 / norm_type)
        ones = weight.new_ones(index.shape[0])
        named = table.scatter(weight.new_zeros(weight.shape[0]), ones, index, dim=0, mode="set")
        long = (norms > max_norm) & (named > 0)
        scale = ew.where(long, max_norm / (norms + 1e-7), norms.new_scalar(1))
        weight.copy_(weight * scale.unsqueeze(1))


__all__ = ["bilinear", "embedding", "linear", "one_hot"]
