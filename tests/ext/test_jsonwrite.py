"""Tensors to JSON text: nesting, strings, objects, what is refused; then all of it against the plain twin."""

import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fastserve._ext import jsonwrite
from fastserve.types import DType, Tensor
from tests.reference import jsonwrite as reference

NUMBERS = [dtype for dtype in DType if dtype is not DType.STRING]


def strings(*items: object) -> Tensor:
    """Object arrays of which no item is read as a sequence."""
    array = np.empty(len(items), object)
    array[:] = items
    return array


# ---- nesting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((), "0"),
        ((1,), "[0]"),
        ((3,), "[0,1,2]"),
        ((2, 2), "[[0,1],[2,3]]"),
        ((2, 1, 2), "[[[0,1]],[[2,3]]]"),
        ((0,), "[]"),
        ((0, 3), "[]"),
        ((2, 0), "[[],[]]"),
        ((2, 0, 3), "[[],[]]"),
        ((2, 2, 0), "[[[],[]],[[],[]]]"),
        ((1,) * 64, "[" * 64 + "0" + "]" * 64),
    ],
)
def test_shapes_become_nested_lists(shape: tuple[int, ...], expected: str) -> None:
    array = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    assert jsonwrite.tensor(b"<", array, DType.INT64, False, b">").decode() == f"<{expected}>"


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="f4").reshape(2, 3).T,
        np.arange(12, dtype="f4")[::2],
        np.arange(6, dtype="f4")[::-1],
        np.broadcast_to(np.float32(1.5), (3, 2)),
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.frombuffer(b"x" + np.arange(4, dtype="f4").tobytes(), "f4", offset=1),
        np.arange(4, dtype="f4").reshape(2, 2).view(np.matrix),
    ],
)
def test_any_memory_layout_is_written_in_order(array: Tensor) -> None:
    expected = json.dumps(array.astype("f4").tolist(), separators=(",", ":"))
    assert jsonwrite.tensor(b"", array, DType.FLOAT, False, b"").decode() == expected


def test_a_read_only_array_is_written() -> None:
    array = np.arange(3, dtype="f4")
    array.flags.writeable = False
    assert jsonwrite.tensor(b"", array, DType.FLOAT, False, b"") == b"[0.0,1.0,2.0]"


# ---- strings ---------------------------------------------------------------------------------------------------------

HOSTILE_STRINGS = [
    "",
    "plain",
    'quote " backslash \\ slash /',
    "\x00\x01\x08\x09\x0a\x0b\x0c\x0d\x1f\x20\x7f",
    "é \u2028 \u2029 \uffff \U0001f600 \U0010ffff",
    "\ud800",
    "\udfff\ud800\udc00",
    "half a pair \ud83d and more é \udc80",
    "\udcff\udc80",
    "</script>",
    "x" * 5000,
    '"' * 3000,
    "\x01" * 3000,
    "\ud800" * 3000,
]


@pytest.mark.parametrize("item", HOSTILE_STRINGS)
@pytest.mark.parametrize("b64", [False, True])
def test_any_string_gives_valid_json(item: str, b64: bool) -> None:
    array = strings(item, "next")
    written = jsonwrite.tensor(b"", array, DType.STRING, b64, b"")
    assert written == reference.tensor(b"", array, DType.STRING, b64, b"")
    if not b64:
        assert json.loads(written) == [item, "next"] or "\ud800\udc00" in item


@pytest.mark.parametrize("item", [b"", b"plain", b'"\\\n', b"\xff\xfe", "é".encode(), b"\x00" * 100])
def test_bytes_are_the_text_they_encode_or_base64_of_themselves(item: bytes) -> None:
    array = strings(item)
    for b64 in (False, True):
        written = jsonwrite.tensor(b"", array, DType.STRING, b64, b"")
        assert written == reference.tensor(b"", array, DType.STRING, b64, b"")
        json.loads(written)


@pytest.mark.parametrize("size", range(2030, 2052))
def test_the_buffer_grows_at_any_place(size: int) -> None:
    for item in ("x" * size, "\n" * (size // 2), "é" * (size // 2)):
        array = strings(item, item, "\x01")
        for b64 in (False, True):
            written = jsonwrite.tensor(b"12345", array, DType.STRING, b64, b"67890")
            assert written == reference.tensor(b"12345", array, DType.STRING, b64, b"67890")


def test_many_lists_of_strings_leave_room_for_their_brackets() -> None:
    array = np.full((700, 1, 1, 1), "", object)
    assert jsonwrite.tensor(b"", array, DType.STRING, False, b"") == b"[" + b",".join([b'[[[""]]]'] * 700) + b"]"


@pytest.mark.parametrize("item", [None, 5, 1.5, ["x"], np.str_])
def test_an_object_that_is_no_string_is_refused(item: object) -> None:
    with pytest.raises(TypeError, match="expected str in a string tensor, got"):
        jsonwrite.tensor(b"", strings("fine", item), DType.STRING, False, b"")


def test_strings_are_borrowed_and_given_back() -> None:
    item = "".join(["not ", "interned"])
    array = strings(item, item)
    before = sys.getrefcount(item)
    for b64 in (False, True):
        jsonwrite.tensor(b"", array, DType.STRING, b64, b"")
        jsonwrite.row_objects(b"", (item,), (array,), (DType.STRING,), (b64,), b"")
    assert sys.getrefcount(item) == before


# ---- objects ---------------------------------------------------------------------------------------------------------


def test_rows_become_objects() -> None:
    names = ("a", 'b"\n')
    values = (np.array([1.5, 2], "f4"), np.array([[1, 2], [3, 4]], "i4"))
    written = jsonwrite.row_objects(b"<", names, values, (DType.FLOAT, DType.INT32), (False, False), b">")
    assert written == b'<[{"a":1.5,"b\\"\\n":[1,2]},{"a":2.0,"b\\"\\n":[3,4]}]>'


def test_columns_become_one_object() -> None:
    values = (np.array(["x", "y"], object), np.array(7, "i8"))
    written = jsonwrite.column_object(b"<", ("s", "n"), values, (DType.STRING, DType.INT64), (True, False), b">")
    assert written == b'<{"s":[{"b64":"eA=="},{"b64":"eQ=="}],"n":7}>'


def test_no_rows_and_no_columns() -> None:
    assert jsonwrite.row_objects(b"", ("a",), (np.zeros((0, 2), "f4"),), (1,), (False,), b"") == b"[]"
    assert jsonwrite.column_object(b"<", (), (), (), (), b">") == b"<{}>"


def test_rows_and_strings_of_any_length_find_room() -> None:
    lengths = [0, 1, 5000, 0, 2, 40000]
    values = (np.array(["é" * length for length in lengths], object), np.arange(600, dtype="f8").reshape(6, 100))
    arguments = (b"[", ("s", "n" * 3000), values, (DType.STRING, DType.DOUBLE), (False, False), b"]")
    assert jsonwrite.row_objects(*arguments) == reference.row_objects(*arguments)
    assert jsonwrite.column_object(*arguments) == reference.column_object(*arguments)


# ---- what is refused -------------------------------------------------------------------------------------------------

FLOATS = np.zeros((2, 2), "f4")


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (FLOATS, DType.DOUBLE),
        (FLOATS, DType.INT32),
        (FLOATS, DType.STRING),
        (FLOATS, 0),
        (FLOATS, 14),
        (FLOATS, -1),
        (FLOATS, 2**31 - 1),
        (strings("a"), DType.INT64),
        (np.array(["a"]), DType.STRING),
        (np.array([b"a"]), DType.STRING),
        (np.zeros(1, "f4,f4"), DType.DOUBLE),
        (np.zeros(1, "M8[s]"), DType.INT64),
        (np.zeros(1, "c8"), DType.DOUBLE),
        (np.zeros(1, bool), DType.UINT8),
    ],
)
def test_an_array_of_another_dtype_is_refused(array: Tensor, dtype: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        jsonwrite.tensor(b"", array, dtype, False, b"")


@pytest.mark.parametrize(
    ("names", "values", "dtypes", "b64"),
    [
        (("a",), (FLOATS, FLOATS), (1, 1), (False, False)),
        (("a", "b"), (FLOATS, FLOATS), (1,), (False, False)),
        (("a", "b"), (FLOATS, FLOATS), (1, 1), (False,)),
        (("a", "b"), (FLOATS, FLOATS[:1]), (1, 1), (False, False)),
        (("a", "b"), (FLOATS, np.array(1, "f4")), (1, 1), (False, False)),
        ((), (), (), ()),
    ],
)
def test_rows_that_do_not_agree_are_refused(names: Any, values: Any, dtypes: Any, b64: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        jsonwrite.row_objects(b"", names, values, dtypes, b64, b"")


@pytest.mark.parametrize(
    "arguments",
    [
        ((5,), (FLOATS,), (1,), (False,)),
        ((b"a",), (FLOATS,), (1,), (False,)),
        (("a",), ([1.0],), (1,), (False,)),
        (("a",), (None,), (1,), (False,)),
        (("a",), (FLOATS,), ("float",), (False,)),
        (["a"], (FLOATS,), (1,), (False,)),
        (("a",), None, (1,), (False,)),
    ],
)
def test_arguments_of_another_type_are_refused(arguments: Any) -> None:
    for write in (jsonwrite.row_objects, jsonwrite.column_object):
        with pytest.raises(TypeError):
            write(b"", *arguments, b"")


@pytest.mark.parametrize("shape", [(2**61, 0), (2**31, 2**30, 0), (2**62, 1, 0)])
def test_a_text_that_no_memory_holds_is_a_memory_error(shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, "i1")
    with pytest.raises(MemoryError):
        jsonwrite.tensor(b"", array, DType.INT8, False, b"")
    with pytest.raises(MemoryError):
        jsonwrite.row_objects(b"", ("a",), (array,), (DType.INT8,), (False,), b"")
    with pytest.raises(MemoryError):
        jsonwrite.column_object(b"", ("a", "b"), (array, array), (DType.INT8,) * 2, (False,) * 2, b"")


# ---- against the twin ------------------------------------------------------------------------------------------------

SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)


@st.composite
def tensors(draw: st.DrawFn, rows: int | None = None) -> tuple[Tensor, DType, bool]:
    """Any dtype, any bits, any shape (of `rows` rows if given), in order or not."""
    dtype = draw(st.sampled_from(DType))
    shape = draw(SHAPES) if rows is None else (rows, *draw(SHAPES)[1:])
    if dtype is DType.STRING:
        array = draw(arrays.arrays(object, shape, elements=st.text() | st.binary() | st.sampled_from(HOSTILE_STRINGS)))
    elif dtype is DType.BOOL:
        array = draw(arrays.arrays(bool, shape))
    else:
        item_bytes = dtype.numpy.itemsize
        kind = np.dtype(f"u{item_bytes}")
        array = draw(arrays.arrays(kind, shape)).view(dtype.numpy)
    if draw(st.booleans()):
        array = np.asfortranarray(array)
    return array, dtype, draw(st.booleans())


@given(tensors())
def test_a_tensor_is_written_as_the_twin_writes_it(drawn: tuple[Tensor, DType, bool]) -> None:
    assert jsonwrite.tensor(b"<", *drawn, b">") == reference.tensor(b"<", *drawn, b">")


@given(
    st.integers(0, 4).flatmap(lambda rows: st.lists(tensors(rows), min_size=1, max_size=4)),
    st.lists(st.text(), min_size=4, max_size=4),
)
def test_objects_are_written_as_the_twin_writes_them(drawn: list[tuple[Tensor, DType, bool]], names: list[str]) -> None:
    values, dtypes, b64 = zip(*drawn, strict=True)
    arguments = (b"<", tuple(names[: len(values)]), values, dtypes, b64, b">")
    assert jsonwrite.row_objects(*arguments) == reference.row_objects(*arguments)
    assert jsonwrite.column_object(*arguments) == reference.column_object(*arguments)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_a_big_tensor_is_written_by_several_threads_at_once(dtype: DType) -> None:
    item_bytes = dtype.numpy.itemsize
    array = (np.arange(20_000, dtype=np.uint64) % 251).astype(f"u{item_bytes}").view(dtype.numpy).reshape(100, 200)
    arguments = (b"", ("a",), (array,), (dtype,), (False,), b"")
    alone = [jsonwrite.tensor(b"", array, dtype, False, b""), jsonwrite.row_objects(*arguments)]
    with ThreadPoolExecutor(4) as pool:
        for answers in pool.map(
            lambda _: [jsonwrite.tensor(b"", array, dtype, False, b""), jsonwrite.row_objects(*arguments)], range(8)
        ):
            assert answers == alone
