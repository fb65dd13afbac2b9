"""An outcome made by hand: a tiny network that knows colours, and pictures of one colour each."""

import math

import numpy as np
from PIL import Image

import juanji as jj
from juanji import nn
from juanji.interop.preprocessing import Preprocessing
from juanji.tune.outcome import Outcome

COLOURS = {"red": (200, 30, 30), "green": (30, 190, 40), "blue": (40, 50, 210)}


def network():
    """Scores are the mean of red, green and blue."""
    model = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with jj.no_grad():
        model[0].weight.copy_(jj.eye(3).reshape(3, 3, 1, 1) * 4)
    return model.eval()


def outcome(folder, classes=("red", "green", "blue"), count=30, names=None, **changes):
    """`count` pictures, one in five of which has the next class's colour."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.arange(count) % 3
    shown = np.where(np.arange(count) % 5 == 4, (labels + 1) % 3, labels)
    paths, pixels = [], []
    for i in range(count):
        noise = generator.integers(-40, 40, (12, 10, 3))
        values = np.clip(np.array(list(COLOURS.values())[shown[i]]) + noise, 0, 255).astype(np.uint8)
        path = folder / f"{i:02d}{names[i % len(names)] if names else '.png'}"
        if not path.exists():
            Image.fromarray(values).save(path, "PNG")
        paths.append(str(path))
        pixels.append(np.asarray(Image.open(path)).transpose(2, 0, 1))
    preprocessing = Preprocessing(size=(12, 10), mode="RGB", mean=(0.5,) * 3, std=(0.25,) * 3)
    model = network()
    with jj.no_grad():
        logits = model(jj.from_numpy(preprocessing.normalize(np.stack(pixels)))).numpy()
    history = [
        {
            "phase": "head" if epoch < 4 else "all", "epoch": epoch, "lr": 0.01 / epoch, "train_loss": 1.0 / epoch,
            "train_accuracy": None, "val_loss": 1.1 / epoch, "val_accuracy": 1 - 0.5 / epoch, "seconds": 0.5, "waiting": 0.1,
        }
        for epoch in range(1, 9)
    ]  # fmt: skip
    given = {
        "model": model,
        "preprocessing": preprocessing,
        "classes": list(classes),
        "recipe": "head",
        "reasons": ["there are few pictures"],
        "settings": {"architecture": "colours", "epochs": 8, "lr": 0.01},
        "history": history,
        "best_epoch": 8,
        "part": "val",
        "paths": paths,
        "labels": labels.astype(np.int64),
        "logits": logits,
        "metrics": {"accuracy": 0.8},
        "seeds": {"split": 7},
        "seconds": 12.5,
        "peak_memory": 100 << 20,
        "data": {
            "root": str(folder), "layout": "folders", "digest": "ab" * 32,
            "counts": {name: {"train": 20 + i, "val": 10} for i, name in enumerate(classes)},
            "skipped": [{"name": "broken.png", "reason": "the picture is damaged"}],
            "warnings": ["one class is small"], "duplicates": [["a.png", "b.png"]],
        },
        "weights": {"name": "colours", "file": "c.pth", "sha256": "cd" * 32, "licence": "BSD-3-Clause", "origin": "here"},
        "versions": {"juanji": jj.__version__, "python": "3"},
        "timing": {"scan": 0.5, "head": 12.0},
    }  # fmt: skip
    assert math.isclose(float((logits.argmax(1) == labels).mean()), float((shown == labels).mean()))
    return Outcome(**(given | changes))
