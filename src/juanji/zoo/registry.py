"""The architectures that can be built by name, and what a model file needs to build its model again."""

from __future__ import annotations

import builtins
import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from juanji.nn.module import Module

M = TypeVar("M", bound=type[Module])

_registry: dict[str, type[Module]] = {}
_RECORD = "_architecture"


def register(name: str) -> Callable[[M], M]:
    """Class decorator: makes the class known as `name`; its instances remember their constructor's arguments.

    Raises:
        ValueError: another class has that name.
    """

    def decorate(cls: M) -> M:
        if name in _registry:
            raise ValueError(f"the name {name!r} is taken by {_registry[name].__qualname__}")
        _registry[name] = cls
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
                self.__dict__[_RECORD] = {"name": name, "arguments": arguments}

        cls.__init__ = __init__  # type: ignore[method-assign]
        return cls

    return decorate


def create(name: str, **kwargs: Any) -> Module:
    """Build a registered architecture with new random weights; `kwargs` go to its constructor.

    Raises:
        ValueError: no such architecture; the message lists those there are.
        TypeError: an argument that its constructor does not take.

    >>> import juanji.zoo as zoo
    >>> zoo.create("lenet", num_classes=3).fc3
    Linear(in_features=84, out_features=3, bias=True)
    """
    if name not in _registry:
        raise ValueError(f"there is no model named {name!r}; there are: {', '.join(list())}")
    return _registry[name](**kwargs)


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
    record: Mapping[str, Any] | None = model.__dict__.get(_RECORD)
    if record is None:
        raise TypeError(
            f"{type(model).__name__} is not a registered architecture: decorate its class with "
            "@juanji.zoo.register(name), so that a model file can name it"
        )
    result: dict[str, Any] = json.loads(json.dumps(record))
    return result
