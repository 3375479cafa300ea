"""CPUs as the kernel grants them, and how they become slots and threads."""

import os
from pathlib import Path

import pytest

from fastserve.engine import plan as planning
from fastserve.engine.plan import Plan, available_cpus, plan, quota_cpus

HOST_CPUS = 16


class Kernel:
    """A cgroup file system and /proc/self/cgroup, as a test writes them."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "cgroup"
        self.own = folder / "self"
        self.root.mkdir()

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    @property
    def cpus(self) -> int:
        return quota_cpus(self.root, self.own)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setattr(os, "cpu_count", lambda: HOST_CPUS)
    return Kernel(tmp_path)


V1_OWN = "12:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n1:name=systemd:/docker/abc\n"


@pytest.mark.parametrize(
    ("own", "files", "cpus"),
    [
        pytest.param("0::/\n", {}, HOST_CPUS, id="no quota anywhere"),
        pytest.param("", {"cpu.max": "200000 100000\n"}, 2, id="v2 in a container that sees only its own"),
        pytest.param("0::/\n", {"cpu.max": "max 100000\n"}, HOST_CPUS, id="v2 without a quota"),
        pytest.param("0::/\n", {"cpu.max": "150000 100000\n"}, 2, id="v2: a CPU and a half make two"),
        pytest.param("0::/\n", {"cpu.max": "50000 100000\n"}, 1, id="v2: half a CPU makes one"),
        pytest.param("0::/\n", {"cpu.max": "40000 10000\n"}, 4, id="v2: another period"),
        pytest.param("0::/\n", {"cpu.max": "9900000 100000\n"}, HOST_CPUS, id="a quota beyond the host"),
        pytest.param(
            "0::/a/b/c\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3, id="v2: a parent's"
        ),
        pytest.param(
            "0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "100000 100000"}, 1, id="v2: the tightest"
        ),
        pytest.param(
            "0::/a\n", {"b/cpu.max": "100000 100000", "a/cpu.max": "400000 100000"}, 4, id="v2: not a neighbour's"
        ),
        pytest.param(
            V1_OWN,
            {"cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "250000", "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000"},
            3,
            id="v1",
        ),
        pytest.param(
            V1_OWN,
            {"cpu,cpuacct/docker/cpu.cfs_quota_us": "100000", "cpu,cpuacct/docker/cpu.cfs_period_us": "100000"},
            1,
            id="v1: a parent's",
        ),
        pytest.param(
            V1_OWN,
            {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"},
            2,
            id="v1 in a container whose own path is not mounted",
        ),
        pytest.param(
            V1_OWN,
            {"cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "-1", "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000"},
            HOST_CPUS,
            id="v1 without a quota",
        ),
        pytest.param(
            V1_OWN, {"memory/docker/abc/cpu.cfs_quota_us": "100000"}, HOST_CPUS, id="v1: another hierarchy's files"
        ),
        pytest.param("0::/../../a\n", {"cpu.max": "200000 100000"}, 2, id="a path out of the name space"),
    ],
)
def test_the_tightest_quota_on_the_way_to_the_root_counts(
    kernel: Kernel, own: str, files: dict[str, str], cpus: int
) -> None:
    kernel.own.write_text(own)
    for path, text in files.items():
        kernel.write(path, text)
    assert kernel.cpus == cpus


def test_without_proc_the_host_counts(kernel: Kernel) -> None:
    assert kernel.cpus == HOST_CPUS


@pytest.mark.parametrize(("mask", "quota", "cpus"), [({0, 5}, 8, 2), ({0, 1, 2, 3}, 2, 2), ({3}, 1, 1), ({0, 1}, 0, 1)])
def test_the_affinity_mask_and_the_quota_both_bind(
    monkeypatch: pytest.MonkeyPatch, mask: set[int], quota: int, cpus: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: mask)
    monkeypatch.setattr(planning, "quota_cpus", lambda root, own: quota)
    assert available_cpus() == cpus


@pytest.mark.parametrize(
    ("slots", "threads", "cpus", "workers", "expected"),
    [
        (0, 0, 1, 1, Plan(1, 1)),
        (0, 0, 8, 1, Plan(8, 1)),
        (0, 0, 8, 2, Plan(4, 1)),
        (0, 0, 2, 4, Plan(1, 1)),
        (0, 2, 8, 1, Plan(4, 2)),
        (0, 16, 8, 1, Plan(1, 16)),
        (2, 0, 8, 1, Plan(2, 4)),
        (16, 0, 8, 1, Plan(16, 1)),
        (3, 5, 8, 2, Plan(3, 5)),
    ],
)
def test_cpus_become_slots_first_and_what_is_configured_stands(
    slots: int, threads: int, cpus: int, workers: int, expected: Plan
) -> None:
    assert plan(slots, threads, cpus, workers) == expected


def test_this_machine_has_a_plan() -> None:
    assert available_cpus() >= 1
