"""What a ticket pays on its way through a batch: the queue's decision, rows in and out of the bound buffers, the meters."""

from collections.abc import Callable

import numpy as np
import pytest

from fastserve._ext import coalesce
from fastserve._ext.batchqueue import BatchQueue
from fastserve._ext.meters import Counter, Histogram
from fastserve.types import Tensor

DEADLINE_NS = 30_000_000_000


class Ticket:
    """Stands for the engine's."""


@pytest.mark.benchmark(group="batch path")
@pytest.mark.parametrize("tickets", [1, 8, 64])
def test_tickets_through_the_queue(benchmark: Callable[..., int], tickets: int) -> None:
    queue = BatchQueue(64, 0, 4096)
    waiting = [Ticket() for _ in range(tickets)]

    def through() -> int:
        for ticket in waiting:
            queue.push(ticket, "bucket", 1, 1000, DEADLINE_NS)
        return len(queue.pop(1000))

    assert benchmark(through) == tickets


@pytest.mark.benchmark(group="batch path")
@pytest.mark.parametrize("buckets", [8, 512])
def test_a_ticket_through_a_queue_of_many_shapes(benchmark: Callable[..., list[Ticket]], buckets: int) -> None:
    queue = BatchQueue(64, 0, 4096)
    for bucket in range(buckets):
        queue.push(Ticket(), (bucket,), 1, 1000, DEADLINE_NS)

    def through() -> list[Ticket]:
        batch: list[Ticket] = queue.pop(1000)
        queue.push(batch[0], (7,), 1, 1000, DEADLINE_NS)
        return batch

    assert len(benchmark(through)) >= 1


@pytest.mark.benchmark(group="batch path")
@pytest.mark.parametrize(("parts", "row"), [(1, 4), (16, 4), (16, 784), (8, 3 * 224 * 224)])
def test_rows_into_the_buffer_and_out_again(benchmark: Callable[..., list[Tensor]], parts: int, row: int) -> None:
    buffer = np.zeros((64, row), np.float32)
    given = [np.random.default_rng(0).random((1, row), np.float32) for _ in range(parts)]
    counts = [1] * parts

    def round_trip() -> list[Tensor]:
        rows = coalesce.gather(buffer, given)
        return coalesce.split(buffer[:rows], counts)

    assert np.array_equal(benchmark(round_trip)[-1], given[-1])


@pytest.mark.benchmark(group="batch path")
def test_a_count_and_a_time(benchmark: Callable[..., None]) -> None:
    page = np.zeros(64, np.int64)
    counter, times = Counter(page, 0), Histogram(page, 1, tuple(2**power for power in range(12, 34)))

    def count() -> None:
        counter.add()
        times.observe(1_000_000)

    benchmark(count)
    assert counter.value == times.count
