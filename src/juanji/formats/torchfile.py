"""PyTorch's `.pt` and `.pth` files, read as arrays and plain values by a reader that can run nothing, and written.

`read` takes what `torch.save` writes: the zip format (since PyTorch 1.6) and the pickles one after another of before.
Both hold a pickle in which each tensor is a call of `torch._utils._rebuild_tensor_v2` on a storage, and the storages'
bytes. Only such calls, and those that make plain containers, are understood; see `juanji.formats.unpickle`.

Source: the formats as `torch.serialization` describes them.
"""

from __future__ import annotations

import math
import os
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from juanji import dtypes
from juanji.errors import DataError
from juanji.formats.archive import Archive, ArchiveError
from juanji.formats.unpickle import Global, Machine, PickleError, key, shown

#: The first pickle of a file of the older format.
MAGIC = 0x1950A86A20F9469CFC6C
_MAGIC_BYTES = b"\x8a\x0a" + MAGIC.to_bytes(10, "little")
#: More dimensions than NumPy has room for in all versions.
_MOST_DIMENSIONS = 32
#: Deeper nesting, or more values with repetitions counted, is no state that anyone wrote.
_DEEPEST, _MOST_VALUES = 64, 2_000_000
#: Pickles of the older format are not set apart from the weights behind them; this is far more than they need.
_LARGEST_PICKLE = 256 << 20

#: PyTorch's storages and the element types in them; "bfloat16" is the one that NumPy lacks.
_STORAGES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
_OF_DTYPE = {
    "float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage", "int64": "LongStorage",
    "int32": "IntStorage", "int16": "ShortStorage", "int8": "CharStorage", "uint8": "ByteStorage",
    "bool": "BoolStorage",
}  # fmt: skip
_DTYPES = {Global("torch", d.name): d for d in dtypes.ALL}
_TENSOR = Global("torch._utils", "_rebuild_tensor_v2")
_PARAMETER = Global("torch._utils", "_rebuild_parameter")
_ORDERED = Global("collections", "OrderedDict")
_CALLED = {
    _TENSOR, _PARAMETER, _ORDERED, Global("torch", "Size"), Global("torch", "device"), Global("_codecs", "encode"),
}  # fmt: skip


@dataclass(eq=False)
class BFloat16:
    """A tensor of bfloat16, which NumPy lacks: its bits as uint16."""

    bits: NDArray[np.uint16]
    dtype = dtypes.bfloat16

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's."""
        return self.bits.shape

    def wide(self) -> NDArray[np.float32]:
        """The same numbers as float32, exactly.

        >>> BFloat16(np.array([0x3F80], np.uint16)).wide()
        array([1.], dtype=float32)
        """
        return np.asarray(self.bits.astype(np.uint32) << 16).view(np.float32)  # 0-d too


@dataclass
class _Storage:
    """A block of elements that tensors of the file show parts of."""

    key: str
    kind: str
    count: int
    tensors: int = 0
    array: NDArray[Any] | None = None

    @property
    def itemsize(self) -> int:
        return 2 if self.kind == "bfloat16" else np.dtype(self.kind).itemsize

    @property
    def bytes(self) -> int:
        return self.count * self.itemsize


@dataclass(eq=False)
class _Tensor:
    """A tensor as the pickle describes it, checked against its storage's size."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> Any:
        """Its elements: the storage's own memory where no other tensor shows it and they lie side by side."""
        data = self.storage.array
        assert data is not None
        steps = tuple(s * data.itemsize for s in self.strides)
        view = np.lib.stride_tricks.as_strided(data[self.offset :], self.shape, steps)
        own = view if view.flags.c_contiguous and self.storage.tensors == 1 else view.copy()
        return BFloat16(own) if self.storage.kind == "bfloat16" else own


class _Reader:
    """What a file's pickle may name, call and refer to."""

    def __init__(self, size: int, has: Callable[[str, int], None]) -> None:
        self.size = size
        self.has = has
        self.storages: dict[str, _Storage] = {}
        self.bytes = 0
        self.shown = 0

    def run(self, data: bytes, position: int) -> tuple[Any, int]:
        """The value of the pickle at `position`, tensors still as descriptions, and where it ends."""
        machine = Machine(data, position, self.find, self.call, self.storage)
        return machine.run(), machine.position

    def find(self, name: Global) -> Any:
        """What stands for a name."""
        if name in _DTYPES:
            return _DTYPES[name]
        if name in _CALLED:
            return name
        if name.module in ("torch", "torch.storage") and name.name.endswith("Storage"):
            if name.name not in _STORAGES:
                raise PickleError(f"it has tensors of {shown(name)}, which Juanji lacks")
            return name
        raise PickleError(
            f"it asks for {shown(name)}; only tensors and plain containers are read, for anything else could run code "
            "(save a model's state_dict() rather than the model)"
        )

    def call(self, name: Global, args: tuple[Any, ...]) -> Any:
        """What calling a name makes."""
        try:
            if name == _TENSOR:
                return self.tensor(*args[:6])
            if name == _PARAMETER:
                value = args[0]
                if isinstance(value, _Tensor) and len(args) == 3:
                    return value
            elif name == _ORDERED and len(args) <= 1:
                return self.ordered(*args)
            elif name == Global("torch", "Size") and len(args) == 1 and _sizes(args[0]):
                return tuple(args[0])
            elif name == Global("torch", "device") and all(isinstance(a, (str, int)) for a in args):
                return ":".join(str(a) for a in args)[:40]
            elif name == Global("_codecs", "encode") and isinstance(args[0], str) and args[1:] in (("latin1",),):
                return args[0].encode("latin-1")
        except (TypeError, IndexError, UnicodeEncodeError):
            pass
        raise PickleError(f"it calls {shown(name)} with arguments that don't fit")

    def ordered(self, pairs: Any = ()) -> OrderedDict[Any, Any]:
        """An OrderedDict; Python 2 gave it a list of pairs."""
        if not isinstance(pairs, (list, tuple)) or not all(isinstance(p, (list, tuple)) and len(p) == 2 for p in pairs):
            raise PickleError("it makes an OrderedDict of what are no pairs")
        return OrderedDict((key(entry), value) for entry, value in pairs)

    def storage(self, what: Any) -> _Storage:
        """The storage that a persistent id names."""
        if not isinstance(what, tuple) or len(what) < 5 or what[0] != "storage":
            raise PickleError("it refers to something outside that is no storage")
        kind, name, _, count = what[1:5]
        if len(what) > 5 and what[5] is not None:
            raise PickleError("it has storages that are parts of others, as before PyTorch 0.4")
        if not isinstance(kind, Global) or kind.name not in _STORAGES:
            raise PickleError("it refers to a storage of no known kind")
        if not isinstance(name, str) or not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise PickleError("it refers to a storage without a name or a size")
        found = self.storages.get(name)
        if found is None:
            found = _Storage(name, _STORAGES[kind.name], count)
            self.bytes += found.bytes
            if self.bytes > self.size:
                raise PickleError(f"its storages take {self.bytes:,} bytes, and the file has {self.size:,}")
            self.has(name, found.bytes)
            self.storages[name] = found
        if found.kind != _STORAGES[kind.name] or found.count != count:
            raise PickleError(f"it describes the storage {shown(name)!r} in two ways")
        return found

    def tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any) -> _Tensor:
        """A tensor, once its extents are known to lie inside its storage."""
        if not isinstance(storage, _Storage) or not _sizes(shape) or not _sizes(strides) or not _sizes((offset,)):
            raise PickleError("a tensor in it is not described by a storage and sizes")
        if not isinstance(grad, bool) or not (hooks is None or (isinstance(hooks, dict) and not hooks)):
            raise PickleError("a tensor in it has hooks")
        if len(shape) != len(strides) or len(shape) > _MOST_DIMENSIONS:
            raise PickleError(f"a tensor in it has {len(shape)} sizes and {len(strides)} strides")
        if math.prod(shape) >= 2**62:
            raise PickleError(f"a tensor in it has the shape {shown(shape)}")
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if (math.prod(shape) and last >= storage.count) or offset > storage.count:
            raise PickleError(
                f"a tensor of shape {shown(shape)} reaches to element {last}, and its storage has {storage.count}"
            )
        # Repeated elements (stride 0) are written out in the end: that must not take much more than the file.
        self.shown += math.prod(shape) * storage.itemsize
        if self.shown > 4 * self.size + (16 << 20):
            raise PickleError(f"its tensors would take {self.shown:,} bytes, and the file has {self.size:,}")
        storage.tensors += 1
        return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _sizes(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(
        isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**62 for n in value
    )


def is_torch(start: bytes) -> bool:
    """Whether a file that begins so is one of PyTorch's: a zip archive or a pickle.

    >>> is_torch(b"PK\\x03\\x04"), is_torch(b"{")
    (True, False)
    """
    return start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"))


def read(path: str | os.PathLike[str]) -> Any:
    """What a PyTorch file holds: arrays for tensors, in dicts, lists and tuples as they were saved.

    Tensors of bfloat16 are `BFloat16`. A tensor that is there twice is one array; different tensors do not share
    memory. Parameters are arrays as well, sizes are tuples, element types are Juanji's, devices are text.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is truncated, damaged, or lies about itself; or it wants what is neither a tensor nor a plain
            container, named in the message.
    """
    where = str(path)
    if not os.path.exists(where):
        raise FileNotFoundError(f"there is no file {where!r}")
    if os.path.isdir(where):
        raise DataError(f"{where!r} is a folder, not a PyTorch file")
    with open(where, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            described = _zipped(file, size) if file.read(4) == b"PK\x03\x04" else _legacy(file, size)
            return _Finish().value(described, 0)
        except (PickleError, ArchiveError) as error:
            raise DataError(f"cannot read {where!r} as a PyTorch file: {error}") from None
        except (MemoryError, RecursionError):
            raise DataError(f"cannot read {where!r} as a PyTorch file: there is not enough memory for it") from None


def _zipped(file: BinaryIO, size: int) -> Any:
    archive = Archive(file, size)
    found = [name for name in archive.members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(found) != 1:
        raise ArchiveError("there is no data.pkl in it, so torch.save has not written it")
    folder = found[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in archive.members:
        raise ArchiveError("it is a TorchScript program; only saved tensors can be read")
    order = archive.read(f"{folder}byteorder").strip() if f"{folder}byteorder" in archive.members else b"little"
    if order not in (b"little", b"big"):
        raise ArchiveError("its byte order is neither little nor big")

    def has(key: str, count: int) -> None:
        member = archive.members.get(f"{folder}data/{key}")
        if member is None:
            raise ArchiveError(f"the storage {shown(key)!r} is missing")
        if member.size != count:
            raise ArchiveError(f"the storage {shown(key)!r} has {member.size:,} bytes, and {count:,} were announced")

    reader = _Reader(size, has)
    described, _ = reader.run(archive.read(found[0]), 0)
    for storage in reader.storages.values():
        memory = _memory(storage)
        archive.read_into(f"{folder}data/{storage.key}", memory.view(np.uint8))
        _accept(storage, memory, order == b"big")
    return described


def _legacy(file: BinaryIO, size: int) -> Any:
    file.seek(0)
    data = file.read(min(size, _LARGEST_PICKLE))
    if _MAGIC_BYTES not in data[:32]:
        if data[257:262] == b"ustar":
            raise PickleError("it is a tar archive, as before PyTorch 0.1.10")
        raise PickleError("it is a pickle of something else: PyTorch's magic number is missing")
    reader = _Reader(size, lambda key, count: None)
    at = 0
    heading = []
    for _ in range(3):
        value, at = reader.run(data, at)
        heading.append(value)
    if heading[0] != MAGIC or heading[1] != 1001 or not isinstance(heading[2], dict):
        raise PickleError("its heading is not that of PyTorch's files")
    little = heading[2].get("little_endian", True)
    described, at = reader.run(data, at)
    keys, at = reader.run(data, at)
    if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys) or len(set(keys)) != len(keys):
        raise PickleError("its list of storages is none")
    if set(keys) != set(reader.storages):
        raise PickleError("the storages that it lists are not those that its tensors use")
    file.seek(at)
    for name in keys:
        storage = reader.storages[name]
        count = file.read(8)
        if len(count) != 8:
            raise PickleError("it is truncated")
        if int.from_bytes(count, "little" if little else "big") != storage.count:
            raise PickleError(f"the storage {shown(name)!r} is not as large as announced")
        if size - file.tell() < storage.bytes:
            raise PickleError("it is truncated")
        memory = _memory(storage)
        if file.readinto(memory.view(np.uint8)) != storage.bytes:  # type: ignore[attr-defined]
            raise PickleError("it is truncated")
        _accept(storage, memory, not little)
    return described


def _memory(storage: _Storage) -> NDArray[Any]:
    return np.empty(storage.count, np.uint16 if storage.kind == "bfloat16" else storage.kind)


def _accept(storage: _Storage, memory: NDArray[Any], swapped: bool) -> None:
    if swapped:
        memory.byteswap(inplace=True)
    if storage.kind == "bool" and (memory.view(np.uint8) > 1).any():
        raise PickleError(f"the storage {shown(storage.key)!r} has truth values other than 0 and 1")
    storage.array = memory


class _Finish:
    """Puts arrays in place of descriptions, and refuses what contains itself or unfolds without end."""

    def __init__(self) -> None:
        self.done: dict[int, tuple[Any, int]] = {}
        self.open: set[int] = set()
        self.kept: list[Any] = []

    def value(self, value: Any, depth: int) -> Any:
        """The finished value."""
        result, weight = self._walk(value, depth)
        if weight > _MOST_VALUES:
            raise PickleError(f"it unfolds to more than {_MOST_VALUES:,} values")
        return result

    def _walk(self, value: Any, depth: int) -> tuple[Any, int]:
        if isinstance(value, (_Storage, Global)):
            raise PickleError(f"it holds a bare {'storage' if isinstance(value, _Storage) else shown(value)}")
        if not isinstance(value, (dict, list, tuple, _Tensor)):
            return value, 1
        if id(value) in self.done:
            return self.done[id(value)]
        if id(value) in self.open:
            raise PickleError("it holds a container that contains itself")
        if depth > _DEEPEST:
            raise PickleError(f"it is nested more than {_DEEPEST} deep")
        self.open.add(id(value))
        result: Any
        weight = 1
        if isinstance(value, _Tensor):
            result = value.array()
        elif isinstance(value, dict):
            result = OrderedDict() if isinstance(value, OrderedDict) else {}
            for name, item in value.items():
                result[name], more = self._walk(item, depth + 1)
                weight += more
        else:
            items = []
            for item in value:
                done, more = self._walk(item, depth + 1)
                items.append(done)
                weight += more
            result = tuple(items) if isinstance(value, tuple) else items
        self.open.discard(id(value))
        self.kept.append(value)  # or its id could be given to another object
        self.done[id(value)] = result, weight
        return result, weight


class _Pickler:
    """Writes the pickle of a state, in protocol 2 as PyTorch does, and collects the storages."""

    def __init__(self) -> None:
        self.out = bytearray(b"\x80\x02")
        self.storages: list[NDArray[Any]] = []
        self.known: dict[int, int] = {}
        self.kept: list[Any] = []

    def write(self, value: Any, at: tuple[str, ...]) -> None:
        """Appends one value."""
        out = self.out
        where = ".".join(at) or "the state"
        if len(at) > _DEEPEST:
            raise TypeError(f"{where} is nested more than {_DEEPEST} deep")
        if isinstance(value, np.generic):
            value = value.item()
        if value is None:
            out += b"N"
        elif isinstance(value, bool):
            out += b"\x88" if value else b"\x89"
        elif isinstance(value, int):
            self._integer(value, where)
        elif isinstance(value, float):
            out += b"G" + struct.pack(">d", value)
        elif isinstance(value, str):
            raw = value.encode("utf-8", "surrogatepass")
            out += b"X" + struct.pack("<I", len(raw)) + raw
        elif isinstance(value, BFloat16):
            self._tensor(value, value.bits, "BFloat16Storage")
        elif isinstance(value, np.ndarray):
            kind = _OF_DTYPE.get(value.dtype.newbyteorder("=").name)
            if kind is None:
                raise TypeError(f"{where} has the element type {value.dtype}, which PyTorch's files don't hold")
            self._tensor(value, value, kind)
        elif isinstance(value, dict):
            out += b"}("
            for name, item in value.items():
                if isinstance(name, bool) or not isinstance(name, (str, int)):
                    raise TypeError(f"{where} has the key {name!r}; keys are strings or integers")
                self.write(name, at)
                self.write(item, (*at, str(name)))
            out += b"u"
        elif isinstance(value, (list, tuple)):
            out += b"](" if isinstance(value, list) else b"("
            for i, item in enumerate(value):
                self.write(item, (*at, str(i)))
            out += b"e" if isinstance(value, list) else b"t"
        else:
            raise TypeError(
                f"{where} is a {type(value).__name__}; a state holds tensors, arrays, numbers, strings, "
                "booleans, None, and dicts, lists and tuples of them"
            )

    def _integer(self, value: int, where: str) -> None:
        if -(2**31) <= value < 2**31:
            self.out += b"J" + struct.pack("<i", value)
            return
        if not -(2**63) <= value < 2**63:
            raise TypeError(f"{where} is {value}, which has more than 64 bits")
        self.out += b"\x8a\x08" + struct.pack("<q", value)

    def _tensor(self, owner: object, value: NDArray[Any], kind: str) -> None:
        number = self.known.get(id(owner))
        if number is None:
            number = self.known[id(owner)] = len(self.storages)
            self.storages.append(np.array(value, value.dtype.newbyteorder("<"), order="C"))
            self.kept.append(owner)
        strides, step = [], 1
        for n in reversed(value.shape):
            strides.append(step)
            step *= max(n, 1)
        out = self.out
        out += b"ctorch._utils\n_rebuild_tensor_v2\n(("
        self.write("storage", ())
        out += b"ctorch\n" + kind.encode() + b"\n"
        self.write(str(number), ())
        self.write("cpu", ())
        self.write(value.size, ())
        out += b"tQ"
        self.write(0, ())
        self.write(tuple(int(n) for n in value.shape), ())
        self.write(tuple(reversed(strides)), ())
        out += b"\x89ccollections\nOrderedDict\n)RtR"


def encode(obj: Any) -> bytes:
    """A state as the bytes of a `.pth` file that `torch.load(path, weights_only=True)` reads.

    Args:
        obj: dicts, lists and tuples, nested as wanted, of arrays (they become tensors), numbers, strings, booleans and
            None. An array that occurs twice is stored once.

    Raises:
        TypeError: it holds something else, named by where it stands.
    """
    import io
    import zipfile

    pickler = _Pickler()
    pickler.write(obj, ())
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, content: Any) -> None:
            # Always the same date: equal states are equal files. Contents begin at multiples of 64 bytes, as PyTorch
            # has them, so that they can be mapped into memory.
            entry = zipfile.ZipInfo(f"archive/{name}", (1980, 1, 1, 0, 0, 0))
            gap = -(target.tell() + 30 + len(entry.filename) + 4) % 64
            entry.extra = b"FB" + struct.pack("<H", gap) + b"Z" * gap
            archive.writestr(entry, content)

        add("data.pkl", bytes(pickler.out) + b".")
        add("byteorder", b"little")
        for i, storage in enumerate(pickler.storages):
            add(f"data/{i}", storage.tobytes())
        add("version", b"3\n")
    return target.getvalue()
