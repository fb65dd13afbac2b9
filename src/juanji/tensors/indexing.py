"""Reading and writing `x[...]`: integers, slices, None, ellipsis as views; boolean and integer arrays by copy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from juanji import dtypes
from juanji.config import state
from juanji.errors import BoundsError
from juanji.ops import elementwise as ew
from juanji.ops import shape as shapes
from juanji.ops import table
from juanji.spec import broadcast, show
from juanji.tensors.arithmetic import NUMBERS, cast, scalar
from juanji.tensors.base import Storage, TensorBase, as_array, wrap, write
from juanji.tensors.public import public
from juanji.tensors.tables import check_bounds, wrapped


def _is_array(item: Any) -> bool:
    if isinstance(item, TensorBase):
        # Inside a capture an index without dimensions has no value yet: it is looked up.
        return bool(item.shape) or item.dtype is dtypes.bool_ or state.capture is not None
    return isinstance(item, (list, np.ndarray)) and not (isinstance(item, np.ndarray) and item.ndim == 0)


def _expanded(tensor: Any, key: Any) -> list[Any]:
    items = list(key) if isinstance(key, tuple) else [key]
    used = sum(_rank(i) if _is_array(i) and _is_mask(i) else 1 for i in items if i is not None and i is not Ellipsis)
    if used > tensor.ndim:
        raise IndexError(f"too many indices for tensor of dimension {tensor.ndim}: {used} were given")
    if sum(1 for i in items if i is Ellipsis) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    if not any(i is Ellipsis for i in items):
        items.append(Ellipsis)
    at = next(i for i, item in enumerate(items) if item is Ellipsis)
    items[at : at + 1] = [slice(None)] * (tensor.ndim - used)
    return items


def basic(tensor: Any, key: Any) -> Any:
    """The view that an index of integers, slices, None and ellipsis selects.

    Raises:
        IndexError: out of range, too many indices, or something that is no index. ValueError: a negative step.
    """
    bounds: list[tuple[int, int, int]] = []
    shape: list[int] = []
    d = 0
    for item in _expanded(tensor, key):
        if item is None:
            shape.append(1)
            continue
        extent = tensor.shape[d]
        if isinstance(item, slice):
            step = 1 if item.step is None else int(item.step)
            if step <= 0:
                raise ValueError(f"slice step must be positive, not {step}; use flip() to reverse a dimension")
            start, stop, step = slice(_int(item.start), _int(item.stop), step).indices(extent)
            bounds.append((start, max(start, stop), step))
            shape.append(max(0, -(-(stop - start) // step)))
        elif not isinstance(item, bool) and hasattr(item, "__index__"):
            i = int(item.__index__())
            if not -extent <= i < extent:
                raise IndexError(f"index {i} is out of bounds for dimension {d} with size {extent}")
            bounds.append((i % extent, i % extent + 1, 1))
        else:
            raise IndexError(
                f"{item!r} is not an index; valid are integers, slices, None, ..., and integer or boolean arrays"
            )
        d += 1
    result = tensor
    # x[...] is a view too, not x itself.
    if any(b != (0, e, 1) for b, e in zip(bounds, tensor.shape, strict=True)) or tuple(shape) == tensor.shape:
        result = shapes.slice_(tensor, bounds=tuple(bounds))
    if tuple(shape) != result.shape:
        result = shapes.reshape(result, shape=tuple(shape))
    return result


def _int(value: Any) -> int | None:
    return None if value is None else int(value)


def _index_tensors(item: Any, view: Any, d: int) -> list[Any]:
    """What indexes the dimensions of `view` from `d` on: an array of integers one, a mask as many as it has."""
    index = item
    if not isinstance(item, TensorBase):
        array = np.asarray(item)
        if not array.size and not isinstance(item, np.ndarray):
            array = array.astype(np.int64)
        if array.dtype.kind not in "iub":
            raise IndexError(f"arrays used as indices must be of integers or bools, not {array.dtype}")
        if state.capture is not None:
            index = _constant_index(array)
        else:
            index = wrap(Storage(*_stored(array)))
    if index.dtype.is_floating_point:
        raise IndexError(f"tensors used as indices must be integer or bool tensors, not {index.dtype}")
    if index.dtype is not dtypes.bool_:
        check_bounds("index", index, view.shape[d], d, -view.shape[d])
        return [wrapped(cast(index, dtypes.int64), view.shape[d])]
    if tuple(index.shape) != tuple(view.shape[d : d + index.ndim]):
        raise IndexError(
            f"the shape {show(index.shape)} of the boolean mask is not that of the tensor, {show(view.shape)}, at "
            f"dimension {d}"
        )
    if state.capture is not None:
        state.capture.refuse(
            "indexing with a mask makes a shape that depends on values",
            "index outside the step, or use where() and sums instead",
        )
    return [wrap(Storage(*_stored(places))) for places in np.nonzero(as_array(index))]


def _stored(array: Any) -> tuple[Any, Any, Any]:
    kind = dtypes.bool_ if array.dtype.kind == "b" else dtypes.int64
    return np.ascontiguousarray(array, kind.numpy).reshape(-1), tuple(array.shape), kind


def _constant_index(array: Any) -> Any:
    """An array of few integers inside a capture: constants of the graph."""
    if array.dtype.kind == "b" or array.size > 64:
        state.capture.refuse("indexing with an array from outside", "make it a tensor outside the step, or pass it in")
    from juanji.ops.shape import concatenate

    values = [ew.const(shape=(1,), dtype="i64", value=int(v)) for v in array.reshape(-1)]
    return concatenate(values, 0).reshape(tuple(array.shape)) if values else wrap(Storage(*_stored(array)))


class _Selection:
    """What an index with arrays selects: a view, and the rows of it that the arrays name together."""

    def __init__(self, tensor: Any, key: Any) -> None:
        items = _expanded(tensor, key)
        plain: list[Any] = []
        places: dict[int, Any] = {}  # dimension of the view: its array
        d = 0
        for item in items:
            if _is_array(item):
                count = _rank(item) if _is_mask(item) else 1
                places[d] = item
                plain += [slice(None)] * count
                d += count
            else:
                plain.append(item)
                d += 1 if item is None or isinstance(item, slice) else 0
        self.view = basic(tensor, tuple(plain))
        indices: dict[int, Any] = {}
        for at, item in places.items():
            for k, index in enumerate(_index_tensors(item, self.view, at)):
                indices[at + k] = index
        self.dims = sorted(indices)
        try:
            self.shape = broadcast(*(i.shape for i in indices.values()))
        except ValueError:
            shapes_ = ", ".join(show(i.shape) for i in indices.values())
            raise IndexError(f"shape mismatch: indexing arrays could not be broadcast together: {shapes_}") from None
        self.rest = [k for k in range(self.view.ndim) if k not in indices]
        self.sizes = tuple(self.view.shape[k] for k in self.dims)
        self.linear = self._linear([indices[k] for k in self.dims])
        together = self.dims == list(range(self.dims[0], self.dims[0] + len(self.dims)))
        self.front = self.dims[0] if together else 0  # where the arrays' dimensions stand in the result
        kept = tuple(self.view.shape[k] for k in self.rest)
        self.result = (*kept[: self.front], *self.shape, *kept[self.front :])
        self.table = (math.prod(self.sizes), *kept)

    def _linear(self, indices: list[Any]) -> Any:
        """Positions in the indexed dimensions laid end to end; -1 where one is out of range (in a capture only)."""
        total: Any = None
        inside: Any = None
        for index, size in zip(indices, self.sizes, strict=True):
            total = index if total is None else ew.add(ew.mul(total, scalar(size, dtypes.int64)), index)
            if state.capture is not None:
                below = ew.lt(index, scalar(size, dtypes.int64))
                good = ew.bitwise_and(ew.ge(index, scalar(0, dtypes.int64)), below)
                inside = good if inside is None else ew.bitwise_and(inside, good)
        if inside is not None:
            total = ew.where(inside, total, scalar(-1, dtypes.int64))
        return (total if total.shape == self.shape else total.expand(self.shape)).reshape(-1)

    def _order(self) -> tuple[int, ...]:
        return (*self.dims, *self.rest)

    def flat(self) -> Any:
        """The view with its indexed dimensions in front, as one."""
        return self.view.permute(self._order()).reshape(self.table)

    def spread(self) -> Any:
        """The positions for every element of the rows."""
        shape = (self.linear.shape[0], *self.table[1:])
        along = self.linear.reshape((shape[0],) + (1,) * (len(shape) - 1))
        return along if along.shape == shape else along.expand(shape)

    def read(self) -> Any:
        """The selected elements."""
        found = table.gather(self.flat(), self.spread(), dim=0)
        kept, n = self.table[1:], len(self.shape)
        found = found.reshape((*self.shape, *kept))
        moved = [*range(n, n + self.front), *range(n), *range(n + self.front, found.ndim)]
        return found.permute(tuple(moved)) if self.front and n else found

    def written(self, value: Any, mode: str) -> Any:
        """The view with `value` set or added at the selected elements."""
        wide = _fitted(value, self.result)
        n = len(self.shape)
        back = [*range(self.front, self.front + n), *range(self.front), *range(self.front + n, len(self.result))]
        rows = wide.permute(tuple(back)).reshape((self.linear.shape[0], *self.table[1:]))
        result = table.scatter(self.flat(), rows, self.spread(), dim=0, mode=mode)
        order = self._order()
        opened = result.reshape(tuple(self.view.shape[k] for k in order))
        return opened.permute(tuple(order.index(k) for k in range(len(order))))


def _is_mask(item: Any) -> bool:
    return item.dtype is dtypes.bool_ if isinstance(item, TensorBase) else np.asarray(item).dtype.kind == "b"


def _rank(item: Any) -> int:
    return len(item.shape) if isinstance(item, TensorBase) else np.asarray(item).ndim


def _has_arrays(key: Any) -> bool:
    return any(map(_is_array, key)) if isinstance(key, tuple) else _is_array(key)


def index_read(tensor: Any, key: Any) -> Any:
    """`tensor[key]`: a view for integers, slices, None and ellipsis; a copy where there are arrays."""
    return _Selection(tensor, key).read() if _has_arrays(key) else basic(tensor, key)


def _source(tensor: Any, value: Any) -> Any:
    if not isinstance(value, (TensorBase, *NUMBERS)):
        if not isinstance(value, (list, tuple, np.ndarray)):
            raise TypeError(f"cannot assign a {type(value).__name__} to elements of a tensor")
        array = dtypes.encode(np.asarray(value), tensor.dtype)
        value = wrap(Storage(np.ascontiguousarray(array).reshape(-1), tuple(array.shape), tensor.dtype))
    return cast(value, tensor.dtype) if isinstance(value, TensorBase) else scalar(value, tensor.dtype)


def index_write(tensor: Any, key: Any, value: Any) -> None:
    """`tensor[key] = value`; where arrays name an element several times the last value stays."""
    source = _source(tensor, value)
    if not _has_arrays(key):
        region = basic(tensor, key)
        write(region, _fitted(source, region.shape))
        return
    if isinstance(key, TensorBase) and key.dtype is dtypes.bool_ and not source.shape and key.shape == tensor.shape:
        write(tensor, ew.where(key, source, tensor))  # works in a capture too
        return
    chosen = _Selection(tensor, key)
    write(chosen.view, chosen.written(source, "set"))


@public(inplace=True)
def index_put(input: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    """`input` with input[indices] = values, or these added: `indices` is a tuple of tensors of integers or bools.

    Raises:
        BoundsError: an index out of range.
    """
    if not isinstance(indices, (tuple, list)):
        raise TypeError(f"index_put: indices must be a tuple of tensors, not {type(indices).__name__}")
    for i in indices:
        if i is not None and not isinstance(i, TensorBase):
            raise TypeError(f"index_put: indices must be tensors, not {type(i).__name__} ({i!r:.40})")
    if not isinstance(values, TensorBase):
        raise TypeError(f"index_put: values must be a Tensor, not {type(values).__name__}")
    if values.dtype is not input.dtype:
        raise BoundsError(f"index_put: values are {values.dtype}, but the tensor is {input.dtype}")
    key = tuple(slice(None) if i is None else i.reshape(1) if not i.shape else i for i in indices)
    chosen = _Selection(input, key)
    return chosen.written(values, "add" if accumulate else "set")


def _fitted(source: Any, shape: tuple[int, ...]) -> Any:
    while len(source.shape) > len(shape) and source.shape[0] == 1:
        source = source.reshape(source.shape[1:])
    return source if source.shape == shape else source.expand(shape)


#: What operations of kind "host" compute, on NumPy arrays: filled by who registers one.
HOST: dict[str, Callable[..., Any]] = {}
