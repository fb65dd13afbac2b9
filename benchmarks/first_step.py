"""How long does the first step of a new process take, and how much memory does a step need?

ResNet-18 and MobileNetV2 on pictures of 224 x 224: training steps of 16 (forward, cross-entropy, backward, SGD with
momentum) and single pictures in evaluation. Both libraries run the same lines of code, on one thread, each time in a
new process: Juanji (`jj.compile`) with nothing on disk and with the compiled code of an earlier process, PyTorch
eagerly in both layouts. The first step counts from its call; importing and making the network are stated apart, and so
is what the first step takes beyond a later one. Memory is the most that the process ever held.

    python benchmarks/first_step.py [--quick]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import race

SIZE = 224
#: Network, and pictures in a training step; 0 is inference of one.
TASKS = (("resnet18", 16), ("mobilenet_v2", 16), ("resnet18", 0), ("mobilenet_v2", 0))
COLD, WARM = "Juanji, nothing on disk", "Juanji, compiled before"
#: How each is called on the page: worker and layout.
WAYS = {
    COLD: ("juanji", ""),
    WARM: ("juanji", ""),
    "PyTorch NCHW": ("torch", "nchw"),
    "PyTorch channels last": ("torch", "channels_last"),
}
#: Steps after the first, of which the median counts.
MORE_STEPS = 5


def title(network: str, batch: int) -> str:
    """What a task is called."""
    return f"{network}, training step, batch {batch}" if batch else f"{network}, inference, batch 1"


# -- the work, in the interface that PyTorch and Juanji share ---------------------------------------------------------
def resnet18(nn: Any) -> Any:
    """ResNet-18 (He et al. 2015); activations in place, as is usual in PyTorch."""

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, ins: int, outs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
            self.bn1, self.relu = nn.BatchNorm2d(outs), nn.ReLU(inplace=True)
            self.conv2, self.bn2 = nn.Conv2d(outs, outs, 3, 1, 1, bias=False), nn.BatchNorm2d(outs)
            self.downsample = None
            if stride > 1:
                self.downsample = nn.Sequential(nn.Conv2d(ins, outs, 1, stride, bias=False), nn.BatchNorm2d(outs))

        def forward(self, x: Any) -> Any:
            y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            return self.relu(y + (x if self.downsample is None else self.downsample(x)))

    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    blocks, ins = [], 64
    for stage in range(4):
        for stride in (2 if stage else 1, 1):
            blocks.append(Block(ins, 64 << stage, stride))
            ins = 64 << stage
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(ins, 1000))


def mobilenet_v2(nn: Any) -> Any:
    """MobileNetV2 (Sandler et al. 2018); activations in place, as is usual in PyTorch."""

    def layer(ins: int, outs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[Any]:
        conv = nn.Conv2d(ins, outs, kernel, stride, kernel // 2, groups=groups, bias=False)
        return [conv, nn.BatchNorm2d(outs), nn.ReLU6(inplace=True)]

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, ins: int, outs: int, stride: int, factor: int) -> None:
            super().__init__()
            wide = ins * factor
            layers = layer(ins, wide, 1) if factor > 1 else []
            layers += layer(wide, wide, 3, stride, wide)
            self.conv = nn.Sequential(*layers, nn.Conv2d(wide, outs, 1, bias=False), nn.BatchNorm2d(outs))
            self.add = stride == 1 and ins == outs

        def forward(self, x: Any) -> Any:
            return x + self.conv(x) if self.add else self.conv(x)

    blocks, ins = [], 32
    for factor, outs, count, first in (
        *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
        *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
    ):
        for i in range(count):
            blocks.append(Block(ins, outs, 1 if i else first, factor))
            ins = outs
    head = [nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, 1000)]
    return nn.Sequential(*layer(3, 32, 3, 2), *blocks, *layer(ins, 1280, 1), *head)


def step_of(library: Any, network: Any, batch: int, compile: Any, layout: str) -> Callable[[], Any]:
    """A training step on one ready batch, or the forward pass of one picture where `batch` is 0."""
    pictures, labels = library.rand(max(1, batch), 3, SIZE, SIZE), library.arange(max(1, batch))
    if layout == "channels_last":
        network = network.to(memory_format=library.channels_last)
        pictures = pictures.to(memory_format=library.channels_last)
    network.train(batch > 0)
    if not batch:

        def forward(pictures: Any) -> Any:
            with library.no_grad():
                return network(pictures)

        called = compile(forward)
        return lambda: called(pictures)
    optimizer = library.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    def step(pictures: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = library.nn.functional.cross_entropy(network(pictures), labels)
        loss.backward()
        optimizer.step()
        return loss

    called = compile(step)
    return lambda: called(pictures, labels)


# -- workers ----------------------------------------------------------------------------------------------------------
def peak_memory() -> float:
    """Megabytes that this process has held at most. (What Linux tells of resources counts the parent's before it.)"""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def work(kind: str, network: str, batch: int, layout: str) -> None:
    """A worker: imports, makes the network, does some steps, and says what each of that took."""

    def prepare() -> Any:
        begin = time.perf_counter()
        if kind == "juanji":
            import juanji as library
            from juanji import compile, nn  # with all that belongs to them

            nn.Conv2d, library.optim.SGD, library.set_num_threads(1)
        else:
            import torch as library
            from torch import nn

            library.set_num_threads(1)

            def compile(function: Any) -> Any:
                return function

        imported, memory = time.perf_counter(), peak_memory()
        made = {"resnet18": resnet18, "mobilenet_v2": mobilenet_v2}[network](nn)
        ready = time.perf_counter()
        run = step_of(library, made, batch, compile, layout)
        seconds = []
        for _ in range(1 + MORE_STEPS):
            start = time.perf_counter()
            float(run().sum())
            seconds.append(time.perf_counter() - start)
        steady = statistics.median(seconds[1:])
        hello = {"import": imported - begin, "make": ready - imported, "first": seconds[0], "steady": steady}
        return {**hello, "memory": peak_memory(), "step memory": peak_memory() - memory}, lambda request: request

    race.serve(prepare)


# -- the race ---------------------------------------------------------------------------------------------------------
def measure(quick: bool = False) -> dict[str, Any]:
    """Seconds and megabytes of every task for each contestant: medians over new processes."""
    ways = [way for way, (kind, _) in WAYS.items() if kind == "juanji" or race.installed("torch")]
    result: dict[str, Any] = {"rows": []}
    for network, batch in TASKS:
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(1 if quick else 3):
            with tempfile.TemporaryDirectory() as home:  # the cold process leaves its code for the warm one
                for way in ways:
                    kind, layout = WAYS[way]
                    arguments = ["--network", network, "--batch", str(batch), "--layout", layout]
                    worker = race.Worker(__file__, kind, arguments, {"JUANJI_HOME": home})
                    found[way].append(worker.hello)
                    worker.close()
        medians = {
            way: {key: statistics.median(answer[key] for answer in answers) for key in answers[0]}
            for way, answers in found.items()
        }
        result["rows"].append({"network": network, "batch": batch, "ways": medians})
        race.note(f"{title(network, batch)}: {medians}")
    return result


def _least(row: dict[str, Any], key: str) -> float | None:
    """The least of PyTorch's, if it was there."""
    return min((found[key] for way, found in row["ways"].items() if way.startswith("PyTorch")), default=None)


def losses(result: dict[str, Any]) -> list[str]:
    """Where PyTorch needs less."""
    lost = []
    for row in result["rows"]:
        what = title(row["network"], row["batch"])
        for way in (COLD, WARM):
            first, theirs = row["ways"][way]["first"], _least(row, "first")
            if theirs is not None and theirs < first:
                lost.append(f"First step of a new process, {what}: {way} {first:.2f} s, PyTorch {theirs:.2f} s.")
        memory, other = row["ways"][WARM]["memory"], _least(row, "memory")
        if other is not None and other < memory:
            lost.append(f"Memory, {what}: {memory:.0f} MB, PyTorch {other:.0f} MB.")
    return lost


def markdown(result: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    head = ["", "first step, s", "later step, s", "beyond it, s", "import, s", "network made, s", "peak MB"]
    head += ["of that since the import", "peak of PyTorch's least"]
    lines = []
    for row in result["rows"]:
        least, least_step = _least(row, "memory"), _least(row, "step memory")
        for way, found in row["ways"].items():
            line = [f"{title(row['network'], row['batch'])}: {way}"]
            line += [f"{found[key]:.2f}" for key in ("first", "steady")] + [f"{found['first'] - found['steady']:.2f}"]
            line += [f"{found[key]:.2f}" for key in ("import", "make")]
            line += [f"{found[key]:.0f}" for key in ("memory", "step memory")]
            ratio = ""
            if least is not None and least_step is not None:
                ratio = f"{found['memory'] / least:.2f}x, {found['step memory'] / least_step:.2f}x since the import"
            lines.append([*line, ratio])
    text = " ".join((__doc__ or "").split("    python")[0].split())
    return f"## The first step, and memory\n\n{text}\n\n{race.table(head, lines)}\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="each once")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--network", default="resnet18", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--layout", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, given.network, given.batch, given.layout)
    else:
        measured = measure(given.quick)
        print(markdown(measured))
        print("\n".join(losses(measured)))
