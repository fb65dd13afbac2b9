"""Reading and writing `x[...]`: integers, slices, None, ellipsis as views; boolean and integer arrays by copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from juanji import dtypes
from juanji.config import state
from juanji.ops import elementwise as ew
from juanji.ops import shape as shapes
from juanji.ops.core import Context, Op, register
from juanji.spec import Spec, show
from juanji.tensors.arithmetic import NUMBERS, cast, scalar
from juanji.tensors.base import Storage, TensorBase, as_array, record, wrap, write


def _is_array(item: Any) -> bool:
    if isinstance(item, TensorBase):
        return bool(item.shape) or item.dtype is dtypes.bool_
    return isinstance(item, (list, np.ndarray)) and not (isinstance(item, np.ndarray) and item.ndim == 0)


def _expanded(tensor: Any, key: Any) -> list[Any]:
    items = list(key) if isinstance(key, tuple) else [key]
    used = sum(1 for i in items if i is not None and i is not Ellipsis)
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


def _numpy_key(key: Any) -> Any:
    def plain(item: Any) -> Any:
        if isinstance(item, TensorBase):
            if item.dtype.is_floating_point:
                raise IndexError(f"tensors used as indices must be integer or bool tensors, not {item.dtype}")
            return as_array(item)
        return np.asarray(item) if isinstance(item, list) else item

    return tuple(plain(i) for i in key) if isinstance(key, tuple) else plain(key)


def _take_shape(specs: Any, attrs: dict[str, Any]) -> Spec:
    return Spec(attrs["shape"], specs[0].dtype)


def _take_grad(c: Context) -> Any:
    return put(c.g, index=c.attrs["index"], shape=c.shape(0))


#: Host operations behind indexing by arrays: elements of the flattened input at fixed places, and its adjoint.
take = register(Op("take", _take_shape, "host", (_take_grad,), ("",), linear=(0,)))
put = register(
    Op(
        "put",
        _take_shape,
        "host",
        (lambda c: take(c.g, index=c.attrs["index"], shape=c.shape(0)),),
        ("",),
        linear=(0,),
    )
)


class Places:
    """Positions in a flattened tensor, compared by identity so that an operation can carry them."""

    def __init__(self, array: Any) -> None:
        self.array = array


def _places(tensor: Any, key: Any) -> Any:
    if state.capture is not None:
        state.capture.refuse(
            "indexing with an array makes a shape that depends on values",
            "index outside the step, or use where() and sums instead",
        )
    everything = np.arange(tensor.numel()).reshape(tensor.shape)
    try:
        return everything[_numpy_key(key)]
    except IndexError as error:
        raise IndexError(f"{error} (tensor of shape {show(tensor.shape)})") from None


def index_read(tensor: Any, key: Any) -> Any:
    """`tensor[key]`."""
    if not (any(map(_is_array, key)) if isinstance(key, tuple) else _is_array(key)):
        return basic(tensor, key)
    places = _places(tensor, key)
    values = as_array(tensor.contiguous().detach()).reshape(-1)[places.reshape(-1)]
    result = wrap(Storage(np.ascontiguousarray(values), tuple(places.shape), tensor.dtype))
    if state.grad_enabled:
        record(take, (tensor,), (("index", Places(places)), ("shape", tuple(places.shape))), result)
    return result


def index_write(tensor: Any, key: Any, value: Any) -> None:
    """`tensor[key] = value`."""
    if not isinstance(value, (TensorBase, *NUMBERS)):
        if not isinstance(value, (list, tuple, np.ndarray)):
            raise TypeError(f"cannot assign a {type(value).__name__} to elements of a tensor")
        array = np.asarray(value).astype(tensor.dtype.numpy)
        value = wrap(Storage(np.ascontiguousarray(array).reshape(-1), tuple(array.shape), tensor.dtype))
    source = cast(value, tensor.dtype) if isinstance(value, TensorBase) else scalar(value, tensor.dtype)
    if not (any(map(_is_array, key)) if isinstance(key, tuple) else _is_array(key)):
        region = basic(tensor, key)
        write(region, _fitted(source, region.shape))
        return
    places = _places(tensor, key)
    source = _fitted(source, tuple(places.shape))
    mask = np.zeros(tensor.numel(), np.bool_)
    mask[places.reshape(-1)] = True
    spread = put(source.contiguous(), index=Places(_last(places)), shape=tensor.shape)
    hit = wrap(Storage(mask, tensor.shape, dtypes.bool_))
    write(tensor, ew.where(hit, spread, tensor))


def _last(places: Any) -> Any:
    # Where an element is written several times the last write stays; the others go nowhere.
    flat = places.reshape(-1)
    kept = np.full(flat.shape, -1)
    _, first_from_end = np.unique(flat[::-1], return_index=True)
    chosen = len(flat) - 1 - first_from_end
    kept[chosen] = flat[chosen]
    return kept.reshape(places.shape)


def _fitted(source: Any, shape: tuple[int, ...]) -> Any:
    while len(source.shape) > len(shape) and source.shape[0] == 1:
        source = source.reshape(source.shape[1:])
    return source if source.shape == shape else source.expand(shape)


def host_take(array: Any, index: Places, shape: Any) -> Any:
    """What `take` computes."""
    return array.reshape(-1)[index.array.reshape(-1)].reshape(shape)


def host_put(array: Any, index: Places, shape: Any) -> Any:
    """What `put` computes: values added at their places; place -1 drops them."""
    out = np.zeros(int(np.prod(shape)), array.dtype)
    flat = index.array.reshape(-1)
    kept = flat >= 0
    np.add.at(out, flat[kept], array.reshape(-1)[kept])
    return out.reshape(shape)


#: What operations of kind "host" compute, on NumPy arrays.
HOST: dict[str, Callable[..., Any]] = {"take": host_take, "put": host_put}
