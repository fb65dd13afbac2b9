"""Copies between memory orders: a plain loop, or a transposing kernel where source and target disagree."""

from __future__ import annotations

import math

from juanji.codegen.transpose import TransposeSpec
from juanji.compiler.access import Access, collapse, memory_order
from juanji.compiler.program import Program, Ref, ref
from juanji.target import DTYPE_BYTES


def copy(program: Program, source: Access, target: Access, label: str) -> None:
    """Appends what copies `source` to `target` (same shape; no overlap unless identical)."""
    from juanji.compiler.lower import chunked, loop_call

    if math.prod(target.shape) == 0:
        return
    order = memory_order(target.shape, target.strides)
    extents, (into, out_of) = collapse(target.shape, [target.strides, source.strides], order)
    if len(extents) >= 2 and into[-1] == 1 and out_of[-1] not in (0, 1) and DTYPE_BYTES[source.dtype] >= 4:
        unit = next((d for d in range(len(extents) - 1) if out_of[d] == 1), None)
        if unit is not None and min(extents[unit], extents[-1]) >= 4:
            axes = [d for d in range(len(extents)) if d != unit]
            axes.insert(len(axes) - 1, unit)
            sizes = tuple(extents[d] for d in axes)
            if len(sizes) == 2:
                sizes, axes = (1, *sizes), [-1, *axes]
            spec = TransposeSpec(source.dtype, len(sizes))
            grain, chunks = chunked(sizes)
            args: list[int | Ref] = [ref(source), ref(target), grain, *sizes]
            for access, strides in ((source, out_of), (target, into)):
                args += [0 if d < 0 else strides[d] * access.item for d in axes]
            program.call(spec, args, chunks, label + " (transpose)", [target])
            return
    stages = (("store", 0, ("load", source.dtype, 0)),)
    loop_call(program, extents, [(source, out_of)], [(target, into)], stages, label)
