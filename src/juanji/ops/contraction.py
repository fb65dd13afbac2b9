"""Operations that are contractions: matrix products and the closed trio of convolution.

`conv`, `conv_input_grad` and `conv_weight_grad` are each other's gradients, so derivatives of any order stay inside
the trio. Layout of the arguments: input [N, C, *spatial], weight [out, C/groups, *kernel]; attributes `stride`,
`dilation` (one number a spatial dimension), `padding` ((before, after) each), `groups`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from juanji.errors import ShapeError
from juanji.ops.core import Context, Op, register
from juanji.ops.shape import permute
from juanji.spec import Spec, conv_output, show


def _geometry(attrs: dict[str, Any]) -> dict[str, Any]:
    return {k: attrs[k] for k in ("stride", "padding", "dilation", "groups")}


def _conv_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    x, w = specs
    name = f"conv{len(w.shape) - 2}d"
    shape = conv_output(x.shape, w.shape, attrs["stride"], attrs["padding"], attrs["dilation"], attrs["groups"], name)
    return Spec(shape, x.dtype)


def _input_grad_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    g, w = specs
    return Spec((g.shape[0], w.shape[1] * attrs["groups"], *attrs["size"]), g.dtype)


def _weight_grad_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    g, x = specs
    return Spec((g.shape[1], x.shape[1] // attrs["groups"], *attrs["kernel"]), g.dtype)


def _size(c: Context, i: int) -> tuple[int, ...]:
    return c.shape(i)[2:]


conv: Op = register(
    Op(
        "conv",
        _conv_shape,
        "contract",
        (
            lambda c: conv_input_grad(c.g, c.x(1), size=_size(c, 0), **_geometry(c.attrs)),
            lambda c: conv_weight_grad(c.g, c.x(0), kernel=_size(c, 1), **_geometry(c.attrs)),
        ),
        ("1", "0"),
        linear=(0, 1),
    )
)
#: (gradient of the output, weight) -> gradient of the input, whose spatial `size` is given; a transposed convolution.
conv_input_grad: Op = register(
    Op(
        "conv_input_grad",
        _input_grad_shape,
        "contract",
        (
            lambda c: conv(c.g, c.x(1), **_geometry(c.attrs)),
            lambda c: conv_weight_grad(c.x(0), c.g, kernel=_size(c, 1), **_geometry(c.attrs)),
        ),
        ("1", "0"),
        linear=(0, 1),
    )
)
#: (gradient of the output, input) -> gradient of the weight, whose `kernel` size is given.
conv_weight_grad: Op = register(
    Op(
        "conv_weight_grad",
        _weight_grad_shape,
        "contract",
        (
            lambda c: conv(c.x(1), c.g, **_geometry(c.attrs)),
            lambda c: conv_input_grad(c.x(0), c.g, size=_size(c, 1), **_geometry(c.attrs)),
        ),
        ("1", "0"),
        linear=(0, 1),
    )
)


def _matmul_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    a, b = specs
    if a.shape[-1] != b.shape[-2]:
        raise ShapeError(
            f"matmul: the last dimension of the first argument, {show(a.shape)}, must equal the last but one of the "
            f"second, {show(b.shape)}: {a.shape[-1]} is not {b.shape[-2]}"
        )
    if a.shape[:-2] != b.shape[:-2]:
        raise ShapeError(f"matmul: batch dimensions of {show(a.shape)} and {show(b.shape)} differ")
    return Spec((*a.shape[:-1], b.shape[-1]), a.dtype)


def transpose_last(value: Any) -> Any:
    """The view with the last two dimensions exchanged."""
    rank = len(value.shape)
    return permute(value, dims=(*range(rank - 2), rank - 1, rank - 2))


#: [..., m, k] @ [..., k, n] with equal batch dimensions.
matmul: Op = register(
    Op(
        "matmul",
        _matmul_shape,
        "contract",
        (
            lambda c: matmul(c.g, transpose_last(c.x(1))),
            lambda c: matmul(transpose_last(c.x(0)), c.g),
        ),
        ("1", "0"),
        linear=(0, 1),
    )
)


def _linear_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    x, w = specs
    if x.shape[-1] != w.shape[1]:
        raise ShapeError(
            f"linear: input of shape {show(x.shape)} has {x.shape[-1]} features, but weight of shape {show(w.shape)} "
            f"expects {w.shape[1]}"
        )
    return Spec((*x.shape[:-1], w.shape[0]), x.dtype)


#: [m, in] and weight [out, in] -> [m, out]; its own record because both gradients then need no transposed copy.
linear: Op = register(
    Op(
        "linear",
        _linear_shape,
        "contract",
        (
            lambda c: matmul(c.g, c.x(1)),
            lambda c: matmul(transpose_last(c.g), c.x(0)),
        ),
        ("1", "0"),
        linear=(0, 1),
    )
)
