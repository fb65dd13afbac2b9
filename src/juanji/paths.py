"""Where Juanji keeps its files: the one place that knows each system's customs."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_dir() -> Path:
    """Where Juanji keeps what it fetched and compiled: `JUANJI_HOME`, or the user's cache folder of this system.

    Raises:
        RuntimeError: the user has no home, and none of the variables that could say where else is set.

    >>> cache_dir().is_absolute()
    True
    """
    chosen = os.environ.get("JUANJI_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "juanji" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "juanji"
    base = os.environ.get("XDG_CACHE_HOME")
    # A relative XDG path is to be ignored, says its specification.
    return (Path(base) if base and os.path.isabs(base) else Path.home() / ".cache") / "juanji"
