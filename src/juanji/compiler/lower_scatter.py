"""The input gradient of a convolution behind max pooling, from the few values that are not zero."""

from __future__ import annotations

import math

from juanji.codegen.lanes import FLOATS
from juanji.codegen.scatter import MOST_BYTES, MOST_VECTORS, MoveSpec, Patch, ScatterSpec
from juanji.compiler.fuse import Group
from juanji.compiler.lower import Lowering, names
from juanji.compiler.lower_contract import image
from juanji.compiler.program import ref
from juanji.graph import Node
from juanji.ops.core import Attrs
from juanji.spec import Shape, contiguous_strides
from juanji.target import DTYPE_BYTES, Target

#: How much less arithmetic there must be than for all values: what is zero costs the other way little more than that.
LESS = 2


def _patch(weight: Shape, pool: Attrs) -> Patch:
    kernel = dict(pool)["kernel"]
    return Patch(weight[1], (weight[2], weight[3]), (kernel[0], kernel[1]))


def suits(target: Target, dtype: str, weight: Shape, conv: Attrs, pool: Attrs) -> bool:
    """Whether conv_input_grad of max_pool_grad is done from the values at the maxima.

    Args:
        weight: [outs, ins, KH, KW].
        conv, pool: the attributes of the convolution and of the pooling.
    """
    if len(weight) != 4 or dtype not in FLOATS or math.prod(weight) == 0:
        return False
    filters, windows = dict(conv), dict(pool)
    plain = (
        filters["groups"] == 1
        and filters["stride"] == filters["dilation"] == windows["dilation"] == (1, 1)
        and not any(map(any, filters["padding"]))
        and not any(windows["padding"])
        and not windows["ceil"]
        and all(k <= s for k, s in zip(windows["kernel"], windows["stride"], strict=True))
    )
    if not plain:
        return False
    patch, lanes = _patch(weight, pool), target.lanes(dtype)
    vectors, positions = patch.vectors(lanes), len(patch.positions)
    return (
        vectors <= MOST_VECTORS
        and 1 < patch.size[1] <= lanes
        and weight[0] * positions * vectors * target.vector_bytes <= MOST_BYTES
        and LESS * vectors * lanes <= math.prod(weight[1:]) * positions
    )


def lower(lowering: Lowering, group: Group) -> None:
    """Moves the weights, then adds up the patches of all windows."""
    anchor = group.result
    g_node, y_node, w_node = anchor.inputs
    out = lowering.result(anchor)
    if out.strides != contiguous_strides(anchor.shape):
        out = lowering.where[anchor] = lowering.program.buffer(anchor.shape, anchor.dtype)
    if math.prod(anchor.shape) == 0:
        return
    g, y, w = image(lowering, g_node), image(lowering, y_node), lowering.in_c_order(w_node)
    pool = anchor.attr("pool")
    patch, target = _patch(w.shape, pool), lowering.target
    size = w.shape[0] * len(patch.positions) * patch.vectors(target.lanes(anchor.dtype)) * target.vector_bytes
    moved = lowering.program.buffer((size // DTYPE_BYTES[anchor.dtype],), anchor.dtype)
    lowering.program.call(MoveSpec(anchor.dtype, patch), [ref(w), ref(moved)], w.shape[0], "move weights", [moved])
    spec = ScatterSpec(anchor.dtype, w.shape[0], patch, dict(pool)["stride"])
    strides = [s for a in (g, y) for i, s in enumerate(a.byte_strides()) if i != 1]
    lowering.program.call(
        spec,
        [*map(ref, (g, y, moved, out)), *g.shape[2:], *anchor.shape[2:], *strides],
        anchor.shape[0],
        names([anchor]),
        [out],
    )


def found(node: Node, inputs: tuple[Node, ...], target: Target) -> bool:
    """Whether a node is such a gradient, `inputs` being what its inputs have become."""
    if node.op is None or node.op.name != "conv_input_grad" or inputs[0].op is None:
        return False
    pool = inputs[0]
    return (
        pool.op is not None
        and pool.op.name == "max_pool_grad"
        and suits(target, node.dtype, inputs[1].shape, node.attrs, pool.attrs)
    )
