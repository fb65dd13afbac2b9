"""How much arithmetic a value takes, counted as the plain loops would do it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from juanji.graph import Node
from juanji.spec import Shape


def contraction_work(name: str, shapes: Sequence[Shape], out: Shape) -> int:
    """Multiplications with an addition of an operation from its inputs' shapes to its output's.

    Taps that fall into the padding count, as is the custom.

    >>> contraction_work("linear", [(2, 3), (5, 3)], (2, 5))
    30
    """
    if name == "conv":
        return math.prod(out) * math.prod(shapes[1][1:])
    if name == "conv_input_grad":
        return math.prod(shapes[0]) * math.prod(shapes[1][1:])
    if name == "conv_weight_grad":
        return math.prod(shapes[0]) * math.prod(out[1:])
    if name in ("linear", "matmul"):
        return math.prod(out) * shapes[0][-1]
    return 0


def flops(node: Node) -> int:
    """Multiplications and additions of a convolution, one of its gradients or a matrix product; of others 0."""
    return 0 if node.op is None else 2 * contraction_work(node.op.name, [i.shape for i in node.inputs], node.shape)
