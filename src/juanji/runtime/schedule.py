"""How a plan is run: on how many threads, in how many pieces, and in how many native calls.

The rules, all about time measured on this machine, never about results:

- The first two runs are made kernel by kernel on the calling thread, each timed.
- A kernel is shared in pieces of about 4 µs or more, at most as many as it has chunks; a shorter one is the caller's.
- A plan whose shared kernels take less than 20 µs in all stays on one thread.
- For every other plan one thread and the team are timed in turn and the faster is kept. It is timed again when the team
  becomes as slow as one thread was, such as beside a busy neighbour, and now and then while one thread is ahead.
- A plan of less than 10 ms is not tried on the team while other programs keep the processors busy: a thread of it that
  must wait for its processor would hold up the run for a time slice.
- A plan of more than 50 ms is split into several native calls, so that Ctrl-C is answered between them.

Chunks are independent and their number follows from shapes alone: none of this changes a bit of any result.
"""

from __future__ import annotations

import functools
import itertools
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji.runtime import native_team, system, team
from juanji.runtime.run import Runner
from juanji.target import Target

#: Seconds that a piece of a kernel takes at least: several times what it costs to share it.
PIECE = 4e-6
#: Pieces for each thread that a kernel is cut into at most.
PIECES_EACH = 32
#: Seconds of shared kernels below which a plan stays on one thread.
WORTH_SHARING = 20e-6
#: Seconds from which on a plan is split, and what a part takes.
LONG, PART = 50e-3, 20e-3
#: How much faster than one thread the team must be.
AHEAD = 0.97
#: Seconds below which a plan is tried on the team only while processors are free; when they are looked at again.
SHORT, LOOK_AGAIN = 10e-3, 50e-3
#: Runs between two trials (four times as many where one thread is ahead), doubled up to the second number while the
#: outcome stays the same.
TRIAL_EVERY = (64, 4096)

#: Tests set this: every kernel of several chunks is shared, whatever it takes.
always_share = False

_ROW = 24


class Schedule:
    """Runs one plan. Not by two threads at once: they take the `lock`.

    Args:
        run: runs rows on the calling thread.
        table: rows of (kernel, arguments, chunks), int64 (count, 3).
        count: how many rows there are.
        target: the kernels' target.
        shareable: false where `run` must see every kernel itself.

    Attributes:
        run: runs the plan, in the way that is the best known now.
        lock: held by whoever runs the plan and changes its arguments.
        shared: the number of pieces of each kernel on the team; all 1 before that is known.
    """

    def __init__(self, run: Runner, table: NDArray[np.int64], count: int, target: Target, shareable: bool) -> None:
        self.lock = threading.Lock()
        self._one = run
        self._table, self._count, self._target = table, count, target
        self._address: int = table.__array_interface__["data"][0]
        self._seconds: list[float] = []
        self.shared = np.ones(max(1, count), np.int64)
        self._parts: list[tuple[int, int, int]] = []
        self._generation = -1
        self._every = TRIAL_EVERY[0]
        self._left = 0
        self._mean = self._limit = 0.0
        self._turns: list[bool] = []
        self._samples: tuple[list[float], list[float]] = ([], [])
        self._serial: Callable[[], None] = functools.partial(run, self._address, count)
        self.run: Callable[[], None] = self._timed if shareable else self._serial
        _all.add(self)
        system.new_lock_after_fork(self, "lock", threading.Lock)

    @property
    def on_team(self) -> bool:
        """Whether the plan is run by the team now."""
        return self.run in (self._on_team, self._team_only)

    # -- one thread -----------------------------------------------------------------------------------------------
    def _timed(self) -> None:
        """Runs kernel by kernel and keeps the shorter time of each; on the second run decides."""
        seconds, clock = [], time.perf_counter
        for at in range(self._address, self._address + _ROW * self._count, _ROW):
            begin = clock()
            self._one(at, 1)
            seconds.append(clock() - begin)
        first = not self._seconds
        self._seconds = seconds if first else [min(pair) for pair in zip(self._seconds, seconds, strict=True)]
        # The first run meets fresh memory. A long plan is not run a second time alone.
        if not first or sum(seconds) >= LONG:
            self._decide()

    def _in_parts(self) -> None:
        for rows, _, count in self._parts:
            self._one(rows, count)

    # -- deciding -------------------------------------------------------------------------------------------------
    def _decide(self) -> None:
        """Sets how the plan is run from now on, from the kernels' times and the number of threads."""
        self._generation = team.generation()
        self._split()
        self._serial = functools.partial(self._one, self._address, self._count)
        if sum(self._seconds) >= LONG:
            self._serial = self._in_parts
        self.run = self._serial
        self.shared[:] = 1
        threads = team.threads() if team.parallel() else 1
        if threads == 1:
            return
        together = 0.0
        for i, seconds in enumerate(self._seconds):
            most = min(int(self._table[i, 2]), native_team.MOST_PIECES)
            if not always_share:
                most = min(most, PIECES_EACH * threads, int(seconds / PIECE))
            if most > 1:
                self.shared[i] = most
                together += seconds
        if always_share:
            self.run = self._team_only
        elif together >= WORTH_SHARING:
            self._every = TRIAL_EVERY[0]
            self._start_trial()
        else:
            self.shared[:] = 1

    def _split(self) -> None:
        """The native calls of a run: one, or parts of about 20 ms."""
        pieces: int = self.shared.__array_interface__["data"][0]
        bounds, passed = [0], 0.0
        if sum(self._seconds) >= LONG:
            for i, seconds in enumerate(self._seconds):
                if passed and passed + seconds > PART:
                    bounds.append(i)
                    passed = 0.0
                passed += seconds
        bounds.append(self._count)
        self._parts = [
            (self._address + _ROW * begin, pieces + 8 * begin, end - begin) for begin, end in itertools.pairwise(bounds)
        ]

    def _decided_again(self) -> None:
        self._decide()
        self.run()

    # -- the team -------------------------------------------------------------------------------------------------
    def _together(self) -> bool:
        """Runs on the team; where it is busy, on this thread. Returns whether it was the team."""
        shared = True
        for rows, pieces, count in self._parts:
            if not team.run(self._target, rows, pieces, count):
                self._one(rows, count)
                shared = False
        return shared

    def _team_only(self) -> None:
        if self._generation != team.generation():
            return self._decided_again()
        self._together()
        return None

    def _on_team(self) -> None:
        """A run on the team, with an eye on whether it still pays."""
        if self._generation != team.generation():
            return self._decided_again()
        begin = time.perf_counter()
        if self._together():
            self._mean += (time.perf_counter() - begin - self._mean) * 0.0625
            self._left -= 1
            if self._left < 0 and self._mean > self._limit:
                self._start_trial()
        return None

    def _on_one(self) -> None:
        """A run on this thread, where the team was slower when last tried or its processors were busy."""
        if self._generation != team.generation():
            return self._decided_again()
        self._serial()
        self._left -= 1
        if self._left < 0:
            self._start_trial()
        return None

    def _start_trial(self) -> None:
        seconds = sum(self._seconds)
        if seconds < SHORT and not system.processors_free(team.threads() - 1):
            self._left = int(LOOK_AGAIN / max(seconds, 1e-6))
            self.run = self._on_one
            return
        turns = 2 if seconds > 5e-3 else 5
        # Taken from the end. The team's first run finds it asleep and does not count.
        self._turns = [True] * (turns + 1) + [False] * turns
        self._samples = ([], [])
        self.run = self._trial

    def _trial(self) -> None:
        if self._generation != team.generation():
            return self._decided_again()
        together = self._turns.pop()
        begin = time.perf_counter()
        if not together:
            self._serial()
            self._samples[0].append(time.perf_counter() - begin)
        elif self._together():
            self._samples[1].append(time.perf_counter() - begin)
        if not self._turns:
            self._compare()
        return None

    def _compare(self) -> None:
        """Ends a trial: the way that took less time from now on."""
        one, several = self._samples[0], self._samples[1][1:]
        if not one:  # Ctrl-C came in between
            return self._start_trial()
        self._limit = _typical(one) * AHEAD
        before = self._mean > 0
        self._mean = _typical(several) if several else 0.0
        faster = 0 < self._mean < self._limit
        if not faster:
            self._mean = 0.0
        self._every = min(2 * self._every, TRIAL_EVERY[1]) if before == faster else TRIAL_EVERY[0]
        # A team that has become slow is noticed after few runs; trying one that was slow costs more and is rarer.
        self._left = self._every if faster else 4 * self._every
        self.run = self._on_team if faster else self._on_one
        return None


def _typical(seconds: list[float]) -> float:
    """The mean without the longest.

    >>> _typical([1.0, 9.0, 3.0])
    2.0
    """
    kept = sorted(seconds)[: max(1, len(seconds) - 1)]
    return sum(kept) / len(kept)


_all: weakref.WeakSet[Schedule] = weakref.WeakSet()


def set_threads(number: int) -> None:
    """Sets how many threads plans may use; those that ran on one thread for lack of others are decided anew."""
    team.set_threads(number)
    for schedule in list(_all):
        # Only a run that never changes by itself: the others see the team's new generation.
        if schedule._generation >= 0 and schedule.run is schedule._serial:
            schedule.run = schedule._decided_again


def describe(schedule: Any) -> str:
    """For people: how a plan is run."""
    if not schedule.on_team:
        return "one thread"
    return f"{team.threads()} threads, {int((schedule.shared > 1).sum())} of {len(schedule.shared)} kernels shared"
