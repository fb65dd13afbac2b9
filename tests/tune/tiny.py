"""A network that fine-tunes in moments, and pictures that it can tell apart; run as a program it is `juanji` with it."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import juanji as jj
from juanji import nn, zoo
from juanji.zoo.classifier import Classifier, initialise

CLASSES = ("bars", "dots", "rows")


@zoo.register("tiny", input_size=24)
class Tiny(Classifier):
    """Two stages of convolution, normalisation and ReLU."""

    def __init__(self, num_classes=10, in_channels=3):
        super().__init__()
        self.num_classes, self.num_features = num_classes, 12
        self.one = nn.Sequential(nn.Conv2d(in_channels, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.fc = nn.Linear(12, num_classes) if num_classes else nn.Identity()
        initialise(self)

    def stages(self, x):
        x = self.one(x)
        yield x
        yield self.two(x)

    def named_stages(self):
        return {"one": [self.one], "two": [self.two]}


#: What the zoo keeps of it. It is known there only while a test of this folder runs: others count what the zoo has.
ENTRY = zoo.registry._registry.pop("tiny")


def known():
    """Enters the network into the zoo."""
    zoo.registry._registry["tiny"] = ENTRY


def weights(path):
    """Random weights, the same each time."""
    jj.manual_seed(7)
    jj.save(Tiny().state_dict(), path)
    return path


def picture(kind, random):
    """24 x 24 pixels of a pattern whose place, colour and noise are random."""
    values = random.integers(0, 60, (24, 24, 3))
    at, colour = int(random.integers(0, 4)), random.integers(150, 255, 3)
    if kind == "bars":
        values[:, at::6] = colour
    elif kind == "rows":
        values[at::6] = colour
    else:
        values[at::6, at::6] = colour
        values[at + 1 :: 6, at::6] = colour
    return Image.fromarray(values.astype(np.uint8))


def pictures(folder, each=12, seed=0, classes=CLASSES):
    """A folder with a folder for each class."""
    random = np.random.default_rng(seed)
    for kind in classes:
        (Path(folder) / kind).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            picture(kind, random).save(Path(folder) / kind / f"{i:02d}.png")
    return Path(folder)


if __name__ == "__main__":
    from juanji.cli.main import main

    known()
    sys.exit(main())
