"""How what is served is changed, by calls: here, by a director of this process's own; or by one that is elsewhere.

Thread: every call on any thread; it returns at once and tells its outcome later, on a thread of the control's.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from fastserve.engine.director import Director, Looks
from fastserve.engine.loader import Loader
from fastserve.engine.state import Report, State, Told, View
from fastserve.metrics import Metrics, Snapshot


class Worker(Protocol):
    """What a control needs of the engine that it changes."""

    loader: Loader
    metrics: Metrics

    def report(self) -> Report:
        """What this process serves now."""

    def when_changed(self, call: Callable[[], None]) -> None:
        """Have `call` called, on any thread, whenever the report may be another."""


class Control(Protocol):
    """Changes of what is served. Each reaches every worker before it is told; see `Director` for what they mean."""

    def start(self) -> None:
        """Begin; the first state comes soon."""

    def stop(self) -> None:
        """End."""

    def refresh(self, told: Told) -> None:
        """Look at the disk now and take what is there."""

    def index(self, told: Told) -> None:
        """Look at the disk now; told of every model there is."""

    def load(self, model: str, told: Told, overrides: Mapping[str, Any] | None = None) -> None:
        """Serve that model, with these fields of its configuration other than configured."""

    def unload(self, model: str, told: Told) -> None:
        """Serve none of that model's versions, until it is loaded by a call or its files change."""

    def change(self, area: str, told: Told, values: Mapping[str, Any]) -> None:
        """Set what is named in that area; None: as it is by default."""

    def collect(self, told: Callable[[Snapshot], None]) -> None:
        """All counts, of all workers together."""

    def view(self) -> View | None:
        """What all workers serve, as far as it is known; None where this one is alone, and knows better itself."""


class LocalControl(Director):
    """For a process that is alone: a director over its own engine."""

    def __init__(self, catalog: Looks, poll_seconds: float, worker: Worker) -> None:
        super().__init__(catalog, poll_seconds, _Alone(worker))
        self._metrics = worker.metrics

    def collect(self, told: Callable[[Snapshot], None]) -> None:
        """All counts."""
        told(self._metrics.snapshot())

    def view(self) -> None:
        """Nobody knows better."""


class _Alone:
    """A fleet of one engine."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def publish(self, state: State) -> None:
        self._worker.loader.apply(state)

    def view(self) -> View:
        return View(self._worker.report())

    def when_applied(self, revision: int, then: Callable[[View], None]) -> None:
        self._worker.loader.when_applied(revision, lambda: then(self.view()))
