"""Which versions of which models serve: what is on disk is made what is served, one careful step at a time.

Thread: `reconcile` on the repository's thread, one call at a time; `lease` and `status` on any. Readers see whole
dictionaries that are replaced, never changed.
Invariant: a version is looked up only once it is loaded and warmed; the one it replaces serves until then.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from fastserve.config import ModelConfig, VersionPolicy
from fastserve.engine.lease import Lease
from fastserve.engine.load import Loaded
from fastserve.errors import (
    FastServeError,
    Fault,
    LabelNotFound,
    LoadFailed,
    ModelNotFound,
    ModelNotReady,
    VersionNotFound,
    quoted,
)
from fastserve.repository.policy import wanted_versions
from fastserve.types import VersionState, VersionStatus

_log = logging.getLogger(__name__)

UNLOADED_REASON = "unloaded"
STARTING = "the server is starting and does not know its models yet; try again shortly"

Load = Callable[[ModelConfig, int, Path, Callable[[], None]], Loaded]
"""Loads one version; the last argument is called when its last lease has ended. Raises LoadFailed."""


class OnDisk(Struct, frozen=True):
    """One model as it lies on disk now, under `place`, and what was asked about it.

    `stamps`: equal as long as a version's files are the same. `declared`: what its folder `base` says of it (config.pbtxt,
    model-settings.json), as plain values. `of_versions`: for versions that are configured on their own. `unloaded`: a
    call said that it is not to be served. `attempt`: grows with every call that asks to load it, so that what failed
    before is tried again.
    """

    place: Path
    config: ModelConfig
    policy: VersionPolicy
    versions: Mapping[int, Path]
    stamps: Mapping[int, Any]
    problems: tuple[str, ...] = ()
    unloaded: bool = False
    attempt: int = 0
    declared: Mapping[str, Any] = {}
    of_versions: Mapping[int, ModelConfig] = {}
    base: Path = Path()

    def config_of(self, number: int) -> ModelConfig:
        """The configuration that a version is loaded with."""
        return self.of_versions.get(number, self.config)

    def told(self, text: str) -> str:
        """`text` as clients are told it: paths begin at the model's folder; where that lies is nobody else's business."""
        root = str(self.base.parent)
        return text if root in (".", "/") else text.replace(f"{root}/", "").replace(f"{root}: ", "")

    def identity(self, number: int) -> "Identity":
        """What a version is made of now: when it differs from what is loaded, it is to be loaded anew."""
        return self.stamps.get(number), replace(self.config_of(number), path=None, versions=None, labels={}, aliases=())


Identity = tuple[Any, ModelConfig]
"""A version's files, and what of the configuration has a part in loading."""


class _Version:
    """One version's state; changed by the repository's thread only. `tried`: what the last try to load it was made of."""

    def __init__(self, made_of: Identity, attempt: int) -> None:
        self.made_of = made_of
        self.tried = made_of
        self.attempt = attempt
        self.state = VersionState.LOADING
        self.reason = ""
        self.fault = Fault.UNKNOWN
        self.loaded: Loaded | None = None


class _Model:
    """One model's versions. `serving` is replaced as a whole."""

    def __init__(self, disk: OnDisk) -> None:
        self.disk = disk
        self.versions: dict[int, _Version] = {}
        self.serving: Mapping[int, Lease] = {}
        self.latest: Lease | None = None
        # With their leases: looked up in two steps, a label could name a version that is let go in between.
        self.labels: Mapping[str, Lease] = {}
        self.draining: dict[int, int] = {}
        self.ever: set[int] = set()
        self._counting = threading.Lock()

    def begin_drain(self, number: int) -> None:
        """A version is let go that requests may still hold; the same number may drain more than once at a time."""
        with self._counting:
            self.draining[number] = self.draining.get(number, 0) + 1

    def end_drain(self, number: int) -> None:
        """Its last lease ended. Executor threads."""
        with self._counting:
            left = self.draining.pop(number, 0) - 1
            if left > 0:
                self.draining[number] = left

    def take_gone(self) -> set[int]:
        """Versions that were loaded once and nobody knows any more; each is told once."""
        gone = self.ever - self.versions.keys() - self.draining.keys()
        self.ever -= gone
        return gone


class Registry:
    """All models of one process, by name and alias.

    `changed` is called, on any thread, when a status may be another; `forget`, between two loads, for each version that is
    gone for good, some time after it is.
    """

    def __init__(
        self,
        load: Load,
        changed: Callable[[], None] = lambda: None,
        forget: Callable[[str, int], None] = lambda _model, _version: None,
    ) -> None:
        self._load = load
        self._changed = changed
        self._forget = forget
        self._leaving: list[_Model] = []
        self._models: dict[str, _Model] = {}
        self._by_name: Mapping[str, _Model] = {}
        self._newest: Mapping[str, Lease] = {}
        self._served: set[str] = set()
        self._looked = False
        self._reconciling = threading.Lock()

    def lease(self, model: str, version: int | None, label: str | None) -> Lease:
        """The newest serving version, or that one. Raises ModelNotFound, VersionNotFound, LabelNotFound, ModelNotReady."""
        if version is None and label is None:
            newest = self._newest.get(model)
            if newest is not None:
                return newest
        entry = self._by_name.get(model)
        if entry is None:
            raise self._unknown(model)
        if version is None and label is None:
            raise _none_serves(model, entry)
        if label is not None:
            labelled = entry.labels.get(label)
            if labelled is None:
                raise LabelNotFound(model, label)
            return labelled
        lease = entry.serving.get(version) if version is not None else None
        if lease is None:
            raise VersionNotFound(model, version)
        return lease

    def _unknown(self, model: str) -> FastServeError:
        return ModelNotFound(model) if self._looked else ModelNotReady(STARTING)

    def models(self) -> list[str]:
        """Names, without aliases, in alphabetical order."""
        return sorted(self._models)

    def status(self, model: str) -> list[VersionStatus]:
        """Every known version, newest first. Raises ModelNotFound."""
        entry = self._by_name.get(model)
        if entry is None:
            raise self._unknown(model)
        return _status(entry)

    def statuses(self) -> dict[str, tuple[VersionStatus, ...]]:
        """Every known version of every model."""
        return {name: tuple(_status(entry)) for name, entry in list(self._models.items())}

    def name_of(self, model: str) -> str:
        """The model's own name, for that or an alias."""
        entry = self._by_name.get(model)
        return model if entry is None else entry.disk.config.name

    def loaded(self) -> list[Loaded]:
        """What serves now."""
        entries = [self._models[name] for name in self.models()]
        return [v.loaded for entry in entries for _, v in sorted(entry.versions.items()) if v.loaded is not None]

    def problems(self, model: str) -> tuple[str, ...]:
        """What is wrong with a model's folder."""
        return self._models[model].disk.problems

    def declared(self, model: str) -> Mapping[str, Any]:
        """What the model's folder says of it, as plain values. Raises ModelNotFound."""
        return self._disk(model).declared

    def policy(self, model: str) -> VersionPolicy:
        """Which of the model's versions are served. Raises ModelNotFound."""
        return self._disk(model).policy

    def _disk(self, model: str) -> OnDisk:
        entry = self._by_name.get(model)
        if entry is None:
            raise self._unknown(model)
        return entry.disk

    def has_served(self, model: str | None = None) -> bool:
        """Whether any version of it (None: of any model) has ever been ready, also where the model is gone since."""
        return bool(self._served) if model is None else model in self._served

    def is_unloaded(self, model: str) -> bool:
        """Whether a call said that it is not to be served."""
        return model in self._models and self._models[model].disk.unloaded

    def reconcile(self, disk: Mapping[str, OnDisk]) -> None:
        """Make what is served what is on disk: new versions first, then old ones go. Never raises for a model's fault."""
        with self._reconciling:
            for name in [name for name in self._models if name not in disk]:
                _log.info("model %s: gone from the repository", name)
                self._leaving.append(self._models.pop(name))
                self._publish(self._leaving[-1], [])
            for name, found in disk.items():
                entry = self._models.setdefault(name, _Model(found))
                entry.disk = found
            self._index()
            self._looked = True
            for name in disk:
                self._reconcile_model(self._models[name])
            self._forget_gone()

    def _forget_gone(self) -> None:
        """What is kept for each version must not grow with every version that ever was."""
        for entry in [*self._models.values(), *self._leaving]:
            name = entry.disk.config.name
            now = self._models.get(name)
            for number in entry.take_gone():
                if now is None or now is entry or number not in now.versions:
                    self._forget(name, number)
        self._leaving = [entry for entry in self._leaving if entry.ever]

    def unload_all(self) -> None:
        """Let every version go."""
        with self._reconciling:
            for entry in self._models.values():
                self._publish(entry, [])

    def _index(self) -> None:
        by_name = dict(self._models)
        for entry in self._models.values():
            for alias in entry.disk.config.aliases:
                by_name.setdefault(alias, entry)
        self._by_name = by_name
        self._newest = {name: entry.latest for name, entry in by_name.items() if entry.latest is not None}

    def _reconcile_model(self, entry: _Model) -> None:
        if entry.disk.unloaded:
            self._unload(entry)
            return
        self._forget_changed(entry)
        while True:
            failed = {n for n, v in entry.versions.items() if v.state is VersionState.FAILED}
            candidates = [number for number in entry.disk.versions if number not in failed]
            wanted = wanted_versions(entry.disk.policy, candidates)
            # Newest first: with the default policy it is the one that requests wait for.
            missing = [n for n in sorted(wanted, reverse=True) if not self._is_current(entry, n)]
            if not missing:
                break
            self._load_version(entry, missing[0])
        # A version that broke is left aside; if nothing that is wanted loads, what served goes on serving.
        ready = [number for number in wanted if entry.versions[number].loaded is not None]
        kept = ready or ([] if not entry.disk.versions else sorted(entry.serving))
        self._publish(entry, kept)

    def _unload(self, entry: _Model) -> None:
        """Serve none of it; its status says why."""
        self._publish(entry, [])
        entry.versions.clear()
        for number in wanted_versions(entry.disk.policy, entry.disk.versions):
            version = _Version(entry.disk.identity(number), entry.disk.attempt)
            version.state, version.reason = VersionState.UNLOADED, UNLOADED_REASON
            entry.versions[number] = version
        self._changed()

    @staticmethod
    def _is_current(entry: _Model, number: int) -> bool:
        version = entry.versions.get(number)
        return version is not None and version.tried == entry.disk.identity(number)

    @staticmethod
    def _forget_changed(entry: _Model) -> None:
        """What failed gets another try, or is forgotten, when its files changed or are gone, or a call asks for it."""
        for number, version in list(entry.versions.items()):
            identity = entry.disk.identity(number)
            again = version.attempt != entry.disk.attempt or version.tried != identity
            if version.loaded is None and (again or version.state is VersionState.UNLOADED):
                del entry.versions[number]
            elif version.loaded is not None and version.reason and again:
                version.tried, version.reason = version.made_of, ""

    def _load_version(self, entry: _Model, number: int) -> None:
        before = entry.versions.get(number)
        disk = entry.disk
        _log.debug("model %s version %d: loading %s", disk.config.name, number, disk.versions[number])
        fresh = _Version(disk.identity(number), disk.attempt)
        config = disk.config_of(number)
        if before is None:
            entry.versions[number] = fresh
            self._changed()
        try:
            fresh.loaded = self._load(config, number, disk.versions[number], lambda: self._gone(entry, number))
        except LoadFailed as error:
            reason = f"{disk.versions[number].parent}: {error}"
            _log.error("model %s version %d: %s", config.name, number, reason)
            self._leave_aside(entry, number, fresh, disk.told(reason), error.fault)
            return
        except Exception:  # the loader's edge: one model must not keep the others from being looked at
            _log.exception("model %s version %d: loading failed", config.name, number)
            self._leave_aside(entry, number, fresh, "loading failed; the server's log says more", Fault.INTERNAL)
            return
        fresh.state = VersionState.READY
        if before is not None and before.loaded is not None:
            entry.begin_drain(number)
        entry.versions[number] = fresh
        self._served.add(config.name)
        entry.ever.add(number)
        # Published at once, beside the versions that it replaces: those go when all of the model's are loaded.
        self._publish(entry, sorted({*entry.serving, number}))
        _log.info("model %s version %d: ready", config.name, number)

    def _leave_aside(self, entry: _Model, number: int, fresh: _Version, reason: str, fault: Fault) -> None:
        """What does not load is remembered with its reason; what was loaded from the same version before serves on."""
        before = entry.versions.get(number)
        if before is not None and before.loaded is not None:
            before.tried, before.attempt = fresh.tried, fresh.attempt
            before.reason = f"what changed does not load: {reason}"
        else:
            fresh.state, fresh.reason, fresh.fault = VersionState.FAILED, reason, fault
            entry.versions[number] = fresh
        self._changed()

    def _publish(self, entry: _Model, numbers: list[int]) -> None:
        """Serve exactly `numbers`, in one step; the others are let go and drain."""
        serving: dict[int, Lease] = {}
        for number in numbers:
            version = entry.versions.get(number)
            if version is not None and version.loaded is not None:
                serving[number] = version.loaded.lease
        newest = max(serving, default=None)
        entry.serving = serving
        entry.latest = None if newest is None else serving[newest]
        wanted = entry.disk.config.labels
        # A label keeps its old target until the new one is up.
        targets = {k: v for k, v in wanted.items() if v in serving}
        kept = {k: old.version for k, old in entry.labels.items() if k in wanted and old.version in serving}
        entry.labels = {label: serving[number] for label, number in {**kept, **targets}.items()}
        for number, version in list(entry.versions.items()):
            if version.loaded is not None and number not in serving:
                entry.begin_drain(number)
                del entry.versions[number]
        self._index()
        self._changed()

    def _gone(self, entry: _Model, number: int) -> None:
        """The last lease of a version ended: it is drained."""
        entry.end_drain(number)
        self._changed()


def _none_serves(model: str, entry: _Model) -> FastServeError:
    if entry.disk.unloaded:
        return VersionNotFound(model, None, "it was unloaded, and is served again when a call asks to load it")
    states = {version.state for version in list(entry.versions.values())}
    if VersionState.LOADING in states or (entry.disk.versions and not states):
        return ModelNotReady(f"model {quoted(model)} is loading; try again shortly")
    if VersionState.FAILED in states:
        return VersionNotFound(model, None, "none of its versions loads; its status says why")
    return VersionNotFound(model, None, "its folder holds none")


def _status(entry: _Model) -> list[VersionStatus]:
    """Every known version, newest first."""
    known = {number: VersionStatus(number, v.state, v.reason, v.fault) for number, v in list(entry.versions.items())}
    for number in list(entry.draining):
        if number not in known or known[number].state is VersionState.UNLOADED:
            known[number] = VersionStatus(number, VersionState.DRAINING)
    return [known[number] for number in sorted(known, reverse=True)]
