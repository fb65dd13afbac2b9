"""Matrix products with PyTorch's rules for vectors, batches and broadcasting."""

from __future__ import annotations

import math
from typing import Any

from juanji import dtypes
from juanji.errors import ShapeError
from juanji.ops import contraction
from juanji.spec import Shape, broadcast, show
from juanji.tensors.base import TensorBase


def matmul(input: Any, other: Any) -> Any:
    """Matrix product with PyTorch's rules for one and more dimensions.

    Shapes: [m, k] @ [k, n] -> [m, n]; a vector on either side is a row or a column that is dropped from the result;
    leading dimensions broadcast.

    Raises:
        ShapeError: inner sizes differ. TypeError: not tensors.
    """
    for name, value in (("input", input), ("other", other)):
        if not isinstance(value, TensorBase):
            raise TypeError(f"matmul: {name} must be a Tensor, not {type(value).__name__}")
        if not value.shape:
            raise ShapeError(f"matmul: both arguments need at least 1 dimension, but {name} has shape []")
    if input.dtype is not other.dtype:
        raise RuntimeError(f"matmul: expected both tensors to have the same dtype, but {input.dtype} != {other.dtype}")
    plain = len(input.shape) == len(other.shape) == 2 and input.dtype.is_floating_point
    if plain and input.shape[1] == other.shape[0]:
        return contraction.matmul(input, other)
    a = input.reshape(1, -1) if input.ndim == 1 else input
    b = other.reshape(-1, 1) if other.ndim == 1 else other
    if a.shape[-1] != b.shape[-2]:
        raise ShapeError(
            f"matmul: shapes {show(input.shape)} and {show(other.shape)} cannot be multiplied: "
            f"{a.shape[-1]} is not {b.shape[-2]}"
        )
    if a.dtype is dtypes.bool_:
        raise RuntimeError("matmul is not available for bool tensors; cast them to an integer type")
    if b.ndim == 2:
        lead: Shape = a.shape[:-1]
        result = contraction.matmul(a.reshape(math.prod(lead), a.shape[-1]), b).reshape(*lead, b.shape[-1])
    else:
        batch = broadcast(a.shape[:-2], b.shape[:-2])
        count = math.prod(batch)
        flat_a = a.expand(*batch, *a.shape[-2:]).reshape(count, *a.shape[-2:])
        flat_b = b.expand(*batch, *b.shape[-2:]).reshape(count, *b.shape[-2:])
        result = contraction.matmul(flat_a, flat_b).reshape(*batch, a.shape[-2], b.shape[-1])
    if input.ndim == 1:
        result = result.reshape(*result.shape[:-2], result.shape[-1])
    return result.reshape(result.shape[:-1]) if other.ndim == 1 else result
