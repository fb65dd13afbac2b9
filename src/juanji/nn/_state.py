"""Saving and loading the values of a module: what `Module.state_dict` and `Module.load_state_dict` do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import juanji.tensors as T
from juanji.dtypes import DType
from juanji.nn.parameter import Parameter, is_uninitialized
from juanji.tensors import Tensor

if TYPE_CHECKING:
    from juanji.nn.module import Module


class IncompatibleKeys(NamedTuple):
    """The names that a loaded state did not have, and those it had that the module has not."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def own(module: Module) -> dict[str, Tensor]:
    """The parameters and persistent buffers of one module, without those of the modules below."""
    state: dict[str, Tensor] = {}
    for name, parameter in module._parameters.items():
        if parameter is not None:
            state[name] = parameter
    for name, buffer in module._buffers.items():
        if buffer is not None and name not in module._non_persistent:
            state[name] = buffer
    return state


def convert(parameter: Parameter, dtype: DType) -> None:
    """Give a parameter, and its gradient, another dtype; the parameter stays the same object."""
    if parameter.dtype == dtype:
        return
    if is_uninitialized(parameter):
        parameter.dtype = dtype
        return
    gradient = parameter.grad
    parameter.grad = None
    with T.no_grad():
        parameter.data = parameter.detach().to(dtype)
    if gradient is not None:
        parameter.grad = gradient.detach().to(dtype)


def load(module: Module, state_dict: Mapping[str, Any], strict: bool, assign: bool) -> IncompatibleKeys:
    """Check everything first, then write, so that a refused state leaves the module as it was."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict).__name__}.")
    missing: list[str] = []
    problems: list[str] = []
    writes: list[tuple[Module, str, Tensor, Any]] = []
    expected: set[str] = set()
    # Shared modules are visited under each of their names, as in state_dict.
    for path, part in module.named_modules(remove_duplicate=False):
        for name, target in own(part).items():
            key = f"{path}.{name}" if path else name
            expected.add(key)
            if key not in state_dict:
                if name not in part._may_miss:
                    missing.append(key)
                continue
            value = state_dict[key]
            problem = _mismatch(key, target, value)
            if problem:
                problems.append(problem)
            else:
                writes.append((part, name, target, value))
    unexpected = [key for key in state_dict if key not in expected]
    if strict and unexpected:
        names = ", ".join(f'"{key}"' for key in unexpected)
        problems.insert(0, f"Unexpected key(s) in state_dict: {names}. ")
    if strict and missing:
        names = ", ".join(f'"{key}"' for key in missing)
        problems.insert(0, f"Missing key(s) in state_dict: {names}. ")
    if problems:
        listed = "\n\t".join(problems)
        raise RuntimeError(f"Error(s) in loading state_dict for {module._get_name()}:\n\t{listed}")
    with T.no_grad():
        for part, name, target, value in writes:
            if assign:
                _assign(part, name, target, value)
            else:
                if is_uninitialized(value):
                    continue  # both are
                if is_uninitialized(target):
                    target.materialize(tuple(value.shape))
                target.copy_(_tensor(value))
    return IncompatibleKeys(missing, unexpected)


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else T.from_numpy(np.asarray(value, order="C"))


def _mismatch(key: str, target: Tensor, value: Any) -> str:
    if not isinstance(value, Tensor) and not hasattr(value, "__array__"):
        return (
            f'While copying the parameter named "{key}", expected a Tensor or an array from checkpoint '
            f"but received {type(value).__name__}"
        )
    if is_uninitialized(target):
        return ""
    if is_uninitialized(value):
        return f'the parameter named "{key}" is uninitialized in the checkpoint, but has a shape in the current model'
    if tuple(value.shape) != tuple(target.shape):
        return (
            f"size mismatch for {key}: copying a param with shape {tuple(value.shape)} from checkpoint, "
            f"the shape in current model is {tuple(target.shape)}."
        )
    return ""


def _assign(module: Module, name: str, target: Tensor, value: Any) -> None:
    """Replace the tensor itself; a plain tensor becomes a parameter with the old one's `requires_grad`."""
    tensor = _tensor(value)
    if isinstance(target, Parameter):
        if not isinstance(tensor, Parameter):
            tensor = Parameter(tensor, requires_grad=target.requires_grad)
        module._store(module._parameters, name, tensor)
    else:
        module._store(module._buffers, name, tensor)
