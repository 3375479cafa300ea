"""Decides what is served: what lies on disk, and what calls have asked for. One director for all workers.

Thread: owns one, at lower priority than the doors'; every decision is made on it, one after the other. The calls may be
made on any thread, and inside a signal handler: they only put something into a queue.
Invariant: what a call asks for is in effect in every worker before the call is answered.
"""

import logging
import threading
from collections.abc import Callable, Container, Mapping
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from fastserve.config import AuthConfig, DatasetConfig
from fastserve.engine.overrides import CONFIG, Overrides, overridden, read_overrides, with_versions
from fastserve.engine.registry import OnDisk
from fastserve.engine.scheduling import stand_back
from fastserve.engine.state import Outcome, Settings, State, Told, View, entries_of, index_of
from fastserve.engine.uploads import FILES, Uploads, read_upload
from fastserve.errors import (
    Draining,
    FastServeError,
    InternalError,
    LoadRefused,
    ModelNotFound,
    WorkerSilent,
    quoted,
)
from fastserve.types import VersionState

_log = logging.getLogger(__name__)


class Looks(Protocol):
    """The catalogue: what there is now."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong outside of single models."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the configuration says and is not applied."""

    @property
    def configured(self) -> tuple[str, ...]:
        """Models that the configuration names, there or not."""

    @property
    def auth(self) -> AuthConfig | None:
        """Who may call."""

    @property
    def datasets(self) -> tuple[DatasetConfig, ...] | None:
        """What models are predicted from."""

    def look(self, finished: Container[str] = ()) -> Mapping[str, OnDisk]:
        """Every model there is; the files of those in `finished` are taken as they are, however young."""


class Fleet(Protocol):
    """Whoever serves: this process, or several others."""

    def publish(self, state: State) -> None:
        """Bring `state` into effect everywhere; returns at once."""

    def view(self) -> View:
        """What they serve now."""

    def when_applied(self, revision: int, then: Callable[[View], None]) -> None:
        """Call `then`, once, when all have that state in effect, or those that have not are given up."""


class Wish(Struct, frozen=True):
    """What calls have asked for one model. `unloaded_at`: the stamps of its files when it was to be unloaded.

    `uploaded`: what came with the call, instead of what the repository has; `fallback`: what came with an earlier one, until
    it is known that this one loads.
    """

    unloaded_at: Mapping[int, Any] | None = None
    overrides: Overrides = Overrides()
    attempt: int = 0
    uploaded: OnDisk | None = None
    fallback: OnDisk | None = None


class Job(Struct, frozen=True):
    """One thing to do on the director's thread, and who hears what went wrong."""

    run: Callable[[], None]
    told: Told | None = None


class _Everything:
    """Contains every name."""

    def __contains__(self, _: object) -> bool:
        return True


class Director:
    """What calls ask for, over what the disk says."""

    def __init__(self, catalog: Looks, poll_seconds: float, fleet: Fleet) -> None:
        self._catalog = catalog
        self._poll_seconds = poll_seconds or None
        self._fleet = fleet
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._wishes: dict[str, Wish] = {}
        self._attempts = 0
        self._settings: dict[str, dict[str, Any]] = {}
        self._found: Mapping[str, OnDisk] = {}
        self._loading: dict[str, list[Job]] = {}
        self._uploads = Uploads()
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name="director", daemon=True)
        self.state = State()

    def start(self) -> None:
        """Look for the first time, soon."""
        self._jobs.put(Job(self._look))
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after what it does now."""
        self._jobs.put(None)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
        self._stopped = True
        self._refuse_left()
        self._uploads.keep_only(())

    def refresh(self, told: Told) -> None:
        """Look at the disk now and take what is there, finished or not; told of every model once it is in effect."""
        self._post(Job(partial(self._refresh, told), told))

    def index(self, told: Told) -> None:
        """Look at the disk now; told at once of every model there is, served or not."""
        self._post(Job(partial(self._index, told), told))

    def load(self, model: str, told: Told, overrides: Mapping[str, Any] | None = None) -> None:
        """Look at the disk now and serve that model, whatever was asked before; what failed is tried again.

        `overrides`: fields of the model's configuration that are other than configured, until the next such call; or
        Triton's configuration, as JSON under "config", and under "files" the folder of an `Upload` that is to be served.
        """
        self._post(Job(partial(self._load, model, overrides or {}, told), told))

    def unload(self, model: str, told: Told) -> None:
        """Serve none of that model's versions, until a call asks to load it or its files change."""
        self._post(Job(partial(self._unload, model, told), told))

    def change(self, area: str, told: Told, values: Mapping[str, Any]) -> None:
        """Set what is named in `values` in that area; None: as it is by default."""
        self._post(Job(partial(self._change, area, values, told), told))

    def _post(self, job: Job) -> None:
        self._jobs.put(job)
        if self._stopped:
            self._refuse_left()

    def _refuse_left(self) -> None:
        """After the thread's end: nobody waits for ever."""
        for waiting in self._loading.values():
            for job in waiting:
                self._jobs.put(job)
        self._loading.clear()
        while True:
            try:
                left = self._jobs.get_nowait()
            except Empty:
                return
            if left is not None and left.told is not None:
                left.told(Draining("the server is shutting down"))

    def _serve(self) -> None:
        stand_back()
        while True:
            try:
                job = self._jobs.get(timeout=self._poll_seconds)
            except Empty:
                job = Job(self._look)
            if job is None:
                return
            self._do(job)
            del job

    def _do(self, job: Job) -> None:
        try:
            job.run()
        except Exception as error:  # the director's edge: whatever a look runs into, the next may find mended
            if not isinstance(error, FastServeError):
                _log.exception("looking for changed models failed; trying again")
            if job.told is not None:
                job.told(error if isinstance(error, FastServeError) else InternalError())

    def _look(self, finished: Container[str] = ()) -> None:
        """See what is on disk; say so if that changes anything."""
        self._found = self._catalog.look(finished)
        for name, wish in list(self._wishes.items()):
            disk = self._found.get(name)
            if wish.uploaded is not None:
                continue
            if disk is None:
                del self._wishes[name]
            elif wish.unloaded_at is not None and wish.unloaded_at != disk.stamps:
                _log.info("model %s: was unloaded, and its files have changed", name)
                self._wishes[name] = replace(wish, unloaded_at=None)
        self._publish()

    @property
    def _models(self) -> Mapping[str, OnDisk]:
        """What is on disk, but for what came with calls instead."""
        came = {name: wish.uploaded for name, wish in self._wishes.items() if wish.uploaded is not None}
        return {**self._found, **came} if came else self._found

    def _publish(self) -> None:
        models = {name: self._as_wished(disk) for name, disk in self._models.items()}
        settings: Settings = {area: dict(values) for area, values in self._settings.items()}
        state = State(
            self.state.revision + 1,
            models,
            self._catalog.problems,
            settings,
            self._catalog.notes,
            self._catalog.configured,
            self._catalog.auth,
            self._catalog.datasets,
        )
        if self.state.revision == 0 or not state.says_like(self.state):
            self.state = state
            self._fleet.publish(state)

    def _as_wished(self, disk: OnDisk) -> OnDisk:
        wish = self._wishes.get(disk.config.name)
        if wish is None:
            return disk
        fields = wish.overrides.fields
        config = overridden(disk.config, fields)
        policy = disk.policy if "versions" not in fields or config.versions is None else config.versions
        of_versions = {number: overridden(own, fields) for number, own in disk.of_versions.items()}
        return replace(
            disk,
            config=config,
            policy=policy,
            of_versions=of_versions,
            declared={**disk.declared, **wish.overrides.declared},
            unloaded=wish.unloaded_at is not None,
            attempt=wish.attempt,
        )

    def _refresh(self, told: Told) -> None:
        self._look(finished=_Everything())
        self._when_applied(told, lambda view: index_of(self.state, view))

    def _index(self, told: Told) -> None:
        self._look()
        told(index_of(self.state, self._fleet.view()))

    def _load(self, model: str, overrides: Mapping[str, Any], told: Told) -> None:
        """One load of a model after the other: each is told what came of what it asked for."""
        name = self._name_of(model) or model
        if name in self._loading:
            self._loading[name].append(Job(partial(self._load, model, overrides, told), told))
            return
        self._loading[name] = []

        def over(outcome: Outcome) -> None:
            told(outcome)
            self._jobs.put(Job(partial(self._load_next, name)))

        try:
            self._begin_load(model, overrides, over)
        except Exception:
            self._load_next(name)
            raise

    def _load_next(self, name: str) -> None:
        """A load is over: those that came meanwhile have their turn, as if they came now."""
        for job in self._loading.pop(name, []):
            self._do(job)

    def _begin_load(self, model: str, overrides: Mapping[str, Any], told: Told) -> None:
        self._look(finished=(model, self._name_of(model) or model))
        name = self._name_of(model) or model
        before = self._wishes.get(name, Wish())
        uploaded: OnDisk | None = None
        if FILES in overrides:
            uploaded, found = self._take(name, Path(overrides[FILES]) / model, overrides[CONFIG])
        else:
            disk = self._on_disk(name)
            found = with_versions(read_overrides(overrides, disk), disk.versions)  # before anything is changed
        for note in found.notes:
            _log.warning("model %s: %s", name, note)
        self._attempts += 1
        self._wishes[name] = Wish(None, found, self._attempts, uploaded, fallback=before.uploaded)
        self._publish()
        self._when_applied(told, partial(self._loaded, name, before, self._attempts, found.notes))

    def _on_disk(self, name: str) -> OnDisk:
        """What the repository has of that name."""
        if name in self._found:
            return self._found[name]
        if name in self._models:
            raise LoadRefused(f"model {quoted(name)} came with a load call, and is not on disk: send its files again")
        raise ModelNotFound(name)

    def _take(self, name: str, base: Path, config: str) -> tuple[OnDisk, Overrides]:
        """What came with a call, and was put there."""
        self._uploads.take(base.parent)
        try:
            return read_upload(name, base, config, self._found.get(name))
        except Exception:
            self._remove_unused()
            raise

    def _remove_unused(self) -> None:
        """Take away what came with calls and nobody will load any more."""
        came = [disk for wish in self._wishes.values() for disk in (wish.uploaded, wish.fallback) if disk is not None]
        self._uploads.keep_only([disk.place for disk in came])

    def _loaded(self, name: str, before: Wish, attempt: int, notes: tuple[str, ...], view: View) -> Outcome:
        """What came of a load: its reason if a version failed. What the call asked for is then taken back."""
        statuses = view.report.models.get(name, ())
        reasons = [f"version {s.version}: {s.reason}" for s in statuses if s.state is VersionState.FAILED or s.reason]
        if not reasons and not any(status.state is VersionState.READY for status in statuses):
            disk = self.state.models.get(name)
            found = [] if disk is None else [disk.told(problem) for problem in disk.problems]
            reasons = found or ["it has no version to serve"]
        self._jobs.put(Job(partial(self._settle, name, before if reasons else None, attempt)))
        if not reasons:
            return [replace(entry, notes=notes) for entry in entries_of(name, self.state, view)]
        return LoadRefused(f"model {quoted(name)} does not load: {'; '.join(reasons)}")

    def _settle(self, name: str, back_to: Wish | None, attempt: int) -> None:
        """A load is over; it is as it was before where that is to be gone back to."""
        wish = self._wishes.get(name)
        if wish is None or wish.attempt != attempt:
            return
        if back_to is None:
            self._wishes[name] = replace(wish, fallback=None)
        elif (wish.overrides, wish.uploaded) != (back_to.overrides, back_to.uploaded):
            self._wishes[name] = replace(wish, overrides=back_to.overrides, uploaded=back_to.uploaded, fallback=None)
            self._publish()
        self._after_all_have_it()

    def _after_all_have_it(self) -> None:
        """Remove what is unused once no worker loads it."""
        if self._uploads:
            self._fleet.when_applied(self.state.revision, lambda _: self._jobs.put(Job(self._remove_unused)))

    def _unload(self, model: str, told: Told) -> None:
        self._look()
        name = self._name_of(model)
        if name is None:
            raise ModelNotFound(model)
        # What came with a call is gone then; what the repository has under that name is not served in its place.
        disk = self._found.get(name)
        self._wishes[name] = Wish(unloaded_at=None if disk is None else disk.stamps, attempt=self._attempts)
        self._publish()
        self._when_applied(told, lambda view: entries_of(name, self.state, view))
        self._after_all_have_it()

    def _change(self, area: str, values: Mapping[str, Any], told: Told) -> None:
        known = {**self._settings.get(area, {}), **values}
        self._settings[area] = {name: value for name, value in known.items() if value is not None}
        self._publish()
        self._when_applied(told, lambda _: [])

    def _when_applied(self, told: Told, outcome: Callable[[View], Outcome]) -> None:
        """Tell what came of it once every worker has it; of one that does not answer, rather than nothing."""

        def then(view: View) -> None:
            if view.silent:
                told(WorkerSilent(f"{', '.join(view.silent)}: no answer; the change is made everywhere else"))
                return
            try:
                told(outcome(view))
            except Exception:  # the director's edge
                _log.exception("a change of what is served could not be told")
                told(InternalError())

        self._fleet.when_applied(self.state.revision, then)

    def _name_of(self, model: str) -> str | None:
        """The model's own name, if there is one of that name or alias."""
        models = self._models
        if model in models:
            return model
        return next((name for name, disk in models.items() if model in disk.config.aliases), None)
