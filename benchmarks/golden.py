"""Which algorithm and register tile does each convolution of a representative set get?

The choices follow from shapes and from the target by short cost models, and are pinned in tests/compiler/golden.json,
so that a change of a model shows what else it changes. `--write` accepts the choices as they are now.

    python benchmarks/golden.py [--write]
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

import problems
import race
from problems import Problem

#: Pinned for these, whatever processor this is.
TARGETS = ("avx512", "avx2")
FILE = race.ROOT / "tests" / "compiler" / "golden.json"
PROBLEMS = (
    # Residual networks
    Problem(2, 64, (56, 56), 64, (3, 3), padding=1),
    Problem(2, 128, (28, 28), 128, (3, 3), padding=1),
    Problem(2, 512, (7, 7), 512, (3, 3), padding=1),
    Problem(2, 64, (56, 56), 128, (3, 3), stride=2, padding=1),
    Problem(2, 256, (14, 14), 512, (3, 3), stride=2, padding=1),
    Problem(2, 64, (56, 56), 128, (1, 1), stride=2),
    Problem(2, 256, (56, 56), 64, (1, 1)),
    Problem(2, 64, (56, 56), 256, (1, 1)),
    Problem(1, 1024, (14, 14), 2048, (1, 1)),
    Problem(1, 3, (224, 224), 64, (7, 7), stride=2, padding=3),
    # VGG, AlexNet
    Problem(1, 3, (224, 224), 64, (3, 3), padding=1),
    Problem(1, 3, (224, 224), 64, (11, 11), stride=4, padding=2),
    Problem(2, 64, (27, 27), 192, (5, 5), padding=2),
    # Depthwise and narrow layers
    Problem(1, 3, (224, 224), 32, (3, 3), stride=2, padding=1),
    Problem(2, 32, (112, 112), 32, (3, 3), padding=1, groups=32),
    Problem(2, 144, (56, 56), 144, (3, 3), stride=2, padding=1, groups=144),
    Problem(2, 672, (14, 14), 672, (5, 5), padding=2, groups=672),
    Problem(2, 144, (56, 56), 24, (1, 1)),
    Problem(2, 16, (56, 56), 96, (1, 1)),
    Problem(2, 128, (28, 28), 128, (3, 3), padding=1, groups=32),
    Problem(2, 64, (28, 28), 64, (3, 3), padding=1, groups=2),
    # LeNet, single channels, heads
    Problem(4, 1, (28, 28), 6, (3, 3)),
    Problem(4, 6, (13, 13), 16, (3, 3)),
    Problem(4, 16, (10, 10), 1, (3, 3), padding=1),
    Problem(2, 256, (56, 56), 2, (1, 1)),
    # Few pixels, dilation, large kernels
    Problem(2, 16, (5, 5), 120, (5, 5)),
    Problem(1, 512, (4, 4), 128, (4, 4)),
    Problem(2, 48, (33, 33), 40, (3, 3), padding=2, dilation=2),
    Problem(2, 32, (40, 40), 32, (7, 7), padding=3),
    # Other ranks, transposed
    Problem(2, 64, (4000,), 64, (9,), padding=4),
    Problem(2, 1, (8000,), 32, (7,), stride=2),
    Problem(1, 32, (8, 28, 28), 64, (3, 3, 3), padding=1),
    Problem(2, 32, (56, 56), 64, (4, 4), stride=2, padding=1, transposed=True),
    Problem(2, 3, (64, 64), 16, (4, 4), stride=2, padding=1, transposed=True),
)


def choices() -> dict[str, list[str]]:
    """Of every problem, for forward, input gradient and weight gradient: the algorithm and the tile of its kernel.

    For the target that is current; nothing is run.
    """
    from juanji.target import current
    from juanji.visual.profile import tile

    found = {}
    for problem in PROBLEMS:
        ways = []
        for direction in problems.DIRECTIONS:
            plan = problems.plan_inside(problem, direction)[0]
            calls = [call for call in plan.calls if call.flops]
            parts = [f"{call.algorithm} {tile(call.spec, current())}".strip() for call in calls]
            ways.append(" + ".join(dict.fromkeys(parts)))
        found[str(problem)] = ways
    return found


def all_choices() -> dict[str, dict[str, list[str]]]:
    """Of every target that this processor can run."""
    from juanji import target

    found = {}
    for name in TARGETS:
        if name in target.available():
            os.environ["JUANJI_TARGET"], target._current = name, None
            found[name] = choices()
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--write", action="store_true", help="pin what is chosen now")
    given = parser.parse_args()
    pinned: dict[str, Any] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    now = all_choices()
    for target_name, rows in now.items():
        before = pinned.get(target_name, {})
        for name, ways in rows.items():
            if before.get(name) != ways:
                print(f"{target_name}, {name}: {before.get(name)} -> {ways}")
    if given.write:
        FILE.write_text(json.dumps({**pinned, **now}, indent=1, ensure_ascii=False) + "\n", "utf-8")
