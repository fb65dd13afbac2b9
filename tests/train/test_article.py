"""The article's program: the losses are PyTorch's step by step, eager and compiled, and the example runs."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import juanji as jj
from juanji import nn, optim
from juanji.data import write_idx

EXAMPLE = Path(__file__).parents[2] / "examples" / "lenet_mnist.py"


def example():
    spec = importlib.util.spec_from_file_location("lenet_mnist", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digits(count, seed=0):
    """Blurred blobs in ten places, normalised as the article does: enough to have a loss that falls."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, count)
    images = random.normal(0, 0.1, (count, 1, 28, 28))
    rows, columns = np.mgrid[:28, :28]
    for image, label in zip(images, labels, strict=True):
        row, column = 7 + 14 * (label % 2), 4 + 5 * (label // 2)
        image[0] += np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 8)
    return ((np.clip(images, 0, 1) - 0.5) / 0.5).astype(np.float32), labels.astype(np.int64)


def torch_losses(state, images, labels, rate):
    torch = pytest.importorskip("torch")
    from torch.nn import functional as TF

    layers = {"conv1": torch.nn.Conv2d(1, 6, 3), "conv2": torch.nn.Conv2d(6, 16, 3)}
    for name, (inputs, outputs) in {"fc1": (400, 120), "fc2": (120, 84), "fc3": (84, 10)}.items():
        layers[name] = torch.nn.Linear(inputs, outputs)
    net = torch.nn.ModuleDict(layers)
    net.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9)
    losses = []
    for i in range(0, len(images), 4):
        optimizer.zero_grad()
        x = torch.tensor(images[i : i + 4])
        x = TF.max_pool2d(TF.relu(net["conv1"](x)), 2)
        x = TF.max_pool2d(TF.relu(net["conv2"](x)), 2).flatten(1)
        x = net["fc3"](TF.relu(net["fc2"](TF.relu(net["fc1"](x)))))
        loss = TF.cross_entropy(x, torch.tensor(labels[i : i + 4]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


@pytest.mark.parametrize("compiled", [False, True])
def test_two_hundred_losses_are_pytorchs(compiled):
    images, labels = digits(800)
    jj.manual_seed(0)
    net = example().Net()
    state = {name: value.detach().numpy().copy() for name, value in net.state_dict().items()}
    expected = torch_losses(state, images, labels, rate=0.001)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(net.parameters(), lr=0.001, momentum=0.9)

    def step(inputs, targets):
        optimizer.zero_grad()
        loss = criterion(net(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss

    if compiled:
        step = jj.compile(step)
    losses = np.array(
        [step(jj.from_numpy(images[i : i + 4]), jj.from_numpy(labels[i : i + 4])).item() for i in range(0, 800, 4)]
    )
    assert len(losses) == 200
    assert np.allclose(losses, expected, rtol=1e-4, atol=0)
    assert losses[-20:].mean() < losses[:20].mean()


@pytest.mark.parametrize("arguments", [[], ["--compile"]])
def test_the_example_runs(tmp_path, arguments):
    for stem, count in (("train", 402), ("t10k", 30)):
        images, labels = digits(count)
        write_idx(tmp_path / f"{stem}-images-idx3-ubyte", (images[:, 0] * 127 + 127).astype(np.uint8))
        write_idx(tmp_path / f"{stem}-labels-idx1-ubyte", labels.astype(np.uint8))
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), "--root", str(tmp_path), "--epochs", "2", *arguments],
        env={**os.environ, "JUANJI_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [re.sub(r"\d\.\d{3}$", "_", line) for line in lines[:2]] == [
        "[1,   101] loss: _",
        "[2,   101] loss: _",
    ]
    assert lines[2].startswith("Finished Training")
    assert lines[3].startswith("Accuracy on the 30 test digits")
