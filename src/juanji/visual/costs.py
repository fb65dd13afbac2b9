"""What a network costs, found without running it: parameters, multiply-adds, memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from juanji import gradmode
from juanji.capture.trace import Capture, proxy
from juanji.compiler.work import contraction_work
from juanji.config import state
from juanji.graph import Node, reachable
from juanji.nn.module import Module
from juanji.ops.shape import VIEWS
from juanji.target import DTYPE_BYTES
from juanji.tensors import Tensor, zeros
from juanji.visual.modes import evaluating


@dataclass(frozen=True)
class Costs:
    """Of one forward pass in evaluation mode.

    Attributes:
        parameters: how many numbers are trained.
        multiply_adds: of convolutions and matrix products.
        weight_bytes: of parameters and buffers.
        peak_bytes: of the values that are alive at one time, operation by operation; the weights not counted.
    """

    parameters: int
    multiply_adds: int
    weight_bytes: int
    peak_bytes: int


def costs(model: Module, shape: Sequence[int]) -> Costs:
    """Traces a network and counts; nothing is computed.

    Args:
        model: the network; its mode is left as it was.
        shape: of the input, with the batch.

    >>> from juanji import nn
    >>> costs(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()), (1, 1, 8, 8))
    Costs(parameters=40, multiply_adds=1296, weight_bytes=160, peak_bytes=1152)
    """
    capture = Capture()
    with evaluating(model), gradmode.no_grad():
        entry = zeros(*shape)
        given = proxy(capture, 0, entry)
        state.capture = capture
        try:
            result = model(given)
        finally:
            state.capture = None
    outputs = [capture.read(result)] if isinstance(result, Tensor) else []
    pictures = {slot.node for slot in capture.slots if slot.kind == "arg"}
    nodes = reachable(outputs)
    every = {id(p): p for p in model.parameters()}.values()
    held = {id(t): t for t in model.state_dict().values()}.values()
    return Costs(
        sum(p.numel() for p in every),
        sum(contraction_work(n.op.name, [i.shape for i in n.inputs], n.shape) for n in nodes if n.op is not None),
        sum(t.numel() * t.dtype.itemsize for t in held),
        _peak(nodes, outputs, pictures),
    )


def _peak(nodes: list[Node], outputs: list[Node], pictures: set[Node]) -> int:
    """The most bytes alive at one time when nodes are computed in order; views are their base, weights do not count."""
    owner: dict[Node, Node] = {}
    last: dict[Node, int] = {}
    for at, node in enumerate(nodes):
        view = node.op is not None and node.op.name in VIEWS
        owner[node] = owner[node.inputs[0]] if view else node
        for used in (node, *node.inputs):
            last[owner[used]] = at
    for node in outputs:
        last[owner[node]] = len(nodes)
    ends: dict[int, list[Node]] = {}
    for node, at in last.items():
        ends.setdefault(at, []).append(node)
    sizes = {
        node: node.spec.size * DTYPE_BYTES[node.dtype]
        for node in last
        if node in pictures or (node.op is not None and node.op.name != "const")
    }
    alive = peak = sum(sizes.get(node, 0) for node in pictures)
    for at, node in enumerate(nodes):
        if owner[node] is node and node not in pictures:
            alive += sizes.get(node, 0)
        peak = max(peak, alive)
        alive -= sum(sizes.get(n, 0) for n in ends.get(at, ()))
    return peak
