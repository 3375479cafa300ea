"""A soak in short: nothing fails, and what is counted at its end is what was counted before (`make soak` is the long one)."""

import os
from pathlib import Path

import pytest

from tests.soak.run import LONG_S, soak
from tests.soak.watch import Sample, Verdict, from_to, p99_ms, slope_per_hour

SECONDS = float(os.environ.get("FASTSERVE_TEST_SOAK_SECONDS", "6"))


@pytest.mark.timeout(120 + 2 * SECONDS)
def test_versions_come_clients_leave_records_are_written_and_nothing_piles_up(tmp_path: Path):
    verdict, samples = soak(tmp_path, seconds=SECONDS, clients=4, swap_every_s=0.2)
    assert verdict.problems(is_long=SECONDS >= LONG_S) == []
    assert verdict.requests > 50
    assert verdict.reloads > 1
    assert verdict.departures > 10
    assert len(samples) > 10


def sample(at_s: float, memory_mb: float, descriptors: int = 50, threads: int = 20) -> Sample:
    return Sample(at_s, memory_mb, descriptors, threads, 2)


def test_what_grows_is_seen():
    growing = [sample(s, 100 + s / 360, descriptors=50 + s // 10, threads=20 + s // 60) for s in range(600)]
    assert slope_per_hour(growing) == pytest.approx(10)
    assert from_to(growing, "descriptors") == (85, 105)
    busy_at_times = [sample(s, 100, threads=34 if s % 200 in (0, 1, 2) else 25) for s in range(600)]
    assert from_to(busy_at_times, "threads") == (25, 25)
    assert slope_per_hour([sample(s, 100 + min(s, 50.0)) for s in range(600)]) == pytest.approx(0)
    slower = [(float(i), 0.001 if i < 900 else 0.005) for i in range(1000)]
    assert p99_ms(slower) == pytest.approx((1.0, 5.0))
    verdict = Verdict(
        seconds=1800,
        requests=1,
        reloads=1,
        departures=1,
        records=0,
        mb_per_hour=2.0,
        memory_mb=(1.0, 2.0),
        descriptors=(50, 90),
        threads=(20, 30),
        p99_ms=(1.0, 3.0),
        wrong=("a request failed",),
    )
    assert len(verdict.problems(is_long=True)) == 5
    assert len(verdict.problems(is_long=False)) == 3
