"""How many runs at once, and how many threads each: from the CPUs that this process may use, not from the host's count.

Sources: sched_getaffinity(2); cgroup v2 `cpu.max`; cgroup v1 `cpu.cfs_quota_us` and `cpu.cfs_period_us`.
"""

import math
import os
from pathlib import Path

from msgspec import Struct

CGROUP_ROOT = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


class Plan(Struct, frozen=True):
    """`slots` runs of one version at a time, each on `threads` threads."""

    slots: int
    threads: int


def plan(slots: int, threads: int, cpus: int, workers: int) -> Plan:
    """Fill in what the configuration leaves to us (0).

    Two runs of one thread beat one run of two threads wherever requests come together (measured: 1.8x on a transformer
    encoder), so the CPUs become slots first.
    """
    share = max(1, cpus // workers)
    if slots == 0:
        slots = max(1, share // threads) if threads else share
    if threads == 0:
        threads = max(1, share // slots)
    return Plan(slots, threads)


def available_cpus() -> int:
    """CPUs of the affinity mask, or fewer if a cgroup's quota allows fewer; at least 1."""
    return max(1, min(len(os.sched_getaffinity(0)), quota_cpus(CGROUP_ROOT, OWN_CGROUPS)))


def quota_cpus(root: Path, own: Path) -> int:
    """The tightest CPU quota on the way from this process's cgroup to the root, rounded up; the host's count if none."""
    host = os.cpu_count() or 1
    quotas = [quota for folder in cgroup_folders(root, own, "cpu") if (quota := _quota(folder)) is not None]
    return min([host, *(math.ceil(quota) for quota in quotas)])


def cgroup_folders(root: Path, own: Path, controller: str) -> list[Path]:
    """Every cgroup folder that may limit this process: v2's own path and its parents, and v1's of that controller."""
    folders = [root, root / controller, root / "cpu,cpuacct"]
    for line in read_text(own).splitlines():
        _, controllers, path = line.split(":", 2)
        bases = [root] if controllers == "" else [root / controllers] if controller in controllers.split(",") else []
        for base in bases:
            here = base / path.lstrip("/")
            folders += [here, *(parent for parent in here.parents if parent.is_relative_to(base))]
    return folders


def _quota(folder: Path) -> float | None:
    v2 = read_text(folder / "cpu.max").split()
    if len(v2) == 2 and v2[0] != "max":
        return int(v2[0]) / int(v2[1])
    quota, period = read_text(folder / "cpu.cfs_quota_us").strip(), read_text(folder / "cpu.cfs_period_us").strip()
    if quota and period and int(quota) > 0:
        return int(quota) / int(period)
    return None


def read_text(path: Path) -> str:
    """What stands there; empty where nothing can be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
