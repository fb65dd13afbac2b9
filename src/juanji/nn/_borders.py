"""Images extended beyond their borders by what is inside: what `padding_mode` of a convolution layer says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from juanji.errors import ShapeError
from juanji.ops.shape import concatenate
from juanji.spec import show

#: How much less than all of a dimension there may be before and after; "replicate" repeats one element.
_LESS = {"reflect": 1, "circular": 0}


def extended(input: Any, borders: Sequence[tuple[int, int]], mode: str) -> Any:
    """`input` with (before, after) elements more in each of its last dimensions.

    Args:
        mode: "reflect" (mirrored, without the border itself), "replicate" (the border repeated), "circular" (from
            the other end).

    Raises:
        ShapeError: more than the input has.

    >>> import juanji as jj
    >>> x = jj.tensor([1, 2, 3])
    >>> [extended(x, [(2, 1)], mode).tolist() for mode in ("reflect", "replicate", "circular")]
    [[3, 2, 1, 2, 3, 2], [1, 1, 1, 2, 3, 3], [2, 3, 1, 2, 3, 1]]
    """
    result = input
    for dim, (before, after) in enumerate(borders, input.ndim - len(borders)):
        n = input.shape[dim]
        most = n - _LESS[mode] if mode in _LESS else max(before, after) * (n > 0)
        if max(before, after) > most:
            raise ShapeError(
                f"padding of ({before}, {after}) with padding_mode={mode!r} is too much for dimension {dim} of input "
                f"of shape {show(input.shape)}: at most {most} is valid"
            )
        if before or after:
            pieces = [*_pieces(result, dim, -before, 0, mode), result, *_pieces(result, dim, n, n + after, mode)]
            result = concatenate(pieces, dim)
    return result


def _pieces(x: Any, dim: int, begin: int, end: int, mode: str) -> list[Any]:
    """What is at positions `begin` to `end`, outside of dimension `dim`."""
    n = x.shape[dim]
    if begin == end:
        return []
    if mode == "circular":
        return [_narrow(x, dim, begin % n, end - begin)]
    if mode == "replicate":
        shape = list(x.shape)
        shape[dim] = end - begin
        return [_narrow(x, dim, 0 if begin < 0 else n - 1, 1).expand(*shape)]
    return [_narrow(x, dim, -i if i < 0 else 2 * (n - 1) - i, 1) for i in range(begin, end)]


def _narrow(x: Any, dim: int, begin: int, length: int) -> Any:
    return x[(*(slice(None),) * dim, slice(begin, begin + length))]
