"""A hub and its workers' ends in one process: real links, files and threads; the engines are plain objects."""

import os
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from fastserve.config import ModelConfig
from fastserve.engine.loader import Loader
from fastserve.engine.registry import OnDisk
from fastserve.engine.state import Report, State
from fastserve.metrics import Metrics
from fastserve.server.hub import Hub, Line
from fastserve.server.ledger import SharedCells
from fastserve.server.member import Member
from fastserve.types import VersionState, VersionStatus
from tests.support.waiting import until


class Shelves:
    """A catalogue whose models a test writes."""

    def __init__(self, **models: int) -> None:
        self.models = dict(models)
        self.problems: tuple[str, ...] = ()
        self.notes: tuple[str, ...] = ()
        self.auth = None
        self.datasets = None
        self.configured: tuple[str, ...] = ()
        self.looks = 0

    def look(self, finished: Container[str] = ()) -> Mapping[str, OnDisk]:
        self.looks += 1
        return {name: on_disk(name, version) for name, version in self.models.items()}


def on_disk(name: str, version: int) -> OnDisk:
    path = Path(f"/models/{name}/{version}/model.onnx")
    return OnDisk(Path("/models"), ModelConfig(name=name), "latest", {version: path}, {version: (name, version)})


class FakeWorker:
    """What a control sees of an engine. `broken`: models that do not load; `gate`: called before anything is loaded."""

    def __init__(self, line: Line) -> None:
        self._file = line.file
        cells = SharedCells(line.file)
        self.metrics = Metrics(cells)
        self.loader = Loader(self._bring_about)
        self.states: list[State] = []
        self.broken: set[str] = set()
        self.gate: Callable[[], object] = lambda: None
        self.is_admitted = False
        self._serving: dict[str, tuple[VersionStatus, ...]] = {}
        self._started = False
        self._calls: list[Callable[[], None]] = []
        self.member = Member(line, cells, self, self._admit)

    def start(self) -> None:
        self.loader.start()
        self.member.start()

    def report(self) -> Report:
        return Report(self.loader.revision, self._started, "" if self._started else "starting", dict(self._serving))

    def when_changed(self, call: Callable[[], None]) -> None:
        self._calls.append(call)

    def die(self) -> None:
        """As a process that is killed: not a word more."""
        self.member._stopping = True
        self.member._thread.stop()
        self.member._link.connection.close()
        self._close()

    def stop(self) -> None:
        self.gate = lambda: None
        self.member.stop()
        self.loader.stop()
        self._close()

    def _close(self) -> None:
        self._file.close()

    @property
    def view(self) -> Any:
        view = self.member.view()
        return (
            {} if view is None else {m: [(s.version, s.state.value) for s in v] for m, v in view.report.models.items()}
        )

    def _admit(self) -> None:
        self.is_admitted = True

    def _bring_about(self, state: State) -> None:
        self.gate()
        self.states.append(state)
        self._serving = {name: (self._status(name, disk),) for name, disk in state.models.items()}
        self._started = True
        for call in self._calls:
            call()

    def _status(self, name: str, disk: OnDisk) -> VersionStatus:
        (version,) = disk.versions
        if disk.unloaded:
            return VersionStatus(version, VersionState.UNLOADED, "unloaded")
        if name in self.broken:
            return VersionStatus(version, VersionState.FAILED, "it is broken")
        return VersionStatus(version, VersionState.READY)


class FakeFleet:
    """A hub, and workers that are started and killed."""

    def __init__(self, workers: int, shelves: Shelves) -> None:
        self.shelves = shelves
        self.hub = Hub(workers, shelves, 0)
        self.workers = [self._spawned(slot, successor=False) for slot in range(workers)]

    def _spawned(self, slot: int, *, successor: bool) -> FakeWorker:
        given = self.hub.new_line(slot, successor=successor)
        # As after a fork: the worker's end and file are its own.
        worker = FakeWorker(Line(given.connection.dup(), FileIO(os.dup(given.file.fileno()), "r+"), successor))
        self.hub.adopt(slot, given)
        return worker

    def replace(self, slot: int) -> FakeWorker:
        """Kill a worker and put another one in its place, which is not started yet."""
        self.workers[slot].die()
        self.workers[slot] = self._spawned(slot, successor=True)
        return self.workers[slot]


@contextmanager
def fleet(workers: int, **models: int) -> Iterator[FakeFleet]:
    """Everything started, and every model served everywhere."""
    one = FakeFleet(workers, Shelves(**models))
    for worker in one.workers:
        worker.start()
    one.hub.start()
    try:
        until(lambda: all(worker.view == expected(models) for worker in one.workers))
        yield one
    finally:
        for worker in one.workers:
            worker.stop()
        one.hub.stop()


def expected(models: Mapping[str, int], state: str = "READY") -> dict[str, list[tuple[int, str]]]:
    return {name: [(version, state)] for name, version in models.items()}
