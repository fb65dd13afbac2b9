"""Runs every benchmark and rewrites docs/performance.md: 6 to 10 minutes on an otherwise idle machine.

    python benchmarks/run_all.py [--only lenet_step ...] [--quick] [--long]

Results are kept in benchmarks/results.json: with --only, the other sections of the page stay as they were.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
import traceback
from pathlib import Path
from typing import Any

import race

QUESTIONS = ("lenet_step", "conv_layers", "start_up", "accuracy")
RESULTS = Path(__file__).resolve().parent / "results.json"
PAGE = race.ROOT / "docs" / "performance.md"

INTRODUCTION = """# Performance

Written by `python benchmarks/run_all.py`; do not edit. Every library runs in a process of its own, on one thread, one
at a time, in turns; a ratio is the median of the ratios within each turn, above 1 where Juanji is faster. Warming up
is not counted; starting is measured apart. Absolute numbers hold for this machine only. The scripts in `benchmarks/`
run where PyTorch, JAX and TensorFlow are missing, too: those columns are left out.
"""


def page(results: dict[str, Any]) -> str:
    """All of docs/performance.md."""
    sections, lost = [], []
    for question in QUESTIONS:
        if question in results:
            module = importlib.import_module(question)
            sections.append(module.markdown(results[question]["result"]) + "\n" + _conditions(results[question]))
            lost += module.losses(results[question]["result"])
    found = "\n".join(f"- {line}" for line in lost) or "Nowhere, in what is measured here."
    return "\n".join([INTRODUCTION, f"## Where Juanji loses\n\n{found}\n", *sections])


def _conditions(entry: dict[str, Any]) -> str:
    m = entry["machine"]
    return (
        f"_{m['date']}, {m['cpu']}, {m['cores']} cores, {m['target']}, {m['system']}; {m['versions']}; system load "
        f"{m['load']} at the start; {entry['seconds']:.0f} s. `benchmarks/{entry['script']}`_\n"
    )


def main() -> int:
    """Runs what is asked for; 1 if something failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", action="append", choices=QUESTIONS, help="only this question (may be repeated)")
    parser.add_argument("--quick", action="store_true", help="a trial run: few, short rounds")
    parser.add_argument("--long", action="store_true", help="also Fashion-MNIST against PyTorch (about 10 minutes)")
    given = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    failed = []
    for question in given.only or QUESTIONS:
        race.note(f"== {question}")
        module, machine, begin = importlib.import_module(question), race.machine(), time.perf_counter()
        more = {"fashion": True} if given.long and question == "accuracy" else {}
        try:
            result = module.measure(quick=given.quick, **more)
        except Exception:  # the others are still worth running
            traceback.print_exc()
            failed.append(question)
            continue
        seconds = time.perf_counter() - begin
        results[question] = {"result": result, "machine": machine, "seconds": seconds, "script": f"{question}.py"}
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(results))
    if failed:
        race.note(f"failed: {', '.join(failed)}")
    race.note(f"wrote {PAGE}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
