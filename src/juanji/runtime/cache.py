"""Object code on disk, so that a program's second start compiles nothing.

A file is a *batch*: the kernels that one plan lacked when it was compiled, each under its own key. A batch is named by
the keys that were asked for, so the same program finds all of a plan's kernels with one read; where that name is not
there, the tables at the beginnings of the other batches say whether one of them has a kernel.

The code is run, so nothing is believed that somebody else could have written: the folder and its files must belong to
this user and be writable by nobody else. Whatever is truncated or damaged fails its checksum, is removed and compiled
anew. A cache that can't be used is silently off: compiling is always possible.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import struct
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from juanji.config import debug_level
from juanji.paths import cache_dir
from juanji.runtime.system import new_lock_after_fork

#: The cache is kept below this size and number of files; the least recently used go first.
MAX_BYTES = 256 * 2**20
MAX_FILES = 2000
#: What is left after an eviction, as a part of the bounds, so that not every write evicts.
_LEFT = 0.9
#: Bytes and files written by this process between two looks at the whole folder.
_SWEEP_BYTES, _SWEEP_FILES = 16 * 2**20, 100
#: Seconds within which a batch that is used again is not marked as used again.
_USE_STEP = 3600.0
#: Seconds after which a temporary file was left by a process that died.
_ABANDONED = 600.0

_SUFFIX, _TEMPORARY = ".kernels", ".part"
#: The end of the names that are read: other versions of the format are left to eviction.
_READ = "-1" + _SUFFIX
_MAGIC = b"JUANJI\x00\x01"
_HEAD = struct.Struct("<8sQ16s")  # magic and format, number of rows, checksum of the table
_ROW = struct.Struct("<32sQQ16s")  # key, place, length and checksum of one object
KEY_BYTES = 32


class Damaged(Exception):
    """A file that does not hold what its header promises."""


def key(*parts: str) -> bytes:
    """The key of a kernel: everything that its machine code depends on.

    >>> len(key("specification", "generator", "processor")) == KEY_BYTES
    True
    """
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for part in parts:
        raw = part.encode()
        digest.update(struct.pack("<Q", len(raw)))
        digest.update(raw)
    return digest.digest()


@dataclass(frozen=True)
class Found:
    """What a lookup gave.

    Attributes:
        images: object code by key; keys that were not found are not there.
        exact: whether all came from the batch that has the name of these keys.
    """

    images: dict[bytes, bytes]
    exact: bool


@dataclass(frozen=True)
class Information:
    """What `juanji doctor` shows: where the cache is, whether it is used and why not, its size."""

    folder: str
    problem: str | None
    files: int
    bytes: int


class ObjectCache:
    """The batches of one folder. All methods may be called from any thread and by any number of processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        new_lock_after_fork(self, "_lock", threading.Lock)
        self._batches: dict[bytes, str] = {}  # which batch has a key, for the batches whose table was read
        self._seen: set[str] = set()
        self._checked = False
        self._writable = True
        self._unswept: tuple[int, int] | None = None

    # -- reading --------------------------------------------------------------------------------------
    def find(self, keys: Sequence[bytes]) -> Found:
        """The object code of as many of `keys` as are there."""
        with self._lock:
            try:
                return self._find(set(keys))
            except OSError as error:
                _note(f"the cache of compiled kernels {str(self.folder)!r} can't be read: {error}")
                return Found({}, False)

    def _find(self, keys: set[bytes]) -> Found:
        if not self._usable():
            return Found({}, True)  # and nothing is to be written
        name = _batch_name(keys)
        images = self._read(name, keys)
        if len(images) == len(keys):
            return Found(images, True)
        self._scan()
        wanted: dict[str, set[bytes]] = {}
        for one in keys - images.keys():
            if one in self._batches:
                wanted.setdefault(self._batches[one], set()).add(one)
        for other, some in wanted.items():
            images.update(self._read(other, some))
        return Found(images, False)

    def _usable(self) -> bool:
        """Whether the folder is there, and only its owner's: this user's."""
        try:
            status = os.stat(self.folder)
        except FileNotFoundError:
            self._checked = False
            return True  # nothing to read; `keep` makes it
        if self._checked:
            return True
        reason = _foreign(status, folder=True)
        if reason:
            _note(f"the cache of compiled kernels {str(self.folder)!r} is not used: {reason}")
            return False
        self._checked = True
        return True

    def _read(self, name: str, keys: set[bytes]) -> dict[bytes, bytes]:
        """The objects of `keys` in a batch; one that is damaged is removed."""
        path = self.folder / name
        images = {}
        try:
            content = _content(path)
            for one, (at, length, checksum) in _table(content, len(content)).items():
                if one in keys:
                    image = content[at : at + length]
                    if _checksum(image) != checksum:
                        raise Damaged("an object's checksum is wrong")
                    images[one] = image
        except FileNotFoundError:
            self._forget(name)
            return {}
        except Damaged as damage:
            self._remove(path, damage)
            return images
        except OSError as error:
            _note(f"{str(path)!r} is not read: {error.strerror}")
            return {}
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _USE_STEP:
                os.utime(path)
        return images

    def _scan(self) -> None:
        """Reads the tables of the batches that were not seen before."""
        try:
            names = [entry.name for entry in os.scandir(self.folder) if entry.name.endswith(_READ)]
        except FileNotFoundError:
            return
        for name in names:
            if name in self._seen:
                continue
            self._seen.add(name)
            path = self.folder / name
            try:
                self._batches.update(dict.fromkeys(_table(*_beginning(path)), name))
            except Damaged as damage:
                self._remove(path, damage)
            except OSError as error:
                _note(f"{str(path)!r} is not read: {error.strerror}")

    def _remove(self, path: Path, damage: Damaged) -> None:
        _note(f"{str(path)!r} is damaged ({damage}) and removed")
        self._forget(path.name)
        with contextlib.suppress(OSError):
            path.unlink()

    def _forget(self, name: str) -> None:
        self._seen.discard(name)
        self._batches = {one: batch for one, batch in self._batches.items() if batch != name}

    # -- writing --------------------------------------------------------------------------------------
    def keep(self, images: Mapping[bytes, bytes]) -> None:
        """Writes a batch. It appears whole or not at all; where that is impossible, nothing is written any more."""
        with self._lock:
            if not self._writable or not images:
                return
            try:
                self._make_folder()
                if not self._usable():
                    self._writable = False
                    return
                name = _batch_name(images.keys())
                self._write(name, _batch(images))
                self._seen.add(name)
                self._batches.update(dict.fromkeys(images, name))
                self._account(sum(map(len, images.values())), name)
            except OSError as error:
                self._writable = False
                reason = error.strerror or str(error)
                _note(f"compiled kernels are not kept: {str(self.folder)!r} can't be written ({reason})")

    def _make_folder(self) -> None:
        if self.folder.is_dir():
            return
        if not os.environ.get("JUANJI_HOME") and not os.environ.get("XDG_CACHE_HOME"):
            home = Path.home()
            if not home.is_dir():  # a user without a home is not to be given one
                raise FileNotFoundError(2, f"the home {str(home)!r} does not exist")
        self.folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.mkdir(exist_ok=True, mode=0o700)

    def _write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        temporary = self.folder / f"{name}.{os.getpid()}-{secrets.token_hex(4)}{_TEMPORARY}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        try:
            with open(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def _account(self, nbytes: int, name: str) -> None:
        """Looks at the size of the whole folder at the first write of a process, then now and then."""
        files, total = self._unswept or (0, 0)
        if self._unswept is not None and files < _SWEEP_FILES and total < _SWEEP_BYTES:
            self._unswept = (files + 1, total + nbytes)
            return
        self._unswept = (0, 0)
        self._sweep(name)

    def _sweep(self, keep: str) -> None:
        """Evicts the least recently used batches beyond the bounds, and what dead processes left."""
        batches, now = [], time.time()
        for entry in os.scandir(self.folder):
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if entry.name.endswith(_TEMPORARY) and now - status.st_mtime > _ABANDONED:
                    os.unlink(entry.path)
                elif entry.name.endswith(_SUFFIX):
                    batches.append((status.st_mtime, status.st_size, entry.name))
        count, total = len(batches), sum(size for _, size, _ in batches)
        if total <= MAX_BYTES and count <= MAX_FILES:
            return
        for _, size, name in sorted(batches):
            if total <= _LEFT * MAX_BYTES and count <= _LEFT * MAX_FILES:
                break
            if name == keep:
                continue
            with contextlib.suppress(OSError):
                os.unlink(self.folder / name)
                self._forget(name)
                total, count = total - size, count - 1

    # -- for people -----------------------------------------------------------------------------------
    def information(self) -> Information:
        """Where it is, its size, and why it is not used if so."""
        problem, files, total = None, 0, 0
        try:
            problem = _foreign(os.stat(self.folder), folder=True)
            for entry in os.scandir(self.folder):
                if entry.name.endswith((_SUFFIX, _TEMPORARY)):
                    files, total = files + 1, total + entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            pass
        except OSError as error:
            problem = error.strerror or str(error)
        return Information(str(self.folder), problem, files, total)

    def clear(self) -> tuple[int, int]:
        """Removes every batch: how many files and bytes that were.

        Raises:
            OSError: a file can't be removed.
        """
        files = total = 0
        with self._lock:
            self._batches, self._seen = {}, set()
            try:
                entries = list(os.scandir(self.folder))
            except FileNotFoundError:
                return 0, 0
            for entry in entries:
                if entry.name.endswith((_SUFFIX, _TEMPORARY)):
                    size = entry.stat(follow_symlinks=False).st_size
                    with contextlib.suppress(FileNotFoundError):  # another process may be doing the same
                        os.unlink(entry.path)
                        files, total = files + 1, total + size
        return files, total


# -- the file format --------------------------------------------------------------------------------------
def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _batch_name(keys: Iterable[bytes]) -> str:
    return hashlib.blake2b(b"".join(sorted(keys)), digest_size=16).hexdigest() + _READ


def _batch(images: Mapping[bytes, bytes]) -> bytes:
    """The content of a file."""
    at = _HEAD.size + _ROW.size * len(images)
    rows = []
    for one, image in images.items():
        rows.append(_ROW.pack(one, at, len(image), _checksum(image)))
        at += len(image)
    table = b"".join(rows)
    return b"".join([_HEAD.pack(_MAGIC, len(images), _checksum(table)), table, *images.values()])


def _table(content: bytes, size: int) -> dict[bytes, tuple[int, int, bytes]]:
    """Place, length and checksum of the objects in a file of `size` bytes that begins with `content`."""
    if len(content) < _HEAD.size:
        raise Damaged("it is too short")
    magic, count, checksum = _HEAD.unpack_from(content)
    end = _HEAD.size + _ROW.size * count
    if magic != _MAGIC:
        raise Damaged("it is something else")
    if end > len(content):
        raise Damaged("its table is cut off")
    table = content[_HEAD.size : end]
    if _checksum(table) != checksum:
        raise Damaged("its table's checksum is wrong")
    rows = {}
    for one, at, length, image_checksum in _ROW.iter_unpack(table):
        if at < end or at + length > size:
            raise Damaged("it is cut off")
        rows[one] = (at, length, image_checksum)
    return rows


def _content(path: Path) -> bytes:
    """A whole file that only this user can have written."""
    descriptor = _opened(path)
    with open(descriptor, "rb") as file:
        return file.read()


def _beginning(path: Path) -> tuple[bytes, int]:
    """The head and table of a file, and the file's size."""
    descriptor = _opened(path)
    with open(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        head = file.read(4096)
        if len(head) >= _HEAD.size:
            end = _HEAD.size + _ROW.size * int(_HEAD.unpack_from(head)[1])
            if len(head) < end <= size:
                head += file.read(end - len(head))
        return head, size


def _opened(path: Path) -> int:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    reason = _foreign(os.fstat(descriptor), folder=False)
    if reason:
        os.close(descriptor)
        raise PermissionError(1, reason, str(path))
    return descriptor


def _foreign(status: os.stat_result, folder: bool) -> str | None:
    """Why something in the cache is not to be trusted, or None."""
    if not (stat.S_ISDIR if folder else stat.S_ISREG)(status.st_mode):
        return "it is not a folder" if folder else "it is not a file"
    if not hasattr(os, "geteuid"):
        return None  # Windows: a user's folders are that user's by their access lists
    if status.st_uid != os.geteuid():
        return "it belongs to another user"
    if status.st_mode & 0o022:
        return "others can write it"
    return None


# -- the process's cache ----------------------------------------------------------------------------------
_caches: dict[Path, ObjectCache] = {}
_noted: set[str] = set()


def current() -> ObjectCache | None:
    """The cache in use: None where `JUANJI_CACHE=0` turns it off, or there is no place for it."""
    if os.environ.get("JUANJI_CACHE", "1").strip().lower() in ("0", "off", "no", "false"):
        return None
    try:
        folder = cache_dir() / "kernels"
    except RuntimeError as error:  # a user without a home
        _note(f"compiled kernels are not kept: {error}")
        return None
    found = _caches.get(folder)
    if found is None:
        found = _caches.setdefault(folder, ObjectCache(folder))
    return found


def _note(text: str) -> None:
    """Says something once, to those who debug."""
    if debug_level() >= 1 and text not in _noted:
        _noted.add(text)
        print(f"juanji: {text}", file=sys.stderr)
