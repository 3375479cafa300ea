"""The gate of a version with an objective: who is refused unread, for how long, and how it is counted."""

from typing import Any

import pytest

from bench.simulate.world import World
from fastserve._ext.ticket import Ticket
from fastserve.engine.batcher import Batcher
from fastserve.engine.gate import Gate
from fastserve.errors import Overloaded
from fastserve.metrics import Metrics
from fastserve.protocols.oip.statistics import Now, model_stats
from tests.support.clockwork import FakeExecutor
from tests.support.objectives import timed

MS = 1_000_000


def gated(slo_ns: int) -> tuple[Batcher, Gate, Metrics]:
    """Nothing that is queued is ever run."""
    world: Any = World(1)
    world.post = FakeExecutor().post
    metrics = Metrics()
    batcher = timed(world, 10 * MS, MS, 1, slo_ns, [], metrics)
    assert batcher.gate is not None
    return batcher, batcher.gate, metrics


def waiting(batcher: Batcher) -> list[Ticket]:
    """Two full batches."""
    tickets = [Ticket(batcher, {"name": name}, 16, 16, None, lambda _: None) for name in "ab"]
    for one in tickets:
        batcher.submit(one)
    return tickets


def test_the_gate_counts_those_it_refuses() -> None:
    batcher, gate, metrics = gated(60 * MS)
    assert gate.refusal([1, 1]) is None
    waiting(batcher)
    assert isinstance(gate.refusal([1, 1]), Overloaded)
    assert 'fastserve_objective_requests_total{model="m",outcome="refused"} 2' in metrics.text().decode()
    (one,) = model_stats(metrics.snapshot(), [("m", "1")], Now(1, 10**18))["model_stats"]
    assert one["inference_stats"]["fail"]["count"] == 2


def test_a_refusal_is_told_again_for_a_moment_and_no_longer() -> None:
    batcher, gate, metrics = gated(64 * MS)
    tickets = waiting(batcher)
    told = gate.refusal([1])
    assert isinstance(told, Overloaded)
    for one in tickets:
        batcher.cancel(one)
    assert gate.refusal([MS // 2, MS]) is told
    assert gate.refusal([MS + 1]) is None
    assert 'fastserve_objective_requests_total{model="m",outcome="refused"} 3' in metrics.text().decode()


def test_it_is_told_again_only_while_it_is_foretold() -> None:
    batcher, gate, _ = gated(86 * MS)  # two batches and its own run take 78, of 77.4 that are planned with
    waiting(batcher)
    told = gate.refusal([1])
    assert told is not None
    assert 0 < told.late_ns < 86 * MS // 64
    again = gate.refusal([told.late_ns])
    assert again is told
    later = gate.refusal([told.late_ns + 1])
    assert later is not told


def test_the_batchers_wait_is_told() -> None:
    batcher, gate, _ = gated(100 * MS)
    assert gate.wait_ns == 0
    waiting(batcher)
    assert gate.wait_ns == pytest.approx(52 * MS, rel=0.03)
