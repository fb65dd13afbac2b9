"""Independent calls of one loop kernel become one call: the whole optimiser update is one loop over all parameters."""

from __future__ import annotations

import numpy as np

from juanji.codegen.loops import LoopSpec
from juanji.codegen.many import ManySpec
from juanji.compiler.access import Buffer
from juanji.compiler.program import Call, Program, Ref


def join_loops(program: Program) -> None:
    """Moves each elementwise call down to a later one of the same kernel, where nothing in between depends on it."""
    calls = program.calls
    joined: list[list[Call]] = []
    touched = {id(call): frozenset(call.buffers()) for call in calls}
    for call in calls:
        home = _home(call, joined, touched)
        if home is None:
            joined.append([call])
        else:
            group = joined.pop(home)
            joined.append([*group, call])
    program.calls = [group[0] if len(group) == 1 else _many(group) for group in joined]


def _home(call: Call, joined: list[list[Call]], touched: dict[int, frozenset[Buffer]]) -> int | None:
    """The last group of the same kernel that can be moved down to `call` and does not itself touch what it touches."""
    if not isinstance(call.spec, LoopSpec) or call.spec.reduced:
        return None

    def depend(a: Call, b: Call) -> bool:
        return not (a.writes.isdisjoint(touched[id(b)]) and b.writes.isdisjoint(touched[id(a)]))

    for i in range(len(joined) - 1, -1, -1):
        group = joined[i]
        # Their texts too: 0.0 and -0.0 are equal, but not the same constant.
        if group[0].spec == call.spec and repr(group[0].spec) == repr(call.spec):
            apart = all(not depend(c, call) for c in group)
            free = all(not depend(c, later) for c in group for between in joined[i + 1 :] for later in between)
            return i if apart and free else None
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
