"""What lowering writes: kernel calls over buffers, before memory is placed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji.compiler.access import Access, Buffer, strides_in_order
from juanji.runtime.memory import check_size
from juanji.spec import Shape, contiguous_strides
from juanji.target import DTYPE_BYTES, Target


@dataclass(frozen=True)
class Ref:
    """An address in a kernel's arguments: a byte offset into a buffer."""

    buffer: Buffer
    offset: int = 0


@dataclass
class Call:
    """One kernel call.

    Attributes:
        spec: the kernel's specification.
        args: its argument slots.
        chunks: how many independent chunks it has.
        label: what it is for, for people.
        writes: the buffers it writes.
        blocks: for a call that does several pieces of work, the arguments of each, and
        rows: the table of (address of a block, its first chunk) that the kernel walks.
        flops: multiplications and additions of a contraction, for profiles.
        algorithm: how a contraction is computed, and
        refused: what was considered before it, each with the reason why it was not taken.
    """

    spec: Any
    args: list[int | Ref]
    chunks: int
    label: str
    writes: frozenset[Buffer] = frozenset()
    blocks: list[list[int | Ref]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    flops: int = 0
    algorithm: str = ""
    refused: tuple[tuple[str, str], ...] = ()

    def buffers(self) -> list[Buffer]:
        """The buffers it touches."""
        return [a.buffer for args in (self.args, *self.blocks) for a in args if isinstance(a, Ref)]


@dataclass
class Program:
    """Calls in order, and the constants they read."""

    target: Target
    calls: list[Call] = field(default_factory=list)

    def buffer(self, shape: Shape, dtype: str, order: Sequence[int] | None = None, kind: str = "arena") -> Access:
        """A new buffer for a value of `shape`, dense, its dimensions in `order` in memory."""
        strides = contiguous_strides(shape) if order is None else strides_in_order(shape, order)
        check_size(shape, dtype)
        nbytes = math.prod(shape) * DTYPE_BYTES[dtype]
        return Access(Buffer(nbytes, kind), shape, strides, 0, dtype)

    def constant(self, array: NDArray[Any], dtype: str = "i64") -> Access:
        """A buffer that holds `array` from the beginning."""
        data = np.ascontiguousarray(array)
        buffer = Buffer(data.nbytes, "constant", data=data)
        return Access(buffer, tuple(data.shape), contiguous_strides(tuple(data.shape)), 0, dtype)

    def call(self, spec: Any, args: list[int | Ref], chunks: int, label: str, writes: Sequence[Access]) -> None:
        """Appends a kernel call; one without chunks is dropped."""
        if chunks > 0:
            self.calls.append(Call(spec, args, chunks, label, frozenset(a.buffer for a in writes)))


def ref(access: Access) -> Ref:
    """The address of an access's first element."""
    return Ref(access.buffer, access.byte_offset)
