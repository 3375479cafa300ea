"""The strict reader: what the other one reads is read the same, unless there is a NaN or an infinity in it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastserve._ext.tensorize import Cursor, sole_rows
from fastserve.errors import InvalidJson, InvalidTensor
from fastserve.types import DType, Tensor, first_non_finite
from tests.ext.test_tensorize import FLOAT_TOKENS, FLOATS, laid_out, nested, outcome, same

STRICT = (100, True)
"""Nesting, and no NaN."""


def as_float(bits: Any, dtype: DType) -> float:
    """One element; bfloat16 is kept as the upper half of a float."""
    return float(np.uint32(int(bits) << 16).view(np.float32)) if dtype == DType.BFLOAT16 else float(bits)


def first_bad(array: Tensor, dtype: DType) -> tuple[int, ...] | None:
    """The slow way: element by element."""
    places = (place for place, value in np.ndenumerate(array) if not np.isfinite(as_float(value, dtype)))
    return next(places, None)


@given(st.data(), st.sampled_from(FLOATS))
def test_strict_is_lenient_less_what_is_not_finite(data: st.DataObject, dtype: DType) -> None:
    text = data.draw(laid_out(data.draw(nested(FLOAT_TOKENS)))).encode()
    kind, lenient = outcome(lambda: Cursor(text).tensor(dtype, "$"))
    strict = outcome(lambda: Cursor(text, *STRICT).tensor(dtype, "$"))
    bad = first_bad(lenient, dtype) if kind == "array" else None
    if kind == "refused":
        assert strict == (kind, lenient)
    elif bad is not None:
        assert strict == ("refused", "$" + "".join(f"[{index}]" for index in bad))
    else:
        same(strict[1], lenient)


@given(st.data(), st.sampled_from(FLOATS))
@example(None, DType.FLOAT)
def test_the_first_non_finite_number_is_found(data: st.DataObject | None, dtype: DType) -> None:
    if data is None:
        array: Tensor = np.zeros((2, 0, 3), np.float32)
    else:
        bits = {2: np.uint16, 4: np.uint32, 8: np.uint64}[dtype.numpy.itemsize]
        shape = tuple(data.draw(st.lists(st.integers(0, 3), max_size=3)))
        count = int(np.prod(shape, dtype=int))
        words = data.draw(st.lists(st.integers(0, np.iinfo(bits).max), min_size=count, max_size=count))
        array = np.array(words, bits).view(dtype.numpy).reshape(shape)
    found = first_non_finite(array, dtype)
    assert (found and found.indices) == first_bad(array, dtype)
    if found is not None:
        value = as_float(array[found.indices], dtype)
        assert found.text == ("NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity")


@pytest.mark.parametrize("dtype", [d for d in DType if not d.is_float])
def test_types_without_such_values_are_not_looked_at(dtype: DType) -> None:
    assert first_non_finite(np.zeros(2, dtype.numpy), dtype) is None


@pytest.mark.parametrize(
    ("text", "dtype", "place", "got"),
    [
        (b"NaN", DType.FLOAT, "$", "NaN"),
        (b"[[1, 2], [3, -Infinity]]", DType.DOUBLE, "$[1][1]", "-Infinity"),
        (b"[1, 1e39]", DType.FLOAT, "$[1]", "Infinity"),
        (b"[0.5, -70000]", DType.FLOAT16, "$[1]", "-Infinity"),
        (b"[4000000000000000000e22]", DType.FLOAT, "$[0]", "Infinity"),
        (b"[1, Inf]", DType.BFLOAT16, "$[1]", "Infinity"),
    ],
)
def test_the_place_and_the_value_are_told(text: bytes, dtype: DType, place: str, got: str) -> None:
    with pytest.raises(InvalidTensor) as refused:
        Cursor(text, *STRICT).tensor(dtype, "$")
    assert (refused.value.path, refused.value.got) == (place, got)
    assert refused.value.expected == f"number that is finite as {dtype.name}"


def test_the_largest_numbers_are_finite() -> None:
    assert Cursor(b"[3.4028234e38, -3.4028234e38]", *STRICT).tensor(DType.FLOAT, "$").tolist()
    assert Cursor(b"[1.7976931348623157e308]", *STRICT).tensor(DType.DOUBLE, "$").tolist()


def test_rows_tell_row_and_member() -> None:
    names, dtypes = ("a", "b c"), (DType.FLOAT, DType.DOUBLE)
    good = b'[{"a": 1, "b c": [1, 2]}, {"a": 2, "b c": [3, 4]}]'
    assert Cursor(good, *STRICT).rows(names, dtypes, "$.instances")["b c"].tolist() == [[1, 2], [3, 4]]
    with pytest.raises(InvalidTensor) as refused:
        Cursor(good.replace(b"4", b"NaN"), *STRICT).rows(names, dtypes, "$.instances")
    assert refused.value.path == '$.instances[1]["b c"][1]'


@pytest.mark.parametrize("token", [b"NaN", b"Infinity", b"-Infinity", b"Inf", b"-Inf"])
def test_values_that_are_not_used_are_json_too(token: bytes) -> None:
    for read in (lambda cursor: cursor.skip(), lambda cursor: cursor.value("$")):
        read(Cursor(b"[1, " + token + b"]"))
        with pytest.raises(InvalidJson, match=r"non_finite.*offset: 4"):
            read(Cursor(b"[1, " + token + b"]", *STRICT))
        with pytest.raises(InvalidJson, match="not a JSON value"):
            read(Cursor(b"[1, -NaN]", *STRICT))


@pytest.mark.parametrize("dtype", [DType.INT64, DType.BOOL, DType.STRING])
def test_where_no_float_may_stand_it_is_the_wrong_type(dtype: DType) -> None:
    with pytest.raises(InvalidTensor, match="got number NaN") as refused:
        Cursor(b"[NaN]", *STRICT).tensor(dtype, "$")
    assert refused.value.path == "$[0]"


def test_the_short_way_is_strict_too() -> None:
    body = b'{"instances": [[1.5, NaN]]}'
    rows = sole_rows(body, b"instances", DType.FLOAT, "$.instances")
    assert rows is not None
    with pytest.raises(InvalidTensor) as refused:
        sole_rows(body, b"instances", DType.FLOAT, "$.instances", True)
    assert refused.value.path == "$.instances[0][1]"
