"""A served model whose runs take as long as a line says, on a clock that only a test turns, behind doors of this process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from fastserve._ext.costs import CostTable
from fastserve.config import Config, DatasetConfig, ModelConfig, RepositoryConfig
from fastserve.engine.batcher import Batcher
from fastserve.engine.block import blocks_for
from fastserve.engine.engine import Engine
from fastserve.engine.limits import Limits
from fastserve.engine.meters import ModelMeters, ObjectiveMeters
from fastserve.engine.objective import Objective, Rules
from fastserve.protocols.oip.routes import OpenInference
from fastserve.protocols.spice.routes import Spice
from fastserve.protocols.tfserving.routes import TfServing
from tests.support import models
from tests.support.clockwork import FakeClock
from tests.support.fake_doors import Exchange, FakeDoor
from tests.support.waiting import until

MS = 1_000_000
SLO_NS = 400 * MS
BASE_NS, ROW_NS = 36 * MS, 4 * MS
MOST_ROWS = 16
PER_S = MOST_ROWS * 1e9 / (BASE_NS + ROW_NS * MOST_ROWS)
"""What it can serve at best."""

START_NS = 10**10


class Slot:
    """Runs as the model does, and takes its time for it, in which other things happen."""

    def __init__(self, runner: Any, clock: FakeClock) -> None:
        self._runner = runner
        self._clock = clock
        self.runs: list[int] = []
        self.stop, self.go_on = runner.stop, runner.go_on

    def run(self, requests: list[Any], rows: list[int]) -> Any:
        self._take(sum(rows))
        return self._runner.run(requests, rows)

    def run_parts(self, parts: list[Any], rows: int) -> Any:
        self._take(rows)
        return self._runner.run_parts(parts, rows)

    def _take(self, rows: int) -> None:
        self.runs.append(rows)
        self._clock.advance(BASE_NS + ROW_NS * rows)


class Timed:
    """The model `m` with one slot. Doors are made of `protocols`."""

    def __init__(self, engine: Engine, clock: FakeClock) -> None:
        self.engine = engine
        self.clock = clock
        self.protocols = (Spice(engine), TfServing(engine), OpenInference(engine))
        self._lease = engine.lease("m")
        self._runner = self._lease.batcher.short.runner
        self.slot = Slot(self._runner, clock)

    def behind(self, door: FakeDoor) -> None:
        """Serve the door from now on: its executor runs the batches, its metrics count."""
        lease, clock, self.slot = self._lease, self.clock, Slot(self._runner, self.clock)
        measured = [(rows, float(BASE_NS + ROW_NS * rows)) for rows in (1, 2, 4, 8, 16)]
        meters = ModelMeters(door.metrics, "m", 1)
        slot: Any = self.slot
        lease.batcher = batcher = Batcher(
            model="m",
            version=1,
            limits=Limits(batchable=True, max_batch_rows=MOST_ROWS, max_queue_delay_ns=0, max_queue_rows=10_000),
            runners=[slot],
            short_runner=slot,
            costs=CostTable(),
            post=door.executor.post,
            alarm=clock,
            answering=nullcontext,
            clock=clock,
            run_clock=clock,
            meters=meters,
            objective=Objective(
                Rules("m", SLO_NS, 1, MOST_ROWS, MOST_ROWS), measured, ObjectiveMeters(door.metrics, "m")
            ),
        )
        lease.meters, lease.gate = meters, batcher.gate
        short, suspects = batcher.short, batcher.suspects
        lease.blocks = blocks_for(lease.signature, short, suspects, MOST_ROWS, clock, clock, meters, batcher.gate)


@contextmanager
def timed(folder: Path) -> Iterator[Timed]:
    """The model, tiny's numbers, and a dataset of one row."""
    models.save(models.tiny(), folder / "models" / "m" / "1")
    (folder / "d.csv").write_text("a,b,c,d\n1,2,3,4\n")
    clock = FakeClock(START_NS)
    config = Config(
        repository=RepositoryConfig(path=(str(folder / "models"),), poll_seconds=0),
        models=(ModelConfig(name="m", dataset="d", features=("a", "b", "c", "d")),),
        datasets=(DatasetConfig(name="d", source=f"file:{folder}/d.csv", refresh_seconds=100_000),),
    )
    engine = Engine(config, clock=clock)
    engine.start()
    try:
        engine.refresh()
        until(lambda: all(one.state == "Ready" for one in engine.datasets.statuses()))
        yield Timed(engine, clock)
    finally:
        engine.stop()


class Flow:
    """Requests that come one after the other, as time goes by, and what becomes of each."""

    def __init__(self, door: FakeDoor) -> None:
        self._door = door
        self.sent: list[tuple[int, Exchange]] = []
        """When, and which."""
        self.took_ns: dict[int, int] = {}
        """By their place in `sent`."""

    def run(self, begin: Callable[[FakeDoor], Exchange], count: int, gap_ns: int) -> None:
        """So many requests, until the last one is answered."""
        clock, executor = self._door.clock, self._door.executor
        first_ns = clock()

        def come(_: int) -> None:
            self.sent.append((clock(), begin(self._door)))
            self._look()

        for number in range(count):
            clock.at(first_ns + number * gap_ns, come)
        while len(self.took_ns) < count:
            if executor.posted:
                executor.run_one()
                self._door.settle()
            else:
                clock.advance(clock.alarms[0] - clock())
            self._look()

    def _look(self) -> None:
        now = self._door.clock()
        for at, (sent_ns, exchange) in enumerate(self.sent):
            if exchange.answered:
                self.took_ns.setdefault(at, now - sent_ns)
