"""Which kernel positions meet which input positions, as rectangles inside which every output has the same taps.

Nothing is padded: outputs at the border simply have shorter lists of taps.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from juanji.compiler.access import Access
from juanji.graph import Node


@dataclass(frozen=True)
class Span:
    """Consecutive outputs of one dimension, `step` apart in memory, that share their taps.

    Attributes:
        start: first output position.
        count: how many.
        step: distance between them.
        taps: (kernel position, input position for the first output) pairs; inputs advance by `advance` an output.
        advance: how far the input position moves from one output to the next.
    """

    start: int
    count: int
    step: int
    taps: tuple[tuple[int, int], ...]
    advance: int


def forward_spans(size: int, out: int, kernel: int, stride: int, pad: int, dilation: int) -> list[Span]:
    """Outputs o of a convolution read inputs o * stride + k * dilation - pad, where those exist.

    >>> [(s.start, s.count, [k for k, _ in s.taps]) for s in forward_spans(5, 5, 3, 1, 1, 1)]
    [(0, 1, [1, 2]), (1, 3, [0, 1, 2]), (4, 1, [0, 1])]
    """

    line = _segments(out, [(k, k * dilation - pad) for k in range(kernel)], stride, size)
    return [Span(first, count, 1, taps, stride) for first, count, taps in line]


def backward_spans(size: int, out: int, kernel: int, stride: int, pad: int, dilation: int) -> list[Span]:
    """Inputs i of a convolution were read by outputs (i + pad - k * dilation) / stride, where those are whole.

    With a stride, every residue of i is a phase of its own, each a convolution of stride 1 over the gradient.
    """
    spans: list[Span] = []
    for phase in range(min(stride, size)):
        places = ((k, phase + pad - k * dilation) for k in range(kernel - 1, -1, -1))
        starts = [(k, p // stride) for k, p in places if p % stride == 0]
        line = _segments(-(-(size - phase) // stride), starts, 1, out)
        spans += [Span(phase + first * stride, count, stride, taps, 1) for first, count, taps in line]
    return spans


def _segments(
    count: int, starts: list[tuple[int, int]], advance: int, limit: int
) -> list[tuple[int, int, tuple[tuple[int, int], ...]]]:
    """Positions j of 0 to `count` in runs (first, number, taps of the first) that share their taps.

    Tap (k, start) of position j reads place start + j * advance, if that is in 0 to `limit`.
    """
    edges = {0, count}
    for _, start in starts:
        for edge in (-(start // advance), -((start - limit) // advance)):  # rounded up
            if 0 < edge < count:
                edges.add(edge)
    runs: list[tuple[int, int, tuple[tuple[int, int], ...]]] = []
    for first, end in itertools.pairwise(sorted(edges)):
        places = ((k, start + first * advance) for k, start in starts)
        taps = tuple((k, place) for k, place in places if 0 <= place < limit)
        if runs and [k for k, _ in runs[-1][2]] == [k for k, _ in taps]:
            runs[-1] = (runs[-1][0], runs[-1][1] + end - first, runs[-1][2])
        else:
            runs.append((first, end - first, taps))
    return runs


@dataclass(frozen=True)
class Overlap:
    """Kernel positions of one dimension that meet the same outputs.

    Attributes:
        first: the first kernel position.
        count: how many consecutive ones.
        outputs: (first, end) of the outputs they meet.
    """

    first: int
    count: int
    outputs: tuple[int, int]


def kernel_overlaps(size: int, out: int, kernel: int, stride: int, pad: int, dilation: int) -> list[Overlap]:
    """For each kernel position k the outputs o with 0 <= o * stride + k * dilation - pad < size.

    >>> [(o.first, o.count, o.outputs) for o in kernel_overlaps(5, 5, 3, 1, 1, 1)]
    [(0, 1, (1, 5)), (1, 1, (0, 5)), (2, 1, (0, 4))]
    """
    result: list[Overlap] = []
    for k in range(kernel):
        shift = k * dilation - pad
        low = min(out, max(0, -(shift // stride)))  # rounded up
        high = min(out, (size - 1 - shift) // stride + 1) if size - 1 - shift >= 0 else 0
        span = (low, max(low, high))
        if result and result[-1].outputs == span:
            result[-1] = Overlap(result[-1].first, result[-1].count + 1, span)
        else:
            result.append(Overlap(k, 1, span))
    return result


@dataclass(frozen=True)
class Geometry:
    """A convolution's sizes and attributes, with three spatial dimensions: those that a tensor lacks have extent 1."""

    images: int
    groups: int
    ins: int
    outs: int
    size: tuple[int, ...]
    out: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]

    def reach(self) -> tuple[int, ...]:
        """How many places of each dimension, from the padding's first on, the windows of all outputs cover."""
        sizes = zip(self.out, self.stride, self.kernel, self.dilation, strict=True)
        return tuple((o - 1) * s + (k - 1) * d + 1 for o, s, k, d in sizes)

    def plane(self) -> Geometry:
        """Without the first of the three dimensions."""
        spatial = ("size", "out", "kernel", "stride", "pad", "dilation")
        return replace(self, **{name: getattr(self, name)[1:] for name in spatial})


def geometry_of(anchor: Node, x: tuple[int, ...], w: tuple[int, ...], out: tuple[int, ...]) -> Geometry:
    """The geometry of a node of convolution's trio, from the shapes of its input, weight and output."""
    if not 3 <= len(x) <= 5:
        raise AssertionError("the tensor layer gives convolutions one to three spatial dimensions")
    groups = anchor.attr("groups")
    missing = 5 - len(x)
    ones, zeros = (1,) * missing, (0,) * missing
    return Geometry(
        x[0],
        groups,
        w[1],
        w[0] // groups,
        (*ones, *x[2:]),
        (*ones, *out[2:]),
        (*ones, *w[2:]),
        (*ones, *anchor.attr("stride")),
        (*zeros, *(before for before, _ in anchor.attr("padding"))),
        (*ones, *anchor.attr("dilation")),
    )


def lifted(access: Access, rank: int = 5) -> Access:
    """An image or a kernel [a, b, *spatial] with leading spatial dimensions of extent 1 up to `rank`."""
    shape, strides = access.shape, access.strides
    while len(shape) < rank:
        shape, strides = (*shape[:2], 1, *shape[2:]), (*strides[:2], shape[2] * strides[2], *strides[2:])
    return replace(access, shape=shape, strides=strides)


def lowered(access: Access, rank: int) -> Access:
    """Without the leading spatial dimensions, of extent 1, that `lifted` adds."""
    gone = len(access.shape) - rank
    shape, strides = access.shape, access.strides
    return replace(access, shape=(*shape[:2], *shape[2 + gone :]), strides=(*strides[:2], *strides[2 + gone :]))
