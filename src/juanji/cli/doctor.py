"""`juanji doctor`: what this machine is, and what Juanji makes of it."""

from __future__ import annotations

import os
import platform
from typing import Annotated, Any

import typer

from juanji.cli.output import FAILURE, JsonOption, command, emit, say, show


@command
def doctor(
    clear_cache: Annotated[
        bool, typer.Option("--clear-cache", help="Remove the compiled kernels that are kept on disk; data stay.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show processor, vector width, threads and why, versions and folders; try a first kernel."""
    if clear_cache:
        removed = _clear()
        if as_json:
            emit(removed)
        else:
            show(f"removed {_size(removed)} from {removed['folder']}")
        return
    findings = examine()
    if as_json:
        emit(findings)
    else:
        for name, value in findings.items():
            if name != "problem":
                show(f"{name.replace('_', ' '):14s} {_text(value)}")
    if findings["problem"]:
        say(f"juanji: {findings['problem']}")
        raise typer.Exit(FAILURE)


def examine() -> dict[str, Any]:
    """Everything that `juanji doctor` shows, as plain values; `problem` is None where Juanji works here."""
    import juanji
    from juanji.cli import machine
    from juanji.paths import cache_dir

    target, problem = _target()
    try:
        folder = str(cache_dir())
    except RuntimeError as error:  # a user without a home
        folder, problem = "", problem or str(error)
    return {
        "juanji": juanji.__version__,
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "processor": machine.processor(),
        "target": target,
        "threads": machine.threads(),
        "versions": {"python": platform.python_version(), **_versions()},
        "cache": {"folder": folder, "exists": os.path.isdir(folder), "set_by": _cache_reason()},
        "kernels": _kernels(),
        "debug": os.environ.get("JUANJI_DEBUG") or "0",
        "problem": problem,
    }


def _target() -> tuple[dict[str, Any], str | None]:
    from juanji import target

    asked = os.environ.get("JUANJI_TARGET", "")
    try:
        can = target.available()
        chosen = target.current()
    except (ValueError, OSError) as error:
        return {"name": None, "why": str(error), "available": []}, str(error)
    why = "JUANJI_TARGET says so" if asked else "the widest this processor can run"
    found: dict[str, Any] = {
        "name": chosen.name,
        "why": why,
        "available": can,
        "vector_bits": chosen.vector_bytes * 8,
        "registers": chosen.registers,
        "llvm_cpu": chosen.cpu,
    }
    return found, _first_kernel()


def _first_kernel() -> str | None:
    """Compiles and runs something small: the one test that says whether Juanji works here."""
    try:
        from juanji.tensors import arange

        values: Any = arange(8.0)
        total = float((values * 2.0).sum().item())
    except Exception as error:
        return f"a first kernel could not be compiled and run: {type(error).__name__}: {error}"
    return None if total == 56.0 else f"a first kernel gave {total}, not 56"


def _kernels() -> dict[str, Any]:
    """The cache of compiled kernels: where it is, its size, and why it is not used where that is so."""
    from juanji.runtime import cache

    store = cache.current()
    if store is None:
        return {"folder": None, "files": 0, "bytes": 0, "problem": "off: JUANJI_CACHE=0, or there is no home"}
    found = store.information()
    return {"folder": found.folder, "files": found.files, "bytes": found.bytes, "problem": found.problem}


def _clear() -> dict[str, Any]:
    """Empties the cache of compiled kernels."""
    from juanji.paths import cache_dir
    from juanji.runtime.cache import ObjectCache

    # Also where JUANJI_CACHE=0 says that it is not to be used.
    store = ObjectCache(cache_dir() / "kernels")
    files, size = store.clear()
    return {"folder": str(store.folder), "files": files, "bytes": size}


def _size(found: dict[str, Any]) -> str:
    files = "1 file" if found["files"] == 1 else f"{found['files']} files"
    size = found["bytes"]
    return f"{files}, {size / 2**20:.1f} MB" if size >= 2**20 else f"{files}, {-(-size // 2**10)} KB"


def _versions() -> dict[str, str]:
    from importlib import metadata  # takes longer to import than most of the program

    found = {}
    for name in ("numpy", "llvmlite", "safetensors", "pillow", "typer", "rich", "torch"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    try:
        import llvmlite.binding as llvm

        found["llvm"] = ".".join(str(part) for part in llvm.llvm_version_info)
    except (ImportError, AttributeError, OSError):
        pass
    return found


def _cache_reason() -> str:
    for name in ("JUANJI_HOME", "XDG_CACHE_HOME"):
        if os.environ.get(name):
            return name
    return "default"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        if "why" in value and "allowed" in value:
            return f"{value['used']} of {value['allowed']}: {'; '.join(value['why'])}"
        if "vector_bits" in value:
            size = f"{value['vector_bits']}-bit vectors, {value['registers']} registers"
            return f"{value['name']}: {size} ({value['why']})"
        if "files" in value:
            place = f" in {value['folder']}" if value["folder"] else ""
            return f"{_size(value)}{place}" + (f" (not used: {value['problem']})" if value["problem"] else "")
        if "folder" in value:
            state = "" if value["exists"] else ", not made yet"
            return f"{value['folder']} ({value['set_by']}{state})"
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return str(value)
