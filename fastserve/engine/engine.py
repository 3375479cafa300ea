"""The only door to the models: look one up, ask it, see how it is. Nothing but tensors and plain values crosses it.

Thread: `lease` and `submit` on any thread; loading runs on a thread of its own.
"""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol
from weakref import WeakSet

from msgspec import Struct
from msgspec.structs import replace

from fastserve._ext.ticket import Ticket
from fastserve.clock import Clock, monotonic_ns
from fastserve.config import Config, ModelConfig
from fastserve.engine.batcher import Batcher, too_late
from fastserve.engine.catalog import Catalog
from fastserve.engine.executor import Executor, lower_priority
from fastserve.engine.finite import answer_finite
from fastserve.engine.lease import Lease
from fastserve.engine.load import Loaded, Tools, load_version
from fastserve.engine.plan import available_cpus, plan
from fastserve.engine.registry import Registry
from fastserve.engine.timer import Timer
from fastserve.metrics import Metrics
from fastserve.repository.watch import Watcher
from fastserve.types import Answer, InferRequest, VersionState, VersionStatus

_here = threading.local()
"""`held`: on a thread that gathers, the tickets held back so far."""


class Pending(Protocol):
    """A submitted request that is not answered yet."""

    def cancel(self) -> None:
        """The caller went away: answer, and run what is not running only for others."""


class Line(Struct, frozen=True):
    """One version, or one model without any, as the start-up table shows it."""

    model: str
    status: VersionStatus | None
    loaded: Loaded | None
    problems: tuple[str, ...]


class Engine:
    """All models of one process."""

    def __init__(self, config: Config, metrics: Metrics | None = None, clock: Clock = monotonic_ns) -> None:
        self.metrics = metrics or Metrics()
        self.clock = clock
        self._config = config
        self._cpus = available_cpus()
        self.executor = Executor(max(2, self._cpus))
        self._timer = Timer(clock)
        self.at = self._timer.at
        self._tools = Tools(self.executor, self._timer, clock, self.metrics)
        self._registry = Registry(self._load)
        self._catalog = Catalog(config)
        self._at_start: tuple[str, ...] | None = None
        self._watcher: Watcher | None = None
        self._batchers: WeakSet[Batcher] = WeakSet()
        self._on_started: list[Callable[[], None]] = []
        self.metrics.family(
            "fastserve_model_info", "Versions and their states.", ("model", "version", "state"), self._model_info
        )
        self.metrics.family("fastserve_queue_rows", "Rows that wait.", ("model",), self._queue_rows)

    def start(self, on_started: Callable[[], None] = lambda: None) -> None:
        """Begin to load; returns at once. `on_started` is called on the loading thread when the first look is through."""
        self._on_started.append(on_started)
        self._watcher = Watcher(self._look, self._config.repository.poll_seconds)
        self._watcher.wake()

    def stop(self) -> None:
        """Let every version go and end the threads; what still waits is answered."""
        if self._watcher is not None:
            self._watcher.stop()
        self._registry.unload_all()
        self.executor.stop()
        self._timer.stop()
        for batcher in list(self._batchers):
            batcher.close()

    def lease(self, model: str, version: int | None = None, label: str | None = None) -> Lease:
        """Hold a served version: the newest unless said otherwise. The reference is the lease.

        Raises ModelNotFound, VersionNotFound, LabelNotFound, ModelNotReady.
        """
        return self._registry.lease(model, version, label)

    def submit(self, lease: Lease, request: InferRequest, answer: Answer) -> Pending | None:
        """Run `request`; `answer` is called exactly once, now or later, from any thread. None: it was called.

        Raises InvalidRequest or InvalidTensor where the request does not fit the signature, QueueFull, DeadlineExceeded.
        """
        validator = lease.validator
        rows = validator.rows(request)
        inputs = request.inputs
        size = rows if validator.fixed_rows else validator.size(inputs, rows)
        now = self.clock()
        if request.received_ns:
            lease.meters.decode.observe(now - request.received_ns)
        if request.deadline_ns and request.deadline_ns <= now:
            raise too_late()
        if lease.strict:
            answer = partial(answer_finite, lease.finite_outputs, answer)
        batcher = lease.batcher
        held: dict[Batcher, list[Ticket]] | None = getattr(_here, "held", None)
        if held is None and batcher.run_inline(request, rows, size, answer):
            return None
        ticket = Ticket(
            batcher,
            inputs,
            rows,
            size,
            validator.bucket(inputs),
            answer,
            request.outputs,
            request.deadline_ns,
            request.priority,
            lease,
        )
        if held is None or not batcher.is_short(rows, size):
            return batcher.submit(ticket)
        ticket.queued_ns = now
        held.setdefault(batcher, []).append(ticket)
        return ticket

    def gather(self, work: Callable[[], None]) -> None:
        """Do `work`, which submits on this thread; what is short is held back meanwhile, and run together afterwards."""
        held: dict[Batcher, list[Ticket]] = {}
        _here.held = held
        try:
            work()
        finally:
            _here.held = None
            for batcher, tickets in held.items():
                batcher.run_together(tickets)

    def models(self) -> list[str]:
        """Names of all models, served or not."""
        return self._registry.models()

    def status(self, model: str) -> list[VersionStatus]:
        """Every known version of a model, newest first. Raises ModelNotFound."""
        return self._registry.status(model)

    def refresh(self) -> None:
        """Look at the repository now; returns when what was found is loaded."""
        assert self._watcher is not None, "the engine is not started"
        self._watcher.look_now()

    def look_soon(self) -> None:
        """Look at the repository; does not wait for it."""
        assert self._watcher is not None, "the engine is not started"
        self._watcher.wake()

    @property
    def started(self) -> bool:
        """Whether the first look is through: every model that was there is loaded or has failed."""
        return self._at_start is not None

    def not_ready(self) -> str:
        """Why requests should go elsewhere; empty when they should come.

        Ready: every model there at start has served some version. A later failure never turns it off.
        """
        if self._at_start is None:
            return "starting: models are being loaded"
        if not self._at_start:
            return "no models: none was found at start"
        missing = [name for name in self._at_start if not self._registry.has_served(name)]
        return f"no version serves of: {', '.join(missing)}" if missing else ""

    def lines(self) -> list[Line]:
        """What the start-up table shows."""
        loaded = {(one.lease.model, one.lease.version): one for one in self._registry.loaded()}
        lines = []
        for model in self.models():
            problems = self._registry.problems(model)
            statuses = self.status(model)
            lines += [Line(model, status, loaded.get((model, status.version)), problems) for status in statuses]
            if not statuses:
                lines.append(Line(model, None, None, problems))
        return lines

    def problems(self) -> tuple[str, ...]:
        """What is wrong with the repository itself, as of the last look."""
        return self._catalog.problems

    def _look(self) -> None:
        first = self._at_start is None
        if first:
            lower_priority()  # the repository's own thread: loading must not slow what already serves
        disk = self._catalog.look()
        self._registry.reconcile(disk)
        if first:
            configured = [model.name for model in self._config.models]
            try:
                for started in self._on_started:
                    started()
            finally:  # ready only once it is said what is; and whatever saying it runs into
                self._at_start = tuple(dict.fromkeys([*disk, *configured]))

    def _load(self, config: ModelConfig, version: int, path: Path, gone: Callable[[], None]) -> Loaded:
        share = plan(config.slots, config.threads, self._cpus, self._config.server.workers)
        self.executor.grow(share.slots)  # what is configured may be more than there are CPUs
        config = replace(config, non_finite=config.non_finite or self._config.server.non_finite)
        loaded = load_version(config, version, path, share, self._tools, gone)
        self._batchers.add(loaded.lease.batcher)
        return loaded

    def _model_info(self) -> list[tuple[tuple[str, ...], float]]:
        rows: list[tuple[tuple[str, ...], float]] = []
        for model in self.models():
            rows += [((model, str(s.version), s.state.value), 1.0) for s in self.status(model)]
        return rows

    def _queue_rows(self) -> list[tuple[tuple[str, ...], float]]:
        rows = dict.fromkeys(self.models(), 0)
        for one in self._registry.loaded():
            rows[one.lease.model] = rows.get(one.lease.model, 0) + one.lease.batcher.queued_rows
        return [((model,), float(count)) for model, count in rows.items()]


__all__ = ["Engine", "Lease", "Line", "Pending", "VersionState"]
