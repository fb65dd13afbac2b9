"""Several tensors side by side: stacks, grids and block matrices."""

from __future__ import annotations

from typing import Any

from juanji.dtypes import promote
from juanji.errors import ShapeError
from juanji.ops import shape as shapes
from juanji.tensors.arithmetic import cast
from juanji.tensors.base import need_tensor
from juanji.tensors.public import is_tensor


# -- joining ----------------------------------------------------------------------------------------------------------
def _all(function: str, tensors: Any) -> list[Any]:
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    for i, t in enumerate(given):
        need_tensor(t, f"tensors[{i}]", function)
    return list(given)


def _at_least(name: str, rank: int) -> Any:
    def one(x: Any) -> Any:
        if rank == 3 and x.ndim == 2:
            return x.unsqueeze(-1)
        if rank == 3 and x.ndim == 1:
            return x.reshape(1, -1, 1)
        return x if x.ndim >= rank else x.reshape((1,) * (rank - x.ndim) + tuple(x.shape))

    def operation(*tensors: Any) -> Any:
        if len(tensors) == 1 and is_tensor(tensors[0]):
            return one(tensors[0])
        return tuple(one(t) for t in _all(name, tensors))

    operation.__name__, operation.__doc__ = name, f"Views with at least {rank} dimensions."
    return operation


atleast_1d, atleast_2d, atleast_3d = (_at_least(f"atleast_{n}d", n) for n in (1, 2, 3))


def _joined(name: str, tensors: Any, rank: int, dim: int) -> Any:
    from juanji.tensors.creation import cat

    if is_tensor(tensors):
        raise TypeError(f"{name}: tensors must be a sequence of tensors, not one Tensor")
    given = _all(name, (list(tensors),))
    if not given:
        raise ShapeError(f"{name} expects a non-empty TensorList")
    raised = [{1: atleast_1d, 2: atleast_2d, 3: atleast_3d}[rank](t) for t in given]
    return cat(raised, 0 if name == "hstack" and raised[0].ndim == 1 else dim)


def hstack(tensors: Any) -> Any:
    """Joins along the second dimension (vectors along their only one)."""
    return _joined("hstack", tensors, 1, 1)


def vstack(tensors: Any) -> Any:
    """Joins along the first dimension, vectors as rows."""
    return _joined("vstack", tensors, 2, 0)


def dstack(tensors: Any) -> Any:
    """Joins along the third dimension."""
    return _joined("dstack", tensors, 3, 2)


def column_stack(tensors: Any) -> Any:
    """Joins along the second dimension, vectors as columns."""
    return hstack([t.reshape(-1, 1) if t.ndim < 2 else t for t in _all("column_stack", (list(tensors),))])


def meshgrid(*tensors: Any, indexing: str = "ij") -> Any:
    """The coordinates of all points of a grid; `indexing` "xy" exchanges the first two dimensions."""
    given = _all("meshgrid", tensors)
    if indexing not in ("ij", "xy"):
        raise ShapeError(f"meshgrid: indexing must be one of 'xy' or 'ij', but received: {indexing}")
    if not given:
        raise ShapeError("meshgrid expects a non-empty TensorList")
    if any(t.ndim > 1 for t in given):
        raise ShapeError("meshgrid: expected 0D or 1D tensors")
    if any(t.dtype is not given[0].dtype for t in given):
        raise ShapeError("meshgrid expects all tensors to have the same dtype")
    order = list(range(len(given)))
    if indexing == "xy" and len(given) > 1:
        order[:2] = [1, 0]
    sizes = tuple(given[i].numel() for i in order)
    result = []
    for i, t in enumerate(given):
        at = order.index(i)
        result.append(t.reshape(tuple(t.numel() if k == at else 1 for k in range(len(given)))).expand(sizes))
    return tuple(result)


def cartesian_prod(*tensors: Any) -> Any:
    """All combinations of the elements of some vectors, as rows."""
    given = _all("cartesian_prod", tensors)
    if any(t.ndim != 1 for t in given):
        raise ShapeError("cartesian_prod: expected vectors")
    if len(given) == 1:
        return given[0]
    from juanji.tensors.creation import stack

    return stack([m.reshape(-1) for m in meshgrid(*given)], 1)


def block_diag(*tensors: Any) -> Any:
    """Matrices along the diagonal of a larger one."""
    given = _all("block_diag", tensors)
    if any(t.ndim > 2 for t in given):
        raise ShapeError("block_diag: input tensors must have two or fewer dimensions")
    blocks = [atleast_2d(t) for t in given]
    kind = blocks[0].dtype
    for t in blocks:
        kind = promote(kind, t.dtype)
    rows, columns = sum(t.shape[0] for t in blocks), sum(t.shape[1] for t in blocks)
    result, r, c = cast(blocks[0], kind).new_zeros((rows, columns)), 0, 0
    for t in blocks:
        bounds = ((r, r + t.shape[0], 1), (c, c + t.shape[1], 1))
        result = shapes.view_write(result, cast(t, kind), chain=(("slice", (("bounds", bounds),)),))
        r, c = r + t.shape[0], c + t.shape[1]
    return result


__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "block_diag",
    "cartesian_prod",
    "column_stack",
    "dstack",
    "hstack",
    "meshgrid",
    "vstack",
]
