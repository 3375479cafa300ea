"""Tables made to hurt: schemas that are none, what unfolds, what breaks off, what is damaged."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve.errors import FastServeError
from fastserve.http.status import STATUS
from fastserve.protocols.arize import arrow
from fastserve.protocols.arize.table import Records
from fastserve.protocols.arize.table_schema import SCHEMA, message
from tests.support.arrow_tables import field, kept, schema, stream

GOOD = pa.table({"id": ["a"], "f": [1]})


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (None, "got none"),
        (b"\xff\xff", "cut"),
        (b"\x0a\x05a", "cut"),
        (field(1, field(1, "m")), "another kind of schema"),
        (field(4, 7), "another type"),
        (b"\x80" * 20, "without end"),
        (field(4, field(2, "a\0b")), "NUL"),
        (field(4, field(2, b"\xff")), "utf-8"),
        (b"\x0b", "no protobuf"),
    ],
)
def test_schemas_that_are_none(told: bytes | None, message: str) -> None:
    with pytest.raises(FastServeError, match=message):
        Records(stream(GOOD, told))


def test_a_schema_must_be_base64() -> None:
    sink = pa.BufferOutputStream()
    table = GOOD.replace_schema_metadata({b"arize-schema": b"???"})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(FastServeError, match="base64"):
        Records(sink.getvalue().to_pybytes())


@given(st.binary(max_size=60))
def test_any_bytes_are_a_schema_or_a_value_error(data: bytes) -> None:
    try:
        message(data, SCHEMA)
    except ValueError:
        return


TOLD = schema(model_id="m", prediction_id="id", features=["f"])


def test_compressed_streams_are_refused() -> None:
    table = pa.table({"id": ["a"] * 100_000, "f": [1] * 100_000})
    body = stream(table, TOLD, pa.ipc.IpcWriteOptions(compression="zstd"))
    with pytest.raises(FastServeError, match="without compression"):
        Records(body)


def test_rows_that_take_no_bytes_are_refused() -> None:
    table = pa.table({"id": pa.nulls(900_000), "f": pa.nulls(900_000)})
    with pytest.raises(FastServeError, match="rows"):
        Records(stream(table, TOLD))


def test_texts_that_unfold_are_refused() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int8()), pa.array(["x" * 100_000]))
    with pytest.raises(FastServeError, match="far larger"):
        Records(stream(pa.table({"id": column, "f": column}), TOLD))


def test_the_same_bytes_in_many_columns_are_refused() -> None:
    """Buffers are places in the body: a stream may name one of them for every column."""
    count, size = 64, 800_000
    wide = pa.table({f"c{i}": np.full(size // 8, i) for i in range(count)})
    body = stream(wide, TOLD)
    head, data = bytearray(body[: -size * count - 8]), body[-size * count - 8 :]
    for i in range(1, count):
        at = head.rindex(b"".join(number.to_bytes(8, "little") for number in (size * i, size)))
        head[at : at + 8] = bytes(8)
    body = (
        bytes(head.replace((size * count).to_bytes(8, "little"), size.to_bytes(8, "little"), 1))
        + data[:size]
        + data[-8:]
    )
    assert pa.ipc.open_stream(body).read_all().nbytes == size * count
    with pytest.raises(FastServeError, match="several times"):
        Records(body)


@pytest.mark.parametrize("rows", [100, 1])
def test_a_stream_that_breaks_off_is_refused(rows: int) -> None:
    table = pa.table({"id": [str(i) for i in range(100)], "f": list(range(100))})
    body = stream(table, TOLD, batch_rows=rows)
    assert len(kept(body)) == 100
    for end in (*range(0, len(body), max(1, len(body) // 200)), len(body) - 1):
        with pytest.raises(FastServeError):
            Records(body[:end])


def test_columns_with_one_name_are_refused() -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["f", "f"])
    with pytest.raises(FastServeError, match="twice"):
        Records(stream(table, TOLD))


SOUND = stream(
    pa.table(
        {
            "id": ["a", "b", "c"],
            "f": pa.array(["u", "v", "u"]).dictionary_encode(),
            "v": [[1.0, 2.0], [], None],
            "n": [1, 2, 3],
        }
    ),
    schema(model_id="m", prediction_id="id", features=["f", "v"], prediction_label="n"),
)


@settings(max_examples=300)
@given(changes=st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_stream_is_kept_or_refused(changes: list[tuple[int, int]]) -> None:
    body = bytearray(SOUND)
    for at, byte in changes:
        body[at] = byte
    try:
        kept(bytes(body))
    except FastServeError as error:
        refused = error
    else:
        return
    assert STATUS[refused.code] == 400


def test_without_pyarrow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(arrow.NeedsExtra, match=r"fastserve\[log\]"):
        arrow.open_table(SOUND)
