"""Memory for values: aligned, and kept for reuse up to a bound, so that large results do not cost page faults anew."""

from __future__ import annotations

import functools
import math
import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji.config import debug_level
from juanji.dtypes import ALL
from juanji.runtime import system
from juanji.runtime.system import new_lock_after_fork
from juanji.spec import MAX_ELEMENTS, Shape, show

ALIGNMENT = 64
#: How much freed memory is kept for reuse.
KEEP_BYTES = 512 * 2**20
#: Buffers up to this size are counted by number, of each size class, instead: it takes no lock to keep one.
SMALL_BYTES, SMALL_NUMBER = 4096, 256
#: From this size on, memory is asked for only after a look at how much there is: the look costs some 50 µs.
LARGE_BYTES = 64 * 2**20
#: What is poisoned is filled with this byte: NaN in every float type, -1 in every integer.
POISON = 0xFF

_poisoning = debug_level() >= 4
Bytes = NDArray[np.uint8]
_free: dict[int, list[tuple[Bytes, int]]] = {}
_kept = 0  # bytes of the buffers above SMALL_BYTES
_lock = threading.Lock()
new_lock_after_fork(sys.modules[__name__], "_lock", threading.Lock)


@functools.lru_cache(maxsize=4096)
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
    size = ALIGNMENT if nbytes <= ALIGNMENT else size_class(nbytes)
    kept = _free.get(size)
    if kept:
        if size <= SMALL_BYTES:
            try:
                return kept.pop()
            except IndexError:  # another thread was faster
                return acquire(nbytes)
        with _lock:
            if kept:
                _kept -= size
                return kept.pop()
    return _aligned(np.empty(size + ALIGNMENT, np.uint8), size)


def acquire_zeros(nbytes: int) -> tuple[Bytes, int]:
    """As `acquire`, with zeros. What is new from the system is zero by itself, and costs nothing before it is written:
    momentum, and weights that are loaded later.
    """
    size = size_class(nbytes)
    if not _free.get(size):
        return _aligned(np.zeros(size + ALIGNMENT, np.uint8), size)
    buffer, address = acquire(nbytes)
    buffer.fill(0)
    return buffer, address


def _aligned(raw: Bytes, size: int) -> tuple[Bytes, int]:
    address: int = raw.__array_interface__["data"][0]
    shift = -address % ALIGNMENT
    return raw[shift : shift + size], address + shift


def release(buffer: Bytes, address: int) -> None:
    """Gives a buffer back. Nobody may use it any more; `JUANJI_DEBUG=4` makes sure that it shows if somebody does."""
    global _kept
    if _poisoning:
        buffer.fill(POISON)
    size = buffer.nbytes
    if size <= SMALL_BYTES:
        kept = _free.get(size)
        if kept is None:
            kept = _free.setdefault(size, [])
        if len(kept) < SMALL_NUMBER:
            kept.append((buffer, address))
        return
    if _kept + size > KEEP_BYTES:
        return
    with _lock:
        _kept += size
        _free.setdefault(size, []).append((buffer, address))


def kept_bytes() -> int:
    """How much freed memory is being kept."""
    return _kept + sum(size * len(kept) for size, kept in list(_free.items()) if size <= SMALL_BYTES)


def trim() -> None:
    """Gives all kept memory back to the system."""
    global _kept
    with _lock:
        _free.clear()
        _kept = 0


def require(nbytes: int, what: str) -> None:
    """Refuses what this machine has no memory for: the system would promise it, and then end the process.

    Raises:
        MemoryError: naming `what`.
    """
    if nbytes < LARGE_BYTES or _free.get(size_class(nbytes)):
        return
    free = available()
    if free is None or nbytes <= free:
        return
    trim()
    free = available()
    if free is not None and nbytes > free:
        raise MemoryError(f"{what} takes {_amount(nbytes)}; there are {_amount(free)} of memory free")


def _amount(nbytes: int) -> str:
    """Bytes as people say them.

    >>> _amount(123456789), _amount(2**42)
    ('123 MB', '4,398 GB')
    """
    return f"{nbytes / 1e6:,.0f} MB" if nbytes < 10**9 else f"{nbytes / 1e9:,.{0 if nbytes > 10**11 else 1}f} GB"


def available() -> int | None:
    """Bytes that can still be had without swapping, as far as the system says; None where it does not."""
    return system.available_memory()


def holders(buffer: Any) -> int:
    """How many references a buffer has, from the caller's point of view.

    A NumPy array made over a buffer refers to the memory that the buffer itself is a slice of, so both are counted.
    """
    if sys is None:  # the interpreter is going down
        return 2
    owner = buffer.base
    return sys.getrefcount(buffer) - 2 + (0 if owner is None else sys.getrefcount(owner) - 3)


def check_size(shape: Shape, dtype: str, held: bool = True) -> None:
    """Refuses a tensor that no machine of today holds, or (if it will be `held`) not this one, before anything is
    allocated. Values of a captured step need not be held: most are fused away.

    Args:
        dtype: an element type's name, long or short.

    Raises:
        MemoryError: naming the shape.

    >>> check_size((2**20, 2**20), "float32")
    Traceback (most recent call last):
    MemoryError: a tensor of shape [1048576, 1048576] and dtype float32 has 1,099,511,627,776 elements
    """
    size = math.prod(shape)
    if size <= 2**20:
        return
    kind = next(d for d in ALL if dtype in (d.short, d.name))
    what = f"a tensor of shape {show(shape)} and dtype {kind.name}"
    if size > MAX_ELEMENTS:
        raise MemoryError(f"{what} has {size:,} elements")
    if held:
        require(size * kind.itemsize, what)
