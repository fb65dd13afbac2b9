"""Weights of other programs into a model: by name and shape, with a report of what fits, what does not, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji import nn
from juanji.dtypes import bfloat16, float32
from juanji.errors import DataError
from juanji.formats.torchfile import BFloat16
from juanji.tensors import Tensor, from_numpy
from juanji.zoo.classifier import Classifier

#: Entries of a checkpoint in which the weights may be.
_INSIDE = ("state_dict", "model_state_dict", "model", "net", "weights")
#: What wrappers put in front of every name.
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "net.")


@dataclass
class Report:
    """What came of loading weights.

    Attributes:
        matched: names of the model whose weights were taken as they are.
        adapted: names whose weights were changed to fit, and how.
        replaced: names of a new last layer, and why: it keeps its random weights.
        missing: names that found no weights, and why; the model keeps its own.
        unused: names in the weights that the model has no place for, and why.
    """

    matched: list[str] = field(default_factory=list)
    adapted: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every name found weights, a new last layer's excepted."""
        return not self.missing

    def __str__(self) -> str:
        """The counts in a line, then each name that is not simply matched."""
        lines = [
            f"{len(self.matched)} matched, {len(self.adapted)} adapted, {len(self.replaced)} replaced, "
            f"{len(self.missing)} missing, {len(self.unused)} unused"
        ]
        for kind in ("adapted", "replaced", "missing", "unused"):
            lines += [f"  {kind:8s} {name}: {why}" for name, why in getattr(self, kind).items()]
        return "\n".join(lines)


def load_weights(model: nn.Module, state: Mapping[str, Any], *, strict: bool = True) -> Report:
    """Loads weights into a model by their names, as far as they fit.

    Names are matched as they are, without the prefixes that wrappers add (`module.`), and by the model's own knowledge
    of other programs' names. A last layer for another number of classes stays the model's; a first convolution for
    other channels is adapted as timm does: its planes are summed for one channel, else repeated and scaled so that the
    response to grey keeps its size.

    Args:
        model: a model of the zoo, or any other.
        state: a `state_dict`, or a checkpoint that has one under "state_dict" or "model".
        strict: whether a weight of the model that finds none is an error. Nothing is changed then.

    Returns:
        what matched, what did not, and why.

    Raises:
        DataError: there are no weights in `state`; or, with `strict`, some are missing.

    >>> from juanji import zoo
    >>> model, other = zoo.create("lenet", num_classes=3), zoo.create("lenet")
    >>> print(load_weights(model, other.state_dict()))
    8 matched, 0 adapted, 2 replaced, 0 missing, 0 unused
      replaced fc3.weight: it is for 10 classes, and the model has 3
      replaced fc3.bias: it is for 10 classes, and the model has 3
    """
    report = Report()
    arrays = _arrays(state, report)
    wanted: dict[str, Tensor] = dict(model.state_dict())
    arrays = _named(model, arrays, wanted)
    first, last = _first_convolution(model), _last_layer(model, wanted)
    found: dict[str, Tensor] = {}
    for name, tensor in wanted.items():
        array = arrays.pop(name, None)
        shape = tuple(tensor.shape)
        if array is None:
            if name.endswith("num_batches_tracked"):  # which older files lack, and which inference does not read
                report.matched.append(name)
            else:
                report.missing[name] = "there is none of that name"
        elif (array.dtype.kind == "f") != tensor.dtype.is_floating_point:
            report.missing[name] = f"it has the type {array.dtype}, and the model's has {tensor.dtype.name}"
        elif array.shape == shape:
            found[name] = _tensor(array, tensor)
            report.matched.append(name)
        elif name.startswith(last) and array.shape[1:] == shape[1:]:
            report.replaced[name] = f"it is for {array.shape[0]} classes, and the model has {shape[0]}"
        elif name == first and array.ndim == 4 and (array.shape[0], *array.shape[2:]) == (shape[0], *shape[2:]):
            found[name] = _tensor(_planes(array, shape[1]), tensor)
            report.adapted[name] = f"from {array.shape[1]} channels to {shape[1]}"
        else:
            report.missing[name] = f"it has shape {list(array.shape)}, and the model's has {list(shape)}"
    for name in arrays:
        headless = isinstance(model, Classifier) and model.num_classes == 0 and name.startswith(last)
        report.unused[name] = "the model has no last layer" if headless else "the model has none of that name"
    if strict and report.missing:
        shown = "; ".join(f"{name}: {why}" for name, why in list(report.missing.items())[:3])
        raise DataError(
            f"the weights don't fit {type(model).__name__}: of its {len(wanted)}, "
            f"{len(report.missing)} are missing ({shown})"
        )
    model.load_state_dict(found, strict=False)
    return report


def _arrays(state: Mapping[str, Any], report: Report) -> dict[str, NDArray[Any]]:
    """The weights of a state as arrays by name."""
    if not isinstance(state, Mapping):
        raise DataError(f"weights are a dict of tensors, not a {type(state).__name__}")
    for _ in range(2):
        inside = [key for key in _INSIDE if isinstance(state.get(key), Mapping)]
        if not inside or any(_is_weight(value) for value in state.values()):
            break
        state = state[inside[0]]
    result: dict[str, NDArray[Any]] = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            plain = value.detach()
            result[str(name)] = (plain.to(float32) if plain.dtype is bfloat16 else plain).numpy()
        elif isinstance(value, BFloat16):
            result[str(name)] = value.wide()
        elif isinstance(value, np.ndarray):
            result[str(name)] = value
        else:
            report.unused[str(name)] = f"it is a {type(value).__name__}, not a tensor"
    if not result:
        raise DataError(f"there are no weights among the entries {', '.join(str(k)[:40] for k in list(state)[:6])}")
    return result


def _is_weight(value: Any) -> bool:
    return isinstance(value, (Tensor, BFloat16, np.ndarray))


def _named(model: nn.Module, arrays: dict[str, NDArray[Any]], wanted: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The arrays under the model's names where those are known."""
    while not any(name in wanted for name in arrays):
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in arrays)), None)
        if prefix is None:
            break
        arrays = {name.removeprefix(prefix): value for name, value in arrays.items()}
    own = model.own_names(list(arrays)) if isinstance(model, Classifier) else {}
    return {own.get(name, name): value for name, value in arrays.items()}


def _first_convolution(model: nn.Module) -> str:
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            return f"{name}.weight" if module.groups == 1 else ""
    return ""


def _last_layer(model: nn.Module, wanted: Mapping[str, Any]) -> str:
    """What the names of the last layer begin with."""
    if isinstance(model, Classifier):
        return f"{model.classifier_name}."
    layers: Sequence[str] = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return f"{layers[-1]}." if layers else "\0"


def _planes(weight: NDArray[Any], channels: int) -> NDArray[Any]:
    """A first convolution's weight (O, I, h, w) for another number of channels."""
    known = weight.shape[1]
    if channels == 1:
        one: NDArray[Any] = weight.sum(axis=1, keepdims=True)
        return one
    repeated = np.tile(weight, (1, math.ceil(channels / known), 1, 1))[:, :channels]
    scaled: NDArray[Any] = repeated * weight.dtype.type(known / channels)
    return scaled


def _tensor(array: NDArray[Any], like: Tensor) -> Tensor:
    return from_numpy(np.ascontiguousarray(array, like.dtype.numpy).reshape(array.shape))
