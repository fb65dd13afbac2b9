"""Is there a convolution on which Juanji falls behind PyTorch? A sweep over random problems.

Ranks 1 to 3, channels 1 to 1,024, kernels 1 to 7, strides, dilations, groups, batches of 1 to 64, from a fixed seed;
the directions take turns. Juanji's kernel calls as inside a network are raced against the better of PyTorch's layouts
and allocators. Problems that take the better of them less than 20 µs are left out: there the calls cost more than the
work. The worst are listed with what their time goes to.

    python benchmarks/random_problems.py [--quick] [--threads N] [--count N]
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import random
import statistics
from collections.abc import Iterator
from typing import Any

import problems
import race
from problems import Problem

COUNT, QUICK_COUNT, WORST = 300, 60, 10
#: What a random problem has at most: operations, and bytes of its three tensors.
OPERATIONS, BYTES = 2_000_000_000, 100_000_000
SHORTEST = 20e-6
RANGES = ((0.0, 0.6), (0.6, 0.8), (0.8, 1.0), (1.0, 1.25), (1.25, 2.0), (2.0, 4.0), (4.0, math.inf))


def generate(seed: int = 1) -> Iterator[tuple[Problem, str]]:
    """Problems with a direction each, without end."""
    draw = random.Random(seed)

    def upto(most: int) -> int:
        """1 to `most`, every doubling as likely as the others."""
        return min(most, int(2 ** draw.uniform(0, math.log2(most) + 1)))

    number = 0
    while True:
        rank = draw.choice((1, 2, 2, 2, 3))
        ins, outs, groups = upto(1024), upto(1024), 1
        kind = draw.random()
        if kind < 0.15:  # depthwise
            groups = outs = ins
        elif kind < 0.3:
            groups = draw.choice((2, 4, 8, 32))
            ins, outs = -(-ins // groups) * groups, -(-outs // groups) * groups
        kernel = draw.choice((1, 2, 3, 3, 3, 4, 5, 7))
        dilation = draw.choice((1, 1, 1, 2)) if kernel > 1 else 1
        extent = {1: 8192, 2: 256, 3: 48}[rank]
        problem = Problem(
            upto(64),
            ins,
            (upto(extent),) * rank,
            outs,
            (kernel,) * rank,
            draw.choice((1, 1, 2, 3)),
            draw.choice((0, dilation * (kernel - 1) // 2)),
            dilation,
            groups,
        )
        if min(problem.out) < 1 or problem.operations > OPERATIONS or problem.bytes > BYTES:
            continue
        if problem.operations < 200_000:  # certainly too short
            continue
        yield problem, problems.DIRECTIONS[number % 3]
        number += 1


def measure(quick: bool = False, count: int | None = None, threads: int = 1) -> dict[str, Any]:
    """The ratio of every problem, the distribution of ratios, and the worst problems with reasons."""
    team = problems.workers(__file__, threads)
    rest = race.REST / 4 if threads > 1 else 0.0
    rows: list[dict[str, Any]] = []
    result: dict[str, Any] = {"threads": threads, "rows": rows, "worst": [], "left_out": 0}
    wanted = count or (QUICK_COUNT if quick else COUNT)
    if len(team) == 1:
        return result
    for problem, direction in generate():
        if len(rows) == wanted:
            break
        times = race.race(problems.tasks(team, problem, direction, ("inside",)), 3 if quick else 5, 0.01, rest)
        # Disturbances only add: the least of a few turns is nearest to what a problem takes by itself.
        peers = {name: min(t) for name, t in times.items() if not name.startswith("Juanji")}
        best = min(peers, key=lambda name: peers[name])
        if peers[best] < SHORTEST:
            result["left_out"] += 1
            continue
        ratio = peers[best] / min(times["Juanji inside"])
        fields = dataclasses.asdict(problem)
        rows.append({"problem": fields, "direction": direction, "against": best, "ratio": ratio})
        race.note(f"{len(rows)}: {problem}, batch {problem.images}, {direction}: {ratio:.2f}x of {best}")
    for row in sorted(rows, key=lambda row: row["ratio"])[:WORST]:
        asked = {"problem": row["problem"], "direction": row["direction"], "way": "reason"}
        result["worst"].append({**row, "reason": team["Juanji"].ask(**asked)["reason"]})
    for worker in team.values():
        worker.close()
    return result


def losses(result: dict[str, Any]) -> list[str]:
    """How many random problems PyTorch does faster."""
    slower, number = sum(row["ratio"] < 1 for row in result["rows"]), result.get("threads", 1)
    on = "" if number == 1 else f" on {number} threads"
    return [f"{slower} of {len(result['rows'])} random convolutions{on}; the worst are listed."] if slower else []


def markdown(result: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    number = result.get("threads", 1)
    on = "one thread" if number == 1 else f"{number} threads"
    text = f"## Random convolutions, {on}\n\n{' '.join((__doc__ or '').split('    ')[0].split())}\n\n"
    if not result["rows"]:
        return text + "PyTorch was not there to be raced.\n"
    names = [f"under {RANGES[0][1]}x", *(f"{a} to {b}x" for a, b in RANGES[1:-1]), f"{RANGES[-1][0]}x and more"]
    lines = []
    for which in ("all", *problems.DIRECTIONS):
        ratios = [row["ratio"] for row in result["rows"] if which in ("all", row["direction"])]
        shares = [sum(low <= r < high for r in ratios) for low, high in RANGES]
        middle = f"{statistics.geometric_mean(ratios):.2f}x" if ratios else ""
        lines.append([which, str(len(ratios)), middle, *map(str, shares)])
    text += f"{result['left_out']} problems were left out. How many of the others have which ratio:\n\n"
    text += race.table(["direction", "problems", "geometric mean", *names], lines)
    head = ["the worst", "batch", "direction", "ratio", "where the time goes"]
    rows = [
        [str(p), str(p.images), row["direction"], f"{row['ratio']:.2f}x", row["reason"]]
        for row in result["worst"]
        for p in (Problem.of(row["problem"]),)
    ]
    return f"{text}\n\n{race.table(head, rows)}\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_COUNT} problems, few turns")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--count", type=int, help="this many problems")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        problems.work(given.worker)
    else:
        measured = measure(given.quick, given.count, given.threads)
        print(markdown(measured))
        print("\n".join(losses(measured)))
