"""Gradients of a convolution behind max pooling, from the few values that are not zero."""

from __future__ import annotations

import math

from juanji.codegen.gather import GatherSpec, weight_vectors, windows_together
from juanji.codegen.lanes import FLOATS
from juanji.codegen.scatter import MOST_BYTES, MoveSpec, Patch, ScatterSpec
from juanji.compiler.access import Access
from juanji.compiler.fuse import Group
from juanji.compiler.lower import Lowering, names
from juanji.compiler.lower_contract import image
from juanji.compiler.lower_weight_grad import sum_partials
from juanji.compiler.program import Ref, ref
from juanji.graph import Node
from juanji.ops.core import Attrs
from juanji.spec import Shape, contiguous_strides
from juanji.target import DTYPE_BYTES, Target

#: How much less arithmetic there must be than for all values: what is zero costs the other way little more than that.
LESS = 2
#: The part of the registers that a patch may fill.
SUMS = 0.75
#: Fewer output channels would not pay for putting in order, once for all, what the filters have seen.
FEWEST_OUTS = 8
#: Images of one part of a weight gradient at least, and the most parts.
PART, MOST_PARTS = 8, 16


def _patch(weight: Shape, pool: Attrs) -> Patch:
    kernel = dict(pool)["kernel"]
    return Patch(weight[1], (weight[2], weight[3]), (kernel[0], kernel[1]))


def _plain(weight: Shape, conv: Attrs, pool: Attrs) -> bool:
    """Whether no window reaches outside or overlaps another, of the convolution's too but for its stride of 1."""
    filters, windows = dict(conv), dict(pool)
    return (
        len(weight) == 4
        and math.prod(weight) > 0
        and filters["groups"] == 1
        and filters["stride"] == filters["dilation"] == windows["dilation"] == (1, 1)
        and not any(map(any, filters["padding"]))
        and not any(windows["padding"])
        and not windows["ceil"]
        and all(k <= s for k, s in zip(windows["kernel"], windows["stride"], strict=True))
    )


def suits(target: Target, dtype: str, weight: Shape, conv: Attrs, pool: Attrs, of_weight: bool) -> bool:
    """Whether a gradient of a convolution, given that of max pooling, is computed from the values at the maxima.

    Args:
        weight: [outs, ins, KH, KW].
        conv, pool: the attributes of the convolution and of the pooling.
        of_weight: the gradient of the weight, or else of the input.
    """
    lanes = target.lanes(dtype)
    # Where output channels fill less than half a vector, images lie plane by plane.
    if dtype not in FLOATS or not _plain(weight, conv, pool) or 2 * weight[0] <= lanes:
        return False
    patch = _patch(weight, pool)
    positions = len(patch.positions)
    if not 1 < patch.size[1] <= lanes:
        return False
    if patch.vectors(lanes) > SUMS * target.registers:
        return False
    if of_weight:
        vectors = weight_vectors(patch, lanes)
        return (
            weight[0] >= FEWEST_OUTS
            and windows_together(patch, dtype, target) > 0
            and LESS * vectors * lanes <= patch.weights * positions
        )
    vectors = patch.vectors(lanes)
    return (
        weight[0] * positions * vectors * target.vector_bytes <= MOST_BYTES
        and LESS * vectors * lanes <= patch.weights * positions
    )


def found(node: Node, inputs: tuple[Node, ...], target: Target) -> bool:
    """Whether a node is such a gradient, `inputs` being what its inputs have become."""
    if node.op is None or node.op.name not in ("conv_input_grad", "conv_weight_grad"):
        return False
    pool, of_weight = inputs[0], node.op.name == "conv_weight_grad"
    if pool.op is None or pool.op.name != "max_pool_grad":
        return False
    weight = node.shape if of_weight else inputs[1].shape
    return suits(target, node.dtype, weight, node.attrs, pool.attrs, of_weight)


def lower(lowering: Lowering, group: Group) -> None:
    """Lowers one such gradient."""
    anchor = group.result
    assert anchor.op is not None
    out = lowering.result(anchor)
    if out.strides != contiguous_strides(anchor.shape):
        out = lowering.where[anchor] = lowering.program.buffer(anchor.shape, anchor.dtype)
    if math.prod(anchor.shape) == 0:
        return
    g, y = (image(lowering, node) for node in anchor.inputs[:2])
    other = lowering.in_c_order(anchor.inputs[2])
    (_weight_gradient if anchor.op.name == "conv_weight_grad_at_maxima" else _input_gradient)(
        lowering, anchor, g, y, other, out
    )


def _sides(g: Access, y: Access) -> list[int]:
    """Byte strides (image, row, column) of both."""
    return [s for a in (g, y) for i, s in enumerate(a.byte_strides()) if i != 1]


def _input_gradient(lowering: Lowering, anchor: Node, g: Access, y: Access, w: Access, out: Access) -> None:
    """Moves the weights, then adds up the patches of all windows."""
    pool, target = anchor.attr("pool"), lowering.target
    patch = _patch(w.shape, pool)
    size = w.shape[0] * len(patch.positions) * patch.vectors(target.lanes(anchor.dtype)) * target.vector_bytes
    moved = lowering.program.buffer((size // DTYPE_BYTES[anchor.dtype],), anchor.dtype)
    lowering.program.call(MoveSpec(anchor.dtype, patch), [ref(w), ref(moved)], w.shape[0], "move weights", [moved])
    spec = ScatterSpec(anchor.dtype, w.shape[0], patch, dict(pool)["stride"])
    args: list[int | Ref] = [*map(ref, (g, y, moved, out)), *g.shape[2:], *anchor.shape[2:], *_sides(g, y)]
    lowering.program.call(spec, args, anchor.shape[0], names([anchor]), [out])


def _weight_gradient(lowering: Lowering, anchor: Node, g: Access, y: Access, x: Access, out: Access) -> None:
    """Parts of the images for several threads, by shape alone, and their sum."""
    pool, images = anchor.attr("pool"), g.shape[0]
    patch = _patch(anchor.shape, pool)
    parts = min(MOST_PARTS, max(1, images // PART))
    sums = out if parts == 1 else lowering.program.buffer((parts, *anchor.shape), anchor.dtype)
    spec = GatherSpec(anchor.dtype, anchor.shape[0], patch, dict(pool)["stride"])
    args: list[int | Ref] = [*map(ref, (g, y, x, sums)), images, parts, *g.shape[2:], *_sides(g, y)]
    args += x.byte_strides()[:3]
    lowering.program.call(spec, args, parts, names([anchor]), [sums])
    if parts > 1:
        sum_partials(lowering, sums, out)
