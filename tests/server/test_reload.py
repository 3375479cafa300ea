"""What is served changes again and again while clients ask: in order, without a failed request, and nothing piles up."""

import contextlib
import os
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.support import models
from tests.support.served import Load, wire, workers_of
from tests.support.server import ServerProcess
from tests.support.shelf import times
from tests.support.waiting import until

SWAPS = int(os.environ.get("FASTSERVE_TEST_SWAPS", "40"))
"""Versions that follow one another under load; 1000 are the promise (some ten minutes)."""

LATEST, STABLE = "/v1/models/m:predict", "/v1/models/m/labels/stable:predict"


class Shelf:
    """Versions of one model, and the label `stable` in a file of configuration; both change in one step each."""

    def __init__(self, folder: Path, form: str) -> None:
        self.folder = folder
        self.file = folder / ("models.config" if form == "models.config" else "fastserve.toml")

    def put(self, *versions: int) -> None:
        for version in versions:
            models.save(times(version), self.folder / "m" / f".{version}")
            (self.folder / "m" / f".{version}").rename(self.folder / "m" / str(version))

    def break_(self, version: int) -> None:
        path = self.folder / "m" / str(version) / "model.onnx"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no model")

    def remove(self, *versions: int) -> None:
        for version in versions:
            gone = self.folder / "m" / f".gone{version}"
            (self.folder / "m" / str(version)).rename(gone)

    def label(self, version: int) -> None:
        if self.file.suffix == ".toml":
            text = f'[[models]]\nname = "m"\npath = "m"\nversions = "all"\nlabels = {{ stable = {version} }}\n'
        else:
            said = f"model_version_policy {{ all {{}} }} version_labels {{ key: 'stable' value: {version} }}"
            text = f'model_config_list {{ config {{ name: "m" base_path: "m" {said} }} }}'
        fresh = self.folder / "fresh"
        fresh.write_text(text)
        fresh.rename(self.file)


def states(server: ServerProcess) -> dict[int, str]:
    with wire(server) as one:
        body = msgspec.json.decode(one.get("/v1/models/m").body)
    return {int(line["version"]): line["state"] for line in body["model_version_status"]}


def in_order(load: Load, expected: Iterable[int]) -> bool:
    """Whether each connection saw versions in that order: perhaps not all, never one twice."""
    by_client: dict[int, list[int]] = {}
    for _, asked, version in load.answered:
        by_client.setdefault(asked // 1_000_000, []).append(version)
    for seen in by_client.values():
        left = iter(expected)
        if not all(version in left for version, _ in groupby(seen)):
            return False
    return True


@pytest.mark.parametrize(("form", "workers"), [("models.config", 2), ("fastserve.toml", 1)])
def test_versions_and_labels_change_under_load_in_order_and_no_request_fails(tmp_path: Path, form: str, workers: int):
    shelf = Shelf(tmp_path, form)
    shelf.put(1, 2)
    shelf.label(1)
    with (
        ServerProcess(str(shelf.file), "--poll-seconds", "0.1", "--workers", str(workers)) as server,
        Load(server, 2, LATEST) as latest,
        Load(server, 2, STABLE) as stable,
    ):
        steps: list[tuple[Callable[[], None], set[int], set[int]]] = [
            (lambda: shelf.put(3), {3}, {1}),
            (lambda: shelf.label(2), {3}, {2}),
            (lambda: (shelf.break_(4), shelf.label(4), until(lambda: 4 in states(server)))[0], {3}, {2}),  # type: ignore[func-returns-value]
            (lambda: models.save(times(4), tmp_path / "m" / "4") and None, {4}, {4}),
            (lambda: shelf.remove(1, 2, 3), {4}, {4}),
            (lambda: (shelf.put(5), shelf.label(5))[0], {5}, {5}),  # type: ignore[func-returns-value]
            (lambda: shelf.remove(4), {5}, {5}),
        ]
        for change, at_latest, at_label in steps:
            change()
            until(lambda seen=(at_latest, at_label): (latest.versions, stable.versions) == seen)  # type: ignore[misc]
        until(lambda: states(server) == {5: "AVAILABLE"})
    assert latest.failed == stable.failed == []
    assert in_order(latest, [2, 3, 4, 5])
    assert in_order(stable, [1, 2, 4, 5])


def heavy(factor: int) -> Any:
    """`x` [N, 2] -> `y`, x times the factor, with two megabytes of weights that count for nothing."""
    model = times(factor)
    model.graph.node[0].output[0] = "product"
    model.graph.node.append(models.node("Gather", "weights zero", "nothing"))
    model.graph.node.append(models.node("Cast", "nothing", "whole", to=7))
    model.graph.node.append(models.node("Add", "product whole", "y"))
    model.graph.initializer.append(models.weight("weights", models.random(1 << 19, seed=factor) * 0.1))
    model.graph.initializer.append(models.weight("zero", ZERO))
    return model


ZERO = np.array(0, dtype=np.int64)


class Uses:
    """What a process holds."""

    def __init__(self, pid: int) -> None:
        status = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        self.resident_kb = int(fields["VmRSS"].split()[0])
        self.threads = int(fields["Threads"])
        self.files = len(os.listdir(f"/proc/{pid}/fd"))


def swap(server: ServerProcess, folder: Path, version: int) -> None:
    """The next version comes, the one before goes; a call returns when it is so."""
    models.save(heavy(version), folder / f".{version}")
    (folder / f".{version}").rename(folder / str(version))
    (folder / str(version - 1) / "model.onnx").unlink()
    (folder / str(version - 1)).rmdir()
    with contextlib.closing(server.connection()) as one:
        one.request("POST", "/v2/repository/models/m/load", b"{}")
        answer = one.getresponse()
        body = answer.read()
        assert answer.status == 200, body


@pytest.mark.timeout(60 + 2 * SWAPS)
def test_nothing_piles_up_over_many_swaps_under_load(tmp_path: Path):
    folder = tmp_path / "models" / "m"
    models.save(heavy(1), folder / "1")
    with ServerProcess(str(folder.parent), "--poll-seconds", "0") as server, Load(server, clients=2) as load:
        (worker,) = workers_of(server)
        for version in range(2, 12):
            swap(server, folder, version)
        before = Uses(worker)
        for version in range(12, 12 + SWAPS):
            swap(server, folder, version)
            assert states(server)[version] == "AVAILABLE"
        until(lambda: states(server) == {11 + SWAPS: "AVAILABLE"})
        # A connection's end, and a version's, may still be under way.
        until(lambda: Uses(worker).files <= before.files + 2)
        after = Uses(worker)
        seen = {version for _, _, version in load.answered}
        print(f"{SWAPS} swaps: resident {before.resident_kb} to {after.resident_kb} kB")
    assert load.failed == []
    assert in_order(load, range(1, 12 + SWAPS))
    assert len(seen) > SWAPS // 4, "the load has to see what happens"
    # A version is 2 MB, and as much again while it is loaded.
    assert after.resident_kb - before.resident_kb < 8 * 2048
    assert after.threads <= before.threads + 1


def test_other_models_answer_while_a_large_one_is_loaded(tmp_path: Path):
    models.save(times(1), tmp_path / "m" / "1")
    weights = [models.weight(f"w{i}", models.random(2048, 2048, seed=i)) for i in range(4)]
    steps = [models.node("MatMul", f"{'x' if i == 0 else f'h{i}'} w{i}", f"h{i + 1}") for i in range(4)]
    large = models.build(steps, [models.tensor("x", ["N", 2048])], [models.tensor("h4", ["N", 2048])], weights)
    with ServerProcess(str(tmp_path), "--poll-seconds", "0") as server, Load(server, clients=2) as load:
        models.save(large, tmp_path / "large" / "1")
        before = len(load.answered)
        with contextlib.closing(server.connection()) as one:
            one.request("POST", "/v2/repository/models/large/load", b"{}")
            answer = one.getresponse()
            body = answer.read()
        assert answer.status == 200, body
        assert len(load.answered) - before > 20
    assert load.failed == []
