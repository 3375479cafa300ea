"""A batcher under a clock and an executor that only move when told."""

from contextlib import nullcontext
from typing import Any

import numpy as np

from fastserve._ext.costs import CostTable
from fastserve._ext.ticket import Ticket
from fastserve.engine.batcher import Batcher
from fastserve.engine.limits import Limits
from fastserve.engine.meters import ModelMeters
from fastserve.engine.short import INLINE_NS
from fastserve.errors import FastServeError, RunFailed
from fastserve.metrics import Metrics
from fastserve.types import InferRequest, InferResult
from tests.support.clockwork import FakeClock, FakeExecutor

SLOW_NS = INLINE_NS + 1
POISON = -1.0


class FakeRunner:
    """Answers each row with its double and notes the batches; rows of POISON make a run fail."""

    def __init__(self, clock: FakeClock, run_ns: int, batches: list[list[int]]) -> None:
        self._clock = clock
        self._run_ns = run_ns
        self._batches = batches
        self.during: Any = None
        self.stopped = False
        self.stops = 0

    def stop(self) -> None:
        self.stopped = True
        self.stops += 1

    def go_on(self) -> None:
        self.stopped = False

    def run(self, requests: list[dict[str, Any]], rows: list[int]) -> list[dict[str, Any]]:
        self._batches.append(list(rows))
        if self.during is not None:
            self.during()
        self._clock.now_ns += self._run_ns
        if self.stopped:
            raise RunFailed("stopped")
        if any((request["x"] == POISON).any() for request in requests):
            raise RunFailed("poisoned")
        return [{"y": request["x"] * 2, "z": request["x"] + 1} for request in requests]

    def run_one(self, request: dict[str, Any], rows: int) -> dict[str, Any]:
        return self.run([request], [rows])[0]


class Bench:
    """A batcher whose every part is in reach."""

    def __init__(self, *, slots: int = 1, run_ns: int = SLOW_NS, known: bool = True, **limits: Any) -> None:
        self.clock = FakeClock()
        self.executor = FakeExecutor()
        self.batches: list[list[int]] = []
        self.metrics = Metrics()
        costs = CostTable()
        if known:
            for rows in (1, 2, 4, 8):
                costs.observe(rows, run_ns)
        defaults = {"batchable": True, "max_batch_rows": 4, "max_queue_delay_ns": 0, "max_queue_rows": 16}
        self.batchable = (defaults | limits)["batchable"]
        self.runners = [FakeRunner(self.clock, run_ns, self.batches) for _ in range(slots)]
        self.short_runner = FakeRunner(self.clock, run_ns, self.batches)
        self.batcher = Batcher(
            model="m",
            version=3,
            limits=Limits(**(defaults | limits)),
            runners=list(self.runners),
            short_runner=self.short_runner,
            costs=costs,
            post=self.executor.post,
            answering=nullcontext,
            alarm=self.clock,
            clock=self.clock,
            run_clock=self.clock,
            meters=ModelMeters(self.metrics, "m", 1),
        )
        self.answers: dict[str, list[InferResult | FastServeError]] = {}
        self.cancels: dict[str, Any] = {}

    def submit(
        self,
        name: str,
        *values: float,
        deadline_ns: int = 0,
        outputs: Any = None,
        bucket: Any = None,
        priority: int = 0,
        waits_until_ns: int = 0,
    ) -> None:
        answers = self.answers.setdefault(name, [])
        x = np.array(values, dtype=np.float32)
        rows = len(values) if self.batchable else 1
        request = InferRequest({"x": x}, outputs, deadline_ns=deadline_ns)
        if self.batcher.run_inline(request, rows, rows, answers.append):
            return
        given: dict[str, Any] = {"deadline_ns": deadline_ns, "priority": priority, "waits_until_ns": waits_until_ns}
        ticket = Ticket(self.batcher, {"x": x}, rows, rows, bucket, answers.append, outputs, **given)
        self.cancels[name] = self.batcher.submit(ticket).cancel

    def answer(self, name: str) -> list[float] | type[FastServeError] | None:
        """The doubled values, an error's class, or None; fails if it was answered twice."""
        answers = self.answers[name]
        assert len(answers) <= 1, f"{name} was answered {len(answers)} times"
        if not answers:
            return None
        answer = answers[0]
        return type(answer) if isinstance(answer, FastServeError) else answer.outputs["y"].tolist()


def together(bench: Bench, *names: str, bucket: Any = None) -> list[Ticket]:
    tickets = []
    for i, name in enumerate(names):
        answers = bench.answers.setdefault(name, [])
        x = np.array([float(i)], dtype=np.float32)
        tickets.append(Ticket(bench.batcher, {"x": x}, 1, 1, bucket, answers.append))
    return tickets
