"""Parameter: a tensor that a module owns and an optimiser trains."""

from __future__ import annotations

from typing import Any, Self

import juanji.tensors as T
from juanji.tensors import Tensor


class Parameter(Tensor):
    """A leaf tensor that a `Module` lists among its parameters when it is assigned as an attribute.

    It shares the memory of `data`. Raises `TypeError` when `data` is not a tensor.

    >>> import juanji as jj
    >>> weight = jj.nn.Parameter(jj.zeros(2))
    >>> weight
    Parameter containing:
    tensor([0., 0.], requires_grad=True)
    """

    __slots__ = ()

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Self:
        """Make a parameter over the memory of `data` (an empty tensor when it is None)."""
        if data is None:
            data = T.empty(0)
        if not isinstance(data, Tensor):
            raise TypeError(f"Parameter: data must be a Tensor, not {type(data).__name__}")
        # A detached tensor is a leaf of its own over the same storage, exactly what a parameter is.
        leaf: Any = data.detach()
        leaf.__class__ = cls
        leaf.requires_grad_(requires_grad)
        return leaf  # type: ignore[no-any-return]

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True) -> None:
        # Everything is done in __new__; this only keeps Tensor.__init__ from running on the finished object.
        pass

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A parameter with a copy of the values and without the gradient, as in PyTorch."""
        if id(self) in memo:
            return memo[id(self)]  # type: ignore[no-any-return]
        result = type(self)(self.detach().clone(), self.requires_grad)
        memo[id(self)] = result
        return result
