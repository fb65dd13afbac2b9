"""Receptive fields and multiply-adds, read from the tape of a forward pass.

Every recorded operation says which window it looks through, so a walk from a result back to the input finds how much
of the input one of its elements sees, whatever Python did in between (residual sums, concatenations, functional
calls). Source of the recurrence: Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural Networks",
Distill, 2019.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from juanji.compiler.work import contraction_work
from juanji.spec import Shape
from juanji.tape import Function, Packed

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


#: What one dimension of a tensor runs over, outermost first: (spatial dimension of the input or None, extent).
Parts = tuple[tuple[int | None, int], ...]


@dataclass(frozen=True)
class Seen:
    """The field of a value, and what its dimensions are; without `parts` nothing more is known than "all"."""

    field: Field
    parts: tuple[Parts, ...] | None

    def with_other(self, other: Seen) -> Seen:
        """What a value made of two sees."""
        parts = None
        if self.parts is not None and other.parts is not None:
            parts = max(self.parts, other.parts, key=lambda parts: sum(a is not None for p in parts for a, _ in p))
        return Seen(self.field.with_other(other.field), parts)


def fields(edge: Any, source: Any, rank: int) -> dict[int, Field]:
    """The receptive field of every operation between `source` (a leaf of the tape) and `edge`, by sequence number.

    Args:
        edge: where to start.
        source: the input's leaf.
        rank: spatial dimensions of the input.
    """
    everything = Seen(Field((math.inf,) * rank, (1,) * rank), None)
    pixel = Field((1,) * rank, (1,) * rank)
    found: dict[int, Seen | None] = {}
    result: dict[int, Field] = {}
    for function in sorted(functions(edge), key=lambda f: f.seq):
        behind: Seen | None = None
        for i, below in enumerate(function.edges):
            if below is source:
                shape = function.specs[i].shape
                axes = (None,) * (len(shape) - rank) + tuple(range(rank))
                seen: Seen | None = Seen(pixel, tuple(((a, e),) for a, e in zip(axes, shape, strict=True)))
            else:
                seen = None if below is None else found.get(id(below))
            if seen is None:
                continue
            passed = everything if seen.parts is None else _passed(function, i, seen.field, seen.parts) or everything
            behind = passed if behind is None else behind.with_other(passed)
        found[id(function)] = behind
        if behind is not None:
            image = len(function.out_spec.shape) == rank + 2
            result[function.seq] = behind.field if image else everything.field
    return result


def _passed(function: Function, i: int, field: Field, parts: tuple[Parts, ...]) -> Seen | None:
    """What the output sees through input `i`; None for everything."""
    name, attrs = function.op.name, function.attrs
    given, out = function.specs[i].shape, function.out_spec.shape
    if name == "reshape":
        return _regrouped(field, parts, out)
    if name == "permute":
        return Seen(field, tuple(parts[d] for d in attrs["dims"]))
    if i == 0 and name in (*_WINDOWS, "conv_input_grad"):
        kernel = attrs["kernel"] if "kernel" in attrs else function.specs[1].shape[2:]
        return _windowed(name == "conv_input_grad", kernel, attrs, field, parts, out)
    if function.op.kind == "reduce":
        return _reduced(field, parts, attrs["dims"], out)
    if name == "gather" and i == 0:
        return Seen(field, _resized(parts, out)) if _extends(function, given) else None
    if function.op.kind == "map" or name in ("expand", "copy"):
        aligned = (((None, 1),),) * (len(out) - len(given)) + parts
        extents = (1,) * (len(out) - len(given)) + given
        return Seen(field, tuple(p if e == o else ((None, o),) for p, e, o in zip(aligned, extents, out, strict=True)))
    if name in ("slice", "view_write") and len(given) == len(out):
        steps = [bound[2] for bound in attrs["bounds"]] if name == "slice" else [1] * len(out)
        jump = list(field.jump)
        for part, step in zip(parts, steps, strict=True):
            if len(part) == 1 and part[0][0] is not None:
                jump[part[0][0]] *= abs(step)
        return Seen(Field(field.size, tuple(jump)), _resized(parts, out))
    if given == out and "dim" in attrs and function.op.kind == "rows":
        return Seen(_reduced(field, parts, (attrs["dim"] % len(out),), out).field, parts)
    return None


def _resized(parts: tuple[Parts, ...], shape: Shape) -> tuple[Parts, ...] | None:
    """The parts where dimensions have other extents; None when one that has changed is made of several."""
    resized: list[Parts] = []
    for part, extent in zip(parts, shape, strict=True):
        if math.prod(e for _, e in part) == extent:
            resized.append(part)
        elif len(part) == 1:
            resized.append(((part[0][0], extent),))
        else:
            return None
    return tuple(resized)


def _windowed(
    transposed: bool, kernel: Shape, attrs: dict[str, Any], field: Field, parts: tuple[Parts, ...], out: Shape
) -> Seen | None:
    rank, first = len(field.size), len(out) - len(kernel)
    one = [1] * rank
    at: dict[str, list[int]] = {"kernel": one[:], "stride": one[:], "dilation": one[:]}
    for k, s, d, part in zip(kernel, attrs["stride"], attrs["dilation"], parts[first:], strict=True):
        if (k == 1 and s == 1) or math.prod(e for _, e in part) == 1:
            continue
        axis = part[0][0]
        if len(part) != 1:
            return None
        if axis is not None:  # a window over channels looks at no more places
            at["kernel"][axis], at["stride"][axis], at["dilation"][axis] = k, s, d
    move = field.spread if transposed else field.through
    moved = move(tuple(at["kernel"]), tuple(at["stride"]), tuple(at["dilation"]))
    return Seen(moved, _resized(parts, out))


def _reduced(field: Field, parts: tuple[Parts, ...], dims: Sequence[int], out: Shape) -> Seen:
    size = list(field.size)
    for d in dims:
        for axis, extent in parts[d]:
            if axis is not None and extent > 1:
                size[axis] = math.inf
    kept = [((None, 1),) if d in dims else part for d, part in enumerate(parts)]
    if len(out) < len(kept):
        kept = [part for d, part in enumerate(kept) if d not in dims]
    return Seen(Field(tuple(size), field.jump), tuple(kept))


def _regrouped(field: Field, parts: tuple[Parts, ...], shape: Shape) -> Seen | None:
    """The same elements in another shape; None where a spatial dimension would be cut."""
    left = [one for part in parts for one in part if one[1] != 1]
    jump, groups = list(field.jump), []
    for extent in shape:
        group: list[tuple[int | None, int]] = []
        while extent > 1:
            axis, length = left.pop(0) if left else (0, 0)
            if length and extent % length == 0:
                group.append((axis, length))
                extent //= length
            elif axis is None and length % extent == 0:
                group.append((None, extent))
                left.insert(0, (None, length // extent))
                extent = 1
            else:
                return None
        if len(group) > 1 and group[0][0] is not None and all(a is None for a, _ in group[1:]):
            finer = math.prod(e for _, e in group[1:])  # pixels repeated, or laid out from channels
            jump[group[0][0]] /= finer
            group = [(group[0][0], group[0][1] * finer)]
        groups.append(tuple(group) or ((None, 1),))
    return Seen(Field(field.size, tuple(jump)), tuple(groups))


def _extends(function: Function, given: Shape) -> bool:
    """Whether a gather copies its input in order and something of it around: padding, which counts for nothing."""
    saved = function.saved[1] if len(function.saved) > 1 else None
    if not isinstance(saved, tuple) or isinstance(saved, Packed) or not saved[0].numel():
        return False
    row = np.moveaxis(saved[0].detach().numpy(), function.attrs["dim"], -1)
    while row.ndim > 1:
        row = row[0]
    places = np.arange(given[function.attrs["dim"]])
    starts = range(len(row) - len(places) + 1)
    return any(np.array_equal(row[s : s + len(places)], places) for s in starts)


def multiply_adds(function: Function) -> int:
    """Multiplications with an addition that a recorded contraction does; 0 for other operations."""
    return contraction_work(function.op.name, [s.shape for s in function.specs], function.out_spec.shape)
