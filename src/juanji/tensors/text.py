"""How tensors print: like PyTorch's, through NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from juanji import dtypes
from juanji.spec import show


def show_tensor(tensor: Any) -> str:
    """`tensor([[1., 2.]])`, with the element type and history where they are not the usual ones."""
    name = "Parameter containing:\ntensor" if type(tensor).__name__ == "Parameter" else "tensor"
    if tensor.storage.array is None:
        return f"{name}(traced, shape={show(tensor.shape)}, dtype={tensor.dtype})"
    array = tensor.detach().numpy()
    body = np.array2string(
        array,
        separator=", ",
        prefix="tensor(",
        precision=4,
        suppress_small=_plain(array),
        floatmode="maxprec" if _whole(array) and _plain(array) else "fixed",
        threshold=1000,
    )
    notes = []
    usual = (dtypes.float32, dtypes.int64, dtypes.bool_)
    if tensor.dtype not in usual or (not array.size and tensor.dtype is not dtypes.float32):
        notes.append(f"dtype={tensor.dtype}")
    if not array.size and tensor.ndim != 1:
        notes.insert(0, f"size={tuple(tensor.shape)}")
    if tensor.grad_fn is not None:
        notes.append(f"grad_fn={tensor.grad_fn!r}")
    elif tensor.requires_grad:
        notes.append("requires_grad=True")
    return f"{name}({', '.join([body, *notes])})"


def _whole(array: Any) -> bool:
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    return array.dtype.kind != "f" or bool(np.all(finite == np.round(finite)))


def _plain(array: Any) -> bool:
    if array.dtype.kind != "f":
        return True
    sizes = np.abs(array[np.isfinite(array) & (array != 0)])
    return not sizes.size or bool(sizes.min() >= 1e-4 and sizes.max() < 1e8)
