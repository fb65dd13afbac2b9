"""Element types and PyTorch's rules for what two of them make together."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: Floating point types that are stored only: arithmetic is done in float32 and rounded once.
HALVES = ("f16", "bf16")


@dataclass(frozen=True, eq=False)
class DType:
    """An element type: `jj.float32` and its like.

    Attributes:
        itemsize: bytes of one element.
        is_floating_point: whether values have a fraction (and may have gradients).
        half: whether it is stored in 2 bytes and computed with in float32.

    >>> float32.itemsize, float32.is_floating_point, str(int64)
    (4, True, 'juanji.int64')
    """

    name: str
    short: str
    numpy: np.dtype[Any]
    rank: int
    itemsize: int = field(init=False)
    is_floating_point: bool = field(init=False)
    half: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "itemsize", self.numpy.itemsize)
        object.__setattr__(self, "is_floating_point", self.rank >= 20)
        object.__setattr__(self, "half", self.short in HALVES)

    @property
    def is_signed(self) -> bool:
        """Whether negative values can be held."""
        return self.short not in ("u8", "b1")

    def __repr__(self) -> str:
        return f"juanji.{self.name}"

    __str__ = __repr__


bool_ = DType("bool", "b1", np.dtype(np.bool_), 0)
uint8 = DType("uint8", "u8", np.dtype(np.uint8), 10)
int8 = DType("int8", "i8", np.dtype(np.int8), 11)
int16 = DType("int16", "i16", np.dtype(np.int16), 12)
int32 = DType("int32", "i32", np.dtype(np.int32), 13)
int64 = DType("int64", "i64", np.dtype(np.int64), 14)
float16 = DType("float16", "f16", np.dtype(np.float16), 20)
#: NumPy has no such type: an array holds the bits.
bfloat16 = DType("bfloat16", "bf16", np.dtype(np.uint16), 21)
float32 = DType("float32", "f32", np.dtype(np.float32), 22)
float64 = DType("float64", "f64", np.dtype(np.float64), 23)

ALL = (bool_, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64)
BY_SHORT = {d.short: d for d in ALL}
_BY_NUMPY = {d.numpy: d for d in ALL if d is not bfloat16}


def from_numpy_dtype(dtype: Any) -> DType:
    """The element type of a NumPy array.

    Raises:
        TypeError: complex numbers, strings and other types that no kernel knows.
    """
    found = _BY_NUMPY.get(np.dtype(dtype).newbyteorder("="))
    if found is None:
        raise TypeError(
            f"dtype {np.dtype(dtype)} is not supported; valid are {', '.join(d.name for d in ALL)}"
            " (complex numbers are not planned: give the real and imaginary parts as two tensors)"
        )
    return found


def as_dtype(value: Any, argument: str = "dtype") -> DType:
    """Accepts a `DType`, a NumPy dtype or Python's float, int and bool."""
    if isinstance(value, DType):
        return value
    if value is float:
        return float32
    if value is int:
        return int64
    if value is bool:
        return bool_
    try:
        return from_numpy_dtype(value)
    except TypeError as error:
        raise TypeError(f"{argument}={value!r} is not an element type: {error}") from None


@functools.lru_cache(maxsize=256)
def promote(a: DType, b: DType) -> DType:
    """The type of `a + b` for two tensors with dimensions.

    >>> promote(int64, float32), promote(uint8, int8)
    (juanji.float32, juanji.int16)
    """
    if a is b:
        return a
    low, high = (a, b) if a.rank < b.rank else (b, a)
    if low is uint8 and high is int8:
        return int16
    if low is float16 and high is bfloat16:
        return float32
    return high


def category(dtype: DType) -> int:
    """0 for bool, 1 for integers, 2 for floating point."""
    return dtype.rank // 10


def limits(dtype: DType) -> tuple[Any, Any]:
    """The smallest and the largest value: infinities where there are any.

    >>> limits(int8), limits(float32)
    ((-128, 127), (-inf, inf))
    """
    if dtype is bool_:
        return False, True
    if dtype.is_floating_point:
        return -float("inf"), float("inf")
    info = np.iinfo(dtype.numpy)
    return int(info.min), int(info.max)


def largest(dtype: DType) -> float:
    """The largest finite value of a floating point type."""
    return 3.3895313892515355e38 if dtype is bfloat16 else float(np.finfo(dtype.numpy).max)


def encode(array: Any, dtype: DType) -> Any:
    """An array of numbers as the array that a tensor of `dtype` keeps.

    >>> encode(np.float32([1.0]), bfloat16)[0] == 0x3F80
    np.True_
    """
    with np.errstate(all="ignore"):
        if dtype is not bfloat16:
            return np.asarray(array).astype(dtype.numpy)
        bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
        rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        quiet = (bits >> np.uint32(16)) | np.uint32(0x40)
        nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
        return np.where(nan, quiet, rounded).astype(np.uint16).reshape(np.shape(array))


def decode(array: Any, dtype: DType) -> Any:
    """The numbers in the array that a tensor of `dtype` keeps: itself, but for bfloat16 (as float32)."""
    if dtype is not bfloat16:
        return array
    wide = np.ascontiguousarray(array).astype(np.uint32) << np.uint32(16)
    return wide.view(np.float32).reshape(np.shape(array))


def storable(array: Any) -> tuple[Any, DType]:
    """An array of NumPy's in this machine's byte order and a type that tensors have, and that type.

    uint16 becomes int32, uint32 and uint64 int64; extended precision becomes float64.

    Raises:
        TypeError: dates, objects, strings, complex numbers. ValueError: a uint64 beyond int64.
    """
    kind = array.dtype
    if kind.kind == "u" and kind.itemsize > 1:
        if kind.itemsize == 8 and array.size and int(array.max()) > 2**63 - 1:
            raise ValueError(f"the uint64 value {int(array.max())} does not fit int64, as which it would be stored")
        array = array.astype(np.int32 if kind.itemsize == 2 else np.int64)
    elif kind.kind == "f" and kind.itemsize > 8:
        array = array.astype(np.float64)
    dtype = from_numpy_dtype(array.dtype)
    return (array if array.dtype.isnative else array.astype(dtype.numpy)), dtype
