"""From groups to kernel calls: where each value lies, loops for elementwise work, reductions and rows, and writes."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from juanji.codegen.interleave import InterleaveSpec
from juanji.codegen.loops import LoopSpec
from juanji.codegen.pack import PackSpec
from juanji.codegen.transpose import TransposeSpec
from juanji.compiler.access import (
    STREAMED_BYTES,
    Access,
    Buffer,
    collapse,
    dense,
    memory_order,
    order_for_reshape,
    strides_in_order,
)
from juanji.compiler.fuse import Fused, Group, is_constant, uses_index
from juanji.compiler.program import Program, Ref, ref
from juanji.compiler.work import flops
from juanji.dtypes import BY_SHORT, encode
from juanji.graph import Node, reachable
from juanji.spec import Shape, contiguous_strides
from juanji.target import Target

if TYPE_CHECKING:
    from juanji.compiler.lower_write import Join

#: Bytes of a line of memory.
LINE_BYTES = 64
#: Elements of one chunk of a loop: about 10 microseconds of work.
CHUNK_ELEMENTS = 16384

#: Elements of a value for which it is worth looking whether it can take the place of an operand.
LARGE = 4096

Expr = Any


class Places(dict[Node, Access]):
    """Where each value lies, and the other way round.

    Attributes:
        shown: which nodes lie in a buffer, or once did: what is asked before something in it is overwritten.
    """

    def __init__(self, slots: dict[Node, Access]) -> None:
        super().__init__()
        self.shown: dict[Buffer, list[Node]] = {}
        for node, access in slots.items():
            self[node] = access

    def __setitem__(self, node: Node, access: Access) -> None:
        super().__setitem__(node, access)
        self.shown.setdefault(access.buffer, []).append(node)

    def lying_in(self, buffer: Buffer) -> list[Node]:
        """The nodes that lie in a buffer now."""
        return [node for node in self.shown.get(buffer, ()) if self[node].buffer is buffer]


class Lowering:
    """Lowers the groups of one graph in order.

    Args:
        fused: the groups.
        slots: where the inputs lie.
        targets: for nodes that end in memory of the caller's (outputs and donated inputs), where.
        donated: buffers of inputs that the plan overwrites, and which nodes may be computed in place there.
        steady: inputs that hardly ever change.
    """

    def __init__(
        self,
        fused: Fused,
        target: Target,
        slots: dict[Node, Access],
        targets: dict[Node, Access],
        last_use: dict[Node, int],
        steady: Collection[int] = (),
    ) -> None:
        self.program = Program(target)
        self.fused, self.target, self.targets = fused, target, targets
        self.where = Places(slots)
        self.last_use, self.steady = last_use, frozenset(steady)
        self.position = 0
        self._contiguous: dict[tuple[Node, str], Access] = {}
        self.joins: dict[Node, Join] = {}
        self.parts: dict[Node, Node] = {}
        self._algorithm, self._refused = "", list[tuple[str, str]]()

    def run(self) -> Program:
        """Lowers everything; final values end in their targets."""
        from juanji.compiler import lower_write

        self._look_through_reshapes()
        self.joins = lower_write.joins(self)
        self.parts = lower_write.parts(self.joins)
        for position, group in enumerate(self.fused.groups):
            self.position = position
            self.lower(group)
        for node, access in self.targets.items():
            self._finish(node, access)
        return self.program

    def _look_through_reshapes(self) -> None:
        """Where a result is another value reshaped, that value is computed into the result's memory."""
        for node, access in list(self.targets.items()):
            base = node
            while base.op is not None and base.op.name == "reshape":
                base = base.inputs[0]
            if base is node or base.op is None or base.op.kind == "view" or is_constant(base) or base in self.targets:
                continue
            if access.buffer.kind == "output":
                self.targets[base] = replace(access, shape=base.shape, strides=contiguous_strides(base.shape))

    def lower(self, group: Group) -> None:
        """Lowers one group."""
        from juanji.compiler import (
            lower_conv,
            lower_patches,
            lower_reduce,
            lower_rows,
            lower_sample,
            lower_scan,
            lower_scatter,
            lower_table,
            lower_window,
            lower_write,
        )

        handlers: dict[str, Callable[[Lowering, Group], None]] = {
            "map": lower_map,
            "reduce": lower_reduce.lower,
            "moments": lower_reduce.moments,
            "rows": lower_rows.lower,
            "contract": lower_conv.lower,
            "patches": lower_patches.lower,
            "sample": lower_sample.lower,
            "window": lower_window.lower,
            "write": lower_write.lower,
            "table": lower_table.lower,
            "scan": lower_scan.lower,
            "scatter": lower_scatter.lower,
        }
        if group.kind not in handlers:
            raise AssertionError(f"no lowering for {group.kind}")
        begin = len(self.program.calls)
        self._algorithm, self._refused = "", []
        handlers[group.kind](self, group)
        work = flops(group.anchor) if group.anchor is not None else 0
        if work:
            # The contraction itself is what is neither a loop nor a copy; its parts share the work.
            new = self.program.calls[begin:]
            main = [
                c for c in new if not isinstance(c.spec, (LoopSpec, TransposeSpec, InterleaveSpec, PackSpec))
            ] or new[-1:]
            for call in main:
                call.flops = work // len(main)
                call.algorithm, call.refused = self._algorithm or "contraction", tuple(self._refused)

    def takes(self, algorithm: str, refusal: str) -> bool:
        """Whether a contraction is computed in a special way: where no reason speaks against it.

        Both are kept with its calls, so that `juanji bench` can say why a problem is computed as it is.
        """
        if refusal:
            self._refused.append((algorithm, refusal))
        else:
            self._algorithm = algorithm
        return not refusal

    def is_kept(self, node: Node) -> bool:
        """Whether a value hangs on nothing but inputs that hardly ever change: what is made of it is made once."""
        return bool(self.steady) and all(n.op is not None or n.slot in self.steady for n in reachable([node]))

    # -- where values are ---------------------------------------------------------------------------------------
    def access(self, node: Node) -> Access:
        """Where `node`'s value lies: computed already, or a view of something that is, or a constant made now."""
        found = self.where.get(node)
        if found is not None:
            return found
        op = node.op
        assert op is not None
        if op.kind == "view":
            base = self.access(node.inputs[0])
            shown = base.view(op.name, dict(node.attrs), node.shape)
            if shown is None:
                order = order_for_reshape(base.shape, base.strides, node.shape)
                name = "C order" if order == tuple(range(len(order))) else f"order {order}"
                shown = self.reordered(node.inputs[0], base, order, name).view(op.name, dict(node.attrs), node.shape)
            assert shown is not None
            result = shown
        elif is_constant(node):
            array = encode(np.asarray(node.attr("value")), BY_SHORT[node.dtype])
            result = self.program.constant(array, node.dtype).broadcast(node.shape)
        else:
            raise AssertionError(f"{node} is read before it is computed")
        self.where[node] = result
        return result

    def in_c_order(self, node: Node) -> Access:
        """`node`'s value with its elements in C order: itself, or a copy made once."""
        access = self.access(node)
        return self.reordered(node, access, tuple(range(len(access.shape))), "C order")

    def reordered(self, node: Node, access: Access, order: Sequence[int], name: str) -> Access:
        """The value densely in memory order `order`: itself, or a copy made once."""
        wanted = strides_in_order(access.shape, order)
        same = all(e == 1 or a == b for e, a, b in zip(access.shape, access.strides, wanted, strict=True))
        if same or math.prod(access.shape) == 0:
            return access
        key = (node, name)
        if key not in self._contiguous:
            result = self.program.buffer(access.shape, access.dtype, order)
            self.copy(access, result, f"reorder to {name}")
            self._contiguous[key] = result
        return self._contiguous[key]

    def result(self, node: Node, order: Sequence[int] | None = None) -> Access:
        """Where a group shall write `node`: the caller's memory where that is allowed now, else a new buffer."""
        wanted = self.targets.get(node)
        if wanted is not None and node not in self.where and self._free_to_write(wanted, node):
            self.where[node] = wanted
            return wanted
        if node in self.parts and order is not None and node not in self.targets:
            from juanji.compiler.lower_write import place

            part = place(self, node, order)
            if part is not None:
                self.where[node] = part
                return part
        access = self.program.buffer(node.shape, node.dtype, order)
        self.where[node] = access
        return access

    def _free_to_write(self, target: Access, node: Node) -> bool:
        if target.buffer.kind != "slot":
            return True
        # Donated memory: every read of the old value comes before, or is this group's own at the same positions.
        for slot in self.where.lying_in(target.buffer):
            if slot.op is None:
                last = self.last_use.get(slot, -1)
                if last > self.position:
                    return False
                if last == self.position:
                    return self._reads_in_place(slot)
        return True

    def _reads_in_place(self, slot: Node) -> bool:
        group = self.fused.groups[self.position]
        if group.kind != "map":
            return False
        for node in group.nodes:
            for child in (c for given in node.inputs for c in self.fused.read(given)):
                if child is slot and child.shape != node.shape:
                    return False
                if child is not slot and _views(child, slot):
                    return False
        return True

    def in_place(self, node: Node, order: Sequence[int], operands: Sequence[Access]) -> Access | None:
        """The memory of an operand that is read for the last time, at the very position where `node` is written."""
        if node in self.targets or node in self.parts or node.spec.size < LARGE:
            return None
        wanted = strides_in_order(node.shape, order)
        for access in operands:
            buffer = access.buffer
            if buffer.kind != "arena" or access.dtype != node.dtype or not access.covers_buffer():
                continue
            if access.shape != node.shape or access.strides != wanted:
                continue
            if any(other != access for other in operands if other.buffer is buffer):
                continue
            if all(self.last_use.get(n, -1) <= self.position for n in self.where.lying_in(buffer)):
                self.where[node] = access
                return access
        return None

    def overwritable(self, node: Node, base: Node) -> Access | None:
        """The memory of `base`, where `node` may change it in place because nobody needs the old value any more."""
        old, target = self.access(base), self.targets.get(node)
        if self.last_use.get(_root(base), -1) > self.position:
            return None
        if target is not None and old == target:
            return target
        if old.buffer.kind != "arena" or not old.covers_buffer():
            return None
        # Parts of it may have been made in its memory, and be needed by themselves.
        alive = any(self.last_use.get(n, -1) > self.position for n in self.where.lying_in(old.buffer))
        return None if alive else old

    def _finish(self, node: Node, target: Access) -> None:
        source = self.access(node)
        if (source.buffer, source.offset, source.strides) != (target.buffer, target.offset, target.strides):
            self.copy(source, target, "copy out")

    def copy(self, source: Access, target: Access, label: str) -> None:
        """Copies elements from one access to another of the same shape."""
        from juanji.compiler.lower_copy import copy

        copy(self.program, source, target, label)


def _views(node: Node, slot: Node) -> bool:
    while node.op is not None and node.op.kind == "view":
        node = node.inputs[0]
    return node is slot


class Operands:
    """The values a group's expressions read, numbered as they are met."""

    def __init__(self, lowering: Lowering, group: Group, shape: Shape, acc: Node | None = None) -> None:
        self.lowering, self.inside, self.shape, self.acc = lowering, set(group.nodes), shape, acc
        self.accesses: list[Access] = []
        self._number: dict[Node, int] = {}
        self._expr: dict[Node, Expr] = {}

    def expr(self, node: Node) -> Expr:
        """The expression of `node` over ("load", ..) of what lies outside the group."""
        if node not in self._expr:
            self._expr[node] = self._build(node)
        return self._expr[node]

    def _build(self, node: Node) -> Expr:
        op = node.op
        if node is self.acc:
            return ("acc", node.dtype)
        if is_constant(node):
            return ("const", node.dtype, node.attr("value"))
        if op is not None and op.expr is not None and (node in self.inside or node in self.lowering.fused.inlined):
            return op.expr([self.expr(child) for child in node.inputs], dict(node.attrs), node.dtype)
        return self.load(node)

    def load(self, node: Node) -> Expr:
        """A read of a value that lies in memory; constants behind views stay constants."""
        base = node
        while base.op is not None and base.op.kind == "view":
            base = base.inputs[0]
        if is_constant(base):
            return ("const", base.dtype, base.attr("value"))
        if node not in self._number:
            self._number[node] = len(self.accesses)
            self.accesses.append(self.lowering.access(node).broadcast(self.shape))
        return ("load", node.dtype, self._number[node])


def stride_class(stride: int) -> str:
    """How an operand moves along the innermost loop axis."""
    return {0: "zero", 1: "unit"}.get(stride, "any")


def chunked(extents: Shape) -> tuple[int, int]:
    """(positions of axis 0 in one chunk, number of chunks) for loops over `extents`: by shape alone."""
    inner = math.prod(extents[1:]) or 1
    grain = max(1, CHUNK_ELEMENTS // inner)
    if len(extents) == 1:
        grain = CHUNK_ELEMENTS
    return grain, -(-extents[0] // grain) if extents[0] else 0


def loop_call(
    program: Program,
    extents: Shape,
    inputs: Sequence[tuple[Access, Shape]],
    outputs: Sequence[tuple[Access, Shape]],
    stages: tuple[Any, ...],
    label: str,
    reduced: int = 0,
    column: bool = False,
    grain: tuple[int, int] | None = None,
) -> None:
    """Appends a loop kernel over collapsed axes; each operand comes with its strides along them."""
    streams = () if reduced else tuple(i for i, output in enumerate(outputs) if _streamed(*output, inputs))
    spec = LoopSpec(
        len(extents),
        tuple((a.dtype, stride_class(s[-1])) for a, s in inputs),
        tuple((a.dtype, stride_class(s[-1])) for a, s in outputs),
        stages,
        reduced,
        column,
        streams,
    )
    step, chunks = grain or chunked(extents)
    args: list[int | Ref] = [ref(a) for a, _ in (*inputs, *outputs)]
    args += [step, *extents]
    for access, strides in (*inputs, *outputs):
        args += [s * access.item for s in strides]
    program.call(spec, args, chunks, label, [a for a, _ in outputs])


def _streamed(output: Access, strides: Shape, inputs: Sequence[tuple[Access, Shape]]) -> bool:
    """Whether a loop writes a result past the caches: a large one, in memory that it has not just read."""
    if output.nbytes <= STREAMED_BYTES or output.dtype != "f32" or any(a.buffer is output.buffer for a, _ in inputs):
        return False
    return strides[-1] == 1 and all(s * output.item % LINE_BYTES == 0 for s in strides[:-1])


def preferred_order(shape: Shape, accesses: Sequence[Access]) -> tuple[int, ...]:
    """The memory order of the first operand that fills `shape`, be it part of a larger value; C order without one."""
    full = [access.strides for access in accesses if access.shape == shape and math.prod(shape) > 1]
    for strides in (*(s for s in full if dense(shape, s)), *(s for s in full if min(s) > 0)):
        return memory_order(shape, strides)
    return tuple(range(len(shape)))


def names(nodes: Sequence[Node]) -> str:
    """What a kernel does, for people."""
    return "+".join(n.op.name for n in nodes if n.op is not None)


def lower_map(lowering: Lowering, group: Group) -> None:
    """One loop for all elementwise nodes of a group; those used outside it are stored."""
    shape = group.result.shape
    operands = Operands(lowering, group, shape)
    inside = set(group.nodes)
    stored = [
        n for n in group.nodes if n in lowering.fused.outputs or any(u not in inside for u in lowering.fused.users[n])
    ]
    exprs = [operands.expr(n) for n in stored]
    indexed = any(uses_index(n) for n in group.nodes)
    natural = [lowering.access(n) for n in _full_inputs(lowering.fused, group, shape)]
    order = tuple(range(len(shape))) if indexed else preferred_order(shape, natural)
    outputs: list[Access] = []
    for n in stored:
        free = [a for a in operands.accesses if all(a.buffer is not o.buffer for o in outputs)]
        outputs.append((None if indexed else lowering.in_place(n, order, free)) or lowering.result(n, order))
    if not indexed and outputs:
        order = memory_order(shape, outputs[0].strides)
    if math.prod(shape) == 0:
        return
    everything = [*operands.accesses, *outputs]
    if len(exprs) == 1 and exprs[0][0] == "load" and operands.accesses:
        lowering.copy(operands.accesses[0], outputs[0], "copy")
        return
    extents, strides = collapse(shape, [a.strides for a in everything], order)
    count = len(operands.accesses)
    stages = tuple(("store", i, e) for i, e in enumerate(exprs))
    loop_call(
        lowering.program,
        extents,
        list(zip(operands.accesses, strides[:count], strict=True)),
        list(zip(outputs, strides[count:], strict=True)),
        stages,
        names(group.nodes),
    )


def _full_inputs(fused: Fused, group: Group, shape: Shape) -> list[Node]:
    inside = set(group.nodes)
    return [
        c
        for n in group.nodes
        for child in n.inputs
        for c in fused.read(child)
        if c not in inside and c.shape == shape and not is_constant(c) and not _constant_view(c)
    ]


def _constant_view(node: Node) -> bool:
    while node.op is not None and node.op.kind == "view":
        node = node.inputs[0]
    return is_constant(node)


def _root(node: Node) -> Node:
    while node.op is not None and node.op.kind == "view":
        node = node.inputs[0]
    return node
