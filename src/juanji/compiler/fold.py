"""Batch normalisation, folded into the weights of the convolution before it where nothing is trained.

What follows a convolution and is one number a channel, a bias, frozen statistics, scale and shift, is a multiplication
and an addition; and the multiplication can as well be done to the weights: s * conv(x, W) + b = conv(x, s * W) + b.
Where all of these hang on inputs only that hardly ever change, s * W and b are computed with the packed weights, once
(`steady.py`), and what is left behind the sums is an addition.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Collection
from typing import Any

from juanji.graph import Graph, Node, in_order
from juanji.ops import TABLE
from juanji.spec import Spec


def fold_scales(graph: Graph, outputs: list[Node], steady: Collection[int]) -> list[Node]:
    """The graph with what scales the channels of a convolution in its weights.

    A plan that computes gradients of weights is left as it is: its weights change with every run.

    Args:
        steady: the input slots that are mostly the same from run to run.
    """
    nodes = in_order(outputs)
    if not steady or any(n.op is not None and n.op.name.startswith("conv_weight_grad") for n in nodes):
        return outputs
    users: dict[Node, list[Node]] = defaultdict(list)
    frozen: set[Node] = set()
    for node in nodes:
        for child in set(node.inputs):
            users[child].append(node)
        if node.slot in steady if node.op is None else all(i in frozen for i in node.inputs):
            frozen.add(node)
    wanted, changed = set(outputs), dict[Node, Node]()
    chains: dict[Node, list[Node]] = {}  # by their last nodes
    for node in nodes:
        if node.op is not None and node.op.name == "conv" and node.dtype in ("f32", "f64") and node.inputs[1] in frozen:
            chain = _chain(node, users, frozen, wanted)
            if sum(n.op is not None and n.op.name in ("mul", "div") for n in chain) or len(chain) > 2:
                chains[chain[-1]] = chain
    if not chains:
        return outputs
    for node in nodes:
        inputs = tuple(changed.get(i, i) for i in node.inputs)
        if node in chains:
            changed[node] = _folded(graph, chains[node], changed)
        elif node.op is not None and inputs != node.inputs:
            changed[node] = graph.node(node.op, inputs, node.attrs, node.spec, node.line)
    return [changed.get(o, o) for o in outputs]


def _chain(conv: Node, users: dict[Node, list[Node]], frozen: set[Node], wanted: set[Node]) -> list[Node]:
    """The convolution and what is done to it with a frozen number a channel, each the only reader of the one before."""
    chain = [conv]
    while True:
        last = chain[-1]
        if last in wanted or len(users[last]) != 1:
            return chain
        (node,) = users[last]
        if node.op is None or node.op.name not in ("add", "sub", "mul", "div") or node.spec != conv.spec:
            return chain
        first, second = node.inputs
        if node.op.name in ("add", "mul") and second is last:
            first, second = second, first
        if first is not last or second not in frozen or second.dtype != conv.dtype:
            return chain
        if not _by_channel(second, conv):
            return chain
        chain.append(node)


def _by_channel(value: Node, conv: Node) -> bool:
    """Whether a value broadcast with the convolution's result is one number a channel."""
    shape = (1,) * (len(conv.shape) - len(value.shape)) + value.shape
    return len(shape) == len(conv.shape) and math.prod(shape) == shape[1] and shape[1] in (1, conv.shape[1])


def _folded(graph: Graph, chain: list[Node], changed: dict[Node, Node]) -> Node:
    """The last node of the chain by a convolution with scaled weights and one addition."""
    conv = chain[0]
    line = conv.line

    def apply(name: str, *values: Node, **attrs: Any) -> Node:
        op, given = TABLE[name], tuple(sorted(attrs.items()))
        return graph.node(op, values, given, op.shape([v.spec for v in values], attrs), line)

    scale: Node | None = None
    shift: Node | None = None
    for last, node in itertools.pairwise(chain):
        assert node.op is not None
        first, second = node.inputs
        by = second if first is last else first
        name = node.op.name
        if name in ("mul", "div"):
            if scale is None:
                literal = (("dtype", by.dtype), ("shape", ()), ("value", 1.0))
                one = graph.node(TABLE["const"], (), literal, Spec((), by.dtype))
                scale = apply("div", one, by) if name == "div" else by
            else:
                scale = apply(name, scale, by)
            shift = None if shift is None else apply(name, shift, by)
        elif shift is None:
            shift = apply("neg", by) if name == "sub" else by
        else:
            shift = apply(name, shift, by)
    image, weight = (changed.get(i, i) for i in conv.inputs)
    if scale is not None:
        if scale.spec.size > 1:
            scale = apply("reshape", scale, shape=(scale.spec.size, *(1,) * (len(weight.shape) - 1)))
        weight = apply("mul", weight, scale)
    result = graph.node(TABLE["conv"], (image, weight), conv.attrs, conv.spec, line)
    return result if shift is None else apply("add", result, shift)
