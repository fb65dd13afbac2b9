"""How many training steps a second does a LeNet make, compared with PyTorch, JAX and TensorFlow? One thread.

The net is the one every introduction trains: two convolutions with pooling, three linear layers; SGD with
momentum on cross-entropy. Each library steps on one ready batch, in a process of its own, in turns.

    python benchmarks/lenet_step.py [--compile] [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from typing import Any

import lenet_peers
import race

LR, MOMENTUM = 0.001, 0.9
BATCHES = (4, 64)
OURS, EAGER = "Juanji compiled", "Juanji eager"
#: name -> (package, worker's kind, environment)
RUNNERS: dict[str, tuple[str, str, dict[str, str]]] = {
    OURS: ("juanji", "juanji-compiled", race.NOTHING_KEPT),
    EAGER: ("juanji", "juanji-eager", race.NOTHING_KEPT),
    "PyTorch eager": ("torch", "torch", {}),
    "PyTorch eager, memory kept, fused SGD": ("torch", "torch-fused", race.KEPT_MEMORY),
    "PyTorch compiled": ("torch", "torch-compile", race.KEPT_MEMORY),
    "JAX jit": ("jax", "jax", {}),
    "TensorFlow function": ("tensorflow", "tensorflow", {}),
}


def torch_like(library: Any, optim: Any, F: Any, compile: Any, batch: int, **sgd: Any) -> Any:
    """The step in the interface that PyTorch and Juanji share: only the imports differ."""
    nn = library.nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 6, 3)
            self.conv2 = nn.Conv2d(6, 16, 3)
            self.fc1 = nn.Linear(16 * 5 * 5, 120)
            self.fc2 = nn.Linear(120, 84)
            self.fc3 = nn.Linear(84, 10)

        def forward(self, x: Any) -> Any:
            x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            x = x.view(-1, 400)
            x = F.relu(self.fc1(x))
            x = F.relu(self.fc2(x))
            return self.fc3(x)

    net, criterion = Net(), nn.CrossEntropyLoss()
    optimizer = optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, **sgd)

    def step(images: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = criterion(net(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    step = compile(step) if compile else step
    images, labels = library.rand(batch, 1, 28, 28), library.arange(batch) % 10
    return lambda: step(images, labels)


def juanji_step(batch: int, compiled: bool) -> Any:
    import juanji
    import juanji.nn.functional as F
    from juanji import optim

    juanji.manual_seed(0)
    juanji.set_num_threads(1)
    return torch_like(juanji, optim, F, juanji.compile if compiled else None, batch), lambda loss: loss.item()


def torch_step(batch: int, compiled: bool, fused: bool) -> Any:
    import torch
    import torch.nn.functional as F

    torch.manual_seed(0)
    torch.set_num_threads(1)
    sgd = {"fused": True} if fused else {}
    run = torch_like(torch, torch.optim, F, torch.compile if compiled else None, batch, **sgd)
    return run, lambda loss: loss.item()


def work(kind: str, batch: int) -> None:
    """A worker: makes the step, does it once, then as often as it is asked."""

    def prepare() -> Any:
        if kind.startswith("juanji"):
            run, wait = juanji_step(batch, kind == "juanji-compiled")
        elif kind.startswith("torch"):
            run, wait = torch_step(batch, kind == "torch-compile", kind != "torch")
        else:
            run, wait = getattr(lenet_peers, f"{kind}_step")(batch, LR, MOMENTUM)
        first = wait(run())
        return {"loss": first}, lambda request: race.timed(run, request["count"], wait)

    race.serve(prepare)


def measure(quick: bool = False, compile: bool = False) -> dict[str, Any]:
    """Races all that are installed at each batch size."""
    chosen = {
        name: (kind, env)
        for name, (package, kind, env) in RUNNERS.items()
        if (compile or kind != "torch-compile") and race.installed(package)
    }
    result: dict[str, Any] = {"batches": {}, "cold": {}, "threads": {}}
    for batch in BATCHES:
        workers: dict[str, race.Worker] = {}
        for name, (kind, env) in chosen.items():
            try:
                workers[name] = race.Worker(__file__, kind, ["--batch", str(batch)], env)
            except race.WorkerError as error:
                race.note(f"{name} left out: {error}")
                continue
            result["cold"][name] = min(workers[name].cold, result["cold"].get(name, 1e9))
        tasks: dict[str, race.Task] = {name: (worker, {}) for name, worker in workers.items()}
        times = race.race(tasks, 3 if quick else 11, 0.1 if quick else 0.3)
        for name, worker in workers.items():
            result["threads"][name] = round(worker.ask(count=50)["threads"], 2)
            worker.close()
        rates = {name: 1 / statistics.median(t) for name, t in times.items()}
        ratios = {name: race.speedup(times[OURS], t) for name, t in times.items()}
        result["batches"][str(batch)] = {"rates": rates, "ratios": ratios}
        race.note(f"batch {batch}: " + ", ".join(f"{n} {r:,.0f}/s" for n, r in rates.items()))
    result["cached"] = second_start()
    return result


def second_start() -> float:
    """Seconds to the first compiled step of a process, where an earlier one has left its compiled code on disk."""
    with tempfile.TemporaryDirectory() as home:
        starts = []
        for _ in range(3):
            worker = race.Worker(__file__, "juanji-compiled", env={"JUANJI_HOME": home})
            starts.append(worker.cold)
            worker.close()
    return min(starts[1:])


def losses(result: dict[str, Any]) -> list[str]:
    """Where a peer is faster."""
    found = []
    for batch, part in result["batches"].items():
        for name, ratio in part["ratios"].items():
            if ratio < 1 and not name.startswith("Juanji"):
                found.append(f"LeNet step, batch {batch}: {ratio:.2f}x of {name}.")
        rates = part["rates"]
        for name in rates:
            if "eager" in name and rates[name] > rates[EAGER]:
                found.append(f"LeNet step, eager, batch {batch}: {rates[EAGER] / rates[name]:.2f}x of {name}.")
    ours = result["cold"][OURS]
    for name, seconds in result["cold"].items():
        if seconds < ours and not name.startswith("Juanji"):
            found.append(f"First LeNet step of a new process: {ours:.2f} s, {name} {seconds:.2f} s.")
    return found


def markdown(result: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    names = list(result["cold"])
    head = ["LeNet training step"]
    for batch in result["batches"]:
        head += [f"batch {batch}, steps/s", "Juanji compiled is faster by"]
    head += ["first step of a new process, s", "processor used"]
    rows = []
    for name in names:
        row = [name]
        for part in result["batches"].values():
            row += [f"{part['rates'][name]:,.0f}", f"{part['ratios'][name]:.2f}x"]
        rows.append([*row, f"{result['cold'][name]:.2f}", f"{result['threads'][name]:.2f}"])
    return (
        "## A LeNet training step\n\n"
        'Forward, backward and update (SGD, momentum 0.9, cross-entropy) on one ready batch. "Memory kept" is glibc '
        "told not to give freed memory back, which PyTorch's default allocator otherwise pays for in page faults. "
        "The first step counts from the start of the process, imports and compiles included; with its code on disk "
        f'from an earlier run, Juanji\'s comes after {result["cached"]:.2f} s. "Processor used" is processor time '
        "over elapsed time: 1.00 is one thread.\n\n" + race.table(head, rows) + "\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few short rounds")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well (slow to start)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, given.batch)
    else:
        measured = measure(given.quick, given.compile)
        print(markdown(measured))
        print("\n".join(losses(measured)))
