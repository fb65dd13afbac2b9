"""Independent calls of one loop kernel become one call: the whole optimiser update is one loop over all parameters."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

import numpy as np

from juanji.codegen.loops import LoopSpec
from juanji.codegen.many import ManySpec
from juanji.compiler.access import Buffer
from juanji.compiler.program import Call, Program, Ref


@dataclass
class _Group:
    """Calls that are to become one.

    Attributes:
        text: their kernel's, by which equal ones are known: 0.0 and -0.0 are equal, but not the same constant. Empty
            where nothing can be joined.
    """

    calls: list[Call]
    text: str
    touched: set[Buffer]
    writes: set[Buffer]

    def independent(self, touched: Set[Buffer], writes: Set[Buffer]) -> bool:
        """Whether neither writes what the other touches."""
        return self.writes.isdisjoint(touched) and self.touched.isdisjoint(writes)


def join_loops(program: Program) -> None:
    """Moves each elementwise call down to a later one of the same kernel, where nothing in between depends on it."""
    joined: list[_Group] = []
    for call in program.calls:
        single = not isinstance(call.spec, LoopSpec) or bool(call.spec.reduced)
        group = _Group([call], "" if single else repr(call.spec), set(call.buffers()), set(call.writes))
        home = _home(group, joined)
        if home is not None:
            before = joined.pop(home)
            group.calls = [*before.calls, call]
            group.touched |= before.touched
            group.writes |= before.writes
        joined.append(group)
    program.calls = [group.calls[0] if len(group.calls) == 1 else _many(group.calls) for group in joined]


def _home(new: _Group, joined: list[_Group]) -> int | None:
    """The last group of the same kernel that can be moved down to `new` and does not itself touch what it touches."""
    if not new.text:
        return None
    for i in range(len(joined) - 1, -1, -1):
        group = joined[i]
        if group.text == new.text:
            free = all(group.independent(between.touched, between.writes) for between in joined[i + 1 :])
            return i if free and group.independent(new.touched, new.writes) else None
    return None


def _many(group: list[Call]) -> Call:
    """One call over the argument blocks of several."""
    rows: list[int] = []
    blocks: list[list[int | Ref]] = []
    first = 0
    for call in group:
        blocks.append(call.args)
        rows += [0, first]
        first += call.chunks
    rows += [0, first]
    table = Buffer(8 * len(rows), "arguments", data=np.zeros(len(rows), np.int64))
    label = f"{len(group)} x ({group[0].label})" if len({c.label for c in group}) == 1 else f"{len(group)} loops"
    writes = frozenset(b for c in group for b in c.writes)
    return Call(ManySpec(group[0].spec), [len(group), Ref(table)], first, label, writes, blocks, rows)
