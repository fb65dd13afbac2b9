"""Files inside a zip archive, as PyTorch writes it: uncompressed, found by the archive's own directory.

Python's `zipfile` unpacks what it is told to. Here every entry has to lie whole and uncompressed in the file and no two
may overlap, so nothing that is read can be larger than the file itself. Names are compared and never used as paths.

Source: PKWARE, "APPNOTE.TXT, .ZIP File Format Specification", 4.3 and 4.5.3.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO

_END, _END64, _LOCATOR, _ENTRY, _LOCAL = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x01\x02", b"PK\x03\x04"
#: Of the directory; a model of ten thousand tensors has one of a megabyte.
_LARGEST_DIRECTORY = 16 << 20


class ArchiveError(Exception):
    """An archive that is damaged or not as PyTorch writes it."""


@dataclass(frozen=True)
class Member:
    """One file of the archive: where its bytes lie."""

    name: str
    begin: int
    size: int
    crc: int


class Archive:
    """The files of a zip archive by name.

    Args:
        file: the archive, open for reading.
        size: its bytes.

    Raises:
        ArchiveError: it is damaged, compressed, encrypted, or has entries that overlap.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size
        self.members: dict[str, Member] = {}
        directory, begin = self._directory()
        at = 0
        while at < len(directory):
            at = self._entry(directory, at)
        occupied = sorted((m.begin, m.begin + m.size) for m in self.members.values() if m.size)
        last = 0
        for start, end in occupied:
            if start < last or end > begin:
                raise ArchiveError("entries of the archive overlap")
            last = end

    def read(self, name: str) -> bytes:
        """The content of one file."""
        target = bytearray(self.members[name].size)
        self.read_into(name, target)
        return bytes(target)

    def read_into(self, name: str, target: Any) -> None:
        """Reads one file into writable memory of its size: a bytearray or an array."""
        member = self.members[name]
        view = memoryview(target).cast("B")
        self.file.seek(member.begin)
        if self.file.readinto(view) != member.size:  # type: ignore[attr-defined]
            raise ArchiveError("it is truncated")
        # PyTorch can be told to leave the checksums out; they are 0 then.
        if member.crc and zlib.crc32(view) != member.crc:
            raise ArchiveError(f"the checksum of {name[:80]!r} is wrong: the file is damaged")

    def _at(self, position: int, count: int) -> bytes:
        if position < 0 or position + count > self.size:
            raise ArchiveError("it is truncated, or its directory is wrong")
        self.file.seek(position)
        data = self.file.read(count)
        if len(data) != count:
            raise ArchiveError("it is truncated")
        return data

    def _directory(self) -> tuple[bytes, int]:
        """The directory's bytes and where it begins."""
        window = min(self.size, 65_557)  # the record, and the longest comment behind it
        tail = self._at(self.size - window, window)
        found = tail.rfind(_END)
        if found < 0 or found + 22 > len(tail):
            raise ArchiveError("its end is missing: the file is truncated")
        size, begin = struct.unpack_from("<II", tail, found + 12)
        end = self.size - window + found
        if end >= 20:
            locator = self._at(end - 20, 20)
            if locator[:4] == _LOCATOR:
                record = self._at(struct.unpack_from("<Q", locator, 8)[0], 56)
                if record[:4] != _END64:
                    raise ArchiveError("its directory is wrong")
                size, begin = struct.unpack_from("<QQ", record, 40)
        if size > _LARGEST_DIRECTORY:
            raise ArchiveError(f"its directory has {size:,} bytes; at most {_LARGEST_DIRECTORY:,} are accepted")
        return self._at(begin, size), begin

    def _entry(self, directory: bytes, at: int) -> int:
        if directory[at : at + 4] != _ENTRY or at + 46 > len(directory):
            raise ArchiveError("its directory is wrong")
        flags, method = struct.unpack_from("<HH", directory, at + 8)
        crc, packed, size = struct.unpack_from("<III", directory, at + 16)
        name_size, extra_size, comment_size = struct.unpack_from("<HHH", directory, at + 28)
        (local,) = struct.unpack_from("<I", directory, at + 42)
        end: int = at + 46 + name_size + extra_size + comment_size
        if end > len(directory):
            raise ArchiveError("its directory is wrong")
        name = directory[at + 46 : at + 46 + name_size].decode("utf-8", "replace")
        extra = directory[at + 46 + name_size : at + 46 + name_size + extra_size]
        packed, size, local = _wide(extra, size, packed, local)
        if method != 0 or packed != size:
            raise ArchiveError(f"{name[:80]!r} in it is compressed, which PyTorch's files are not")
        if flags & 1:
            raise ArchiveError(f"{name[:80]!r} in it is encrypted")
        if name in self.members:
            raise ArchiveError(f"{name[:80]!r} is twice in it")
        header = self._at(local, 30)
        if header[:4] != _LOCAL:
            raise ArchiveError("its directory is wrong")
        inner_name, inner_extra = struct.unpack_from("<HH", header, 26)
        begin = local + 30 + inner_name + inner_extra
        if begin + size > self.size:
            raise ArchiveError(f"{name[:80]!r} in it is truncated")
        self.members[name] = Member(name, begin, size, crc)
        return end


def _wide(extra: bytes, size: int, packed: int, local: int) -> tuple[int, int, int]:
    """Sizes and place with their 64-bit values, which stand in the extra field where the short ones are all ones."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            content, used, values = extra[at + 4 : at + 4 + length], 0, [size, packed, local]
            for i, value in enumerate(values):
                if value == 0xFFFFFFFF:
                    if used + 8 > len(content):
                        raise ArchiveError("its directory is wrong")
                    (values[i],) = struct.unpack_from("<Q", content, used)
                    used += 8
            size, packed, local = values
        at += 4 + length
    return packed, size, local
