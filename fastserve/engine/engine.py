"""The only door to the models: look one up, ask it, see how it is. Nothing but tensors and plain values crosses it.

Thread: `lease` and `submit` on any thread; loading runs on a thread of its own.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol
from weakref import WeakSet

from msgspec import Struct
from msgspec.structs import replace

from fastserve._ext.ticket import Ticket
from fastserve.backends.shared import SharedModels
from fastserve.clock import Clock, monotonic_ns
from fastserve.config import AuthConfig, Config, ModelConfig, VersionPolicy
from fastserve.datasets.shelf import Datasets
from fastserve.engine.batcher import Answering, Batcher
from fastserve.engine.catalog import Catalog
from fastserve.engine.control import Control, LocalControl
from fastserve.engine.executor import Executor
from fastserve.engine.finite import answer_finite
from fastserve.engine.gauges import offer_gauges
from fastserve.engine.lease import Lease
from fastserve.engine.load import Loaded, Tools, load_version, shown_of
from fastserve.engine.loader import Loader
from fastserve.engine.plan import available_cpus, plan
from fastserve.engine.recording import Recorder, Recording
from fastserve.engine.registry import Registry
from fastserve.engine.state import IndexEntry, Report, State, Told, View, index_of
from fastserve.engine.timer import Timer
from fastserve.errors import DeadlineExceeded
from fastserve.metrics import Metrics
from fastserve.store.frames import Frame
from fastserve.store.rows import Row
from fastserve.store.writer import Writer
from fastserve.types import Answer, InferRequest, VersionState, VersionStatus

_here = threading.local()
"""`held`: on a thread that gathers, the tickets held back so far."""


DATASETS_AREA = "datasets"
"""Of settings: by dataset, when a call last asked to read it again."""


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
    """All models of one process. `datasets`: tables that they are predicted from.

    `connect`: makes the control, where the director is in another process. `log`: the prediction log, closed by who made
    it; None: there is none. `shared`: where other workers load the same models.
    """

    log_readers: Mapping[int, Callable[[Frame], Iterable[Row]]] = MappingProxyType({})
    """What the prediction log's frames hold, by their kind; whoever knows all protocols sets it."""

    def __init__(
        self,
        config: Config,
        metrics: Metrics | None = None,
        clock: Clock = monotonic_ns,
        connect: Callable[["Engine"], Control] | None = None,
        log: Writer | None = None,
        shared: SharedModels | None = None,
    ) -> None:
        self.log = log
        self.metrics = metrics or Metrics()
        self._recorder = None if log is None else Recorder(log, self.metrics)
        self.clock = clock
        self._config = config
        self._cpus = available_cpus()
        self.executor = Executor(max(2, self._cpus))
        # Freeing a session holds the GIL (160 MB: 25 ms): a thread that stands back would be taken off the CPU meanwhile.
        self._closer = Executor(1, "closer", stands_back=False)
        self._timer = Timer(clock)
        self.at = self._timer.at
        self.answering: Answering = nullcontext
        """What is around the answers of one batch; a door may set it."""
        self._tools = Tools(self.executor, self._closer, self._timer, self._answering, clock, self.metrics, shared)
        self._registry = Registry(self._load, self._tell_changed, self._forget)
        self.loader = Loader(self._bring_about, self._follow)
        self.when_auth: Callable[[AuthConfig | None], None] = lambda _: None
        """Told, on any thread, who may call, each time that may have changed; None: as before."""
        self.datasets = Datasets(config.datasets, self.executor.post, clock)
        self._refreshed: dict[str, Any] = {}
        self._state = State()
        self._at_start: tuple[str, ...] | None = None
        self.draining = False
        """Set when shutdown comes: what still arrives is served, and should go elsewhere."""
        self._when_changed: list[Callable[[], None]] = []
        self._when_stopped: list[Callable[[], None]] = []
        self.control = connect(self) if connect else self._local_control()
        self._batchers: WeakSet[Batcher] = WeakSet()
        self._on_started: list[Callable[[], None]] = []
        offer_gauges(self.metrics, self, self._registry)

    def start(self, on_started: Callable[[], None] = lambda: None) -> None:
        """Begin to load; returns at once. `on_started` is called on the loading thread when the first look is through."""
        self._on_started.append(on_started)
        self.when_changed(self._refresh_datasets)
        self.datasets.start()
        self.loader.start()
        self.control.start()

    def stop(self) -> None:
        """Let every version go and end the threads; what still waits is answered."""
        for call in self._when_stopped:
            call()
        self.control.stop()
        self.loader.stop()
        self.datasets.stop()
        self._registry.unload_all()
        self.executor.stop()
        self._closer.stop()
        self._timer.stop()
        for batcher in list(self._batchers):
            batcher.close()
        if self._recorder is not None:
            self._recorder.close()

    @property
    def config(self) -> Config:
        """What this process was started with."""
        return self._config

    def lease(self, model: str, version: int | None = None, label: str | None = None) -> Lease:
        """Hold a served version: the newest unless said otherwise. The reference is the lease.

        Raises ModelNotFound, VersionNotFound, LabelNotFound, ModelNotReady.
        """
        return self._registry.lease(model, version, label)

    def submit(self, lease: Lease, request: InferRequest, answer: Answer) -> Pending | None:
        """Run `request`; `answer` is called exactly once, now or later, from any thread. None: it was called.

        Raises InvalidRequest or InvalidTensor where the request does not fit the signature, QueueFull, DeadlineExceeded.
        """
        rows = lease.validator.rows(request)
        size = rows if lease.validator.fixed_rows else lease.validator.size(request.inputs, rows)
        now = self.clock()
        if request.received_ns:
            lease.meters.decode.observe(now - request.received_ns)
        if lease.rules is not None:
            lease.rules.apply(request)
        waits_until_ns = _waits_until_ns(request, now) if request.wait_ns else 0
        if 0 < request.deadline_ns <= now or 0 < waits_until_ns <= now:
            raise _late(lease, request, now)
        if lease.strict:
            answer = partial(answer_finite, lease.finite_outputs, answer)
        batcher = lease.batcher
        held: dict[Batcher, list[Ticket]] | None = getattr(_here, "held", None)
        if held is None and batcher.run_inline(request, rows, size, answer):
            return None
        ticket = Ticket(
            batcher,
            request.inputs,
            rows,
            size,
            lease.validator.bucket(request.inputs),
            answer,
            request.outputs,
            request.deadline_ns,
            request.priority,
            lease,
            request.received_ns,
            waits_until_ns,
        )
        if held is None or not batcher.short.fits(rows, size):
            return batcher.submit(ticket)
        ticket.queued_ns = now
        held.setdefault(batcher, []).append(ticket)
        return ticket

    def gather(self, work: Callable[[], None]) -> None:
        """Do `work`, which submits on this thread; what is short is held back meanwhile, and run together afterwards."""
        if getattr(_here, "held", None) is not None:
            work()  # held back with what the door gathers
            return
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

    def name_of(self, model: str) -> str:
        """A model's own name, for that or an alias. Raises ModelNotFound."""
        self._registry.status(model)
        return self._registry.name_of(model)

    def own_name(self, model: str) -> str:
        """The name of the model that is called so: its own, or an alias. What names no model is its own name."""
        return self._registry.name_of(model)

    def status(self, model: str) -> list[VersionStatus]:
        """Every known version of a model, newest first, as all workers serve it. Raises ModelNotFound."""
        own = self._registry.status(model)
        view = self.control.view()
        if view is None or view.workers == 1:  # nobody knows better, and nobody sooner
            return own
        return list(view.report.models.get(self._registry.name_of(model), own))

    def index(self) -> list[IndexEntry]:
        """Every model and version, served or not, as of the last look; `control.index` looks first."""
        return index_of(self._state, self.control.view() or View(self.report()))

    def settings(self, area: str) -> Mapping[str, Any]:
        """What calls have set in that area (`control.change`); what is by default is not in it."""
        return self._state.settings.get(area, {})

    def refresh(self) -> None:
        """Look at the repository now; returns when what was found is loaded."""
        done = threading.Event()
        self.control.refresh(lambda _: done.set())
        done.wait()

    def refresh_dataset(self, name: str, told: Told) -> None:
        """Have every worker read that dataset again, soon; told when all of them are about to."""
        self.control.change(DATASETS_AREA, told, {name: self.clock()})

    def look_soon(self) -> None:
        """Look at the repository; does not wait for it."""
        self.control.refresh(lambda _: None)

    @property
    def started(self) -> bool:
        """Whether the first look is through, in all workers: every model that was there is loaded or has failed."""
        view = self.control.view()
        return self._at_start is not None if view is None else view.report.started

    def not_ready(self) -> str:
        """Why requests should go elsewhere; empty when they should come.

        Ready: every model there at start has served some version, in all workers, or was unloaded by a call; a later failure
        of theirs never turns it off. And the prediction log, if there is one, takes writes, at present.
        """
        if self.draining:
            return "draining: the server is shutting down"
        if self.log is not None and (trouble := self.log.trouble) is not None:
            return str(trouble)
        view = self.control.view()
        return self._own_not_ready() if view is None or self._at_start is None else view.report.not_ready

    def report(self) -> Report:
        """What this process serves now."""
        started, statuses = self._at_start is not None, self._registry.statuses()
        return Report(revision=self.loader.revision, started=started, not_ready=self._own_not_ready(), models=statuses)

    def when_stopped(self, call: Callable[[], None]) -> None:
        """Have `call` called when it stops: it lets go what requests had made."""
        self._when_stopped.append(call)

    def when_changed(self, call: Callable[[], None]) -> None:
        """Have `call` called, on any thread, whenever the report may be another, or what calls have set is."""
        self._when_changed.append(call)

    def lines(self) -> list[Line]:
        """What the start-up table shows."""
        loaded = {(one.lease.model, one.lease.version): one for one in self._registry.loaded()}
        lines = []
        for model in self.models():
            problems = self._registry.problems(model)
            statuses = self._registry.status(model)
            lines += [Line(model, status, loaded.get((model, status.version)), problems) for status in statuses]
            if not statuses:
                lines.append(Line(model, None, None, problems))
        return lines

    def declared(self, model: str) -> Mapping[str, Any]:
        """What a model's folder says of it (config.pbtxt, model-settings.json), as plain values. Raises ModelNotFound."""
        return self._registry.declared(model)

    def config_of(self, model: str) -> ModelConfig | None:
        """A model's configuration as of the last look; None where there is no such model."""
        disk = self._state.models.get(self._registry.name_of(model))
        return None if disk is None else disk.config

    def policy(self, model: str) -> VersionPolicy:
        """Which of a model's versions are served. Raises ModelNotFound."""
        return self._registry.policy(model)

    def found_instead(self, model: str) -> str:
        """What is in the folder of a model without versions. Raises ModelNotFound."""
        disk = self._state.models.get(self._registry.name_of(model))
        return "" if disk is None else "; ".join(map(disk.told, disk.problems))

    def problems(self) -> tuple[str, ...]:
        """What is wrong with the repository itself, as of the last look."""
        return self._state.problems

    def notes(self) -> tuple[str, ...]:
        """What the configuration says and is not applied, as of the last look."""
        return self._state.notes

    def _local_control(self) -> Control:
        return LocalControl(Catalog(self._config), self._config.repository.poll_seconds, self)

    def _own_not_ready(self) -> str:
        if self._at_start is None:
            return "starting: models are being loaded"
        registry = self._registry
        missing = [name for name in self._at_start if not registry.has_served(name) and not registry.is_unloaded(name)]
        if missing:
            return f"no version serves of: {', '.join(missing)}"
        return "" if self._at_start or registry.has_served() or self.log is not None else "no models: none was found"

    def _bring_about(self, state: State) -> None:
        """The loading thread: serve what `state` says."""
        self._state = state
        self._registry.reconcile(state.models)
        self.datasets.follow(state.datasets)
        if self._at_start is None:
            try:
                for started in self._on_started:
                    started()
            finally:  # ready only once it is said what is; and whatever saying it runs into
                self._at_start = tuple(dict.fromkeys([*state.models, *state.configured]))
        else:  # what is neither there nor configured any more is not waited for again
            known = {*state.models, *state.configured}
            self._at_start = tuple(n for n in self._at_start if n in known or self._registry.has_served(n))
        self._tell_changed()

    def _follow(self, state: State) -> None:
        """What takes effect before models are loaded: who may call, and the tables that models will want."""
        self.when_auth(state.auth)
        self.datasets.follow(state.datasets, keep_others=True)

    def _tell_changed(self) -> None:
        for call in self._when_changed:
            call()

    def _load(self, config: ModelConfig, version: int, path: Path, gone: Callable[[], None]) -> Loaded:
        share = plan(config.slots, config.threads, self._cpus, self._config.server.worker_count)
        self.executor.grow(share.slots)  # what is configured may be more than there are CPUs
        config = replace(config, non_finite=config.non_finite or self._config.server.non_finite)
        loaded = load_version(config, version, path, share, self._tools, gone)
        self._batchers.add(loaded.lease.batcher)
        said = config.record_predictions
        fraction = float(self._config.log.record_predictions if said is None else said)
        if self._recorder is not None and fraction:
            loaded.lease.recording = Recording(self._recorder, shown_of(loaded.lease), fraction)
            loaded.lease.blocks = None  # each request is looked at
        return loaded

    def _refresh_datasets(self) -> None:
        """Read again what calls have asked to; `settings` says when they did."""
        for name, asked in self.settings(DATASETS_AREA).items():
            if self._refreshed.get(name) != asked:
                self._refreshed[name] = asked
                self.datasets.refresh(name)

    def _answering(self) -> AbstractContextManager[None]:
        return self.answering()

    def _forget(self, model: str, version: int) -> None:
        """A version is gone for good: what was counted for it alone goes too."""
        self.metrics.remove({"model": model, "version": str(version)})


def _waits_until_ns(request: InferRequest, now_ns: int) -> int:
    """When its wait is over; below 0: when others go first."""
    came_ns = request.received_ns or now_ns
    return came_ns + request.wait_ns if request.wait_ns > 0 else request.wait_ns - came_ns


def _late(lease: Lease, request: InferRequest, now_ns: int) -> DeadlineExceeded:
    """The time was over before the request was here; counted with those that failed."""
    lease.meters.version.failed(now_ns - (request.received_ns or now_ns))
    return DeadlineExceeded()


__all__ = ["Engine", "Lease", "Line", "Pending", "VersionState"]
