"""Reading and writing IDX files, the format of MNIST and the sets made like it.

An IDX file is two zero bytes, a byte for the element type, a byte for the number of dimensions, each extent
as a big-endian 32-bit number, and the elements in C order. Files may be compressed with gzip. Nothing in a
file is believed: what its header declares is held against the file's real length before memory is taken, and
a compressed file is never unpacked further than its header says.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import secrets
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from juanji.errors import DataError

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CODES = {np.dtype(name).newbyteorder("="): code for code, name in _TYPES.items()}
_GZIP = b"\x1f\x8b"
_MAX_RANK = 8
# Deflate packs at most 1,032 to 1: a file that declares more is lying.
_MAX_RATIO = 1040
_NAME = re.compile(
    r"(?P<prefix>.*?)(?P<part>train|t10k|test)[-_](?P<kind>images|labels)[-._]idx[0-9][-._]ubyte(?:\.gz)?",
    re.IGNORECASE,
)
MAX_BYTES = 4 << 30


@dataclass(frozen=True)
class Header:
    """What an IDX file declares: element type, extents, and where the elements begin."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_idx(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> NDArray[Any]:
    """Reads an IDX file, compressed or not, into an array of the machine's byte order.

    Args:
        path: the file; whether it is compressed is seen from its first bytes, not its name.
        max_bytes: the largest array that is accepted.

    Raises:
        DataError: a file that is not IDX, is truncated, has bytes too many, or declares what it does not
            hold.
        OSError: a file that cannot be opened.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_idx(Path(folder) / "a.gz", np.arange(6, dtype=np.uint8).reshape(2, 3))
    ...     read_idx(Path(folder) / "a.gz").tolist()
    [[0, 1, 2], [3, 4, 5]]
    """
    path = Path(path)
    with _open(path) as file:
        length = os.fstat(file.fileno()).st_size
        packed = file.read(2) == _GZIP
        file.seek(0)
        if not packed:
            return _read(path, file, length, None, max_bytes)
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read(path, unpacked, None, length, max_bytes)
        except EOFError:
            raise DataError(f"{path}: the compressed file is truncated (it ends after {length:,} bytes)") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path}: the compressed file is damaged ({error})") from None


def read_header(path: str | os.PathLike[str]) -> Header:
    """What the file declares, without reading its elements.

    Raises:
        DataError: a file that is not IDX.
    """
    path = Path(path)
    with _open(path) as file:
        packed = file.read(2) == _GZIP
        file.seek(0)
        try:
            return _header(path, gzip.GzipFile(fileobj=file) if packed else file)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path}: the compressed file is damaged ({error})") from None


def write_idx(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Writes an array as an IDX file (compressed where the name ends in .gz); the file appears whole or not
    at all.

    Raises:
        TypeError: an element type that IDX does not have.
        ValueError: more dimensions than 8, an extent of 2**32 or more, or a scalar.
    """
    path = Path(path)
    code = _CODES.get(array.dtype.newbyteorder("="))
    if code is None:
        raise TypeError(f"IDX files hold {', '.join(str(d) for d in _CODES)}; got an array of {array.dtype}")
    if not 1 <= array.ndim <= _MAX_RANK or any(n >= 1 << 32 for n in array.shape):
        raise ValueError(f"IDX files hold 1 to {_MAX_RANK} dimensions of less than 2**32; got shape {array.shape}")
    header = bytes([0, 0, code, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    content = header + array.astype(_TYPES[code]).tobytes()
    if path.suffix == ".gz":
        content = gzip.compress(content, compresslevel=6, mtime=0)
    write_atomically(path, content)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that readers see the old one or the whole new one."""
    # Not tempfile's: what it makes only its owner may read.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def find_idx(folder: str | os.PathLike[str], part: str, kind: str) -> Path | None:
    """The file of a folder that holds the "images" or "labels" of "train" or "test", or None.

    Takes the usual names: `train-images-idx3-ubyte`, `t10k-labels.idx1-ubyte.gz`,
        `emnist-digits-test-images-...`.

    Raises:
        DataError: several sets in one folder.
    """
    folder = Path(folder)
    parts = ("train",) if part == "train" else ("t10k", "test")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match and match["part"].lower() in parts and match["kind"].lower() == kind and path.is_file():
            prefix = match["prefix"]
            # Where a file lies there both ways, the plain one is read: it costs no unpacking.
            if prefix not in found or found[prefix].suffix == ".gz":
                found[prefix] = path
    if len(found) > 1:
        names = " and ".join(path.name for path in found.values())
        raise DataError(f"{folder} holds several sets ({names}); give a folder with one")
    return next(iter(found.values()), None)


def load_split(folder: str | os.PathLike[str], train: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The pictures (N, H, W) or (N, H, W, C) and labels (N,) of one half of an MNIST-like set.

    Raises:
        DataError: a missing file, or files that are not pictures with their labels.
    """
    folder, part = Path(folder), "train" if train else "test"
    paths = []
    for kind in ("images", "labels"):
        path = find_idx(folder, part, kind)
        if path is None:
            raise DataError(_missing(folder, part, kind))
        paths.append(path)
    try:
        images, labels = read_idx(paths[0]), read_idx(paths[1])
    except OSError as error:
        raise DataError(f"{error.filename or folder}: cannot be read ({error.strerror or error})") from None
    if images.ndim not in (3, 4) or images.dtype != np.uint8:
        raise DataError(f"{paths[0]}: expected pictures, uint8 of shape (N, height, width), and found {_what(images)}")
    if images.ndim == 4 and images.shape[3] not in (1, 3):
        raise DataError(f"{paths[0]}: expected 1 or 3 channels, and found {_what(images)}")
    if 0 in images.shape:
        raise DataError(f"{paths[0]}: there are no pictures in it, {_what(images)}")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{paths[1]}: expected labels, integers of shape (N,), and found {_what(labels)}")
    if len(labels) != len(images):
        raise DataError(
            f"{paths[1]}: {len(labels):,} labels do not belong to the {len(images):,} pictures of {paths[0].name}"
        )
    if labels.min() < 0:
        raise DataError(f"{paths[1]}: labels must be 0 or more, and there is {labels.min()}")
    return images, labels.astype(np.int64)


def load_idx_folder(
    folder: str | os.PathLike[str],
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """Train pictures, train labels, test pictures and test labels of a folder with four IDX files.

    Raises:
        DataError: a missing folder or file, files that do not belong together, damaged ones.
    """
    folder = Path(folder)
    train_images, train_labels = load_split(folder, train=True)
    test_images, test_labels = load_split(folder, train=False)
    if train_images.shape[1:] != test_images.shape[1:]:
        raise DataError(
            f"{folder}: the training pictures are {_size(train_images)} and the test pictures {_size(test_images)}"
        )
    return train_images, train_labels, test_images, test_labels


def _open(path: Path) -> IO[bytes]:
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: expected an IDX file, and it is a {'folder' if path.is_dir() else 'device or pipe'}")
    return open(path, "rb")


def _header(path: Path, file: IO[bytes] | gzip.GzipFile) -> Header:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _TYPES or not 1 <= start[3] <= _MAX_RANK:
        found = "an empty file" if not start else f"the bytes {start.hex(' ')}"
        raise DataError(f"{path}: not an IDX file (expected it to start with 00 00 08 and a rank, found {found})")
    extents = file.read(4 * start[3])
    if len(extents) < 4 * start[3]:
        raise DataError(f"{path}: the file is truncated: it ends within its header")
    shape = tuple(int.from_bytes(extents[i : i + 4], "big") for i in range(0, len(extents), 4))
    return Header(np.dtype(_TYPES[start[2]]), shape, 4 + len(extents))


def _read(
    path: Path, file: IO[bytes] | gzip.GzipFile, length: int | None, packed: int | None, max_bytes: int
) -> NDArray[Any]:
    """The array of an open file whose plain `length`, or else whose `packed` length, is known."""
    header = _header(path, file)
    declared = f"its header declares {' x '.join(map(str, header.shape))} elements of {header.dtype.name}"
    if header.nbytes > max_bytes:
        raise DataError(f"{path}: {declared}, {header.nbytes:,} bytes, more than the {max_bytes:,} accepted")
    if length is not None and length != header.offset + header.nbytes:
        wrong = "is truncated" if length < header.offset + header.nbytes else "has bytes too many"
        raise DataError(
            f"{path}: the file {wrong}: {declared}, {header.nbytes:,} bytes, and {length - header.offset:,} follow"
        )
    if packed is not None and header.nbytes > packed * _MAX_RATIO:
        raise DataError(f"{path}: {declared}, {header.nbytes:,} bytes, which {packed:,} compressed bytes cannot hold")
    values = np.empty(header.nbytes, dtype=np.uint8)
    view, got = values.data, 0
    while got < header.nbytes:
        count = file.readinto(view[got : got + (1 << 22)])  # type: ignore[union-attr]
        if not count:
            raise DataError(f"{path}: the file is truncated: {declared}, {header.nbytes:,} bytes, and {got:,} follow")
        got += count
    if file.read(1):  # also makes gzip compare its checksum
        raise DataError(
            f"{path}: the file has bytes too many: {declared}, and more than {header.nbytes:,} bytes follow"
        )
    array = values.view(header.dtype).reshape(header.shape)
    return array.astype(header.dtype.newbyteorder("="), copy=False)


def _missing(folder: Path, part: str, kind: str) -> str:
    if not folder.is_dir():
        what = "it is a file" if folder.exists() else "there is none"
        return f"{folder}: expected a folder with IDX files, and {what}"
    stem = "train" if part == "train" else "t10k"
    name = f"{stem}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"
    return f"{folder}: expected {name} or {name}.gz (the {part} {kind} as an IDX file), and it is not there"


def _what(array: NDArray[Any]) -> str:
    return f"{array.dtype} of shape {array.shape}"


def _size(images: NDArray[Any]) -> str:
    return " x ".join(str(n) for n in images.shape[1:])
