"""Everything that `import juanji as jj` offers, imported when the first of it is asked for."""

from __future__ import annotations

from builtins import bool as _bool
from typing import Any

from juanji import autograd, data, kernels, metrics, nn, optim, utils, zoo
from juanji.autograd import grad
from juanji.capture.compile import compile
from juanji.dtypes import DType, bfloat16, float16, float32, float64, int8, int16, int32, int64, uint8
from juanji.dtypes import bool_ as bool
from juanji.errors import AutogradError, CaptureError, DataError, ShapeError
from juanji.interop.statefile import load, save
from juanji.nn.functional import (
    alpha_dropout,
    bilinear,
    celu,
    celu_,
    channel_shuffle,
    feature_alpha_dropout,
    hardshrink,
    pixel_shuffle,
    pixel_unshuffle,
    prelu,
    relu_,
    rrelu,
    rrelu_,
    selu,
    selu_,
    threshold,
    threshold_,
)
from juanji.random import Generator
from juanji.runtime.schedule import set_threads as _set_threads
from juanji.runtime.team import threads as _threads
from juanji.tensors import *  # noqa: F403
from juanji.tensors import __all__ as _tensor_names
from juanji.tensors.formats import (
    channels_last,
    channels_last_3d,
    contiguous_format,
    finfo,
    iinfo,
    layout,
    memory_format,
    preserve_format,
    strided,
)
from juanji.version import __version__
from juanji.visual.arithmetic import plot_arithmetic
from juanji.visual.figures import show, show_feature_maps, show_filters
from juanji.visual.gradcam import grad_cam
from juanji.visual.profile import profile
from juanji.visual.summary import summary

float, double, half, short, int, long = float32, float64, float16, int16, int32, int64


def set_num_threads(number: Any) -> None:
    """Sets how many threads plans may use, the calling one included; results do not depend on it.

    Small plans stay on one thread, as does any that is faster there. Without this call it is `JUANJI_THREADS`, or all
    processors that this process may use.

    Raises:
        ValueError: fewer than 1, or more than 1024. TypeError: not an integer.

    >>> import juanji as jj
    >>> before = jj.get_num_threads()
    >>> jj.set_num_threads(2)
    >>> jj.get_num_threads()
    2
    >>> jj.set_num_threads(before)
    """
    if isinstance(number, _bool) or not hasattr(number, "__index__"):
        raise TypeError(f"set_num_threads: number={number!r} must be an integer")
    number = number.__index__()
    if number < 1:
        raise ValueError(f"set_num_threads: number={number} must be at least 1")
    if number > 1024:
        raise ValueError(f"set_num_threads: number={number} must be at most 1024")
    _set_threads(number)


def get_num_threads() -> Any:
    """How many threads plans may use.

    Raises:
        ValueError: `JUANJI_THREADS` is set to something that is not a number of threads.
    """
    return _threads()


__all__ = [
    "AutogradError",
    "CaptureError",
    "DType",
    "DataError",
    "Generator",
    "ShapeError",
    "__version__",
    "alpha_dropout",
    "autograd",
    "bfloat16",
    "bilinear",
    "bool",
    "celu",
    "celu_",
    "channel_shuffle",
    "compile",
    "data",
    "double",
    "feature_alpha_dropout",
    "float",
    "float16",
    "float32",
    "float64",
    "get_num_threads",
    "grad",
    "grad_cam",
    "half",
    "hardshrink",
    "int",
    "int8",
    "int16",
    "int32",
    "int64",
    "kernels",
    "load",
    "long",
    "metrics",
    "nn",
    "optim",
    "pixel_shuffle",
    "pixel_unshuffle",
    "plot_arithmetic",
    "prelu",
    "profile",
    "relu_",
    "rrelu",
    "rrelu_",
    "save",
    "selu",
    "selu_",
    "set_num_threads",
    "short",
    "show",
    "show_feature_maps",
    "show_filters",
    "summary",
    "threshold",
    "threshold_",
    "uint8",
    "utils",
    "zoo",
]  # fmt: skip
__all__ += ["channels_last", "channels_last_3d", "contiguous_format", "finfo", "iinfo", "layout", "memory_format"]
__all__ += ["preserve_format", "strided"]
__all__ += _tensor_names
