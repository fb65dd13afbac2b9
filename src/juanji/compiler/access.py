"""Where a value lies: a buffer, an offset and strides. Views are accesses; kernels take strides at run time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from juanji.spec import Shape, contiguous_strides, reshape_strides
from juanji.target import DTYPE_BYTES, Target

_ids = itertools.count()
#: A result of more bytes is not in the second-level cache any more when it is read.
STREAMED_BYTES = 2 << 20


@dataclass(eq=False)
class Buffer:
    """A piece of memory of a plan.

    Attributes:
        nbytes: its size.
        kind: "arena" (placed by the memory plan), "slot" (an input's memory), "output" (made anew for each call),
            "constant", or "arguments" (a table of argument blocks).
        index: of the slot or output; for constants unused.
        data: the contents of a constant or table.
    """

    nbytes: int
    kind: str = "arena"
    index: int = -1
    data: Any = None
    id: int = field(default_factory=lambda: next(_ids))


@dataclass(frozen=True)
class Access:
    """Elements of a buffer: `strides` and `offset` count elements of `dtype`."""

    buffer: Buffer
    shape: Shape
    strides: Shape
    offset: int
    dtype: str

    @property
    def item(self) -> int:
        """Bytes of an element."""
        return DTYPE_BYTES[self.dtype]

    @property
    def byte_offset(self) -> int:
        """Offset of the first element in bytes."""
        return self.offset * self.item

    def byte_strides(self) -> list[int]:
        """Strides in bytes."""
        return [s * self.item for s in self.strides]

    def _seen(self, shape: Shape, strides: Shape, shift: int = 0) -> Access:
        # `dataclasses.replace` takes three times as long, and a plan of a network has thousands.
        return Access(self.buffer, shape, strides, self.offset + shift, self.dtype)

    def view(self, name: str, attrs: dict[str, Any], out: Shape) -> Access | None:
        """What a view step shows; None where memory order does not allow it."""
        if name == "permute":
            return self._seen(out, tuple([self.strides[d] for d in attrs["dims"]]))
        if name == "slice":
            shift = sum(b[0] * s for b, s, e in zip(attrs["bounds"], self.strides, out, strict=True) if e)
            strides = tuple(b[2] * s for b, s in zip(attrs["bounds"], self.strides, strict=True))
            return self._seen(out, strides, shift)
        if name == "expand":
            return self.broadcast(out)
        strides_ = reshape_strides(self.shape, self.strides, out)
        return None if strides_ is None else self._seen(out, strides_)

    def broadcast(self, shape: Shape) -> Access:
        """Stretched to `shape` by zero strides."""
        lead = len(shape) - len(self.shape)
        strides = tuple(
            0 if i < lead or (self.shape[i - lead] == 1 and e != 1) else self.strides[i - lead]
            for i, e in enumerate(shape)
        )
        return self._seen(shape, strides)

    def covers_buffer(self) -> bool:
        """Whether this is all of the buffer, densely, in some order of the dimensions."""
        return self.offset == 0 and dense(self.shape, self.strides) and self.buffer.nbytes == self.nbytes

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return math.prod(self.shape) * self.item


def dense(shape: Shape, strides: Shape) -> bool:
    """Whether elements fill their memory without gaps or overlaps, in some order of the dimensions."""
    expected = 1
    for stride, extent in sorted((s, e) for e, s in zip(shape, strides, strict=True) if e != 1):
        if stride != expected:
            return False
        expected *= extent
    return True


def memory_order(shape: Shape, strides: Shape) -> tuple[int, ...]:
    """The dimensions from the outermost in memory to the innermost; ties and extents of 1 keep their place."""
    big = [d for d, e in enumerate(shape) if e != 1]
    ordered = iter(sorted(big, key=lambda d: -abs(strides[d])))
    return tuple(next(ordered) if e != 1 else d for d, e in enumerate(shape))


def strides_in_order(shape: Shape, order: Sequence[int]) -> Shape:
    """Dense strides with the dimensions laid out in `order`, outermost first."""
    inner = contiguous_strides(tuple(shape[d] for d in order))
    result = [0] * len(shape)
    for d, s in zip(order, inner, strict=True):
        result[d] = s
    return tuple(result)


def order_for_reshape(shape: Shape, strides: Shape, out: Shape) -> tuple[int, ...]:
    """A memory order in which elements can be shown as `out`, as near as possible to the one they are in.

    Dimensions that become one lie side by side; such runs keep the order in which they move. So pictures whose pixels
    are doubled, or whose channels are shuffled, stay channels-last.

    >>> order_for_reshape((2, 3, 4, 2, 5, 2), (60, 1, 15, 0, 3, 0), (2, 3, 8, 10))
    (0, 2, 3, 4, 5, 1)
    """
    runs: list[list[int]] = []
    at, run, left, right = 0, list[int](), 1, 1
    for d, extent in enumerate(shape):
        run.append(d)
        left *= extent
        while right < left and at < len(out):
            right *= out[at]
            at += 1
        if left == right:
            runs.append(run)
            run, left, right = [], 1, 1
    if run or math.prod(shape) == 0:
        return tuple(range(len(shape)))
    runs.sort(key=lambda run: -max((strides[d] for d in run if shape[d] != 1), default=0))
    return tuple(d for run in runs for d in run)


def channels_last(rank: int) -> tuple[int, ...]:
    """The memory order in which kernels keep [N, C, *spatial]."""
    return (0, *range(2, rank), 1)


def collapse(shape: Shape, strides: Sequence[Shape], order: Sequence[int]) -> tuple[Shape, list[Shape]]:
    """The fewest loop axes, in `order`, over which all operands move by one stride each.

    >>> collapse((4, 5, 6), [(30, 6, 1), (0, 6, 1)], (0, 1, 2))
    ((4, 30), [(30, 1), (0, 1)])
    """
    axes = [d for d in order if shape[d] != 1]
    extents: list[int] = []
    result: list[list[int]] = [[] for _ in strides]
    for d in axes:
        if extents and all(r[-1] == s[d] * shape[d] for r, s in zip(result, strides, strict=True)):
            extents[-1] *= shape[d]
            for r, s in zip(result, strides, strict=True):
                r[-1] = s[d]
        else:
            extents.append(shape[d])
            for r, s in zip(result, strides, strict=True):
                r.append(s[d])
    if not extents:
        extents = [1]
        for r in result:
            r.append(0)
    return tuple(extents), [tuple(r) for r in result]


def past_caches(access: Access, target: Target) -> bool:
    """Whether a result is written past the caches, in whole vectors along its innermost dimension.

    A line of memory that a plain store touches is read first, which is a third of the traffic of a copy. Whether the
    memory begins at a vector's boundary is seen by the kernel, since memory of others need not.
    """
    steps = [stride for n, stride in zip(access.shape, access.strides, strict=True) if n > 1 and stride != 1]
    return access.nbytes > STREAMED_BYTES and all(step * access.item % target.vector_bytes == 0 for step in steps)
