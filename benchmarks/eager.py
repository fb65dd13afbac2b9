"""What does a small operation cost outside a compiled step, and how long is the first result of a new one?

Tensors of a few elements, so that the overhead is what is measured; the same lines of Python run with Juanji and with
PyTorch, in turns. Then, in a process without kept kernels: the first call of each operation, and calls with shapes that
it has not met.

    python benchmarks/eager.py [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import race

#: What the lines below use.
SETUP = """
a, b = L.randn(4), L.randn(4)
p, q = L.randn(4, requires_grad=True), L.randn(4, requires_grad=True)
m, n = L.randn(4, 4), L.randn(4, 4, requires_grad=True)
images, weight, bias = L.randn(1, 3, 8, 8), L.randn(4, 3, 3, 3, requires_grad=True), L.randn(4, requires_grad=True)
rows, targets = L.randn(4, 8), L.tensor([1, 2, 3, 0])
matrix, shift = L.randn(5, 8, requires_grad=True), L.randn(5, requires_grad=True)
"""
#: Shown as -> (line, whether it is one operation: then it should take at most `AIM`).
LINES = {
    "a + b": ("a + b", True),
    "a + b, recorded": ("p + q", True),
    "a * 2.0": ("a * 2.0", True),
    "a > b": ("a > b", True),
    "a.exp()": ("a.exp()", True),
    "a.exp(), recorded": ("p.exp()", True),
    "relu(a)": ("F.relu(a)", True),
    "a.sum()": ("a.sum()", True),
    "a.sum(), recorded": ("p.sum()", True),
    "a.add_(b)": ("a.add_(b)", True),
    "m.view(16)": ("m.view(16)", True),
    "m.t()": ("m.t()", True),
    "m[0]": ("m[0]", True),
    "m @ m": ("m @ m", True),
    "m @ m, recorded": ("n @ n", False),
    "softmax(a)": ("F.softmax(a, 0)", True),
    "a[0].item()": ("a[0].item()", False),
    "max_pool2d": ("F.max_pool2d(images, 2)", False),
    "conv2d with bias, recorded": ("F.conv2d(images, weight, bias)", False),
    "linear with bias, recorded": ("F.linear(rows, matrix, shift)", False),
    "(a * b).sum().backward()": ("(p * q).sum().backward()", False),
    "linear, cross-entropy, backward": ("F.cross_entropy(F.linear(rows, matrix, shift), targets).backward()", False),
}
#: Microseconds that an operation should take at most.
AIM = 10.0
#: Shown as -> what makes the operands for the i-th shape, and the call. Milliseconds for the first result of a new
#: operation and of a new shape that are aimed at: 50 and 1.
NEW = {
    "add": ("x, y = jj.randn(3 + i), jj.randn(3 + i)", "x + y"),
    "add, broadcast": ("x, y = jj.randn(3 + i, 5), jj.randn(5)", "x + y"),
    "exp": ("x = jj.randn(3 + i, 7)", "x.exp()"),
    "pow": ("x, y = jj.rand(3 + i), jj.rand(3 + i)", "x ** y"),
    "sum of all": ("x = jj.randn(3 + i, 9)", "x.sum()"),
    "sum over rows": ("x = jj.randn(3 + i, 9)", "x.sum(1)"),
    "sum over columns": ("x = jj.randn(33 + i, 21)", "x.sum(0)"),
    "argmax": ("x = jj.randn(3 + i, 9)", "x.argmax(1)"),
    "softmax": ("x = jj.randn(3 + i, 9)", "x.softmax(1)"),
    "transposed copy": ("x = jj.randn(30 + i, 40)", "x.t().contiguous()"),
    "matmul": ("x, y = jj.randn(3 + i, 8 + i), jj.randn(8 + i, 16)", "x @ y"),
    "linear": ("x, y = jj.randn(3 + i, 8 + i), jj.randn(16, 8 + i)", "F.linear(x, y)"),
    "conv2d": ("x, y = jj.randn(1, 3, 8 + i, 9 + i), jj.randn(16, 3, 3, 3)", "F.conv2d(x, y, padding=1)"),
    "max_pool2d": ("x = jj.randn(1, 3, 8 + i, 9 + i)", "F.max_pool2d(x, 2)"),
    "cross_entropy": ("x, y = jj.randn(3 + i, 10), jj.zeros(3 + i, dtype=jj.int64)", "F.cross_entropy(x, y)"),
}
SHAPES = 20


def work(name: str) -> None:
    """A worker: one library and its tensors, or the first calls of Juanji's operations."""

    def prepare() -> Any:
        if name == "new":
            return {"milliseconds": first_calls()}, lambda request: {}
        if name == "torch":
            import torch as library
            from torch.nn import functional

            library.set_num_threads(1)
        else:
            import juanji as library
            from juanji.nn import functional
        names: dict[str, Any] = {"L": library, "F": functional}
        exec(SETUP, names)
        calls = {line: eval(f"lambda: {line}", names) for line, _ in LINES.values()}

        def answer(request: dict[str, Any]) -> dict[str, Any]:
            return race.timed(calls[request["line"]], request["count"])

        for call in calls.values():
            for _ in range(5):
                call()
        return {}, answer

    race.serve(prepare)


def first_calls() -> dict[str, dict[str, float]]:
    """Milliseconds of the first call of each operation, and the median over new shapes."""
    import juanji as jj
    from juanji.nn import functional

    names: dict[str, Any] = {"jj": jj, "F": functional}
    jj.zeros(2).clone()  # LLVM is loaded, and its own start measured elsewhere
    jj.zeros(2) * 0
    result = {}
    for name, (operands, line) in NEW.items():
        times = []
        for i in range(1 + SHAPES):
            space = {**names, "i": i}
            exec(operands, space)
            begin = time.perf_counter()
            eval(line, space)
            times.append(1e3 * (time.perf_counter() - begin))
        result[name] = {"first": times[0], "new shape": statistics.median(times[1:]), "slowest": max(times[1:])}
    return result


def measure(quick: bool = False) -> dict[str, Any]:
    """Microseconds of every line with each library, ratios, and milliseconds of first calls."""
    workers = {"Juanji": race.Worker(__file__, "juanji")}
    if race.installed("torch"):
        workers["PyTorch"] = race.Worker(__file__, "torch")
    result: dict[str, Any] = {"rows": []}
    for name, (line, single) in LINES.items():
        times = race.race({w: (worker, {"line": line}) for w, worker in workers.items()}, 3 if quick else 15, 0.02)
        row: dict[str, Any] = {
            "name": name,
            "single": single,
            "microseconds": {w: 1e6 * statistics.median(t) for w, t in times.items()},
        }
        if "PyTorch" in times:
            row["ratio"] = race.speedup(times["Juanji"], times["PyTorch"])
        result["rows"].append(row)
        race.note(f"{name}: " + ", ".join(f"{w} {us:.1f} µs" for w, us in row["microseconds"].items()))
    for worker in workers.values():
        worker.close()
    fresh = [race.Worker(__file__, "new", env=race.NOTHING_KEPT) for _ in range(1 if quick else 3)]
    result["new"] = {
        name: {key: statistics.median(w.hello["milliseconds"][name][key] for w in fresh) for key in ms}
        for name, ms in fresh[0].hello["milliseconds"].items()
    }
    for worker in fresh:
        worker.close()
    for name, ms in result["new"].items():
        race.note(f"first {name}: {ms['first']:.0f} ms, new shape {ms['new shape']:.2f} ms")
    return result


def losses(result: dict[str, Any]) -> list[str]:
    """Where PyTorch takes less time: its operations enter C++ at once, ours after some Python."""
    slower = [row for row in result["rows"] if row.get("ratio", 1) < 1]
    if not slower:
        return []
    ratios = sorted(row["ratio"] for row in slower)
    return [
        f"Eager operations on tensors of a few elements, {len(slower)} of {len(result['rows'])} lines: "
        f"{ratios[0]:.2f}x to {ratios[-1]:.2f}x of PyTorch, the median {statistics.median(ratios):.2f}x."
    ]


def markdown(result: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    libraries = list(result["rows"][0]["microseconds"])
    rows = [
        [
            f"`{row['name']}`",
            *(f"{row['microseconds'][w]:.1f}" for w in libraries),
            *([f"{row['ratio']:.2f}x"] if "ratio" in row else []),
        ]
        for row in result["rows"]
    ]
    head = ["line", *(f"{w}, µs" for w in libraries), *(["ratio"] if "PyTorch" in libraries else [])]
    slow = [row["name"] for row in result["rows"] if row["single"] and row["microseconds"]["Juanji"] > AIM]
    text = (
        "## Eager operations\n\nTensors of a few elements, one thread: what is measured is the overhead of a line of "
        f"Python. An operation should take at most {AIM:.0f} µs; "
        + (f"these take more: {', '.join(slow)}." if slow else "all do.")
        + "\n\n"
        + race.table(head, rows)
        + "\n\nThe first result of an operation in a process without kept kernels, and the median (the slowest) of "
        f"{SHAPES} calls with new shapes, in milliseconds; 50 and 1 are aimed at:\n\n"
    )
    rows = [
        [name, f"{ms['first']:.0f}", f"{ms['new shape']:.2f} ({ms['slowest']:.1f})"]
        for name, ms in result["new"].items()
    ]
    return text + race.table(["operation", "first, ms", "new shape, ms"], rows) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a trial run: few rounds")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker)
    else:
        print(markdown(measure(given.quick)))
