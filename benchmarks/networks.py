"""Whole networks on pictures of 224 x 224: training steps against PyTorch, single pictures against inference engines.

A training step is forward, cross-entropy, backward and SGD with momentum (PyTorch's fused form). PyTorch runs eagerly
in both layouts and with torch.compile (channels last), with its default allocator and with glibc told to keep freed
memory; the ratio is to the best of them. Inference is of one picture, batch normalisation as in evaluation; ONNX
Runtime and OpenVINO (told to compute in float32) get the network as an ONNX file; the ratio is to the better of these.

    python benchmarks/networks.py [--quick] [--threads N] [--task NAME ...] [--no-compile]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import race

SIZE = 224
#: Network, and pictures in a training step; 0 is inference of one.
TASKS = (
    ("resnet18", 16),
    ("vgg11_bn", 8),
    ("mobilenet_v2", 16),
    ("resnet50", 0),
    ("resnet18", 0),
    ("mobilenet_v2", 0),
)
WAYS = ("nchw", "channels_last", "compiled")
ENGINES = ("onnxruntime", "openvino")
#: How each is called on the page.
TITLES = {"nchw": "NCHW", "channels_last": "channels last", "compiled": "torch.compile"}
NAMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
Run = Callable[[], Any]


def title(network: str, batch: int) -> str:
    """What a task is called."""
    return f"{network}, training step, batch {batch}" if batch else f"{network}, inference, batch 1"


# -- workers ----------------------------------------------------------------------------------------------------------
def _network(name: str, batch: int) -> tuple[Any, Any, Any]:
    """The network, pictures and labels, equal in every process."""
    import juanji as jj
    from juanji import zoo

    jj.manual_seed(0)
    network = zoo.create(name).train(batch > 0)
    return network, jj.randn(max(1, batch), 3, SIZE, SIZE), jj.randint(0, 1000, (max(1, batch),))


def _juanji(name: str, batch: int) -> Run:
    import juanji as jj
    from juanji import nn, optim

    network, pictures, labels = _network(name, batch)
    if not batch:

        @jj.compile
        def forward(pictures: Any) -> Any:
            with jj.no_grad():
                return network(pictures)

        return lambda: forward(pictures)
    optimizer = optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    @jj.compile
    def step(pictures: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(pictures), labels)
        loss.backward()
        optimizer.step()
        return loss

    return lambda: step(pictures, labels)


def _peer(kind: str, request: dict[str, Any], threads: int) -> Run:
    from juanji.interop import peers

    name, batch, way = request["network"], request["batch"], request["way"]
    network, pictures, labels = _network(name, batch)
    image = pictures.numpy()
    if kind == "torch":
        if not batch:
            return peers.torch_forward(network, image, way)
        layout = "nchw" if way == "nchw" else "channels_last"
        return peers.torch_step(network, image, labels.numpy(), layout, compiled=way == "compiled")
    make = peers.onnxruntime_forward if kind == "onnxruntime" else peers.openvino_forward
    return make(request["file"], image, threads)


def work(kind: str, threads: int) -> None:
    """A worker: keeps what it runs for one task at a time."""

    def prepare() -> Any:
        if kind == "torch":
            import torch

            torch.set_num_threads(threads)
        ready: dict[Any, Run] = {}

        def answer(request: dict[str, Any]) -> dict[str, Any]:
            task, way = (request["network"], request["batch"]), request.get("way", "")
            if way == "write":
                from juanji.interop import peers

                network, pictures, _ = _network(*task)
                peers.write_onnx(network, pictures.shape, request["file"])
                return {}
            if (task, way) not in ready:
                if any(other != task for other, _ in ready):
                    ready.clear()
                try:
                    run = _juanji(*task) if kind == "juanji" else _peer(kind, request, threads)
                    for _ in range(2):
                        run()
                except Exception as error:  # the others still race
                    return {"failed": f"{type(error).__name__}: {error}"[:200]}
                ready[task, way] = run
            return race.timed(ready[task, way], request["count"])

        return {}, answer

    race.serve(prepare)


# -- the race ---------------------------------------------------------------------------------------------------------
def _team(threads: int, folder: Path, training: bool, tasks: list[tuple[str, int]]) -> dict[str, race.Worker]:
    def worker(kind: str, **env: str) -> race.Worker:
        return race.Worker(__file__, kind, ["--threads", str(threads)], {**race.threads_of(threads), **env})

    team = {"Juanji": worker("juanji")}
    if race.installed("torch"):
        team["PyTorch"] = worker("torch")
        team["PyTorch, memory kept"] = worker("torch", **race.KEPT_MEMORY)
    if training or not race.installed("torch") or not race.installed("onnx"):
        return team
    for name, _ in tasks:
        team["PyTorch"].ask(network=name, batch=0, way="write", file=str(folder / f"{name}.onnx"))
    for engine in filter(race.installed, ENGINES):
        team[NAMES[engine]] = worker(engine)
    return team


def measure(
    quick: bool = False, threads: int = 1, tasks: list[str] | None = None, compiled: bool = True
) -> dict[str, Any]:
    """Milliseconds of every task for each contestant, and ours against the best.

    Args:
        tasks: names as `title` gives them, or their beginnings; all if None.
        compiled: whether torch.compile takes part: that is minutes of compiling.
    """
    chosen = [task for task in TASKS if tasks is None or any(title(*task).startswith(name) for name in tasks)]
    result: dict[str, Any] = {"threads": threads, "rows": [], "failed": []}
    for training in (True, False):
        here = [task for task in chosen if (task[1] > 0) == training]
        if not here:
            continue
        with tempfile.TemporaryDirectory() as folder:
            team = _team(threads, Path(folder), training, here)
            for task in here:
                result["rows"].append(_race(team, task, Path(folder), quick, threads, compiled, result["failed"]))
                race.note(str(result["rows"][-1]))
            for worker in team.values():
                worker.close()
    return result


def _race(
    team: dict[str, race.Worker],
    task: tuple[str, int],
    folder: Path,
    quick: bool,
    threads: int,
    compiled: bool,
    failed: list[str],
) -> dict[str, Any]:
    name, batch = task
    fields = {"network": name, "batch": batch, "file": str(folder / f"{name}.onnx")}
    tasks: dict[str, race.Task] = {}
    for who, worker in team.items():
        ways = [""] if not who.startswith("PyTorch") else [w for w in WAYS if w != "compiled" or (compiled and batch)]
        for way in ways:
            request = {**fields, "way": way}
            found = worker.ask(count=1, **request)  # first steps and compiles, not raced
            if "failed" in found:
                failed.append(f"{title(*task)}, {who} {TITLES.get(way, '')}: {found['failed']}")
                race.note(failed[-1])
                continue
            tasks[f"{who} {TITLES[way]}" if way else who] = (worker, request)
    rest = race.REST if threads > 1 else 0.0
    times = race.race(tasks, 2 if quick else 7 if batch else 11, 0.05 if quick else 0.3, rest)
    peers = {who: t for who, t in times.items() if who != "Juanji"}
    rivals = peers if batch else {who: t for who, t in peers.items() if who in NAMES.values()} or peers
    row: dict[str, Any] = {"network": name, "batch": batch}
    row["ms"] = {who: statistics.median(t) * 1e3 for who, t in times.items()}
    if rivals:
        row["best"] = min(rivals, key=lambda who: statistics.median(rivals[who]))
        row["ratio"] = race.speedup(times["Juanji"], rivals[row["best"]])
    return row


def losses(result: dict[str, Any]) -> list[str]:
    """Where another is faster."""
    on = "" if result["threads"] == 1 else f" on {result['threads']} threads"
    return [
        f"{title(row['network'], row['batch'])}{on}: {row['ratio']:.2f}x of {row['best']}."
        for row in result["rows"]
        if row.get("ratio", 1) < 1
    ]


def markdown(result: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    tables = []
    for training in (True, False):
        rows = [row for row in result["rows"] if (row["batch"] > 0) == training]
        columns = list(dict.fromkeys(who for row in rows for who in row["ms"]))
        lines = []
        for row in rows:
            times = [f"{row['ms'][who]:.1f}" if who in row["ms"] else "" for who in columns]
            ratio = f"{row['ratio']:.2f}x" if "ratio" in row else ""
            lines.append([title(row["network"], row["batch"]), *times, ratio, row.get("best", "")])
        if lines:
            tables.append(race.table(["milliseconds", *columns, "ratio", "to"], lines))
    on = "one thread" if result["threads"] == 1 else f"{result['threads']} threads"
    failed = "".join(f"\nLeft out: {line}\n" for line in result["failed"])
    return (
        f"## Networks, {on}\n\n{' '.join((__doc__ or '').split('    python')[0].split())}\n\n"
        f"{(chr(10) * 2).join(tables)}\n{failed}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few short rounds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--task", action="append", help="only tasks whose names begin so, as 'resnet18, inference'")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, given.threads)
    else:
        measured = measure(given.quick, given.threads, given.task, not given.no_compile)
        print(markdown(measured))
        print(os.linesep.join(losses(measured)))
