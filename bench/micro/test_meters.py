"""What it costs to count a request: into four histograms, and into the sums of its version and of its batch's size."""

from collections.abc import Callable
from typing import Any

import pytest

from fastserve._ext.meters import Histogram
from fastserve.engine.meters import ModelMeters
from fastserve.metrics import Metrics

GROUP = "counting a request"


@pytest.mark.benchmark(group=GROUP)
def test_four_histograms_alone(benchmark: Any) -> None:
    meters = ModelMeters(Metrics(), "m", 1)
    several: list[Histogram] = [meters.queue, meters.run, meters.encode, meters.batch_rows]

    def count() -> None:
        for one in several:
            one.observe(12_345)

    benchmark(count)


@pytest.mark.benchmark(group=GROUP)
@pytest.mark.parametrize("rows", [1, 64])
def test_one_that_ran_alone(benchmark: Any, rows: int) -> None:
    count: Callable[..., None] = ModelMeters(Metrics(), "m", 1).version.lone
    benchmark(count, 1_000, 21_000, 26_000, 29_000, rows)


@pytest.mark.benchmark(group=GROUP)
def test_one_of_a_batch(benchmark: Any) -> None:
    count: Callable[..., None] = ModelMeters(Metrics(), "m", 1).version.answered
    benchmark(count, 1_000, 21_000, 25_000, 90_000, 91_000, 93_000, 1, 16)
