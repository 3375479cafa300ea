"""Native functions that do for many what another does for one: each must come out as if it were alone."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve._ext import jsonwrite
from fastserve._ext.coalesce import RowShapes
from fastserve._ext.meters import Histogram
from fastserve._ext.tensorize import Cursor, between
from fastserve.errors import FastServeError
from fastserve.types import DType

FLOAT = int(DType.FLOAT)


def alone(read: Any, *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except FastServeError:
        return None


def same(ours: np.ndarray[Any, Any] | None, other: np.ndarray[Any, Any] | None) -> bool:
    if ours is None or other is None:
        return ours is other
    return (ours.dtype, ours.shape, ours.tobytes()) == (other.dtype, other.shape, other.tobytes())


def stepwise(body: bytes, before: bytes, after: bytes) -> np.ndarray[Any, Any] | None:
    if not body.startswith(before) or not body.endswith(after):
        return None
    cursor = Cursor(body)
    cursor.seek(len(before))
    if cursor.kind() != "[":
        return None
    array = cursor.tensor(FLOAT, "")
    return array if body[cursor.offset :] == after else None


@given(
    st.lists(
        st.sampled_from([b"[1,2]", b"[[1],[2]]", b"[]", b"1", b'"x"', b"[1,]", b"[1] ", b"", b"[1]}"]), max_size=5
    ),
    st.sampled_from([b'{"d":', b""]),
    st.sampled_from([b"}", b',"a":1}', b""]),
)
def test_lists_between_two_texts(lists: list[bytes], before: bytes, after: bytes):
    bodies = [b"".join([before, one, after]) for one in lists] + [before, after, before + after]
    found = [alone(between, body, before, after, FLOAT) for body in bodies]
    assert all(map(same, found, [alone(stepwise, body, before, after) for body in bodies]))


@given(st.lists(st.integers(0, 4), max_size=6), st.sampled_from([(), (3,), (2, 2)]))
def test_texts_of_ranges_of_rows(rows: list[int], row_shape: tuple[int, ...]):
    array = np.arange(sum(rows) * int(np.prod(row_shape)), dtype=np.float32).reshape(sum(rows), *row_shape) / 3
    texts = jsonwrite.each_tensor(b"<", array, rows, FLOAT, False, b">")
    ends = np.cumsum([0, *rows])
    parts = [array[start:end] for start, end in pairwise(ends)]
    assert texts == [jsonwrite.tensor(b"<", part, FLOAT, False, b">") for part in parts]


@pytest.mark.parametrize("rows", [[1], [3], [1, 2], [-1, 3], [4, -2], []])
def test_rows_that_are_not_all_are_refused(rows: list[int]):
    with pytest.raises(ValueError, match="expected row counts"):
        jsonwrite.each_tensor(b"", np.zeros((2, 1), np.float32), rows, FLOAT, False, b"")


def test_a_scalar_has_no_rows():
    with pytest.raises(ValueError, match="expected row counts"):
        jsonwrite.each_tensor(b"", np.array(1, np.float32), [1], FLOAT, False, b"")


def test_rows_of_each_part():
    shapes = RowShapes((("x", np.float32, (2,)),))
    parts = [np.zeros((3, 2), np.float32), np.zeros((1, 3), np.float32), np.zeros((1, 2)), None, np.zeros((0, 2), "f")]
    assert shapes.each(parts) == [3, -1, -1, -1, 0]  # type: ignore[arg-type]  # whatever it is
    with pytest.raises(ValueError, match="one input"):
        RowShapes((("x", np.float32, ()), ("y", np.float32, ()))).each([])


@given(st.lists(st.integers(-(2**40), 2**40), max_size=20), st.integers(-(2**40), 2**40))
def test_many_observations(values: list[int], now: int):
    cells = [np.zeros(5, np.int64) for _ in range(3)]
    each, once, since = (Histogram(one, 0, (10, 100, 1000)) for one in cells)
    for value in values:
        each.observe(value)
    once.observe_all(values)
    since.observe_since([now - value for value in values], now)
    assert cells[0].tolist() == cells[1].tolist() == cells[2].tolist()
