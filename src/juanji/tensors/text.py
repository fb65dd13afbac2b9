"""How tensors print: as PyTorch prints them, with four digits, at most 80 columns and the ends of what is long."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji import dtypes
from juanji.spec import show
from juanji.tensors.base import as_array

DIGITS, COLUMNS = 4, 80
#: A tensor of more elements is shortened to this many at both ends of each dimension.
WHOLE, EDGE = 1000, 3


def show_tensor(tensor: Any) -> str:
    """`tensor([[1., 2.]])`, with the element type and history where they are not the usual ones.

    >>> import juanji as jj
    >>> jj.tensor([0.5, -2.0, float("nan")])
    tensor([ 0.5000, -2.0000,     nan])
    >>> jj.tensor([1e-6, 1.0])
    tensor([1.0000e-06, 1.0000e+00])
    >>> jj.arange(2000)
    tensor([   0,    1,    2,  ..., 1997, 1998, 1999])
    """
    name = "Parameter containing:\ntensor" if type(tensor).__name__ == "Parameter" else "tensor"
    if tensor.storage.array is None:
        return f"{name}(traced, shape={show(tensor.shape)}, dtype={tensor.dtype})"
    array = as_array(tensor.detach())
    notes = []
    if not array.size and tensor.ndim != 1:
        notes.append(f"size={tuple(tensor.shape)}")
    usual = (dtypes.float32, dtypes.int64, dtypes.bool_)
    if tensor.dtype not in usual or (not array.size and tensor.dtype is not dtypes.float32):
        notes.append(f"dtype={tensor.dtype}")
    if tensor.grad_fn is not None:
        notes.append(f"grad_fn={tensor.grad_fn!r}")
    elif tensor.requires_grad:
        notes.append("requires_grad=True")
    indent = len("tensor(")
    text = "tensor(" + elements(array, indent)
    column = len(text) - text.rfind("\n") + 1  # with the comma and the bracket that will follow
    for note in notes:
        column += len(note) + 2
        if column > COLUMNS:
            text += ",\n" + " " * indent + note
            column = indent + len(note)
        else:
            text += ", " + note
    return name.removesuffix("tensor") + text + ")"


def elements(array: NDArray[Any], indent: int = 0) -> str:
    """The elements in nested brackets; lines after the first begin with `indent` spaces."""
    if not array.size:
        return "[]"
    extents = array.shape
    if array.size > WHOLE:
        for axis, extent in enumerate(extents):
            if extent > 2 * EDGE:
                ends = (slice(None),) * axis
                array = np.concatenate([array[(*ends, slice(EDGE))], array[(*ends, slice(-EDGE, None))]], axis)
    one, width = _format(array.reshape(-1))
    if not extents:
        return one(array.item())
    return _nested(array, extents, indent, one, max(1, (COLUMNS - indent - len(extents) + 1) // (width + 2)))


def _nested(
    array: NDArray[Any], extents: tuple[int, ...], indent: int, one: Callable[[Any], str], per_line: int
) -> str:
    """What `elements` returns, of an array already shortened from `extents`."""
    short = len(array) < extents[0]
    if len(extents) == 1:
        parts = [one(value) for value in array.tolist()]
        if short:
            parts.insert(EDGE, " ...")
        lines = [", ".join(parts[at : at + per_line]) for at in range(0, len(parts), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
    parts = [_nested(part, extents[1:], indent + 1, one, per_line) for part in array]
    if short:
        parts.insert(EDGE, "...")
    return "[" + ("," + "\n" * (len(extents) - 1) + " " * (indent + 1)).join(parts) + "]"


def _format(values: NDArray[Any]) -> tuple[Callable[[Any], str], int]:
    """A function that writes one element in the style and width that suit all of `values`, and that width."""
    write: Callable[[Any], str]
    if values.dtype.kind != "f":
        write, measured = str, values.tolist()
    else:
        # Zeros and what is not finite have no say: they fit, or stick out.
        measured = values[np.isfinite(values) & (values != 0)].astype(np.float64).tolist()
        write = _float_style([abs(value) for value in measured])
    width = max((len(write(value)) for value in measured), default=0)
    return lambda value: write(value).rjust(width), width


def _float_style(sizes: list[float]) -> Callable[[float], str]:
    """Whole numbers as `3.`, others as `0.1235`, and both as `1.0000e+08` where sizes are extreme or differ much."""
    whole = all(size == math.floor(size) for size in sizes)
    if sizes:
        low, high = min(sizes), max(sizes)
        if high / low > 1000 or high > 1e8 or (low < 1e-4 and not whole):
            return lambda value: f"{value:.{DIGITS}e}"
    if whole:
        return lambda value: f"{value:.0f}." if math.isfinite(value) else str(value)
    return lambda value: f"{value:.{DIGITS}f}"
