"""Binary tensors against their plain twin: the same arrays bit for bit, the same refusals, nothing past the body."""

import struct
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve._ext import binarytensor
from fastserve.errors import InvalidTensor
from fastserve.types import DType, Tensor
from tests.reference import binarytensor as reference

NUMBERS = [dtype for dtype in DType if dtype is not DType.STRING]
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
HUGE = [2**31, 2**32, 2**62, 2**63 - 1]


def outcome(read: Any, *arguments: Any) -> Any:
    """The array as what it is, or that it was refused."""
    try:
        array = read(*arguments)
    except (reference.Refused, ValueError, InvalidTensor, OverflowError):
        return "refused"
    return array.dtype, array.shape, array.tolist() if array.dtype == object else array.tobytes()


@given(st.data())
def test_numbers_are_what_the_bytes_say(data: st.DataObject):
    dtype, shape = data.draw(st.sampled_from(NUMBERS)), data.draw(SHAPES)
    size = int(np.prod(shape)) * dtype.numpy.itemsize
    before, after = data.draw(st.binary(max_size=9)), data.draw(st.binary(max_size=9))
    body = before + data.draw(st.binary(min_size=size, max_size=size)) + after
    arguments = (body, len(before), size, dtype, shape)
    assert outcome(binarytensor.view, *arguments) == outcome(reference.view, *arguments) != "refused"


@given(
    st.binary(max_size=64),
    st.integers(-2, 70),
    st.integers(-2, 70),
    st.sampled_from(NUMBERS),
    st.lists(st.integers(-1, 9) | st.sampled_from(HUGE), max_size=4).map(tuple),
)
def test_claims_are_compared_with_what_is_there(body: bytes, offset: int, size: int, dtype: DType, shape: Any):
    arguments = (body, offset, size, dtype, shape)
    assert outcome(binarytensor.view, *arguments) == outcome(reference.view, *arguments)


@pytest.mark.parametrize(
    "shape", [(2**62, 4), (2**32, 2**32), (2**63 - 1, 2**63 - 1), (0, 2**62, 2**62), (1,) * 65, (2**61, 8, 0)]
)
def test_shapes_that_no_array_has(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="expected"):
        binarytensor.view(b"", 0, 0, DType.FLOAT, shape)
    with pytest.raises(ValueError, match="expected"):
        binarytensor.strings(b"", 0, 0, shape, "$")


def test_a_dimension_past_64_bits_is_no_crash():
    with pytest.raises(OverflowError):
        binarytensor.view(b"", 0, 0, DType.FLOAT, (2**64,))


def test_numbers_stay_where_they_are():
    body = b"abc" + np.arange(4, dtype=np.float32).tobytes()
    array = binarytensor.view(body, 3, 16, DType.FLOAT, (2, 2))
    assert not array.flags.writeable
    assert not array.flags.owndata
    assert array.flags.c_contiguous
    inside = array.__array_interface__["data"][0] - np.frombuffer(body, np.uint8).__array_interface__["data"][0]
    assert inside == 3
    assert array.flags.aligned == (array.__array_interface__["data"][0] % 4 == 0)


def test_the_body_lives_as_long_as_its_arrays():
    body = bytes(bytearray(64))
    before = sys.getrefcount(body)
    array = binarytensor.view(body, 0, 64, DType.FLOAT, (16,))
    assert sys.getrefcount(body) == before + 1
    del array
    assert sys.getrefcount(body) == before


@pytest.mark.parametrize("dtype", [0, -1, 8, 14, 15, 17, 1 << 30])
def test_types_that_are_no_numbers(dtype: int):
    with pytest.raises(ValueError, match="ONNX type of numbers"):
        binarytensor.view(b"", 0, 0, dtype, ())


@given(st.binary(max_size=40))
def test_odd_bools_are_true(body: bytes):
    array = binarytensor.view(body, 0, len(body), DType.BOOL, (len(body),))
    assert array.tobytes() == bytes(byte != 0 for byte in body)


# ---- strings --------------------------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=6), max_size=8), st.binary(max_size=5), st.binary(max_size=5))
def test_strings_come_back(items: list[str], before: bytes, after: bytes):
    array = np.array([*items, None], object)[:-1]
    packed = binarytensor.pack(array)
    assert packed == reference.pack(array)
    back = binarytensor.strings(before + packed + after, len(before), len(packed), (len(items),), "$")
    assert back.tolist() == items


LENGTHS = st.sampled_from([0, 1, 2, 3, 5, 255, 256, 2**31 - 1, 2**31, 2**32 - 1]).map(lambda n: struct.pack("<I", n))


@given(st.lists(LENGTHS | st.binary(max_size=5), max_size=6), SHAPES | st.integers(0, 6).map(lambda n: (n,)))
def test_any_bytes_as_strings(parts: list[bytes], shape: tuple[int, ...]):
    body = b"".join(parts)
    ours = outcome(binarytensor.strings, body, 0, len(body), shape, "$")
    assert ours == outcome(reference.strings, body, 0, len(body), shape)


@pytest.mark.parametrize(
    ("body", "shape", "error"),
    [
        (b"\1\0\0", (1,), "expected 4 bytes with the length of element 0, got 3 - at `$.t`"),
        (b"\5\0\0\0abc", (1,), "expected 5 bytes of element 0, as its length says, got 3 - at `$.t`"),
        (b"\xff\xff\xff\xffabc", (1,), "expected 4294967295 bytes of element 0, as its length says, got 3 - at `$.t`"),
        (b"\0\0\0\0" * 3, (2,), "expected 2 elements, got 4 bytes more - at `$.t`"),
        (b"\0\0\0\0", (2, 1), "expected 2 elements, got 1 - at `$.t`"),
        (b"\0\0\0\0" + b"\1\0\0\0\xff", (2, 1), "expected UTF-8 text, got bytes that are not UTF-8 - at `$.t[1][0]`"),
        (b"", (0, 3), None),
        (b"x", (0,), "expected 0 elements, got 1 bytes more - at `$.t`"),
    ],
)
def test_errors_name_the_element(body: bytes, shape: tuple[int, ...], error: str | None):
    if error is None:
        assert binarytensor.strings(body, 0, len(body), shape, "$.t").shape == shape
        return
    with pytest.raises(InvalidTensor) as raised:
        binarytensor.strings(body, 0, len(body), shape, "$.t")
    assert str(raised.value) == error


def test_what_is_no_text_of_its_own():
    array = np.array(["a\udc80", b"\xff\0", ""], object)
    assert binarytensor.pack(array) == reference.pack(array)


@pytest.mark.parametrize("item", [None, 1, 1.5, ["a"]])
def test_only_strings_are_packed(item: Any):
    array = np.empty(1, object)
    array[0] = item
    with pytest.raises(TypeError, match="expected str"):
        binarytensor.pack(array)


def test_numbers_are_not_packed():
    with pytest.raises(ValueError, match="expected an array of objects"):
        binarytensor.pack(np.zeros(1))


# ---- answers --------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=20) | SHAPES.map(lambda shape: np.ones(shape, np.float32)), max_size=5))
def test_parts_follow_each_other(parts: list[Any]):
    assert binarytensor.join(tuple(parts)) == reference.join(tuple(parts))


def test_large_parts():
    large: Tensor = np.arange(100_000, dtype=np.int32)
    assert binarytensor.join((b"head", large, b"x" * 70_000)) == b"head" + large.tobytes() + b"x" * 70_000


@pytest.mark.parametrize("part", ["text", None, 5, bytearray(b"x")])
def test_only_bytes_and_arrays_are_joined(part: Any):
    with pytest.raises(TypeError, match="expected bytes and arrays"):
        binarytensor.join((part,))


@pytest.mark.parametrize("array", [np.array(["a"], object), np.zeros((4, 4))[:, ::2]])
def test_only_plain_memory_is_joined(array: Tensor):
    with pytest.raises(ValueError, match="expected contiguous arrays of numbers"):
        binarytensor.join((array,))
