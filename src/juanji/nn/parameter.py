"""Parameter: a tensor that a module owns and an optimiser trains."""

from __future__ import annotations

from typing import Any, Self

import juanji.tensors as T
from juanji.dtypes import DType
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


class _Uninitialized(Tensor):
    """A tensor that has an element type, and a shape only when `materialize` gives it one."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        # Only for what is not found: the shape, which `_without_shape` took away, and all that follows from it.
        if name == "shape":
            raise RuntimeError(
                "Can't access the shape of an uninitialized parameter or buffer. A lazy layer takes its shapes from "
                "the first input it is called with, or from a state that is loaded: call the network once before."
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def materialize(self, shape: Any, device: Any = None, dtype: DType | None = None) -> None:
        """Gives it a shape, and the class that it has from then on; the values are not to be relied on."""
        T.check_device(device)
        self.data = T.empty(*shape, dtype=self.dtype if dtype is None else dtype)
        self.__class__ = Parameter if isinstance(self, Parameter) else Tensor  # type: ignore[assignment]

    def detach(self) -> Any:
        """Itself: there are no values yet."""
        return self

    def numpy(self, *, force: bool = False) -> Any:
        """Raises `RuntimeError`: there are no values yet."""
        return self.shape

    def _repr_html_(self) -> str:
        return f"<code>&lt;{type(self).__name__}&gt;</code>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            cls: Any = type(self)
            memo[id(self)] = cls(requires_grad=self.requires_grad, dtype=self.dtype)
        return memo[id(self)]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def _without_shape(cls: type[Any], requires_grad: bool, device: Any, dtype: DType | None) -> Any:
    T.check_device(device)
    leaf: Any = T.empty(0, dtype=dtype)
    leaf.requires_grad_(requires_grad)
    leaf.__class__ = cls
    leaf._layout = None
    del leaf.shape
    return leaf


class UninitializedParameter(_Uninitialized, Parameter):
    """A parameter of a lazy layer before the first input: it is registered and named, but has no shape.

    An optimiser may take it: it is the same object when it has become a `Parameter`. Whatever needs its shape or values
    raises `RuntimeError`.

    >>> weight = UninitializedParameter()
    >>> weight.materialize((2, 3))
    >>> type(weight).__name__, weight.shape
    ('Parameter', (2, 3))
    """

    __slots__ = ()

    def __new__(cls, requires_grad: bool = True, device: Any = None, dtype: DType | None = None) -> Self:
        """Make one of that element type."""
        return _without_shape(cls, requires_grad, device, dtype)  # type: ignore[no-any-return]

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: DType | None = None) -> None:
        pass


class UninitializedBuffer(_Uninitialized):
    """A buffer of a lazy layer before the first input: see `UninitializedParameter`."""

    __slots__ = ()

    def __new__(cls, requires_grad: bool = False, device: Any = None, dtype: DType | None = None) -> Self:
        """Make one of that element type."""
        return _without_shape(cls, requires_grad, device, dtype)  # type: ignore[no-any-return]

    def __init__(self, requires_grad: bool = False, device: Any = None, dtype: DType | None = None) -> None:
        pass


def is_uninitialized(value: Any) -> bool:
    """Whether a tensor has no shape yet."""
    return isinstance(value, _Uninitialized)
