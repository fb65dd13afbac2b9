"""Running sums and their like: loops over the other dimensions around a walk along one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from juanji.codegen.scan import ScanSpec
from juanji.compiler.access import collapse, memory_order
from juanji.compiler.fuse import Group
from juanji.compiler.program import Ref

if TYPE_CHECKING:
    from juanji.compiler.lower import Lowering


def lower(lowering: Lowering, group: Group) -> None:
    """Lowers a scan."""
    from juanji.compiler.lower import chunked

    node = group.anchor
    assert node is not None
    source = lowering.access(node.inputs[0])
    out = lowering.result(node)
    dim, shape = node.attr("dim"), node.shape
    if math.prod(shape) == 0:
        return
    order = [d for d in memory_order(shape, out.strides) if d != dim]
    others = tuple(1 if d == dim else e for d, e in enumerate(shape))
    extents, strides = collapse(others, [source.strides, out.strides], order)
    args: list[int | Ref] = []
    for access in (source, out):
        end = (shape[dim] - 1) * access.strides[dim] if node.attr("reverse") else 0
        args.append(Ref(access.buffer, (access.offset + end) * access.item))
    # A chunk has whole lines: its grain counts them together with their length.
    grain, chunks = chunked((*extents, shape[dim]))
    args += [grain, *extents, shape[dim]]
    for access, steps in zip((source, out), strides, strict=True):
        along = -access.strides[dim] if node.attr("reverse") else access.strides[dim]
        args += [s * access.item for s in (*steps, along)]
    spec = ScanSpec(node.dtype, node.attr("mode"), len(extents) + 1)
    lowering.program.call(spec, args, chunks, f"scan ({node.attr('mode')})", [out])
