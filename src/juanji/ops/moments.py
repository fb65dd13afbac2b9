"""Mean and variance of one value a channel, a row or a group, in one pass over memory.

As two sums they would read the input twice, and write the squares in between. The record has one output, the mean and
the variance one above the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from juanji.ops.core import Context, Op, register
from juanji.ops.elementwise import add, mul, sub
from juanji.ops.shape import reshape, slice_
from juanji.spec import Shape, Spec


def _shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    kept = tuple(1 if i in attrs["dims"] else e for i, e in enumerate(specs[0].shape))
    return Spec((2, *kept), specs[0].dtype)


def part(both: Any, i: int) -> Any:
    """The means (0) or the variances (1) of a result of `moments`, the reduced dimensions with extent 1."""
    shape: Shape = tuple(both.shape)
    one = slice_(both, bounds=((i, i + 1, 1), *((0, e, 1) for e in shape[1:])))
    return reshape(one, shape=shape[1:])


def _gradient(c: Context) -> Any:
    # d mean / dx = 1 / n, d variance / dx = 2 (x - mean) / n: the mean's own part sums to nothing.
    x = c.x(0)
    scale = 1.0 / math.prod(c.specs[0].shape[d] for d in c.attrs["dims"])
    centred = sub(x, part(c.out, 0))
    return add(mul(centred, part(c.g, 1) * (2 * scale)), part(c.g, 0) * scale)


#: x -> [mean; variance with divisor n] over `dims`, which stay with extent 1.
moments: Op = register(Op("moments", _shape, "moments", (_gradient,), ("0o",)))
