"""The native JSON reader on a table of hostile and odd texts (`cases/tensorize.json`), and on texts too large for a table.

A case has `text` (or its bytes as `hex`) and either `json_error` (and where: `offset`), or a `path` and `words` of the
refusal, or the `shape` and `values` of what is read. `dtype` absent: whatever is asked for, the answer is the same.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastserve._ext.tensorize import Cursor
from fastserve.errors import FastServeError, InvalidJson, InvalidTensor
from fastserve.types import DType
from tests.reference import tensorize as reference

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "cases" / "tensorize.json").read_text())
BROKEN = [case for case in CASES if "json_error" in case and "dtype" not in case]
TENSORS = [case for case in CASES if "dtype" in case]


def bytes_of(case: dict[str, Any]) -> bytes:
    return bytes.fromhex(case["hex"]) if "hex" in case else case["text"].encode()


def names(cases: list[dict[str, Any]]) -> list[str]:
    return [case["name"] for case in cases]


@pytest.mark.parametrize("case", BROKEN, ids=names(BROKEN))
def test_broken_text_is_refused_by_every_reader(case: dict[str, Any]) -> None:
    text = bytes_of(case)
    for read in (Cursor.skip, lambda cursor: cursor.value("$"), lambda cursor: cursor.tensor(DType.DOUBLE, "$")):
        with pytest.raises((InvalidJson, InvalidTensor)) as refusal:
            read(Cursor(text))
        # A tensor's reader may stop before the broken place, at a value of the wrong kind.
        if isinstance(refusal.value, InvalidJson):
            assert refusal.value.offset_bytes == case.get("offset", refusal.value.offset_bytes)
    with pytest.raises(InvalidJson):
        Cursor(text).skip()


@pytest.mark.parametrize("dtype", [DType.INT8, DType.INT64, DType.FLOAT, DType.DOUBLE, DType.FLOAT16, DType.STRING])
@pytest.mark.parametrize("case", BROKEN, ids=names(BROKEN))
def test_broken_text_is_refused_far_from_the_end_too(case: dict[str, Any], dtype: DType) -> None:
    """Near the end nothing is loaded ahead: there the readers are others."""
    for tail in (b" " * 40, b"," * 40, b"]" * 40, b"0" * 40):
        text = bytes_of(case) + tail
        if is_refused(text, dtype):
            with pytest.raises((InvalidJson, InvalidTensor)):
                Cursor(text).tensor(dtype, "$")


def is_refused(text: bytes, dtype: DType) -> bool:
    """Whether the plain twin refuses it: a tail may mend what a case breaks."""
    try:
        reference.tensor(text, dtype)
    except reference.Refused:
        return True
    return False


@pytest.mark.parametrize("case", TENSORS, ids=names(TENSORS))
def test_tensor_is_read_or_refused(case: dict[str, Any]) -> None:
    cursor = Cursor(bytes_of(case))
    dtype = DType[case["dtype"]]
    if "json_error" in case:
        with pytest.raises(InvalidJson) as broken:
            cursor.tensor(dtype, "$.x")
        assert broken.value.offset_bytes == case.get("offset", broken.value.offset_bytes)
    elif "path" in case:
        with pytest.raises(InvalidTensor) as refusal:
            cursor.tensor(dtype, "$.x")
        assert refusal.value.path == case["path"]
        assert [words for words in case["words"] if words not in str(refusal.value)] == []
    else:
        array = cursor.tensor(dtype, "$.x")
        assert (array.dtype, list(array.shape), repr(array.tolist())) == (dtype.numpy, case["shape"], case["values"])


@pytest.mark.parametrize(
    "case", [case for case in TENSORS if "hex" not in case and "shape" in case], ids=lambda case: case["name"]
)
def test_reference_reads_the_table_alike(case: dict[str, Any]) -> None:
    array = reference.tensor(bytes_of(case).removeprefix(b"\xef\xbb\xbf"), DType[case["dtype"]])
    assert (list(array.shape), repr(array.tolist())) == (case["shape"], case["values"])


WHOLE = {
    DType.FLOAT: b"[[[-1.25, 0.5], [12345678901234567890, 1e-3]], [[NaN, -Infinity], [Inf, 0.12345678901234567]]]",
    DType.INT64: b"[[1, -22], [9223372036854775807, 0]]",
    DType.BOOL: b"[true, false, true]",
    DType.STRING: b'["caf\\u00e9 \\ud83d\\ude00", "\xc3\xa9", {"b64": "YWJj"}]',
}


@pytest.mark.parametrize("dtype", WHOLE)
def test_every_truncation_is_refused(dtype: DType) -> None:
    text = WHOLE[dtype]
    Cursor(text).tensor(dtype, "$")
    for size in range(len(text)):
        for read in (Cursor.skip, lambda cursor: cursor.tensor(dtype, "$")):
            with pytest.raises(FastServeError):
                read(Cursor(text[:size]))


@pytest.mark.parametrize("tail", [b"", b" ", b"]", b"x", b"," * 40, b"\xff" * 40, b'"' * 8])
def test_text_behind_the_value_changes_nothing(tail: bytes) -> None:
    for dtype, text in WHOLE.items():
        cursor = Cursor(text + tail)
        assert repr(cursor.tensor(dtype, "$")) == repr(Cursor(text).tensor(dtype, "$"))
        assert cursor.offset == len(text)


def test_every_truncation_of_rows_is_refused() -> None:
    text = b'[{"a": [1, 2], "b": "x"}, {"b": "y", "a": [3, 4]}]'
    assert Cursor(text).rows(("a", "b"), (DType.INT32, DType.STRING), "$")["a"].tolist() == [[1, 2], [3, 4]]
    for size in range(len(text)):
        with pytest.raises(FastServeError):
            Cursor(text[:size]).rows(("a", "b"), (DType.INT32, DType.STRING), "$")


def opened(cursor: Cursor) -> None:
    cursor.tensor(DType.FLOAT, "$")


@pytest.mark.parametrize(
    ("text", "read", "error"),
    [
        (b"[" * 500_000, Cursor.skip, InvalidJson),
        (b'{"a":' * 500_000, Cursor.skip, InvalidJson),
        (b"[" * 500_000 + b"]" * 499_999, Cursor.skip, InvalidJson),
        (b"[{" * 250_000, Cursor.skip, InvalidJson),
        (b"[" * 500_000, opened, InvalidTensor),
        (b"[" * 500_000, lambda cursor: cursor.value("$"), InvalidTensor),
        (b'{"a":' * 500_000, lambda cursor: cursor.value("$"), InvalidTensor),
        (b"[" * 65 + b"1" + b"]" * 65, opened, InvalidTensor),
        (b"[" * 101 + b"]" * 101, lambda cursor: cursor.value("$"), InvalidTensor),
        (b"1" * 10_000, opened, InvalidJson),
        (b"-" + b"9" * 400, lambda cursor: cursor.tensor(DType.INT64, "$"), InvalidJson),
        (b'"' + b"\\" * 100_001 + b'"', Cursor.skip, InvalidJson),
    ],
    ids=lambda value: value[:6].decode() if isinstance(value, bytes) else None,
)
def test_large_hostile_text_is_refused(text: bytes, read: Callable[[Cursor], object], error: type[Exception]) -> None:
    with pytest.raises(error) as refusal:
        read(Cursor(text))
    assert len(str(refusal.value)) < 700


def test_any_depth_is_skipped_and_deep_values_are_read_to_their_limit() -> None:
    for unit, close in ((b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")):
        text = unit * 500_000 + b"1" + close * 500_000
        cursor = Cursor(text + b" ")
        cursor.skip()
        assert cursor.offset == len(text)
    assert Cursor(b"[" * 64 + b"1" + b"]" * 64).tensor(DType.FLOAT, "$").shape == (1,) * 64
    assert Cursor(b"[" * 3 + b"]" * 3, max_depth=3).value("$") == [[[]]]
    with pytest.raises(InvalidTensor, match="at most 3 nested lists"):
        Cursor(b"[" * 4 + b"]" * 4, max_depth=3).tensor(DType.FLOAT, "$")


def test_numbers_of_ten_thousand_digits_are_rounded_right() -> None:
    tenth = b"0." + b"3" * 10_000
    assert Cursor(tenth).tensor(DType.FLOAT, "$") == np.float32("0.33333334")
    assert Cursor(b"0." + b"0" * 10_000 + b"1").tensor(DType.DOUBLE, "$") == 0
    assert Cursor(b"1" + b"0" * 10_000 + b"e-10000").tensor(DType.DOUBLE, "$") == 1
    assert Cursor(b"0." + b"0" * 9_999 + b"15e10000").tensor(DType.FLOAT16, "$") == 1.5
    halfway = b"1.00048828125" + b"0" * 10_000
    assert Cursor(halfway).tensor(DType.FLOAT16, "$") == 1
    assert Cursor(halfway + b"1").tensor(DType.FLOAT16, "$") > 1


def test_a_large_array_owns_its_memory_and_is_not_larger_than_its_text_allows() -> None:
    values = np.arange(100_000, dtype=np.float32).reshape(100, 250, 4)
    text = json.dumps({"instances": values.tolist(), "more": 1}).encode()
    cursor = Cursor(text)
    cursor.enter_object()
    assert cursor.next_key() == "instances"
    array = cursor.tensor(DType.FLOAT, "$")
    assert (cursor.next_key(), cursor.value("$"), cursor.next_key()) == ("more", 1, None)
    del cursor, text
    array += 1
    np.testing.assert_array_equal(array, values + 1)
