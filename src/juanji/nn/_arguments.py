"""Checks of arguments that several layers share; each message names the argument and its value."""

from __future__ import annotations

import warnings
from typing import Any

from juanji.errors import ShapeError
from juanji.spec import numbers


def integer(name: str, value: Any, least: int) -> int:
    """`value` as an int.

    Raises:
        TypeError: not an integer. ValueError: below `least`.

    >>> integer("groups", 3, 1)
    3
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r} ({type(value).__name__})")
    number = int(value)
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def pair(name: str, value: Any, least: int) -> tuple[int, int]:
    """(height, width) of an argument that is one integer for both or a sequence of two.

    >>> pair("kernel_size", 3, 1), pair("kernel_size", (3, 5), 1)
    ((3, 3), (3, 5))
    """
    height, width = numbers(value, 2, name, least)
    return height, width


def legacy_reduction(size_average: object, reduce: object, reduction: str, stacklevel: int = 3) -> str:
    """The `reduction` that two old arguments mean; a warning where one of them is given.

    Raises:
        ValueError: a `reduction` that does not exist.

    >>> legacy_reduction(None, None, "sum")
    'sum'
    """
    if size_average is not None or reduce is not None:
        averaged, reduced = size_average is None or bool(size_average), reduce is None or bool(reduce)
        reduction = ("mean" if averaged else "sum") if reduced else "none"
        warnings.warn(
            f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead.",
            stacklevel=stacklevel,
        )
    if reduction not in ("none", "mean", "sum"):
        raise ShapeError(f"{reduction!r} is not a valid value for reduction; use 'none', 'mean' or 'sum'")
    return reduction
