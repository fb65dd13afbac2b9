"""Convolution and pooling of few channels with the pixels along the vector.

Channels-last leaves lanes idle where there are fewer channels than half a vector. Here images lie plane by plane, and
an output plane is one long row of columns: neighbouring rows follow one another at the input's pitch, and the few
columns between them (where a window would wrap round) are computed and never read.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np

from juanji.codegen.correlate import CorrelateSpec
from juanji.codegen.planar import PlanarSpec
from juanji.compiler import lower_contract as contract
from juanji.compiler.access import Access, Buffer
from juanji.compiler.fuse import Group
from juanji.compiler.lower import Lowering, Operands, names
from juanji.compiler.program import Ref, ref
from juanji.compiler.windows import Geometry, lowered
from juanji.dtypes import BY_SHORT
from juanji.graph import Node
from juanji.spec import Shape, contiguous_strides
from juanji.target import DTYPE_BYTES


def few(lowering: Lowering, channels: int, dtype: str) -> bool:
    """Whether so many channels would fill at most half of a vector."""
    return channels > 1 and 2 * channels <= lowering.target.lanes(dtype)


def is_planar(access: Access) -> bool:
    """Whether the pixels of a row lie side by side."""
    return access.strides[3] == 1


def reach(g: Geometry) -> tuple[int, int]:
    """Lines and columns that windows of stride 1 cover: the input's with its padding before and after."""
    return g.out[0] + g.kernel[0] - 1, g.out[1] + g.kernel[1] - 1


def unpadded(g: Geometry) -> bool:
    """Whether no window of stride 1 reaches outside the input; `g.pad` alone says nothing of the padding after it."""
    return g.pad == (0, 0) and reach(g) == g.size


def gradient_fits(g: Geometry) -> bool:
    """Whether no window lies wholly in the padding, on either side: only then the gradient fits its border."""
    after = tuple(reach(g)[d] - g.size[d] - g.pad[d] for d in (0, 1))
    return all(p < k for p, k in zip((*g.pad, *after), (*g.kernel, *g.kernel), strict=True))


def refusal(lowering: Lowering, g: Geometry, reduced: int, rows: int, width: int, dtype: str) -> str:
    """Why a convolution of `reduced` channels to `rows`, with lines of `width` pixels, is not done plane by plane."""
    if g.groups != 1 or g.stride != (1, 1) or g.dilation != (1, 1):
        return "groups, a stride or a dilation"
    lanes = lowering.target.lanes(dtype)
    # A single channel lies plane by plane anyway; it is done so where many others are summed.
    if not (few(lowering, rows, dtype) or (rows == 1 and reduced > 1)):
        return f"{rows} channels made: 2 to {lanes // 2} leave lanes idle, or 1 summed from several"
    return "" if 2 * width >= lanes else f"lines of {width} pixels fill less than half of {lanes} lanes"


def steps(lowering: Lowering, depth: int, runs: int, rows: int, dtype: str) -> float:
    """Steps of multiply-adds that a pixel takes, and what comes on top of them: fewer rows than four share a column."""
    return 1.25 * runs * depth * max(4, rows) / lowering.target.lanes(dtype) + rows


def pitched(lowering: Lowering, shape: Shape, pitch: int, dtype: str) -> Access:
    """A new buffer for planes whose lines are `pitch` elements apart."""
    n, c, h, _ = shape
    strides = (c * h * pitch, h * pitch, pitch, 1)
    return Access(Buffer(n * c * h * pitch * DTYPE_BYTES[dtype]), shape, strides, 0, dtype)


def with_border(lowering: Lowering, x: Access, before: tuple[int, int], size: tuple[int, int]) -> Access:
    """A planar copy of `x` inside planes of `size`, `before` lines and columns from their corner, zeros around it."""
    shape = (*x.shape[:2], *size)
    wide = Access(lowering.program.buffer(shape, x.dtype).buffer, shape, contiguous_strides(shape), 0, x.dtype)
    if size != x.shape[2:]:
        zero = lowering.program.constant(np.zeros((), BY_SHORT[x.dtype].numpy), x.dtype).broadcast(shape)
        lowering.copy(zero, wide, "zeros")
    inside = replace(wide, shape=x.shape, offset=before[0] * wide.strides[2] + before[1])
    lowering.copy(x, inside, "to planes")
    return wide


def forward(lowering: Lowering, group: Group, g: Geometry, x: Access, w: Access) -> None:
    """The forward convolution; `w` is [out, in, kh, kw] with any strides."""
    if not (unpadded(g) and is_planar(x)):
        x = with_border(lowering, x, (g.pad[0], g.pad[1]), reach(g))
    o, i, h, v = w.strides
    _, xc, xy, _ = x.strides
    kh, kw = g.kernel
    if g.ins == 1:
        taps, depth, a_k, b_k = [(y * h, y * xy) for y in range(kh)], kw, v, 1
    else:
        places = itertools.product(range(kh), range(kw))
        taps, depth, a_k, b_k = [(y * h + z * v, y * xy + z) for y, z in places], g.ins, i, xc
    _planes(lowering, group, x, w, (o, a_k, b_k), taps, depth, xy)


def input_gradient(lowering: Lowering, group: Group, g: Geometry, dy: Access, w: Access) -> None:
    """The input gradient: the gradient with a border, met by the weights turned round."""
    kh, kw = g.kernel
    size = (g.size[0] + kh - 1, g.size[1] + kw - 1)
    dy = with_border(lowering, dy, (kh - 1 - g.pad[0], kw - 1 - g.pad[1]), size)
    o, i, h, v = w.strides
    _, dc, pitch, _ = dy.strides
    taps = [(y * h + z * v, (kh - 1 - y) * pitch + (kw - 1 - z)) for y, z in itertools.product(range(kh), range(kw))]
    _planes(lowering, group, dy, w, (i, o, dc), taps, g.outs, pitch)


def _planes(
    lowering: Lowering,
    group: Group,
    x: Access,
    w: Access,
    strides: tuple[int, int, int],
    taps: list[tuple[int, int]],
    depth: int,
    pitch: int,
) -> None:
    """One contraction an image: rows are result channels, columns the pixels of a plane.

    Args:
        strides: of the result channel in w, of k in w, of k in x.
    """
    rank = len(group.result.shape)
    shape = (*group.result.shape[:2], *(1,) * (4 - rank), *group.result.shape[2:])
    c = pitched(lowering, shape, pitch, group.result.dtype)
    own = lowering.where[group.result] = lowered(c, rank)
    columns = (shape[2] - 1) * pitch + shape[3]
    tables = contract.Tables()
    for n in range(shape[0]):
        tables.rect(
            (shape[1], 1, 1),
            (0, strides[0], 0, 0),
            (n * c.strides[0], c.strides[1], 0, 0),
            taps,
            depth,
            n * x.strides[0],
            0,
        )
    contract.emit(lowering, group, tables, w, x, own, columns, strides[1], strides[2], None, 1, planar=True)


def weight_gradient(lowering: Lowering, g: Geometry, anchor: Node, dy: Access, x: Access) -> None:
    """The weight gradient, summed along the lanes; `dy` and `x` are planar."""
    out = lowering.result(anchor)
    spec = CorrelateSpec(anchor.dtype, g.outs, (g.kernel[0], g.kernel[1]))
    item = out.item
    args: list[int | Ref] = [ref(dy), ref(x), ref(out), g.images, g.ins, g.out[0], g.out[1]]
    args += [s * item for s in (*dy.strides[:3], *x.strides[:3], *out.strides[:2])]
    lowering.program.call(spec, args, g.ins * g.kernel[0], names([anchor]), [out])


def window(lowering: Lowering, group: Group, kind: str, inputs: list[Node]) -> bool:
    """Pooling or its gradient plane by plane, where the images are planar and the kernel can; says whether it was."""
    anchor = group.anchor
    assert anchor is not None
    attrs = dict(anchor.attrs)
    plane = lowering.access(inputs[-1] if kind == "max_grad" else inputs[0])
    kernel, stride = attrs["kernel"], attrs["stride"]
    able = (
        kind in ("max", "max_grad")
        and plane.dtype in ("f32", "f64")
        and few(lowering, plane.shape[1], plane.dtype)
        and is_planar(plane)
        and attrs["padding"] == (0, 0)
        and attrs["dilation"] == (1, 1)
        and not attrs["ceil"]
        and all(k <= s <= 4 for k, s in zip(kernel, stride, strict=True))
    )
    if not able:
        return False
    shape = group.result.shape
    places = [plane]
    if kind == "max":
        out = lowering.result(group.result)
        if not is_planar(out):
            return False
        windows = shape[2:]
    else:
        dy = lowering.access(inputs[0])
        if not is_planar(dy):
            dy = lowering.in_c_order(inputs[0])
        places = [dy, plane]
        windows = dy.shape[2:]
        span = 1 + sum((e - 1) * s for e, s in zip(plane.shape, plane.strides, strict=True))
        out = Access(Buffer(span * plane.item), shape, plane.strides, 0, anchor.dtype)
        lowering.where[group.result] = out
    operands = Operands(lowering, group, shape, acc=anchor)
    epilogue: Any = operands.expr(group.result) if group.result is not anchor else None
    extras, extra_refs = contract.extra_operands(lowering, group, operands, out, 1, planar=True)
    spec = PlanarSpec(kind, anchor.dtype, kernel, stride, epilogue, extras)
    args: list[int | Ref] = [*(ref(p) for p in places), ref(out), *extra_refs]
    args += [*plane.shape, *windows]
    for access in (*places, out):
        args += [s * access.item for s in access.strides[:3]]
    lowering.program.call(spec, args, shape[0] * shape[1], names(group.nodes), [out])
    return True


def weight_gradient_refusal(lowering: Lowering, g: Geometry, dy: Access, x: Access) -> str:
    """Why the planar weight gradient is not used; empty where it is."""
    reason = refusal(lowering, g, 1, g.outs, g.out[1], dy.dtype)
    if reason:
        return reason
    if dy.dtype not in ("f32", "f64") or g.outs > 8 or math.prod(g.kernel) > 49:
        return f"{g.outs} channels made with a kernel of {math.prod(g.kernel)} in {dy.dtype}: at most 8, 49, a float"
    return "" if unpadded(g) and is_planar(dy) and is_planar(x) else "padding, or images with channels side by side"
