"""One trace through one scheduler, and what became of every request."""

from contextlib import nullcontext
from typing import Any

import numpy as np
from msgspec import Struct

from bench.simulate.policies import Policy
from bench.simulate.traces import Trace
from bench.simulate.world import World
from fastserve._ext.costs import CostTable
from fastserve._ext.ticket import Ticket
from fastserve.engine.batcher import Batcher
from fastserve.engine.meters import ModelMeters, ObjectiveMeters
from fastserve.engine.objective import Objective, Rules
from fastserve.errors import FastServeError, QueueFull
from fastserve.metrics import Metrics


class Cost(Struct, frozen=True):
    """What a run of n rows takes: base + row * n, in ns."""

    base_ns: float
    row_ns: float

    def of(self, rows: int) -> int:
        """In ns."""
        return round(self.base_ns + self.row_ns * rows)

    def per_s(self, rows: int, slots: int) -> float:
        """Rows a second of so many slots that run batches of so many rows, back to back."""
        return slots * rows / self.of(rows) * 1e9


class Simulated(Struct, frozen=True, kw_only=True):
    """`good`: answered within the objective; goodput is that a second of the trace. Latencies are of all answers."""

    policy: str
    requests: int
    good: int
    late: int
    expired: int
    refused: int
    goodput_per_s: float
    p50_ms: float
    p99_ms: float
    runs: int
    mean_rows: float


class SimulatedRunner:
    """A slot: a run takes its time."""

    def __init__(self, world: World, cost: Cost, batches: list[int]) -> None:
        self._world = world
        self._cost = cost
        self._batches = batches

    def run(self, requests: list[dict[str, Any]], rows: list[int]) -> list[dict[str, Any]]:
        """Nothing but time passes."""
        self._batches.append(sum(rows))
        self._world.take(self._cost.of(sum(rows)))
        return [{} for _ in requests]

    def run_one(self, request: dict[str, Any], rows: int) -> dict[str, Any]:
        """The same for one."""
        return self.run([request], [rows])[0]

    def stop(self) -> None:
        """A run that nobody waits for goes on to its end, as most do."""

    def go_on(self) -> None:
        """See `stop`."""


class Record:
    """What became of one request."""

    __slots__ = ("_world", "answered_ns", "arrived_ns", "outcome")

    def __init__(self, world: World) -> None:
        self._world = world
        self.arrived_ns = world.now_ns
        self.answered_ns = -1
        self.outcome: Any = None

    def __call__(self, outcome: Any) -> None:
        self.answered_ns = self._world.now_ns
        self.outcome = outcome


def simulate(trace: Trace, policy: Policy, cost: Cost, *, slots: int, slo_ns: int) -> Simulated:
    """Every request of the trace, one row each, through the real batcher; until all are answered."""
    batches: list[int] = []
    records: list[Record] = []
    with World(slots) as world:
        batcher = batcher_of(world, policy, cost, slots, batches, slo_ns)

        def arrive(now_ns: int) -> None:
            records.append(record := Record(world))
            ticket = Ticket(batcher, {}, 1, 1, None, record, None, now_ns + slo_ns if policy.deadlines else 0)
            try:
                batcher.submit(ticket)
            except QueueFull as error:
                record(error)

        for when in trace.times_ns.tolist():
            world.at(when + 1, arrive)
        world.run()
    return _told(policy, records, batches, trace.seconds, slo_ns)


def batcher_of(world: World, policy: Policy, cost: Cost, slots: int, batches: list[int], slo_ns: int) -> Batcher:
    """The real one, in that world; what its runs take is known, as after a load. `batches`: gets the rows of each run."""
    metrics = Metrics()
    most = policy.limits.max_batch_rows
    rules = Rules("simulated", slo_ns, slots, most, policy.limits.pays_rows or most)
    known = [(rows, cost.of(rows)) for rows in (1, policy.limits.max_batch_rows)]
    runners = [SimulatedRunner(world, cost, batches) for _ in range(slots + 1)]
    return Batcher(
        model="simulated",
        version=1,
        limits=policy.limits,
        runners=list(runners[1:]),
        short_runner=runners[0],
        costs=CostTable(),
        post=world.post,
        alarm=world,
        answering=nullcontext,
        clock=world,
        run_clock=world,
        meters=ModelMeters(metrics, "simulated", 1),
        objective=Objective(rules, known, ObjectiveMeters(metrics, "simulated")) if policy.objective else None,
    )


def _told(policy: Policy, records: list[Record], batches: list[int], seconds: float, slo_ns: int) -> Simulated:
    refused = sum(isinstance(record.outcome, QueueFull) for record in records)
    answered = [record for record in records if not isinstance(record.outcome, FastServeError)]
    assert all(record.answered_ns >= 0 for record in records)
    took_ns = np.array([record.answered_ns - record.arrived_ns for record in answered] or [0], np.int64)
    good = int((took_ns[: len(answered)] <= slo_ns).sum())
    return Simulated(
        policy=policy.name,
        requests=len(records),
        good=good,
        late=len(answered) - good,
        expired=len(records) - len(answered) - refused,
        refused=refused,
        goodput_per_s=good / seconds,
        p50_ms=float(np.percentile(took_ns, 50)) / 1e6,
        p99_ms=float(np.percentile(took_ns, 99)) / 1e6,
        runs=len(batches),
        mean_rows=sum(batches) / max(1, len(batches)),
    )
