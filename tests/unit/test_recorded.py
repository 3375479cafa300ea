"""Warm-up requests as TF Serving's users record them: read as protobuf writes them, and run before the version serves."""

import contextlib
import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto as T

from fastserve.engine.recorded import MAX_RECORDS, NAME, recorded
from fastserve.types import VersionState
from tests.support import models
from tests.support.shelf import Shelf

TYPES = {
    "float32": (1, 5),
    "float64": (2, 6),
    "int32": (3, 7),
    "uint8": (4, 7),
    "int16": (5, 7),
    "int8": (6, 7),
    "int64": (9, 10),
    "bool": (10, 11),
    "uint16": (17, 7),
    "float16": (19, 13),
    "uint32": (22, 16),
    "uint64": (23, 17),
}
"""TensorFlow's number of each type, and the field of its values."""


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def part(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def record(content: bytes) -> bytes:
    return struct.pack("<QI", len(content), 0) + content + struct.pack("<I", 0)


def head(kind: int, shape: tuple[int, ...]) -> bytes:
    return number(1, kind) + part(2, b"".join(part(2, number(1, size)) for size in shape))


def tensor(array: Any, form: str = "content") -> bytes:
    """An array in one of the forms that there are."""
    if array.dtype == object:
        return head(7, array.shape) + b"".join(part(8, text.encode()) for text in array.reshape(-1))
    kind, field = TYPES[array.dtype.name]
    values = array.reshape(-1)
    if form == "content":
        return head(kind, array.shape) + part(4, values.tobytes())
    if array.dtype.kind == "f" and array.dtype.itemsize > 2:
        if form == "packed":
            return head(kind, array.shape) + part(field, values.tobytes())
        wire = 5 if array.dtype.itemsize == 4 else 1
        return head(kind, array.shape) + b"".join(varint(field << 3 | wire) + value.tobytes() for value in values)
    if array.dtype == np.float16:
        values = values.view(np.uint16)
    if form == "packed":
        return head(kind, array.shape) + part(field, b"".join(varint(int(value)) for value in values))
    return head(kind, array.shape) + b"".join(number(field, int(value)) for value in values)


def predict(**inputs: bytes) -> bytes:
    entries = b"".join(part(2, part(1, name.encode()) + part(2, value)) for name, value in inputs.items())
    model = part(1, part(1, b"whatever it is called there"))
    return part(1, number(1, 5)) + part(6, part(1, model + entries) + part(2, b""))


def write(folder: Path, *records: bytes) -> None:
    (folder / NAME).parent.mkdir(parents=True, exist_ok=True)
    (folder / NAME).write_bytes(b"".join(record(one) for one in records))


def read(folder: Path, *records: bytes) -> Any:
    write(folder, *records)
    return recorded(folder)


@pytest.mark.parametrize("form", ["content", "packed", "one by one"])
@pytest.mark.parametrize("name", TYPES)
def test_tensors_of_every_type_and_form_are_read(tmp_path: Path, name: str, form: str):
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(name)
    if name.startswith(("int", "float")):
        array[0, 1] = -3
    (found,), others = read(tmp_path, predict(x=tensor(array, form)))
    np.testing.assert_array_equal(found["x"], array, strict=True)
    assert others == 0


def test_strings_and_several_inputs(tmp_path: Path):
    texts = np.array(["", "grün", "b"], object)
    (found,), _ = read(tmp_path, predict(text=tensor(texts), x=tensor(np.ones((1, 2), np.float32))))
    assert found["text"].tolist() == texts.tolist()
    assert found["x"].tolist() == [[1, 1]]


def test_the_last_value_stands_for_those_left_out(tmp_path: Path):
    short = head(1, (2, 2)) + part(5, np.array([1.5, 2.5], "<f4").tobytes())
    (found,), _ = read(tmp_path, predict(x=short, z=head(3, (2,))))
    assert found["x"].tolist() == [[1.5, 2.5], [2.5, 2.5]]
    assert found["z"].tolist() == [0, 0]


def test_other_requests_are_counted(tmp_path: Path):
    found, others = read(tmp_path, part(2, b""), predict(x=tensor(np.ones(1))), part(4, b"abc"))
    assert (len(found), others) == (1, 2)


def test_no_file_is_no_request(tmp_path: Path):
    assert recorded(tmp_path) == ([], 0)


BROKEN = {
    "ends beyond the file": struct.pack("<QI", 100, 0) + b"abc",
    "ends beyond its message": record(part(6, varint(1 << 3 | 2) + varint(100))),
    "a number ends": record(b"\xff"),
    "longer than 64 bits": record(b"\xff" * 11),
    "wire type 3": record(varint(1 << 3 | 3)),
    "TensorFlow's type 8": record(predict(x=head(8, (1,)))),
    "not known": record(predict(x=head(1, (-1,)))),
    "too large": record(predict(x=head(1, (1 << 40,)))),
    "has 2 values": record(predict(x=head(3, (1,)) + part(7, b"\1\1"))),
    f"more than {MAX_RECORDS} records": record(b"") * (MAX_RECORDS + 1),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_what_is_broken_is_told(tmp_path: Path, reason: str):
    write(tmp_path)
    (tmp_path / NAME).write_bytes(BROKEN[reason])
    with pytest.raises(ValueError, match=reason):
        recorded(tmp_path)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    folder = tmp_path_factory.getbasetemp() / "any"
    write(folder, predict(x=content), content)
    with contextlib.suppress(ValueError):
        recorded(folder)
    (folder / NAME).write_bytes(content)
    with contextlib.suppress(ValueError):
        recorded(folder)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def pair() -> Any:
    return models.build(
        [models.node("Add", "x x", "y")],
        [models.tensor("x", ["N", 2], T.FLOAT)],
        [models.tensor("y", ["N", 2], T.FLOAT)],
    )


GOOD = predict(x=tensor(np.ones((3, 2), np.float32)))


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([GOOD, GOOD], "2 recorded warm-up requests were run"),
        ([GOOD, part(2, b"")], "1 of other calls than predict not applied"),
        ([predict(z=tensor(np.ones((3, 2), np.float32)))], 'not applied: the model takes the inputs "x"'),
        ([predict(x=tensor(np.ones((3, 3), np.float32)))], "not applied: expected shape"),
        ([b"\xff"], "not applied: a number ends beyond its message"),
    ],
)
def test_they_are_run_before_the_version_serves_and_never_keep_it_from_that(
    shelf: Shelf, caplog: pytest.LogCaptureFixture, records: list[bytes], told: str
):
    write(shelf.put("m", pair()).parent, *records)
    with caplog.at_level(logging.INFO), shelf.engine() as engine:
        (status,) = engine.status("m")
        assert status.state is VersionState.READY
    assert any(told in message for message in caplog.messages), caplog.messages
