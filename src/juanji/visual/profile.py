"""`jj.profile`: where the time of a compiled step goes, kernel by kernel, beside what the machine could do."""

from __future__ import annotations

import functools
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from juanji.codegen.contract import ContractSpec
from juanji.codegen.depthwise import DepthwiseSpec
from juanji.codegen.peak import PeakSpec
from juanji.compiler.plan import Plan
from juanji.runtime import jit
from juanji.runtime.run import runner
from juanji.target import Target, current


@dataclass
class Kernel:
    """One kernel call.

    Attributes:
        label: what it computes.
        kind: the generator of its code.
        seconds: the shortest time it took, on one thread, in its place among the others.
        flops: multiplications and additions of a contraction; 0 for others, which are bound by memory.
        bytes: of the values it reads or writes, each counted once.
        algorithm: how a contraction is computed; empty for others.
        tile: outputs that a contraction keeps in registers, as pixels x vectors of channels; empty for others.
        refused: algorithms that were considered first, each with the reason why it was not taken.
    """

    label: str
    kind: str
    seconds: float
    flops: int
    bytes: int
    algorithm: str = ""
    tile: str = ""
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def way(self) -> str:
        """Algorithm and tile."""
        return f"{self.algorithm} {self.tile}".strip()


@dataclass
class Profile:
    """What `profile` returns; prints as a table, the most expensive kernels first.

    Attributes:
        kernels: in the order in which they run.
        peak_flops: multiplications and additions a second of one core that does nothing else, measured.
        peak_bytes: bytes a second that one core reads and writes while it copies much memory, measured.
        arena_bytes: memory of the plan's intermediate values.
    """

    kernels: list[Kernel]
    peak_flops: float
    peak_bytes: float
    arena_bytes: int

    @property
    def seconds(self) -> float:
        """The sum of the kernels' times."""
        return sum(k.seconds for k in self.kernels)

    def bound(self, kernel: Kernel) -> float:
        """Seconds that a kernel would take at the peak of arithmetic or memory, whichever is longer (the roofline)."""
        return max(kernel.flops / self.peak_flops, kernel.bytes / self.peak_bytes)

    def table(self, rows: int | None = None) -> list[list[str]]:
        """Heading, and a line for each kind of call: those of one label and way together, the longest first.

        "% of roofline" is how much of the time they would take at the peak of arithmetic or memory (`bound`).
        """
        lines = [["ms", "calls", "%", "GFLOP/s", "% of peak", "GB/s", "% of roofline", "way", "kernel"]]
        for (label, way), group in self._groups()[:rows]:
            seconds = sum(k.seconds for k in group) or 1e-9
            flops, moved = sum(k.flops for k in group) / seconds, sum(k.bytes for k in group) / seconds
            lines.append(
                [
                    f"{seconds * 1e3:.3f}",
                    str(len(group)),
                    f"{100 * seconds / max(self.seconds, 1e-9):.1f}",
                    f"{flops / 1e9:.1f}" if flops else "-",
                    f"{100 * flops / self.peak_flops:.0f}" if flops else "-",
                    f"{moved / 1e9:.1f}",
                    f"{100 * sum(self.bound(k) for k in group) / seconds:.0f}",
                    way or "-",
                    label,
                ]
            )
        return lines

    def _groups(self) -> list[tuple[tuple[str, str], list[Kernel]]]:
        groups: dict[tuple[str, str], list[Kernel]] = {}
        for kernel in self.kernels:
            groups.setdefault((kernel.label, kernel.way), []).append(kernel)
        return sorted(groups.items(), key=lambda g: -sum(k.seconds for k in g[1]))

    def reasons(self) -> list[str]:
        """Lines: for each kind of contraction, what it was not computed by and why, with the number of such calls."""
        lines = []
        for (label, way), group in self._groups():
            counts = Counter(refusal for kernel in group for refusal in kernel.refused)
            if counts:
                lines.append(f"{label}, {way}:")
                lines += [f"  not {name}, {why} ({n} of {len(group)})" for (name, why), n in counts.most_common()]
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return {
            "ms": round(self.seconds * 1e3, 4),
            "peak_gflops": round(self.peak_flops / 1e9, 1),
            "peak_gbytes": round(self.peak_bytes / 1e9, 1),
            "arena_bytes": self.arena_bytes,
            "kernels": [{**asdict(k), "bound_seconds": self.bound(k)} for k in self.kernels],
        }

    def save_trace(self, path: str | os.PathLike[str]) -> None:
        """Writes a trace that chrome://tracing and ui.perfetto.dev show: one bar a kernel."""
        events, at = [], 0.0
        for kernel in self.kernels:
            args = {"kind": kernel.kind, "way": kernel.way, "flops": kernel.flops, "bytes": kernel.bytes}
            events.append(
                {"name": kernel.label, "ph": "X", "ts": at * 1e6, "dur": kernel.seconds * 1e6, "pid": 1, "tid": 1}
                | {"args": args}
            )
            at += kernel.seconds
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"traceEvents": events, "displayTimeUnit": "ms"}, file)

    def __str__(self) -> str:
        lines = self.table()
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]) - 1)]
        text = ["  ".join([*(c.rjust(w) for c, w in zip(line, widths, strict=False)), line[-1]]) for line in lines]
        peak = f"measured peak {self.peak_flops / 1e9:.0f} GFLOP/s, {self.peak_bytes / 1e9:.1f} GB/s"
        head = f"{self.seconds * 1e3:.3f} ms in {len(self.kernels)} kernels on one thread; {peak}"
        return "\n".join([head, *text])


def profile(step: Any, *args: Any, repeat: int = 5, **kwargs: Any) -> Profile:
    """Runs a compiled step and times each of its kernels, on one thread.

    The step really runs, with all it does to parameters and states: once to capture it where that has not happened, and
    `repeat` times for measuring. Of each kernel the shortest time counts.

    Args:
        step: what `jj.compile` returned.
        args, kwargs: its arguments.
        repeat: how many runs are measured.

    Raises:
        TypeError: `step` is not compiled. ValueError: `repeat` below 1.

    >>> import juanji as jj
    >>> step = jj.compile(lambda a, b: (a @ b).relu())
    >>> measured = profile(step, jj.ones(64, 64), jj.ones(64, 64))
    >>> sum(k.flops for k in measured.kernels)
    524288
    >>> str(measured).splitlines()[1].split()
    ['ms', 'calls', '%', 'GFLOP/s', '%', 'of', 'peak', 'GB/s', '%', 'of', 'roofline', 'way', 'kernel']
    """
    if not hasattr(step, "plans"):
        raise TypeError(f"profile takes a step that jj.compile returned, not {type(step).__name__}")
    if not isinstance(repeat, int) or repeat < 1:
        raise ValueError(f"profile: repeat={repeat!r} must be at least 1")
    step(*args, **kwargs)
    seconds: dict[int, float] = {}
    with _timed(step.plans, seconds) as ran:
        for _ in range(repeat):
            step(*args, **kwargs)
    plan: Plan = ran[-1]
    kernels = [
        Kernel(
            call.label,
            type(call.spec).__name__.removesuffix("Spec").lower(),
            seconds[i],
            call.flops,
            sum(buffer.nbytes for buffer in set(call.buffers())),
            call.algorithm,
            tile(call.spec, plan.target),
            call.refused,
        )
        for i, call in enumerate(plan.calls)
        if i in seconds
    ]
    return Profile(kernels, *machine_peaks(current()), plan.arena_bytes)


def tile(spec: Any, target: Target) -> str:
    """The outputs that a contraction's kernel keeps in registers: pixels x vectors of channels."""
    if isinstance(spec, ContractSpec):
        return f"{spec.rows(target)}x{spec.vectors if spec.full else spec.tail}"
    return f"{spec.tile(target)}x1" if isinstance(spec, DepthwiseSpec) else ""


@contextmanager
def _timed(plans: list[Plan], seconds: dict[int, float]) -> Iterator[list[Plan]]:
    """Plans run kernel by kernel; the least time of each goes to `seconds`, by position."""
    ran: list[Plan] = []

    def run(plan: Plan) -> None:
        if ran and ran[-1] is not plan:
            seconds.clear()
        ran.append(plan)
        clock = time.perf_counter
        for i in range(plan.steady, len(plan.calls)):
            begin = clock()
            plan._run(plan._table_address + 24 * i, 1)
            seconds[i] = min(seconds.get(i, float("inf")), clock() - begin)

    before = [plan._schedule.run for plan in plans]
    for plan in plans:
        plan._schedule.run = functools.partial(run, plan)
    try:
        yield ran
    finally:
        for plan, old in zip(plans, before, strict=True):
            plan._schedule.run = old


@functools.lru_cache(maxsize=8)
def machine_peaks(target: Target) -> tuple[float, float]:
    """Floating point operations and bytes a second of one core: multiply-adds on registers; a copy of 64 MiB."""
    spec, steps = PeakSpec("f32"), 200_000
    scratch = np.zeros(64, np.float32)
    aligned = scratch.__array_interface__["data"][0] + 63 & ~63
    arguments = np.array([aligned, steps], np.int64)
    row = np.array([jit.addresses([spec], target)[0], arguments.__array_interface__["data"][0], 1], np.int64)
    run = runner(target)
    fastest = _least(lambda: run(row.__array_interface__["data"][0], 1))
    source = np.ones(1 << 24, np.float32)
    into = np.zeros_like(source)
    copying = _least(lambda: np.copyto(into, source))
    return spec.flops(target) * steps / fastest, 2 * source.nbytes / copying


def _least(function: Any) -> float:
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - begin)
    return best
