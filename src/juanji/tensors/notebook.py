"""How a tensor looks in a notebook: its facts, its numbers where they are few, a picture where it is one."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji.spec import show
from juanji.tensors.text import show_tensor

#: Maps of at least this many rows and columns are shown as pictures.
PICTURE_FROM = 8
#: No more than so many planes, and none larger than this side, go into the page.
MAX_PLANES, MAX_SIDE = 16, 256


def tensor_html(tensor: Any) -> str:
    """The HTML of `Tensor._repr_html_`; a traced tensor has only its shape."""
    if tensor.storage.array is None:
        return f"<pre>{escape(show_tensor(tensor))}</pre>"
    value = tensor.detach()
    array = np.asarray((value.float() if "float16" in str(value.dtype) else value).numpy())
    facts = [f"tensor {show(tensor.shape)}", str(tensor.dtype)]
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    if finite.size:
        low, high, mean = (float(f(finite)) for f in (np.min, np.max, np.mean))
        facts.append(f"min {low:.4g}, mean {mean:.4g}, max {high:.4g}")
    if array.dtype.kind == "f" and finite.size < array.size:
        facts.append(f"{array.size - finite.size} not finite")
    if tensor.grad_fn is not None:
        facts.append(f"grad_fn={tensor.grad_fn!r}")
    elif tensor.requires_grad:
        facts.append("requires_grad=True")
    head = f"<div style='font-family:monospace'>{escape('; '.join(facts))}</div>"
    planes = _planes(array)
    body = _pictures(planes) if planes else f"<pre>{escape(show_tensor(value))}</pre>"
    return f"<div>{head}{body}</div>"


def _planes(array: NDArray[Any]) -> list[NDArray[Any]]:
    """The pictures in [H, W], [C, H, W] or [N, C, H, W]; none where it is no picture."""
    if array.ndim not in (2, 3, 4) or not array.size or min(array.shape[-2:]) < PICTURE_FROM:
        return []
    stacked = array.reshape(-1, *array.shape[-3:]) if array.ndim > 2 else array[None, None]
    planes: list[NDArray[Any]] = []
    for image in stacked:
        planes += [np.moveaxis(image, 0, -1)] if image.shape[0] == 3 else list(image)
        if len(planes) >= MAX_PLANES:
            break
    return planes[:MAX_PLANES]


def _pictures(planes: list[NDArray[Any]]) -> str:
    every = np.concatenate([p[np.isfinite(p)].reshape(-1).astype(np.float64) for p in planes])
    low, high = (float(every.min()), float(every.max())) if every.size else (0.0, 1.0)
    images = []
    for plane in planes:
        step = max(1, -(-max(plane.shape[:2]) // MAX_SIDE))
        small = np.nan_to_num(plane[::step, ::step].astype(np.float64), nan=low, posinf=high, neginf=low)
        levels = np.clip((small - low) / ((high - low) or 1.0) * 255, 0, 255).astype(np.uint8)
        width = max(64, min(MAX_SIDE, levels.shape[1]))
        images.append(
            f"<img alt='{show(plane.shape)}' style='image-rendering:pixelated;width:{width}px;margin:2px' "
            f"src='data:image/png;base64,{_png(levels)}'>"
        )
    return f"<div>{''.join(images)}</div>"


def _png(levels: NDArray[np.uint8]) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
