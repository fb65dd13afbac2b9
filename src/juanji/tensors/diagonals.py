"""Diagonals and triangles of matrices, and copies with a part replaced."""

from __future__ import annotations

from typing import Any

from juanji import dtypes
from juanji.errors import BoundsError, ShapeError
from juanji.ops import elementwise as ew
from juanji.ops import shape as shapes
from juanji.ops.reduce import positions
from juanji.spec import normal_dim, show
from juanji.tensors.arithmetic import cast, scalar
from juanji.tensors.base import need_tensor
from juanji.tensors.public import public
from juanji.tensors.shaping import counting, integers, movedim, picked, select


# -- diagonals and triangles ------------------------------------------------------------------------------------------
def _diagonal_places(rows: int, columns: int, offset: int) -> tuple[int, int, int]:
    """First row, first column and length of a diagonal."""
    row, column = max(-offset, 0), max(offset, 0)
    return row, column, max(0, min(rows - row, columns - column))


@public()
def diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """A view of the diagonal of two dimensions, as a new last dimension."""
    a, b = normal_dim(dim1, input.ndim, "dim1"), normal_dim(dim2, input.ndim, "dim2")
    if a == b:
        raise ShapeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    x = movedim(input, (a, b), (-2, -1))
    rows, columns = x.shape[-2:]
    row, column, length = _diagonal_places(rows, columns, *integers("diagonal", offset, "offset"))
    lead = tuple(x.shape[:-2])
    if not length:
        return x.reshape(*lead, rows * columns)[..., :0]
    # Steps of one row and one column are steps of `columns + 1` in the rows laid end to end.
    flat = x.reshape(*lead, rows * columns)
    start = row * columns + column
    return flat[..., start : start + (length - 1) * (columns + 1) + 1 : columns + 1]


@public()
def diag_embed(input: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """The last dimension as the diagonal of a new matrix of dimensions `dim1` and `dim2`."""
    if not input.shape:
        raise BoundsError("diag_embed: input must have at least one dimension")
    rank = input.ndim + 1
    a, b = normal_dim(dim1, rank, "dim1"), normal_dim(dim2, rank, "dim2")
    if a == b:
        raise ShapeError(f"diag_embed: dim1={dim1} and dim2={dim2} must be different")
    (offset,) = integers("diag_embed", offset, "offset")
    size = input.shape[-1] + abs(offset)
    result = input.new_zeros((*input.shape[:-1], size, size))
    row, column, length = _diagonal_places(size, size, offset)
    start = row * size + column
    if length and result.numel():
        flat = (*input.shape[:-1], size * size)
        bounds = (*((0, e, 1) for e in flat[:-1]), (start, start + (length - 1) * (size + 1) + 1, size + 1))
        chain = (("reshape", (("shape", flat),)), ("slice", (("bounds", bounds),)))
        result = shapes.view_write(result, input, chain=chain)
    return movedim(result, (-2, -1), (a, b))


@public()
def diag(input: Any, diagonal: int = 0) -> Any:
    """The diagonal of a matrix as a copy, or a matrix with the given diagonal."""
    if input.ndim == 1:
        return diag_embed(input, diagonal)
    if input.ndim != 2:
        raise ShapeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D")
    return ew.copy(globals()["diagonal"](input, diagonal))


@public()
def diagflat(input: Any, offset: int = 0) -> Any:
    """A matrix whose diagonal are all elements."""
    return diag_embed(input.reshape(-1), offset)


@public()
def trace(input: Any) -> Any:
    """The sum of the diagonal of a matrix."""
    if input.ndim != 2:
        raise ShapeError(f"trace: expected a matrix, but got tensor with dim {input.ndim}")
    return diagonal(input).sum()


def _triangle(name: str, below: bool) -> Any:
    def operation(input: Any, diagonal: int = 0) -> Any:
        if input.ndim < 2:
            raise ShapeError(f"{name}: input tensor must have at least 2 dimensions")
        rows, columns = (positions(input.shape, input.ndim - 2 + k) for k in (0, 1))
        (shift,) = integers(name, diagonal, "diagonal")
        limit = ew.add(rows, scalar(shift, dtypes.int64))
        kept = ew.le(columns, limit) if below else ew.ge(columns, limit)
        return ew.where(kept, input, scalar(0, input.dtype))

    operation.__name__ = name
    operation.__doc__ = f"The {'lower' if below else 'upper'} triangle of matrices from `diagonal`; zeros elsewhere."
    return public(inplace=True)(operation)


tril, triu = _triangle("tril", True), _triangle("triu", False)


# -- regions replaced: copies -----------------------------------------------------------------------------------------
def _replaced(function: str, input: Any, src: Any, place: Any) -> Any:
    need_tensor(src, "src", function)
    result = ew.copy(input)
    region = place(result)
    if region.shape != src.shape:
        raise ShapeError(f"{function}: expected src to have a size equal to the slice, {show(region.shape)}")
    region.copy_(src)
    return result


@public()
def select_scatter(input: Any, src: Any, dim: int, index: int) -> Any:
    """A copy with slice `index` along `dim` replaced."""
    return _replaced("select_scatter", input, src, lambda t: select(t, dim, index))


@public()
def slice_scatter(input: Any, src: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    """A copy with a range of slices along `dim` replaced."""
    d = normal_dim(dim, input.ndim)
    return _replaced("slice_scatter", input, src, lambda t: t[(slice(None),) * d + (slice(start, end, step),)])


@public()
def diagonal_scatter(input: Any, src: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """A copy with a diagonal replaced."""
    a, b = normal_dim(dim1, input.ndim, "dim1"), normal_dim(dim2, input.ndim, "dim2")
    place = diagonal(input.detach(), offset, dim1, dim2)
    need_tensor(src, "src", "diagonal_scatter")
    if place.shape != src.shape:
        raise ShapeError(f"diagonal_scatter: expected src to have a size equal to the slice, {show(place.shape)}")
    rows, columns = positions(input.shape, a), positions(input.shape, b)
    hit = ew.eq(ew.sub(columns, rows), scalar(int(offset), dtypes.int64))
    row, _, length = _diagonal_places(input.shape[a], input.shape[b], int(offset))
    if not length:
        return ew.copy(input)
    # The element of row r is src[.., r - first row]: read by position along the rows, elsewhere anything.
    places = ew.sub(counting(input.shape[a]), scalar(row, dtypes.int64))
    places = ew.minimum(ew.maximum(places, scalar(0, dtypes.int64)), scalar(length - 1, dtypes.int64))
    wide = movedim(picked(src, src.ndim - 1, places).unsqueeze(-1), (-2, -1), (a, b))
    return ew.where(hit, cast(wide, input.dtype), input)


__all__ = [
    "diag",
    "diag_embed",
    "diagflat",
    "diagonal",
    "diagonal_scatter",
    "select_scatter",
    "slice_scatter",
    "trace",
    "tril",
    "triu",
]
