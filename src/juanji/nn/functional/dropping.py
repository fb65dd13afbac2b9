"""Dropout as functions: of elements, of whole channels, and the kind that suits `selu`."""

from __future__ import annotations

import math
import warnings
from typing import Any

from juanji import tensors as T
from juanji.dtypes import float32
from juanji.errors import ShapeError
from juanji.ops import elementwise as ew
from juanji.spec import show
from juanji.tensors import Tensor, dropout
from juanji.tensors import arithmetic as ar
from juanji.tensors.base import need_tensor


def check_probability(p: float) -> None:
    """Raises `ValueError` unless 0 <= p <= 1.

    >>> check_probability(0.5)
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _kept(input: Any, p: float, channels: bool, function: str) -> Any:
    """A bool tensor that broadcasts to the input: what stays."""
    shape = tuple(input.shape)
    if channels:
        if len(shape) < 2:
            raise ShapeError(f"{function}: dropout of channels needs 2 dimensions or more, input is {show(shape)}")
        shape = shape[:2] + (1,) * (len(shape) - 2)
    return ew.ge(T.rand(shape), ar.scalar(p, float32))


def _channels(function: str, input: Any, p: float, training: bool, inplace: bool) -> Tensor:
    result: Tensor
    if not training or p == 0.0 or not input.numel():
        return input  # type: ignore[no-any-return]
    x = ar.original(input) if inplace else input
    if p == 1.0:
        result = x * 0.0
    else:
        result = ew.where(_kept(x, p, True, function), x * (1.0 / (1.0 - p)), x.new_scalar(0))
    return ar.into(input, result, function + "_") if inplace else result


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Sets whole channels of (N, C, L) or (C, L) to zero with probability `p`; the others are divided by 1 - p.

    Raises:
        ValueError: `p` outside [0, 1]. ShapeError: another number of dimensions.

    >>> import juanji as jj
    >>> dropout1d(jj.ones(1, 2, 3), training=False).shape
    (1, 2, 3)
    """
    need_tensor(input, "input", "dropout1d")
    check_probability(p)
    if input.ndim not in (2, 3):
        raise ShapeError(f"dropout1d: expected 2D or 3D input, but received a {input.ndim}D input {show(input.shape)}")
    return _unbatched("dropout1d", input, p, training, inplace, input.ndim == 2)


def _unbatched(function: str, input: Any, p: float, training: bool, inplace: bool, alone: bool) -> Tensor:
    if not alone or not training or p == 0.0:
        return _channels(function, input, p, training, inplace)
    if inplace:
        _channels(function, input.unsqueeze(0), p, training, True)
        return input  # type: ignore[no-any-return]
    return _channels(function, input.unsqueeze(0), p, training, False).squeeze(0)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Sets whole channels of (N, C, H, W) to zero with probability `p`; the others are divided by 1 - p.

    Three dimensions are taken as (N, C, L), with a warning, as PyTorch takes them.

    Raises:
        ValueError: `p` outside [0, 1]. ShapeError: fewer than two dimensions.
    """
    need_tensor(input, "input", "dropout2d")
    check_probability(p)
    if input.ndim not in (3, 4):
        _warn("dropout2d", input.ndim, "3D or 4D")
    elif input.ndim == 3:
        warnings.warn(
            "dropout2d: received a 3D input, which is taken as (N, C, L); use dropout1d for that, and a 4D input of "
            "batch 1 for one image",
            stacklevel=2,
        )
    return _channels("dropout2d", input, p, training, inplace)


def _warn(function: str, dims: int, expected: str) -> None:
    warnings.warn(
        f"{function}: received a {dims}-D input, but {expected} is expected; an error in a future version",
        stacklevel=3,
    )


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Sets whole channels of (N, C, D, H, W) or (C, D, H, W) to zero with probability `p`.

    Raises:
        ValueError: `p` outside [0, 1]. ShapeError: fewer than two dimensions.
    """
    need_tensor(input, "input", "dropout3d")
    check_probability(p)
    if input.ndim not in (4, 5):
        _warn("dropout3d", input.ndim, "4D or 5D")
    return _unbatched("dropout3d", input, p, training, inplace, input.ndim != 5)


#: What `selu` tends to for large negative inputs, negated: alpha times scale.
_SATURATION = 1.7580993408473766


def _alpha(function: str, input: Any, p: float, training: bool, inplace: bool, channels: bool) -> Tensor:
    # Dropped values become the saturation value; a scale and a shift then restore mean 0 and variance 1.
    need_tensor(input, "input", function)
    check_probability(p)
    if not training or p == 0.0 or not input.numel():
        return input  # type: ignore[no-any-return]
    result: Tensor
    x = ar.original(input) if inplace else input
    if p == 1.0:
        result = x * 0.0
    else:
        scale = 1 / math.sqrt((_SATURATION**2 * p + 1) * (1 - p))
        shift = _SATURATION * scale * p
        kept = _kept(x, p, channels, function)
        result = ew.where(kept, x * scale + shift, x.new_scalar(shift - _SATURATION * scale))
    return ar.into(input, result, function + "_") if inplace else result


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Dropout that keeps mean 0 and variance 1 of the values, for `selu` (Klambauer et al. 2017).

    Raises:
        ValueError: `p` outside [0, 1].

    >>> import juanji as jj
    >>> alpha_dropout(jj.ones(2))
    tensor([1., 1.])
    """
    return _alpha("alpha_dropout", input, p, training, inplace, False)


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """`alpha_dropout` of whole channels of (N, C, ...).

    Raises:
        ValueError: `p` outside [0, 1]. ShapeError: fewer than two dimensions.
    """
    return _alpha("feature_alpha_dropout", input, p, training, inplace, True)


__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"]
