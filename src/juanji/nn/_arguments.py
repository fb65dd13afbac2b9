"""Checks of arguments that several layers share; each message names the argument and its value."""

from __future__ import annotations

from typing import Any

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


def require_reduction(reduction: object, size_average: object = None, reduce: object = None) -> None:
    """Refuse a `reduction` that does not exist, and the two arguments it replaced long ago.

    Raises:
        ValueError: either of these.
    """
    if size_average is not None or reduce is not None:
        raise ValueError("size_average and reduce are not available: pass reduction='mean', 'sum' or 'none'")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction!r} is not a valid value for reduction; use 'none', 'mean' or 'sum'")
