"""How many processors there are to use: affinity and a container's quota."""

import os
import subprocess
import sys

import pytest

from juanji.runtime import system


def group(root, path, **files):
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def quota(tmp_path, lines):
    file = tmp_path / "self"
    file.write_text(lines)
    return system.cgroup_quota(tmp_path / "groups", file)


def test_quota_of_cgroups_2_is_the_tightest_on_the_way_up(tmp_path):
    root = tmp_path / "groups"
    group(root, "", cpu__max="max 100000\n")
    group(root, "outer", cpu__max="250000 100000\n")
    group(root, "outer/inner", cpu__max="max 100000\n")
    assert quota(tmp_path, "0::/outer/inner\n") == 2.5
    group(root, "outer/inner", cpu__max="50000 100000\n")
    assert quota(tmp_path, "0::/outer/inner\n") == 0.5
    assert quota(tmp_path, "0::/\n") is None
    assert quota(tmp_path, "0::/outer/gone/../..\n") == 2.5  # as a container may see it


def test_quota_of_cgroups_1(tmp_path):
    root = tmp_path / "groups"
    group(root, "cpu,cpuacct/docker/x", cpu__cfs_quota_us="150000", cpu__cfs_period_us="100000")
    assert quota(tmp_path, "5:memory:/y\n4:cpu,cpuacct:/docker/x\n") == 1.5
    group(root, "cpu,cpuacct/docker/x", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert quota(tmp_path, "4:cpu,cpuacct:/docker/x\n") is None


def test_unreadable_quotas_are_none(tmp_path):
    assert system.cgroup_quota(tmp_path, tmp_path / "missing") is None
    group(tmp_path / "groups", "", cpu__max="what")
    assert quota(tmp_path, "0::/\n") is None
    group(tmp_path / "groups", "", cpu__max="1000 0")
    assert quota(tmp_path, "0::/\n") is None


@pytest.mark.parametrize(("limit", "count"), [(None, 8), (0.3, 1), (1.0, 1), (2.5, 3), (100.0, 8)])
def test_threads_follow_the_quota(monkeypatch, limit, count):
    monkeypatch.setattr(system.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(system.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(system, "cgroup_quota", lambda: limit)
    found, reasons = system.allowed_processors()
    assert found == count
    assert ("no limit" in reasons[-1]) == (limit is None)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_threads_follow_affinity():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "import juanji as jj; from juanji.runtime import team\n"
        "(jj.ones(500, 500) @ jj.ones(500, 500)).sum()\n"
        "print(jj.get_num_threads(), team.parallel(), len(os.listdir('/proc/self/task')))"
    )
    env = {name: value for name, value in os.environ.items() if name != "JUANJI_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split()[:2] == ["1", "False"]
