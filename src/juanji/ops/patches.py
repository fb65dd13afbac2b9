"""The windows of a convolution as an array of their own, and their sum back into an image: im2col and col2im.

[N, C, *size] and [N, C, *kernel, *positions]; attributes `kernel`, `stride`, `padding` ((before, after) each),
`dilation`, and for `fold` the image's `size`. The two are linear, and each is the other's gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from juanji.ops.core import Context, Op, register
from juanji.spec import Spec, window_size


def _plain(attrs: dict[str, Any]) -> dict[str, Any]:
    return {k: attrs[k] for k in ("kernel", "stride", "padding", "dilation")}


def _unfold_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    x = specs[0]
    windows = zip(x.shape[2:], *_plain(attrs).values(), strict=True)
    places = tuple(window_size(n, k, s, p, d) for n, k, s, p, d in windows)
    return Spec((*x.shape[:2], *attrs["kernel"], *places), x.dtype)


def _fold_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    return Spec((*specs[0].shape[:2], *attrs["size"]), specs[0].dtype)


def _unfold_grad(c: Context) -> Any:
    return fold(c.g, size=c.shape(0)[2:], **_plain(c.attrs))


unfold: Op = register(Op("unfold", _unfold_shape, "patches", (_unfold_grad,), ("",), linear=(0,)))
fold: Op = register(Op("fold", _fold_shape, "patches", (lambda c: unfold(c.g, **_plain(c.attrs)),), ("",), linear=(0,)))
