"""The arithmetic of shapes: broadcasting, convolution and pooling windows, strides. The only place that knows it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from juanji.errors import ShapeError

Shape = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]

#: No tensor may have more elements than this: a typing error should not take the machine down.
MAX_ELEMENTS = 2**38


class Spec(NamedTuple):
    """Shape and element type (its short name) of a value."""

    shape: Shape
    dtype: str

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def show(shape: Iterable[int]) -> str:
    """A shape as people write it.

    >>> show((1, 28, 28))
    '[1, 28, 28]'
    """
    return "[" + ", ".join(map(str, shape)) + "]"


def contiguous_strides(shape: Shape) -> Shape:
    """Strides, in elements, of a dense array in C order.

    >>> contiguous_strides((2, 3, 4))
    (12, 4, 1)
    """
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * max(shape[i + 1], 1)
    return tuple(strides)


def is_contiguous(shape: Shape, strides: Shape) -> bool:
    """Whether elements follow one another in C order (axes of extent 1 do not matter)."""
    expected = 1
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent == 0:
            return True
        if extent != 1 and stride != expected:
            return False
        expected *= extent
    return True


def broadcast(*shapes: Shape) -> Shape:
    """The shape that all of `shapes` stretch to.

    Raises:
        ShapeError: two extents differ and neither is 1.

    >>> broadcast((4, 1), (3,))
    (4, 3)
    """
    rank = max(map(len, shapes), default=0)
    result = [1] * rank
    for shape in shapes:
        for i, extent in enumerate(shape, rank - len(shape)):
            if extent == result[i] or extent == 1:
                continue
            if result[i] != 1:
                raise ShapeError(
                    f"shapes {' and '.join(map(show, shapes))} do not broadcast: the sizes {result[i]} and {extent} "
                    f"of dimension {i} differ and neither is 1"
                )
            result[i] = extent
    return tuple(result)


def reshape_strides(shape: Shape, strides: Shape, new: Shape) -> Shape | None:
    """Strides that show an array of `shape` and `strides` as `new` without a copy; None where that cannot be."""
    old = [(e, s) for e, s in zip(shape, strides, strict=True) if e != 1]
    if math.prod(shape) == 0:
        return contiguous_strides(new)
    result = [0] * len(new)
    at, j = 0, 0
    while at < len(old):
        group = [old[at]]
        extent = old[at][0]
        at += 1
        begin = j
        product = 1
        while product < extent or (j < len(new) and new[j] == 1):
            if product == extent and j < len(new) and new[j] == 1:
                j += 1
                continue
            if j >= len(new):
                break
            product *= new[j]
            j += 1
            while product > extent and at < len(old):
                group.append(old[at])
                extent *= old[at][0]
                at += 1
        if product != extent:
            return None
        for (_, outer), (inner_extent, inner) in itertools.pairwise(group):
            if outer != inner * inner_extent:
                return None
        stride = group[-1][1]
        for k in range(j - 1, begin - 1, -1):
            result[k] = stride
            stride *= new[k]
    for k in range(len(new) - 1, -1, -1):
        if new[k] == 1:
            result[k] = result[k + 1] * new[k + 1] if k + 1 < len(new) else 1
    return tuple(result)


def infer_shape(shape: Sequence[int], size: int, source: Shape) -> Shape:
    """`shape` with its one -1 filled in so that it holds `size` elements.

    Raises:
        ShapeError: the numbers of elements differ, or more than one -1.
    """
    wanted = list(shape)
    if math.prod(wanted) == size and min(wanted, default=0) >= 0:
        return tuple(wanted)
    if wanted.count(-1) > 1:
        raise ShapeError(f"shape {show(shape)}: only one dimension can be -1")
    if any(e < -1 for e in wanted):
        raise ShapeError(f"shape {show(shape)} has a negative size; only -1 may be used, once, to infer a dimension")
    if -1 in wanted:
        rest = math.prod(e for e in wanted if e != -1)
        if rest == 0 or size % rest:
            raise ShapeError(f"shape {show(shape)} is invalid for input of shape {show(source)} ({size} elements)")
        wanted[wanted.index(-1)] = size // rest
    if math.prod(wanted) != size:
        raise ShapeError(f"shape {show(shape)} is invalid for input of shape {show(source)} ({size} elements)")
    return tuple(wanted)


def normal_dim(dim: Any, rank: int, argument: str = "dim") -> int:
    """A dimension counted from the front.

    Raises:
        IndexError: no such dimension.
    """
    if isinstance(dim, bool) or not hasattr(dim, "__index__"):
        raise TypeError(f"{argument}={dim!r} must be an integer")
    place = int(dim)
    bound = max(rank, 1)
    if not -bound <= place < bound:
        raise IndexError(
            f"{argument}={place} is out of range for a tensor of {rank} dimensions; valid are {-bound} to {bound - 1}"
        )
    return place % bound


def numbers(value: Any, count: int, argument: str, minimum: int = 0) -> Shape:
    """One integer or a sequence of `count` of them, as PyTorch takes kernel sizes and strides.

    Raises:
        TypeError: not integers. ValueError: too small. ShapeError: another number of them.

    >>> numbers(3, 2, "kernel_size"), numbers((1, 2), 2, "stride")
    ((3, 3), (1, 2))
    """
    if type(value) is int and value >= minimum:
        return (value,) * count
    if isinstance(value, (tuple, list)):
        items = tuple(value)
        if len(items) == 1:
            items *= count
    else:
        items = (value,) * count
    if any(isinstance(v, bool) or not hasattr(v, "__index__") for v in items):
        raise TypeError(f"{argument}={value!r} must be an integer or {count} integers")
    if len(items) != count:
        raise ShapeError(f"{argument}={value!r} must be one integer or {count} integers")
    result = tuple(int(v) for v in items)
    if any(v < minimum for v in result):
        raise ShapeError(f"{argument}={value!r} must not be below {minimum}")
    return result


def window_size(size: int, kernel: int, stride: int, pads: tuple[int, int], dilation: int, ceil: bool = False) -> int:
    """How many windows fit: floor((size + pads - dilation*(kernel - 1) - 1) / stride) + 1.

    With `ceil`, a window may overhang at the end if it starts inside the input or its front padding.

    >>> window_size(28, 3, 1, (1, 1), 1), window_size(5, 2, 2, (0, 0), 1, ceil=True)
    (28, 3)
    """
    span = size + pads[0] + pads[1] - dilation * (kernel - 1) - 1
    count = (span + (stride - 1 if ceil else 0)) // stride + 1
    if ceil and (count - 1) * stride >= size + pads[0]:
        count -= 1
    return count


def conv_output(
    x: Shape, w: Shape, stride: Shape, pads: Pads, dilation: Shape, groups: int, name: str = "conv2d"
) -> Shape:
    """Shape of a convolution of input [N, C, *spatial] with weight [out, C/groups, *kernel].

    Raises:
        ShapeError: what does not fit, with the numbers.
    """
    rank = len(w) - 2
    if len(x) != rank + 2:
        raise ShapeError(
            f"{name}: input of shape {show(x)} must have {rank + 2} dimensions [batch, channels, "
            f"{rank} spatial sizes] or {rank + 1} without batch"
        )
    if groups < 1:
        raise ShapeError(f"{name}: groups={groups} must be at least 1")
    if w[0] % groups:
        raise ShapeError(f"{name}: groups={groups} must divide the {w[0]} output channels of weight {show(w)}")
    if x[1] != w[1] * groups:
        raise ShapeError(
            f"{name}: input of shape {show(x)} has {x[1]} channels, but weight of shape {show(w)} with "
            f"groups={groups} expects {w[1] * groups}"
        )
    sizes = []
    for i in range(rank):
        padded = x[2 + i] + sum(pads[i])
        reach = dilation[i] * (w[2 + i] - 1) + 1
        if w[2 + i] < 1:
            raise ShapeError(f"{name}: kernel size of weight {show(w)} must be at least 1 in each dimension")
        if padded < reach:
            raise ShapeError(
                f"{name}: kernel size can't be greater than actual input size: padded input is {padded} in spatial "
                f"dimension {i}, the kernel reaches over {reach} (kernel {w[2 + i]}, dilation {dilation[i]})"
            )
        sizes.append(window_size(x[2 + i], w[2 + i], stride[i], pads[i], dilation[i]))
    return (x[0], w[0], *sizes)
