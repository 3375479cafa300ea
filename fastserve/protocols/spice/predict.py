"""Predictions in course: each leases its model, takes its dataset's table, and asks the engine for one piece after the other.

Thread: begins on the door's; goes on wherever answers come from. Large tables go to an executor thread at once.
Memory: one piece of inputs (`ROWS_AT_A_TIME` rows) an item, `AT_A_TIME` items a request, and the numbers of the answer.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastserve.datasets.mapping import Mapping, plan
from fastserve.datasets.table import Table
from fastserve.engine.engine import Engine, Lease, Pending
from fastserve.errors import (
    MAX_QUOTED_CHARS,
    Cancelled,
    DatasetError,
    FastServeError,
    Forbidden,
    ModelNotFound,
    ModelNotReady,
    QueueFull,
    VersionNotFound,
)
from fastserve.logs import mishap
from fastserve.protocols.spice.answers import Prediction, Status
from fastserve.types import DType, InferRequest, InferResult, Tensor

SMALL_ROWS = 512
"""Tables up to here are read on the door's thread."""

AT_A_TIME = 64
RETRY_NS = 5_000_000
MAX_VALUES = 1 << 25
"""Numbers in one answer."""

CAST_FAILED = "Unable to cast inference result to Float32Array"
PLAN = "spice"

_log = logging.getLogger(__name__)


class Budget:
    """How many numbers an answer may still take, over all its predictions."""

    def __init__(self, values: int = MAX_VALUES) -> None:
        self._left = values
        self._lock = threading.Lock()

    def take(self, values: int) -> None:
        """Raises DatasetError where there is no room for so many."""
        with self._lock:
            self._left -= values
            if self._left < 0:
                raise DatasetError(f"the answer would hold more than {MAX_VALUES} numbers")


class OutputError(DatasetError):
    """What the model gives is no prediction; the text is the whole message."""


class Item:
    """One prediction. `done` is called exactly once, from any thread."""

    def __init__(
        self,
        engine: Engine,
        model: str,
        deadline_ns: int,
        budget: Budget,
        done: Callable[[Prediction], None],
        given_id: str = "",
        refusal: FastServeError | None = None,
    ) -> None:
        """`given_id`: that the prediction is to be kept under. `refusal`: why it is not to be asked at all."""
        self.model = model
        self._refusal = refusal
        self.lease: Lease | None = None
        self._engine = engine
        self._deadline_ns = deadline_ns
        self._budget = budget
        self._done = done
        self._began_ns = engine.clock()
        self._pending: Pending | None = None
        self._cancelled = self._over = False
        self._lock = threading.Lock()
        self._values: list[Tensor] = []
        self._starts: Iterator[int] = iter(())
        self._first = True
        self._given_id = given_id
        self._prediction_id = ""

    def start(self) -> None:
        """Begin; what can be done at once is done on this thread."""
        self._guard(self._begin)

    def cancel(self) -> None:
        """The client went away."""
        self._cancelled = True
        pending = self._pending
        self._fail(Cancelled("the client went away"))
        if pending is not None:
            pending.cancel()

    def _guard(self, step: Callable[[], None]) -> None:
        """Whatever goes wrong in a step is the item's outcome."""
        try:
            step()
        except FastServeError as error:
            self._fail(error)
        except Exception:  # the app's edge: on other threads nobody above would answer
            self._fail(mishap(_log, "a prediction from a dataset failed"))

    def _begin(self) -> None:
        if self._refusal is not None:
            raise self._refusal
        lease = self.lease = self._engine.lease(self.model)
        if lease.config.dataset is None:
            raise DatasetError("the model has no dataset to be predicted from (dataset, in its configuration)")
        self._engine.datasets.use(lease.config.dataset, self._given)

    def _given(self, outcome: Table | FastServeError) -> None:
        def go_on() -> None:
            if isinstance(outcome, FastServeError):
                raise outcome
            self._run(outcome)

        if isinstance(outcome, Table) and outcome.rows > SMALL_ROWS:
            self._engine.executor.post(lambda: self._guard(go_on))
        else:
            self._guard(go_on)

    def _run(self, table: Table) -> None:
        lease = self.lease
        assert lease is not None
        output = _output(lease)
        if table.rows == 0:
            self._finish()
            return
        mapping = _mapping(lease, table)
        if lease.recording is not None:
            self._prediction_id = lease.recording.begin(InferRequest({}), self._given_id)
        self._starts = iter(mapping.starts(table))
        self._ask(lease, mapping, table, output, next(self._starts))

    def _ask(self, lease: Lease, mapping: Mapping, table: Table, output: str, start: int) -> None:
        """Submit the piece that begins there; its answer asks for the next."""
        if self._cancelled:
            return
        request = InferRequest(
            mapping.tensors(table, start),
            outputs=(output,),
            received_ns=self._engine.clock(),
            deadline_ns=self._deadline_ns,
        )

        def again(at: int) -> Callable[[], None]:
            return lambda: self._guard(lambda: self._ask(lease, mapping, table, output, at))

        def answered(outcome: InferResult | FastServeError) -> None:
            if isinstance(outcome, QueueFull) and not self._first:
                # The first piece was let in, so this one waits for room instead of having been for nothing.
                self._engine.at(self._engine.clock() + RETRY_NS, lambda _: self._engine.executor.post(again(start)))
                return
            self._guard(lambda: take(outcome))

        def take(outcome: InferResult | FastServeError) -> None:
            self._take(outcome, output)
            self._note(lease, request, outcome, start, mapping.starts(table), table.rows)
            following = next(self._starts, None)
            if following is None:
                self._finish()
            else:
                self._engine.executor.post(again(following))

        try:
            self._pending = self._engine.submit(lease, request, answered)
        except QueueFull as error:
            answered(error)
        if self._cancelled and self._pending is not None:
            self._pending.cancel()

    def _take(self, outcome: InferResult | FastServeError, output: str) -> None:
        if isinstance(outcome, FastServeError):
            raise outcome
        self._first = False
        values = outcome.outputs[output].reshape(-1)
        self._budget.take(values.size)
        with np.errstate(over="ignore"):
            self._values.append(np.ascontiguousarray(values, dtype=np.float32))

    def _note(
        self,
        lease: Lease,
        request: InferRequest,
        outcome: InferResult | FastServeError,
        start: int,
        starts: range,
        rows: int,
    ) -> None:
        """Keep what a piece came to: a record for each row, or for each run where runs are not made of rows."""
        if self._prediction_id and lease.recording is not None and isinstance(outcome, InferResult):
            first, of = (start, rows) if lease.batching.batchable else (starts.index(start), len(starts))
            lease.recording.note(self._prediction_id, request, outcome, first, of)

    def _finish(self) -> None:
        self._tell("Success", values=tuple(self._values), prediction_id=self._prediction_id)

    def _fail(self, error: FastServeError) -> None:
        """As the contract's table has it."""
        if isinstance(error, ModelNotFound | ModelNotReady | VersionNotFound):
            name = self.model if len(self.model) <= MAX_QUOTED_CHARS else f"{self.model[:MAX_QUOTED_CHARS]}..."
            self._tell("BadRequest", error_message=f"Model '{name}' not found")
        elif isinstance(error, Forbidden):
            self._tell("BadRequest", error_message=str(error))
        elif isinstance(error, OutputError):
            self._tell("InternalError", error_message=str(error), error=error)
        else:
            self._tell("InternalError", error_message=f"Unable to run model: {error}", error=error)

    def _tell(self, status: Status, **what: Any) -> None:
        with self._lock:
            if self._over:
                return
            self._over = True
        # Whoever is told may hold this item: what it holds ends here, not in a circle.
        done, self._done, self._pending = self._done, _told_already, None
        elapsed_ms = (self._engine.clock() - self._began_ns) // 1_000_000
        # Whether a model is there at all is not for everybody.
        version = _version(self._engine, self.model, self.lease) if self._refusal is None else None
        done(Prediction(status, self.model, elapsed_ms, version, **what))


class Several:
    """Many predictions at a time, told together, in their order."""

    def __init__(
        self,
        engine: Engine,
        models: list[str],
        deadline_ns: int,
        done: Callable[[list[Prediction], int], None],
        refusal: Callable[[str], FastServeError | None] = lambda _: None,
    ) -> None:
        """`refusal`: why a model is not to be asked, if it is not."""
        self._engine = engine
        self._done = done
        self._began_ns = engine.clock()
        self._found: list[Prediction | None] = [None] * len(models)
        self._left = len(models)
        self._lock = threading.Lock()
        budget = Budget()

        def told(at: int) -> Callable[[Prediction], None]:
            return lambda prediction: self._told(at, prediction)

        self._items = [
            Item(engine, model, deadline_ns, budget, told(at), "", refusal(model)) for at, model in enumerate(models)
        ]
        self._next = iter(self._items[AT_A_TIME:])

    def start(self) -> None:
        """Begin; short runs of the same model ride together."""
        if not self._items:
            self._done([], 0)
            return
        self._engine.gather(self._start_first)

    def _start_first(self) -> None:
        for item in self._items[:AT_A_TIME]:
            item.start()

    def cancel(self) -> None:
        """The client went away."""
        for item in self._items:
            item.cancel()

    def _told(self, at: int, prediction: Prediction) -> None:
        with self._lock:
            self._found[at] = prediction
            self._left -= 1
            over = not self._left
            following = next(self._next, None)
        if following is not None:
            self._engine.executor.post(following.start)
        if over:
            found = [one for one in self._found if one is not None]
            self._done(found, (self._engine.clock() - self._began_ns) // 1_000_000)


def _told_already(_: Prediction) -> None:
    """Nobody is told twice."""


def _mapping(lease: Lease, table: Table) -> Mapping:
    """Kept with the version as long as tables look alike: names and kinds; and as many rows, where those count."""
    kept: tuple[Any, Mapping] | None = lease.codecs.get(PLAN)
    batchable = lease.batching.batchable
    alike = (table.schema, table.time_column, 0 if batchable else table.rows)
    if kept is None or kept[0] != alike:
        kept = lease.codecs[PLAN] = (alike, plan(lease.signature, table, lease.config, batchable=batchable))
    return kept[1]


def _output(lease: Lease) -> str:
    """The output that is the prediction. Raises OutputError."""
    outputs = {spec.name: spec.dtype for spec in lease.signature.outputs}
    name = lease.config.output or next((name for name, dtype in outputs.items() if _is_castable(dtype)), None)
    if name is None:
        raise OutputError(CAST_FAILED)
    if name not in outputs:
        raise OutputError(f"Unable to find column '{name}' in inference result")
    is_spice = lease.config.params.layout == "spice"
    if not (outputs[name] is DType.FLOAT if is_spice else _is_castable(outputs[name])):
        raise OutputError(CAST_FAILED)
    return name


def _is_castable(dtype: DType) -> bool:
    return dtype.is_float and dtype is not DType.BFLOAT16


def _version(engine: Engine, model: str, lease: Lease | None) -> str | None:
    """What the version is called; None for a model that is not there."""
    if lease is not None:
        return lease.config.version_name or str(lease.version)
    config = engine.config_of(model)
    if config is None:
        return None
    if config.version_name:
        return config.version_name
    return next((str(status.version) for status in engine.status(model)), "1.0")
