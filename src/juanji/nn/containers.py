"""Modules that hold other modules or parameters: Sequential, ModuleList, ModuleDict, ParameterList."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Self, overload

from juanji import config
from juanji.nn.module import Module
from juanji.nn.parameter import Parameter
from juanji.tensors import Tensor


def _position(index: int, length: int, kind: str) -> int:
    """`index`, which may count from the end, as a position; raises `IndexError`."""
    index = operator.index(index)
    if not -length <= index < length:
        raise IndexError(f"index {index} is out of range for a {kind} of {length}")
    return index % length


class _Numbered(Module):
    """Modules under the names "0", "1", ...: what Sequential and ModuleList have in common."""

    def _names(self) -> list[str]:
        self.__dict__["_seen"] = True
        return list(self._modules)

    def _all(self) -> list[Module]:
        self.__dict__["_seen"] = True
        return [module for module in self._modules.values() if module is not None]

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._all())

    def _renumber(self, modules: list[Module]) -> None:
        config.changed(f"{type(self).__name__}'s modules")
        self._modules.clear()
        for number, module in enumerate(modules):
            self._modules[str(number)] = module

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._names()[_position(index, len(self), type(self).__name__)], module)

    def __delitem__(self, index: int | slice) -> None:
        modules = self._all()
        if isinstance(index, slice):
            del modules[index]
        else:
            del modules[_position(index, len(self), type(self).__name__)]
        self._renumber(modules)

    def append(self, module: Module) -> Self:
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add modules at the end."""
        if not isinstance(modules, Iterable):
            raise TypeError(
                f"{type(self).__name__}.extend should be called with an iterable, got {type(modules).__name__}"
            )
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Self | None:
        """Put a module in front of position `index`."""
        if not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        length = len(self)
        if not -length <= index <= length:
            raise IndexError(f"index {index} is out of range for a {type(self).__name__} of {length}")
        modules = self._all()
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def pop(self, index: int = -1) -> Module:
        """Remove and return the module at `index`."""
        modules = self._all()
        module = modules.pop(_position(index, len(modules), type(self).__name__))
        self._renumber(modules)
        return module


class Sequential(_Numbered):
    """Modules run one after another; given one by one, or as one `OrderedDict` of names.

    >>> import juanji as jj
    >>> from juanji import nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU())
    >>> tuple(net(jj.zeros(2, 1, 2, 2)).shape)
    (2, 3)
    >>> net[1]
    Linear(in_features=4, out_features=3, bias=True)
    """

    @overload
    def __init__(self, *modules: Module) -> None: ...
    @overload
    def __init__(self, modules: Mapping[str, Module], /) -> None: ...

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.add_module(name, module)
        else:
            for number, module in enumerate(modules):
                self.add_module(str(number), module)

    def forward(self, input: Any) -> Any:
        """Give `input` to the first module, its output to the second, and so on."""
        for module in self._modules.values():
            if module is not None:
                input = module(input)
        return input

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...

    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return type(self)(OrderedDict(list(zip(self._names(), self._all(), strict=True))[index]))
        return self._all()[_position(index, len(self), type(self).__name__)]

    def __add__(self, other: Sequential) -> Sequential:
        if not isinstance(other, Sequential):
            return NotImplemented
        return Sequential(*self._all(), *other._all())


class ModuleList(_Numbered):
    """A list of modules, which registers them; it has no `forward`.

    >>> from juanji import nn
    >>> nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    ModuleList(
      (0-2): 3 x Linear(in_features=2, out_features=2, bias=True)
    )
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.extend(modules)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> ModuleList: ...

    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return type(self)(self._all()[index])
        return self._all()[_position(index, len(self), type(self).__name__)]

    def __iadd__(self, modules: Iterable[Module]) -> Self:
        return self.extend(modules)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self._all(), *other])

    def __repr__(self) -> str:
        lines: list[str] = []
        first = 0
        for text, group in groupby(repr(module) for module in self._all()):
            count = len(list(group))
            indented = text.replace("\n", "\n  ")
            if count == 1:
                lines.append(f"({first}): {indented}")
            else:
                lines.append(f"({first}-{first + count - 1}): {count} x {indented}")
            first += count
        return self._format([], lines)


class ModuleDict(Module):
    """A dictionary of modules, which registers them; it has no `forward`.

    >>> from juanji import nn
    >>> list(nn.ModuleDict({"act": nn.ReLU(), "flat": nn.Flatten()}))
    ['act', 'flat']
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Module:
        module = self._modules[key]
        if module is None:
            raise KeyError(key)
        return module

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        config.changed(f"{type(self).__name__}[{key!r}]")
        del self._modules[key]

    def __len__(self) -> int:
        self.__dict__["_seen"] = True
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        self.__dict__["_seen"] = True
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        self.__dict__["_seen"] = True
        return key in self._modules

    def keys(self) -> Iterable[str]:
        """The names."""
        return [*self]

    def values(self) -> Iterable[Module]:
        """The modules."""
        return [self[key] for key in self]

    def items(self) -> Iterable[tuple[str, Module]]:
        """(name, module) of each."""
        return [(key, self[key]) for key in self]

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace modules by name."""
        pairs = modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules
        if not isinstance(pairs, Iterable):
            raise TypeError(f"ModuleDict.update should be called with a mapping, got {type(modules).__name__}")
        for key, module in pairs:
            self[key] = module

    def pop(self, key: str) -> Module:
        """Remove and return the module of that name."""
        module = self[key]
        del self[key]
        return module

    def clear(self) -> None:
        """Remove all."""
        for key in self.keys():
            del self[key]


class ParameterList(Module):
    """A list of parameters, which registers them; plain tensors become parameters.

    >>> import juanji as jj
    >>> weights = jj.nn.ParameterList([jj.zeros(2), jj.zeros(3)])
    >>> [name for name, _ in weights.named_parameters()]
    ['0', '1']
    """

    def __init__(self, values: Iterable[Tensor] | None = None) -> None:
        super().__init__()
        if values is not None:
            self.extend(values)

    def __len__(self) -> int:
        self.__dict__["_seen"] = True
        return len(self._parameters)

    def __iter__(self) -> Iterator[Parameter]:
        return iter([self[index] for index in range(len(self))])

    @overload
    def __getitem__(self, index: int) -> Parameter: ...
    @overload
    def __getitem__(self, index: slice) -> ParameterList: ...

    def __getitem__(self, index: int | slice) -> Parameter | ParameterList:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        parameter = self._parameters[str(_position(index, len(self), type(self).__name__))]
        assert parameter is not None
        return parameter

    def __setitem__(self, index: int, value: Tensor) -> None:
        name = str(_position(index, len(self), type(self).__name__))
        self._store(self._parameters, name, _as_parameter(value))

    def append(self, value: Tensor) -> Self:
        """Add a parameter at the end."""
        self.register_parameter(str(len(self)), _as_parameter(value))
        return self

    def extend(self, values: Iterable[Tensor]) -> Self:
        """Add parameters at the end."""
        if not isinstance(values, Iterable) or isinstance(values, Tensor):
            raise TypeError(f"ParameterList.extend should be called with an iterable, got {type(values).__name__}")
        for value in list(values):
            self.append(value)
        return self

    def __iadd__(self, values: Iterable[Tensor]) -> Self:
        return self.extend(values)

    def __repr__(self) -> str:
        lines = [
            f"({name}): Parameter containing: [{value.dtype} of size {'x'.join(map(str, value.shape))}]"
            for name, value in self._parameters.items()
            if value is not None
        ]
        return self._format([], lines)


def _as_parameter(value: Tensor) -> Parameter:
    return value if isinstance(value, Parameter) else Parameter(value)
