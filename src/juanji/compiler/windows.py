"""Which kernel positions meet which input positions, as rectangles inside which every output has the same taps.

Nothing is padded: outputs at the border simply have shorter lists of taps.
"""

from __future__ import annotations

from dataclasses import dataclass

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

    def taps(o: int) -> tuple[tuple[int, int], ...]:
        places = ((k, o * stride + k * dilation - pad) for k in range(kernel))
        return tuple((k, i) for k, i in places if 0 <= i < size)

    return _merge([(o, taps(o)) for o in range(out)], 1, stride)


def backward_spans(size: int, out: int, kernel: int, stride: int, pad: int, dilation: int) -> list[Span]:
    """Inputs i of a convolution were read by outputs (i + pad - k * dilation) / stride, where those are whole.

    With a stride, every residue of i is a phase of its own, each a convolution of stride 1 over the gradient.
    """
    spans: list[Span] = []
    for phase in range(min(stride, size)):
        line: list[tuple[int, tuple[tuple[int, int], ...]]] = []
        for i in range(phase, size, stride):
            places = ((k, i + pad - k * dilation) for k in range(kernel - 1, -1, -1))
            line.append((i, tuple((k, p // stride) for k, p in places if p % stride == 0 and 0 <= p // stride < out)))
        spans += _merge(line, stride, 1)
    return spans


def _merge(line: list[tuple[int, tuple[tuple[int, int], ...]]], step: int, advance: int) -> list[Span]:
    spans: list[Span] = []
    for position, taps in line:
        last = spans[-1] if spans else None
        if last is not None and tuple(k for k, _ in last.taps) == tuple(k for k, _ in taps):
            spans[-1] = Span(last.start, last.count + 1, step, last.taps, advance)
        else:
            spans.append(Span(position, 1, step, taps, advance))
    return spans


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
        low = max(0, -(shift // stride)) if shift < 0 else 0
        while low < out and low * stride + shift < 0:
            low += 1
        high = min(out, (size - 1 - shift) // stride + 1) if size - 1 - shift >= 0 else 0
        span = (low, max(low, high))
        if result and result[-1].outputs == span:
            result[-1] = Overlap(result[-1].first, result[-1].count + 1, span)
        else:
            result.append(Overlap(k, 1, span))
    return result


@dataclass(frozen=True)
class Geometry:
    """A two-dimensional convolution: sizes and attributes; one spatial dimension becomes two with a leading 1."""

    images: int
    groups: int
    ins: int
    outs: int
    size: tuple[int, int]
    out: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    dilation: tuple[int, int]


def geometry_of(anchor: Node, x: tuple[int, ...], w: tuple[int, ...], out: tuple[int, ...]) -> Geometry:
    """The geometry of a node of convolution's trio, from the shapes of its input, weight and output."""
    if len(x) != 4:
        raise AssertionError("the tensor layer gives convolutions two spatial dimensions")
    groups = anchor.attr("groups")
    pads = anchor.attr("padding")
    return Geometry(
        x[0],
        groups,
        w[1],
        w[0] // groups,
        (x[2], x[3]),
        (out[2], out[3]),
        (w[2], w[3]),
        anchor.attr("stride"),
        (pads[0][0], pads[1][0]),
        anchor.attr("dilation"),
    )
