"""What a step's own code reads from around it (globals, closure variables), as guards; what it must not assign."""

from __future__ import annotations

import dis
import inspect
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from juanji.errors import CaptureError

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


@dataclass(frozen=True)
class Name:
    """A global or closure variable and how to read it."""

    text: str
    read: Callable[[], Any]


def names_of(function: Any) -> list[Name]:
    """The outer names that `function` reads.

    Raises:
        CaptureError: the code assigns one: a replay would not.
    """
    code = getattr(function, "__code__", None)
    if code is None:
        return []
    found: dict[str, Name] = {}
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    for instruction, inner in _instructions(code):
        name = str(instruction.argval)
        if instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL") or (
            instruction.opname in ("STORE_DEREF", "DELETE_DEREF") and name in cells and inner is code
        ):
            raise CaptureError(
                f"{inner.co_filename}:{_line(instruction, inner)}: the step assigns the outer variable {name!r}; a "
                "replay would not. Return the value from the step and assign it outside"
            )
        if instruction.opname == "LOAD_GLOBAL" and name in function.__globals__:
            found[name] = Name(name, _global_reader(function.__globals__, name))
        elif instruction.opname == "LOAD_DEREF" and name in cells:
            found[name] = Name(name, _cell_reader(cells[name]))
    return list(found.values())


def _line(instruction: dis.Instruction, code: types.CodeType) -> int:
    positions = instruction.positions
    return (positions.lineno if positions is not None else None) or code.co_firstlineno


def _instructions(code: types.CodeType) -> Iterator[tuple[dis.Instruction, types.CodeType]]:
    for instruction in dis.get_instructions(code):
        yield instruction, code
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _instructions(constant)


def _global_reader(namespace: dict[str, Any], name: str) -> Callable[[], Any]:
    return lambda: namespace.get(name)


def _cell_reader(cell: Any) -> Callable[[], Any]:
    def read() -> Any:
        try:
            return cell.cell_contents
        except ValueError:  # not yet bound
            return None

    return read


def fingerprint(value: Any) -> Any:
    """What must stay the same: the value of plain things and of shallow containers, the identity of others."""
    if isinstance(value, _PLAIN):
        return (type(value), value)
    if isinstance(value, (list, tuple)):
        return (type(value), tuple(v if isinstance(v, _PLAIN) else id(v) for v in value))
    if isinstance(value, dict):
        return (
            dict,
            tuple(
                (k if isinstance(k, _PLAIN) else id(k), v if isinstance(v, _PLAIN) else id(v)) for k, v in value.items()
            ),
        )
    if isinstance(value, (set, frozenset)):
        return (type(value), len(value))
    return id(value)


def is_container(value: Any) -> bool:
    """Whether a step could change `value` without anybody noticing."""
    return isinstance(value, (list, dict, set))
