"""The trio of convolution as contractions, channels side by side: forward, input gradient, weight gradient.

Everything here has three spatial dimensions; those that a tensor lacks have extent 1, which costs nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from juanji.compiler import lower_depthwise, lower_few, lower_phases, lower_planar, lower_weight_grad
from juanji.compiler.access import Access, channels_last
from juanji.compiler.fuse import Group
from juanji.compiler.lower import Lowering
from juanji.compiler.lower_contract import (
    COPY_STEPS,
    Tables,
    emit,
    image,
    image_result,
    matrix_product,
    packed,
    steps_across,
    steps_along,
)
from juanji.compiler.windows import Geometry, Span, backward_spans, forward_spans, geometry_of, lifted
from juanji.graph import Node

#: With fewer channels a tap would be too short.
LEAST_PLANES = 4


def lower(lowering: Lowering, group: Group) -> None:
    """Lowers a convolution, one of its gradients, or a matrix product, with its epilogue."""
    anchor = group.anchor
    assert anchor is not None
    assert anchor.op is not None
    if math.prod(anchor.shape) == 0:
        lowering.result(group.result)
        return
    {
        "conv": _conv,
        "conv_input_grad": _input_grad,
        "conv_weight_grad": _weight_grad,
        "matmul": matrix_product,
        "linear": matrix_product,
    }[anchor.op.name](lowering, group, anchor)


def _slide(
    lowering: Lowering,
    group: Group,
    g: Geometry,
    x: Access,
    weights: Access,
    spans: Sequence[list[Span]],
    reduce: int,
    columns: int,
    flipped: bool,
    own: Access | None = None,
) -> None:
    """A kernel slid over `x`: the forward convolution, or the input gradient over the output's gradient.

    Args:
        x: [N, C, D, H, W].
        weights: viewed as [group, kd, kh, kw, reduced channels, columns].
        spans: of each dimension, of outputs with equal taps.
        reduce: channels reduced over in one group.
        flipped: the kernel is packed from its last position to its first.
        own: where the result goes, if not to the group's.
    """
    anchor = group.anchor
    assert anchor is not None
    own = own or image_result(lowering, group.result)
    c = lifted(own)
    kd, kh, kw = g.kernel
    xn, xc, xz, xy, xx = x.strides
    cn, cc, cz, cy, cx = c.strides
    cc = cc if c.shape[1] > 1 else 1
    # Taps that lie side by side in x and in the packed weights are one longer run of k.
    joined = g.groups == 1 and (xx == reduce or x.shape[4] == 1) and (xc == 1 or reduce == 1)
    a_k = xc if reduce > 1 else (xx if joined else 1)
    side_by_side = joined and g.dilation[2] == 1 and (not flipped or g.stride[2] == 1)
    shape = (kw * reduce, kd * kh, columns) if side_by_side else (reduce, kd * kh * kw, columns)
    dots = lowering.takes("dot products", _dots_refusal(lowering, shape, a_k, anchor.dtype))
    if dots:
        panel, per_column = 0, math.prod(weights.shape[1:5])
        panels = lowering.program.buffer((g.groups, columns, kd, kh, kw, reduce), anchor.dtype)
        s, way = panels.strides, -1 if flipped else 1
        seen = (s[0], *(way * step for step in s[2:5]), s[5], s[1])
        start = (kd * kh * kw - 1) * reduce if flipped else 0
        lowering.copy(weights, replace(panels, shape=weights.shape, strides=seen, offset=start), "pack weights")
        block, b_k, per_group = 1, per_column, columns * per_column
    else:
        panels, panel, per_group = packed(
            *(lowering, anchor, weights, (kd, kh, kw, reduce), columns, g.groups, "pack weights"), reverse=3 * flipped
        )
        block = b_k = panels.shape[-1]
    tables = Tables()
    last = kd * kh * kw - 1
    for index, (depth, row, col) in itertools.product(range(g.groups), itertools.product(*spans)):
        runs = _runs(col, joined)
        taps = [
            (
                iz * xz + iy * xy + ix * xx,
                (last - place if flipped else place) * reduce * block,
            )
            for k_depth, iz in depth.taps
            for k_row, iy in row.taps
            for k_col, ix, _ in runs
            for place in [(k_depth * kh + k_row) * kw + k_col]
        ]
        length = (runs[0][2] if runs else 1) * reduce
        start = index * columns * cc + depth.start * cz + row.start * cy + col.start * cx
        # A rectangle has three dimensions: columns, rows, and the longer one of images and planes.
        third, others = (g.images, xn, cn), (depth.count, depth.advance * xz, depth.step * cz)
        if others[0] > third[0]:
            third, others = others, third
        for i in range(others[0]):
            tables.rect(
                (col.count, row.count, third[0]),
                (index * reduce * xc + i * others[1], col.advance * xx, row.advance * xy, third[1]),
                (start + i * others[2], col.step * cx, row.step * cy, third[2]),
                taps,
                length,
                index * per_group,
                index * columns,
            )
    emit(lowering, group, tables, x, panels, own, columns, a_k, b_k, panel, 1, dots=dots)


def _dots_refusal(lowering: Lowering, shape: tuple[int, int, int], a_k: int, dtype: str) -> str:
    """Why sums of a shape (k of a tap, taps, columns) are not taken along the lanes."""
    along, across = steps_along(lowering, *shape, dtype), steps_across(lowering, *shape, dtype)
    if a_k != 1 or along == math.inf:
        return f"k that do not lie side by side, more columns than half of {lowering.target.lanes(dtype)}, or integers"
    return "" if along < across else f"{along:.0f} steps a pixel along the lanes, {across:.0f} across"


def _runs(span: Span, joined: bool) -> list[tuple[int, int, int]]:
    """(kernel position, input position, length): taps one by one, or all as one run where they lie side by side."""
    if joined and len(span.taps) > 1:
        steps = {b[1] - a[1] for a, b in itertools.pairwise(span.taps)}
        kernel_steps = {abs(b[0] - a[0]) for a, b in itertools.pairwise(span.taps)}
        if steps == {1} and kernel_steps == {1}:
            return [(span.taps[0][0], span.taps[0][1], len(span.taps))]
    return [(k, i, 1) for k, i in span.taps]


def _weight_view(w: Access, groups: int) -> Access:
    """[out, in/groups, *kernel] seen as [group, kd, kh, kw, in, out]."""
    w = lifted(w)
    o, i, *kernel = w.strides
    outs = w.shape[0] // groups
    shape = (groups, *w.shape[2:], w.shape[1], outs)
    return Access(w.buffer, shape, (o * outs, *kernel, i, o), w.offset, w.dtype)


def _planar_refusal(lowering: Lowering, g: Geometry, reduced: int, rows: int, width: int, anchor: Node) -> str:
    if len(anchor.shape) == 5:
        return "three dimensions"
    reason = lower_planar.refusal(lowering, g.plane(), reduced, rows, width, anchor.dtype)
    x = lifted(lowering.access(anchor.inputs[0]), 4)
    if reason or lower_planar.is_planar(x):
        return reason
    shape = (g.kernel[2] * reduced, g.kernel[1], rows)
    others = min(way(lowering, *shape, anchor.dtype) for way in (steps_along, steps_across))
    planes = lower_planar.steps(lowering, *shape, anchor.dtype) + COPY_STEPS * (reduced + rows)
    return "" if planes < others else f"{planes:.0f} steps a pixel with copies into planes and out, else {others:.0f}"


def _as_it_lies(lowering: Lowering, x: Node) -> bool:
    """Whether a convolution reads an image plane by plane, a pixel's channels one after the other from all planes.

    That is a little slower than channels side by side, but saves the copy, where nothing else is going to need it.
    """
    access = lowering.access(x)
    return (
        len(access.shape) == 4
        and access.shape[1] >= LEAST_PLANES
        and lower_planar.few(lowering, access.shape[1], access.dtype)
        and lower_planar.is_planar(access)
        and not any(user.op is not None and user.op.name == "conv_weight_grad" for user in lowering.fused.users[x])
    )


def _conv(lowering: Lowering, group: Group, anchor: Node) -> None:
    x_node, w_node = anchor.inputs
    g = geometry_of(anchor, x_node.shape, w_node.shape, anchor.shape)
    if lowering.takes("depthwise", lower_depthwise.refusal(lowering, g, anchor.dtype, g.ins, g.outs)):
        lower_depthwise.forward(lowering, group, g, x_node, w_node)
        return
    if lowering.takes("planes", _planar_refusal(lowering, g, g.ins, g.outs, g.out[2], anchor)):
        places = (lifted(lowering.access(n), 4) for n in (x_node, w_node))
        lower_planar.forward(lowering, group, g.plane(), *places)
        return
    if lowering.takes("few pixels", lower_few.forward_refusal(lowering, g, w_node)):
        lower_few.forward(lowering, group, g, x_node, w_node)
        return
    x = lifted(lowering.access(x_node) if _as_it_lies(lowering, x_node) else image(lowering, x_node))
    w = _weight_view(lowering.access(w_node), g.groups)
    spans = [forward_spans(g.size[d], g.out[d], g.kernel[d], g.stride[d], g.pad[d], g.dilation[d]) for d in range(3)]
    _slide(lowering, group, g, x, w, spans, g.ins, g.outs, flipped=False)


def _input_grad(lowering: Lowering, group: Group, anchor: Node) -> None:
    g_node, w_node = anchor.inputs
    g = geometry_of(anchor, anchor.shape, w_node.shape, g_node.shape)
    if lowering.takes("depthwise", lower_depthwise.refusal(lowering, g, anchor.dtype, g.outs, g.ins)):
        lower_depthwise.input_gradient(lowering, group, g, g_node, w_node)
        return
    reason = _planar_refusal(lowering, g, g.outs, g.ins, g.size[2], anchor)
    if not reason and not lower_planar.gradient_fits(g.plane()):
        reason = "windows that lie wholly in the padding"
    if lowering.takes("planes", reason):
        places = (lifted(lowering.access(n), 4) for n in (g_node, w_node))
        lower_planar.input_gradient(lowering, group, g.plane(), *places)
        return
    dy, w = lifted(image(lowering, g_node)), lifted(lowering.access(w_node))
    if lowering.takes("phases side by side", lower_phases.refusal(lowering, g, anchor.dtype)):
        small, joint = lower_phases.joint(lowering, g, w)
        shape = (g.images, small.ins, *small.size)
        side_by_side = lowering.program.buffer(shape, anchor.dtype, channels_last(5))
        _input_grad_of(lowering, Group(anchor, [anchor]), small, dy, joint, side_by_side)
        result = lifted(lowering.result(anchor, channels_last(len(anchor.shape))))
        lower_phases.between(lowering, g, side_by_side, result)
        lower_weight_grad.finish_separately(lowering, group, anchor)
    else:
        _input_grad_of(lowering, group, g, dy, w)


def _input_grad_of(
    lowering: Lowering, group: Group, g: Geometry, dy: Access, w: Access, own: Access | None = None
) -> None:
    w = _weight_view(w, g.groups)
    swapped = replace(
        w, shape=(*w.shape[:4], w.shape[5], w.shape[4]), strides=(*w.strides[:4], w.strides[5], w.strides[4])
    )
    spans = [backward_spans(g.size[d], g.out[d], g.kernel[d], g.stride[d], g.pad[d], g.dilation[d]) for d in range(3)]
    _slide(lowering, group, g, dy, swapped, spans, g.outs, g.ins, flipped=True, own=own)


def _weight_grad(lowering: Lowering, group: Group, anchor: Node) -> None:
    g_node, x_node = anchor.inputs
    g = geometry_of(anchor, x_node.shape, anchor.shape, g_node.shape)
    if lowering.takes("depthwise", lower_depthwise.refusal(lowering, g, anchor.dtype, g.ins, g.outs)):
        lower_depthwise.weight_gradient(lowering, group, g, anchor, g_node, x_node)
    elif lowering.takes("few pixels", lower_few.refusal(lowering, g, anchor.dtype)):
        lower_few.weight_gradient(lowering, group, g, anchor, g_node, x_node)
    else:
        lower_weight_grad.lower(lowering, group, anchor)
