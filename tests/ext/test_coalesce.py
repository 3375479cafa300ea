"""Rows into one buffer and out of one output: nothing lost, nothing crossed, nothing shared, against the plain twin."""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve._ext import coalesce
from fastserve.types import Tensor
from tests.reference import coalesce as reference

DTYPES = ["f4", "f8", "f2", "i8", "i1", "u2", "?"]


def rows_of(count: int, row_shape: tuple[int, ...], dtype: str = "f4", first: int = 0) -> Tensor:
    """Rows of which every number differs from every other's, as far as the dtype goes."""
    size = count * int(np.prod(row_shape, dtype=int))
    return (np.arange(first, first + size) % 251).astype(dtype).reshape(count, *row_shape)


def test_parts_come_one_after_the_other_and_the_rest_of_the_buffer_stays() -> None:
    buffer = np.full((5, 2), 9, "f4")
    assert coalesce.gather(buffer, [rows_of(1, (2,)), rows_of(2, (2,), first=10)]) == 3
    assert buffer.tolist() == [[0, 1], [10, 11], [12, 13], [9, 9], [9, 9]]


def test_an_output_is_cut_into_copies_that_own_their_rows() -> None:
    output = rows_of(3, (2,))
    first, none, second = coalesce.split(output, [1, 0, 2])
    output[:] = -1
    assert (first.tolist(), none.shape, second.tolist()) == ([[0, 1]], (0, 2), [[2, 3], [4, 5]])
    for part in (first, none, second):
        assert part.base is None
        assert part.flags.owndata
        assert part.flags.writeable
        assert part.flags.c_contiguous


def test_nothing_gathered_and_nothing_split() -> None:
    assert coalesce.gather(np.zeros((0, 3)), []) == 0
    assert coalesce.gather(np.zeros((2, 3)), []) == 0
    assert coalesce.gather(np.zeros((0, 3)), [np.zeros((0, 3))]) == 0
    assert coalesce.split(np.zeros((0, 3)), []) == []
    assert [part.shape for part in coalesce.split(np.zeros((0, 3)), [0, 0])] == [(0, 3), (0, 3)]
    assert [part.shape for part in coalesce.split(np.zeros((5, 0)), [2, 3])] == [(2, 0), (3, 0)]


def test_a_part_in_any_memory_layout_is_gathered_in_order() -> None:
    buffer = np.zeros((8, 2), "f4")
    parts = [
        np.asfortranarray(rows_of(2, (2,))),
        rows_of(6, (2,))[::3],
        np.broadcast_to(np.float32(7), (1, 2)),
        rows_of(2, (2,))[::-1],
    ]
    assert coalesce.gather(buffer, parts) == 7
    assert np.array_equal(buffer[:7], np.concatenate(parts))


def test_a_view_of_the_buffer_itself_is_gathered() -> None:
    buffer = rows_of(6, (2,))
    assert coalesce.gather(buffer, [buffer[1:4]]) == 3
    assert buffer[:3].tolist() == [[2, 3], [4, 5], [6, 7]]


def test_an_output_in_another_layout_is_split_in_order() -> None:
    output = np.asfortranarray(rows_of(3, (2,)))
    assert [part.tolist() for part in coalesce.split(output, [2, 1])] == [[[0, 1], [2, 3]], [[4, 5]]]


def test_strings_are_split_by_reference_and_each_counted() -> None:
    item = "".join(["not ", "interned"])
    output = np.array([[item]] * 3, object)
    before = sys.getrefcount(item)
    parts = coalesce.split(output, [1, 2])
    assert sys.getrefcount(item) == before + 3
    assert [part.tolist() for part in parts] == [[[item]], [[item], [item]]]
    del parts
    assert sys.getrefcount(item) == before


def test_dtype_and_arrays_are_given_back() -> None:
    output = rows_of(2, (2,), "i2")
    before = sys.getrefcount(output.dtype), sys.getrefcount(output)
    for _ in range(100):
        coalesce.split(output, [1, 1])
        coalesce.gather(output, [output])
    assert (sys.getrefcount(output.dtype), sys.getrefcount(output)) == before


READ_ONLY = np.zeros((2, 2), "f4")
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("buffer", "parts", "reason"),
    [
        (np.zeros((2, 2), "f4"), [np.zeros((3, 2), "f4")], "at most 2 rows"),
        (np.zeros((2, 2), "f4"), [np.zeros((1, 2), "f4")] * 3, "at most 2 rows, got 2 and 1 more"),
        (np.zeros((2, 2), "f4"), [np.zeros((1, 3), "f4")], "rows of shape"),
        (np.zeros((2, 2), "f4"), [np.zeros(2, "f4")], "rows of shape"),
        (np.zeros((2, 2), "f4"), [np.zeros((1, 2, 1), "f4")], "rows of shape"),
        (np.zeros((2, 2), "f4"), [np.array(1, "f4")], "rows of shape"),
        (np.zeros((2, 2), "f4"), [np.zeros((1, 2), "f8")], "float32"),
        (np.zeros((2, 2), "f4"), [np.zeros((1, 2), "i4")], "float32"),
        (np.zeros((2, 2), "f4"), [np.zeros((1, 2), ">f4")], "float32"),
        (np.zeros((0, 2), "f4"), [np.zeros((1, 2), "f4")], "at most 0 rows"),
        (np.zeros((0, 2), "i1"), [np.zeros((2**62, 0), "i1")], "rows of shape"),
        (np.zeros((2, 0), "i1"), [np.zeros((2, 0), "i1"), np.zeros((2**62, 0), "i1")], "at most 2 rows"),
        (np.array(1, "f4"), [], "rank 1"),
        (np.zeros((4, 4), "f4").T[:, :2], [], "contiguous"),
        (np.zeros((2, 2), "f4", "F"), [], "contiguous"),
        (READ_ONLY, [], "writable"),
        (np.full((2, 2), "a", object), [np.full((1, 2), "b", object)], "Python objects"),
    ],
)
def test_what_does_not_fit_the_buffer_is_refused(buffer: Tensor, parts: list[Tensor], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        coalesce.gather(buffer, parts)


@pytest.mark.parametrize("rows", [[], [1], [4], [1, 1], [2, 2], [-1, 4], [3, -1, 1], [2**62, 2**62], [-(2**62), 3]])
def test_counts_that_are_not_the_outputs_rows_are_refused(rows: list[int]) -> None:
    for output in (rows_of(3, (2,)), np.full((3, 1), "a", object)):
        with pytest.raises(ValueError, match="sum to 3"):
            coalesce.split(output, rows)


def test_a_scalar_has_no_rows() -> None:
    with pytest.raises(ValueError, match="rank 1"):
        coalesce.split(np.array(1.0), [1])


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (coalesce.gather, (np.zeros(2), [[1.0]])),
        (coalesce.gather, (np.zeros(2), [None])),
        (coalesce.gather, (np.zeros(2), (np.zeros(1),))),
        (coalesce.gather, (None, [])),
        (coalesce.gather, ([1.0], [])),
        (coalesce.split, (None, [])),
        (coalesce.split, (np.zeros(2), None)),
        (coalesce.split, (np.zeros(2), ["2"])),
        (coalesce.split, (np.zeros(2), [2.0])),
    ],
)
def test_arguments_of_another_type_are_refused(function: Any, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        function(*arguments)


def test_a_count_of_more_than_64_bits_is_refused() -> None:
    with pytest.raises(OverflowError):
        coalesce.split(np.zeros(2), [2**64])


COUNTS = st.lists(st.integers(0, 4), max_size=5)
ROW_SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@given(COUNTS, ROW_SHAPES, st.sampled_from(DTYPES), st.integers(-2, 2), st.booleans())
def test_gather_agrees_with_the_twin(
    counts: list[int], row_shape: tuple[int, ...], dtype: str, spare: int, fortran: bool
) -> None:
    parts = [rows_of(count, row_shape, dtype, place * 17) for place, count in enumerate(counts)]
    if fortran:
        parts = [np.asfortranarray(part) for part in parts]
    native = rows_of(max(0, sum(counts) + spare), row_shape, dtype, 100)
    plain = native.copy()
    try:
        expected = reference.gather(plain, parts)
    except ValueError:
        with pytest.raises(ValueError, match="expected"):
            coalesce.gather(native, parts)
        return
    assert coalesce.gather(native, parts) == expected
    assert np.array_equal(native, plain)


@given(COUNTS, ROW_SHAPES, st.sampled_from([*DTYPES, "O"]))
def test_split_agrees_with_the_twin_and_undoes_gather(
    counts: list[int], row_shape: tuple[int, ...], dtype: str
) -> None:
    output = rows_of(sum(counts), row_shape, dtype)
    parts = coalesce.split(output, counts)
    for part, expected in zip(parts, reference.split(output, counts), strict=True):
        assert part.dtype == expected.dtype
        assert part.shape == expected.shape
        assert np.array_equal(part, expected)
    if dtype != "O":
        again = np.empty_like(output)
        assert coalesce.gather(again, parts) == len(output)
        assert np.array_equal(again, output)


def test_big_parts_are_copied_by_several_threads_at_once() -> None:
    part = rows_of(300, (100, 3), "f8")

    def round_trip(_: int) -> list[Tensor]:
        buffer = np.empty((1000, 100, 3))
        assert coalesce.gather(buffer, [part, part]) == 600
        return coalesce.split(buffer, [300, 300, 400])[:2]

    with ThreadPoolExecutor(4) as pool:
        for copies in pool.map(round_trip, range(8)):
            assert all(np.array_equal(copy, part) for copy in copies)
