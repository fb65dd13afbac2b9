"""Does training a ResNet-18 give PyTorch's loss curve? 100 steps on the same digits from the same weights.

Rounding alone makes two ways to compute the same network drift apart, a little faster at each step. So there are two
measures: how far PyTorch's two layouts are from each other, and how far each float32 curve is from PyTorch's in double
precision. Digits of 28 x 28 with a border of zeros to 32 x 32, batches of 32, SGD with momentum 0.9.

    python benchmarks/loss_curve.py [--quick] [--steps N]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

import race

STEPS, QUICK_STEPS, BATCH, RATE = 100, 10, 32, 0.01
#: Steps at which the page shows the curves.
SHOWN = (1, 2, 5, 10, 20, 50, 100)
Step = Callable[[Any, Any], float]


def batches(steps: int, batch: int = BATCH) -> list[tuple[Any, Any]]:
    """The same pictures and labels for everybody."""
    from juanji.cli import sets

    pair = sets.load("mnist", None)
    chosen = np.random.default_rng(0).integers(0, len(pair.train_images), (steps, batch))
    images = np.pad(pair.train_images.astype(np.float32) / 255, ((0, 0), (2, 2), (2, 2)))
    labels = pair.train_labels.astype(np.int64)
    return [(images[i][:, None], labels[i]) for i in chosen]


def juanji_step(network: Any) -> Step:
    """One compiled training step, on the network itself."""
    import juanji as jj
    from juanji import nn, optim

    optimizer = optim.SGD(network.parameters(), lr=RATE, momentum=0.9)

    @jj.compile
    def step(pictures: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(pictures), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return lambda pictures, labels: step(jj.tensor(pictures), jj.tensor(labels)).item()


def torch_step(network: Any, layout: str, double: bool = False) -> Step:
    """The same step in PyTorch, on a copy of the network."""
    import torch

    from juanji.interop.torchmodule import to_torch

    form = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    kind = torch.float64 if double else torch.float32
    peer = to_torch(network).to(memory_format=form, dtype=kind)
    optimizer = torch.optim.SGD(peer.parameters(), lr=RATE, momentum=0.9)

    def step(pictures: Any, labels: Any) -> float:
        optimizer.zero_grad()
        image = torch.from_numpy(pictures).to(kind).contiguous(memory_format=form)
        loss = torch.nn.functional.cross_entropy(peer(image), torch.from_numpy(labels))
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def curves(network: Any, data: list[tuple[Any, Any]]) -> dict[str, list[float]]:
    """The losses of every way to train the network."""
    ways: dict[str, Step] = {}
    if race.installed("torch"):
        ways["PyTorch, double precision"] = torch_step(network, "nchw", double=True)
        ways["PyTorch NCHW"] = torch_step(network, "nchw")
        ways["PyTorch channels last"] = torch_step(network, "channels_last")
    ways["Juanji"] = juanji_step(network)
    return {name: [step(*pair) for pair in data] for name, step in ways.items()}


def apart(first: list[float], second: list[float]) -> float:
    """The greatest difference of two curves."""
    return max(abs(a - b) for a, b in zip(first, second, strict=True))


def measure(quick: bool = False, steps: int | None = None) -> dict[str, Any]:
    """The curves, and how far apart they are."""
    import juanji as jj
    from juanji import zoo

    jj.manual_seed(0)
    network = zoo.create("resnet18", num_classes=10, in_channels=1)
    found = curves(network, batches(steps or (QUICK_STEPS if quick else STEPS)))
    result: dict[str, Any] = {"curves": found}
    if len(found) > 1:
        exact, nchw, last = (found[f"PyTorch{way}"] for way in (", double precision", " NCHW", " channels last"))
        result["layouts_apart"] = apart(nchw, last)
        result["ours_apart"] = min(apart(found["Juanji"], nchw), apart(found["Juanji"], last))
        result["from_exact"] = {name: apart(curve, exact) for name, curve in found.items() if curve is not exact}
    race.note(str({name: value for name, value in result.items() if name != "curves"}))
    return result


def losses(result: dict[str, Any]) -> list[str]:
    """Where Juanji is farther away than PyTorch's layouts are from each other, and from double precision."""
    if "ours_apart" not in result:
        return []
    peers = [value for name, value in result["from_exact"].items() if name != "Juanji"]
    if result["ours_apart"] <= result["layouts_apart"] or result["from_exact"]["Juanji"] <= max(peers):
        return []
    return [
        f"Loss curve of ResNet-18: {result['ours_apart']:.2g} from PyTorch's, whose layouts are "
        f"{result['layouts_apart']:.2g} apart."
    ]


def markdown(result: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    names = list(result["curves"])
    steps = [step for step in SHOWN if step <= len(result["curves"]["Juanji"])]
    rows = [[str(step), *(f"{result['curves'][name][step - 1]:.6f}" for name in names)] for step in steps]
    rows.append(["mean of all", *(f"{np.mean(result['curves'][name]):.6f}" for name in names)])
    said = ""
    if "ours_apart" in result:
        exact = ", ".join(f"{name} {value:.2g}" for name, value in result["from_exact"].items())
        said = (
            f"Greatest differences: PyTorch's layouts from each other {result['layouts_apart']:.2g}, Juanji from the "
            f"nearer of them {result['ours_apart']:.2g}; from double precision {exact}.\n\n"
        )
    text = " ".join((__doc__ or "").split("    python")[0].split())
    return f"## Loss curve\n\n{text}\n\n{said}{race.table(['loss at step', *names], rows)}\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few steps")
    parser.add_argument("--steps", type=int)
    given = parser.parse_args()
    measured = measure(given.quick, given.steps)
    print(markdown(measured))
    print("\n".join(losses(measured)))
