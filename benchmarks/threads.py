"""What do two threads bring? ResNet-like convolutions and LeNet training steps, on one thread and on two.

Every number stands beside what the processors themselves give at the same time: how many times more multiply-adds, and
how many times more copied bytes, two processes do than one. Both are measured again in every short round between the
runs on one thread and on two, and medians of the ratios are given: two virtual processors may be threads of one core,
or far apart, or busy with something else, and that changes within seconds. The cost of sharing one kernel is printed,
too. "Possible" is what the division of the work allows: pieces timed one by one on one thread, handed out as the team
does it. At the end the LeNet step is measured beside a process that keeps one processor busy.

    python benchmarks/threads.py [--quick] [--threads N] [--layer N ...] [--part convolutions|lenet]
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import conv_layers
import lenet_step
import problems
import race

BATCHES = (4, 16, 64, 256)
#: How many times the multiply-adds of one process two of them do at least while nobody else computes.
IDLE = 1.95
#: The first layers of `conv_layers` are those of residual networks.
RESNET = 11
#: What two threads should bring where the processors themselves do twice as much.
AIM = 1.85
Times = dict[int, list[list[float]]]


# -- what the processors give -----------------------------------------------------------------------------------------
def _load(pipe: Any) -> None:
    """Multiplies matrices that fit the cache, or copies memory that does not, when told; answers how often a second."""
    import numpy as np

    import juanji as jj

    jj.set_num_threads(1)
    a = jj.rand(192, 192)
    step = jj.compile(lambda x: x @ x)
    source, copy = (np.ones(8 * 2**20, np.float32) for _ in range(2))
    ways: dict[str, Callable[[], Any]] = {"fma": lambda: step(a), "copy": lambda: np.copyto(copy, source)}
    for work in ways.values():
        for _ in range(20):
            work()
    pipe.send("ready")
    while True:
        try:
            kind, begin, seconds = pipe.recv()
        except EOFError:
            return
        work, count, now = ways[kind], 0, 0.0
        while time.monotonic() < begin:
            work()
        begin = time.monotonic()
        while now < begin + seconds:
            work()
            count, now = count + 1, time.monotonic()
        pipe.send(count / (now - begin))


class Processors:
    """Processes that wait, and work when the processors are to be measured."""

    def __init__(self, number: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes = []
        for _ in range(number):
            here, there = context.Pipe()
            context.Process(target=_load, args=(there,), daemon=True).start()
            self._pipes.append(here)
        for pipe in self._pipes:
            pipe.recv()

    def __len__(self) -> int:
        return len(self._pipes)

    def _rate(self, kind: str, pipes: list[Any], seconds: float) -> float:
        begin = time.monotonic() + 0.003  # all are warm and awake by then
        for pipe in pipes:
            pipe.send((kind, begin, seconds))
        return float(sum(pipe.recv() for pipe in pipes))

    def scaling(self, kind: str, seconds: float = 0.015) -> float:
        """How many times the work of one process all of them do at once: each alone, and all before and after."""
        together = self._rate(kind, self._pipes, seconds)
        alone = [self._rate(kind, [pipe], seconds) for pipe in self._pipes]
        together += self._rate(kind, self._pipes, seconds)
        return together / 2 / statistics.mean(alone)


# -- what is measured -------------------------------------------------------------------------------------------------
def alternating(run: Callable[[], Any], threads: int, rounds: int, slice_seconds: float) -> Times:
    """Seconds of each run, in turns of one thread and several: {threads: a list for each round}."""
    import juanji as jj

    times: Times = {1: [], threads: []}
    for _ in range(rounds):
        for number, found in times.items():
            jj.set_num_threads(number)
            for _ in range(18):  # past the trial
                run()
            taken: list[float] = []
            while sum(taken) < slice_seconds:
                begin = time.perf_counter()
                run()
                taken.append(time.perf_counter() - begin)
            found.append(taken)
    return times


def gain(times: Times, threads: int) -> float:
    """How many times faster several threads are: the median over rounds of the ratio of medians."""
    pairs = zip(times[1], times[threads], strict=True)
    return statistics.median(statistics.median(one) / statistics.median(several) for one, several in pairs)


def seconds_of(run: Callable[[], Any], count: int) -> float:
    """The mean time of some runs after one that does not count."""
    run()
    begin = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - begin) / count


def convolution(layer: Any, direction: str, processors: Processors, rounds: int) -> dict[str, Any]:
    """One convolution on one thread and on several, and what the processors give, in turns."""
    plan, tensors = problems.plan_inside(layer, direction)
    pointers = [t.__array_interface__["data"][0] for t in tensors]
    for _ in range(3):
        plan.run(pointers, ())
    schedule = plan._schedule
    found: dict[str, list[float]] = {"one": [], "gain": [], "fma": [], "copy": []}
    count = max(1, int(0.015 / seconds_of(schedule._serial, 1)))
    for _ in range(rounds):
        for kind in ("fma", "copy"):
            found[kind].append(processors.scaling(kind))
        before, several = seconds_of(schedule._serial, count), seconds_of(schedule._together, 2 * count)
        found["one"].append((before + seconds_of(schedule._serial, count)) / 2)
        found["gain"].append(found["one"][-1] / several)
    row: dict[str, Any] = {name: statistics.median(values) for name, values in found.items()}
    pairs = list(zip(found["gain"], found["fma"], found["copy"], strict=True))
    row["of_fma"] = statistics.median(2 * g / f for g, f, _ in pairs)
    row["of_slower"] = statistics.median(2 * g / min(f, c) for g, f, c in pairs)
    row["idle"] = [g for g, f, _ in pairs if f > IDLE]
    row["possible"] = possible(plan, len(processors))
    row["what"], row["barrier_us"] = f"{layer}, {direction}", barrier()
    return row


def possible(plan: Any, threads: int, rounds: int = 5) -> float:
    """How many times faster the division of a plan's work lets it be: every piece is timed alone, in processor time,
    and each goes to the thread that is free first.
    """
    schedule = plan._schedule
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    rows = [(kernel(int(f)), int(args), int(chunks)) for f, args, chunks in schedule._table[: schedule._count]]
    shared = [int(n) for n in schedule.shared[: schedule._count]]
    best = [[float("inf")] * n for n in shared]
    for _ in range(rounds):
        for (function, args, chunks), times in zip(rows, best, strict=True):
            for i in range(len(times)):
                begin = time.thread_time()
                function(args, i * chunks // len(times), (i + 1) * chunks // len(times))
                times[i] = min(times[i], time.thread_time() - begin)
    ended = 0.0
    for times in best:
        free = [0.0] * threads
        for seconds in times:
            first = free.index(min(free))
            free[first] += seconds
        ended += max(free)
    return sum(map(sum, best)) / ended


def barrier() -> float:
    """Microseconds it costs to share one kernel."""
    from juanji import target
    from juanji.runtime import team

    seconds = team.barrier_seconds(target.current())
    return float("nan") if seconds is None else seconds * 1e6


def lenet(batch: int) -> tuple[Callable[[], Any], Any]:
    """A compiled training step, and its plan's schedule."""
    import juanji as jj
    import juanji.nn.functional as F
    from juanji import optim

    steps: list[Any] = []

    def compiled(step: Any) -> Any:
        steps.append(jj.compile(step))
        return steps[0]

    jj.manual_seed(0)
    run = lenet_step.torch_like(jj, optim, F, compiled, batch)
    for _ in range(20):  # past the captures that are checked
        run()
    return run, steps[0].plans[0]._schedule


def measure(
    quick: bool = False, threads: int = 2, layers: list[int] | None = None, part: str | None = None
) -> dict[str, Any]:
    """All of it, or only the `part` and `layers`."""
    import juanji as jj
    from juanji.runtime import schedule

    jj.set_num_threads(threads)
    rounds, slice_seconds = (3, 0.1) if quick else (7, 0.4)
    result: dict[str, Any] = {"threads": threads, "barrier_before_us": barrier(), "convolutions": [], "lenet": []}
    result["load_before"] = os.getloadavg()[0]
    if part != "lenet":
        processors = Processors(threads)
        for index in layers if layers is not None else range(RESNET):
            layer = conv_layers.LAYERS[index]
            for direction in problems.DIRECTIONS:
                if layer.ins == 3 and direction == "input gradient":
                    continue  # nobody needs the gradient of a picture
                row = convolution(layer, direction, processors, 5 if quick else 25)
                result["convolutions"].append(row)
                race.note(
                    f"{row['what']}: {row['one'] * 1e3:.2f} ms, {row['gain']:.2f}x of {row['possible']:.2f}x; "
                    f"processors {row['fma']:.2f}x, {row['copy']:.2f}x; {row['of_fma']:.2f}x"
                )
    for batch in BATCHES if part != "convolutions" else ():
        run, plan = lenet(batch)
        for busy in (False, True):
            neighbour = multiprocessing.get_context("spawn").Process(target=_forever, daemon=True)
            if busy:
                neighbour.start()
                time.sleep(0.5)
            times = alternating(run, threads, rounds, slice_seconds)
            jj.set_num_threads(threads)
            for _ in range(18):
                run()
            row = {"what": f"batch {batch}", "busy": busy, "gain": gain(times, threads), "barrier_us": barrier()}
            row["way"] = schedule.describe(plan)
            for number, key in ((1, "one"), (threads, "several")):
                taken = [t for group in times[number] for t in group]
                row[key] = {
                    "median_us": statistics.median(taken) * 1e6,
                    "mean_us": statistics.mean(taken) * 1e6,
                    "longest_of_median": max(taken) / statistics.median(taken),
                }
            if busy:
                neighbour.kill()
                neighbour.join()
            result["lenet"].append(row)
            race.note(f"LeNet {row}")
    result["barrier_after_us"], result["load_after"] = barrier(), os.getloadavg()[0]
    return result


def _forever() -> None:
    while True:
        pass


def losses(result: dict[str, Any]) -> list[str]:
    """Where threads bring less than they should."""
    found = [
        f"{row['what']} on {result['threads']} threads: {row['of_slower']:.2f}x where the processors would allow 2x"
        for row in result["convolutions"]
        if row["of_slower"] < AIM
    ]
    for row in result["lenet"]:
        where = f"LeNet, {row['what']}{', beside a busy process' if row['busy'] else ''}"
        if row["gain"] < 0.98:
            found.append(f"{where}: {row['gain']:.2f}x on {result['threads']} threads")
        if row["busy"] and row["several"]["longest_of_median"] > 3:
            found.append(f"{where}: longest step {row['several']['longest_of_median']:.1f} times the median")
    return found


def markdown(result: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    threads = result["threads"]
    rows = [
        [
            row["what"], f"{row['one'] * 1e3:.2f}", f"{row['gain']:.2f}x", f"{row['possible']:.2f}x",
            f"{statistics.median(row['idle']):.2f}x ({len(row['idle'])})" if row["idle"] else "",
            f"{row['fma']:.2f}x", f"{row['copy']:.2f}x", f"{row['of_fma']:.2f}x", f"{row['of_slower']:.2f}x",
        ]
        for row in result["convolutions"]
    ]  # fmt: skip
    head = ["convolution, batch 8", "one thread, ms", f"{threads} threads", "possible",
            "in (n) rounds with idle processors", "processors, multiply-adds", "processors, copying",
            "as if multiply-adds doubled", "as if the slower of the two doubled"]  # fmt: skip
    steps = []
    for row in result["lenet"]:
        one, several = row["one"], row["several"]
        steps.append([
            row["what"], "yes" if row["busy"] else "no", f"{one['median_us']:.0f}", f"{several['median_us']:.0f}",
            f"{row['barrier_us']:.2f}", f"{row['gain']:.2f}x", f"{one['mean_us'] / several['mean_us']:.2f}x",
            f"{one['longest_of_median']:.1f}", f"{several['longest_of_median']:.1f}", row["way"],
        ])  # fmt: skip
    titles = ["LeNet step", "busy neighbour", "one thread, µs", f"{threads} threads, µs", "barrier, µs", "faster",
              "faster (means)", "longest / median, one", "longest / median, several",
              "way chosen at the end"]  # fmt: skip
    tables = [race.table(*table) for table in ((head, rows), (titles, steps)) if table[1]]
    return (
        f"## {threads} threads\n\n{' '.join((__doc__ or '').split('    ')[0].split())}\n\n"
        f"Sharing a kernel costs {result['barrier_before_us']:.2f} µs before and {result['barrier_after_us']:.2f} µs "
        f"after these measurements; the load average was {result['load_before']:.2f} and {result['load_after']:.2f}."
        f"\n\n{(chr(10) * 2).join(tables)}\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few short rounds")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layer", type=int, action="append", help="only these convolutions, from 0")
    parser.add_argument("--part", choices=("convolutions", "lenet"), help="only these measurements")
    given = parser.parse_args()
    print(markdown(measure(given.quick, given.threads, given.layer, given.part)))
