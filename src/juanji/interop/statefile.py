"""`save` and `load`: nested dicts and lists of tensors and plain values as one .safetensors or .pth file."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from juanji.dtypes import bfloat16, encode, float32
from juanji.errors import DataError
from juanji.formats import container, torchfile
from juanji.tensors import Tensor, from_numpy

_FORMAT = "juanji.state"
_VERSION = 1
#: Deeper nesting than this is no state that anyone wrote.
_DEEPEST = 64
#: Endings of files that are written for PyTorch.
_OF_TORCH = (".pt", ".pth")


def save(obj: Any, path: str | os.PathLike[str]) -> None:
    """Saves a state, such as a `state_dict()`, atomically: as a .safetensors file, or one that PyTorch loads.

    Args:
        obj: a dict (or list or tuple), nested as wanted, of tensors, NumPy arrays, numbers, strings, booleans
            and None. Keys are strings or integers. A flat dict of tensors keeps its names in the file, so
            that any other program that reads .safetensors finds them.
        path: where to write. The path holds its old content or all of the new one, never a part. A name that ends
            in .pt or .pth gives a file that `torch.load(path, weights_only=True)` reads; in it arrays are tensors.

    Raises:
        TypeError: `obj` holds something else, named by where it stands.
        OSError: the file can't be written.

    Example:
        >>> import os, tempfile, juanji as jj
        >>> path = os.path.join(tempfile.mkdtemp(), "state.safetensors")
        >>> jj.save({"weight": jj.ones(2, 3), "epoch": 4}, path)
        >>> jj.load(path)["epoch"]
        4
    """
    if os.path.splitext(path)[1].lower() in _OF_TORCH:
        container.write_whole(path, torchfile.encode(_plain(obj, {})))
        return
    writer = _Writer()
    structure = writer.encode(obj, ())
    container.write(path, writer.arrays, {"format": _FORMAT, "version": _VERSION, "structure": structure})


def load(path: str | os.PathLike[str]) -> Any:
    """Loads what `save` or `torch.save` wrote; of any other .safetensors file, the flat dict of its tensors by name.

    The content tells what it is, not the name. PyTorch's files (.pt, .pth) are read by a reader that can build only
    tensors and plain containers: nothing in them is run, and whatever else they ask for is refused by its name.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: the file is truncated, of another kind, or its description does not fit its tensors.

    Example:
        >>> import os, tempfile, juanji as jj
        >>> path = os.path.join(tempfile.mkdtemp(), "state.pth")
        >>> jj.save({"weight": jj.ones(2, 3), "sizes": (2, 3)}, path)
        >>> jj.load(path)["sizes"]
        (2, 3)
    """
    if _begins_as_torch(path):
        return _tensors(torchfile.read(path), {}, path)
    arrays, description = container.read(path)
    if not isinstance(description, dict) or description.get("format") != _FORMAT:
        return {name: _tensor(value, name, path) for name, value in arrays.items()}
    version = description.get("version")
    if version != _VERSION:
        raise DataError(f"{str(path)!r} has state format {version!r}; this Juanji reads {_VERSION}")
    return _Reader(arrays, path).decode(description.get("structure"), 0)


def _begins_as_torch(path: str | os.PathLike[str]) -> bool:
    if not os.path.isfile(path):
        return False  # whoever reads it says so
    with open(path, "rb") as file:
        return torchfile.is_torch(file.read(4))


def _plain(value: Any, seen: dict[int, Any]) -> Any:
    """A state with arrays in place of tensors, the same array for the same tensor."""
    if isinstance(value, Tensor):
        if id(value) not in seen:
            seen[id(value)] = array_of(value)
        return seen[id(value)]
    if isinstance(value, Mapping):
        return {key: _plain(item, seen) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_plain(item, seen) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return value


def _tensors(value: Any, seen: dict[int, Any], path: str | os.PathLike[str]) -> Any:
    """What a PyTorch file holds with tensors in place of arrays, the same tensor for the same array."""
    if isinstance(value, (np.ndarray, torchfile.BFloat16)):
        if id(value) not in seen:
            seen[id(value)] = _tensor(value, "a tensor", path)
        return seen[id(value)]
    if isinstance(value, dict):
        result = type(value)()
        for name, item in value.items():
            result[name] = _tensors(item, seen, path)
        return result
    if isinstance(value, (list, tuple)):
        items = [_tensors(item, seen, path) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return value


def array_of(tensor: Tensor) -> Any:
    """A tensor's values as a file keeps them."""
    plain = tensor.detach()
    if plain.dtype is bfloat16:
        return torchfile.BFloat16(encode(plain.to(float32).numpy(), bfloat16))
    return plain.numpy()


def _tensor(array: Any, name: str, path: str | os.PathLike[str]) -> Tensor:
    try:
        if isinstance(array, torchfile.BFloat16):
            return from_numpy(array.wide()).to(bfloat16)
        return from_numpy(array)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name!r} in {str(path)!r} cannot be a tensor: {error}") from error


class _Writer:
    """Takes a state apart into arrays and a description in which each leaf is tagged with its kind."""

    def __init__(self) -> None:
        self.arrays: container.Arrays = {}
        self._named: dict[int, str] = {}
        self._kept: list[object] = []

    def encode(self, value: Any, at: tuple[str, ...]) -> Any:
        where = ".".join(at) or "the state"
        if len(at) > _DEEPEST:
            raise TypeError(f"{where} is nested more than {_DEEPEST} deep")
        if isinstance(value, Tensor):
            return {"tensor": self._name(value, array_of(value), at)}
        if isinstance(value, np.ndarray):
            return {"array": self._name(value, value, at)}
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, (bool, int, str)):
            return {"value": value}
        if isinstance(value, float):
            return {"value": value} if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, Mapping):
            pairs = []
            for key, item in value.items():
                if isinstance(key, bool) or not isinstance(key, (str, int)):
                    raise TypeError(f"{where} has the key {key!r}; keys are strings or integers")
                pairs.append([key, self.encode(item, (*at, str(key)))])
            return {"dict": pairs}
        if isinstance(value, (list, tuple)):
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [self.encode(item, (*at, str(i))) for i, item in enumerate(value)]}
        raise TypeError(
            f"{where} is a {type(value).__name__}; a state holds tensors, arrays, numbers, strings, "
            "booleans, None, and dicts, lists and tuples of them"
        )

    def _name(self, owner: object, array: Any, at: tuple[str, ...]) -> str:
        # The same tensor under two names (tied weights) is stored once and loaded as one.
        if id(owner) in self._named:
            return self._named[id(owner)]
        plain = ".".join(at) or "value"
        name, count = plain, 1
        while name in self.arrays or name == "__metadata__":
            count += 1
            name = f"{plain}#{count}"
        self.arrays[name] = array
        self._named[id(owner)] = name
        self._kept.append(owner)  # or its id could be given to another object
        return name


class _Reader:
    """Puts a state together again, checking that the description says nothing the file does not hold."""

    def __init__(self, arrays: container.Arrays, path: str | os.PathLike[str]) -> None:
        self._arrays = arrays
        self._path = path
        self._tensors: dict[str, Tensor] = {}

    def _lie(self, what: str) -> DataError:
        return DataError(f"the description in {str(self._path)!r} is wrong: {what}")

    def decode(self, node: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            raise self._lie(f"it is nested more than {_DEEPEST} deep")
        if not isinstance(node, dict) or len(node) != 1:
            raise self._lie(f"{str(node)[:60]} is no tagged value")
        [(kind, content)] = node.items()
        if kind == "value":
            if isinstance(content, (dict, list)):
                raise self._lie("a plain value is a container")
            return content
        if kind == "float":
            if content not in ("nan", "inf", "-inf"):
                raise self._lie(f"{str(content)[:60]!r} is no special number")
            return float(content)
        if kind in ("tensor", "array"):
            if not isinstance(content, str) or content not in self._arrays:
                raise self._lie(f"the file has no tensor {str(content)[:60]!r}")
            if kind == "array":
                return self._arrays[content]
            if content not in self._tensors:
                self._tensors[content] = _tensor(self._arrays[content], content, self._path)
            return self._tensors[content]
        if kind in ("list", "tuple") and isinstance(content, list):
            items = [self.decode(item, depth + 1) for item in content]
            return items if kind == "list" else tuple(items)
        if kind == "dict" and isinstance(content, list):
            return self._dict(content, depth)
        raise self._lie(f"there is no kind of value {kind[:60]!r}")

    def _dict(self, pairs: list[Any], depth: int) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for pair in pairs:
            if not isinstance(pair, list) or len(pair) != 2:
                raise self._lie("an entry of a dict is no pair")
            key, item = pair
            if isinstance(key, bool) or not isinstance(key, (str, int)) or key in result:
                raise self._lie(f"a dict has the key {str(key)[:60]!r} twice, or it is no string or integer")
            result[key] = self.decode(item, depth + 1)
        return result
