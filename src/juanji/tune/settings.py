"""What can be chosen about a fine-tuning."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

RECIPES = ("auto", "head", "full", "bn", "last:N", "scratch")
HEADS = ("auto", "discriminant", "logistic")
VIEWS = ("auto", "whole", "middle")
AUGMENTATIONS = ("none", "light", "standard", "strong")
MIXES = ("none", "mixup", "cutmix", "both")


@dataclass(frozen=True)
class Settings:
    """The choices of a fine-tuning; None leaves one to the recipe.

    Args:
        model: a name of the zoo, or "auto".
        weights: a file with its weights, in place of those the zoo knows.
        recipe: "auto", "head" (only a new last layer), "full" (then all layers), "bn" (normalisations and last layer),
            "last:N" (the last N stages and the last layer), "scratch" (all layers, from random weights).
        budget: seconds that the training may take, of which "auto" makes the most.
        size: height and width of the pictures that the model takes; by default those of its weights.
        view: what a model sees of a picture: "whole" (fitted into the size), "middle" (cut out), or "auto", what does
            better on the training pictures.
        head: how a head is found: "discriminant" (in closed form), "logistic" (in epochs), or "auto", what does better
            on the training pictures.
        epochs: passes over the training pictures; of the head, where only that is trained.
        batch_size: pictures in a step.
        lr: the highest learning rate, that of the last layer.
        weight_decay: AdamW's.
        decay: by what the learning rate is multiplied from each stage to the one before it.
        label_smoothing: as of `nn.CrossEntropyLoss`.
        class_weights: count each class alike, however few pictures it has.
        augment: how training pictures are changed: "none", "light", "standard", "strong" (RandAugment and erasing).
        mix: "none", "mixup", "cutmix" or "both".
        ema: the share of the running average of the weights that each step keeps; 0 for none.
        patience: epochs without a lower validation loss after which a training ends; 0 for never.
        accumulate: batches for each update.
        find_lr: look for the learning rate first.
        val, test: the share of the pictures kept for validation and test where the set has no such parts of its own.
        group: a regular expression; pictures whose names agree in what it matches stay in one part.
        group_column: the column of a CSV table that says which pictures stay in one part.
        seed: of the split, the first weights, the order and the changes of the pictures.
        workers: threads that decode ahead; by default as many as there are processors, at most 4.

    Raises:
        ValueError: a choice that there is not; the message has those there are.

    >>> Settings(recipe="last:2").stages
    2
    """

    model: str = "auto"
    weights: str | None = None
    recipe: str = "auto"
    budget: float = 600.0
    size: int | None = None
    view: str = "auto"
    head: str = "auto"
    epochs: int | None = None
    batch_size: int = 16
    lr: float | None = None
    weight_decay: float = 0.05
    decay: float = 0.6
    label_smoothing: float = 0.1
    class_weights: bool = False
    augment: str = "standard"
    mix: str = "none"
    ema: float = 0.98
    patience: int = 0
    accumulate: int = 1
    find_lr: bool = False
    val: float = 0.2
    test: float = 0.0
    group: str | None = None
    group_column: str | None = None
    seed: int = 0
    workers: int | None = None

    def __post_init__(self) -> None:
        for name, valid in (("head", HEADS), ("view", VIEWS), ("augment", AUGMENTATIONS), ("mix", MIXES)):
            if getattr(self, name) not in valid:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(valid)}")
        if not isinstance(self.recipe, str) or not (self.recipe in RECIPES[:4] + RECIPES[5:] or self.stages):
            raise ValueError(f"recipe={self.recipe!r} must be one of {', '.join(RECIPES)} (N stages, 1 or more)")
        for name, least in (("batch_size", 1), ("accumulate", 1), ("patience", 0), ("seed", 0)):
            _whole(name, getattr(self, name), least)
        for name, least in (("epochs", 1), ("size", 8), ("workers", 0)):
            if getattr(self, name) is not None:
                _whole(name, getattr(self, name), least)
        if self.size is not None and self.size > 1024:
            raise ValueError(f"size={self.size} must be at most 1024")
        if self.lr is not None:
            _number("lr", self.lr, 0, math.inf, open_=True)
        _number("budget", self.budget, 0, math.inf, open_=True)
        _number("weight_decay", self.weight_decay, 0, math.inf)
        _number("decay", self.decay, 0, 1)
        for name in ("label_smoothing", "ema", "val", "test"):
            _number(name, getattr(self, name), 0, 0.999999)
        if self.val + self.test >= 1:
            raise ValueError(f"val={self.val} and test={self.test} must leave pictures to train on")
        if self.seed >= 2**63:
            raise ValueError(f"seed={self.seed} must be below 2**63")
        if self.group is not None:
            try:
                re.compile(self.group)
            except re.error as error:
                raise ValueError(f"group={self.group!r} is no regular expression: {error}") from None

    @property
    def stages(self) -> int:
        """N of the recipe "last:N", else 0."""
        match = re.fullmatch(r"last:([1-9]\d{0,3})", self.recipe) if isinstance(self.recipe, str) else None
        return int(match[1]) if match else 0

    def plain(self) -> dict[str, Any]:
        """All of them as JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, options: dict[str, Any]) -> Settings:
        """From keyword arguments.

        Raises:
            TypeError: an option that there is not.
        """
        known = [f.name for f in fields(cls)]
        for name in options:
            if name not in known:
                raise TypeError(f"finetune() has no option {name!r}; there are {', '.join(known)}")
        return cls(**options)


def _whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r} must be an integer, {least} or more")


def _number(name: str, value: Any, least: float, most: float, *, open_: bool = False) -> None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not least <= value <= most or (open_ and value == least):
        above = f"above {least:g}" if open_ else f"{least:g} or more"
        raise ValueError(f"{name}={value!r} must be a number {above}" + (f", at most {most:g}" if most < 1e9 else ""))
