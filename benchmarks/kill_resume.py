"""Kills saving and training at random instants (SIGKILL), and checks that nothing is lost.

    python benchmarks/kill_resume.py [--saving 200] [--training 200] [--seed 0]

Saving: a process writes one checkpoint-like file after another and is killed; the file must then hold the old or the
new content, whole. Training: a process trains a LeNet with a checkpoint after each epoch and is killed again and again,
going on each time from what is there; whenever a training gets through, its weights must be those of one that was never
stopped, bit for bit. Prints one JSON object. Processes are forked, so that each starts at once: not for Windows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def _forked(work: Callable[[], None]) -> int:
    """Runs `work` in a child process; returns its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def _killed_after(child: int, seconds: float) -> bool:
    """Waits, kills, and says whether the child was still running."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, f"the process ended with status {status}"
            return False
        time.sleep(min(0.002, max(0.0, end - time.monotonic())))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def saving(kills: int, chance: random.Random, folder: Path) -> dict[str, Any]:
    """Kills a process that writes files; returns what was found."""
    from juanji.interop import statefile
    from juanji.train import checkpoint

    path = folder / "state.safetensors"

    def content(number: int) -> dict[str, Any]:
        return {"number": number, "values": np.full(100_000 + 50_000 * (number % 5), number, np.int32)}

    def save_for_ever(first: int) -> None:
        number = first
        while True:
            number += 1
            statefile.save(content(number), path)

    begin = time.monotonic()
    for number in range(-4, 1):
        statefile.save(content(number), path)
    usual = (time.monotonic() - begin) / 5
    at, parts, moved = 0, 0, 0
    for _ in range(kills):
        child = _forked(lambda: save_for_ever(at))  # noqa: B023 (runs at once)
        assert _killed_after(child, chance.uniform(0.0, 0.002 + 3 * usual))
        found = statefile.load(path)  # raises unless it is whole
        number = found["number"]
        assert np.array_equal(found["values"], content(number)["values"]), "a mixture of two files"
        assert number >= at, "an older file came back"
        moved += number > at
        at = number
        parts += len(os.listdir(folder)) - 1
        checkpoint._remove_parts(path)
        assert os.listdir(folder) == [path.name]
    return {"kills": kills, "whole": kills, "killed_while_writing": parts, "files_written": at, "progressed": moved}


def bars(count: int, seed: int) -> tuple[Any, Any]:
    """Pictures of ten classes: a bar across or upright in five places, with noise."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    images = draw.integers(0, 30, (count, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        at = 4 + 4 * (label % 5)
        image[(slice(at, at + 3), slice(5, 23)) if label < 5 else (slice(5, 23), slice(at, at + 3))] = 220
    return images, labels.astype(np.int64)


def training(kills: int, chance: random.Random, folder: Path, epochs: int = 12) -> dict[str, Any]:
    """Kills a process that trains; returns what was found."""
    from juanji.train import checkpoint, mnist

    train, test = bars(250, 1), bars(20, 2)
    recipe = mnist.Recipe(epochs=epochs, seed=7)

    def weights(checkpointer: checkpoint.Checkpointer | None = None, **other: Any) -> bytes:
        chosen = mnist.Recipe(**other) if other else recipe
        trained = mnist.train(*train, *test, tuple("0123456789"), recipe=chosen, checkpointer=checkpointer)
        return b"".join(v.detach().numpy().tobytes() for v in trained.model.state_dict().values())

    path, result = folder / "t.checkpoint.safetensors", folder / "weights"

    def go_on() -> None:
        resume = checkpoint.read(path) if path.exists() else None
        final = weights(checkpoint.Checkpointer(path, resume=resume))
        result.write_bytes(final)

    weights(epochs=1)  # compiled once, before any fork
    begin = time.monotonic()
    child = _forked(lambda: result.write_bytes(weights()) and None)
    assert os.waitpid(child, 0)[1] == 0
    whole = time.monotonic() - begin
    expected = result.read_bytes()
    result.unlink()
    killed = finished = resumed = 0
    while killed < kills or not finished:
        resumed += path.exists()
        # Kills at random instants of the start, of steps and of saving; the last training is let through.
        limit = chance.uniform(0.0, whole) if killed < kills else 60.0
        if _killed_after(_forked(go_on), limit):
            assert killed < kills, "a training did not end within a minute"
            killed += 1
            if path.exists():
                checkpoint.read(path)  # raises unless it is whole
            with contextlib.suppress(FileNotFoundError):
                result.unlink()
            continue
        assert result.read_bytes() == expected, "other weights than without a stop"
        finished += 1
        result.unlink()
        path.unlink()
    checkpoint._remove_parts(path)  # of the last kill; otherwise each start does it
    assert sorted(os.listdir(folder)) in ([], [path.name]), os.listdir(folder)
    return {"kills": killed, "resumed": resumed, "finished": finished, "identical": finished}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--saving", type=int, default=200)
    parser.add_argument("--training", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    report: dict[str, Any] = {}
    for name, work in (("saving", saving), ("training", training)):
        kills = getattr(options, name)
        if kills:
            begin = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                report[name] = work(kills, random.Random(options.seed), Path(folder))
            report[name]["seconds"] = round(time.monotonic() - begin, 1)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
