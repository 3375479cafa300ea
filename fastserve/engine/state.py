"""What should be served, what is, and how it is asked for: the plain values between a director and its workers.

Pure; any thread. Everything here can be sent to another process (`server/wire.py`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from fastserve.config import AuthConfig, DatasetConfig
from fastserve.engine.registry import UNLOADED_REASON, OnDisk
from fastserve.errors import FastServeError
from fastserve.repository.policy import wanted_versions
from fastserve.types import VersionState, VersionStatus

Settings = Mapping[str, Mapping[str, Any]]
"""What was set by calls, by area ("logging", "trace", "trace/MODEL") and name; plain JSON values."""


class State(Struct, frozen=True):
    """What every worker should serve. `revision` grows with every change; `problems`: of the repository as a whole.

    `notes`: what the configuration says and is not applied. `configured`: models that it names, there or not. `auth`: who may
    call; `datasets`: what models are predicted from. None: as at the start.
    """

    revision: int = 0
    models: Mapping[str, OnDisk] = {}
    problems: tuple[str, ...] = ()
    settings: Settings = {}
    notes: tuple[str, ...] = ()
    configured: tuple[str, ...] = ()
    auth: AuthConfig | None = None
    datasets: tuple[DatasetConfig, ...] | None = None

    def says_like(self, other: "State") -> bool:
        """Whether both ask for the same."""
        return replace(self, revision=0) == replace(other, revision=0)


class Report(Struct, frozen=True):
    """What one worker serves, or all of them together.

    `revision`: of the last state that is in effect in full. `not_ready`: why requests should go elsewhere, or empty.
    """

    revision: int = 0
    started: bool = False
    not_ready: str = "starting: models are being loaded"
    models: Mapping[str, tuple[VersionStatus, ...]] = {}


class View(Struct, frozen=True):
    """All workers at once. `silent`: those that should be heard and do not answer, in words."""

    report: Report = Report()
    workers: int = 1
    silent: tuple[str, ...] = ()


class IndexEntry(Struct, frozen=True):
    """One version that is served or lies on disk; `version` None: a model without any.

    `notes`: what the call asked for and is not applied.
    """

    model: str
    version: int | None
    state: VersionState
    reason: str = ""
    notes: tuple[str, ...] = ()


Outcome = Sequence[IndexEntry] | FastServeError
"""What a call to a `Control` comes to: the model's entries (of all models for `index` and `refresh`), or what was wrong."""

Told = Callable[[Outcome], None]
"""Called exactly once per call, from any thread; it must not wait."""


def index_of(state: State, view: View) -> list[IndexEntry]:
    """Every version that is served, was, or lies on disk, by model, newest first."""
    statuses = view.report.models
    return [entry for name in sorted({*state.models, *statuses}) for entry in entries_of(name, state, view)]


def entries_of(model: str, state: State, view: View) -> list[IndexEntry]:
    """The same of one model."""
    disk = state.models.get(model)
    entries = {s.version: IndexEntry(model, s.version, s.state, s.reason) for s in view.report.models.get(model, ())}
    if disk is not None:
        for number in disk.versions:
            entries.setdefault(number, _unseen(number, disk))
    if not entries:
        problems = "; ".join(map(disk.told, disk.problems)) if disk is not None else ""
        return [IndexEntry(model, None, VersionState.UNLOADED, problems)]
    return [entries[number] for number in sorted(entries, reverse=True)]


def _unseen(number: int, disk: OnDisk) -> IndexEntry:
    """A version on disk that no worker has said anything of."""
    name = disk.config.name
    if disk.unloaded:
        return IndexEntry(name, number, VersionState.UNLOADED, UNLOADED_REASON)
    if number in wanted_versions(disk.policy, disk.versions):
        return IndexEntry(name, number, VersionState.LOADING)
    return IndexEntry(name, number, VersionState.UNLOADED, "on disk, and not chosen by the version policy")


def merged(reports: Iterable[Report]) -> Report:
    """What all workers together serve: a version is READY where every one of them serves it."""
    several = list(reports)
    if len(several) == 1:
        return several[0]
    names = sorted({name for report in several for name in report.models})
    return Report(
        revision=min((report.revision for report in several), default=0),
        started=bool(several) and all(report.started for report in several),
        not_ready=next((report.not_ready for report in several if report.not_ready), ""),
        models={name: _merged_model([report.models.get(name, ()) for report in several]) for name in names},
    )


def _merged_model(several: Sequence[tuple[VersionStatus, ...]]) -> tuple[VersionStatus, ...]:
    numbers = sorted({status.version for statuses in several for status in statuses}, reverse=True)
    return tuple(_merged_version(number, several) for number in numbers)


def _merged_version(number: int, several: Sequence[tuple[VersionStatus, ...]]) -> VersionStatus:
    found = [status for statuses in several for status in statuses if status.version == number]
    states = {status.state for status in found}
    if len(states) == 1 and len(found) == len(several):
        state = found[0].state
    else:
        # Failed somewhere is failed; going somewhere, or gone from there already, is going; else it is coming.
        order = (VersionState.FAILED, VersionState.DRAINING, VersionState.UNLOADED)
        state = next((each for each in order if each in states), VersionState.LOADING)
        state = VersionState.DRAINING if state is VersionState.UNLOADED else state
    first = next((status for status in found if status.reason and status.state is state), None)
    return VersionStatus(number, state) if first is None else VersionStatus(number, state, first.reason, first.fault)
