"""Requests too large for one batch, cut and joined again; what a run costs, measured at load.

Thread: parts are answered, and the next ones queued, on whichever thread runs them.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from fastserve._ext.costs import UNKNOWN_NS, CostTable
from fastserve._ext.ticket import Ticket
from fastserve.engine.cost_line import CostLine
from fastserve.errors import Cancelled, FastServeError, OutOfMemory, RunFailed
from fastserve.types import Answer, InferResult, Timing

MEASURED_RUNS = 8

HANDLING_NS = 250_000
"""What a batch takes beside its run, about: to be formed, told of, and its thread to be woken."""

NEXT_TO_NOTHING = 1 / 8

Times = list[tuple[int, int]]
"""Rows of a run, and what it took."""

PART = -1
"""When a part of a request was received: that is the whole's to say."""


class Queue(Protocol):
    """What the parts need of the batcher."""

    def enqueue(self, ticket: Ticket, *, admitted: bool = False, serve_here: bool = False) -> None:
        """Queue a ticket; `admitted`: past the queue's limit if need be; `serve_here`: on this thread if a slot is free."""

    def cancel(self, ticket: Ticket) -> None:
        """Take a ticket out of the queue."""

    def settle(self, ticket: Ticket, outcome: InferResult | FastServeError) -> None:
        """Answer a ticket that no run answers, and count it."""


class Parts:
    """A request with more rows than a batch takes: cut, queued a few at a time, joined again.

    The rest of the request waits here and not in the queue, so that one large request does not fill it.
    """

    def __init__(self, queue: Queue, whole: Ticket, max_rows: int, window: int) -> None:
        self._queue = queue
        self._whole = whole
        self._max_rows = max_rows
        self._count = -(-whole.rows // max_rows)
        self._next = 0
        self._queued: dict[int, Ticket] = {}
        self._results: dict[int, InferResult] = {}
        self._window = window
        self._lock = threading.Lock()

    def start(self) -> None:
        """Queue the first parts. Raises QueueFull when the queue takes none."""
        for i in range(min(self._window, self._count)):
            self._enqueue_next(admitted=i > 0)

    def cancel(self) -> None:
        """The caller went away: answer, and stop."""
        self._queue.settle(self._whole, Cancelled("the request was cancelled"))
        self._stop()

    def _stop(self) -> None:
        """Parts in the queue leave it, the others are not queued. The whole is answered already."""
        with self._lock:
            self._next = self._count
            queued = list(self._queued.values())
        for part in queued:
            self._queue.cancel(part)

    def _part(self, index: int) -> Ticket:
        whole = self._whole
        start = index * self._max_rows
        rows = min(self._max_rows, whole.rows - start)
        inputs = {name: tensor[start : start + rows] for name, tensor in whole.inputs.items()}
        answer: Answer = partial(self._part_done, index)
        size = whole.size * rows // whole.rows
        return Ticket(
            self._queue,
            inputs,
            rows,
            size,
            whole.bucket,
            answer,
            deadline_ns=whole.deadline_ns,
            priority=whole.priority,
            received_ns=PART,
            # Once the first part is taken, the request waits no longer: the others follow.
            waits_until_ns=whole.leaves_ns if index == 0 else 0,
        )

    def _enqueue_next(self, *, admitted: bool) -> None:
        """Parts are made as they are queued: those that never are cannot keep anything alive."""
        with self._lock:
            index = self._next
            if index == self._count:
                return
            self._next = index + 1
            part = self._queued[index] = self._part(index)
        try:
            self._queue.enqueue(part, admitted=admitted)
        except FastServeError:
            self._queued.pop(index, None)  # a part that nobody will answer would keep us, as we keep it
            raise

    def _part_done(self, index: int, outcome: InferResult | FastServeError) -> None:
        with self._lock:
            self._queued.pop(index, None)
        if isinstance(outcome, FastServeError):
            self._queue.settle(self._whole, outcome)
            self._stop()
            return
        with self._lock:
            self._results[index] = outcome
            all_there = len(self._results) == self._count
        if all_there:
            self._queue.settle(self._whole, self._join())
        else:
            self._go_on()

    def _join(self) -> InferResult | FastServeError:
        """The answer to the whole; nobody else would give one."""
        try:
            return _joined([self._results[i] for i in range(self._count)], self._whole.outputs)
        except ValueError as error:
            return RunFailed(
                "the model's answers to parts of the request do not fit together, send at most"
                f" {self._max_rows} rows at a time: {error}"
            )
        except MemoryError:
            return OutOfMemory()

    def _go_on(self) -> None:
        try:
            self._enqueue_next(admitted=True)
        except FastServeError as error:  # we run in the middle of a batch, whose other tickets must not notice
            self._queue.settle(self._whole, error)
            self._stop()


def _joined(parts: list[InferResult], wanted: tuple[str, ...] | None) -> InferResult:
    first = parts[0]
    names = first.outputs if wanted is None else wanted
    timing = Timing(
        queue_ns=first.timing.queue_ns,
        run_ns=sum(part.timing.run_ns for part in parts),
        batch_rows=max(part.timing.batch_rows for part in parts),
    )
    outputs = {name: np.concatenate([part.outputs[name] for part in parts]) for name in names}
    return InferResult(first.model, first.version, outputs, timing)


def paying_rows(times: Times, sizes: Sequence[int]) -> int:
    """The rows from which on larger batches save next to nothing: what more waits is better left to the next run.

    With a batch that takes all, answers come in lumps, those behind it wait for nothing, and where clients send again when
    they are answered, slots are idle until they do. `times`: of `sizes`, ascending; those that took too long to be measured
    are judged by the line through the others.
    """
    line = CostLine([(rows, took_ns + HANDLING_NS) for rows, took_ns in times])
    enough = line.row_ns * NEXT_TO_NOTHING
    return next((rows for rows in sizes if line.known and line.base_ns / rows <= enough), sizes[-1])


def measured(
    costs: CostTable, sizes: Sequence[int], run: Callable[[int], None], now: Callable[[], int], stop_ns: int
) -> Times:
    """Fill `costs`: the best of a few runs for each of `sizes`, until one takes longer than `stop_ns`; what was found."""
    found: Times = []
    for rows in sizes:
        best = UNKNOWN_NS
        for _ in range(MEASURED_RUNS):  # the first one binds and allocates; it is seldom the best
            start = now()
            run(rows)
            best = min(best, now() - start)
            if best > stop_ns:
                break
        costs.observe(rows, best)
        found.append((rows, best))
        if best > stop_ns:
            break
    return found
