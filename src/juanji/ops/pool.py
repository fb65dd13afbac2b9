"""Pooling over windows of two spatial dimensions, [N, C, H, W].

Max pooling is linear once its positions are known: `pool_gather` reads at them and `pool_scatter` writes at them, and
each is the other's gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from juanji.errors import ShapeError
from juanji.ops.core import Op, register
from juanji.spec import Spec, show, window_size


def _windows(specs: Sequence[Spec], attrs: dict[str, Any], name: str) -> tuple[int, ...]:
    x = specs[0].shape
    kernel, stride, padding, dilation = (attrs[k] for k in ("kernel", "stride", "padding", "dilation"))
    if len(x) != 4:
        raise ShapeError(f"{name}: input of shape {show(x)} must have 4 dimensions [N, C, H, W] or 3 without batch")
    for k, s, p, d in zip(kernel, stride, padding, dilation, strict=True):
        if p * 2 > d * (k - 1) + 1:
            raise ShapeError(
                f"{name}: padding={show(padding)} should be at most half of the kernel's reach, "
                f"kernel_size={show(kernel)} with dilation={show(dilation)}"
            )
        if s < 1:
            raise ShapeError(f"{name}: stride={show(stride)} must be at least 1")
    sizes = tuple(
        window_size(x[2 + i], kernel[i], stride[i], (padding[i], padding[i]), dilation[i], attrs["ceil"])
        for i in range(2)
    )
    if any(s < 1 for s in sizes):
        raise ShapeError(
            f"{name}: input of shape {show(x)} is smaller than one window (kernel_size={show(kernel)}, "
            f"padding={show(padding)}, dilation={show(dilation)}); the output would be {show((*x[:2], *sizes))}"
        )
    return (*x[:2], *sizes)


def _pooled(name: str, dtype: str | None = None) -> Any:
    def rule(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
        return Spec(_windows(specs, attrs, name), dtype or specs[0].dtype)

    return rule


max_pool: Op = register(
    Op(
        "max_pool",
        _pooled("max_pool2d"),
        "window",
        (lambda c: pool_scatter(c.g, max_pool_index(c.x(0), **c.attrs), x=c.shape(0), **c.attrs),),
        ("0",),
    )
)
#: Where each window's first maximum is, as h * W + w in the image plane (int64).
max_pool_index: Op = register(Op("max_pool_index", _pooled("max_pool2d", "i64"), "window", (None,), ("",)))


def _windows_of(attrs: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in attrs.items() if k != "x"}


#: (values at windows, positions) -> a plane of shape `x` with the values added at the positions.
pool_scatter: Op = register(
    Op(
        "pool_scatter",
        lambda specs, attrs: Spec(attrs["x"], specs[0].dtype),
        "window",
        (lambda c: pool_gather(c.g, c.x(1), **_windows_of(c.attrs)), None),
        ("1", ""),
        linear=(0,),
    )
)


#: (gradient at windows, input of the pooling) -> gradient of the input. What `pool_scatter` at the input's own maxima
#: becomes when windows do not overlap: the compiler writes it, gradients never see it.
max_pool_grad: Op = register(
    Op("max_pool_grad", lambda specs, attrs: specs[1], "window", (None, None), ("", ""), linear=(0,))
)


#: (gradient at windows, input of the pooling, weight) -> conv_input_grad(max_pool_grad(first, second), third), `pool`
#: being the pooling's attributes. The compiler writes it where that takes less time; gradients never see it.
conv_input_grad_at_maxima: Op = register(
    Op(
        "conv_input_grad_at_maxima",
        lambda specs, attrs: Spec((specs[0].shape[0], specs[2].shape[1], *attrs["size"]), specs[0].dtype),
        "scatter",
        (None, None, None),
        ("", "", ""),
        linear=(0, 2),
    )
)

#: (gradient at windows, input of the pooling, input) -> conv_weight_grad(max_pool_grad(first, second), third).
conv_weight_grad_at_maxima: Op = register(
    Op(
        "conv_weight_grad_at_maxima",
        lambda specs, attrs: Spec((specs[0].shape[1], specs[2].shape[1], *attrs["kernel"]), specs[0].dtype),
        "scatter",
        (None, None, None),
        ("", "", ""),
        linear=(0, 2),
    )
)


def _gather_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    return Spec(specs[1].shape, specs[0].dtype)


#: (plane, positions) -> the plane's values at the positions.
pool_gather: Op = register(
    Op(
        "pool_gather",
        _gather_shape,
        "window",
        (lambda c: pool_scatter(c.g, c.x(1), x=c.shape(0), **c.attrs), None),
        ("1", ""),
        linear=(0,),
    )
)
avg_pool: Op = register(
    Op(
        "avg_pool",
        _pooled("avg_pool2d"),
        "window",
        (lambda c: avg_pool_grad(c.g, x=c.shape(0), **c.attrs),),
        ("",),
        linear=(0,),
    )
)
avg_pool_grad: Op = register(
    Op(
        "avg_pool_grad",
        lambda specs, attrs: Spec(attrs["x"], specs[0].dtype),
        "window",
        (lambda c: avg_pool(c.g, **_windows_of(c.attrs)),),
        ("",),
        linear=(0,),
    )
)
