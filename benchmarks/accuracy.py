"""How well and how fast does `juanji train` learn, compared with the same recipe in PyTorch? Three seeds, one thread.

MNIST by its name (the digits within reach are used, and named); with --fashion instead all 70,000 pictures of
Fashion-MNIST, from a folder of IDX files (Debian: package dataset-fashion-mnist).

    python benchmarks/accuracy.py [--fashion] [--folder DIR] [--no-torch] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import race

SEEDS = (0, 1, 2)
FASHION = Path("/usr/share/datasets/fashion-mnist")


def juanji_run(data: list[str], seed: int, epochs: int) -> dict[str, Any]:
    """One training by the command."""
    path = os.pathsep.join([str(race.ROOT / "src"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with tempfile.TemporaryDirectory() as folder:
        options = ["--json", "--seed", str(seed), "--epochs", str(epochs), "--threads", "1"]
        out = ["--out", str(Path(folder) / "model.safetensors")]
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "juanji.cli.main", "train", *data, *options, *out],
            env={**os.environ, **race.ONE_THREAD, **race.NOTHING_KEPT, "PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        elapsed = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"juanji train failed: {done.stderr.strip().splitlines()[-1:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    del result["model"]  # a temporary file
    result["elapsed"] = elapsed
    return result


def torch_run(data: list[str], seed: int, epochs: int) -> dict[str, Any]:
    """The same in PyTorch, in a process of its own, with memory kept."""
    options = ["--worker", json.dumps({"data": data, "seed": seed, "epochs": epochs})]
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, *options],
        env={**os.environ, **race.ONE_THREAD, **race.KEPT_MEMORY},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    result["elapsed"] = time.perf_counter() - begin
    return result


def torch_train(data: list[str], seed: int, epochs: int) -> None:
    """The recipe of `juanji.train.mnist` written in PyTorch: AdamW, one cycle, pictures shifted by up to a pixel."""
    import numpy as np
    import torch
    import torch.nn.functional as F
    from torch import nn

    from juanji.cli import sets
    from juanji.train.mnist import Recipe

    recipe = Recipe(epochs=epochs)
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    pair = sets.load(data[0], None) if data[0] != "--data" else sets.load("fashion-mnist", Path(data[1]))
    rng = np.random.default_rng(seed)
    mean, std = pair.train_images.mean() / 255, pair.train_images.std() / 255

    def batch(images: Any) -> Any:
        return torch.from_numpy(((images / 255 - mean) / std).astype(np.float32))[:, None]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(
                *(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2)), *(nn.Conv2d(6, 16, 3), nn.ReLU(), nn.MaxPool2d(2))
            )
            self.head = nn.Sequential(
                *(nn.Linear(400, 120), nn.ReLU()), *(nn.Linear(120, 84), nn.ReLU()), nn.Linear(84, len(pair.classes))
            )

        def forward(self, x: Any) -> Any:
            return self.head(self.features(x).flatten(1))

    begin = time.perf_counter()
    net, shift = Net(), recipe.shift
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    count = len(pair.train_images)
    padded = np.pad(pair.train_images, ((0, 0), (shift, shift), (shift, shift)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, pair.train_images.shape[1:], axis=(1, 2))
    steps = epochs * -(-count // recipe.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=recipe.lr, total_steps=steps)
    for _ in range(epochs):
        order = rng.permutation(count)
        for at in range(0, count, recipe.batch_size):
            chosen = order[at : at + recipe.batch_size]
            down, right = rng.integers(0, 2 * shift + 1, (2, len(chosen)))
            labels = torch.from_numpy(pair.train_labels[chosen])
            loss = F.cross_entropy(net(batch(windows[chosen, down, right])), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    seconds = time.perf_counter() - begin
    net.eval()
    with torch.no_grad():
        guesses = torch.cat([net(batch(part)).argmax(1) for part in np.array_split(pair.test_images, 40)]).numpy()
    print(json.dumps({"accuracy": float((guesses == pair.test_labels).mean()), "seconds": seconds}))


def measure(quick: bool = False, fashion: bool = False, folder: Path = FASHION, torch: bool = True) -> dict[str, Any]:
    """Trains on MNIST, or on Fashion-MNIST, with every seed, Juanji and PyTorch in turns."""
    if fashion and not folder.is_dir():
        raise FileNotFoundError(f"{folder}: put Fashion-MNIST's four IDX files there, or name their folder")
    chosen = {"Fashion-MNIST": ["--data", str(folder)]} if fashion else {"MNIST": ["mnist"]}
    torch = torch and race.installed("torch")
    result: dict[str, Any] = {"sets": {}, "epochs": 1 if quick else 15 if fashion else 30}
    for name, data in chosen.items():
        rows = []
        for seed in SEEDS:
            row = {"seed": seed, "Juanji": juanji_run(data, seed, result["epochs"])}
            if torch:
                row["PyTorch"] = torch_run(data, seed, result["epochs"])
            rows.append(row)
            race.note(f"{name}, seed {seed}: " + ", ".join(
                f"{who} {r['accuracy']:.2%} in {r['seconds']:.1f} s" for who, r in row.items() if who != "seed"
            ))  # fmt: skip
        result["sets"][name] = rows
    return result


def _mean(rows: list[dict[str, Any]], who: str, what: str) -> float:
    return statistics.mean(row[who][what] for row in rows)


def losses(result: dict[str, Any]) -> list[str]:
    """Where PyTorch learns better, or sooner."""
    found = []
    for name, rows in result["sets"].items():
        if "PyTorch" in rows[0]:
            ours, theirs = (_mean(rows, who, "accuracy") for who in ("Juanji", "PyTorch"))
            if ours < theirs:
                found.append(f"{name}, accuracy over {len(rows)} seeds: {ours:.2%}, PyTorch {theirs:.2%}.")
            ours, theirs = (_mean(rows, who, "elapsed") for who in ("Juanji", "PyTorch"))
            if ours > theirs:
                found.append(f"{name}, seconds to a trained model: {ours:.1f}, PyTorch {theirs:.1f}.")
    return found


def markdown(result: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    text = (
        f"## What a training reaches: {', '.join(result['sets'])}\n\n"
        f"`juanji train --epochs {result['epochs']}` and its own settings otherwise (batch 32, "
        "AdamW, one cycle, pictures shifted by up to a pixel), and the same recipe in PyTorch (memory kept, fused "
        "AdamW), in turns. Seconds training, and of the whole process.\n"
    )
    for name, rows in result["sets"].items():
        who = [w for w in ("Juanji", "PyTorch") if w in rows[0]]
        head = [name, *(f"{w} {what}" for w in who for what in ("accuracy", "training, s", "process, s"))]
        body = []
        for row in rows:
            cells = [[f"{row[w]['accuracy']:.2%}", f"{row[w]['seconds']:.1f}", f"{row[w]['elapsed']:.1f}"] for w in who]
            body.append([f"seed {row['seed']}", *(c for part in cells for c in part)])
        means = [
            (f"{_mean(rows, w, 'accuracy'):.2%}", *(f"{_mean(rows, w, key):.1f}" for key in ("seconds", "elapsed")))
            for w in who
        ]
        body.append(["mean", *(c for part in means for c in part)])
        text += f"\n{rows[0]['Juanji']['source']}.\n\n{race.table(head, body)}\n"
        if len(who) == 2:
            points = 100 * (_mean(rows, "Juanji", "accuracy") - _mean(rows, "PyTorch", "accuracy"))
            text += f"\nJuanji is {points:+.2f} points from PyTorch, over {len(rows)} seeds.\n"
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--fashion", action="store_true", help="Fashion-MNIST instead (long)")
    parser.add_argument("--folder", type=Path, default=FASHION, help="where its IDX files are")
    parser.add_argument("--no-torch", action="store_true", help="without PyTorch")
    parser.add_argument("--quick", action="store_true", help="one epoch")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        torch_train(**json.loads(given.worker))
    else:
        measured = measure(given.quick, given.fashion, given.folder, not given.no_torch)
        print(markdown(measured))
        print("\n".join(losses(measured)))
