"""Calls whose result is large and wanted much later run just before it is wanted.

The positions of pooling's maxima are computed from what the backward pass keeps anyway, and read at its end: computed
where they are read, they take no memory in between. Nothing lives longer than before: a call moves only if somebody
reads its operands as late as that.
"""

from __future__ import annotations

from juanji.compiler.access import Buffer
from juanji.compiler.program import Call, Program

#: Bytes of a result for which it is worth looking.
LARGE = 2**20
#: Bytes written in between from which on no cache would still have had the operands or the result.
FAR = 2**26


def sink(program: Program) -> None:
    """Moves such calls, the last first, so that what leads to them can follow."""
    calls = program.calls
    touched = {id(call): frozenset(call.buffers()) for call in calls}
    for at in range(len(calls) - 1, -1, -1):
        call = calls[at]
        if sum(b.nbytes for b in call.writes) < LARGE or any(b.kind != "arena" for b in call.writes):
            continue
        wanted = _wanted(calls, at, touched)
        if wanted > at + 1 and _may_move(calls, at, wanted, touched):
            calls.insert(wanted - 1, calls.pop(at))


def _wanted(calls: list[Call], at: int, touched: dict[int, frozenset[Buffer]]) -> int:
    """The first call after `at` that touches what it writes; `at` if nobody does."""
    writes = calls[at].writes
    return next((i for i in range(at + 1, len(calls)) if not writes.isdisjoint(touched[id(calls[i])])), at)


def _may_move(calls: list[Call], at: int, wanted: int, touched: dict[int, frozenset[Buffer]]) -> bool:
    """Whether the call makes its result anew, far before it is wanted, from what is there for as long anyway."""
    call = calls[at]
    between = calls[at + 1 : wanted]
    written = frozenset().union(*(other.writes for other in between))
    read = touched[id(call)] - call.writes
    if sum(b.nbytes for b in written) < FAR or not read.isdisjoint(written):
        return False
    if any(not call.writes.isdisjoint(touched[id(other)]) for other in calls[:at]):
        return False
    later = frozenset().union(*(touched[id(other)] for other in calls[wanted:]))
    return all(b in later for b in read if b.kind == "arena")
