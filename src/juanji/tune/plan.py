"""From settings to a network with its weights, and to the decisions that a resumed training must not make again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from juanji import nn, zoo
from juanji.data.fetch import Progress, sha256_of
from juanji.errors import DataError
from juanji.interop.preprocessing import Preprocessing
from juanji.nn import Module
from juanji.tune.settings import Settings

_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


#: The highest learning rate of the last layer, by recipe.
RATES = {"full": 1e-3, "bn": 5e-3, "last": 1e-3, "scratch": 2e-3}
#: Passes, by recipe, where nobody says how many.
EPOCHS = {"full": 12, "bn": 12, "last": 12, "scratch": 40}


@dataclass
class Plan:
    """What was decided before a training; plain values, so that a checkpoint keeps them.

    Attributes:
        architecture: a name of the zoo.
        recipe: never "auto".
        view: "whole" or "middle".
        head: "discriminant", "logistic" or "random", how the last layer begins.
        shrinkage, scale: of the discriminant; see `juanji.tune.head`.
        cross_validated: the accuracy of such a head on training pictures that it had not seen.
        epochs: of the phase that is trained in epochs; 0 for none.
        lr: the highest learning rate.
        weights: the record for `Outcome.weights`; None for random ones.
        reasons: why all that, one sentence each.
    """

    architecture: str
    recipe: str = "auto"
    view: str = "auto"
    head: str = "auto"
    shrinkage: float | None = None
    scale: float = 1.0
    cross_validated: float | None = None
    epochs: int = 0
    lr: float = 1e-3
    weights: dict[str, Any] | None = None
    reasons: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, value: Any) -> Plan:
        """The inverse of `plain`, for values out of a file.

        Raises:
            DataError: it is no plan.
        """
        if not isinstance(value, Mapping) or not set(value) <= set(cls.__dataclass_fields__):
            raise DataError("the checkpoint has no plan of a fine-tuning")
        plan = cls(**value)
        if not all(isinstance(v, str) for v in (plan.architecture, plan.recipe, plan.view, plan.head)):
            raise DataError("the checkpoint's plan of a fine-tuning is damaged")
        return plan


def settle(plan: Plan, settings: Settings) -> None:
    """Sets rate and passes of a recipe that is trained in epochs, where nobody gave them."""
    if plan.recipe not in ("auto", "head"):
        kind = plan.recipe.partition(":")[0]
        plan.lr = settings.lr or RATES[kind]
        plan.epochs = settings.epochs or plan.epochs or EPOCHS[kind]


def starting_weights(settings: Settings, name: str, progress: Progress | None) -> tuple[Path, dict[str, Any]]:
    """The file with the weights to begin with, and what is known of them.

    Raises:
        ValueError: no such network, or none of its weights is known.
        FileNotFoundError: there is no such file.
        DataError: they can't be had; the message says what to put where.
    """
    if settings.weights is not None:
        path = Path(settings.weights)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {settings.weights!r} with weights")
        record = {"licence": "unknown", "origin": f"the file {path.name}"}
    else:
        known = zoo.weights(name)
        path = zoo.fetch_weights(name, progress)
        record = {"licence": known.licence, "origin": known.origin}
    return path, {"name": name, "file": path.name, "sha256": sha256_of(path), **record}


def network(plan: Plan, classes: int, path: str | os.PathLike[str] | None) -> Module:
    """The network of a plan for so many classes, with the weights of a file or new ones."""
    if path is None:
        return zoo.create(plan.architecture, num_classes=classes)
    return zoo.create(plan.architecture, pretrained=path, num_classes=classes)


def views(settings: Settings, name: str) -> dict[str, Preprocessing]:
    """The ways to make a picture into the network's input: "whole" and "middle".

    Args:
        settings: whose `size` counts.
        name: of the network, whose weights say everything else.

    >>> {k: (v.size, v.resize) for k, v in views(Settings(size=64), "mobilenet_v2").items()}
    {'whole': ((64, 64), None), 'middle': ((64, 64), 73)}
    """
    try:
        known = Preprocessing.from_json(zoo.weights(name).preprocessing)
    except ValueError:  # none of its weights is known
        with nn.init.skipped():
            built = zoo.architecture(zoo.create(name))
        size = zoo.input_size(name)
        if built["arguments"].get("in_channels", 3) == 1:
            known = Preprocessing(size=(size, size), mode="L", mean=(0.5,), std=(0.5,))
        else:
            known = Preprocessing.from_json({"size": [size, size], "mode": "RGB", **_IMAGENET})
    resize = known.resize if known.resize is not None else round(known.size[0] * 8 / 7)
    if settings.size is not None:
        resize = round(resize * settings.size / known.size[0])
        known = replace(known, size=(settings.size, settings.size), resize=max(settings.size, resize))
    return {
        "whole": replace(known, resize=None),
        "middle": replace(known, resize=max(resize, *known.size) if known.resize is None else known.resize),
    }
