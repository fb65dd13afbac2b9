"""What becomes of the values that gradient formulas read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from juanji.tape import SAVED_HOOKS, AccumulateGrad
from juanji.tape import Function as Node


class saved_tensors_hooks:
    """Inside, what an operation saves for its gradient is `pack_hook(tensor)`; `unpack_hook` makes the tensor of it.

    So saved values can be kept in less memory or on disk, or be computed again (`juanji.utils.checkpoint`).

    Args:
        pack_hook: called with each value to save, without history; returns anything.
        unpack_hook: called with that, when a gradient is computed; returns a tensor of the same values.

    >>> import juanji as jj
    >>> x = jj.tensor([1.0, 2.0], requires_grad=True)
    >>> with jj.autograd.graph.saved_tensors_hooks(lambda t: t.numpy().copy(), lambda a: jj.from_numpy(a)):
    ...     y = (x * x).sum()
    >>> y.backward()
    >>> x.grad
    tensor([2., 4.])
    """

    def __init__(self, pack_hook: Callable[[Any], Any], unpack_hook: Callable[[Any], Any]) -> None:
        if not callable(pack_hook) or not callable(unpack_hook):
            raise TypeError("saved_tensors_hooks: pack_hook and unpack_hook must be functions")
        self._pair = (pack_hook, unpack_hook)

    def __enter__(self) -> None:
        SAVED_HOOKS.setdefault(threading.get_ident(), []).append(self._pair)

    def __exit__(self, *error: object) -> None:
        active = SAVED_HOOKS[threading.get_ident()]
        active.pop()
        if not active:
            del SAVED_HOOKS[threading.get_ident()]


__all__ = ["AccumulateGrad", "Node", "saved_tensors_hooks"]
