"""`JUANJI_DEBUG=4`: runs a plan kernel by kernel and fills every buffer with NaN as soon as nobody may read it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from juanji.runtime.memory import POISON
from juanji.runtime.run import Runner


def poisoned(run: Runner, arena: Any, ends: Iterable[tuple[int, int, int]], table: int, row: int) -> Runner:
    """A runner that leaves nothing in the arena behind: reading a dead buffer, or one before it is written, gives NaN.

    Args:
        run: what runs rows of the plan's table.
        arena: the plan's own memory, as bytes.
        ends: (last call that touches it, offset, bytes) of each buffer in the arena.
        table: address of the first row.
        row: bytes of a row.
    """
    dying: dict[int, list[slice]] = {}
    for last, offset, nbytes in ends:
        dying.setdefault(last, []).append(slice(offset, offset + nbytes))

    def one_by_one(address: int, count: int) -> None:
        first = (address - table) // row
        for call in range(first, first + count):
            run(table + row * call, 1)
            for part in dying.get(call, ()):
                arena[part] = POISON

    arena[:] = POISON
    return one_by_one
