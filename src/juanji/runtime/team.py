"""The process's team of threads: made when first needed, dismissed before a fork and at the interpreter's end.

What its threads do is native code, in `native_team.py`.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import time
from collections.abc import Callable

from juanji.runtime import jit, native_team, system
from juanji.target import Target

#: Machine code of the team; never freed, since workers run it.
_code: dict[str, int] = {}


class Team:
    """Native threads that run plans together with whoever calls.

    Args:
        threads: how many there are, the caller included.
        target: any target of this machine; kernels of others run as well.

    Attributes:
        threads: how many there really are; fewer where the system allowed no more.
    """

    def __init__(self, threads: int, target: Target, support: system.ThreadSupport) -> None:
        if not _code:
            _code.update(jit.load(native_team.source(target, support), native_team.SYMBOLS, target))
        self._memory = (ctypes.c_uint8 * (native_team.BYTES + 128))()
        self.address = -(-ctypes.addressof(self._memory) // 128) * 128
        # Whether the team is taken is settled inside the native call, which no signal handler can interrupt.
        self._team: Callable[[int, int, int, int], int] = ctypes.CFUNCTYPE(
            ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64
        )(_code["juanji_team"])
        self._workers: list[system.NativeThread] = []
        for _ in range(threads - 1):
            try:
                self._workers.append(system.NativeThread(_code["juanji_worker"], self.address))
            except OSError:
                break
        self.threads = 1 + len(self._workers)

    def run(self, rows: int, pieces: int, count: int) -> bool:
        """Runs `count` rows of a plan.

        Args:
            rows: address of rows of (kernel, arguments, chunks).
            pieces: address of the number of pieces of each kernel; at most its chunks and `native_team.MOST_PIECES`.

        Returns:
            False, with nothing done, where the team is running a plan of another thread or was dismissed.
        """
        return self._team(self.address, rows, pieces, count) != 0

    def dismiss(self, patience: float) -> bool:
        """Ends the workers, for good.

        Args:
            patience: seconds to wait for the end of a plan that the team is running.

        Returns:
            Whether the team is dismissed: not where it still runs a plan.
        """
        take = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(_code["juanji_take"])
        until = time.monotonic() + patience
        while not take(self.address):
            if time.monotonic() >= until:
                return False
            time.sleep(0.0005)
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_code["juanji_dismiss"])(self.address)
        for worker in self._workers:
            worker.join()
        self._workers = []
        return True


class _Shared:
    """The process's team, and how many threads it is to have."""

    wanted: int | None = None
    generation = 0
    team: Team | None = None
    closed = False


_shared = _Shared()
#: Held by whoever makes or dismisses the team.
_lock = threading.Lock()


def threads() -> int:
    """How many threads plans may use: as set, else `JUANJI_THREADS`, else all processors this process may use.

    Raises:
        ValueError: `JUANJI_THREADS` is not a number of threads.
    """
    if _shared.wanted is None:
        asked = os.environ.get("JUANJI_THREADS", "")
        if asked and (not asked.isdecimal() or int(asked) < 1):
            raise ValueError(f"JUANJI_THREADS={asked!r} is not a number of threads; it is 1 or more")
        _shared.wanted = int(asked) if asked else system.allowed_processors()[0]
    return _shared.wanted


def set_threads(number: int) -> None:
    """Sets how many threads plans may use. A plan that the team is running goes on to its end."""
    with _lock:
        _shared.wanted = number
        _shared.generation += 1
        _dismiss(patience=float("inf"))


def generation() -> int:
    """How often the number of threads has been set."""
    return _shared.generation


def parallel() -> bool:
    """Whether plans can run on more than one thread."""
    return threads() > 1 and system.thread_support()[0] is not None


def run(target: Target, rows: int, pieces: int, count: int) -> bool:
    """Runs rows of a plan on the team, which is made where there is none.

    Returns:
        False, with nothing done, where there is no team or it is busy with the plan of another thread.
    """
    team = _shared.team or _assemble(target)
    return team is not None and team.run(rows, pieces, count)


def barrier_seconds(target: Target, rounds: int = 500) -> float | None:
    """What it costs to share a kernel, in seconds: how much longer than 1 µs one takes that keeps each thread busy for
    that time. None where there is no team.

    On virtual machines this changes within minutes, with where the processors are.
    """
    team = _shared.team or _assemble(target)
    if team is None:
        return None
    rows = (ctypes.c_int64 * (3 * rounds))(*([_code["juanji_microseconds"], 0, team.threads] * rounds))
    pieces = (ctypes.c_int64 * rounds)(*([team.threads] * rounds))
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        if not team.run(ctypes.addressof(rows), ctypes.addressof(pieces), rounds):
            return None
        times.append((time.perf_counter() - begin) / rounds)
    return min(times) - 1e-6


def _assemble(target: Target) -> Team | None:
    """The team, made where there is none."""
    support, _ = system.thread_support()
    if support is None:
        return None
    with _lock:
        if _shared.team is None and not _shared.closed and threads() > 1:
            _shared.team = Team(threads(), target, support)
        return _shared.team


def _dismiss(patience: float) -> None:
    """Ends the team, if it can be had; the lock is held."""
    if _shared.team is not None and _shared.team.dismiss(patience):
        _shared.team = None


def _before_fork() -> None:
    # A team at rest is sent home, so that the child is a copy of a process with one thread. One that is running a
    # plan of another Python thread can't be; its workers do not exist in the child, which makes a team of its own.
    if _lock.acquire(False):
        try:
            _dismiss(patience=0)
        finally:
            _lock.release()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    _shared.team = None


def _at_exit() -> None:
    # Workers must be gone before the interpreter frees the code they run. Python's own threads, except daemons, have
    # ended by now; a daemon that is running a plan is left to it.
    _shared.closed = True
    if _lock.acquire(timeout=1):
        try:
            _dismiss(patience=1)
        finally:
            _lock.release()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
