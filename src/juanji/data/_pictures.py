"""What the transforms share: telling pictures from tensors, and reading their arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from juanji.data._tensors import Array, Tensor, as_array, to_tensor

INTERPOLATIONS = {
    "nearest": 0,
    "lanczos": 1,
    "bilinear": 2,
    "bicubic": 3,
    "box": 4,
    "hamming": 5,
}  # Pillow's numbers


def is_picture(value: Any) -> bool:
    """Whether this is a Pillow picture."""
    # Pillow is imported only where a picture is: there can be none before somebody has imported it.
    return hasattr(value, "getbands") and hasattr(value, "resize")


def kind(value: Any) -> str:
    """What to call a value in a message."""
    return "a Pillow picture" if is_picture(value) else type(value).__name__


def need_picture(transform: Any, value: Any) -> None:
    """Refuses what is no Pillow picture."""
    if not is_picture(value):
        name = type(transform).__name__
        raise TypeError(f"{name} takes a Pillow picture, and got {kind(value)}; put {name} before ToTensor()")


def tensor_or_array(transform: Any, value: Any) -> Array:
    """The values of a picture (..., H, W) in a tensor or array; refuses anything else."""
    if not isinstance(value, (Tensor, np.ndarray)):
        raise TypeError(
            f"{type(transform).__name__} takes a Pillow picture, a tensor or an array, and got {kind(value)}"
        )
    values = as_array(value)
    if values.ndim < 2:
        raise ValueError(f"{type(transform).__name__} takes pictures (..., H, W), and got shape {values.shape}")
    return values


def back(like: Any, values: Array) -> Any:
    """Values as a tensor where `like` is one."""
    return to_tensor(values) if isinstance(like, Tensor) else values


def pair(size: int | Sequence[int], name: str = "size", least: int = 1) -> tuple[int, int]:
    """One or two numbers as (height, width)."""
    both = (size, size) if isinstance(size, int) else tuple(size)
    if len(both) == 1:
        both = both * 2
    if len(both) != 2 or any(isinstance(n, bool) or not isinstance(n, int) or n < least for n in both):
        raise ValueError(f"{name}={size!r} must be one or two integers, {least} or more")
    return both[0], both[1]


def between(given: Sequence[float], name: str, least: float = float("-inf")) -> tuple[float, float]:
    """(low, high) of a range in order, from `least` up."""
    try:
        low, high = (float(number) for number in given)
    except (TypeError, ValueError):
        raise ValueError(f"{name}={given!r} must be two numbers, the lower one first") from None
    if not least <= low <= high < float("inf"):
        at_least = "" if least == float("-inf") else f", {least:g} or more"
        raise ValueError(f"{name}={given!r} must be two numbers, the lower one first{at_least}")
    return low, high


def probability(p: float) -> float:
    """`p`, which lies between 0 and 1."""
    if not 0 <= p <= 1:
        raise ValueError(f"p={p!r} must lie between 0 and 1")
    return p


def interpolation_number(name: str, valid: Sequence[str]) -> Any:
    """Pillow's number of an interpolation."""
    if name not in valid:
        raise ValueError(f"interpolation={name!r} is unknown; valid are {', '.join(valid)}")
    return INTERPOLATIONS[name]
