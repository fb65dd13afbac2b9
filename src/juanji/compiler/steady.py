"""What depends only on inputs that hardly ever change is computed once: packed weights, factors of a frozen batch norm.

A network that is not trained reads its parameters at every call and would pack them at every call, which for a batch of
one takes as long as half of the convolutions. The calls that do so come first in the plan, their results keep their
memory, and a run leaves them out while the inputs' versions are what they were.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from juanji.compiler.access import Buffer
from juanji.compiler.program import Call, Program


def steady_first(program: Program, slots: Collection[int]) -> int:
    """Moves the calls that depend on nothing but constants and the inputs `slots` to the beginning; how many."""
    writers: dict[Buffer, list[Call]] = {}
    for call in program.calls:
        for buffer in call.writes:
            writers.setdefault(buffer, []).append(call)
    chosen = set(map(id, program.calls))
    shrinking = True
    while shrinking:
        shrinking = False
        for call in program.calls:
            if id(call) in chosen and not _steady(call, slots, writers, chosen):
                chosen.remove(id(call))
                shrinking = True
    moved = [call for call in program.calls if id(call) in chosen]
    program.calls = moved + [call for call in program.calls if id(call) not in chosen]
    return len(moved)


def _steady(call: Call, slots: Collection[int], writers: dict[Buffer, list[Call]], chosen: set[int]) -> bool:
    if not call.writes:
        return False
    for buffer in call.buffers():
        if buffer.kind == "output" or (buffer.kind == "slot" and buffer.index not in slots):
            return False
        if buffer.kind == "arena" and any(id(writer) not in chosen for writer in writers.get(buffer, ())):
            return False
    return True


def kept_buffers(calls: Sequence[Call], steady: int) -> set[Buffer]:
    """What the first `steady` calls make and others read."""
    made = {buffer for call in calls[:steady] for buffer in call.writes if buffer.kind == "arena"}
    return {buffer for call in calls[steady:] for buffer in call.buffers() if buffer in made}
