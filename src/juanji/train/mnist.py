"""The recipe that trains a LeNet on MNIST-like pictures: AdamW, one cycle of the learning rate, shifts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji import optim, zoo
from juanji.data import DataLoader
from juanji.errors import DataError
from juanji.interop.preprocessing import Preprocessing, border_level, median
from juanji.nn import Module
from juanji.random import Generator
from juanji.tensors import manual_seed
from juanji.train.checkpoint import Checkpointer
from juanji.train.loop import Evaluation, Listener, Report, evaluate, fit
from juanji.train.pictures import Pictures, channels_first, statistics

#: Pictures evaluated at once.
EVALUATION_BATCH = 64


@dataclass(frozen=True)
class Recipe:
    """What is chosen before a training; the defaults give about 98% from 4,000 digits.

    Args:
        architecture: a name of the zoo.
        epochs: passes over the training pictures.
        batch_size: pictures in a step.
        lr: the learning rate at the top of its one cycle.
        weight_decay: AdamW's.
        shift: the largest random shift of a training picture, in pixels: few digits are enough then.
        seed: of the first weights, the order of the pictures and their shifts.

    Raises:
        ValueError: a number that makes no sense.
    """

    architecture: str = "lenet"
    epochs: int = 30
    batch_size: int = 32
    lr: float = 5e-3
    weight_decay: float = 0.1
    shift: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is at least 1")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"lr is {self.lr}; it is a number above 0")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; it is a number from 0 to 2**63 - 1")


@dataclass(frozen=True)
class Trained:
    """A trained model and what is known about it.

    Attributes:
        model: in evaluation mode.
        preprocessing: how it takes pictures.
        report: what the training took.
        evaluation: how it does on the test pictures.
    """

    model: Module
    preprocessing: Preprocessing
    report: Report
    evaluation: Evaluation


def train(
    train_images: NDArray[np.uint8],
    train_labels: NDArray[Any],
    test_images: NDArray[np.uint8],
    test_labels: NDArray[Any],
    classes: Sequence[str],
    *,
    recipe: Recipe | None = None,
    center_ink: bool = False,
    workers: int = 0,
    listener: Listener | None = None,
    checkpointer: Checkpointer | None = None,
) -> Trained:
    """Trains on some pictures and evaluates on others. The same seed gives the same weights.

    Args:
        train_images, test_images: uint8, (count, 28, 28) for grey pictures or (count, 28, 28, 3).
        train_labels, test_labels: class numbers (count,).
        classes: the classes' names.
        recipe: what else is chosen.
        center_ink: whether other pictures are placed as MNIST's digits are before prediction.
        workers: threads that make batches ahead; any number gives the same batches.
        listener: told of the progress; without one, as `fit` says.
        checkpointer: saves the training as it goes, and continues one.

    Raises:
        DataError: the pictures are not of one size, or a label has no class; the checkpoint to continue from
            has another recipe or other pictures.
        TrainingError: the loss became infinite or no number.
        Interrupted: a signal asked to stop; a checkpoint is saved.
    """
    recipe = recipe or Recipe()
    for what, images, labels in (("train", train_images, train_labels), ("test", test_images, test_labels)):
        if not len(images):
            raise DataError(f"the {what} set has no pictures")
        if labels.min() < 0 or labels.max() >= len(classes):
            raise DataError(
                f"the {what} set has labels from {labels.min()} to {labels.max()}; "
                f"there are {len(classes)} classes, from 0 to {len(classes) - 1}"
            )
    train_images, test_images = channels_first(train_images), channels_first(test_images)
    preprocessing = _preprocessing(train_images, center_ink)
    manual_seed(recipe.seed)
    model = zoo.create(recipe.architecture, num_classes=len(classes), in_channels=preprocessing.channels)
    batches = DataLoader(
        Pictures(train_images, train_labels, preprocessing, shift=recipe.shift),
        batch_size=recipe.batch_size,
        shuffle=True,
        generator=Generator().manual_seed(recipe.seed),
        num_workers=workers,
    )
    optimizer = optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=recipe.lr, total_steps=recipe.epochs * len(batches))
    if checkpointer is not None:
        checkpointer.identity = {
            "recipe": described(recipe),
            "data": fingerprint(train_images, train_labels),
        }
    report = fit(
        model,
        batches,
        optimizer,
        epochs=recipe.epochs,
        scheduler=schedule,
        listener=listener,
        checkpointer=checkpointer,
    )
    model.eval()
    tests = DataLoader(Pictures(test_images, test_labels, preprocessing), batch_size=EVALUATION_BATCH)
    return Trained(model, preprocessing, report, evaluate(model, tests, classes))


def _preprocessing(images: NDArray[np.uint8], center_ink: bool) -> Preprocessing:
    channels = [statistics(images[:, c]) for c in range(images.shape[1])]
    # What other pictures are turned to before prediction is what these look like.
    ground = median(np.array([border_level(picture[0]) for picture in images[:1000]]))
    grey = len(channels) == 1
    return Preprocessing(
        size=(images.shape[2], images.shape[3]),
        mode="L" if grey else "RGB",
        mean=tuple(mean for mean, _ in channels),
        std=tuple(deviation for _, deviation in channels),
        background="dark" if grey and ground <= 127 else "any",
        center_ink=center_ink and grey,
    )


def fingerprint(images: NDArray[np.uint8], labels: NDArray[Any]) -> dict[str, Any]:
    """What tells one set of pictures from another: how many there are of which size, and a hash of all.

    >>> fingerprint(np.zeros((2, 1, 3, 3), np.uint8), np.arange(2))["pictures"]
    '2 of 1 x 3 x 3'
    """
    digest = hashlib.sha256(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(labels, np.int64).data)
    size = " x ".join(str(n) for n in images.shape[1:])
    return {"pictures": f"{len(images)} of {size}", "sha256": digest.hexdigest()}


def described(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values, for a model file's metadata."""
    return asdict(recipe)
