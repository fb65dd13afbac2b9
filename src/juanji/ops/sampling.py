"""Images read at positions between pixels, bilinearly, zero outside; and its adjoint.

`bilinear` is (image [N, C, H, W], y [N, P], x [N, P]) -> [N, C, P]; `bilinear_scatter` takes [N, C, P] back to an
image of `size`. With an attribute `slopes` of (1, 0) or (0, 1) the weights 1 - f and f of a position's fraction f are
replaced by their derivatives -1 and 1 along y or x, so the gradients of positions are the same two operations again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from juanji.ops.core import Context, Op, register
from juanji.ops.elementwise import mul
from juanji.ops.reduce import sum_
from juanji.ops.shape import reshape
from juanji.spec import Spec


def _bilinear_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    image, y, _ = specs
    return Spec((*image.shape[:2], y.shape[1]), image.dtype)


def _scatter_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    return Spec((*specs[0].shape[:2], *attrs["size"]), specs[0].dtype)


def _position_grad(c: Context, axis: int, values: Any, image: Any) -> Any:
    """The slope along one axis, summed over channels: `values` are [N, C, P], `image` is what they met."""
    slopes = list(c.attrs["slopes"])
    if slopes[axis]:  # constant between pixels
        return values.new_zeros(c.shape(1))
    slopes[axis] = 1
    steep = bilinear(image, c.x(1), c.x(2), slopes=tuple(slopes))
    return reshape(sum_(mul(values, steep), dims=(1,)), shape=c.shape(1))


bilinear: Op = register(
    Op(
        "bilinear",
        _bilinear_shape,
        "sample",
        (
            lambda c: bilinear_scatter(c.g, c.x(1), c.x(2), size=c.shape(0)[2:], slopes=c.attrs["slopes"]),
            lambda c: _position_grad(c, 0, c.g, c.x(0)),
            lambda c: _position_grad(c, 1, c.g, c.x(0)),
        ),
        ("12", "012", "012"),
        linear=(0,),
    )
)
bilinear_scatter: Op = register(
    Op(
        "bilinear_scatter",
        _scatter_shape,
        "sample",
        (
            lambda c: bilinear(c.g, c.x(1), c.x(2), slopes=c.attrs["slopes"]),
            lambda c: _position_grad(c, 0, c.x(0), c.g),
            lambda c: _position_grad(c, 1, c.x(0), c.g),
        ),
        ("12", "012", "012"),
        linear=(0,),
    )
)
