"""Everything that `import juanji as jj` offers, imported when the first of it is asked for."""

from __future__ import annotations

from builtins import bool as _bool
from typing import Any

from juanji import data, nn, optim, zoo
from juanji.capture.compile import compile
from juanji.config import state as _state
from juanji.dtypes import DType, float32, float64, int8, int16, int32, int64, uint8
from juanji.dtypes import bool_ as bool
from juanji.errors import AutogradError, CaptureError, DataError, ShapeError
from juanji.interop.statefile import load, save
from juanji.random import Generator
from juanji.tensors import *  # noqa: F403
from juanji.tensors import __all__ as _tensor_names
from juanji.version import __version__

float, double, short, int, long = float32, float64, int16, int32, int64


def set_num_threads(number: Any) -> None:
    """Sets how many threads plans may use. Plans run on one thread today; the number is kept for when they don't.

    Raises:
        ValueError: fewer than 1. TypeError: not an integer.
    """
    if isinstance(number, _bool) or not hasattr(number, "__index__"):
        raise TypeError(f"set_num_threads: number={number!r} must be an integer")
    if number < 1:
        raise ValueError(f"set_num_threads: number={number} must be at least 1")
    _state.threads = number.__index__()


def get_num_threads() -> Any:
    """How many threads plans may use."""
    return _state.threads


__all__ = [
    "AutogradError", "CaptureError", "DType", "DataError", "Generator", "ShapeError", "__version__", "bool", "compile",
    "data", "double", "float", "float32", "float64", "get_num_threads", "int", "int8", "int16", "int32", "int64",
    "load", "long", "nn", "optim", "save", "set_num_threads", "short", "uint8", "zoo",
]  # fmt: skip
__all__ += _tensor_names
