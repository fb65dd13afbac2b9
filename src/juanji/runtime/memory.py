"""Memory for values: aligned, and kept for reuse up to a bound, so that large results do not cost page faults anew."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64
#: How much freed memory is kept for reuse.
KEEP_BYTES = 512 * 2**20

Bytes = NDArray[np.uint8]
_free: dict[int, list[tuple[Bytes, int]]] = {}
_kept = 0
_lock = threading.Lock()


def size_class(nbytes: int) -> int:
    """`nbytes` rounded up to one of four sizes in each doubling, at least one cache line.

    >>> size_class(1), size_class(100), size_class(1000)
    (64, 128, 1024)
    """
    if nbytes <= ALIGNMENT:
        return ALIGNMENT
    step = max(ALIGNMENT, 1 << ((nbytes - 1).bit_length() - 3))
    return -(-nbytes // step) * step


def acquire(nbytes: int) -> tuple[Bytes, int]:
    """A buffer of at least `nbytes`, aligned to a cache line, and its address. Its contents are arbitrary."""
    global _kept
    size = size_class(nbytes)
    kept = _free.get(size)
    if kept:
        with _lock:
            if kept:
                _kept -= size
                return kept.pop()
    raw = np.empty(size + ALIGNMENT, np.uint8)
    address: int = raw.__array_interface__["data"][0]
    shift = -address % ALIGNMENT
    return raw[shift : shift + size], address + shift


def release(buffer: Bytes, address: int) -> None:
    """Gives a buffer back. Nobody may use it any more."""
    global _kept
    size = buffer.nbytes
    if _kept + size > KEEP_BYTES:
        return
    with _lock:
        _kept += size
        _free.setdefault(size, []).append((buffer, address))


def kept_bytes() -> int:
    """How much freed memory is being kept."""
    return _kept


def trim() -> None:
    """Gives all kept memory back to the system."""
    global _kept
    with _lock:
        _free.clear()
        _kept = 0


def holders(buffer: Any) -> int:
    """How many references a buffer has, from the caller's point of view.

    A NumPy array made over a buffer refers to the memory that the buffer itself is a slice of, so both are counted.
    """
    if sys is None:  # the interpreter is going down
        return 2
    owner = buffer.base
    return sys.getrefcount(buffer) - 2 + (0 if owner is None else sys.getrefcount(owner) - 3)
