"""`Tensor`: what users call. Names, arguments and semantics are PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from juanji.config import state
from juanji.dtypes import as_dtype, bfloat16, encode
from juanji.errors import ShapeError
from juanji.ops import elementwise as ew
from juanji.ops import reduce
from juanji.ops import shape as shapes
from juanji.runtime.memory import check_size
from juanji.spec import infer_shape, is_contiguous, normal_dim, show
from juanji.tensors import arithmetic as ar
from juanji.tensors import notebook, text
from juanji.tensors.base import TensorBase, Var, as_array, make, need_tensor, raw_array, set_class, view, wrap, write
from juanji.tensors.device import CPU, check_device, device
from juanji.tensors.differentiable import Differentiable
from juanji.tensors.eager import new_storage
from juanji.tensors.formats import MemoryFormat, check_memory_format
from juanji.tensors.indexing import index_read, index_write
from juanji.tensors.operators import install
from juanji.tensors.products import matmul

#: Names of arguments that `Tensor.to` takes.
_TO = ("dtype", "device", "other", "non_blocking", "copy", "memory_format")


def _dims_argument(given: tuple[Any, ...]) -> tuple[int, ...]:
    items = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    if {*map(type, items)} == {int}:
        return tuple(items)
    if any(isinstance(d, bool) or not hasattr(d, "__index__") for d in items):
        raise TypeError(f"sizes must be integers, not {items!r}")
    return tuple(int(d) for d in items)


class Tensor(Differentiable):
    """A multi-dimensional array of one element type that remembers how it was computed.

    Made by `jj.tensor`, `jj.zeros` and their like, never by its class.

    >>> import juanji as jj
    >>> x = jj.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([[2., 4.],
            [6., 8.]])
    """

    __slots__ = ()
    __array_priority__ = 1000

    if TYPE_CHECKING:  # installed below from the op table

        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __rfloordiv__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __rmod__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __rand__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __ror__(self, other: Any) -> Tensor: ...
        def __xor__(self, other: Any) -> Tensor: ...
        def __rxor__(self, other: Any) -> Tensor: ...
        def __iadd__(self, other: Any) -> Tensor: ...
        def __isub__(self, other: Any) -> Tensor: ...
        def __imul__(self, other: Any) -> Tensor: ...
        def __itruediv__(self, other: Any) -> Tensor: ...
        def __ifloordiv__(self, other: Any) -> Tensor: ...
        def __imod__(self, other: Any) -> Tensor: ...
        def __iand__(self, other: Any) -> Tensor: ...
        def __ior__(self, other: Any) -> Tensor: ...
        def __ixor__(self, other: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __eq__(self, other: object) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: object) -> Tensor: ...  # type: ignore[override]
        def __neg__(self) -> Tensor: ...
        def __pos__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __getattr__(self, name: str) -> Callable[..., Any]: ...

    # -- what it is -----------------------------------------------------------------------------------------
    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def device(self) -> device:
        """Always `device("cpu")`."""
        return CPU

    @property
    def is_cuda(self) -> bool:
        """Always False."""
        return False

    @property
    def data(self) -> Tensor:
        """The same memory without history."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, TensorBase):
            raise TypeError(f"data must be set to a Tensor, not {type(value).__name__}")
        if self.requires_grad and not value.dtype.is_floating_point:
            raise RuntimeError(f"data of a tensor that requires gradients must be floating point, not {value.dtype}")
        from juanji.config import changed

        changed("Tensor.data")
        if self.chain:  # a view leaves its base alone, and keeps its history
            edge, requires_grad = self.grad_fn, self.requires_grad
            self._var, self._edge = Var(value.storage, (), requires_grad), None
            self._var.fn = edge
        self._var.storage = value.storage
        self._var.region, self.chain = value.full_chain, ()
        self.shape, self.strides, self.offset, self.dtype = value.shape, value.strides, value.offset, value.dtype
        self._layout = None

    @property
    def T(self) -> Tensor:
        """All dimensions reversed."""
        return shapes.permute(self, dims=tuple(reversed(range(self.ndim))))  # type: ignore[no-any-return]

    def dim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the extent of one dimension."""
        return self.shape if dim is None else self.shape[normal_dim(dim, self.ndim)]

    def stride(self, dim: int | None = None) -> Any:
        """Logical strides in elements."""
        return self.strides if dim is None else self.strides[normal_dim(dim, self.ndim)]

    def storage_offset(self) -> int:
        """Position of the first element in the storage."""
        return self.offset

    def data_ptr(self) -> int:
        """Address of the first element."""
        return self.storage.ptr + self.offset * self.dtype.itemsize

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.numel() * self.dtype.itemsize

    def element_size(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    def is_floating_point(self) -> bool:
        """Whether the elements have a fraction."""
        return self.dtype.is_floating_point

    def is_contiguous(self, memory_format: Any = None) -> bool:
        """Whether the elements follow one another in C order; channels last in the order that it names.

        Raises:
            TypeError: not a memory format.
        """
        check_memory_format("is_contiguous", memory_format)
        if memory_format is not None and memory_format.rank is not None:
            if memory_format.rank != self.ndim:
                return False
            order = (0, *range(2, self.ndim), 1)
            return is_contiguous(tuple(self.shape[d] for d in order), tuple(self.strides[d] for d in order))
        return is_contiguous(self.shape, self.strides)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shape:
            raise TypeError("iteration over a 0-d tensor")
        return iter([self[i] for i in range(self.shape[0])])

    def __hash__(self) -> int:
        return id(self)

    def _repr_html_(self) -> str:
        return notebook.tensor_html(self)

    def __repr__(self) -> str:
        return text.show_tensor(self)

    def __str__(self) -> str:
        if state.capture is not None:
            as_array(self)  # refuses: a replay would not print
        return repr(self)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and not self.shape else str(self)

    # -- out to Python and NumPy ----------------------------------------------------------------------------
    def numpy(self, *, force: bool = False) -> NDArray[Any]:
        """A NumPy array over the same memory: writing to one writes to the other.

        Raises:
            RuntimeError: the tensor requires a gradient and `force` is false.
        """
        if self.requires_grad and not force:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        if self.dtype is bfloat16:
            raise TypeError("Got unsupported ScalarType BFloat16: NumPy has no bfloat16; use .float().numpy()")
        return as_array(self)

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(f"a tensor of {self.dtype} cannot be shown as an array of {dtype} without a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def item(self) -> Any:
        """The value of a tensor of one element, as a Python number.

        Raises:
            RuntimeError: more or fewer than one element.
        """
        if self.numel() != 1:
            raise RuntimeError(f"a Tensor with {self.numel()} elements cannot be converted to Scalar")
        return as_array(self).item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return as_array(self).tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.numel() != 1 or self.dtype.is_floating_point:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.numel() != 1:
            raise RuntimeError("Boolean value of Tensor with more than one value is ambiguous")
        return bool(self.item())

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("tensors are not pickled: save them with jj.save, which never executes code on loading")

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise RuntimeError("Only Tensors created explicitly by the user support the deepcopy protocol")
        again = self.detach().clone()
        again._var.requires_grad = self.requires_grad
        copied: Tensor = make(type(self), again._var, (), again.shape, again.strides, 0, self.dtype)
        copied.__dict__.update(self.__dict__)
        if self._var.grad is not None:
            copied._var.grad = self._var.grad.detach().clone()
        memo[id(self)] = copied
        return copied

    # -- copies and element types -------------------------------------------------------------------------
    def clone(self, *, memory_format: Any = None) -> Tensor:
        """A copy with memory of its own, through which gradients flow."""
        check_memory_format("clone", memory_format, self.shape)
        return ew.copy(self)  # type: ignore[no-any-return]

    def contiguous(self, memory_format: Any = None) -> Tensor:
        """Itself if its elements lie in C order, else a copy whose elements do; `memory_format` is a hint."""
        check_memory_format("contiguous", memory_format, self.shape)
        return self if self.is_contiguous() else self.clone()

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """This tensor in another element type: `to(dtype)`, `to("cpu")`, `to(other)`.

        Raises:
            ValueError: a device other than the CPU.
        """
        dtype = self.dtype
        if kwargs:
            unknown = [k for k in kwargs if k not in _TO]
            if unknown:
                raise TypeError(f"to() got an unexpected keyword argument {unknown[0]!r}; valid are {', '.join(_TO)}")
            check_memory_format("to", kwargs.get("memory_format"), self.shape)
        for value in (*args, *(v for k, v in kwargs.items() if k in ("dtype", "device", "other"))):
            if isinstance(value, TensorBase):
                dtype = value.dtype
            elif isinstance(value, str) or (hasattr(value, "type") and not isinstance(value, type | np.dtype)):
                check_device(value)
            elif isinstance(value, MemoryFormat):
                check_memory_format("to", value, self.shape)
            elif value is not None and not isinstance(value, bool):
                dtype = as_dtype(value)
        result = ar.cast(self, dtype)
        return result.clone() if kwargs.get("copy") and result is self else result

    def type(self, dtype: Any = None) -> Any:
        """The element type's name, or this tensor in another element type."""
        return repr(self.dtype) if dtype is None else self.to(dtype)

    def type_as(self, other: Tensor) -> Tensor:
        """This tensor in `other`'s element type."""
        need_tensor(other, "other", "type_as")
        return self.to(other.dtype)

    def cpu(self) -> Tensor:
        """Itself."""
        return self

    # -- new tensors like this one ------------------------------------------------------------------------------
    def new_scalar(self, value: float) -> Tensor:
        """A constant without dimensions, of this element type; not to be written to."""
        return ar.scalar(value, self.dtype)  # type: ignore[no-any-return]

    def new_full(
        self,
        size: Any,
        fill_value: Any,
        dtype: Any = None,
        *,
        device: Any = None,
        requires_grad: bool = False,
        **h: Any,
    ) -> Tensor:
        """A tensor of that shape with one value everywhere, of this element type."""
        check_device(device)
        kind = self.dtype if dtype is None else as_dtype(dtype)
        shape = _dims_argument((size,) if not isinstance(size, int) else ((size,),))
        if state.capture is not None:
            return ew.const(shape=shape, dtype=kind.short, value=fill_value)  # type: ignore[no-any-return]
        check_size(shape, kind.name)
        result: Tensor = wrap(new_storage(shape, kind, math.prod(shape) * kind.itemsize), requires_grad)
        raw_array(result)[...] = encode(np.asarray(fill_value), kind)
        return result

    def new_zeros(self, *size: Any, dtype: Any = None, **options: Any) -> Tensor:
        """Zeros of that shape, of this element type."""
        return self.new_full(_dims_argument(size or (options.pop("size", ()),)), 0, dtype, **options)

    new_empty = new_zeros

    def new_tensor(self, data: Any, dtype: Any = None, **options: Any) -> Tensor:
        """A tensor of `data` (a copy), of this element type unless given. Options as in `jj.tensor`."""
        from juanji.tensors.creation import tensor

        return tensor(data, dtype=self.dtype if dtype is None else dtype, **options)

    def new_ones(self, *size: Any, dtype: Any = None, **options: Any) -> Tensor:
        """Ones of that shape, of this element type."""
        return self.new_full(_dims_argument(size or (options.pop("size", ()),)), 1, dtype, **options)

    # -- shape ----------------------------------------------------------------------------------------------------
    def reshape(self, *shape: Any) -> Tensor:
        """The elements in another shape: a view where memory order allows it, else a copy."""
        wanted = infer_shape(_dims_argument(shape), self.numel(), self.shape)
        return shapes.reshape(self, shape=wanted)  # type: ignore[no-any-return]

    def view(self, *shape: Any) -> Tensor:
        """The same memory in another shape.

        Raises:
            RuntimeError: the number of elements differs, or memory order does not allow it.
        """
        wanted = infer_shape(_dims_argument(shape), self.numel(), self.shape)
        result = view(self, "reshape", (("shape", wanted),))
        if result is None:
            raise ShapeError(
                f"view size {show(wanted)} is not compatible with input tensor's size {show(self.shape)} and stride "
                f"{show(self.strides)}. Use .reshape(...) instead."
            )
        return result  # type: ignore[no-any-return]

    def view_as(self, other: Tensor) -> Tensor:
        """The same memory in `other`'s shape."""
        need_tensor(other, "other", "view_as")
        return self.view(other.shape)

    def reshape_as(self, other: Tensor) -> Tensor:
        """The elements in `other`'s shape."""
        need_tensor(other, "other", "reshape_as")
        return self.reshape(other.shape)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """Joins the dimensions from `start_dim` to `end_dim`."""
        first, last = normal_dim(start_dim, self.ndim, "start_dim"), normal_dim(end_dim, self.ndim, "end_dim")
        if first > last:
            raise ShapeError(f"flatten: start_dim={start_dim} cannot come after end_dim={end_dim}")
        if not self.shape:
            return self.reshape(1)
        if first == last:
            return self
        return self.reshape(*self.shape[:first], math.prod(self.shape[first : last + 1]), *self.shape[last + 1 :])

    def unflatten(self, dim: int, sizes: Sequence[int]) -> Tensor:
        """Splits dimension `dim` into `sizes`."""
        d = normal_dim(dim, self.ndim)
        inner = infer_shape(sizes, self.shape[d], (self.shape[d],))
        return self.reshape(*self.shape[:d], *inner, *self.shape[d + 1 :])

    def permute(self, *dims: Any) -> Tensor:
        """The view with its dimensions in another order."""
        order = tuple(normal_dim(d, self.ndim, "dims") for d in _dims_argument(dims))
        if sorted(order) != list(range(self.ndim)):
            raise ShapeError(f"permute: dims={order} must name each of the {self.ndim} dimensions once")
        return shapes.permute(self, dims=order)  # type: ignore[no-any-return]

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """The view with two dimensions exchanged."""
        order = list(range(self.ndim))
        a, b = normal_dim(dim0, self.ndim, "dim0"), normal_dim(dim1, self.ndim, "dim1")
        if not order:
            return self.permute(())
        order[a], order[b] = order[b], order[a]
        return shapes.permute(self, dims=tuple(order))  # type: ignore[no-any-return]

    def t(self) -> Tensor:
        """The transposed matrix."""
        if self.ndim > 2:
            raise ShapeError(f"t() expects a tensor of at most 2 dimensions, but the shape is {show(self.shape)}")
        return self if self.ndim < 2 else self.transpose(0, 1)

    def squeeze(self, dim: Any = None) -> Tensor:
        """Drops dimensions of extent 1: all of them, or those given."""
        if dim is None:
            return self.reshape(tuple(e for e in self.shape if e != 1))
        chosen = {normal_dim(d, self.ndim) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))}
        return self.reshape(tuple(e for i, e in enumerate(self.shape) if i not in chosen or e != 1))

    def unsqueeze(self, dim: int) -> Tensor:
        """Adds a dimension of extent 1 at `dim`."""
        at = normal_dim(dim, self.ndim + 1)
        return self.reshape((*self.shape[:at], 1, *self.shape[at:]))

    def expand(self, *sizes: Any) -> Tensor:
        """The view in which dimensions of extent 1 are stretched; -1 keeps an extent."""
        wanted = _dims_argument(sizes)
        lead = len(wanted) - self.ndim
        if lead < 0:
            raise ShapeError(f"expand: {show(wanted)} has fewer dimensions than the tensor's shape {show(self.shape)}")
        result = []
        for i, e in enumerate(wanted):
            have = self.shape[i - lead] if i >= lead else 1
            if e == -1 and i < lead:
                raise ShapeError(f"expand: -1 is not allowed in the new leading dimension {i} of {show(wanted)}")
            if e not in (-1, have) and have != 1:
                raise ShapeError(
                    f"expand: the size {e} of dimension {i} must match the existing size {have} of {show(self.shape)}"
                )
            result.append(have if e == -1 else e)
        return shapes.expand(self, shape=tuple(result))  # type: ignore[no-any-return]

    def expand_as(self, other: Tensor) -> Tensor:
        """This tensor stretched to `other`'s shape."""
        need_tensor(other, "other", "expand_as")
        return self.expand(other.shape)

    def __getitem__(self, key: Any) -> Tensor:
        return index_read(self, key)  # type: ignore[no-any-return]

    def __setitem__(self, key: Any, value: Any) -> None:
        index_write(self, key, value)

    # -- in place -------------------------------------------------------------------------------------------------
    def copy_(self, src: Any, non_blocking: bool = False) -> Tensor:
        """Writes the elements of `src`, broadcast and cast, into this tensor."""
        value = ar.cast(src, self.dtype) if isinstance(src, TensorBase) else ar.scalar(src, self.dtype)
        if value.shape != self.shape:
            value = value.expand(self.shape)
        write(self, value)
        return self

    def zero_(self) -> Tensor:
        """Sets every element to zero."""
        return self.fill_(0)

    def fill_(self, value: Any) -> Tensor:
        """Sets every element to `value`."""
        return self.copy_(value)

    # -- matrices -------------------------------------------------------------------------------------------------
    def matmul(self, other: Tensor) -> Tensor:
        """Matrix product; see `juanji.matmul`."""
        return matmul(self, other)  # type: ignore[no-any-return]

    mm = bmm = mv = dot = __matmul__ = matmul

    def __rmatmul__(self, other: Any) -> Tensor:
        return matmul(other, self)  # type: ignore[no-any-return]


install(Tensor)
Tensor.__hash__ = lambda self: id(self)  # type: ignore[method-assign]
set_class(Tensor)
_ = reduce  # the reductions of the op table are registered before any tensor exists
