"""Counters and histograms in cells: the right cell, no other, from any thread, in memory that stays."""

import mmap
import sys
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve._ext.meters import Counter, Histogram, Tally
from tests.reference import meters as reference

LEAST, LARGEST = -(2**63), 2**63 - 1


def cells(count: int = 10) -> np.ndarray[Any, Any]:
    return np.zeros(count, np.int64)


def test_a_counter_counts_in_its_own_cell() -> None:
    page = cells(3)
    counter = Counter(page, 1)
    counter.add()
    counter.add(41)
    counter.add(0)
    assert counter.value == 42
    assert page.tolist() == [0, 42, 0]


def test_a_counter_only_grows() -> None:
    counter = Counter(cells(), 0)
    with pytest.raises(ValueError, match="at least 0"):
        counter.add(-1)
    assert counter.value == 0


def test_a_counter_goes_on_where_its_cell_stands() -> None:
    page = cells()
    Counter(page, 2).add(5)
    again = Counter(page, 2)
    again.add()
    assert again.value == 6


def test_a_value_falls_into_the_bucket_of_the_first_bound_that_is_not_below() -> None:
    page = cells(6)
    histogram = Histogram(page, 1, (10, 20))
    for value in (-5, 0, 10, 11, 20, 21, 10**12):
        histogram.observe(value)
    assert histogram.buckets == (3, 2, 2)
    assert (histogram.total, histogram.count) == (57 + 10**12, 7)
    assert page.tolist() == [0, 3, 2, 2, 57 + 10**12, 0]


def test_a_histogram_without_bounds_has_one_bucket() -> None:
    histogram = Histogram(cells(2), 0, ())
    histogram.observe(7)
    assert (histogram.buckets, histogram.total, histogram.count) == ((1,), 7, 1)


def test_sums_wrap_at_64_bits() -> None:
    page = cells()
    counter = Counter(page, 0)
    histogram = Histogram(page, 1, (0,))
    for _ in range(2):
        counter.add(LARGEST)
        histogram.observe(LEAST)
        histogram.observe(LEAST)
    assert counter.value == -2
    assert (histogram.buckets, histogram.total) == ((4, 0), 0)


@pytest.mark.parametrize(
    "buffer",
    [
        np.zeros(4, np.int64),
        np.zeros(4, np.uint64),
        np.zeros((2, 2), np.int64),
        bytearray(32),
        memoryview(bytearray(32)),
        memoryview(bytearray(32)).cast("q"),
        mmap.mmap(-1, 32),
    ],
)
def test_any_writable_memory_holds_cells(buffer: Any) -> None:
    Counter(buffer, 3).add(2**40)
    assert bytes(memoryview(buffer).cast("B")) == bytes(24) + (2**40).to_bytes(8, sys.byteorder)


def test_mapped_memory_cannot_be_closed_under_a_meter() -> None:
    with mmap.mmap(-1, 4096) as page:
        counter = Counter(page, 0)
        with pytest.raises(BufferError):
            page.close()
        with pytest.raises(BufferError):
            page.resize(8192)
        counter.add()
        del counter


def test_a_page_lives_as_long_as_a_meter_in_it() -> None:
    page = cells()
    before = sys.getrefcount(page)
    meters = [Counter(page, 0), Histogram(page, 1, (1, 2))]
    assert sys.getrefcount(page) > before
    meters.clear()
    assert sys.getrefcount(page) == before


READ_ONLY = np.zeros(4, np.int64)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("buffer", "at", "bounds"),
    [
        (cells(4), 4, None),
        (cells(4), -1, None),
        (cells(4), LARGEST, None),
        (cells(0), 0, None),
        (bytearray(7), 0, None),
        (np.zeros(33, np.uint8)[1:], 0, None),
        (cells(4), 0, (1, 2, 3)),
        (cells(4), 2, (1,)),
        (cells(4), LARGEST, (1,)),
        (cells(9), 0, (1, 1)),
        (cells(9), 0, (2, 1)),
        (cells(9), 0, (1, 2, LEAST)),
    ],
)
def test_cells_that_are_not_there_and_bounds_out_of_order_are_refused(
    buffer: Any, at: int, bounds: tuple[int, ...] | None
) -> None:
    with pytest.raises(ValueError, match="expected"):
        Counter(buffer, at) if bounds is None else Histogram(buffer, at, bounds)


@pytest.mark.parametrize("buffer", [b"12345678", READ_ONLY, cells(8)[::2], mmap.mmap(-1, 16, access=mmap.ACCESS_READ)])
def test_memory_that_cannot_be_written_in_one_piece_is_refused(buffer: Any) -> None:
    with pytest.raises((BufferError, ValueError)):
        Counter(buffer, 0)


@pytest.mark.parametrize("bounds", [None, [1, 2], (1.5,), ("1",), (None,)])
def test_bounds_of_another_type_are_refused(bounds: Any) -> None:
    with pytest.raises(TypeError):
        Histogram(cells(), 0, bounds)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_a_value_of_more_than_64_bits_is_refused(value: int) -> None:
    histogram = Histogram(cells(), 0, (1,))
    with pytest.raises(OverflowError):
        histogram.observe(value)
    with pytest.raises(OverflowError):
        Histogram(cells(), 0, (value,))
    assert histogram.count == 0


def test_a_second_constructor_call_leaves_the_meter_as_it_is() -> None:
    page = cells()
    counter, histogram = Counter(page, 0), Histogram(page, 1, (5,))
    counter.__init__(page, 5)  # type: ignore[misc]
    histogram.__init__(page, 5, (1, 2, 3))  # type: ignore[misc]
    counter.add()
    histogram.observe(9)
    assert page.tolist()[:5] == [1, 0, 1, 9, 0]


def test_a_constructor_that_failed_leaves_nothing_held() -> None:
    page = cells(2)
    before = sys.getrefcount(page)
    for _ in range(10):
        with pytest.raises(ValueError, match="cells"):
            Histogram(page, 0, (1, 2, 3))
    assert sys.getrefcount(page) == before


@pytest.mark.parametrize("made", [Counter, Histogram, Tally])
def test_a_meter_without_cells_cannot_be_made(made: Any) -> None:
    with pytest.raises(TypeError):
        made.__new__(made)


def test_no_count_is_lost_between_threads() -> None:
    page = cells()
    counter, histogram = Counter(page, 0), Histogram(page, 1, (1,))
    start = threading.Barrier(4)

    def count() -> None:
        start.wait()
        for value in range(20_000):
            counter.add()
            histogram.observe(value % 3)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (counter.value, histogram.count) == (80_000, 80_000)


VALUES = st.integers(LEAST, LARGEST) | st.integers(-3, 30)
BOUNDS = st.sets(VALUES, max_size=30).map(sorted).map(tuple)


@given(BOUNDS, st.lists(VALUES, max_size=30), st.lists(st.integers(0, LARGEST), max_size=5), st.integers(0, 3))
def test_meters_agree_with_the_twin(bounds: tuple[int, ...], values: list[int], amounts: list[int], at: int) -> None:
    count = at + len(bounds) + 3
    page, plain = cells(count), [0] * count
    counter, histogram = Counter(page, count - 1), Histogram(page, at, bounds)
    twin_counter, twin_histogram = reference.Counter(plain, count - 1), reference.Histogram(plain, at, bounds)
    for amount in amounts:
        counter.add(amount)
        twin_counter.add(amount)
    for value in values:
        histogram.observe(value)
        twin_histogram.observe(value)
    assert page.tolist() == plain
