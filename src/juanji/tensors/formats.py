"""Memory formats and the limits of element types: what PyTorch's programs name, and what it means here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from juanji import dtypes
from juanji.dtypes import DType, as_dtype
from juanji.errors import ShapeError
from juanji.spec import Shape, show


@dataclass(frozen=True)
class MemoryFormat:
    """How PyTorch may lay an image out in memory. Juanji takes it as a hint and chooses the order itself: strides are
    logical, and inside a compiled step images lie channels last whatever is asked for.

    >>> import juanji as jj
    >>> jj.zeros(1, 3, 4, 4).contiguous(memory_format=jj.channels_last).stride()
    (48, 16, 4, 1)
    """

    name: str
    rank: int | None = None

    def __repr__(self) -> str:
        return f"juanji.{self.name}"


contiguous_format = MemoryFormat("contiguous_format")
preserve_format = MemoryFormat("preserve_format")
channels_last = MemoryFormat("channels_last", 4)
channels_last_3d = MemoryFormat("channels_last_3d", 5)


#: PyTorch's name of the class.
memory_format = MemoryFormat


@dataclass(frozen=True)
class layout:  # PyTorch's name
    """How a tensor is stored. There is one way, `jj.strided`: no tensor is sparse."""

    name: str

    def __repr__(self) -> str:
        return f"juanji.{self.name}"


strided = layout("strided")


def check_layout(function: str, value: Any) -> None:
    """Refuses every layout but `strided`.

    Raises:
        TypeError: another one.
    """
    if value is not None and value != strided:
        raise TypeError(f"{function}: layout={value!r} must be jj.strided: there are no sparse tensors")


def check_memory_format(function: str, value: Any, shape: Shape | None = None) -> None:
    """Refuses what is no memory format, and channels last for another number of dimensions.

    Raises:
        TypeError: not a memory format. ShapeError: not an image of that rank.
    """
    if value is None:
        return
    if not isinstance(value, MemoryFormat):
        raise TypeError(
            f"{function}: memory_format={value!r} must be jj.contiguous_format, jj.preserve_format, "
            "jj.channels_last or jj.channels_last_3d"
        )
    if shape is not None and value.rank is not None and len(shape) != value.rank:
        raise ShapeError(
            f"{function}: memory_format={value} needs a tensor of {value.rank} dimensions, not of shape {show(shape)}"
        )


class finfo:
    """Numerical limits of a floating point type; float32 unless given.

    Attributes:
        bits: of one element.
        eps: the difference between 1 and the next larger number.
        max: the largest finite number.
        min: its negative.
        tiny: the smallest positive normal number; `smallest_normal` is the same.
        resolution: about how far decimal digits reach.
        dtype: the type's name.

    Raises:
        TypeError: not a floating point type.

    >>> import juanji as jj
    >>> jj.finfo(jj.float32).eps, jj.finfo(jj.bfloat16).eps
    (1.1920928955078125e-07, 0.0078125)
    """

    def __init__(self, dtype: Any = dtypes.float32) -> None:
        kind = as_dtype(dtype)
        if not kind.is_floating_point:
            raise TypeError(f"finfo: dtype={kind} is not a floating point type; for integers use jj.iinfo")
        self.dtype, self.bits = kind.name, kind.itemsize * 8
        self.max = dtypes.largest(kind)
        self.min = -self.max
        if kind is dtypes.bfloat16:
            self.eps, self.tiny, self.resolution = 2.0**-7, 2.0**-126, 0.01
        else:
            info: Any = np.finfo(kind.numpy)
            self.eps, self.tiny, self.resolution = float(info.eps), float(info.tiny), 10.0**-info.precision
        self.smallest_normal = self.tiny

    def __repr__(self) -> str:
        return (
            f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, "
            f"smallest_normal={self.tiny:g}, tiny={self.tiny:g}, dtype={self.dtype})"
        )


class iinfo:
    """Numerical limits of an integer type.

    Attributes:
        bits: of one element.
        max: the largest number.
        min: the smallest.
        dtype: the type's name.

    Raises:
        TypeError: not an integer type.

    >>> import juanji as jj
    >>> jj.iinfo(jj.int8).min, jj.iinfo(jj.uint8).max
    (-128, 255)
    """

    def __init__(self, dtype: Any) -> None:
        kind: DType = as_dtype(dtype)
        if kind.is_floating_point or kind is dtypes.bool_:
            raise TypeError(f"iinfo: dtype={kind} is not an integer type; for floating point types use jj.finfo")
        self.dtype, self.bits = kind.name, kind.itemsize * 8
        self.min, self.max = dtypes.limits(kind)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"
