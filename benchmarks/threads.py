"""What do two threads bring? ResNet-like convolutions and LeNet training steps, on one thread and on two.

Every number stands beside what the processors themselves give in the same minute: how many times more multiply-adds,
and how many times more copied bytes, two processes do than one. Two virtual processors may be threads of one core,
or far apart, and that changes; the cost of sharing one kernel is printed too. At the end the LeNet step is measured
beside a process that keeps one processor busy.

    python benchmarks/threads.py [--quick] [--threads N]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any

import conv_layers
import lenet_step
import race

BATCHES = (4, 16, 64, 256)
Times = dict[int, list[list[float]]]


# -- what the processors give -----------------------------------------------------------------------------------------
def _load(kind: str, seconds: float, ready: Any, results: Any) -> None:
    """Multiplies matrices that fit the cache, or copies memory that does not; puts how often per second."""
    import numpy as np

    import juanji as jj

    jj.set_num_threads(1)
    if kind == "fma":
        a = jj.rand(192, 192)
        step = jj.compile(lambda x: x @ x)
        work: Callable[[], Any] = lambda: step(a)  # noqa: E731
    else:
        source, copy = np.ones(8 * 2**20, np.float32), np.ones(8 * 2**20, np.float32)
        work = lambda: np.copyto(copy, source)  # noqa: E731
    for _ in range(20):
        work()
    ready.wait()
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        work()
        count += 1
    results.put(count / (time.perf_counter() - begin))


def processors(threads: int, seconds: float) -> dict[str, float]:
    """How many times the work of one process several do at once: multiply-adds, and copied bytes."""
    context = multiprocessing.get_context("spawn")
    found = {}
    for kind in ("fma", "copy"):
        rates = []
        for number in (1, threads, 1, threads):
            ready, results = context.Barrier(number), context.Queue()
            group = [context.Process(target=_load, args=(kind, seconds, ready, results)) for _ in range(number)]
            for process in group:
                process.start()
            rates.append(sum(results.get(timeout=60) for _ in group))
            for process in group:
                process.join()
        found[kind] = max(rates[1], rates[3]) / max(rates[0], rates[2])
    return found


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


def measure(quick: bool, threads: int) -> dict[str, Any]:
    """All of it."""
    import juanji as jj
    from juanji.runtime import schedule

    jj.set_num_threads(threads)
    rounds, slice_seconds = (3, 0.1) if quick else (7, 0.4)
    result: dict[str, Any] = {"threads": threads, "barrier_before_us": barrier(), "convolutions": [], "lenet": []}
    result["processors"] = processors(threads, 0.3 if quick else 1.0)
    race.note(f"processors: {result['processors']}, barrier {result['barrier_before_us']:.2f} us")
    layers = conv_layers.LAYERS[:4:3] if quick else conv_layers.LAYERS
    for layer in layers:
        for direction in conv_layers.DIRECTIONS:
            jj.set_num_threads(threads)
            run = conv_layers.juanji_inside(layer, direction)
            times = alternating(run, threads, rounds, slice_seconds)
            row = {"what": f"{layer}, {direction}", "gain": gain(times, threads), "barrier_us": barrier()}
            row["one_ms"] = statistics.median(statistics.median(t) for t in times[1]) * 1e3
            result["convolutions"].append(row)
            race.note(f"{row['what']}: {row['one_ms']:.2f} ms, {row['gain']:.2f}x")
    for batch in BATCHES:
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
    result["barrier_after_us"] = barrier()
    return result


def _forever() -> None:
    while True:
        pass


def markdown(result: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    threads = result["threads"]
    fma, copy = result["processors"]["fma"], result["processors"]["copy"]
    rows = [
        [row["what"], f"{row['one_ms']:.2f}", f"{row['gain']:.2f}x", f"{2 * row['gain'] / fma:.2f}x"]
        for row in result["convolutions"]
    ]
    head = ["convolution, batch 8", "one thread, ms", f"{threads} threads", "as if multiply-adds doubled"]
    steps = []
    for row in result["lenet"]:
        one, several = row["one"], row["several"]
        steps.append([
            row["what"], "yes" if row["busy"] else "no", f"{one['median_us']:.0f}", f"{several['median_us']:.0f}",
            f"{row['gain']:.2f}x", f"{one['mean_us'] / several['mean_us']:.2f}x",
            f"{one['longest_of_median']:.1f}", f"{several['longest_of_median']:.1f}", row["way"],
        ])  # fmt: skip
    titles = ["LeNet step", "busy neighbour", "one thread, µs", f"{threads} threads, µs", "faster", "faster (means)",
              "longest / median, one", "longest / median, several", "way chosen at the end"]  # fmt: skip
    return (
        f"## {threads} threads\n\n"
        f"Two processes at once do {fma:.2f} times the multiply-adds of one, and copy {copy:.2f} times the bytes. "
        f"Sharing a kernel costs {result['barrier_before_us']:.2f} µs before and {result['barrier_after_us']:.2f} µs "
        f"after these measurements.\n\n{race.table(head, rows)}\n\n{race.table(titles, steps)}\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few short rounds")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    print(markdown(measure(given.quick, given.threads)))
