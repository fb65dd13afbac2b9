"""The input gradient of a strided convolution of few channels, and so the forward pass of a transposed one.

Each of the s x s phases of the input is a convolution of the output's gradient with the taps that meet it. Few channels
leave most lanes of a vector idle, so all phases are computed side by side as channels of one image, s times smaller
along each dimension, and then laid between one another (Shi et al., "Real-time single image and video super-resolution
using an efficient sub-pixel convolutional neural network", 2016). Phases with fewer taps than others get zeros; times
an infinite gradient is NaN: where a gradient is not finite, it spoils a few more places of the input.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from juanji.compiler.access import Access
from juanji.compiler.lower import Lowering
from juanji.compiler.lower_contract import COPY_STEPS, steps_across, steps_along
from juanji.compiler.windows import Geometry
from juanji.dtypes import BY_SHORT

#: The least that must be gained in steps, for the zeros that the joint weights hold.
GAIN = 1.2


@dataclass(frozen=True)
class _Axis:
    """One dimension.

    Attributes:
        taps: of the joint kernel.
        pad: its padding: output q of every phase meets positions q + pad - t.
        phases: of each phase, (first tap of the kernel, first tap of the joint kernel, number).
    """

    taps: int
    pad: int
    phases: tuple[tuple[int, int, int], ...]


def _axis(kernel: int, stride: int, pad: int) -> _Axis:
    """Input q * stride + p meets position (input + pad - k) / stride for each tap k that makes it whole.

    >>> _axis(7, 2, 3).taps, _axis(7, 2, 3).phases
    (4, ((1, 1, 3), (0, 0, 4)))
    """
    bases = [(p + pad) // stride for p in range(stride)]
    firsts = [(p + pad) % stride for p in range(stride)]
    counts = [max(0, -(-(kernel - first) // stride)) for first in firsts]
    shifts = [max(bases) - base for base in bases]
    phases = tuple(zip(firsts, shifts, counts, strict=True))
    return _Axis(max(s + n for _, s, n in phases), max(bases), phases)


def refusal(lowering: Lowering, g: Geometry, dtype: str) -> str:
    """Why the phases are not computed side by side; empty where they are, which takes fewer steps than one by one."""
    if g.groups != 1 or math.prod(g.stride) == 1 or any(d != 1 for d in g.dilation):
        return "groups, a dilation, or no stride"
    axes = [_axis(*sizes) for sizes in zip(g.kernel, g.stride, g.pad, strict=True)]
    number = math.prod(g.stride)

    def steps(depth: int, runs: float, columns: int) -> float:
        return min(way(lowering, depth, runs, columns, dtype) for way in (steps_along, steps_across))

    apart = sum(math.prod(n for _, _, n in phase) for phase in itertools.product(*(a.phases for a in axes)))
    joint = steps(axes[2].taps * g.outs, math.prod(a.taps for a in axes[:2]), g.ins * number)
    joint += COPY_STEPS * g.ins * number
    single = number * steps(g.outs, apart / number, g.ins)
    return "" if joint * GAIN <= single else f"{joint:.0f} steps instead of {single:.0f}: must be {GAIN} times fewer"


def joint(lowering: Lowering, g: Geometry, w: Access) -> tuple[Geometry, Access]:
    """The convolution of stride 1 whose input gradient is all phases side by side, and its weights.

    Args:
        w: [out, in, *kernel] in three dimensions.
    """
    axes = [_axis(*sizes) for sizes in zip(g.kernel, g.stride, g.pad, strict=True)]
    number = math.prod(g.stride)
    size = tuple(-(-n // s) for n, s in zip(g.size, g.stride, strict=True))
    kernel = tuple(a.taps for a in axes)
    wide = lowering.program.buffer((g.outs, number, g.ins, *kernel), w.dtype)
    zero = lowering.program.constant(np.zeros((), BY_SHORT[w.dtype].numpy), w.dtype).broadcast(wide.shape)
    lowering.copy(zero, wide, "zeros")
    for place, phase in enumerate(itertools.product(*(a.phases for a in axes))):
        shape = (*w.shape[:2], *(n for _, _, n in phase))
        steps = [stride * s for stride, s in zip(w.strides[2:], g.stride, strict=True)]
        start = sum(first * s for (first, _, _), s in zip(phase, w.strides[2:], strict=True))
        source = replace(w, shape=shape, strides=(*w.strides[:2], *steps), offset=w.offset + start)
        o, p, i, *k = wide.strides
        start = place * p + sum(shift * s for (_, shift, _), s in zip(phase, k, strict=True))
        if math.prod(shape):
            lowering.copy(source, replace(wide, shape=shape, strides=(o, i, *k), offset=start), "phases side by side")
    flat = replace(wide, shape=(g.outs, number * g.ins, *kernel), strides=(wide.strides[0], *wide.strides[2:]))
    ones = (1,) * 3
    pads = tuple(a.pad for a in axes)
    return replace(g, ins=number * g.ins, size=size, kernel=kernel, stride=ones, pad=pads), flat


def between(lowering: Lowering, g: Geometry, phases: Access, result: Access) -> None:
    """Lays the phases between one another.

    Args:
        phases: [N, phases * in, *smaller], `result` [N, in, *size], both in three dimensions.
    """
    n, c, *spatial = phases.strides
    to_n, to_c, *steps = result.strides
    whole = all(size % s == 0 for size, s in zip(g.size, g.stride, strict=True))
    if whole:  # in one go
        small = phases.shape[2:]
        sizes = tuple(itertools.chain(*zip(small, g.stride, strict=True)))
        weights = [c * g.ins * math.prod(g.stride[d + 1 :]) for d in range(3)]
        from_ = (n, *itertools.chain(*zip(spatial, weights, strict=True)), c)
        into = (to_n, *itertools.chain(*((t * s, t) for t, s in zip(steps, g.stride, strict=True))), to_c)
        shape = (g.images, *sizes, g.ins)
        lowering.copy(
            replace(phases, shape=shape, strides=from_),
            replace(result, shape=shape, strides=into),
            "phases to image",
        )
        return
    for place, phase in enumerate(itertools.product(*map(range, g.stride))):
        shape = (g.images, g.ins, *(-(-(size - p) // s) for size, p, s in zip(g.size, phase, g.stride, strict=True)))
        if math.prod(shape):
            start = sum(p * t for p, t in zip(phase, steps, strict=True))
            target = tuple(t * s for t, s in zip(steps, g.stride, strict=True))
            lowering.copy(
                replace(phases, shape=shape, offset=phases.offset + place * g.ins * c),
                replace(result, shape=shape, strides=(to_n, to_c, *target), offset=result.offset + start),
                "phases to image",
            )
