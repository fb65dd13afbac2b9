"""Other shapes and orders of the same elements: most are views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from juanji import dtypes
from juanji.errors import BoundsError, ShapeError
from juanji.ops import elementwise as ew
from juanji.ops import shape as shapes
from juanji.ops import table
from juanji.spec import broadcast, normal_dim, show
from juanji.tensors import patches
from juanji.tensors.arithmetic import cast, scalar
from juanji.tensors.base import as_array, need_tensor
from juanji.tensors.public import is_tensor, public
from juanji.tensors.tables import spread

#: Into no more pieces is a tensor split: their list would not fit into memory.
MAX_PIECES = 2**24


def integers(function: str, value: Any, argument: str) -> tuple[int, ...]:
    """One integer or a sequence of them as a tuple.

    Raises:
        TypeError: something else.
    """
    items = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if any(isinstance(v, bool) or not hasattr(v, "__index__") for v in items):
        raise TypeError(f"{function}: {argument}={value!r} must be an integer or a sequence of integers")
    return tuple(int(v) for v in items)


def _given(values: tuple[Any, ...]) -> Any:
    return values[0] if len(values) == 1 and isinstance(values[0], (tuple, list)) else values


def _distinct(function: str, dims: Any, rank: int) -> tuple[int, ...]:
    found = tuple(normal_dim(d, rank, "dims") for d in integers(function, dims, "dims"))
    if len(set(found)) != len(found):
        raise ShapeError(f"{function}: dims={dims!r} names a dimension twice")
    return found


# -- order of dimensions ----------------------------------------------------------------------------------------------
@public(aliases=("moveaxis",))
def movedim(input: Any, source: Any, destination: Any) -> Any:
    """The view with dimensions `source` at the places `destination`, the others in their order."""
    a, b = _distinct("movedim", source, input.ndim), _distinct("movedim", destination, input.ndim)
    if len(a) != len(b):
        raise ShapeError(f"movedim: source={source!r} and destination={destination!r} must have the same length")
    order: list[int] = [-1] * input.ndim
    for s, d in zip(a, b, strict=True):
        order[d] = s
    rest = iter(d for d in range(input.ndim) if d not in a)
    return input.permute(tuple(next(rest) if o < 0 else o for o in order))


@public(aliases=("swapdims",))
def swapaxes(input: Any, axis0: int, axis1: int) -> Any:
    """The view with two dimensions exchanged."""
    return input.transpose(axis0, axis1)


moveaxis, swapdims = movedim, swapaxes


@public()
def adjoint(input: Any) -> Any:
    """The last two dimensions exchanged."""
    return input.transpose(-2, -1)


@public()
def ravel(input: Any) -> Any:
    """All elements as a vector."""
    return input.reshape(-1)


# -- stretching and repeating -----------------------------------------------------------------------------------------
@public()
def broadcast_to(input: Any, size: Any) -> Any:
    """The view stretched to `size`."""
    return input.expand(size)


def _tiled(input: Any, repeats: tuple[int, ...]) -> Any:
    lead = len(repeats) - input.ndim
    shape = (1,) * lead + tuple(input.shape)
    pairs = tuple(e for pair in zip(repeats, shape, strict=True) for e in pair)
    spaced = input.reshape(tuple(e for s in shape for e in (1, s)))
    out = tuple(r * s for r, s in zip(repeats, shape, strict=True))
    return spaced.expand(pairs).reshape(out) if repeats else ew.copy(input)


def repeat(self: Any, *repeats: Any) -> Any:
    """The tensor laid side by side, `repeats` times along each dimension.

    Raises:
        ShapeError: fewer numbers than dimensions, or a negative one.
    """
    counts = integers("repeat", list(_given(repeats)), "repeats")
    if len(counts) < self.ndim:
        raise ShapeError(f"repeat: {counts} must have a number for each of the {self.ndim} dimensions")
    if any(c < 0 for c in counts):
        raise ShapeError(f"repeat: repeats={counts} must not be negative")
    result = _tiled(self, counts)
    return ew.copy(result) if all(c == 1 for c in counts) else result


public()(repeat)


@public()
def tile(input: Any, *args: Any, dims: Any = None) -> Any:
    """The tensor laid side by side; missing numbers in front are 1."""
    counts = integers("tile", list(_given(args) if dims is None else dims), "dims")
    if any(c < 0 for c in counts):
        raise ShapeError(f"tile: dims={counts} must not be negative")
    return _tiled(input, (1,) * (input.ndim - len(counts)) + counts)


@public()
def repeat_interleave(
    input: Any, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None
) -> Any:
    """Each element (or slice along `dim`) several times in a row.

    Args:
        repeats: a number, or an int64 vector with one number for each slice (then the result's size depends on values,
            and the call is eager only). Without it `input` itself holds the numbers, and the result is the positions.
    """
    if repeats is None:
        return repeat_interleave(ew.iota(shape=input.shape, dtype="i64"), input, 0)
    x, d = (input.reshape(-1), 0) if dim is None else (input, normal_dim(dim, input.ndim))
    if not x.shape:
        x = x.reshape(1)
    if is_tensor(repeats) and repeats.numel() != 1:
        if repeats.dtype not in (dtypes.int64, dtypes.int32) or repeats.ndim != 1:
            raise ShapeError("repeat_interleave: repeats must be a number or a vector of int64 or int32")
        if repeats.shape[0] != x.shape[d]:
            raise ShapeError(
                f"repeat_interleave: repeats must have the same size as input along dim, but they are "
                f"{repeats.shape[0]} and {x.shape[d]}"
            )
        import numpy as np

        counts = as_array(repeats)
        if (counts < 0).any():
            raise ShapeError("repeat_interleave: repeats can not be negative")
        from juanji.tensors.creation import tensor

        return x.index_select(d, tensor(np.repeat(np.arange(x.shape[d]), counts)))
    if is_tensor(repeats):
        if repeats.dtype.is_floating_point:
            raise ShapeError(f"repeat_interleave: repeats must be integers, not {repeats.dtype}")
        repeats = int(repeats)
    (count,) = integers("repeat_interleave", repeats, "repeats")
    if count < 0:
        raise ShapeError(f"repeat_interleave: repeats={count} must not be negative")
    wide = x.unsqueeze(d + 1).expand(*x.shape[: d + 1], count, *x.shape[d + 1 :])
    return wide.reshape(*x.shape[:d], x.shape[d] * count, *x.shape[d + 1 :])


# -- turning over -----------------------------------------------------------------------------------------------------
def picked(input: Any, d: int, index: Any) -> Any:
    """The slices along `d` that a vector of indices names, unchecked."""
    shape = (*input.shape[:d], index.shape[0], *input.shape[d + 1 :])
    return table.gather(input, spread(index, shape, d), dim=d)


def counting(count: int) -> Any:
    """0, 1, 2 ... (int64)."""
    return ew.iota(shape=(count,), dtype="i64")


@public()
def flip(input: Any, *args: Any, dims: Any = None) -> Any:
    """A copy with the order along `dims` reversed."""
    result = input
    for d in _distinct("flip", list(_given(args)) if dims is None else dims, input.ndim):
        if input.shape:
            last = scalar(input.shape[d] - 1, dtypes.int64)
            result = picked(result, d, ew.sub(last, counting(input.shape[d])))
    return ew.copy(result) if result is input else result


@public()
def fliplr(input: Any) -> Any:
    """A copy with columns in reversed order."""
    if input.ndim < 2:
        raise ShapeError(f"fliplr: input of shape {show(input.shape)} must have at least 2 dimensions")
    return flip(input, 1)


@public()
def flipud(input: Any) -> Any:
    """A copy with rows in reversed order."""
    if input.ndim < 1:
        raise ShapeError("flipud: input must have at least 1 dimension")
    return flip(input, 0)


@public()
def rot90(input: Any, k: int = 1, dims: Sequence[int] = (0, 1)) -> Any:
    """A copy turned by 90 degrees `k` times in the plane of `dims`, from the first towards the second."""
    plane = integers("rot90", list(dims), "dims")
    if len(plane) != 2:
        raise ShapeError(f"rot90: dims={dims!r} must be two dimensions")
    if input.ndim < 2:
        raise ShapeError(f"rot90: input of shape {show(input.shape)} must have at least 2 dimensions")
    a, b = (normal_dim(d, input.ndim, "dims") for d in plane)
    if a == b:
        raise ShapeError(f"rot90: dims={dims!r} must be different")
    turns = k % 4
    if turns == 0:
        return ew.copy(input)
    if turns == 2:
        return flip(input, a, b)
    return flip(input, b).transpose(a, b) if turns == 1 else flip(input, a).transpose(a, b)


@public()
def roll(input: Any, shifts: Any, dims: Any = None) -> Any:
    """A copy moved along `dims` by `shifts`, what leaves at the end coming in at the front; flat without `dims`."""
    moves = integers("roll", shifts, "shifts")
    axes = () if dims is None else integers("roll", dims, "dims")
    if not axes:
        if len(moves) != 1:
            raise ShapeError(f"roll: shifts={shifts!r} needs dims")
        return roll(input.reshape(-1), moves[0], 0).reshape(input.shape)
    if len(moves) != len(axes):
        raise ShapeError(f"roll: shifts={shifts!r} and dims={dims!r} must have the same length")
    result = input
    for move, axis in zip(moves, axes, strict=True):
        d = normal_dim(axis, input.ndim)
        if not input.shape:
            raise BoundsError(f"roll: dims={dims!r} but the tensor has no dimensions")
        extent = input.shape[d]
        shift = move % extent if extent else 0
        if shift:
            parts = [result.narrow(d, extent - shift, shift), result.narrow(d, 0, extent - shift)]
            result = shapes.concatenate(parts, d)
    return ew.copy(result) if result is input else result


# -- parts ------------------------------------------------------------------------------------------------------------
@public()
def narrow(input: Any, dim: int, start: Any, length: int) -> Any:
    """The view of `length` slices along `dim` from `start` on."""
    if not input.shape:
        raise ShapeError("narrow() cannot be applied to a 0-dim tensor.")
    d = normal_dim(dim, input.ndim)
    if is_tensor(start) and (start.shape or start.dtype.is_floating_point or start.dtype is dtypes.bool_):
        raise ShapeError("narrow: start must be an integer or an integer tensor of no dimensions")
    extent, first, count = input.shape[d], int(start), int(length)
    if count < 0:
        raise ShapeError(f"narrow: length={count} must not be negative")
    if not -extent <= first <= extent:
        raise BoundsError(f"narrow: start={first} is out of range for dimension {d} with size {extent}")
    first += extent if first < 0 else 0
    if first + count > extent:
        raise ShapeError(f"narrow: start={first} and length={count} exceed dimension {d} with size {extent}")
    bounds = tuple((first, first + count, 1) if k == d else (0, e, 1) for k, e in enumerate(input.shape))
    return shapes.slice_(input, bounds=bounds)


@public()
def select(input: Any, dim: int, index: int) -> Any:
    """The view of slice `index` along `dim`, without that dimension."""
    if not input.shape:
        raise BoundsError("select() cannot be applied to a 0-dim tensor.")
    d = normal_dim(dim, input.ndim)
    i = int(index)
    if not -input.shape[d] <= i < input.shape[d]:
        raise BoundsError(f"select: index {i} is out of range for dimension {d} with size {input.shape[d]}")
    piece = narrow(input, d, i, 1) if i >= 0 else narrow(input, d, i + input.shape[d], 1)
    return piece.reshape((*input.shape[:d], *input.shape[d + 1 :]))


def _pieces(input: Any, sizes: Sequence[int], d: int) -> Any:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(narrow(input, d, a, n) for a, n in zip(starts, sizes, strict=True))


@public()
def split(tensor: Any, split_size_or_sections: Any, dim: int = 0) -> Any:
    """Views of pieces along `dim`: of one size (the last may be smaller), or of the sizes in a list."""
    d = normal_dim(dim, tensor.ndim)
    if not tensor.shape:
        raise ShapeError("split expects at least a 1-dimensional tensor")
    extent = tensor.shape[d]
    if isinstance(split_size_or_sections, (tuple, list)):
        sizes = integers("split", split_size_or_sections, "split_size_or_sections")
        if sum(sizes) != extent or any(s < 0 for s in sizes):
            raise ShapeError(f"split_with_sizes expects split_sizes to sum exactly to {extent}, but got {list(sizes)}")
        return _pieces(tensor, sizes, d)
    (size,) = integers("split", split_size_or_sections, "split_size")
    if size < 0 or (size == 0 and extent):
        raise ShapeError(f"split: split_size={size} must be positive")
    if not extent:
        return (narrow(tensor, d, 0, 0),)
    return _pieces(tensor, [min(size, extent - a) for a in range(0, extent, size)], d)


@public()
def split_with_sizes(input: Any, split_sizes: Any, dim: int = 0) -> Any:
    """Views of pieces of given sizes along `dim`."""
    return split(input, list(integers("split_with_sizes", split_sizes, "split_sizes")), dim)


def _countable(function: str, name: str, count: int) -> None:
    if count > MAX_PIECES:
        raise ShapeError(f"{function}: {name}={count} is more than {MAX_PIECES} pieces")


@public()
def chunk(input: Any, chunks: int, dim: int = 0) -> Any:
    """At most `chunks` views along `dim`, of one size but for the last."""
    if not input.shape:
        raise ShapeError("chunk expects at least a 1-dimensional tensor")
    (chunks,) = integers("chunk", chunks, "chunks")
    if chunks < 1:
        raise ShapeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    _countable("chunk", "chunks", chunks)
    extent = input.shape[normal_dim(dim, input.ndim)]
    if not extent:
        return tuple(narrow(input, dim, 0, 0) for _ in range(int(chunks)))
    return split(input, -(-extent // int(chunks)), dim)


@public()
def tensor_split(input: Any, indices_or_sections: Any = None, dim: int = 0, **names: Any) -> Any:
    """Views along `dim`: so many of sizes that differ by at most one, or cut before each of the given indices."""
    given = names.pop("indices", names.pop("sections", indices_or_sections))
    if not input.shape:
        raise ShapeError("tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")
    d = normal_dim(dim, input.ndim)
    extent = input.shape[d]
    if is_tensor(given):
        if given.dtype is not dtypes.int64 or given.ndim > 1:
            raise ShapeError(
                "tensor_split expected tensor_indices_or_sections to be an int64 tensor of 0 or 1 dimensions"
            )
        given = as_array(given).tolist()
    if isinstance(given, (tuple, list)):
        cuts = [slice(None, i).indices(extent)[1] for i in integers("tensor_split", given, "indices")]
        ends = [*cuts, extent]
        starts = [0, *cuts]
        return tuple(narrow(input, d, min(a, extent), max(0, b - a)) for a, b in zip(starts, ends, strict=True))
    (sections,) = integers("tensor_split", given, "sections")
    if sections < 1:
        raise ShapeError(f"number of sections must be larger than 0, got {sections}")
    _countable("tensor_split", "sections", sections)
    small, more = divmod(extent, sections)
    return _pieces(input, [small + (i < more) for i in range(sections)], d)


def _cut(name: str, dim: int, least: int) -> Any:
    def operation(input: Any, indices_or_sections: Any = None, **names: Any) -> Any:
        given = names.pop("indices", names.pop("sections", indices_or_sections))
        if input.ndim < least:
            raise ShapeError(f"{name} requires a tensor with at least {least} dimension, but got {input.ndim}")
        d = 0 if name == "hsplit" and input.ndim == 1 else dim
        if isinstance(given, int) and (given < 1 or input.shape[d] % given):
            raise ShapeError(
                f"{name}: the size {input.shape[d]} of dimension {d} is not divisible by indices_or_sections={given}"
            )
        return tensor_split(input, given, d)

    operation.__name__, operation.__doc__ = name, f"`tensor_split` along dimension {dim}."
    return public()(operation)


hsplit, vsplit, dsplit = _cut("hsplit", 1, 1), _cut("vsplit", 0, 2), _cut("dsplit", 2, 3)


@public()
def unbind(input: Any, dim: int = 0) -> Any:
    """Views of all slices along `dim`."""
    if not input.shape:
        raise BoundsError("unbind: dimension specified as 0 but tensor has no dimensions")
    d = normal_dim(dim, input.ndim)
    return tuple(select(input, d, i) for i in range(input.shape[d]))


@public()
def unfold(input: Any, dimension: int, size: int, step: int) -> Any:
    """All slices of `size` along `dimension`, `step` apart, in a new last dimension.

    Unlike PyTorch's it is a copy, no view: writing into it leaves the input as it is.

    Raises:
        IndexError: no such dimension. ShapeError: a slice longer than the dimension.

    >>> import juanji as jj
    >>> jj.arange(5).unfold(0, 3, 2)
    tensor([[0, 1, 2],
            [2, 3, 4]])
    """
    return patches.unfold_dimension(input, dimension, size, step)


@public()
def sum_to_size(input: Any, *size: Any) -> Any:
    """The sum over what broadcasting to `input` would have stretched, down to `size`."""
    wanted = integers("sum_to_size", list(_given(size)), "size")
    if broadcast(wanted, input.shape) != input.shape:
        raise ShapeError(f"size {show(wanted)} is not expandable to size {show(input.shape)}.")
    summed = input if input.dtype.is_floating_point else cast(input, dtypes.int64)
    return shapes.unbroadcast(summed, wanted)


@public()
def constant_pad_nd(input: Any, pad: Sequence[int], value: float = 0) -> Any:
    """A border of `value` around the last dimensions: pairs (before, after) from the last one on; negative ones cut."""
    widths = integers("constant_pad_nd", list(pad), "pad")
    if len(widths) % 2 or len(widths) > 2 * input.ndim:
        raise ShapeError(f"constant_pad_nd: pad={list(pad)} must have an even length of at most {2 * input.ndim}")
    x = input
    shape = list(input.shape)
    bounds = [(0, e, 1) for e in shape]
    for k in range(len(widths) // 2):
        d = input.ndim - 1 - k
        before, after = widths[2 * k], widths[2 * k + 1]
        if shape[d] + before + after < 0:
            raise ShapeError(f"constant_pad_nd: pad={list(pad)} leaves dimension {d} of size {shape[d]} negative")
        x = narrow(x, d, max(0, -before), max(0, shape[d] - max(0, -before) - max(0, -after)))
        bounds[d] = (max(0, before), max(0, before) + x.shape[d], 1)
        shape[d] += before + after
    base = input.detach().new_full(tuple(shape), value)
    return shapes.view_write(base, x, chain=(("slice", (("bounds", tuple(bounds)),)),))


def _copying(name: str) -> Any:
    def operation(input: Any, *args: Any, **kwargs: Any) -> Any:
        need_tensor(input, "input", name + "_copy")
        result = getattr(input, name)(*args, **kwargs)
        return tuple(ew.copy(r) for r in result) if isinstance(result, tuple) else ew.copy(result)

    operation.__name__, operation.__doc__ = name + "_copy", f"`{name}` as a copy."
    return operation


diagonal_copy, expand_copy, narrow_copy, permute_copy = map(_copying, ("diagonal", "expand", "narrow", "permute"))
squeeze_copy, unsqueeze_copy, transpose_copy, t_copy = map(_copying, ("squeeze", "unsqueeze", "transpose", "t"))
unbind_copy, unfold_copy, view_copy = map(_copying, ("unbind", "unfold", "view"))
split_with_sizes_copy = _copying("split_with_sizes")
unsafe_split, unsafe_chunk = split, chunk


__all__ = [
    "adjoint",
    "broadcast_to",
    "chunk",
    "constant_pad_nd",
    "diagonal_copy",
    "dsplit",
    "expand_copy",
    "flip",
    "fliplr",
    "flipud",
    "hsplit",
    "moveaxis",
    "movedim",
    "narrow",
    "narrow_copy",
    "permute_copy",
    "ravel",
    "repeat_interleave",
    "roll",
    "rot90",
    "select",
    "split",
    "split_with_sizes",
    "split_with_sizes_copy",
    "squeeze_copy",
    "sum_to_size",
    "swapaxes",
    "swapdims",
    "t_copy",
    "tensor_split",
    "tile",
    "transpose_copy",
    "unbind",
    "unbind_copy",
    "unfold_copy",
    "unsafe_chunk",
    "unsafe_split",
    "unsqueeze_copy",
    "view_copy",
    "vsplit",
]
