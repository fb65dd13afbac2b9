"""Rewrites of a captured graph, each small and named: constants are folded, work that does nothing is dropped.

`JUANJI_DEBUG=3` prints the graph after each. A pass returns new outputs; `run` verifies that shapes and element types
are what they were.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from juanji.compiler import lower_scatter
from juanji.compiler.again import compute_again
from juanji.compiler.fold import fold_scales
from juanji.compiler.windows import kernel_overlaps
from juanji.config import debug_level
from juanji.dtypes import BY_SHORT, HALVES
from juanji.graph import Graph, Node, in_order, reachable
from juanji.ops import TABLE
from juanji.ops.reference import reference
from juanji.spec import Spec
from juanji.target import current

#: Terms of a matrix product up to which computing an element takes no longer than writing it and reading it again; in
#: results of so many elements at least, for which the time counts.
SHORT_SUM, SHORT_SUM_ELEMENTS = 4, 1024

#: How many times fewer weights make it worth while to leave their order, in which few pixels read them.
CROP_GAIN = 4

Rule = Callable[[Graph, Node, tuple[Node, ...]], Node | None]


def _constant(node: Node) -> Any:
    while node.op is not None and node.op.kind == "view":
        node = node.inputs[0]
    return node.attr("value") if node.op is not None and node.op.name == "const" else None


def fold_constants(graph: Graph, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    """An elementwise operation on literals is a literal."""
    op = node.op
    if op is None or op.kind != "map" or not inputs or op.name == "uniform":
        return None
    if any(n.dtype in HALVES for n in (node, *inputs)):
        return None
    values = [_constant(i) for i in inputs]
    if any(v is None for v in values):
        return None
    arrays = [np.asarray(v, BY_SHORT[i.dtype].numpy) for v, i in zip(values, inputs, strict=True)]
    value = reference(op.name, arrays, dict(node.attrs)).astype(BY_SHORT[node.dtype].numpy).item()
    attrs = (("dtype", node.dtype), ("shape", node.shape), ("value", value))
    return graph.node(TABLE["const"], (), attrs, node.spec)


def drop_identities(graph: Graph, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    """x * 1, x + 0 (unless x is -0), x / 1, copies, casts to the same type and views that change nothing are x.

    Adding zero is kept for floats: -0.0 + 0.0 is 0.0.
    """
    op = node.op
    if op is None or not inputs:
        return None
    first = inputs[0]
    same = first.spec == node.spec
    name = op.name
    if name == "copy" and same:
        return first
    if name == "cast" and same:
        return first
    if name in ("reshape", "expand", "slice") and same:
        return first
    if name == "permute" and node.attr("dims") == tuple(range(len(node.shape))):
        return first
    if name == "reshape" and first.op is not None and first.op.name == "reshape":
        return graph.node(op, first.inputs, node.attrs, node.spec, node.line)
    if name == "sum" and same:
        return first
    if name in ("mul", "div") and len(inputs) == 2:
        if _constant(inputs[1]) == 1 and same:
            return first
        if name == "mul" and _constant(first) == 1 and inputs[1].spec == node.spec:
            return inputs[1]
    return None


def find_maxima_again(graph: Graph, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    """Scattering to the maxima of windows that do not overlap finds them in the same pass."""
    if node.op is None or node.op.name != "pool_scatter" or inputs[1].op is None:
        return None
    if inputs[1].op.name != "max_pool_index":
        return None
    attrs = tuple((k, v) for k, v in node.attrs if k != "x")
    given = dict(attrs)
    apart = all(
        s >= d * (k - 1) + 1 for s, d, k in zip(given["stride"], given["dilation"], given["kernel"], strict=True)
    )
    if not apart or inputs[1].attrs != attrs:
        return None
    return graph.node(TABLE["max_pool_grad"], (inputs[0], inputs[1].inputs[0]), attrs, node.spec, node.line)


def work_before_scattering(graph: Graph, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    """A gradient behind max pooling lies at the maxima and is zero elsewhere. So a ReLU's gradient is taken of the few
    values before they are put there, where the pooled value says what the input at the maximum would; and their sum
    over an image is the sum before.
    """
    if node.op is None or not inputs or inputs[0].op is None or inputs[0].op.name != "max_pool_grad":
        return None
    g, x = inputs[0].inputs
    attrs = inputs[0].attrs
    if node.op.name == "relu_grad" and inputs[1] is x:
        pooled = graph.node(TABLE["max_pool"], (x,), attrs, g.spec, node.line)
        base = g
        while base.op is not None and base.op.name == "reshape":  # what computed the gradient can go on to finish it
            base = base.inputs[0]
        if base is not g:
            pooled = graph.node(TABLE["reshape"], (pooled,), (("shape", base.shape),), base.spec, node.line)
        few = graph.node(node.op, (base, pooled), node.attrs, base.spec, node.line)
        if base is not g:
            few = graph.node(TABLE["reshape"], (few,), (("shape", g.shape),), g.spec, node.line)
        return graph.node(inputs[0].op, (few, x), attrs, node.spec, node.line)
    if node.op.name == "sum" and {2, 3} <= set(node.attr("dims")):
        return graph.node(node.op, (g,), node.attrs, node.spec, node.line)
    return None


def convolve_from_maxima(graph: Graph, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    """Gradients of a convolution behind max pooling from the values at the maxima, where that is less work."""
    if node.op is None or not lower_scatter.found(node, inputs, current()):
        return None
    few, other = inputs
    attrs = tuple(sorted((*node.attrs, ("pool", few.attrs))))
    return graph.node(TABLE[f"{node.op.name}_at_maxima"], (*few.inputs, other), attrs, node.spec, node.line)


def crop_kernels(graph: Graph, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    """Kernel positions that meet nothing but padding, as most of a 7 x 7 kernel do on a map of one pixel, are left out,
    so that their weights are not brought into the kernel's order.
    """
    if node.op is None or node.op.name not in ("conv", "conv_input_grad"):
        return None
    images, w = node if node.op.name == "conv_input_grad" else inputs[0], inputs[1]
    outs = inputs[0].shape if node.op.name == "conv_input_grad" else node.shape
    bounds, padding = [(0, e, 1) for e in w.shape[:2]], []
    for d, (before, after) in enumerate(node.attr("padding")):
        size, kernel, step = images.shape[d + 2], w.shape[d + 2], node.attr("dilation")[d]
        sizes = (size, outs[d + 2], kernel, node.attr("stride")[d], before, step)
        met = [o for o in kernel_overlaps(*sizes) if o.outputs[0] < o.outputs[1]]
        if not met:
            return None
        # With dilation, no more than leaves the padding at zero.
        first = min(met[0].first, before // step)
        last = max(met[-1].first + met[-1].count, kernel - after // step)
        bounds.append((first, last, 1))
        padding.append((before - first * step, after - (kernel - last) * step))
    shape = tuple(end - begin for begin, end, _ in bounds)
    if CROP_GAIN * math.prod(shape) > math.prod(w.shape):
        return None
    part = graph.node(TABLE["slice"], (w,), (("bounds", tuple(bounds)),), Spec(shape, w.dtype), node.line)
    attrs = tuple(sorted({**dict(node.attrs), "padding": tuple(padding)}.items()))
    return graph.node(node.op, (inputs[0], part), attrs, node.spec, node.line)


def spell_out_short_sums(graph: Graph, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    """A matrix product of few terms an element is elementwise work: writing its result takes longer than computing it.
    So it may share a loop with what reads it, as the weight gradients of a small batch do with the update.
    """
    if node.op is None or node.op.name != "matmul" or len(node.shape) != 2:
        return None
    (rows, columns), terms = node.shape, inputs[0].shape[1]
    if not 0 < terms <= SHORT_SUM or rows * columns < SHORT_SUM_ELEMENTS:
        return None

    def apply(name: str, values: tuple[Node, ...], **attrs: Any) -> Node:
        op, given = TABLE[name], tuple(sorted(attrs.items()))
        return graph.node(op, values, given, op.shape([v.spec for v in values], attrs), node.line)

    total = None
    for k in range(terms):
        left = apply("slice", (inputs[0],), bounds=((0, rows, 1), (k, k + 1, 1)))
        right = apply("slice", (inputs[1],), bounds=((k, k + 1, 1), (0, columns, 1)))
        term = apply("mul", tuple(apply("expand", (v,), shape=node.shape) for v in (left, right)))
        total = term if total is None else apply("add", (total, term))
    return total


def take_factors_out_of_sums(graph: Graph, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    """The sum of a * b, where b is one number for each sum, is sum(a) * b; that of -a is -sum(a).

    The gradients of a normalisation sum the same values with and without such a factor: then it is one sum.
    """
    if node.op is None or node.op.name != "sum" or inputs[0].op is None or node.dtype not in ("f32", "f64"):
        return None
    inner, dims = inputs[0], node.attr("dims")

    def apply(name: str, *values: Node, **attrs: Any) -> Node:
        op, given = TABLE[name], tuple(sorted(attrs.items()))
        return graph.node(op, values, given, op.shape([v.spec for v in values], attrs), node.line)

    def total(value: Node) -> Node:
        summed = apply("sum", value, dims=dims)
        return take_factors_out_of_sums(graph, summed, (value,)) or summed

    name = inner.op.name if inner.op is not None else ""
    if name == "neg":
        return apply("neg", total(inner.inputs[0]))
    if name == "mul":
        for a, b in (inner.inputs, inner.inputs[::-1]):
            single = len(b.shape) == len(a.shape) and all(b.shape[d] == 1 for d in dims)
            if single and a.shape == inner.shape and a.spec.size > node.spec.size:
                return apply("mul", total(a), b)
    return None


def read_past_writes(graph: Graph, node: Node, inputs: tuple[Node, ...]) -> Node | None:
    """A part of a value that was written part by part is what was written there.

    The gradient of [mean; variance] is a sum of two values, each zero but for one half, of which again halves are read;
    that of a concatenation has one part after the other set to zero.
    """
    if node.op is None or node.op.name != "slice":
        return None

    def found(value: Node, depth: int) -> Node | None:
        if value.op is None or depth > 16:
            return None
        if value.op.name == "view_write":
            chain = value.attr("chain")
            if len(chain) != 1 or chain[0][0] != "slice":
                return None
            (_, ((_, region),)) = chain[0]
            if region == bounds:
                return value.inputs[1]
            if any(a[1] <= b[0] or b[1] <= a[0] for a, b in zip(region, bounds, strict=True)):
                rest = found(value.inputs[0], depth + 1)
                return rest or graph.node(TABLE["slice"], (value.inputs[0],), node.attrs, node.spec, node.line)
            return None
        if _constant(value) is not None:
            attrs = (("dtype", node.dtype), ("shape", node.shape), ("value", _constant(value)))
            return graph.node(TABLE["const"], (), attrs, node.spec)
        if value.op.name == "add" and all(i.spec == value.spec for i in value.inputs):
            parts = [found(i, depth + 1) for i in value.inputs]
            if None not in parts:
                return graph.node(value.op, tuple(parts), value.attrs, node.spec, value.line)  # type: ignore[arg-type]
        return None

    bounds = node.attr("bounds")
    return found(inputs[0], 0)


PASSES: tuple[tuple[str, Rule], ...] = (
    ("fold constants", fold_constants),
    ("drop identities", drop_identities),
    ("read past writes", read_past_writes),
    ("find maxima again", find_maxima_again),
    ("work before scattering", work_before_scattering),
    ("convolve from maxima", convolve_from_maxima),
    ("crop kernels", crop_kernels),
    ("spell out short sums", spell_out_short_sums),
    ("take factors out of sums", take_factors_out_of_sums),
)


def run(graph: Graph, outputs: list[Node], steady: Collection[int] = ()) -> list[Node]:
    """All passes, in order.

    Args:
        steady: the input slots that are mostly the same from run to run, in a plan that trains nothing.
    """
    # In the order in which they were made: new nodes are numbered in this order, and numbers decide what runs first. A
    # weight's gradient that runs long after its layer's keeps the layer's values in memory.
    nodes = in_order(outputs)
    for name, rule in PASSES:
        rewritten = _rewrite(graph, nodes, outputs, rule)
        for before, after in zip(outputs, rewritten, strict=True):
            if before.spec != after.spec:
                raise AssertionError(f"pass {name} changed {before} into {after}")
        if rewritten != outputs:
            outputs, nodes = rewritten, in_order(rewritten)
        if debug_level() >= 3:
            show(name, outputs)
    outputs = fold_scales(graph, outputs, steady)
    if steady and debug_level() >= 3:
        show("fold scales", outputs)
    return compute_again(graph, outputs)


def _rewrite(graph: Graph, nodes: list[Node], outputs: list[Node], rule: Rule) -> list[Node]:
    changed: dict[Node, Node] = {}  # not those that stay what they are
    for node in nodes:
        inputs = node.inputs
        if changed and any(i in changed for i in inputs):
            inputs = tuple(changed.get(i, i) for i in inputs)
        better = rule(graph, node, inputs)
        if better is None and inputs is not node.inputs and node.op is not None:
            better = graph.node(node.op, inputs, node.attrs, node.spec, node.line)
        if better is not None:
            changed[node] = better
    return [changed.get(o, o) for o in outputs]


def show(title: str, outputs: list[Node]) -> None:
    """Prints a graph on standard error."""
    print(f"-- graph after: {title}", file=sys.stderr)
    for node in reachable(outputs):
        print(f"  {node}   {node.line}", file=sys.stderr)
