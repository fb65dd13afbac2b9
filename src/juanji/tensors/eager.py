"""Eager execution: each operation is a plan of one op, kept by its key (`JUANJI_REFERENCE=1`: the reference)."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from juanji import target
from juanji.compiler.plan import Plan, build
from juanji.dtypes import BY_SHORT, DType, encode
from juanji.graph import Graph
from juanji.ops.core import Attrs, Op
from juanji.ops.reference import reference
from juanji.runtime import memory
from juanji.runtime.memory import check_size
from juanji.spec import Shape, Spec, contiguous_strides
from juanji.tensors.base import Storage, as_array, fresh, no_value, raw_array, set_executor, wrap
from juanji.tensors.indexing import HOST

#: Plans of one op are small, some 10 KB; when this many are kept, the oldest half is dropped.
MAX_PLANS = 2048


class Prepared:
    """A plan of one op, or the knowledge that it runs on the host, with the layout of its result."""

    __slots__ = ("dtype", "layout", "nbytes", "plan")

    def __init__(self, spec: Spec, plan: Plan | None) -> None:
        self.layout = (spec, contiguous_strides(spec.shape))
        self.dtype: DType = BY_SHORT[spec.dtype]
        self.nbytes = spec.size * self.dtype.itemsize
        self.plan = plan


_plans: dict[Any, Prepared] = {}


def new_storage(shape: Shape, dtype: DType, nbytes: int, zero: bool = False) -> Storage:
    """A storage over memory from the allocator, whose contents are zeros or arbitrary."""
    if nbytes >= memory.LARGE_BYTES:
        check_size(shape, dtype.name)
    buffer, address = memory.acquire_zeros(nbytes) if zero else memory.acquire(nbytes)
    return Storage(buffer, shape, dtype, None, address)


def _prepare(op: Op, attrs: Attrs, inputs: Sequence[Any], out: Any) -> Prepared:
    given = dict(attrs)
    spec = op.shape([t.spec for t in inputs], given)
    check_size(spec.shape, spec.dtype)
    if op.kind == "host" or REFERENCE:
        return Prepared(spec, None)
    graph = Graph()
    nodes = tuple(graph.input(t.spec, t.strides) for t in inputs)
    node = graph.node(op, nodes, attrs, spec)
    if out is None:
        return Prepared(spec, build(graph, [node], [], keep_arena=False, optimise=False))
    graph.input(out.spec, out.strides)
    return Prepared(spec, build(graph, [], [(len(inputs), node)], keep_arena=False, optimise=False))


def execute(op: Op, attrs: Attrs, inputs: Sequence[Any], out: Any) -> Any:
    """Runs one operation on memory; into `out` where it is given.

    Raises:
        RuntimeError: an input is of a capture and has no memory.
    """
    layouts, pointers = [], []
    for t in inputs:
        storage = t._var.storage
        pointer = storage.ptr
        if not pointer and storage.array is None:
            raise no_value()
        if t.offset:
            pointer += t.offset * t.dtype.itemsize
        pointers.append(pointer)
        layouts.append(t._layout or t.layout)
    key = (op, attrs, tuple(layouts), None if out is None else out.strides, target.current().name)
    prepared = _plans.get(key)
    if prepared is None:
        prepared = _prepare(op, attrs, inputs, out)
        if len(_plans) >= MAX_PLANS:
            for old in list(_plans)[: MAX_PLANS // 2]:
                del _plans[old]
        _plans[key] = prepared
    plan = prepared.plan
    if plan is None:
        return _on_host(op, dict(attrs), inputs, out, prepared)
    if out is not None:
        storage = out._var.storage
        if storage.array is None:
            raise no_value()
        pointers.append(storage.ptr + out.offset * out.dtype.itemsize)
        plan.run(pointers, [])
        return out
    storage = new_storage(prepared.layout[0].shape, prepared.dtype, prepared.nbytes)
    plan.run(pointers, [storage.ptr])
    return fresh(storage, prepared.layout)


def _on_host(op: Op, given: dict[str, Any], inputs: Sequence[Any], out: Any, prepared: Prepared) -> Any:
    check_size(prepared.layout[0].shape, prepared.dtype.name)
    arrays = [as_array(t) if op.kind == "host" else raw_array(t) for t in inputs]
    value = HOST[op.name](*arrays, **given) if op.kind == "host" else reference(op.name, arrays, given)
    if out is not None:
        raw_array(out)[...] = encode(value, prepared.dtype) if op.kind == "host" else value
        return out
    stored = encode(value, prepared.dtype) if op.kind == "host" else value
    flat = np.array(stored, prepared.dtype.numpy).reshape(math.prod(prepared.layout[0].shape))
    return wrap(Storage(flat, prepared.layout[0].shape, prepared.dtype))


set_executor(execute)
REFERENCE = os.environ.get("JUANJI_REFERENCE", "0") == "1"
