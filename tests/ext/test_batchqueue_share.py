"""How much of what waits a batch takes."""

from typing import Any

import pytest

from fastserve._ext.batchqueue import BatchQueue
from tests.reference import batchqueue as reference


@pytest.mark.parametrize("make", [BatchQueue, reference.BatchQueue])
@pytest.mark.parametrize(
    ("share", "batches"),
    [(1, [[0, 1, 2, 3, 4]]), (2, [[0, 1, 2], [3, 4]]), (4, [[0, 1], [2, 3, 4]]), (100, [[0], [1, 2, 3, 4]])],
)
def test_with_other_slots_idle_a_batch_takes_its_part(make: Any, share: int, batches: list[list[int]]):
    waiting = make(8, 0, 100)
    for ticket in range(5):
        waiting.push(ticket, None, 1, 1000)
    assert [waiting.pop(1000, share), waiting.pop(1000, 1)] == [*batches, []][:2]


@pytest.mark.parametrize("make", [BatchQueue, reference.BatchQueue])
def test_what_pays_no_more_is_left_to_the_next_batch_and_one_request_is_never_cut(make: Any):
    waiting = make(8, 0, 100)
    waiting.pays_rows = 2
    for ticket, rows in enumerate([1, 1, 1, 5, 1]):
        waiting.push(ticket, None, rows, 1000)
    assert [waiting.pop(1000) for _ in range(5)] == [[0, 1], [2], [3], [4], []]


def test_a_part_is_never_less_than_the_first_ticket():
    waiting = BatchQueue(8, 0, 100)
    waiting.push("large", None, 6, 1000)
    waiting.push("small", None, 1, 1000)
    assert waiting.pop(1000, 4) == ["large"]
