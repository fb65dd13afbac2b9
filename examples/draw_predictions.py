"""Draws a trained model's predictions: test pictures picked at random, and below them some that it gets wrong.

Under each picture is the class that the model chose and its probability; after a mistake, the right class.

    python examples/draw_predictions.py mnist-lenet.safetensors --out predictions.png
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from juanji.data import DataLoader, datasets
from juanji.interop.modelfile import load_model
from juanji.train.loop import scores
from juanji.train.pictures import Pictures

SIDE, GAP, CAPTION, HEADING = 72, 10, 22, 32
PAPER, INK, RIGHT, WRONG = "white", "#202020", "#1a7f37", "#cf222e"


def predict(loaded, test):
    """Class numbers and probabilities of all pictures of a set."""
    batches = DataLoader(Pictures(test.images, test.labels, loaded.preprocessing), batch_size=250)
    values = np.concatenate([batch for batch, _ in scores(loaded.model, batches)]).astype(np.float64)
    likely = np.exp(values - values.max(axis=1, keepdims=True))
    likely /= likely.sum(axis=1, keepdims=True)
    return likely.argmax(axis=1), likely.max(axis=1)


def draw(sections, test, classes, predicted, probability, columns=10):
    """One picture of all sections: pairs of a heading and the places of its pictures in `test`."""
    rows = [-(-len(places) // columns) for _, places in sections]
    line = SIDE + CAPTION + GAP
    width = columns * (SIDE + GAP) + GAP
    page = Image.new("RGB", (width, len(sections) * HEADING + sum(rows) * line + GAP), PAPER)
    pen, large, small = ImageDraw.Draw(page), ImageFont.load_default(17), ImageFont.load_default(15)
    top = 0
    for (heading, places), count in zip(sections, rows, strict=True):
        pen.text((GAP, top + HEADING / 2), heading, INK, large, anchor="lm")
        for i, place in enumerate(places):
            x, y = GAP + i % columns * (SIDE + GAP), top + HEADING + i // columns * line
            picture = Image.fromarray(test.images[place]).convert("RGB")
            page.paste(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC), (x, y))
            right = predicted[place] == test.labels[place]
            text = f"{classes[predicted[place]]}  {int(100 * probability[place])}%"  # 99.9% is not 100%
            if not right:
                text += f"  ({classes[test.labels[place]]})"
            pen.text((x + SIDE / 2, y + SIDE + CAPTION / 2), text, RIGHT if right else WRONG, small, anchor="mm")
        top += HEADING + count * line
    return page


def main():
    parser = argparse.ArgumentParser(description="Draws test pictures with a model's predictions.")
    parser.add_argument("model", help="a model file that `juanji train` saved")
    parser.add_argument("--data", type=Path, help="a folder with IDX files; by default MNIST's digits")
    parser.add_argument("--count", type=int, default=30, help="how many pictures to pick at random")
    parser.add_argument("--mistakes", type=int, default=10, help="how many mistakes to show, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="predictions.png")
    options = parser.parse_args()

    loaded = load_model(options.model)
    if options.data is None:
        test = datasets.MNIST(train=False, download=True)
    else:
        test = datasets.IDXDataset(options.data, train=False)
    predicted, probability = predict(loaded, test)

    picked = np.random.default_rng(options.seed).permutation(len(test))[: options.count]
    sections = [(f"{len(picked)} of the {len(test):,} test pictures, picked at random", picked)]
    wrong = np.flatnonzero(predicted != test.labels)
    if len(wrong) and options.mistakes > 0:
        shown = wrong[: options.mistakes]
        heading = f"{len(shown)} of the {len(wrong):,} that it gets wrong (in brackets: the right class)"
        sections.append((heading, shown))
    draw(sections, test, loaded.classes, predicted, probability).save(options.out, optimize=True)
    print(f"{options.out}: {len(test) - len(wrong):,} of {len(test):,} right")


if __name__ == "__main__":
    main()
