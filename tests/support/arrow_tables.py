"""Tables of records by hand: a schema as public.Schema, a stream, and the rows that come of it."""

from base64 import b64encode
from typing import Any

import pyarrow as pa

from fastserve.protocols.arize.frame import Head, pack
from fastserve.protocols.arize.reader import read_table
from fastserve.protocols.arize.rules import Limits
from fastserve.protocols.arize.table import Records
from fastserve.store.frames import Frame, Kind
from fastserve.store.rows import Row

NOW_NS = 1_795_000_000_000_000_000
NOW_S = NOW_NS // 10**9
NUMERIC, SCORED, RANKING, MULTI_CLASS = 2, 4, 5, 8

CONSTANTS = {"model_id": 1, "model_version": 2, "batch_id": 3}
TEXTS = {
    "prediction_id": 1,
    "timestamp": 3,
    "prediction_label": 4,
    "prediction_score": 5,
    "actual_label": 6,
    "actual_score": 7,
    "actual_numeric_sequence": 10,
    "environment_column": 12,
    "version_column": 13,
    "batch_column": 14,
    "prediction_group_id": 15,
    "rank": 16,
    "retrieved_document_ids": 23,
    "threshold_scores": 24,
}
LISTS = {"features": 2, "tags": 9}
BOXES = {"prediction_boxes": 18, "actual_boxes": 19, "prediction_segments": 25, "actual_instances": 28}


def varint(value: int) -> bytes:
    """A number as protobuf has it."""
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: bytes | str | int) -> bytes:
    """A field of a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def schema(model_type: int = SCORED, environment: int = 3, **columns: Any) -> bytes:
    """public.Schema by hand."""
    constants = b"".join(field(number, columns.pop(name, "")) for name, number in CONSTANTS.items())
    constants += field(4, environment) + field(5, model_type)
    body = b""
    for name, value in columns.items():
        if name in TEXTS:
            body += field(TEXTS[name], value)
        elif name in LISTS:
            body += b"".join(field(LISTS[name], one) for one in value)
        elif name == "shap_values":
            body += b"".join(field(8, field(1, key) + field(2, one)) for key, one in value.items())
        elif name == "embeddings":
            for key, parts in value.items():
                body += field(17, field(1, key) + field(2, b"".join(field(i, one) for i, one in parts.items())))
        elif name == "documents":
            parts = (field(i, one if isinstance(one, str) else schema_parts(one)) for i, one in value.items())
            body += field(22, b"".join(parts))
        elif name in BOXES:
            body += field(BOXES[name], b"".join(field(i, one) for i, one in value.items()))
        else:
            body += field(
                {"prompt_template": 20, "llm_config": 21}[name], b"".join(field(i, one) for i, one in value.items())
            )
    return field(1, constants) + field(4, body)


def schema_parts(parts: dict[int, str]) -> bytes:
    """A message of texts."""
    return b"".join(field(i, one) for i, one in parts.items())


def stream(table: pa.Table, told: bytes | None, options: Any = None, batch_rows: int | None = None) -> bytes:
    """An Arrow IPC stream."""
    metadata = {} if told is None else {b"arize-schema": b64encode(told)}
    table = table.replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=batch_rows)
    return sink.getvalue().to_pybytes()


def kept(body: bytes) -> list[Row]:
    """Its rows, checked first."""
    records = Records(body)
    records.check(NOW_NS, Limits())
    return list(read_table(Frame(Kind.ARROW, 77, 1000, pack(Head("s", "made"), body))))


def one(columns: dict[str, Any], batch_rows: int | None = None, **told: Any) -> list[Row]:
    """The rows of these columns; `told`: of the schema."""
    told = {"model_id": "m", **told}
    if "prediction_id" not in told and "id" not in columns:
        columns = {"id": pa.array([f"p{i}" for i in range(len(next(iter(columns.values()))))]), **columns}
    if "id" in columns:
        told = {"prediction_id": "id", **told}
    return kept(stream(pa.table(columns), schema(**told), batch_rows=batch_rows))
