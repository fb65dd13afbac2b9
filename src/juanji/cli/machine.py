"""What this machine is called and how many threads it is given, for people."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

from juanji.runtime import system, team


def processor() -> str:
    """The processor's name."""
    if sys.platform == "linux":
        try:
            with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
                for line in file:
                    if line.startswith(("model name", "Model")):
                        return " ".join(line.partition(":")[2].split())
        except OSError:
            pass
    return platform.processor() or platform.machine() or "unknown"


def threads() -> dict[str, Any]:
    """How many threads could compute here, how many do, and why.

    Example:
        >>> found = threads()
        >>> found["used"] >= 1, found["allowed"] >= 1, len(found["why"]) >= 2
        (True, True, True)
    """
    allowed, reasons = system.allowed_processors()
    support, why = system.thread_support()
    used = team.threads() if support else 1
    if support and os.environ.get("JUANJI_THREADS"):
        reasons.append("JUANJI_THREADS says so")
    return {"allowed": allowed, "used": used, "why": [*reasons, why]}
