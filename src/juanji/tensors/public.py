"""How a function becomes public: checked at its door, a function of `jj` and a method of `Tensor` at once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from juanji.dtypes import float32
from juanji.tensors import arithmetic as ar
from juanji.tensors.base import TensorBase

#: What `Tensor` gets as methods, by name; filled by `public` while the modules of functions are imported.
METHODS: dict[str, Callable[..., Any]] = {}


def public(*, method: bool = True, inplace: bool = False, aliases: tuple[str, ...] = ()) -> Callable[[Any], Any]:
    """Makes a function whose first argument is a tensor public.

    Args:
        method: also a method of `Tensor`.
        inplace: and another one whose name ends in `_`, which writes the result into the tensor.
        aliases: further names of the methods.
    """

    def decorate(function: Any) -> Any:
        name = function.__name__.rstrip("_")
        wide = function.__module__.rpartition(".")[2] in _COMPUTING
        first = next(iter(inspect.signature(function).parameters))

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            tensor = args[0] if args else kwargs.get(first)
            if not isinstance(tensor, TensorBase):
                if not args and first not in kwargs:
                    raise TypeError(f"{name}: the argument {first!r} is missing")
                raise TypeError(f"{name}: {first} must be a Tensor, not {type(tensor).__name__} ({tensor!r:.60})")
            if "out" in kwargs:
                refuse_out(name, kwargs)
            if tensor.dtype.half and wide:
                return _in_float32(function, tensor.dtype, args, kwargs)
            return function(*args, **kwargs)

        def into(self: Any, *args: Any, **kwargs: Any) -> Any:
            return ar.into(self, checked(ar.original(self), *args, **kwargs), name + "_")

        checked.__name__ = name
        into.__name__ = name + "_"
        into.__qualname__ = name + "_"
        into.__doc__ = f"`{name}`, in place."
        for known in (name, *aliases):
            if method:
                METHODS[known] = checked
            if inplace:
                METHODS[known + "_"] = into
        return checked

    return decorate


#: Modules whose functions compute: with float16 and bfloat16 in float32, rounding what comes out once.
_COMPUTING = frozenset(("algebra", "elementary", "pairs", "reductions", "scans", "statistics"))


def _in_float32(function: Any, kind: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    def widened(value: Any) -> Any:
        return ar.cast(value, float32) if isinstance(value, TensorBase) and value.dtype.half else value

    def rounded(value: Any) -> Any:
        return ar.cast(value, kind) if isinstance(value, TensorBase) and value.dtype is float32 else value

    result = function(*map(widened, args), **{k: widened(v) for k, v in kwargs.items()})
    if kwargs.get("dtype") is not None:
        return result
    if isinstance(result, tuple):
        parts = map(rounded, result)
        return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)
    return rounded(result)


def refuse_out(name: str, kwargs: dict[str, Any]) -> None:
    """Takes `out=None` away.

    Raises:
        TypeError: another `out`.
    """
    if kwargs.pop("out", None) is not None:
        raise TypeError(f"{name}: out= is not available; assign the result, or use copy_() or an in-place form")


def is_tensor(value: Any) -> bool:
    """Whether `value` is a tensor."""
    return isinstance(value, TensorBase)
