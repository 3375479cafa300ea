"""What a version's requests and runs take, counted in one call: the right sums, in cells of the right batch size."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve._ext.meters import SIZES_PER_TALLY, SUMS_PER_SIZE, VERSION_SUMS, Histogram, Tally, VersionMeter
from tests.reference import meters as reference

HISTOGRAM_CELLS = 3
LAST = 4 * HISTOGRAM_CELLS + VERSION_SUMS
SIZES = LAST + 1
CHUNK = SIZES_PER_TALLY * SUMS_PER_SIZE
CHUNKS = 3
CELLS = SIZES + CHUNKS * CHUNK


def made(kinds: Any, page: Any) -> Any:
    """A meter over `page`: four histograms of one bound, the sums, the last run, and three chunks of sizes."""
    histograms = [kinds.Histogram(page, HISTOGRAM_CELLS * place, (10,)) for place in range(4)]
    sums, last = kinds.Tally(page, 4 * HISTOGRAM_CELLS, VERSION_SUMS), kinds.Tally(page, LAST, 1)
    return kinds.VersionMeter(*histograms, sums, last, lambda chunk: kinds.Tally(page, SIZES + chunk * CHUNK, CHUNK))


class Native:
    Histogram, Tally, VersionMeter = Histogram, Tally, VersionMeter


def native() -> tuple[Any, VersionMeter]:
    page = np.zeros(CELLS, np.int64)
    return page, made(Native, page)


def sums(page: Any) -> list[int]:
    found: list[int] = page[4 * HISTOGRAM_CELLS : LAST].tolist()
    return found


def size(page: Any, rows: int) -> list[int]:
    at = SIZES + rows * SUMS_PER_SIZE
    found: list[int] = page[at : at + SUMS_PER_SIZE].tolist()
    return found


def test_a_lone_request_is_a_run_and_an_answer() -> None:
    page, meter = native()
    meter.lone(100, 130, 180, 200, 3)
    assert sums(page) == [1, 100, 0, 0, 0, 30, 50, 20, 3, 1]
    assert size(page, 3) == [1, 30, 50, 20]
    assert page[LAST] == 180
    assert page[: 4 * HISTOGRAM_CELLS].tolist() == [1, 0, 0, 0, 1, 50, 0, 1, 20, 1, 0, 3]


def test_each_request_of_a_batch_takes_the_run_in_full_and_the_size_takes_it_once() -> None:
    page, meter = native()
    meter.ran(3, 50, 180)
    meter.answered(100, 110, 130, 180, 180, 190, 1, 3)
    meter.answered(0, 120, 130, 180, 190, 200, 2, 3)  # nobody said when it came
    assert sums(page) == [2, 90 + 80, 0, 0, 20 + 10, 10, 100, 20, 3, 1]
    assert size(page, 3) == [1, 10, 50, 20]


def test_parts_are_one_request() -> None:
    page, meter = native()
    for now_ns in (200, 300):
        meter.ran(8, 10, now_ns)
        meter.answered(-1, 150, now_ns - 10, now_ns, now_ns, now_ns + 5, 8, 8)
    meter.whole(100, 140, 310)
    assert sums(page) == [1, 210, 0, 0, 40 + 140, 40, 20, 10, 16, 2]
    assert size(page, 8) == [2, 0, 20, 10]


def test_a_failure_is_no_success() -> None:
    page, meter = native()
    meter.failed(7)
    meter.failed(0)
    assert sums(page) == [0, 0, 2, 7, 0, 0, 0, 0, 0, 0]


def test_the_last_run_never_goes_back() -> None:
    page, meter = native()
    for now_ns in (5, 9, 7):
        meter.ran(1, 1, now_ns)
    assert page[LAST] == 9


def test_room_for_sizes_is_made_when_they_first_come() -> None:
    page = np.zeros(CELLS, np.int64)
    asked: list[int] = []

    def sizes(chunk: int) -> Tally:
        asked.append(chunk)
        return Tally(page, SIZES + chunk * CHUNK, CHUNK)

    meter = VersionMeter(*(Histogram(page, 0, ()) for _ in range(4)), Tally(page, 2, 10), Tally(page, 12, 1), sizes)
    for rows in (2 * SIZES_PER_TALLY, 0, SIZES_PER_TALLY - 1, 2 * SIZES_PER_TALLY + 1):
        meter.ran(rows, 1, 1)
    assert asked == [2, 0]
    assert [size(page, rows)[0] for rows in (0, SIZES_PER_TALLY - 1, SIZES_PER_TALLY, 2 * SIZES_PER_TALLY)] == [
        1,
        1,
        0,
        1,
    ]


@pytest.mark.parametrize("rows", [-1, (1 << 20) + 1, 2**63 - 1])
def test_rows_that_no_batch_has_are_refused(rows: int) -> None:
    page, meter = native()
    calls: list[Callable[[], None]] = [
        lambda: meter.ran(rows, 1, 1),
        lambda: meter.lone(1, 1, 1, 1, rows),
        lambda: meter.answered(1, 1, 1, 1, 1, 1, 1, rows),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="rows"):
            call()
    assert not page.any()


def test_sums_that_are_too_few_are_refused() -> None:
    page = np.zeros(CELLS, np.int64)
    histograms = [Histogram(page, 0, ()) for _ in range(4)]
    last = Tally(page, 0, 1)
    with pytest.raises(ValueError, match="10 sums"):
        VersionMeter(*histograms, Tally(page, 0, VERSION_SUMS - 1), last, lambda _: last)
    meter = VersionMeter(*histograms, Tally(page, 0, VERSION_SUMS), last, lambda _: last)
    with pytest.raises(ValueError, match="128 sums"):
        meter.ran(1, 1, 1)


@pytest.mark.parametrize("answer", [None, 5, Histogram(np.zeros(9, np.int64), 0, ())])
def test_only_tallies_hold_sizes(answer: Any) -> None:
    page = np.zeros(CELLS, np.int64)
    histograms = [Histogram(page, 0, ()) for _ in range(4)]
    meter = VersionMeter(*histograms, Tally(page, 0, VERSION_SUMS), Tally(page, 0, 1), lambda _: answer)
    with pytest.raises((TypeError, AttributeError)):
        meter.ran(1, 1, 1)


@pytest.mark.parametrize("place", range(7))
def test_a_meter_of_other_things_is_refused(place: int) -> None:
    page = np.zeros(CELLS, np.int64)
    parts: list[Any] = [Histogram(page, 0, ()) for _ in range(4)]
    parts += [Tally(page, 0, VERSION_SUMS), Tally(page, 0, 1), print]
    parts[place] = None
    with pytest.raises(TypeError):
        VersionMeter(*parts)


def test_a_page_lives_as_long_as_a_meter_in_it() -> None:
    page, meter = native()
    meter.lone(1, 2, 3, 4, 1)
    before = sys.getrefcount(page)
    del meter
    assert sys.getrefcount(page) < before


@pytest.mark.parametrize(("at", "count"), [(0, 5), (-1, 1), (4, 1), (2**62, 2**62), (0, 0), (0, -1)])
def test_cells_that_are_not_there_are_refused(at: int, count: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        Tally(np.zeros(4, np.int64), at, count)


TIME = st.integers(1, 2**40)
ROWS = st.integers(0, CHUNKS * SIZES_PER_TALLY - 1)
CALLS = st.one_of(
    st.tuples(st.just("lone"), st.tuples(st.integers(-1, 2**40), TIME, TIME, TIME, ROWS)),
    st.tuples(st.just("ran"), st.tuples(ROWS, TIME, TIME)),
    st.tuples(st.just("answered"), st.tuples(st.integers(-1, 2**40), TIME, TIME, TIME, TIME, TIME, ROWS, ROWS)),
    st.tuples(st.just("whole"), st.tuples(st.integers(0, 2**40), TIME, TIME)),
    st.tuples(st.just("failed"), st.tuples(TIME)),
)


@given(st.lists(CALLS, max_size=20))
def test_the_meter_agrees_with_its_twin(calls: list[tuple[str, tuple[int, ...]]]) -> None:
    page, plain = np.zeros(CELLS, np.int64), [0] * CELLS
    meter, twin = made(Native, page), made(reference, plain)
    for name, arguments in calls:
        getattr(meter, name)(*arguments)
        getattr(twin, name)(*arguments)
    assert page.tolist() == plain


def test_a_block_is_one_run_and_an_answer_for_each() -> None:
    page, meter = native()
    meter.block([100, 110], [1, 2], 130, 180, 200)
    twin, other = native()
    other.ran(3, 50, 180)
    for received_ns, rows in ((100, 1), (110, 2)):
        other.answered(received_ns, 130, 130, 180, 190, 200, rows, 3)
    assert page.tolist() == twin.tolist()


def test_a_block_without_a_count_for_each_is_refused() -> None:
    with pytest.raises(ValueError, match="row counts"):
        native()[1].block([1], [1, 2], 1, 2, 3)
