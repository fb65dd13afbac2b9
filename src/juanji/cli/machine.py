"""What this machine is and what it allows: processor, threads and why that many, memory."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path


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


def threads() -> tuple[int, list[str]]:
    """How many threads can compute at once here, and the reasons.

    Example:
        >>> count, reasons = threads()
        >>> count >= 1 and len(reasons) >= 1
        True
    """
    logical = os.cpu_count() or 1
    count, reasons = logical, [f"{logical} logical processors"]
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
        if allowed < count:
            count = allowed
            reasons.append(f"this process may use {allowed} of them (affinity)")
        else:
            reasons.append("this process may use all of them (affinity)")
    quota = cgroup_quota()
    if quota is None:
        reasons.append("no limit of processor time (cgroup)")
    else:
        whole = max(1, int(quota + 0.5))
        reasons.append(f"processor time is limited to that of {quota:g} processors (cgroup)")
        count = min(count, whole)
    return count, reasons


def cgroup_quota(
    root: Path = Path("/sys/fs/cgroup"), self_file: Path = Path("/proc/self/cgroup")
) -> float | None:
    """How many processors' time the container may use, or None without a limit.

    The tightest limit on the way from the process's own group up to the root holds (cgroups 2 and 1).
    """
    limits = []
    try:
        lines = self_file.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, inside = rest.partition(":")
        if controllers == "":
            limits += [_quota_v2(folder / "cpu.max") for folder in _upwards(root, inside)]
        elif "cpu" in controllers.split(","):
            for base in (root / "cpu", root / controllers):
                limits += [_quota_v1(folder) for folder in _upwards(base, inside)]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def _upwards(root: Path, inside: str) -> list[Path]:
    """The folders of a group and its parents; in a container the group's own path may not exist."""
    parts = [part for part in inside.split("/") if part not in ("", "..", ".")]
    return [root.joinpath(*parts[:n]) for n in range(len(parts), -1, -1)]


def _quota_v2(path: Path) -> float | None:
    try:
        quota, period = path.read_text().split()[:2]
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
