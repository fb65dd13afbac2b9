"""Runs every benchmark and rewrites docs/performance.md: 40 minutes on an otherwise idle machine.

    python benchmarks/run_all.py [--only lenet_step ...] [--quick] [--long]

Results are kept in benchmarks/results.json: sections that are not asked for stay on the page as they were.
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

#: Question -> (script, arguments of its `measure`).
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "lenet_step": ("lenet_step", {}),
    "networks": ("networks", {}),
    "networks_2": ("networks", {"threads": 2}),
    "conv_layers": ("conv_layers", {}),
    "conv_layers_2": ("conv_layers", {"threads": 2}),
    "random_problems": ("random_problems", {}),
    "random_problems_2": ("random_problems", {"threads": 2}),
    "eager": ("eager", {}),
    "threads": ("threads", {}),
    "start_up": ("start_up", {}),
    "first_step": ("first_step", {}),
    "accuracy": ("accuracy", {}),
    "stamps": ("stamps", {}),
    "finetune_speed": ("finetune_speed", {}),
    "loss_curve": ("loss_curve", {}),
    "fashion": ("accuracy", {"fashion": True}),
}
#: Asked only when they are wanted.
LONG = ("loss_curve", "fashion")
RESULTS = Path(__file__).resolve().parent / "results.json"
PAGE = race.ROOT / "docs" / "performance.md"

INTRODUCTION = """# Performance

Written by `python benchmarks/run_all.py`; do not edit. Every library runs in a process of its own, on one thread (but
for the sections that say so), one at a time, in turns; a ratio is the median of the ratios within each turn, above 1
where Juanji is faster. Warming up is not counted; starting is measured apart. Absolute numbers hold for this machine
only. The scripts in `benchmarks/` run where the other libraries are missing, too: those columns are left out.
"""


def page(results: dict[str, Any]) -> str:
    """All of docs/performance.md."""
    sections, lost = [], []
    for question, (script, _) in QUESTIONS.items():
        if question in results:
            module = importlib.import_module(script)
            sections.append(module.markdown(results[question]["result"]) + "\n" + _conditions(results[question]))
            lost += module.losses(results[question]["result"])
    found = "\n".join(f"- {line}" for line in lost) or "Nowhere, in what is measured here."
    return "\n".join([INTRODUCTION, f"## Where Juanji loses\n\n{found}\n", *sections])


def _conditions(entry: dict[str, Any]) -> str:
    m = entry["machine"]
    return (
        f"_{m['date']}, {m['cpu']}, {m['cores']} cores, {m['target']}, {m['system']}; {m['versions']}; system load "
        f"{m['load']} at the start; {entry['seconds']:.0f} s. `benchmarks/{entry['script']}`{entry.get('note', '')}_\n"
    )


def main() -> int:
    """Runs what is asked for; 1 if something failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", action="append", choices=list(QUESTIONS), help="only this question (may be repeated)")
    parser.add_argument("--quick", action="store_true", help="a trial run: few, short rounds")
    parser.add_argument(
        "--long", action="store_true", help="also a loss curve and Fashion-MNIST against PyTorch (15 minutes)"
    )
    given = parser.parse_args()
    failed = []
    for question in given.only or [name for name in QUESTIONS if name not in LONG or given.long]:
        race.note(f"== {question}")
        script, arguments = QUESTIONS[question]
        module, machine, begin = importlib.import_module(script), race.machine(), time.perf_counter()
        try:
            result = module.measure(quick=given.quick, **arguments)
        except race.MissingError as error:
            race.note(f"left out: {error}")
            continue
        except Exception:  # the others are still worth running
            traceback.print_exc()
            failed.append(question)
            continue
        seconds = time.perf_counter() - begin
        # Read again each time: another run may have written its own part meanwhile.
        results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results[question] = {"result": result, "machine": machine, "seconds": seconds, "script": f"{script}.py"}
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(results))
    if failed:
        race.note(f"failed: {', '.join(failed)}")
    race.note(f"wrote {PAGE}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
