"""What a captured step looks up at each replay: hyper-parameters, optimiser state, flags; plain reads elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from juanji.config import state


def hyper(mapping: MutableMapping[Any, Any], key: Any) -> Any:
    """The float `mapping[key]`; in a capture a scalar input that is looked up at each replay, so that a scheduler may
    change it without a new trace.
    """
    if state.capture is None:
        return mapping[key]
    return state.capture.hyper(mapping, key)


def guarded(mapping: MutableMapping[Any, Any], key: Any) -> Any:
    """The plain value `mapping[key]`; a captured step is traced anew when it is another."""
    value = mapping[key]
    if state.capture is not None:
        state.capture.guard_item(mapping, key, value, flag=False)
    return value


def guarded_flag(mapping: MutableMapping[Any, Any], key: Any) -> bool:
    """Whether the number `mapping[key]` is other than zero; a captured step is traced anew when that changes."""
    flag = bool(mapping[key] != 0)
    if state.capture is not None:
        state.capture.guard_item(mapping, key, flag, flag=True)
    return flag


def slot(mapping: MutableMapping[Any, Any], key: Any) -> Any:
    """The tensor `mapping[key]`; in a capture an input looked up there at each replay."""
    value = mapping[key]
    if state.capture is not None:
        state.capture.register_item(mapping, key, value)
    return value


@contextmanager
def outside_capture() -> Iterator[None]:
    """Inside, operations run at once even while a step is being traced: for state that is made on first use."""
    before, state.capture = state.capture, None
    try:
        yield
    finally:
        state.capture = before
