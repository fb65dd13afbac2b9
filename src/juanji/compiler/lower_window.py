"""Pooling and its gradients as window kernels over channels-last data."""

from __future__ import annotations

import math
from typing import Any

from juanji.codegen.window import WindowSpec
from juanji.compiler import lower_planar
from juanji.compiler.access import Access
from juanji.compiler.fuse import Group
from juanji.compiler.lower import Lowering, Operands, names
from juanji.compiler.lower_contract import extra_operands, image, image_result
from juanji.compiler.program import Ref, ref
from juanji.graph import Node

_KINDS = {
    "max_pool": "max",
    "max_pool_index": "max_index",
    "avg_pool": "avg",
    "pool_gather": "gather",
    "pool_scatter": "index_grad",
    "avg_pool_grad": "avg_grad",
    "max_pool_grad": "max_grad",
}


def lower(lowering: Lowering, group: Group) -> None:
    """Lowers one window operation with its epilogue."""
    anchor = group.anchor
    assert anchor is not None
    assert anchor.op is not None
    if math.prod(group.result.shape) == 0:
        lowering.result(group.result)
        return
    attrs = dict(anchor.attrs)
    kind, inputs = _KINDS[anchor.op.name], list(anchor.inputs)
    if lower_planar.window(lowering, group, kind, inputs):
        return
    out = image_result(lowering, group.result)
    operands = Operands(lowering, group, group.result.shape, acc=anchor)
    epilogue: Any = operands.expr(group.result) if group.result is not anchor else None
    extras, extra_refs = extra_operands(lowering, group, operands, out, 1)
    spec = WindowSpec(
        kind,
        inputs[0].dtype,
        attrs["kernel"],
        attrs["stride"],
        attrs["padding"],
        attrs["dilation"],
        attrs.get("include_pad", True),
        attrs.get("divisor", 0),
        epilogue,
        extras,
    )
    places = [image(lowering, n) for n in inputs]
    plane, windows = _sizes(anchor, inputs)
    args: list[int | Ref] = [*(ref(p) for p in places), ref(out), *extra_refs]
    args += [out.shape[0], plane[0], plane[1], out.shape[1], windows[0], windows[1]]
    for access in (*places, out):
        args += _outer_strides(access)
    rows = spec.rows(plane[0], windows[0])
    lowering.program.call(spec, args, out.shape[0] * rows, names(group.nodes), [out])


def _outer_strides(access: Access) -> list[int]:
    n, _, h, w = access.byte_strides()
    return [n, h, w]


def _sizes(anchor: Node, inputs: list[Node]) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height and width of the plane, of the grid of windows)."""
    assert anchor.op is not None
    big = inputs[0].shape
    small = anchor.shape
    if anchor.op.name in ("pool_scatter", "avg_pool_grad", "max_pool_grad"):
        big, small = anchor.shape, inputs[0].shape
    return (big[2], big[3]), (small[2], small[3])
