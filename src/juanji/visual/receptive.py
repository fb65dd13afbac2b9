"""Receptive fields and multiply-adds, read from the tape of a forward pass.

Every recorded operation says which window it looks through, so a walk from a result back to the input finds how much
of the input one of its elements sees, whatever Python did in between (residual sums, concatenations, functional
calls). Source of the recurrence: Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural Networks",
Distill, 2019.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from juanji.compiler.work import contraction_work
from juanji.tape import Function

#: Operations whose record names the window they look through.
_WINDOWS = ("conv", "max_pool", "avg_pool")


@dataclass(frozen=True)
class Field:
    """What one element sees of the input along each spatial dimension.

    Attributes:
        size: input positions from the first to the last that count; `math.inf` where it is the whole input.
        jump: how far apart in the input two neighbouring elements look.
    """

    size: tuple[float, ...]
    jump: tuple[float, ...]

    def __str__(self) -> str:
        if any(math.isinf(s) for s in self.size):
            return "all"
        return "x".join(f"{s:g}" for s in self.size)

    def through(self, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> Field:
        """The field after a window of `kernel` positions.

        >>> pixel = Field((1, 1), (1, 1))
        >>> pixel.through((3, 3), (2, 2), (1, 1)).through((3, 3), (1, 1), (1, 1)).size
        (7, 7)
        """
        size = tuple(s + (k - 1) * d * j for s, j, k, d in zip(self.size, self.jump, kernel, dilation, strict=True))
        return Field(size, tuple(j * s for j, s in zip(self.jump, stride, strict=True)))

    def spread(self, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> Field:
        """The field after a transposed convolution: an output lies under ceil(reach / stride) inputs."""
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        seen = [-(-r // s) for r, s in zip(reach, stride, strict=True)]
        size = tuple(z + (n - 1) * j for z, n, j in zip(self.size, seen, self.jump, strict=True))
        return Field(size, tuple(j / s for j, s in zip(self.jump, stride, strict=True)))

    def with_other(self, other: Field | None) -> Field:
        """The field of a value made of two: the larger of both."""
        if other is None or len(other.size) != len(self.size):
            return self
        return Field(
            tuple(map(max, self.size, other.size)),
            tuple(map(max, self.jump, other.jump)),
        )


def functions(edge: Any) -> Iterator[Function]:
    """All recorded operations behind `edge`, each once."""
    seen: set[int] = set()
    stack = [edge]
    while stack:
        function = stack.pop()
        if isinstance(function, Function) and id(function) not in seen:
            seen.add(id(function))
            yield function
            stack.extend(function.edges)


def fields(edge: Any, source: Any, rank: int) -> dict[int, Field]:
    """The receptive field of every operation between `source` (a leaf of the tape) and `edge`, by sequence number.

    Args:
        edge: where to start.
        source: the input's leaf.
        rank: spatial dimensions of the input.
    """
    found: dict[int, Field | None] = {id(source): Field((1,) * rank, (1,) * rank)}
    result: dict[int, Field] = {}
    for function in sorted(functions(edge), key=lambda f: f.seq):
        behind: Field | None = None
        first = True
        for i, below in enumerate(function.edges):
            field = None if below is None else found.get(id(below))
            if field is None:
                continue
            passed = _passed(function, i, field, rank)
            behind = passed if first or behind is None else behind.with_other(passed)
            first = False
        found[id(function)] = behind
        if behind is not None:
            result[function.seq] = behind
    return result


def _passed(function: Function, i: int, field: Field, rank: int) -> Field:
    name, attrs = function.op.name, function.attrs
    everything = Field((math.inf,) * rank, (1,) * rank)
    given, out = function.specs[i].shape, function.out_spec.shape
    if len(given) != rank + 2 or len(out) != rank + 2:
        return everything
    if i == 0 and name == "conv":
        return field.through(function.specs[1].shape[2:], attrs["stride"], attrs["dilation"])
    if i == 0 and name in _WINDOWS:
        return field.through(attrs["kernel"], attrs["stride"], attrs["dilation"])
    if i == 0 and name == "conv_input_grad":
        return field.spread(function.specs[1].shape[2:], attrs["stride"], attrs["dilation"])
    if name in ("slice", "view_write", "expand") or given[2:] == out[2:]:
        return field
    return everything


def multiply_adds(function: Function) -> int:
    """Multiplications with an addition that a recorded contraction does; 0 for other operations."""
    return contraction_work(function.op.name, [s.shape for s in function.specs], function.out_spec.shape)
