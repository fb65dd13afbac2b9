"""Whole rows in one loop: softmax, log-softmax and cross-entropy, reductions and what is done with them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from juanji.compiler.access import Access, collapse, memory_order
from juanji.compiler.fuse import Group
from juanji.compiler.lower import Expr, Lowering, Operands, loop_call, names
from juanji.graph import Node
from juanji.spec import Shape


def lower(lowering: Lowering, group: Group) -> None:
    """softmax, log_softmax and cross-entropy: reductions over a row and what is done with them, in one loop."""
    anchor = group.anchor
    assert anchor is not None
    assert anchor.op is not None
    x = anchor.inputs[0]
    per_row = anchor.op.name == "cross_entropy"
    dim = len(x.shape) - 1 if per_row else anchor.attr("dim")
    operands = Operands(lowering, group, x.shape, acc=anchor)
    dtype = anchor.dtype
    if per_row:
        value, extra = _cross_entropy_operands(lowering, operands, anchor, x)
    else:
        value, extra = operands.load(x), {}
    top: Expr = ("red", dtype, 0)
    shifted: Expr = ("sub", dtype, value, top)
    stages: list[Any] = [("reduce", "max", value), ("reduce", "sum", ("exp", dtype, shifted))]
    total: Expr = ("red", dtype, 1)
    if per_row:
        stages += extra["stages"]
        own = _cross_entropy_expr(anchor, dtype, top, total, extra)
    elif anchor.op.name == "softmax":
        own = ("div", dtype, ("exp", dtype, shifted), total)
    else:
        own = ("sub", dtype, shifted, ("log", dtype, total))
    final = _substitute(operands.expr(group.result), own)
    shape = x.shape
    accesses = operands.accesses
    main = lowering.access(x)
    order = [d for d in memory_order(shape, main.strides) if d != dim]
    out: Access = lowering.result(group.result, None if per_row else memory_order(shape, main.strides))
    if math.prod(shape) == 0:
        return
    out_strides = (*out.strides, 0) if per_row else out.strides
    everything = [a.strides for a in accesses] + [out_strides]
    outer, outer_strides = collapse(shape, everything, order)
    extents: Shape = (*outer, shape[dim])
    strides = [(*o, s[dim]) for o, s in zip(outer_strides, everything, strict=True)]
    stages.append(("store_row" if per_row else "store", 0, final))
    count = len(accesses)
    loop_call(
        lowering.program,
        extents,
        list(zip(accesses, strides[:count], strict=True)),
        [(out, strides[count])],
        tuple(stages),
        names(group.nodes),
        reduced=1,
    )


def _cross_entropy_operands(
    lowering: Lowering, operands: Operands, anchor: Node, x: Node
) -> tuple[Expr, dict[str, Any]]:
    _, target, weight = anchor.inputs
    dtype = anchor.dtype

    def add(access: Access) -> int:
        operands.accesses.append(access)
        return len(operands.accesses) - 1

    value: Expr = ("load", dtype, add(lowering.access(x)))
    t = lowering.access(target)
    column = Access(t.buffer, (*t.shape, 1), (*t.strides, 0), t.offset, t.dtype).broadcast(x.shape)
    klass: Expr = ("load", "i64", add(column))
    hit: Expr = ("eq", "b1", ("col", "i64"), klass)
    zero: Expr = ("const", dtype, 0)
    stages: list[Any] = [("reduce", "sum", ("select", dtype, hit, value, zero))]
    # The number of classes is read, not written into the kernel: one kernel serves any number.
    count = lowering.program.constant(np.array(x.shape[-1], np.int64)).broadcast(x.shape)
    classes: Expr = ("load", "i64", add(count))
    extra: dict[str, Any] = {"class": klass, "stages": stages, "classes": classes}
    if anchor.attr("weighted"):
        w: Expr = ("load", dtype, add(lowering.access(weight).broadcast(x.shape)))
        stages.append(("reduce", "sum", ("select", dtype, hit, w, zero)))
        if anchor.attr("smoothing"):
            stages += [("reduce", "sum", w), ("reduce", "sum", ("mul", dtype, w, value))]
    elif anchor.attr("smoothing"):
        stages.append(("reduce", "sum", value))
    return value, extra


def _cross_entropy_expr(anchor: Node, dtype: str, top: Expr, total: Expr, extra: dict[str, Any]) -> Expr:
    """w_t (1 - e) (lse - x_t) + (e / C) (sum_w lse - sum_wx), lse = log sum exp(x)."""

    def const(v: float) -> Expr:
        return ("const", dtype, v)

    def red(i: int) -> Expr:
        return ("red", dtype, i)

    smoothing, weighted, classes = anchor.attr("smoothing"), anchor.attr("weighted"), extra["classes"]
    lse: Expr = ("add", dtype, ("log", dtype, total), top)
    loss: Expr = ("sub", dtype, lse, red(2))
    if weighted:
        loss = ("mul", dtype, loss, red(3))
    if smoothing:
        number: Expr = ("cast", dtype, classes)
        sum_w = red(4) if weighted else number
        sum_wx = red(5) if weighted else red(3)
        even = (
            "mul",
            dtype,
            ("div", dtype, const(smoothing), number),
            ("sub", dtype, ("mul", dtype, sum_w, lse), sum_wx),
        )
        loss = ("add", dtype, ("mul", dtype, const(1 - smoothing), loss), even)
    t = extra["class"]
    known = (
        "and",
        "b1",
        ("ge", "b1", t, ("const", "i64", 0)),
        ("lt", "b1", t, classes),
    )
    ignored = ("eq", "b1", t, ("const", "i64", anchor.attr("ignore_index")))
    return ("select", dtype, ignored, const(0), ("select", dtype, known, loss, const(math.nan)))


def _substitute(expr: Expr, own: Expr) -> Expr:
    if not isinstance(expr, tuple):
        return expr
    if expr[0] == "acc":
        return own
    return tuple(_substitute(e, own) if isinstance(e, tuple) else e for e in expr)
