"""The architectures that can be built by name, and what a model file needs to build its model again."""

from __future__ import annotations

import builtins
import functools
import inspect
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from juanji.nn.module import Module

B = TypeVar("B", bound=Callable[..., Module])


@dataclass(frozen=True)
class Entry:
    """What is known of an architecture.

    Attributes:
        build: its class, or the function that builds it.
        input_size: height and width that it was made for.
    """

    build: Callable[..., Module]
    input_size: int


_registry: dict[str, Entry] = {}
#: The attribute in which a model keeps its name and arguments.
RECORD = "_architecture"


def register(name: str, input_size: int = 224) -> Callable[[B], B]:
    """Decorator: makes a class or a function known as `name`; what it builds remembers the arguments.

    Args:
        name: as `create` shall know it.
        input_size: height and width that it was made for.

    Raises:
        ValueError: another one has that name.
    """

    def decorate(build: B) -> B:
        if name in _registry:
            raise ValueError(f"the name {name!r} is taken by {_registry[name].build.__qualname__}")
        result: Any = build
        if inspect.isclass(build):
            _record_instances(name, build)
        else:
            result = _recording(name, build)
        _registry[name] = Entry(result, input_size)
        return result  # type: ignore[no-any-return]

    return decorate


def _recording(name: str, build: Callable[..., Module]) -> Callable[..., Module]:
    signature = inspect.signature(build)

    @functools.wraps(build)
    def wrapped(*args: Any, **kwargs: Any) -> Module:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        model = build(*args, **kwargs)
        model.__dict__[RECORD] = {"name": name, "arguments": dict(bound.arguments)}
        return model

    return wrapped


def _record_instances(name: str, cls: Any) -> None:
    original = cls.__init__
    signature = inspect.signature(original)

    @functools.wraps(original)
    def __init__(self: Module, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        arguments = dict(builtins.list(bound.arguments.items())[1:])
        original(self, *args, **kwargs)
        # A subclass's own constructor calls this one with other arguments than it was called with itself.
        if type(self) is cls:
            self.__dict__[RECORD] = {"name": name, "arguments": arguments}

    cls.__init__ = __init__


def input_size(name: str) -> int:
    """Height and width that an architecture was made for.

    Raises:
        ValueError: no such architecture.

    >>> input_size("lenet")
    28
    """
    return _entry(name).input_size


def _entry(name: str) -> Entry:
    if name not in _registry:
        raise ValueError(f"there is no model named {name!r}; there are: {', '.join(list())}")
    return _registry[name]


def create(name: str, *, pretrained: bool | str | os.PathLike[str] = False, **kwargs: Any) -> Module:
    """Build a registered architecture, with new random weights or trained ones; `kwargs` go to its constructor.

    Trained weights are looked for in the cache, then at their own address, then in the package registry; each file is
    checked against its SHA-256 (`juanji.zoo.weights` knows them all). Where `num_classes` is not what they were trained
    for, the last layer is new; where `in_channels` is not, the first convolution is adapted.

    Args:
        name: of the architecture.
        pretrained: True for the trained weights that are known, or a file with weights (.pth, .pt, .safetensors), or a
            folder that has such a file under its own name.

    Raises:
        ValueError: no such architecture, or none of its weights is known; the message lists those there are.
        TypeError: an argument that its constructor does not take.
        DataError: weights that can't be had, with what to put where; or that don't fit.

    >>> import juanji.zoo as zoo
    >>> zoo.create("lenet", num_classes=3).fc3
    Linear(in_features=84, out_features=3, bias=True)
    """
    entry = _entry(name)
    if pretrained is False:
        return entry.build(**kwargs)
    from juanji.zoo.pretrained import build  # which needs this module

    return build(name, None if pretrained is True else pretrained, kwargs)


def list() -> builtins.list[str]:
    """The names that `create` knows, sorted."""
    return sorted(_registry)


def architecture(model: Module) -> dict[str, Any]:
    """Name and arguments of a model of the zoo, as JSON values: `create(name, **arguments)` builds its like.

    Raises:
        TypeError: the model is not one of the zoo's, or has an argument that JSON cannot hold.

    >>> import juanji.zoo as zoo
    >>> zoo.architecture(zoo.create("lenet", num_classes=3))
    {'name': 'lenet', 'arguments': {'num_classes': 3, 'in_channels': 1}}
    """
    record: Mapping[str, Any] | None = model.__dict__.get(RECORD)
    if record is None:
        raise TypeError(
            f"{type(model).__name__} is not a registered architecture: decorate its class with "
            "@juanji.zoo.register(name), so that a model file can name it"
        )
    result: dict[str, Any] = json.loads(json.dumps(record))
    return result
