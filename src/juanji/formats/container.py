"""Reading and writing .safetensors files: whole or not at all, and never trusting what is read."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji.errors import DataError
from juanji.formats.torchfile import BFloat16, is_torch
from juanji.runtime.system import replace_durably

#: The metadata key under which Juanji keeps its own JSON.
KEY = "juanji"
#: The header is JSON that names every tensor; this is far more than any model needs.
LARGEST_HEADER = 16 * 2**20

#: By name: NumPy's arrays, and `BFloat16` for what NumPy lacks.
Arrays = dict[str, Any]


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file so that the path holds either its old content or all of the new one, never a part.

    The content goes to a temporary file in the same folder, is flushed to the disk, and is then renamed.

    Raises:
        OSError: the folder does not exist or can't be written, or the disk is full.
    """
    # A symbolic link stays a link: what it points to is replaced.
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {str(path)!r}: it is a folder")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {str(path)!r}: its folder does not exist")
    temporary = target.parent / f".{target.name[:100]}.{secrets.token_hex(6)}.tmp"
    try:
        # Not tempfile: its files are readable by their owner only, and a rename would keep that.
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        replace_durably(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any] | BFloat16], description: object) -> None:
    """Writes arrays and a JSON description as one .safetensors file, whole or not at all.

    Raises:
        TypeError: the description holds what JSON can't, or an array has a type that the format lacks.
        OSError: the file can't be written.
    """
    import safetensors
    import safetensors.numpy

    try:
        text = json.dumps(description, allow_nan=False, ensure_ascii=False)
    except ValueError as error:
        raise TypeError(f"cannot be written as JSON: {error}") from error
    # The library copies raw memory, so arrays have to be contiguous; ascontiguousarray makes 0-d ones 1-d.
    halves = {name for name, value in arrays.items() if isinstance(value, BFloat16)}
    plain = {n: np.array(v.bits if isinstance(v, BFloat16) else v, order="C") for n, v in arrays.items()}
    for name, value in plain.items():
        if value.dtype.kind not in "biuf":
            raise TypeError(f"{name!r} has the type {value.dtype}, which a .safetensors file can't hold")
    try:
        content = safetensors.numpy.save(plain, metadata={KEY: text})
    except (safetensors.SafetensorError, KeyError) as error:
        raise TypeError(f"cannot be written as .safetensors: {error}") from error
    write_whole(path, _marked(content, halves) if halves else content)


def _marked(content: bytes, halves: set[str]) -> bytes:
    """A file's content with the type of some of its arrays, written as uint16, named as what it is: bfloat16."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    for name in halves:
        header[name]["dtype"] = "BF16"
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


class _Halves:
    """Arrays of bfloat16 out of a file whose header has been found right."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.header: dict[str, Any] = {}
        self.begin = 0

    def get(self, name: str) -> BFloat16:
        """One of them."""
        with open(self.where, "rb") as file:
            if not self.begin:
                size = int.from_bytes(file.read(8), "little")
                self.header, self.begin = json.loads(file.read(size)), 8 + size
            begin, end = self.header[name]["data_offsets"]
            file.seek(self.begin + begin)
            bits = np.frombuffer(bytearray(file.read(end - begin)), "<u2")
        return BFloat16(bits.reshape(self.header[name]["shape"]))


def read(path: str | os.PathLike[str]) -> tuple[Arrays, Any]:
    """All arrays of a .safetensors file, and its description: the JSON under "juanji", or None without one.

    Nothing in the file is executed or believed: sizes are checked before memory is taken.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is not a whole .safetensors file, or its description is not JSON.
    """
    import safetensors

    where = str(path)
    _check_frame(where)
    arrays: Arrays = {}
    halves = _Halves(where)
    try:
        with safetensors.safe_open(where, framework="numpy") as file:
            metadata = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118 (not a dict: it cannot be iterated itself)
                half = file.get_slice(name).get_dtype() == "BF16"
                arrays[name] = halves.get(name) if half else file.get_tensor(name)
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{where!r} is not a whole .safetensors file: {reason}") from error
    text = metadata.get(KEY)
    if text is None:
        return arrays, None
    try:
        return arrays, json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the description in {where!r} is not JSON: {error}") from error


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _check_frame(where: str) -> None:
    """Refuses what can't be a .safetensors file, before a library maps it into memory."""
    if not os.path.exists(where):
        raise FileNotFoundError(f"there is no file {where!r}")
    if os.path.isdir(where):
        raise DataError(f"{where!r} is a folder, not a .safetensors file")
    with open(where, "rb") as file:
        start = file.read(9)
        size = os.fstat(file.fileno()).st_size
    if is_torch(start):
        raise DataError(
            f"{where!r} is a pickle or zip file (as torch.save writes), not a .safetensors file; "
            "juanji.load reads tensors of such files"
        )
    if len(start) < 9:
        raise DataError(f"{where!r} is not a .safetensors file: it has only {size} bytes")
    header = int.from_bytes(start[:8], "little")
    if start[8:9] != b"{":
        raise DataError(f"{where!r} is not a .safetensors file")
    if header > size - 8:
        raise DataError(
            f"{where!r} is truncated or not a .safetensors file: "
            f"it announces a header of {header} bytes and has {size} bytes in all"
        )
    if header > LARGEST_HEADER:
        raise DataError(f"{where!r} has a header of {header} bytes; more than {LARGEST_HEADER} are not accepted")
