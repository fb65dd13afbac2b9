"""A trained model as one .safetensors file: weights, and as JSON everything needed to use them anywhere."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from juanji import nn, zoo
from juanji.errors import DataError
from juanji.formats import container
from juanji.formats.torchfile import BFloat16
from juanji.interop.preprocessing import Preprocessing
from juanji.interop.statefile import array_of
from juanji.tensors import Tensor, from_numpy
from juanji.version import __version__

_FORMAT = "juanji.model"
_VERSION = 1
#: A file's arguments build a network before its weights are compared; no honest number there is larger.
_LARGEST_ARGUMENT = 1 << 16
_MOST_CLASSES = 1 << 20


@dataclass(frozen=True)
class LoadedModel:
    """What a model file holds.

    Attributes:
        model: the network with its weights, in evaluation mode.
        classes: the name of each output, in order.
        preprocessing: how pictures are made into inputs.
        metrics: numbers measured when it was saved, such as `{"accuracy": 0.981}`.
        versions: of what wrote it: juanji, python, numpy.
        architecture: its name in `juanji.zoo`.
        arguments: the arguments with which that is built.
        metadata: whatever else was saved, such as the seed and the data set's name.
    """

    model: nn.Module
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    metrics: dict[str, Any]
    versions: dict[str, str]
    architecture: str
    arguments: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)


def save_model(
    path: str | os.PathLike[str],
    model: nn.Module,
    *,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    metrics: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Saves a trained model, atomically: the path holds its old content or all of the new one.

    Args:
        path: the file to write, by convention `*.safetensors`.
        model: of an architecture that `juanji.zoo` knows; its `state_dict()` is saved under PyTorch's names. One in
            float16 or bfloat16 is saved so, in half the bytes; loaded, it has the same numbers in float32.
        classes: the name of each output, in order.
        preprocessing: how pictures are made into inputs.
        metrics: numbers that were measured on it.
        metadata: anything else worth keeping, as plain JSON values: seed, data set, epochs.

    Raises:
        ValueError: a class name is there twice.
        TypeError: the model is not one of the zoo's, or metrics or metadata are not plain JSON values.
        OSError: the file can't be written.
    """
    built = zoo.architecture(model)
    if len(set(classes)) != len(classes):
        raise ValueError("a class name is there twice")
    arrays = {name: array_of(value) for name, value in model.state_dict().items()}
    description = {
        "format": _FORMAT,
        "version": _VERSION,
        "architecture": built["name"],
        "arguments": built["arguments"],
        "classes": [str(name) for name in classes],
        "preprocessing": preprocessing.to_json(),
        "metrics": dict(metrics or {}),
        "versions": _versions(),
        "metadata": dict(metadata or {}),
    }
    container.write(path, arrays, description)


def load_model(path: str | os.PathLike[str]) -> LoadedModel:
    """Loads what `save_model` wrote. The file is read, never run: it can hold no code.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: the file is truncated or foreign, names an unknown architecture, or its weights, classes or
            preprocessing do not fit that architecture.
    """
    arrays, description = container.read(path)
    return _Check(str(path), arrays, description).model()


class _Check:
    """Builds a model from a file's content, taking nothing in it for granted."""

    def __init__(self, where: str, arrays: container.Arrays, description: Any) -> None:
        self.where = where
        self.arrays = arrays
        if not isinstance(description, dict) or description.get("format") != _FORMAT:
            raise DataError(
                f"{where!r} is not a model that Juanji saved: it holds weights, but not which network they belong to"
            )
        if description.get("version") != _VERSION:
            raise self.wrong(
                f"it has model format {str(description.get('version'))[:40]!r}; this version of Juanji reads {_VERSION}"
            )
        self.description = description

    def wrong(self, what: str) -> DataError:
        return DataError(f"cannot load the model {self.where!r}: {what}")

    def entry(self, name: str, kind: type) -> Any:
        value = self.description.get(name)
        if not isinstance(value, kind):
            raise self.wrong(f"{name} is {str(value)[:60]!r}, not a {kind.__name__}")
        return value

    def model(self) -> LoadedModel:
        architecture = self.entry("architecture", str)
        if architecture not in zoo.list():
            raise self.wrong(f"its architecture {architecture[:60]!r} is unknown; the zoo has {', '.join(zoo.list())}")
        classes = self.entry("classes", list)
        if not classes or len(classes) > _MOST_CLASSES or not all(isinstance(c, str) for c in classes):
            raise self.wrong("classes is not a list of names")
        if len(set(classes)) != len(classes):
            raise self.wrong("a class name is there twice")
        try:
            preprocessing = Preprocessing.from_json(self.entry("preprocessing", dict))
        except DataError as error:
            raise self.wrong(str(error)) from None
        arguments = self.entry("arguments", dict)
        model = self.build(architecture, arguments)
        self.fill(model)
        model.eval()
        self.outputs(model, preprocessing, len(classes))
        return LoadedModel(
            model=model,
            classes=tuple(classes),
            preprocessing=preprocessing,
            metrics=self.entry("metrics", dict),
            versions={str(k): str(v) for k, v in self.entry("versions", dict).items()},
            architecture=architecture,
            arguments=arguments,
            metadata=self.entry("metadata", dict),
        )

    def build(self, architecture: str, arguments: dict[str, Any]) -> nn.Module:
        # A lying argument could ask for a network that fills the memory before its weights are compared:
        # every size in an honest file is also a size of one of its tensors, or small.
        sizes = [n for array in self.arrays.values() for n in array.shape]
        bound = min(_LARGEST_ARGUMENT, max([1024, *sizes]))
        for name, value in arguments.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) > bound:
                raise self.wrong(f"the argument {name[:60]}={value!r} does not fit its weights")
            if isinstance(value, (dict, list)):
                raise self.wrong(f"the argument {name[:60]} is no plain value")
        try:
            with nn.init.skipped():
                return zoo.create(architecture, **arguments)
        except (TypeError, ValueError, RuntimeError, ArithmeticError, MemoryError) as error:
            raise self.wrong(f"{architecture} can't be built from its arguments: {error}") from error

    def fill(self, model: nn.Module) -> None:
        wanted: dict[str, Tensor] = dict(model.state_dict())
        missing = sorted(wanted.keys() - self.arrays.keys())
        foreign = sorted(self.arrays.keys() - wanted.keys())
        if missing:
            raise self.wrong(f"the weights {', '.join(missing[:4])} are missing ({len(missing)} in all)")
        if foreign:
            names = ", ".join(name[:60] for name in foreign[:4])
            raise self.wrong(f"it has weights that the network lacks: {names} ({len(foreign)} in all)")
        state = {}
        for name, tensor in wanted.items():
            array, dtype = self.arrays[name], tensor.detach().numpy().dtype
            if dtype == np.float32 and (
                isinstance(array, BFloat16) or array.dtype == np.float16
            ):  # a model that was saved in half the bytes
                array = array.wide() if isinstance(array, BFloat16) else array.astype(np.float32)
            if array.shape != tuple(tensor.shape):
                raise self.wrong(f"{name} has shape {array.shape}; the network's is {tuple(tensor.shape)}")
            if array.dtype != dtype:
                raise self.wrong(f"{name} has the type {array.dtype}; the network's is {dtype}")
            state[name] = from_numpy(array)
        model.load_state_dict(state)

    def outputs(self, model: nn.Module, preprocessing: Preprocessing, classes: int) -> None:
        """Runs the network once on an empty picture: the classes and the size in the file have to fit it."""
        from juanji.tensors import no_grad, zeros

        height, width = preprocessing.size
        try:
            with no_grad():
                shape = tuple(model(zeros(1, preprocessing.channels, height, width)).shape)
        except (ValueError, RuntimeError, TypeError) as error:
            raise self.wrong(f"the network does not take pictures of {height}x{width}: {error}") from error
        if shape != (1, classes):
            raise self.wrong(f"it names {classes} classes, and the network's output has shape {shape}")


def _versions() -> dict[str, str]:
    return {"juanji": __version__, "python": platform.python_version(), "numpy": np.__version__}
