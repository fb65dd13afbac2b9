"""A plan: a flat list of kernel calls over one preplanned arena, run by one native call.

Buffers are placed in the arena by lifetime. Inputs are found at each call; what the plan returns is new memory.
"""

from __future__ import annotations

import bisect
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from juanji.compiler import passes
from juanji.compiler.access import Access, Buffer
from juanji.compiler.fuse import fuse
from juanji.compiler.join import join_loops
from juanji.compiler.lower import Lowering
from juanji.compiler.poison import poisoned
from juanji.compiler.program import Call, Program, Ref
from juanji.compiler.sink import sink
from juanji.compiler.steady import kept_buffers, steady_first
from juanji.config import debug_level
from juanji.graph import Graph, Node
from juanji.runtime import jit, memory
from juanji.runtime.run import runner
from juanji.runtime.schedule import Schedule
from juanji.spec import Shape, contiguous_strides
from juanji.target import DTYPE_BYTES, Target, current

#: A plan without an arena and with at most so many places for addresses writes them all at each run.
FEW_PATCHES = 8


@dataclass(frozen=True)
class Output:
    """A result that is new memory: its shape, element type and size."""

    shape: Shape
    dtype: str
    nbytes: int


@dataclass
class Plan:
    """Compiled code for one graph.

    Attributes:
        calls: the kernel calls, for people and tests.
        outputs: what `run` returns memory for.
        arena_bytes: size of the arena.
        steady: how many of the calls, the first ones, depend on nothing but inputs that the plan's user says are mostly
            the same. What they make is kept from run to run.
    """

    target: Target
    calls: list[Call]
    outputs: list[Output]
    arena_bytes: int
    keep_arena: bool
    steady: int = 0
    _args: Any = None
    _table: Any = None
    _slot_patches: list[list[tuple[int, int]]] = field(default_factory=list)
    _output_patches: list[list[tuple[int, int]]] = field(default_factory=list)
    _arena_patches: list[tuple[int, int]] = field(default_factory=list)
    _constants: list[Any] = field(default_factory=list)
    _last: list[int] = field(default_factory=list)
    _last_results: list[int] = field(default_factory=list)
    _arena: Any = None

    def run(self, pointers: list[int], results: list[int], stamp: Any = None) -> None:
        """Runs the plan.

        Args:
            pointers: address of each input slot.
            results: address of the memory for each output.
            stamp: equal to that of the last run only if the steady inputs have not changed since; None if unknown.
        """
        with self._schedule.lock:
            args = self._view
            if self._few is not None:
                given = [*pointers, *results]
                for place, i, offset in self._few:
                    args[place] = given[i] + offset
                self._schedule.run()
                return
            # Mostly nothing has moved, and two equal lists are compared faster than they are walked over.
            for last, now, patches in (
                (self._last, pointers, self._slot_patches),
                (self._last_results, results, self._output_patches),
            ):
                if last != now:
                    for i, pointer in enumerate(now):
                        if last[i] != pointer:
                            last[i] = -1  # for as long as Ctrl-C or a fork may come in between
                            for place, offset in patches[i]:
                                args[place] = pointer + offset
                            last[i] = pointer
            if self._prologue is not None and (stamp is None or stamp != self._stamp):
                self._stamp = None  # for as long as Ctrl-C may come in between
                self._prologue.run()
                self._stamp = stamp
            if self.keep_arena or not self.arena_bytes:
                self._schedule.run()
                return
            arena, address = memory.acquire(self.arena_bytes)
            for place, offset in self._arena_patches:
                args[place] = address + offset
            self._schedule.run()
            memory.release(arena, address)

    def describe(self) -> str:
        """The kernel calls, one a line."""
        lines = [f"plan of {len(self.calls)} kernel calls, arena {self.arena_bytes:,} bytes"]
        if self.steady:
            lines[0] += f"; the first {self.steady} run only when what they read has changed"
        lines += [
            f"  {i:3} {type(c.spec).__name__:14} {c.chunks:5} chunks  {c.label}" for i, c in enumerate(self.calls)
        ]
        return "\n".join(lines)

    def profile(self, repeat: int = 20) -> list[tuple[str, float]]:
        """Seconds of each kernel call by itself (the best of `repeat`), on whatever the last run left in memory."""
        times = []
        with self._schedule.lock:
            for i, call in enumerate(self.calls):
                best = float("inf")
                for _ in range(repeat):
                    begin = time.perf_counter()
                    self._run(self._table_address + 24 * i, 1)
                    best = min(best, time.perf_counter() - begin)
                times.append((call.label, best))
        return times

    def link(self) -> None:
        """Compiles the kernels and lays out arguments."""
        flat: list[int] = []
        places = _place(self.calls, self.steady)
        self.arena_bytes = places.size
        base = 0
        if self.keep_arena:
            memory.require(places.size, f"what a step of {len(self.calls)} kernels keeps of intermediate values")
            self._arena, base = memory.acquire(max(places.size, 1))
        tables: list[tuple[Call, list[int]]] = []
        pending: list[tuple[int, int]] = []
        addresses = jit.addresses([call.spec for call in self.calls], self.target)
        for call, address in zip(self.calls, addresses, strict=True):
            pending.append((address, len(flat)))
            self._lay_out(flat, call.args, places, base)
            if call.blocks:
                begins = []
                for block in call.blocks:
                    begins.append(len(flat))
                    self._lay_out(flat, block, places, base)
                tables.append((call, begins))
        self._args = np.array(flat or [0], np.int64)
        self._view = memoryview(self._args)
        start = self._args.__array_interface__["data"][0]
        for call, begins in tables:
            (table,) = (a.buffer.data for a in call.args if isinstance(a, Ref))
            table[:] = call.rows
            table[0 : 2 * len(begins) : 2] = [start + 8 * at for at in begins]
        rows = [(fn, start + 8 * at, c.chunks) for (fn, at), c in zip(pending, self.calls, strict=True)]
        self._table = np.array(rows or [(0, 0, 0)], np.int64)
        self._table_address = self._table.__array_interface__["data"][0]
        self._run = runner(self.target)
        if self.keep_arena and debug_level() >= 4:
            kept = kept_buffers(self.calls, self.steady)
            ends = [(places.last[b], at, b.nbytes) for b, at in places.offset.items() if b not in kept]
            self._run = poisoned(self._run, self._arena, ends, self._table_address, self._table.strides[0])
        shareable = self._run is runner(self.target)  # what poisons must see every kernel
        steady = self.steady
        self._schedule = Schedule(self._run, self._table[steady:], len(rows) - steady, self.target, shareable)
        if steady:
            self._prologue = Schedule(self._run, self._table[:steady], steady, self.target, shareable)
        self._last = [-1] * len(self._slot_patches)
        self._last_results = [-1] * len(self._output_patches)
        patched = [*self._slot_patches, *self._output_patches]
        few = [(place, i, offset) for i, patches in enumerate(patched) for place, offset in patches]
        self._few = few if len(few) <= FEW_PATCHES and not self.arena_bytes else None

    def _lay_out(self, flat: list[int], args: Sequence[int | Ref], places: Placement, base: int) -> None:
        """Appends arguments, noting which are patched when inputs, outputs or the arena move."""
        for arg in args:
            if not isinstance(arg, Ref):
                flat.append(int(arg))
                continue
            buffer, place = arg.buffer, len(flat)
            if buffer.kind == "arena":
                offset = places.offset[buffer] + arg.offset
                self._arena_patches.append((place, offset))
                flat.append(base + offset)
            elif buffer.data is not None:
                self._constants.append(buffer.data)
                flat.append(buffer.data.__array_interface__["data"][0] + arg.offset)
            else:
                patches = self._slot_patches if buffer.kind == "slot" else self._output_patches
                patches[buffer.index].append((place, arg.offset))
                flat.append(0)

    #: (place, number of the input or output, offset), where there are few: writing all is faster than looking.
    _few: list[tuple[int, int, int]] | None = None
    _view: Any = None
    _schedule: Any = None
    _prologue: Any = None
    _stamp: Any = None
    _table_address: int = 0
    _run: Any = None


@dataclass
class Placement:
    """Offsets of buffers in the arena, its size, and the last call that touches each buffer."""

    offset: dict[Buffer, int]
    size: int
    last: dict[Buffer, int]


def _place(calls: list[Call], steady: int) -> Placement:
    """Places arena buffers so that those alive at the same time do not overlap: the largest first, lowest fit."""
    kept = kept_buffers(calls, steady)
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    for i, call in enumerate(calls):
        for buffer in call.buffers():
            if buffer.kind == "arena":
                first.setdefault(buffer, i)
                last[buffer] = i
                if buffer in kept:
                    first[buffer], last[buffer] = 0, len(calls)
    placed: list[tuple[int, int, int, int]] = []  # sorted: where it begins and ends, its first and its last call
    offsets: dict[Buffer, int] = {}
    total = 0
    for buffer in sorted(first, key=lambda b: (-b.nbytes, first[b])):
        size = max(64, -(-buffer.nbytes // 64) * 64)
        at, born, dies = 0, first[buffer], last[buffer]
        for begin, end, other_born, other_dies in placed:
            if other_born > dies or other_dies < born:
                continue
            if at + size <= begin:
                break
            if end > at:
                at = end
        offsets[buffer] = at
        bisect.insort(placed, (at, at + size, born, dies))
        total = max(total, at + size)
    return Placement(offsets, total, last)


def build(
    graph: Graph,
    outputs: Sequence[Node],
    writes: Sequence[tuple[int, Node]],
    keep_arena: bool,
    optimise: bool = True,
    steady: Collection[int] = (),
) -> Plan:
    """Compiles a graph.

    Args:
        outputs: values to return, each in new memory.
        writes: (slot, value): donated inputs and what they become.
        keep_arena: whether the plan owns its arena, or takes memory for each run.
        optimise: whether the graph's passes run (a plan of one op has nothing to rewrite).
        steady: inputs that are mostly the same at the next run, as the weights of a network that is not trained are.
    """
    target = current()
    wanted = [*outputs, *(node for _, node in writes)]
    if optimise:
        wanted = passes.run(graph, wanted, steady if keep_arena and not writes else ())
    results, written = wanted[: len(outputs)], wanted[len(outputs) :]
    slots = {
        node: Access(
            Buffer(_span(node) * DTYPE_BYTES[node.dtype], "slot", node.slot),
            node.shape,
            node.strides or (),
            0,
            node.dtype,
        )
        for node in graph.slots
    }
    targets: dict[Node, Access] = {}
    copies: list[tuple[Node, Access]] = []
    for (slot, _), node in zip(writes, written, strict=True):
        access = slots[graph.slots[slot]]
        if node in targets or _shows_slot(node):
            copies.append((node, access))
        else:
            targets[node] = access
    described = []
    for i, node in enumerate(results):
        nbytes = node.spec.size * DTYPE_BYTES[node.dtype]
        access = Access(Buffer(nbytes, "output", i), node.shape, contiguous_strides(node.shape), 0, node.dtype)
        described.append(Output(node.shape, node.dtype, nbytes))
        if node in targets or _shows_slot(node):
            copies.append((node, access))
        else:
            targets[node] = access
    fused = fuse([n for n in wanted if not _shows_slot(n)])
    lowering = Lowering(fused, target, slots, targets, _last_uses(fused, wanted), steady if keep_arena else ())
    held = _first_copies(lowering, [(n, a) for n, a in copies if _shows_slot(n)])
    program = lowering.run()
    held += [(lowering.access(n), a) for n, a in copies if not _shows_slot(n)]
    for source, access in held:
        lowering.copy(source, access, "copy out")
    if optimise:
        join_loops(program)
        sink(program)
    first = steady_first(program, steady) if steady and keep_arena else 0
    plan = Plan(target, program.calls, described, 0, keep_arena, first)
    plan._slot_patches = [[] for _ in graph.slots]
    plan._output_patches = [[] for _ in described]
    plan.link()
    if debug_level() >= 2 and optimise:
        print(plan.describe(), file=sys.stderr)
    return plan


def _shows_slot(node: Node) -> bool:
    """Whether a value is an input, or a view of one."""
    while node.op is not None and node.op.kind == "view":
        node = node.inputs[0]
    return node.op is None


def _first_copies(lowering: Lowering, copies: list[tuple[Node, Access]]) -> list[tuple[Access, Access]]:
    """Inputs that are returned, or written to other inputs, are read before anything is overwritten.

    Returns:
        The copies that remain to be done at the end: from temporaries to inputs.
    """
    held = []
    for node, access in copies:
        source = lowering.access(node)
        if access.buffer.kind == "output":
            lowering.copy(source, access, "copy out")
            continue
        temporary = lowering.program.buffer(node.shape, node.dtype)
        lowering.copy(source, temporary, "stage")
        held.append((temporary, access))
    return held


def _span(node: Node) -> int:
    if node.spec.size == 0:
        return 0
    return 1 + sum((e - 1) * s for e, s in zip(node.shape, node.strides or (), strict=True))


def _last_uses(fused: Any, wanted: Sequence[Node]) -> dict[Node, int]:
    """The position of the last group that reads each value, through views; results are read at the end."""
    last: dict[Node, int] = {}

    def touch(node: Node, position: int) -> None:
        last[node] = max(last.get(node, -1), position)
        while node.op is not None and node.op.kind == "view":
            node = node.inputs[0]
            last[node] = max(last.get(node, -1), position)

    for position, group in enumerate(fused.groups):
        for node in group.nodes:
            for given in node.inputs:
                for child in fused.read(given):
                    touch(child, position)
    end = len(fused.groups)
    for node in wanted:
        if node.op is not None and node.op.kind == "view" and not _shows_slot(node):
            touch(node, end)
    for node in fused.outputs:
        touch(node, end)
    return last


__all__ = ["Output", "Plan", "Program", "build"]
