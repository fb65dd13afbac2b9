"""Views and the operations that move data without arithmetic.

A view shares its base's memory. `view_write` is what an assignment through a view means for the base: the base with
one region replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from juanji.errors import ShapeError
from juanji.ops.core import Context, Op, register
from juanji.spec import Shape, Spec, show

#: A view as a chain of steps (operation name, attributes), applied to a base in turn.
Chain = tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]


def _reshape_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    result = Spec(attrs["shape"], specs[0].dtype)
    if result.size != specs[0].size:
        raise ShapeError(f"shape {show(result.shape)} is invalid for input of shape {show(specs[0].shape)}")
    return result


def _permute_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    return Spec(tuple(specs[0].shape[d] for d in attrs["dims"]), specs[0].dtype)


def _slice_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    """`bounds` is (start, stop, step) for each dimension, normalised."""
    sizes = tuple(max(0, -(-(stop - start) // step)) for start, stop, step in attrs["bounds"])
    return Spec(sizes, specs[0].dtype)


def _expand_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    return Spec(attrs["shape"], specs[0].dtype)


def unbroadcast(value: Any, shape: Shape) -> Any:
    """Sums `value` over what broadcasting stretched, down to `shape`."""
    from juanji.ops.reduce import sum_  # the two families need each other

    have: Shape = tuple(value.shape)
    if have == shape:
        return value
    lead = len(have) - len(shape)
    dims = tuple(range(lead)) + tuple(i for i in range(lead, len(have)) if shape[i - lead] == 1 and have[i] != 1)
    if dims:
        value = sum_(value, dims=dims)
    return reshape(value, shape=shape) if lead else value


reshape: Op = register(
    Op("reshape", _reshape_shape, "view", (lambda c: reshape(c.g, shape=c.shape(0)),), ("",), linear=(0,))
)


def _permute_grad(c: Context) -> Any:
    dims = c.attrs["dims"]
    return permute(c.g, dims=tuple(dims.index(i) for i in range(len(dims))))


permute: Op = register(Op("permute", _permute_shape, "view", (_permute_grad,), ("",), linear=(0,)))


def _slice_grad(c: Context) -> Any:
    zeros = c.g.new_zeros(c.shape(0))
    return view_write(zeros, c.g, chain=(("slice", (("bounds", c.attrs["bounds"]),)),))


slice_: Op = register(Op("slice", _slice_shape, "view", (_slice_grad,), ("",), linear=(0,)))
expand: Op = register(
    Op("expand", _expand_shape, "view", (lambda c: unbroadcast(c.g, c.shape(0)),), ("",), linear=(0,))
)
VIEWS = {op.name: op for op in (reshape, permute, slice_, expand)}


def chain_spec(spec: Spec, chain: Chain) -> Spec:
    """What a chain of view steps makes of `spec`."""
    for name, attrs in chain:
        spec = VIEWS[name].shape((spec,), dict(attrs))
    return spec


def apply_chain(value: Any, chain: Chain) -> Any:
    """The view of `value` that a chain describes."""
    for name, attrs in chain:
        value = VIEWS[name](value, **dict(attrs))
    return value


def _write_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    region = chain_spec(specs[0], attrs["chain"])
    if region != specs[1]:
        raise ShapeError(f"cannot write {show(specs[1].shape)} into a region of {show(region.shape)}")
    return specs[0]


def _write_base_grad(c: Context) -> Any:
    return view_write(c.g, c.g.new_zeros(c.shape(1)), chain=c.attrs["chain"])


#: (base, value) -> base with the region that `chain` shows replaced by value.
view_write: Op = register(
    Op(
        "view_write",
        _write_shape,
        "write",
        (_write_base_grad, lambda c: apply_chain(c.g, c.attrs["chain"])),
        ("", ""),
        linear=(),
    )
)


def _cat_shape(specs: Sequence[Spec], attrs: dict[str, Any]) -> Spec:
    dim = attrs["dim"]
    first = specs[0].shape
    for i, spec in enumerate(specs):
        if len(spec.shape) != len(first) or any(
            a != b for d, (a, b) in enumerate(zip(spec.shape, first, strict=True)) if d != dim
        ):
            raise ShapeError(
                f"cat: tensor {i} of shape {show(spec.shape)} must match {show(first)} except in dimension {dim}"
            )
    return Spec((*first[:dim], sum(s.shape[dim] for s in specs), *first[dim + 1 :]), specs[0].dtype)


def concatenate(values: Sequence[Any], dim: int) -> Any:
    """Joins values of one element type along `dim` by writing each into its region of a new one."""
    specs = [Spec(tuple(v.shape), v.dtype.short) for v in values]
    total = _cat_shape(specs, {"dim": dim}).shape
    result = values[0].new_zeros(total)
    at = 0
    for value in values:
        extent = value.shape[dim]
        bounds = tuple((at, at + extent, 1) if d == dim else (0, e, 1) for d, e in enumerate(total))
        result = view_write(result, value, chain=(("slice", (("bounds", bounds),)),))
        at += extent
    return result
