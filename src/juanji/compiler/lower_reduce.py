"""Reductions and moments as loops; long ones over channels-last data in two steps.

Where the reduced dimensions lie outside of the kept ones, as the batch, rows and columns of channels-last pictures do,
the outermost of them are first kept: each picture, or each row of one, has its own partial results, which lie in the
cache while they are made and give the threads something to share. A second, short loop puts them together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from juanji.compiler.access import Access, collapse, memory_order, strides_in_order
from juanji.compiler.fuse import Group
from juanji.compiler.lower import Expr, Lowering, Operands, loop_call, names
from juanji.dtypes import BY_SHORT
from juanji.ops.reduce import REDUCTION
from juanji.spec import Shape

#: Positions of one partial result: a block of columns of so many stays in the second-level cache.
POSITIONS = 1024
#: Elements from which a reduction is done in two steps.
LONG = 1 << 16


def lower(lowering: Lowering, group: Group) -> None:
    """One or more reductions of the same dimensions in one loop, with what feeds only them computed inside."""
    first = group.anchors[0]
    shape, dims = first.inputs[0].shape, first.attr("dims")
    operands = Operands(lowering, group, shape)
    exprs = [operands.expr(anchor.inputs[0]) for anchor in group.anchors]
    outs = [lowering.result(anchor) for anchor in group.anchors]
    if math.prod(first.shape) == 0:
        return
    kinds = [_kind(anchor) for anchor in group.anchors]
    accesses = _never_none(lowering, operands.accesses, shape)
    label = names(group.nodes)
    split = [] if _positional(kinds) else _split(shape, dims, accesses)
    if split:
        partials = [_partial(lowering, shape, dims, split, anchor.dtype) for anchor in group.anchors]
        _reduce(lowering, shape, _without(dims, split), accesses, partials, _plain(kinds, exprs, group), label)
        shape, dims = partials[0].shape, tuple(split)
        accesses, label = partials, f"{label}: parts"
        exprs = [("load", anchor.dtype, i) for i, anchor in enumerate(group.anchors)]
    _reduce(lowering, shape, dims, accesses, outs, _plain(kinds, exprs, group), label)


def moments(lowering: Lowering, group: Group) -> None:
    """Mean and variance: of each part about its own mean, then of the parts (Chan, Golub and LeVeque, 1979)."""
    anchor = group.anchor
    assert anchor is not None
    shape, dims, dtype = anchor.inputs[0].shape, anchor.attr("dims"), anchor.dtype
    operands = Operands(lowering, group, shape)
    x = operands.expr(anchor.inputs[0])
    out = lowering.result(anchor)
    if math.prod(out.shape) == 0:
        return
    outs = [replace(out, shape=out.shape[1:], strides=out.strides[1:], offset=out.offset + i * out.strides[0])
            for i in range(2)]  # fmt: skip
    accesses = _never_none(lowering, operands.accesses, shape)
    count, label = math.prod(shape[d] for d in dims), names(group.nodes)

    def number(value: int, among: list[Access], extent: Shape) -> Expr:
        # Read, not written into the kernel: one kernel serves any number.
        among.append(lowering.program.constant(np.array(value, BY_SHORT[dtype].numpy), dtype).broadcast(extent))
        return ("load", dtype, len(among) - 1)

    def stages(mean_of: Expr, parts: Expr, squares: Any, total: Expr) -> tuple[Any, ...]:
        mean = ("div", dtype, ("red", dtype, 0), parts)
        apart = ("sub", dtype, mean_of, mean)
        own = squares(("mul", dtype, apart, apart))
        variance = ("div", dtype, ("red", dtype, 1), total)
        return ("reduce", "sum", mean_of), ("reduce", "sum", own), ("store_row", 0, mean), ("store_row", 1, variance)

    split = _split(shape, dims, accesses)
    if split:
        parts = math.prod(shape[d] for d in split)
        partials = [_partial(lowering, shape, dims, split, dtype) for _ in range(2)]
        n = number(count // parts, accesses, shape)
        inner = stages(x, n, lambda square: square, n)
        _reduce(lowering, shape, _without(dims, split), accesses, partials, inner, label)
        shape, dims, accesses, label = partials[0].shape, tuple(split), list(partials), f"{label}: parts"
        n = number(parts, accesses, shape)
        own = ("load", dtype, 1)
        _reduce(
            lowering, shape, dims, accesses, outs,
            stages(("load", dtype, 0), n, lambda square: ("add", dtype, own, square), n), label,
        )  # fmt: skip
        return
    n = number(count, accesses, shape)
    _reduce(lowering, shape, dims, accesses, outs, stages(x, n, lambda square: square, n), label)


def _kind(anchor: Any) -> str:
    return REDUCTION[anchor.op.name]


def _plain(kinds: Sequence[str], exprs: Sequence[Expr], group: Group) -> tuple[Any, ...]:
    reduces = [("reduce", kind, expr) for kind, expr in zip(kinds, exprs, strict=True)]
    stores = [("store_row", i, ("red", anchor.dtype, i)) for i, anchor in enumerate(group.anchors)]
    return (*reduces, *stores)


def _positional(kinds: Sequence[str]) -> bool:
    return any(kind in ("argmax", "argmin") for kind in kinds)


def _never_none(lowering: Lowering, accesses: Sequence[Access], shape: Shape) -> list[Access]:
    if accesses and math.prod(shape):
        return list(accesses)
    return [*accesses, lowering.program.constant(np.zeros((), np.float32), "f32").broadcast(shape)]


def _order(shape: Shape, accesses: Sequence[Access]) -> tuple[int, ...]:
    main = max(accesses, key=lambda a: sum(1 for s in a.strides if s))
    return memory_order(shape, main.strides)


def _axes(shape: Shape, dims: Sequence[int], order: Sequence[int]) -> tuple[list[int], list[int], bool]:
    """(dimensions kept, dimensions reduced, whether the innermost is a kept one)."""
    kept = [d for d in order if d not in dims and shape[d] != 1]
    gone = [d for d in order if d in dims and shape[d] != 1] or list(dims)[:1]
    inner_kept = bool(kept) and (not gone or order.index(kept[-1]) > order.index(gone[-1]))
    return kept, gone, inner_kept


def _split(shape: Shape, dims: Sequence[int], accesses: Sequence[Access]) -> list[int]:
    """Which of the reduced dimensions have partial results of their own."""
    if math.prod(shape) < LONG:
        return []
    _, gone, inner_kept = _axes(shape, dims, _order(shape, accesses))
    if not inner_kept:
        return []
    split = 0
    while split < len(gone) - 1 and (split == 0 or math.prod(shape[d] for d in gone[split:]) > POSITIONS):
        split += 1
    return gone[:split]


def _without(dims: Sequence[int], split: Sequence[int]) -> tuple[int, ...]:
    return tuple(d for d in dims if d not in split)


def _partial(lowering: Lowering, shape: Shape, dims: Sequence[int], split: Sequence[int], dtype: str) -> Access:
    own = tuple(e if d in split or d not in dims else 1 for d, e in enumerate(shape))
    order = [*split, *(d for d in range(len(shape)) if d not in split)]
    access = lowering.program.buffer(own, dtype)
    return replace(access, strides=strides_in_order(own, order))


def _reduce(
    lowering: Lowering,
    shape: Shape,
    dims: Sequence[int],
    accesses: Sequence[Access],
    outs: Sequence[Access],
    stages: tuple[Any, ...],
    label: str,
) -> None:
    """One loop that reduces `dims` of operands of `shape`."""
    # The reduced dimensions of an output do not move it.
    out_strides = [tuple(0 if d in dims else s for d, s in enumerate(out.strides)) for out in outs]
    everything = [a.strides for a in accesses] + out_strides
    kept, gone, inner_kept = _axes(shape, dims, _order(shape, accesses))
    positional = any(stage[0] == "reduce" and stage[1] in ("argmax", "argmin") for stage in stages)
    inner_kept = inner_kept and not positional
    kept_extents, kept_strides = collapse(shape, everything, kept)
    gone_extents, gone_strides = collapse(shape, everything, gone) if gone else ((1,), [(0,)] * len(everything))
    if positional and len(gone_extents) != 1:
        raise AssertionError("argmax reduces one dimension")
    if inner_kept:
        extents = (1, *kept_extents[:-1], *gone_extents, kept_extents[-1])
        strides = [(0, *k[:-1], *g, k[-1]) for k, g in zip(kept_strides, gone_strides, strict=True)]
        if len(kept_extents) > 1:
            extents, strides = extents[1:], [s[1:] for s in strides]
    else:
        extents = (*kept_extents, *gone_extents)
        strides = [(*k, *g) for k, g in zip(kept_strides, gone_strides, strict=True)]
    count = len(accesses)
    loop_call(
        lowering.program,
        extents,
        list(zip(accesses, strides[:count], strict=True)),
        list(zip(outs, strides[count:], strict=True)),
        stages,
        label,
        reduced=len(gone_extents),
        column=inner_kept,
    )
