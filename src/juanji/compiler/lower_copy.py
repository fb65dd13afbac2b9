"""Copies between memory orders: a plain loop, or a transposing kernel where source and target disagree."""

from __future__ import annotations

import math

from juanji.codegen.interleave import InterleaveSpec
from juanji.codegen.pack import PackSpec
from juanji.codegen.transpose import TransposeSpec
from juanji.compiler.access import Access, collapse, memory_order
from juanji.compiler.program import Program, Ref, ref
from juanji.target import DTYPE_BYTES

#: Pixels of a chunk, and from how many on two or three planes are woven by a kernel of their own.
PIXELS, WEAVE = 4096, 64
#: Elements from which on weights are packed by a kernel of their own: fewer take some microseconds either way.
PANELS = 1 << 16
#: Bytes of a page. The processor looks no further ahead by itself.
PIECE = 4096


def copy(program: Program, source: Access, target: Access, label: str) -> None:
    """Appends what copies `source` to `target` (same shape; no overlap unless identical)."""
    from juanji.compiler.lower import chunked, loop_call

    if math.prod(target.shape) == 0:
        return
    order = memory_order(target.shape, target.strides)
    extents, (into, out_of) = collapse(target.shape, [target.strides, source.strides], order)
    if _weaves(extents, into, out_of) and DTYPE_BYTES[source.dtype] >= 4:
        pictures, pixels, planes = (1, *extents) if len(extents) == 2 else extents
        block = -(-min(pixels, PIXELS) // 64) * 64
        blocks = -(-pixels // block)
        apart = (0, 0) if len(extents) == 2 else (out_of[0], into[0])
        weave: list[int | Ref] = [ref(source), ref(target), pixels, block, blocks]
        weave += [step * source.item for step in (apart[0], out_of[-1], apart[1])]
        program.call(InterleaveSpec(source.dtype, planes), weave, pictures * blocks, label, [target])
        return
    if (
        math.prod(extents) >= PANELS
        and DTYPE_BYTES[source.dtype] >= 4
        and _panels(program, source, target, extents, into, out_of, label)
    ):
        return
    if len(extents) >= 2 and into[-1] == 1 and out_of[-1] not in (0, 1) and DTYPE_BYTES[source.dtype] >= 4:
        unit = next((d for d in range(len(extents) - 1) if out_of[d] == 1), None)
        if unit is not None and min(extents[unit], extents[-1]) >= 2:
            axes = [d for d in range(len(extents)) if d != unit]
            axes.insert(len(axes) - 1, unit)
            sizes = tuple(extents[d] for d in axes)
            steps = [tuple(strides[d] for d in axes) for strides in (out_of, into)]
            if len(sizes) == 2:
                sizes, steps = _in_strips(sizes, steps)
            pieces = len(sizes) > 2 and sizes[-1] * steps[0][-1] * source.item <= PIECE < steps[0][-3] * source.item
            spec = TransposeSpec(source.dtype, len(sizes), pieces)
            grain, chunks = chunked(sizes)
            args: list[int | Ref] = [ref(source), ref(target), grain, *sizes]
            for access, strides in zip((source, target), steps, strict=True):
                args += [step * access.item for step in strides]
            program.call(spec, args, chunks, label + " (transpose)", [target])
            return
    stages = (("store", 0, ("load", source.dtype, 0)),)
    loop_call(program, extents, [(source, out_of)], [(target, into)], stages, label)


def _panels(
    program: Program,
    source: Access,
    target: Access,
    extents: tuple[int, ...],
    into: tuple[int, ...],
    out_of: tuple[int, ...],
    label: str,
) -> bool:
    """Long rows of two axes to panels, or back, where tiles of the inner axis alone would not be full."""
    lanes = program.target.lanes(source.dtype)
    for back, (rows, panels) in enumerate(((out_of, into), (into, out_of))):
        # The axes: columns, side by side in the panels; inner and outer, side by side in the rows; blocks of columns.
        columns = [d for d, step in enumerate(panels) if step == 1]
        inner = [d for d, step in enumerate(rows) if step == 1]
        if len(columns) != 1 or len(inner) != 1 or len(extents) not in (3, 4):
            continue
        outer = [d for d, step in enumerate(rows) if step == extents[inner[0]] and d != columns[0]]
        if len(outer) != 1:
            continue
        c, k, i = columns[0], inner[0], outer[0]
        block = [d for d in range(len(extents)) if d not in (c, k, i)]
        if any(rows[d] != rows[c] * extents[c] or extents[c] % lanes for d in block):
            continue
        if extents[k] % lanes == 0 or extents[i] * extents[k] < lanes or extents[c] < lanes // 2:
            continue
        number = extents[block[0]] if block else 1
        vectors = -(-extents[c] // lanes)
        places = (ref(target), ref(source)) if back else (ref(source), ref(target))
        steps = [rows[c], panels[block[0]] if block else 0, panels[i], panels[k]]
        args: list[int | Ref] = [*places, number * extents[c], extents[i], extents[k]]
        args += [*(step * source.item for step in steps), vectors]
        program.call(PackSpec(source.dtype, bool(back)), args, number * vectors, label + " (transpose)", [target])
        return True
    return False


def _weaves(extents: tuple[int, ...], into: tuple[int, ...], out_of: tuple[int, ...]) -> bool:
    """Whether two or three planes become pixels side by side."""
    if len(extents) not in (2, 3) or extents[-1] not in (2, 3) or extents[-2] < WEAVE:
        return False
    return into[-1] == 1 and into[-2] == extents[-1] and out_of[-2] == 1


def _in_strips(sizes: tuple[int, ...], steps: list[tuple[int, ...]]) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """A matrix as strips of about a chunk each, along the axis that gives the wider ones: extents and strides of three
    axes.

    >>> _in_strips((1024, 256), [(1, 1024), (256, 1)])
    ((16, 64, 256), [(64, 1, 1024), (16384, 256, 1)])
    """
    from juanji.compiler.lower import CHUNK_ELEMENTS

    widths = [_width(own, CHUNK_ELEMENTS // other) for own, other in (sizes, sizes[::-1])]
    axis = int(widths[1] > widths[0])
    width = widths[axis]
    inner = (sizes[0], width) if axis else (width, sizes[1])
    return (sizes[axis] // width, *inner), [(step[axis] * width, *step) for step in steps]


def _width(own: int, most: int) -> int:
    """The largest divisor of `own` up to `most` that fills vectors; `own` where there is none."""
    most = min(own, most)
    return next((w for w in range(most // 8 * 8, 0, -8) if own % w == 0), own)
