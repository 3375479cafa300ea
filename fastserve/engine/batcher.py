"""Tickets in, batches run, rows back: one batcher per served version.

Thread: `submit` on any thread. A run that is short stays on it; other runs are taken by executor threads, one per free slot.
Invariant: while a slot is free and no queue delay is configured, nothing waits. Every ticket is resolved exactly once.
Memory: holds the inputs of what is queued, bounded by `max_queue_rows`.
"""

import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from fastserve._ext.costs import CostTable
from fastserve._ext.ticket import Ticket
from fastserve.backends.base import Runner
from fastserve.clock import Clock
from fastserve.engine.batch import Parts
from fastserve.engine.block import group_of, outputs_of
from fastserve.engine.executor import on_executor_thread
from fastserve.engine.gate import Gate
from fastserve.engine.limits import Limits
from fastserve.engine.meters import ModelMeters
from fastserve.engine.objective import Objective
from fastserve.engine.short import TOGETHER_NS, ShortRuns
from fastserve.engine.suspects import Suspects
from fastserve.engine.timer import Alarm, weakly
from fastserve.errors import Cancelled, DeadlineExceeded, Draining, FastServeError, OutOfMemory, QueueFull, RunFailed
from fastserve.types import Answer, InferRequest, InferResult, Tensor, Timing

Answering = Callable[[], AbstractContextManager[None]]
"""What is around the answers of one batch: a door may send them when the last of them is written."""

_log = logging.getLogger(__name__)


class Batcher:
    """The queue and the slots of one version."""

    def __init__(
        self,
        *,
        model: str,
        version: int,
        limits: Limits,
        runners: list[Runner],
        short_runner: Runner,
        costs: CostTable,
        post: Callable[[Callable[[], None]], None],
        alarm: Alarm,
        answering: Answering,
        clock: Clock,
        run_clock: Clock,
        meters: ModelMeters,
        objective: Objective | None = None,
    ) -> None:
        self._model, self._version = model, version
        self._limits = limits
        self._queue = limits.queue(objective.pace if objective else None)
        self._objective = objective
        self.short = ShortRuns(short_runner, costs, limits.inline_rows, alarm, clock)
        self.suspects = Suspects(costs, clock)
        self._free, self._slots = list(runners), len(runners)
        self._running: dict[Runner, list[Ticket]] = {}
        self._stopped: set[Runner] = set()
        self._costs = costs
        self._post = post
        self._alarm = alarm
        self._answering = answering
        self._armed_ns = 0
        self._clock = clock
        # Executor threads stand back behind the doors' threads: their time on the wall says little of what a run costs.
        self._run_clock = run_clock
        self.meters = meters
        self._version_meter = meters.version
        self._lock = threading.Lock()
        gate = partial(Gate, queue=self._queue, lock=self._lock, clock=clock, meter=meters.version, short=self.short)
        self.gate = None if objective is None else gate(objective)
        self._closed = False

    @property
    def queued_rows(self) -> int:
        """Rows that wait."""
        return self._queue.queued_rows

    def run_inline(self, request: InferRequest, rows: int, size: int, answer: Answer) -> bool:
        """Run `request` here and now and answer it, if its run is short and a slot is free; whether that was done."""
        runner = self.short.take() if self.short.fits(rows, size) else None
        if runner is None:
            return False
        started, cost_started, cost = self._clock(), self._run_clock(), 0
        outcome: InferResult | FastServeError
        ran = 0
        try:
            outputs = runner.run_one(request.inputs, rows)
            ran, cost = self._clock(), self._run_clock() - cost_started
            if request.outputs is not None:
                outputs = {name: outputs[name] for name in request.outputs}
            outcome = InferResult(self._model, self._version, outputs, Timing(0, ran - started, rows))
        except FastServeError as error:
            if self.short.was_stopped(size):
                return False
            self.suspects.failed_alone(request.inputs.values(), of_many=False)
            outcome = error
        except Exception:  # the batch runner's edge: whatever a backend does, the request is answered
            outcome = self._backend_failed()
        finally:
            self.short.give_back(runner)
        answer(outcome)
        if ran:
            self._costs.observe(size, cost)
            self._version_meter.lone(request.received_ns, started, ran, self._clock(), rows)
            if self.gate is not None:
                self.gate.ran_at_once([request.received_ns or started])
        else:
            self._version_meter.failed(self._clock() - (request.received_ns or started))
        return True

    def run_together(self, tickets: list[Ticket]) -> None:
        """Run short requests that came together here and now, as many at a time as a short run takes; or queue them."""
        for batch in self._short_batches(tickets):
            runner = self.short.take()
            if runner is None:
                self.enqueue_all(batch)
                continue
            try:
                self._run_parts(batch, runner)
            finally:
                self.short.give_back(runner)

    def submit(self, ticket: Ticket) -> Ticket | Parts:
        """Queue `ticket`; it is answered later, or on this thread if that is an executor's. Returns what can be cancelled.

        Raises QueueFull, Overloaded.
        """
        try:
            self._admit(ticket)
            if self._limits.batchable and ticket.rows > self._limits.max_batch_rows:
                ticket.queued_ns = self._clock()
                parts = Parts(self, ticket, self._limits.max_batch_rows, 2 * self._slots)
                parts.start()
                return parts
            self.enqueue(ticket, serve_here=on_executor_thread())
        except FastServeError:
            self._count_failure(ticket)
            raise
        return ticket

    def _admit(self, ticket: Ticket) -> None:
        """Raises Overloaded where the objective could not be kept."""
        if self.gate is not None:
            self.gate.admit(ticket)

    def settle(self, ticket: Ticket, outcome: InferResult | FastServeError) -> None:
        """Answer a ticket that no run answers: one that is refused, late or given up, or whose parts were answered."""
        if not ticket.resolve(outcome):
            return
        if isinstance(outcome, FastServeError):
            self._count_failure(ticket)
        else:
            self._version_meter.whole(ticket.received_ns, ticket.queued_ns, self._clock())

    def _count_failure(self, ticket: Ticket) -> None:
        received_ns = ticket.received_ns or ticket.queued_ns
        if received_ns > 0:  # else it is a part, and the whole fails with it
            self._version_meter.failed(self._clock() - received_ns)

    def enqueue(self, ticket: Ticket, *, admitted: bool = False, serve_here: bool = False) -> None:
        """Queue `ticket` and wake a free slot, or be it. Raises QueueFull unless `admitted`."""
        now = ticket.queued_ns = self._clock()
        rows = max(1, ticket.rows)
        # One of its own, that holds nothing: the queue keeps its last bucket's key.
        bucket = object() if self.suspects.wary and self.suspects.holds(ticket.inputs.values()) else ticket.bucket
        with self._lock:
            if self._closed:
                raise Draining("this version of the model is being unloaded; send the request again")
            if not self._queue.push(ticket, bucket, rows, now, ticket.leaves_ns, ticket.priority, admitted):
                raise QueueFull(f"the queue of model {self._model} is full ({self._queue.queued_rows} rows wait)")
            runners = self._ready_runners(now)
        self._start(runners, serve_here=serve_here)

    def cancel(self, ticket: Ticket) -> None:
        """The caller went away: leave the queue; a run under way goes on for its other tickets, if there are any."""
        with self._lock:
            waited = self._queue.remove(ticket)
        self.settle(ticket, Cancelled("the request was cancelled"))
        if not waited:
            self._stop_forlorn()

    def close(self) -> None:
        """Answer what still waits and let the runners go. Called when the last lease has ended."""
        with self._lock:
            self._closed = True
            left = self._queue.clear()
            self._free.clear()
            self.short.close()
        for ticket in left:
            self.settle(ticket, Draining("the model was unloaded"))

    def _short_batches(self, tickets: list[Ticket]) -> list[list[Ticket]]:
        """`tickets` in their order, cut where the bucket changes, a batch is full, or enough is brought together.

        Each alone would be run on this thread too, so a batch is judged by what its parts would take, not by an estimate of
        its own: that would not be put right again once a disturbed run had made it too high.
        """
        batches: list[list[Ticket]] = []
        rows = spared_ns = 0
        tickets, apart = self.suspects.sifted(tickets)
        for ticket in tickets:
            rows += ticket.rows
            spared_ns += self._costs.estimate_ns(ticket.size)
            fits = rows <= self._limits.max_batch_rows and spared_ns <= TOGETHER_NS
            if batches and self._limits.batchable and fits and ticket.bucket == batches[-1][0].bucket:
                batches[-1].append(ticket)
            else:
                batches.append([ticket])
                rows, spared_ns = ticket.rows, self._costs.estimate_ns(ticket.size)
        return batches + [[ticket] for ticket in apart]

    def enqueue_all(self, tickets: list[Ticket]) -> None:
        """Queue them, each for itself: one that finds no room is told so."""
        for ticket in tickets:
            try:
                self._admit(ticket)
                self.enqueue(ticket)
            except FastServeError as error:
                self.settle(ticket, error)

    def _ready_runners(self, now_ns: int) -> list[Runner]:
        """Under the lock: a slot for what is ready now, and the alarm set for what is not."""
        ready = self._queue.ready(now_ns)  # asked even without a free slot: what is due by now must not ring again
        if ready and self._free:
            runner = self._free.pop()
            if self._objective is not None:
                self._objective.called(runner, now_ns)
            return [runner]
        self._arm(now_ns)
        return []

    def _start(self, runners: list[Runner], *, serve_here: bool) -> None:
        for runner in runners:
            if serve_here:
                self._serve(runner)
            else:
                self._post(partial(self._serve, runner))

    def _serve(self, runner: Runner) -> None:
        """Run what is ready on this slot, a batch at a time: between two, other models have their turn. Executor threads."""
        while self._serve_batch(runner):
            if len(self._queue):
                self._post(partial(self._serve, runner))
                return

    def _serve_batch(self, runner: Runner) -> bool:
        """Run a batch, or, where none is ready, give the slot back; whether one was run."""
        now = self._clock()
        with self._lock:
            expired = self._queue.expire(now)
            # With other slots idle a batch takes its part only, all of it would leave them so; unless it waited to be full.
            idle = 1 if self._limits.max_queue_delay_ns else max(1, self._slots - len(self._running))
            tickets: list[Ticket] = self._queue.pop(now, idle)
            if tickets:
                self._running[runner] = tickets
            elif not self._closed:
                self._free.append(runner)
            if self._objective is not None:
                self._objective.begins(runner, tickets, now)
            self._arm(now)
        self._settle_late(expired)
        if not tickets:
            return False
        self._run_parts(tickets, runner)
        with self._lock:
            self._running.pop(runner, None)
            if self._objective is not None:
                self._objective.ended(runner, self._clock())
            if runner in self._stopped:
                self._stopped.discard(runner)
                runner.go_on()
        return True

    def _stop_forlorn(self) -> None:
        """End runs that nobody waits for any more: one without an end would keep its thread."""
        with self._lock:
            for runner, tickets in self._running.items():
                if runner not in self._stopped and all(ticket.claimed for ticket in tickets):
                    self._stopped.add(runner)
                    runner.stop()

    def _run_parts(self, tickets: list[Ticket], runner: Runner) -> None:
        """One run, or several where requests came lately that make one fail."""
        for part in self.suspects.parts(tickets):
            self._run(part, runner)

    def _run(self, tickets: list[Ticket], runner: Runner, *, again: bool = False) -> None:
        """One run; if it fails, its halves, so that a bad request fails alone."""
        cost_started = self._run_clock()
        started = self._clock()
        rows = [ticket.rows for ticket in tickets]
        try:
            group = group_of(tickets)
            shared = None if group is None else outputs_of(tickets, runner, rows)
            answers = runner.run([ticket.inputs for ticket in tickets], rows) if shared is None else []
            if shared is None and len(answers) != len(tickets):  # before anybody gets an answer that may be another's
                raise RunFailed("the model failed on this input")
            ran = self._clock()
            self._costs.observe(sum([ticket.size for ticket in tickets]), self._run_clock() - cost_started)
            self._version_meter.ran(sum(rows), ran - started, ran)
            if self.suspects.wary:
                self.suspects.ran(len(tickets))
            with self._answering():
                if group is None or shared is None:
                    self._answer(tickets, self._results(tickets, answers, started, ran), started, ran)
                else:
                    self._answer(tickets, group.encode(shared, rows), started, ran)
            if self._objective is not None:
                with self._lock:
                    self._objective.ran(tickets, started, self._clock())
        except FastServeError as error:
            self._isolate(tickets, runner, error, again)
        except Exception:  # the batch runner's edge: whatever a backend does, the tickets are answered
            self._isolate(tickets, runner, self._backend_failed(), again)

    def _backend_failed(self) -> FastServeError:
        if isinstance(sys.exc_info()[1], MemoryError):
            return OutOfMemory()
        _log.exception("model %s version %d: the backend failed", self._model, self._version)
        return RunFailed("the model failed on this input")

    def _isolate(self, tickets: list[Ticket], runner: Runner, error: FastServeError, again: bool) -> None:
        if runner is self.short.runner and self.short.was_stopped(sum([ticket.size for ticket in tickets])):
            self.enqueue_all(tickets)
            return
        if len(tickets) == 1:
            if not tickets[0].claimed:  # else its run may have been ended
                self.suspects.failed_alone(tickets[0].inputs.values(), of_many=again)
            self.settle(tickets[0], error)
            return
        self.meters.isolated.add(1)
        waiting = [ticket for ticket in tickets if not ticket.claimed]
        half = len(waiting) // 2
        for part in (waiting[:half], waiting[half:]):
            if part:
                self._run(part, runner, again=True)

    def _results(
        self, tickets: list[Ticket], answers: list[dict[str, Tensor]], started: int, ran: int
    ) -> Iterator[InferResult]:
        batch_rows = sum([ticket.rows for ticket in tickets])
        for ticket, outputs in zip(tickets, answers, strict=True):
            wanted = ticket.outputs
            given = outputs if wanted is None else {name: outputs[name] for name in wanted}
            timing = Timing(started - ticket.queued_ns, ran - started, batch_rows)
            yield InferResult(self._model, self._version, given, timing)

    def _answer(self, tickets: list[Ticket], outcomes: Iterable[Any], started: int, ran: int) -> None:
        """Answering encodes, on this thread, what is not encoded."""
        count = self._version_meter.answered
        batch_rows, before = sum([ticket.rows for ticket in tickets]), ran
        for ticket, outcome in zip(tickets, outcomes, strict=True):
            answered, now = ticket.resolve(outcome), self._clock()
            if answered:  # else somebody did before: it was late, or given up
                count(ticket.received_ns, ticket.queued_ns, started, ran, before, now, ticket.rows, batch_rows)
            before = now

    def _arm(self, now_ns: int) -> None:
        """Under the lock: one alarm at the next time anything is due; earlier ones that are still set do no harm."""
        due = self._queue.next_event_ns()
        for tickets in self._running.values():
            for ticket in tickets:
                # One that is late already was answered; its run goes on for the others.
                if ticket.deadline_ns > now_ns and (due == 0 or ticket.deadline_ns < due):
                    due = ticket.deadline_ns
        if due and (self._armed_ns == 0 or due < self._armed_ns):
            self._armed_ns = due
            self._alarm.at(due, weakly(self._wake))

    def _wake(self, now_ns: int) -> None:
        """The alarm: what ran out of time is answered, what became due gets a slot."""
        with self._lock:
            self._armed_ns = 0
            late = self._queue.expire(now_ns)
            for tickets in self._running.values():
                late += [ticket for ticket in tickets if ticket.deadline_ns and ticket.deadline_ns <= now_ns]
            runners = self._ready_runners(now_ns)
        self._settle_late(late)
        if late:
            self._stop_forlorn()
        self._start(runners, serve_here=False)

    def _settle_late(self, tickets: list[Ticket]) -> None:
        if tickets and self._objective is not None:
            self._objective.left(len(tickets))
        for ticket in tickets:
            self.settle(ticket, DeadlineExceeded())
