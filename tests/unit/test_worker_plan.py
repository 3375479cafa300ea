"""How many workers `auto` is, and why."""

from pathlib import Path

import pytest

from fastserve.config import Config, RepositoryConfig, ServerConfig
from fastserve.engine.catalog import Catalog
from fastserve.engine.worker_plan import WorkerPlan, files_bytes, memory_bytes, plan_workers, planned
from tests.support import models

MIB = 1 << 20
GIB = 1 << 30
SMALL, LARGE, HUGE = 10_000, 100 * MIB, 10 * GIB


@pytest.mark.parametrize(
    ("cpus", "memory", "sizes", "shared_from", "expected"),
    [
        (1, GIB, [SMALL], 0, WorkerPlan(1, "1 CPU, and one for 2 where there are small models")),
        (2, GIB, [SMALL], 0, WorkerPlan(1, "2 CPUs, and one for 2 where there are small models")),
        (16, 64 * GIB, [SMALL, LARGE], 0, WorkerPlan(8, "16 CPUs, and one for 2 where there are small models")),
        (16, 64 * GIB, [LARGE], 0, WorkerPlan(2, "16 CPUs, and one for 8 where all models are large")),
        (4, 64 * GIB, [LARGE], 0, WorkerPlan(1, "4 CPUs, and one for 8 where all models are large")),
        (8, 64 * GIB, [], 0, WorkerPlan(4, "8 CPUs, and one for 2 where no models are there yet")),
        (64, 64 * GIB, [HUGE], 0, WorkerPlan(1, "65536 MiB of memory, and 20544 MiB a worker")),
        (64, 64 * GIB, [HUGE], MIB, WorkerPlan(8, "64 CPUs, and one for 8 where all models are large")),
        (64, 16 * GIB, [HUGE], MIB, WorkerPlan(1, "16384 MiB of memory, and 64 MiB a worker")),
    ],
)
def test_the_plan(cpus: int, memory: int, sizes: list[int], shared_from: int, expected: WorkerPlan) -> None:
    assert plan_workers(cpus, memory, sizes, shared_from) == expected


def test_it_is_made_of_the_versions_that_will_serve(tmp_path: Path) -> None:
    for version in ("1", "2"):
        models.save(models.tiny(), tmp_path / "m" / version)
    (tmp_path / "m" / "2" / "weights.data").write_bytes(b"x" * (5 * MIB))
    catalog = Catalog(Config(repository=RepositoryConfig(path=(str(tmp_path),))))
    assert planned(ServerConfig(), catalog.look(), 8).why == "8 CPUs, and one for 8 where all models are large"


def test_sizes_of_files(tmp_path: Path) -> None:
    file = models.save(models.tiny(), tmp_path)
    (tmp_path / "other").write_bytes(b"12345")
    size = file.stat().st_size
    assert files_bytes(file) == size
    assert files_bytes(tmp_path / "gone.onnx") == 0
    own = models.save(models.tiny(), tmp_path / "1")
    (own.parent / "w").write_bytes(b"12345")
    assert files_bytes(own) == own.stat().st_size + 5


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {}, 8 * GIB),
        ("0::/a/b\n", {"a/memory.max": "1000\n", "a/b/memory.max": "max\n"}, 1000),
        ("5:memory:/docker/x\n", {"memory/docker/x/memory.limit_in_bytes": "2000\n"}, 2000),
        ("5:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 8 * GIB),
    ],
)
def test_memory_is_what_the_kernel_grants(tmp_path: Path, own: str, files: dict[str, str], expected: int) -> None:
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text)
    (tmp_path / "own").write_text(own)
    (tmp_path / "meminfo").write_text("MemTotal:        8388608 kB\nMemFree: 1 kB\n")
    assert memory_bytes(tmp_path / "cgroup", tmp_path / "own", tmp_path / "meminfo") == expected
    assert memory_bytes(tmp_path / "none", tmp_path / "none", tmp_path / "none") == 1 << 62
