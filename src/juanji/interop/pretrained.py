"""Networks of the zoo with trained weights, ready for pictures: preprocessing and class names included."""

from __future__ import annotations

import platform

import numpy as np

from juanji import zoo
from juanji.data.fetch import Progress
from juanji.interop.modelfile import LoadedModel
from juanji.interop.preprocessing import Preprocessing
from juanji.version import __version__


def load_pretrained(name: str, *, progress: Progress | None = None) -> LoadedModel:
    """A network with its trained weights, as if a model file had been loaded.

    Args:
        name: of an architecture whose weights are known.
        progress: who is told about fetching.

    Raises:
        ValueError: no such architecture, or none of its weights is known.
        DataError: the weights can't be had; the message says what to put where.
    """
    known = zoo.weights(name)
    path = zoo.fetch_weights(name, progress)
    model = zoo.create(name, pretrained=path)
    model.eval()
    built = zoo.architecture(model)
    return LoadedModel(
        model=model,
        classes=zoo.imagenet_classes(),
        preprocessing=Preprocessing.from_json(known.preprocessing),
        metrics={},
        versions={"juanji": __version__, "python": platform.python_version(), "numpy": np.__version__},
        architecture=built["name"],
        arguments=built["arguments"],
        metadata={"weights": path.name, "licence": known.licence, "origin": known.origin},
    )
