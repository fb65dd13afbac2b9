"""Small functions and methods that programs for PyTorch use: filling, comparing in place, turning in place, asking."""

from __future__ import annotations

from typing import Any

import numpy as np

from juanji import dtypes
from juanji.dtypes import DType
from juanji.ops import elementwise as ew
from juanji.random import default_generator
from juanji.tensors import arithmetic as ar
from juanji.tensors.base import check_writable, need_tensor
from juanji.tensors.creation import as_tensor, manual_seed
from juanji.tensors.joining import vstack
from juanji.tensors.methods import Tensor
from juanji.tensors.operations import where
from juanji.tensors.public import public
from juanji.tensors.tables import one_value


@public(method=False)
def fill(input: Any, value: Any) -> Any:
    """A tensor like `input` with `value`, a number or a tensor of no dimensions, everywhere.

    Raises:
        RuntimeError: `value` has dimensions, or does not fit into the element type.

    >>> import juanji as jj
    >>> jj.fill(jj.zeros(3), 2.5)
    tensor([2.5000, 2.5000, 2.5000])
    """
    return ew.copy(one_value("fill", input, value).expand(input.shape))


def row_stack(tensors: Any) -> Tensor:
    """Another name of `vstack`."""
    return vstack(tensors)  # type: ignore[no-any-return]


def index_put(input: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of `input` with `values` written, or added, at `indices`: see `Tensor.index_put`."""
    need_tensor(input, "input", "index_put")
    return input.index_put(indices, values, accumulate)  # type: ignore[no-any-return]


def asarray(
    obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False
) -> Tensor:
    """`obj` as a tensor, sharing memory where it is a tensor or a suitable NumPy array, unless `copy`.

    Raises:
        ValueError: `copy=False`, and sharing is not possible.

    >>> import numpy as np
    >>> array = np.zeros(2, np.float32)
    >>> asarray(array)[0] = 1
    >>> array
    array([1., 0.], dtype=float32)
    """
    shared = as_tensor(obj, dtype, device)
    if copy is False and not (
        shared is obj or (isinstance(obj, np.ndarray) and np.shares_memory(obj, shared.detach().numpy()))
    ):
        raise ValueError(f"asarray: copy=False, but {type(obj).__name__} cannot be shared as {shared.dtype}")
    result = shared.detach().clone() if copy else shared
    return result.requires_grad_() if requires_grad else result


def get_default_dtype() -> DType:
    """The type of tensors made from floats: float32, always."""
    return dtypes.float32


def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape."""
    need_tensor(input, "input", "is_same_size")
    need_tensor(other, "other", "is_same_size")
    return input.shape == other.shape


def initial_seed() -> int:
    """The seed of the running sequence of random numbers."""
    return default_generator.initial_seed()


def seed() -> int:
    """Draws a seed from the operating system, starts its sequence, for captured steps too, and returns it."""
    drawn = int(np.random.SeedSequence().generate_state(1, np.uint32)[0])
    manual_seed(drawn)
    return drawn


# -- methods ----------------------------------------------------------------------------------------------------------
def _in_place(name: str) -> Any:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = getattr(ar.original(self), name)(*args, **kwargs)
        return ar.into(self, ar.cast(result, self.dtype), name + "_")

    method.__name__ = method.__qualname__ = name + "_"
    method.__doc__ = f"`{name}`, in place: 1 where it holds, else 0, in this element type."
    return method


def _turned(name: str) -> Any:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        check_writable(self)
        shown = getattr(self, name)(*args, **kwargs)
        if self.is_leaf and self.requires_grad:  # under no_grad: it stays a leaf
            self.data = shown.detach()
        else:
            self._var, self.chain, self.shape, self.strides = shown._var, shown.chain, shown.shape, shown.strides
            self.offset, self._layout, self._edge = shown.offset, None, None
        return self

    method.__name__ = method.__qualname__ = name + "_"
    method.__doc__ = f"`{name}`, in place: the same elements, seen in another shape."
    return method


def _where(self: Any, condition: Any, other: Any) -> Tensor:
    """These elements where `condition` is true, else `other`'s: see `juanji.where`."""
    return where(condition, self, other)


def _matrix_transpose(self: Any) -> Tensor:
    """The last two dimensions exchanged.

    Raises:
        RuntimeError: fewer than two dimensions.
    """
    if self.ndim < 2:
        raise RuntimeError(f"tensor.mT is only supported on matrices or batches of matrices. Got {self.ndim}-D tensor.")
    return self.transpose(-2, -1)  # type: ignore[no-any-return]


def _get_device(self: Any) -> int:
    """-1: the CPU."""
    return -1


def _is_signed(self: Any) -> bool:
    """Whether elements may be negative."""
    return self.dtype.short not in ("b1", "u8")


_COMPARISONS = (
    "eq", "ne", "lt", "le", "gt", "ge", "greater", "greater_equal", "less", "less_equal", "not_equal", "logical_not",
)  # fmt: skip
for _name in _COMPARISONS:
    setattr(Tensor, _name + "_", _in_place(_name))
for _name in ("squeeze", "unsqueeze", "transpose", "t", "swapaxes", "swapdims"):
    setattr(Tensor, _name + "_", _turned(_name))
_MORE: dict[str, Any] = {
    "where": _where,
    "mT": property(_matrix_transpose),
    "mH": property(_matrix_transpose),
    "H": property(lambda self: self.t(), doc="The transpose of a matrix: numbers are real."),
    "is_same_size": is_same_size,
    "nelement": Tensor.numel,
    "ndimension": Tensor.dim,
    "is_cpu": property(lambda self: True, doc="Always true."),
    "is_sparse": property(lambda self: False, doc="Always false."),
    "is_quantized": property(lambda self: False, doc="Always false."),
    "is_meta": property(lambda self: False, doc="Always false."),
    "get_device": _get_device,
    "is_signed": _is_signed,
}
for _name, _member in _MORE.items():
    setattr(Tensor, _name, _member)

__all__ = [
    "asarray", "fill", "get_default_dtype", "index_put", "initial_seed", "is_same_size", "row_stack",
    "seed",
]  # fmt: skip
