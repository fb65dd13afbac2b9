"""Where data meets tensors: the few conversions that the rest of `juanji.data` needs."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji.tensors import Tensor, from_numpy, stack

__all__ = ["Array", "Tensor", "as_array", "overrides_agree", "stack", "to_tensor"]

Array = NDArray[Any]


def to_tensor(array: Array) -> Tensor:
    """A tensor over the memory of `array` (copied only where it is not laid out in C order or read-only)."""
    if not array.flags.writeable:
        array = array.copy()
    return from_numpy(np.asarray(array, order="C"))


def as_array(value: Any) -> Array:
    """The values of a tensor, or of anything NumPy takes, as an array; shares memory where it can."""
    if isinstance(value, Tensor):
        shared: Array = value.detach().numpy() if value.requires_grad else value.numpy()
        return shared
    return np.asarray(value)


def overrides_agree(instance: object, whole: str, single: str) -> bool:
    """Whether method `whole` may stand in for `single`: no subclass has given `single` a new meaning since.

    A user who derives from a set and overrides `__getitem__` must not be served the parent's whole batches.
    """
    return _agree(type(instance), whole, single)  # type: ignore[arg-type]  # types are hashable


@functools.lru_cache(maxsize=256)
def _agree(kind: type[Any], whole: str, single: str) -> bool:
    for cls in kind.__mro__:
        if whole in vars(cls):
            return True
        if single in vars(cls):
            return False
    return False
