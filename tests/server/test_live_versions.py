"""Versions that come, break and go under load, in a served process."""

import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support import models
from tests.support.served import Load, health, wire, workers_of
from tests.support.server import ServerProcess
from tests.support.shelf import times
from tests.support.waiting import until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with one quick model."""
    models.save(times(1), tmp_path / "models" / "m" / "1")
    return tmp_path / "models"


def statuses(server: ServerProcess, model: str = "m") -> dict[int, str]:
    with wire(server) as one:
        body = msgspec.json.decode(one.get(f"/v1/models/{model}").body)
    return {int(line["version"]): line["state"] for line in body["model_version_status"]}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_versions_come_break_and_go_under_load_and_no_request_fails(folder: Path, workers: str):
    with ServerProcess(str(folder), "--poll-seconds", "0.1", "--workers", workers) as server:
        with Load(server, clients=4) as load:
            for version in (2, 3):
                models.save(times(version), folder / "m" / str(version))
                until(lambda version=version: load.versions == {version})  # type: ignore[misc]
            (folder / "m" / "4").mkdir()
            (folder / "m" / "4" / "model.onnx").write_bytes(b"no model")
            until(lambda: 4 in statuses(server))
            assert load.versions == {3}
            assert health(server, "/readyz")[0] == 200
            (folder / "m" / "3" / "model.onnx").unlink()
            until(lambda: load.versions == {2})
            models.save(times(9), folder / "m" / "2")
            until(lambda: changed(server))
        # From the moment on when version 2 multiplies by 9, the load calls its answers wrong; nothing else may be.
        assert all("200" in why for _, why in load.failed), load.failed[:3]
        until(lambda: [v for v, state in statuses(server).items() if state == "AVAILABLE"] == [2])


def test_without_polling_a_hangup_signal_makes_it_look(folder: Path):
    with ServerProcess(str(folder), "--poll-seconds", "0", "--workers", "2") as server:
        # It is started when one worker is; a client may come to the other.
        until(lambda: server.output.count("model m version 1: ready") == 2)
        with Load(server, clients=2) as load:
            before = workers_of(server)
            models.save(times(2), folder / "m" / "2")
            server.process.send_signal(signal.SIGHUP)
            until(lambda: load.versions == {2})
            assert workers_of(server) == before
            assert load.failed == []


def changed(server: ServerProcess) -> bool:
    """Whether version 2 is the changed one."""
    with wire(server) as one:
        return one.post("/v1/models/m:predict", b'{"instances": [[1, 1]]}').body == b'{"predictions": [[9,9]]}'


def heavy(version: int) -> Any:
    """32 MB of weights: `x` [N, 2048] -> `y` [N, 4096]."""
    return models.build(
        [models.node("MatMul", "x w", "y")],
        [models.tensor("x", ["N", 2048])],
        [models.tensor("y", ["N", 4096])],
        [models.weight("w", models.random(2048, 4096, seed=version))],
    )


def test_the_memory_of_replaced_versions_comes_back(folder: Path):
    model = folder / "heavy"
    models.save(heavy(1), model / "1")
    with ServerProcess(str(folder), "--poll-seconds", "0.1") as server:
        (worker,) = workers_of(server)
        first = resident_mb(worker)
        for version in range(2, 6):
            models.save(heavy(version), model / str(version))
            until(lambda version=version: statuses(server, "heavy").get(version) == "AVAILABLE")  # type: ignore[misc]
            (model / str(version - 1) / "model.onnx").unlink()
        until(lambda: list(statuses(server, "heavy")) == [5])
        until(lambda: resident_mb(worker) < first + 2 * 32)


def resident_mb(pid: int) -> float:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024
