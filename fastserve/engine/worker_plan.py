"""How many workers `workers = "auto"` is: from the CPUs and the memory that this process may use, and the models there are.

Thread: the parent's main one, before there are workers. No model is opened, only the sizes of files are looked at.
Sources of memory: cgroup v2 `memory.max`, v1 `memory.limit_in_bytes`; /proc/meminfo.
"""

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from fastserve.config import ServerConfig
from fastserve.engine.plan import CGROUP_ROOT, OWN_CGROUPS, cgroup_folders, read_text
from fastserve.engine.registry import OnDisk
from fastserve.repository.policy import wanted_versions

SMALL_BYTES = 4 << 20
"""A model below that mostly runs in less time than its request takes to be read and answered."""

CPUS_A_WORKER = 2
"""One for its door, which is Python, and one for its network."""

CPUS_A_LARGE_WORKER = 8
"""Where models take the time, one door keeps so many CPUs busy, and requests that meet in one queue share runs."""

WORKER_BYTES = 64 << 20
"""What a worker takes without models."""

TIMES_LOADED = 2
"""A session and what loading it leaves, in sizes of the file."""

MEMORY_SHARE = 0.5
"""Of the memory; the rest is for requests, buffers and others."""

MEMINFO = Path("/proc/meminfo")


class WorkerPlan(Struct, frozen=True):
    """So many workers. `why`: in words."""

    count: int
    why: str


def plan_workers(cpus: int, memory_bytes: int, models_bytes: list[int], shared_from_bytes: int) -> WorkerPlan:
    """From CPUs, memory, the size of each model, and the size from which workers share a model's weights (0: never)."""
    large = bool(models_bytes) and min(models_bytes) >= SMALL_BYTES
    each = CPUS_A_LARGE_WORKER if large else CPUS_A_WORKER
    count = max(1, cpus // each)
    kind = "all models are large" if large else "there are small models" if models_bytes else "no models are there yet"
    why = f"{_counted(cpus, 'CPU')}, and one for {each} where {kind}"
    shared = [size for size in models_bytes if 0 < shared_from_bytes <= size]
    own_bytes = WORKER_BYTES + TIMES_LOADED * (sum(models_bytes) - sum(shared))
    left_bytes = MEMORY_SHARE * memory_bytes - TIMES_LOADED * sum(shared)
    room = max(1, int(left_bytes // own_bytes))
    if room < count:
        return WorkerPlan(room, f"{memory_bytes >> 20} MiB of memory, and {own_bytes >> 20} MiB a worker")
    return WorkerPlan(count, why)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def planned(server: ServerConfig, models: Mapping[str, OnDisk], cpus: int) -> WorkerPlan:
    """The same from what is on disk now."""
    sizes = [
        files_bytes(disk.versions[number])
        for disk in models.values()
        for number in wanted_versions(disk.policy, disk.versions)
    ]
    return plan_workers(cpus, memory_bytes(CGROUP_ROOT, OWN_CGROUPS, MEMINFO), sizes, server.share_weights_bytes)


def files_bytes(path: Path) -> int:
    """A version's file, and what lies beside it where the folder is the version's own; 0 for what is gone."""
    files = path.parent.iterdir() if path.parent.name.isdigit() else iter((path,))
    try:
        return sum(file.stat().st_size for file in files if file.is_file())
    except OSError:
        return 0


def memory_bytes(root: Path, own: Path, meminfo: Path) -> int:
    """What the tightest cgroup on the way to the root allows, or what the machine has."""
    fields = dict(line.split(":", 1) for line in read_text(meminfo).splitlines() if ":" in line)
    host_kb = fields.get("MemTotal", "0 kB").split()[0]
    names = ("memory.max", "memory.limit_in_bytes")
    found = [read_text(folder / name).strip() for folder in cgroup_folders(root, own, "memory") for name in names]
    limits = [int(text) for text in found if text.isdigit()]
    return min([*limits, *([int(host_kb) * 1024] if int(host_kb) else [])], default=1 << 62)
