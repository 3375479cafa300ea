"""A batcher with an objective in simulated time: runs take what a line says, and are written down."""

from contextlib import nullcontext
from typing import Any

from bench.simulate.world import World
from fastserve._ext.costs import CostTable
from fastserve.engine.batcher import Batcher
from fastserve.engine.limits import Limits
from fastserve.engine.meters import ModelMeters, ObjectiveMeters
from fastserve.engine.objective import Objective, Rules
from fastserve.metrics import Metrics


class Slot:
    """Runs take base + row * n, and are written down."""

    def __init__(self, world: World, base_ns: int, row_ns: int, runs: list[Any]) -> None:
        self._world, self._base_ns, self._row_ns, self._runs = world, base_ns, row_ns, runs

    def run(self, requests: list[dict[str, Any]], rows: list[int]) -> list[dict[str, Any]]:
        took_ns = self._base_ns + self._row_ns * sum(rows)
        self._runs.append((self._world.now_ns, took_ns, [request["name"] for request in requests]))
        self._world.take(took_ns)
        return [{} for _ in requests]

    def stop(self) -> None:
        """Nobody does."""

    go_on = stop


def timed(
    world: World, base_ns: int, row_ns: int, slots: int, slo_ns: int, runs: list[Any], metrics: Metrics | None = None
) -> Batcher:
    metrics = metrics or Metrics()
    known = [(rows, base_ns + row_ns * rows) for rows in (1, 2, 4, 8, 16)]
    slot: Any = [Slot(world, base_ns, row_ns, runs) for _ in range(slots + 1)]
    return Batcher(
        model="m",
        version=1,
        limits=Limits(batchable=True, max_batch_rows=16, max_queue_delay_ns=0, max_queue_rows=1000),
        runners=slot[1:],
        short_runner=slot[0],
        costs=CostTable(),
        post=world.post,
        alarm=world,
        answering=nullcontext,
        clock=world,
        run_clock=world,
        meters=ModelMeters(metrics, "m", 1),
        objective=Objective(Rules("m", slo_ns, slots, 16, 16), known, ObjectiveMeters(metrics, "m")),
    )
