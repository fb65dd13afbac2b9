"""How fast are convolutions and their two gradients on the layers of real networks, compared with PyTorch?

Juanji is measured in two ways: the kernel calls as they run inside a network (images channels-last on both sides,
weights packed anew, a weight gradient copied out to its usual order), raced against the better of PyTorch's two
layouts; and one whole eager call on NCHW tensors, raced against PyTorch's NCHW. PyTorch runs with its default
allocator and with glibc told to keep freed memory. All with batches of 8.

    python benchmarks/conv_layers.py [--quick] [--threads N] [--layer N ...]
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import problems
import race
from problems import Problem

LAYERS = (
    Problem(8, 64, (56, 56), 64, (3, 3), padding=1),
    Problem(8, 128, (28, 28), 128, (3, 3), padding=1),
    Problem(8, 256, (14, 14), 256, (3, 3), padding=1),
    Problem(8, 512, (7, 7), 512, (3, 3), padding=1),
    Problem(8, 64, (56, 56), 128, (3, 3), stride=2, padding=1),
    Problem(8, 128, (28, 28), 256, (3, 3), stride=2, padding=1),
    Problem(8, 256, (14, 14), 512, (3, 3), stride=2, padding=1),
    Problem(8, 256, (56, 56), 64, (1, 1)),
    Problem(8, 64, (56, 56), 256, (1, 1)),
    Problem(8, 1024, (14, 14), 256, (1, 1)),
    Problem(8, 3, (224, 224), 64, (7, 7), stride=2, padding=3),
    Problem(8, 144, (56, 56), 144, (3, 3), padding=1, groups=144),
    Problem(8, 144, (56, 56), 144, (3, 3), stride=2, padding=1, groups=144),
    Problem(8, 672, (14, 14), 672, (5, 5), padding=2, groups=672),
    Problem(8, 128, (56, 56), 128, (3, 3), padding=1, groups=32),
    Problem(8, 64, (16000,), 64, (9,), padding=4),
    Problem(8, 32, (16, 28, 28), 64, (3, 3, 3), padding=1),
    Problem(8, 32, (56, 56), 64, (4, 4), stride=2, padding=1, transposed=True),
)


def measure(quick: bool = False, layers: list[int] | None = None, threads: int = 1) -> dict[str, Any]:
    """GFLOP/s of every layer, direction and way, and Juanji's against the better of PyTorch's."""
    team = problems.workers(__file__, threads)
    rest = race.REST / 4 if threads > 1 else 0.0
    result: dict[str, Any] = {"threads": threads, "rows": []}
    for index in layers if layers is not None else range(len(LAYERS)):
        layer = LAYERS[index]
        for direction in problems.DIRECTIONS:
            asked = problems.tasks(team, layer, direction, ("inside", "eager"))
            times = race.race(asked, 3 if quick else 7, 0.03 if quick else 0.1, rest)
            rates = {name: layer.operations / statistics.median(t) / 1e9 for name, t in times.items()}
            row: dict[str, Any] = {"layer": str(layer), "direction": direction, "rates": rates}
            peers = {name: t for name, t in times.items() if not name.startswith("Juanji")}
            for way, column in (("inside", ""), ("eager", "nchw")):
                rivals = {name: t for name, t in peers.items() if column in name}
                if rivals:
                    # The better layout is taken with each allocator, then the better allocator.
                    best = min(rivals, key=lambda name: statistics.median(rivals[name]))
                    row[way] = {"against": best, "ratio": race.speedup(times[f"Juanji {way}"], rivals[best])}
            result["rows"].append(row)
            race.note(
                f"{layer}, {direction}: "
                + ", ".join(f"{n} {r:.0f}" for n, r in rates.items())
                + (f" GFLOP/s; {row['inside']['ratio']:.2f}x, eager {row['eager']['ratio']:.2f}x" if peers else "")
            )
    for worker in team.values():
        worker.close()
    return result


def losses(result: dict[str, Any]) -> list[str]:
    """Where PyTorch is faster."""
    names = {"inside": "inside a network", "eager": "one eager call on NCHW"}
    number = result.get("threads", 1)
    on = "" if number == 1 else f" on {number} threads"
    return [
        f"Convolution {row['layer']}, {row['direction']}, {name}{on}: {row[way]['ratio']:.2f}x of "
        f"{row[way]['against']}."
        for way, name in names.items()
        for row in result["rows"]
        if way in row and row[way]["ratio"] < 1
    ]


def markdown(result: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    columns = list(dict.fromkeys(name for row in result["rows"] for name in row["rates"]))
    head = ["convolution, batch 8, GFLOP/s", "direction", *columns, "inside, ratio", "eager, ratio"]
    rows = []
    for row in result["rows"]:
        ratios = [f"{row[way]['ratio']:.2f}x" if way in row else "" for way in ("inside", "eager")]
        rates = [f"{row['rates'][c]:.0f}" if c in row["rates"] else "" for c in columns]
        rows.append([row["layer"], row["direction"], *rates, *ratios])
    number = result.get("threads", 1)
    on = "one thread" if number == 1 else f"{number} threads"
    return (
        f"## Convolutions, {on}\n\n{' '.join((__doc__ or '').split('    ')[0].split())}\n\n{race.table(head, rows)}\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few short rounds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layer", type=int, action="append", help="only these, from 0")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        problems.work(given.worker)
    else:
        measured = measure(given.quick, given.layer, given.threads)
        print(markdown(measured))
        print("\n".join(losses(measured)))
