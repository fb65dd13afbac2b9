"""Optimizer: parameter groups, per-parameter state and their saving, which all optimisers share.

A compiled step looks up hyper-parameters and state where they are kept at each replay. So the dictionaries in
`param_groups` and `state` stay the same objects when a state is loaded, and only what they hold changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np

import juanji.tensors as T
from juanji import config
from juanji.tensors import Tensor

Closure = Callable[[], Any]
Params = Iterable[Tensor] | Iterable[Mapping[str, Any]]

#: A parameter, its gradient and its state: tensors, whose arithmetic the type checker is spared.
Update = tuple[Any, Any, dict[str, Any]]


class Optimizer:
    """Base class: `params` is an iterable of tensors, or of dictionaries with "params" and own options.

    Attributes:
        param_groups: one dictionary per group: "params" and the hyper-parameters, which may be changed.
        state: a dictionary of tensors for each parameter that has been updated.
        defaults: hyper-parameters for groups that do not give their own.
    """

    param_groups: list[dict[str, Any]]
    state: defaultdict[Tensor, dict[str, Any]]
    defaults: dict[str, Any]

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got Tensor"
            )
        self.defaults = defaults
        self.state = defaultdict(dict)
        self.param_groups = []
        groups: list[Any] = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], Mapping):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__ and value is not self.__dict__[name]:
            config.changed(f"{type(self).__name__}.{name}")
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {number}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Train more parameters, with the hyper-parameters given there or else the defaults.

        Raises:
            TypeError: the group is no dictionary, or "params" is a set or holds something else than tensors.
            ValueError: a parameter made by an operation, or one that the optimiser has already.
        """
        if not isinstance(param_group, Mapping):
            raise TypeError(f"param_group must be a dict, but got {type(param_group).__name__}")
        config.changed(f"{type(self).__name__}.param_groups")
        group = dict(param_group)
        params = group["params"]
        if isinstance(params, Tensor):
            group["params"] = [params]
        elif isinstance(params, (set, frozenset)):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of "
                "tensors in sets will change between runs. Please use a list instead."
            )
        else:
            group["params"] = list(params)
        seen = {id(p) for other in self.param_groups for p in other["params"]}
        for p in group["params"]:
            if not isinstance(p, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError("can't optimize a non-leaf Tensor")
            if id(p) in seen:
                raise ValueError("some parameters appear in more than one parameter group or twice in one")
            seen.add(id(p))
        for name, value in self.defaults.items():
            group.setdefault(name, value)
        self.check_group(group)
        self.param_groups.append(group)

    def check_group(self, group: Mapping[str, Any]) -> None:
        """Raise `ValueError` for hyper-parameters out of range; each optimiser says what is."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or with `set_to_none=False` fill them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None  # without a look at it: a captured step need not know whether there was one
                elif p.grad is not None:
                    with T.no_grad():
                        p.grad = p.grad.detach().zero_()

    def step(self, closure: Closure | None = None) -> Any:
        """Update all parameters that have a gradient; returns what `closure` returned.

        `closure`, if given, is called first, with gradients enabled: it clears the gradients, computes
        the loss, calls `backward()` and returns the loss.
        """
        loss = None
        if closure is not None:
            with T.enable_grad():
                loss = closure()
        with T.no_grad():
            for group in self.param_groups:
                self.update_group(group, list(self._with_gradient(group)))
        return loss

    def _with_gradient(self, group: dict[str, Any]) -> Iterator[Update]:
        for p in group["params"]:
            gradient = p.grad
            if gradient is not None:
                yield p, gradient, self.state[p]

    def update_group(self, group: dict[str, Any], updates: list[Update]) -> None:
        """Update one group; `updates` lists (parameter, gradient, state of that parameter)."""
        raise TypeError(f"{type(self).__name__} does not define update_group")

    # -- saving ----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Hyper-parameters and state in PyTorch's format, the parameters replaced by their numbers.

        The tensors are the optimiser's own, not copies.
        """
        numbers: dict[int, int] = {}
        groups: list[dict[str, Any]] = []
        for group in self.param_groups:
            for p in group["params"]:
                numbers.setdefault(id(p), len(numbers))
            plain = {name: value for name, value in group.items() if name != "params"}
            groups.append({**plain, "params": [numbers[id(p)] for p in group["params"]]})
        state = {numbers[id(p)]: dict(values) for p, values in self.state.items() if id(p) in numbers and values}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` of an optimiser with the same parameters returned; arrays will do.

        Values are copied into the tensors there are, where the shapes match.

        Raises:
            ValueError: other numbers of groups, or of parameters in a group, or a state of another shape
                than its parameter's; nothing has changed then.
        """
        config.changed(f"{type(self).__name__}'s state")
        saved_groups = [dict(group) for group in state_dict["param_groups"]]
        if len(saved_groups) != len(self.param_groups):
            raise ValueError(
                "loaded state dict has a different number of parameter groups: "
                f"{len(saved_groups)}, the optimizer has {len(self.param_groups)}"
            )
        params: dict[Any, Tensor] = {}
        for number, (saved, group) in enumerate(zip(saved_groups, self.param_groups, strict=True)):
            if len(saved["params"]) != len(group["params"]):
                raise ValueError(
                    "loaded state dict contains a parameter group that doesn't match the size of optimizer's "
                    f"group: group {number} has {len(saved['params'])} parameters, the optimizer's "
                    f"{len(group['params'])}"
                )
            params.update(zip(saved["params"], group["params"], strict=True))
        loaded = self._read_state(state_dict["state"], params)

        for saved, group in zip(saved_groups, self.param_groups, strict=True):
            for name, value in saved.items():
                if name != "params":
                    group[name] = value
        with T.no_grad():
            for p in params.values():
                _replace(self.state[p], loaded.get(id(p), {}))

    def _read_state(self, saved: Mapping[Any, Any], params: Mapping[Any, Tensor]) -> dict[int, dict[str, Any]]:
        """The saved state by `id` of its parameter, as tensors of the right dtype; checks the shapes."""
        loaded: dict[int, dict[str, Any]] = {}
        for number, values in saved.items():
            if number not in params:
                raise ValueError(f"loaded state dict has state of parameter {number}, which is in none of its groups")
            p = params[number]
            loaded[id(p)] = {}
            for name, value in values.items():
                if value is None:  # as PyTorch once saved the buffers of an optimiser without momentum
                    continue
                if name == "step":
                    value = T.from_numpy(np.asarray(_array(value), np.float32).reshape(()).copy())
                elif isinstance(value, Tensor) or hasattr(value, "__array__"):
                    value = _as_tensor(value)
                    if value.dim() and tuple(value.shape) != tuple(p.shape):
                        raise ValueError(
                            f"loaded state dict has {name!r} of shape {tuple(value.shape)} for parameter "
                            f"{number}, whose shape is {tuple(p.shape)}"
                        )
                    if p.dtype.is_floating_point:
                        value = value.to(p.dtype)
                loaded[id(p)][name] = value
        return loaded


def _array(value: Any) -> Any:
    return value.numpy() if isinstance(value, Tensor) else value


def _as_tensor(value: Any) -> Tensor:
    return value.detach() if isinstance(value, Tensor) else T.from_numpy(np.asarray(value).copy())


def _replace(state: dict[str, Any], loaded: Mapping[str, Any]) -> None:
    """Make `state` hold what `loaded` does, in the same tensors where they fit."""
    for name in [name for name in state if name not in loaded]:
        # All state starts at zero, so zeros are the state of a parameter that has not been updated; a
        # compiled step goes on looking these tensors up.
        if isinstance(state[name], Tensor):
            state[name].zero_()
        else:
            del state[name]
    for name, value in loaded.items():
        old = state.get(name)
        if isinstance(value, Tensor):
            if isinstance(old, Tensor) and tuple(old.shape) == tuple(value.shape) and old.dtype == value.dtype:
                old.copy_(value)
            else:
                state[name] = value.clone()
        else:
            state[name] = value


def require_at_least(name: str, value: Any, least: float) -> None:
    """Raise unless `value` is a number of at least `least`."""
    if isinstance(value, (bool, Tensor)) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not value >= least:
        raise ValueError(f"Invalid {name} value: {value} (it must be at least {least:g})")


def require_betas(betas: Any) -> None:
    """Raise `ValueError` unless `betas` are two numbers in [0, 1)."""
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise ValueError(f"betas must be two numbers, got {betas!r}")
    for index, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {index}: {beta} (it must be in [0, 1))")


class Entries(MutableMapping[int, float]):
    """The numbers in a tuple of a group, such as its betas, looked up anew: the tuple may be replaced."""

    def __init__(self, group: dict[str, Any], name: str) -> None:
        self.group = group
        self.name = name

    @property
    def capture_key(self) -> tuple[int, str]:
        """What tells these numbers from others: wrappers are made anew at each step, the group stays."""
        return (id(self.group), self.name)

    def __getitem__(self, index: int) -> float:
        return float(self.group[self.name][index])

    def __setitem__(self, index: int, value: float) -> None:
        numbers = list(self.group[self.name])
        numbers[index] = value
        self.group[self.name] = tuple(numbers)

    def __delitem__(self, index: int) -> None:
        raise TypeError(f"the numbers of {self.name} are fixed in number")

    def __len__(self) -> int:
        return len(self.group[self.name])

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))
