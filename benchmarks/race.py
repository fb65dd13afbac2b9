"""What the benchmarks share: peers in processes of their own, raced in turns; medians, ratios, tables, the machine.

A worker is this same script started again with `--worker NAME`: it reads one JSON request a line and answers with
one JSON line, so that every library has its own threads, allocator and environment, and only one works at a time.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
#: What is measured is the code beside this file, installed or not.
sys.path.insert(0, str(ROOT / "src"))
#: One thread each, in every way the libraries have of being told.
ONE_THREAD = {
    "JUANJI_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NPROC": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
}
#: glibc told to keep freed memory, which spares PyTorch the page faults of every large tensor.
KEPT_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": "99999999999",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TOP_PAD_": "268435456",
}
#: Python keeps its compiled modules, as where libraries are installed: a setting for tests may say otherwise.
KEPT_MODULES = {"PYTHONDONTWRITEBYTECODE": ""}
#: Juanji told to compile everything anew, so that a first step is a first step.
NOTHING_KEPT = {"JUANJI_CACHE": "0"}
#: Seconds that one answer may take, first compiles included.
PATIENCE = 240.0


#: Seconds of rest between turns on several threads.
REST = 0.2


class MissingError(Exception):
    """What a benchmark needs is not on this machine; the message says what to install."""


class WorkerError(Exception):
    """A worker ended, failed or took too long."""


class Worker:
    """A process that answers requests.

    Attributes:
        hello: its first answer, given when it has done its first step.
        cold: seconds from its start to that answer.
    """

    def __init__(self, script: str, name: str, arguments: list[str] | None = None, env: dict[str, str] | None = None):
        path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        environment = {**os.environ, **KEPT_MODULES, **ONE_THREAD, "PYTHONPATH": path, **(env or {})}
        begin = time.perf_counter()
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, script, "--worker", name, *(arguments or [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if not os.environ.get("JUANJI_BENCH_VERBOSE") else None,
            env=environment,
        )
        self.hello = self._answer()
        self.cold = time.perf_counter() - begin

    def ask(self, **request: Any) -> dict[str, Any]:
        """Sends a request and waits for its answer."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError(f"{self.name} has ended") from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else b""
        if line:
            answer: dict[str, Any] = json.loads(line)
            if "error" not in answer:
                return answer
            self.close()
            raise WorkerError(f"{self.name}: {answer['error']}")
        self.process.kill()
        said = self.process.stderr.read().decode(errors="replace") if self.process.stderr else ""
        self.close()
        why = "ended" if ready else f"gave no answer within {PATIENCE:.0f} s"
        raise WorkerError(f"{self.name} {why}: {said.strip().splitlines()[-1] if said.strip() else 'no message'}")

    def close(self) -> None:
        """Ends the process."""
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def serve(prepare: Callable[[], tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]]) -> None:
    """The worker's side: `prepare` gives the first answer and the function that answers requests."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not end among the answers
    try:
        hello, answer = prepare()
        out.write(json.dumps(hello) + "\n")
        for line in sys.stdin:
            out.write(json.dumps(answer(json.loads(line))) + "\n")
    except Exception as error:
        out.write(json.dumps({"error": f"{type(error).__name__}: {error}"[:300]}) + "\n")


def timed(run: Callable[[], Any], count: int, wait: Callable[[Any], Any] | None = None) -> dict[str, float]:
    """Seconds for one call of `run`, over `count`, and how much of the processor that took (1 is one thread)."""
    cpu, begin = time.process_time(), time.perf_counter()
    last = None
    for _ in range(count):
        last = run()
    if wait is not None:
        wait(last)
    seconds = time.perf_counter() - begin
    return {"seconds": seconds / count, "threads": (time.process_time() - cpu) / max(seconds, 1e-9)}


Task = tuple[Worker, dict[str, Any]]


def race(tasks: dict[str, Task], rounds: int, slice_seconds: float, rest: float = 0.0) -> dict[str, list[float]]:
    """Runs every task in turn, `rounds` times, each turn about `slice_seconds` long, and gives seconds for one run.

    Requests get a `count`. Each round starts with another task, so that a slow moment of the machine meets all.
    With several threads there must be a `rest` before each turn, in seconds: a library's threads wait for more work,
    each on a processor of its own, for a while after they had some.
    """
    counts: dict[str, int] = {}
    for name, (worker, request) in tasks.items():
        once = worker.ask(count=2, **request)["seconds"]
        if once < slice_seconds / 4:
            once = worker.ask(count=int(slice_seconds / 4 / once), **request)["seconds"]
        counts[name] = max(1, int(slice_seconds / once))
    times: dict[str, list[float]] = {name: [] for name in tasks}
    names = list(tasks)
    for turn in range(rounds):
        at = turn % len(names)
        for name in names[at:] + names[:at]:
            worker, request = tasks[name]
            time.sleep(rest)
            times[name].append(worker.ask(count=counts[name], **request)["seconds"])
    return times


def speedup(ours: list[float], theirs: list[float]) -> float:
    """How many times faster ours is: the median of the ratios within each round."""
    return statistics.median(b / a for a, b in zip(ours, theirs, strict=True))


def better(first: list[float], second: list[float]) -> list[float]:
    """Whichever has the lower median."""
    return min(first, second, key=statistics.median)


def threads_of(number: int) -> dict[str, str]:
    """What tells every library that is raced on `number` threads."""
    return dict.fromkeys(("JUANJI_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(number))


def installed(package: str) -> bool:
    """Whether a peer can be raced; says so on standard error where it can't."""
    if importlib.util.find_spec(package) is not None:
        return True
    note(f"{package} is not installed: skipped")
    return False


def note(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, numbers to the right."""
    align = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, align, *rows])


def machine() -> dict[str, str]:
    """What the numbers were measured on and with."""
    from juanji import target

    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields = dict(
            (part.strip() for part in line.split(":", 1)) for line in info.read_text().split("\n\n")[0].splitlines()
        )
        cpu = f"{fields.get('model name', cpu)} (family {fields.get('cpu family')}, model {fields.get('model')})"
    versions = [f"Python {platform.python_version()}"]
    for package in (
        "juanji",
        "numpy",
        "llvmlite",
        "torch",
        "jax",
        "tensorflow",
        "tensorflow_cpu",
        "onnxruntime",
        "openvino",
    ):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            if package == "juanji":
                import juanji

                versions.append(f"juanji {juanji.__version__}")
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu,
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "target": target.current().name,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": ", ".join(versions),
        "load": f"{busy:.1f}",
    }
