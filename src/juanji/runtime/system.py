"""What is specific to an operating system: which processors and how much memory may be used,
sleeping and waking, durable renames.

Everything else in Juanji is the same everywhere. Where a system lacks something, the answer here says so and the rest
does without: without a futex, plans run on the thread that calls them.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import signal
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Linux's number of the futex system call, by machine.
_FUTEX_CALL = {"x86_64": 202, "amd64": 202, "aarch64": 98, "riscv64": 98}


_locks: weakref.WeakKeyDictionary[Any, tuple[str, Callable[[], Any]]] = weakref.WeakKeyDictionary()


def new_lock_after_fork(owner: Any, name: str, make: Callable[[], Any]) -> None:
    """Gives a forked child a new lock: one that another thread held at that moment is never released there.

    Args:
        owner: an object or module; one lock each.
        name: its attribute.
        make: what makes a lock, such as `threading.Lock`.
    """
    _locks[owner] = (name, make)


def _renew_locks() -> None:
    for owner, (name, make) in list(_locks.items()):
        setattr(owner, name, make())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


@dataclass(frozen=True)
class ThreadSupport:
    """What the native team of threads needs of a system.

    Args:
        futex_call: the number of the futex system call.
        clock: the number of the monotonic clock for `clock_gettime`.
    """

    futex_call: int
    clock: int


def thread_support() -> tuple[ThreadSupport | None, str]:
    """What a team of native threads needs, or None and the reason why plans run on the calling thread only."""
    if sys.platform != "linux":
        return None, f"plans run on the calling thread: {platform.system() or 'this system'} has no futex"
    number = _FUTEX_CALL.get(platform.machine().lower())
    if number is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None, f"plans run on the calling thread: the futex call of {platform.machine()} is not known"
    return ThreadSupport(number, 1), "native threads that sleep on a futex"


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Threads started meanwhile never receive signals: Ctrl-C must interrupt the thread that Python waits in."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class NativeThread:
    """A thread that runs native code and never touches Python.

    Args:
        function: address of a C function that takes one pointer and returns one.
        argument: the pointer.

    Raises:
        OSError: the system allows no more threads.
    """

    def __init__(self, function: int, argument: int) -> None:
        self._library: Any = ctypes.CDLL(None)
        self._thread = ctypes.c_ulong()
        create = self._library.pthread_create
        create.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
        with signals_blocked():
            error = create(ctypes.addressof(self._thread), None, function, argument)
        if error:
            raise OSError(error, os.strerror(error))

    def join(self) -> None:
        """Waits for its end."""
        join = self._library.pthread_join
        join.argtypes = [ctypes.c_ulong, ctypes.c_void_p]
        join(self._thread, None)


def allowed_processors() -> tuple[int, list[str]]:
    """How many threads can compute at once here, and the reasons.

    Example:
        >>> count, reasons = allowed_processors()
        >>> count >= 1 and len(reasons) >= 1
        True
    """
    logical = os.cpu_count() or 1
    count, reasons = logical, [f"{logical} logical processors"]
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
        if allowed < count:
            count = allowed
            reasons.append(f"this process may use {allowed} of them (affinity)")
        else:
            reasons.append("this process may use all of them (affinity)")
    quota = cgroup_quota()
    if quota is None:
        reasons.append("no limit of processor time (cgroup)")
    else:
        whole = max(1, int(quota + 0.5))
        reasons.append(f"processor time is limited to that of {quota:g} processors (cgroup)")
        count = min(count, whole)
    return count, reasons


def processors_free(wanted: int, file: Path = Path("/proc/loadavg")) -> bool:
    """Whether at this instant so many processors have nothing to run; also where the system doesn't say.

    A process that may not use all processors can't know whether its own are free.
    """
    logical = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) < logical:
        return True
    try:
        running = int(file.read_text(encoding="ascii").split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        return True
    return running + wanted <= logical


def cgroup_quota(root: Path = Path("/sys/fs/cgroup"), self_file: Path = Path("/proc/self/cgroup")) -> float | None:
    """How many processors' time the container may use, or None without a limit.

    The tightest limit on the way from the process's own group up to the root holds (cgroups 2 and 1).
    """
    limits = []
    try:
        lines = self_file.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, inside = rest.partition(":")
        if controllers == "":
            limits += [_quota_v2(folder / "cpu.max") for folder in _upwards(root, inside)]
        elif "cpu" in controllers.split(","):
            for base in (root / "cpu", root / controllers):
                limits += [_quota_v1(folder) for folder in _upwards(base, inside)]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def _upwards(root: Path, inside: str) -> list[Path]:
    """The folders of a group and its parents; in a container the group's own path may not exist."""
    parts = [part for part in inside.split("/") if part not in ("", "..", ".")]
    return [root.joinpath(*parts[:n]) for n in range(len(parts), -1, -1)]


def _quota_v2(path: Path) -> float | None:
    try:
        quota, period = path.read_text().split()[:2]
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def available_memory() -> int | None:
    """Bytes that can still be had without swapping; where the system does not say, all there are, or None.

    On Linux what the kernel counts as available, and no more than the control group (a container) allows.
    """
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        free = int(text.partition("MemAvailable:")[2].split(None, 1)[0]) * 1024
    except (OSError, ValueError, IndexError):
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            return None
    left = cgroup_memory()
    return free if left is None else max(0, min(free, left))


def cgroup_memory(root: Path = Path("/sys/fs/cgroup"), self_file: Path = Path("/proc/self/cgroup")) -> int | None:
    """How many bytes the container may still take, or None without a limit (cgroups 2 and 1)."""
    left = []
    try:
        lines = self_file.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        controllers, _, inside = line.partition(":")[2].partition(":")
        if controllers == "":
            files = ("memory.max", "memory.current", "inactive_file ")
            left += [_memory_left(folder, *files) for folder in _upwards(root, inside)]
        elif "memory" in controllers.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ")
            for base in (root / "memory", root / controllers):
                left += [_memory_left(folder, *files) for folder in _upwards(base, inside)]
    known = [bytes_left for bytes_left in left if bytes_left is not None]
    return min(known) if known else None


def _memory_left(folder: Path, limit: str, used: str, droppable: str) -> int | None:
    """A group's limit less its use, where pages of files that can be dropped do not count."""
    try:
        left = int((folder / limit).read_text()) - int((folder / used).read_text())
        pages = (folder / "memory.stat").read_text().partition(droppable)[2].split(None, 1)
        return left + int(pages[0] if pages else 0)
    except (OSError, ValueError):  # "max", or no such file: no limit here
        return None


@functools.lru_cache(maxsize=1)
def _malloc_trim() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library than GNU's
        return None
    return found


def give_back_memory() -> None:
    """Has the C library return the memory that it keeps for later to the system, where it can (about a millisecond)."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


def replace_durably(temporary: Path, target: Path) -> None:
    """Puts a finished file in the place of another: after a crash at any instant one of the two is there, whole.

    Both are in one folder. The caller has flushed the file's content to the disk.

    Raises:
        OSError: the rename failed; the temporary file is still there.
    """
    os.replace(temporary, target)
    with contextlib.suppress(OSError):  # not every system can flush a folder
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
