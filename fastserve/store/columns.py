"""Rows to Arrow tables and back. Needs pyarrow (the extra `log`).

A feature, tag or importance has a column for each type that it came with, so a model whose clients disagree loses nothing:
`f.age:int64`, `f.age:string`. These are the names in files; `views` shows people `f.age` where there is no doubt. DuckDB
takes names that differ in case for one, so a name that is not in lower case has a digest beside it. The original name
stands in the field's metadata.

Thread: any. Memory: a table owns its buffers; a column costs its rows whether they have a value or not, so what is rare in a
crowd of columns goes to one column for the rest.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pyarrow as pa
from msgspec import Struct

from fastserve.store.rows import Row, Value

MAX_COLUMNS = 1000
"""Of features, tags and importances in one table."""

MAX_NAME_CHARS = 200
INT64 = range(-(1 << 63), 1 << 63)
KEY, ROLE, REST = "key", "role", "rest"

TYPES: dict[str, pa.DataType] = {
    "int64": pa.int64(),
    "double": pa.float64(),
    "string": pa.string(),
    "strings": pa.list_(pa.string()),
    "vector": pa.list_(pa.float64()),
}
PARTS = {"f": "features", "t": "tags", "i": "importances"}

_TEXTS = ("space", "model_id", "version", "environment", "batch_id", "prediction_id", "kind")
FIXED = pa.schema(
    [
        *((name, pa.string()) for name in _TEXTS),
        ("ts", pa.timestamp("us")),
        ("ts_ns", pa.int64()),
        ("ingest_ts", pa.timestamp("us")),
        ("ingest_ns", pa.int64()),
        ("seq", pa.uint64()),
        (KEY, pa.uint64()),
        (ROLE, pa.string()),
        ("label_num", pa.float64()),
        ("label_cat", pa.string()),
        ("score", pa.float64()),
        ("label_json", pa.string()),
        ("extras", pa.binary()),
        ("digest", pa.binary()),
        (REST, pa.binary()),
    ]
)
"""What every table has. `key`: of model and prediction id, to find and join by; `role`: the rows of one prediction and role
take each other's place, the last one wins; `extras`, `rest`: msgpack."""

_AS_IS = (*_TEXTS, "ts_ns", "ingest_ns", "seq", "label_num", "label_cat", "score", "label_json", "digest")


class Column(Struct, frozen=True, order=True):
    """Where values of one type of one feature (part f), tag (t) or importance (i) are."""

    part: str
    name: str
    type: str

    @property
    def physical(self) -> str:
        """Its name in tables and files, one that no other column has in whatever case."""
        is_plain = is_showable(self.name) and self.name.lower() == self.name
        return f"{self.part}.{self.name if is_plain else marked(self.name)}:{self.type}"


def is_showable(name: str) -> bool:
    """Whether people and SQL can be shown it as it is."""
    return name.isprintable() and len(name) <= MAX_NAME_CHARS


def marked(name: str) -> str:
    """Something like it that no other name is shown as."""
    shown = "".join(char if char.isprintable() else "\ufffd" for char in name[:MAX_NAME_CHARS])
    return f"{shown}~{_digest(name.encode('utf-8', 'surrogatepass'), 4).hex()}"


def key_of(model_id: str, prediction_id: str) -> int:
    """What rows of one prediction are found by; others may share it."""
    text = f"{len(model_id)}:{model_id}{prediction_id}"
    return int.from_bytes(_digest(text.encode("utf-8", "surrogatepass"), 8), "little")


def role_of(row: Row) -> str:
    """An actual with nothing but tags takes no actual's place: it adds its tags to it."""
    is_bare = row.label_num is None and row.label_cat is None and row.label_json is None and row.score is None
    return "tags" if row.kind == "actual" and is_bare else row.kind


def table_of(rows: Sequence[Row]) -> pa.Table:
    """The rows, in their order."""
    values: dict[Column, dict[int, Any]] = {}
    for index, row in enumerate(rows):
        for part, named in (("f", row.features), ("t", row.tags), ("i", row.importances)):
            for name, value in named.items():
                kind, stored = _typed(value)
                values.setdefault(Column(part, name, kind), {})[index] = stored
    rest = _crowded_out(values)
    columns = {name: [getattr(row, name) for row in rows] for name in _AS_IS}
    columns["ts"] = [row.ts_ns // 1000 for row in rows]
    columns["ingest_ts"] = [row.ingest_ns // 1000 for row in rows]
    columns[KEY] = [key_of(row.model_id, row.prediction_id) for row in rows]
    columns[ROLE] = [role_of(row) for row in rows]
    columns["extras"] = [msgspec.msgpack.encode(row.extras) if row.extras else None for row in rows]
    columns[REST] = [rest.get(index) for index in range(len(rows))]
    arrays = [_array(columns[field.name], field.type) for field in FIXED]
    fields = list(FIXED)
    for column in sorted(values):
        found = values[column]
        arrays.append(_array([found.get(index) for index in range(len(rows))], TYPES[column.type]))
        fields.append(field_of(column))
    return pa.table(arrays, schema=pa.schema(fields))


def field_of(column: Column) -> pa.Field:
    """The column as Arrow has it; its own name in the metadata."""
    name = column.name.encode("utf-8", "replace")
    return pa.field(column.physical, TYPES[column.type], metadata={b"part": column.part.encode(), b"name": name})


def columns_of(schema: pa.Schema) -> list[Column]:
    """The features, tags and importances of a table."""
    return [found for found in map(_column_of, schema) if found is not None]


def rows_of(table: pa.Table) -> list[Row]:
    """The rows that `table_of` made it of."""
    columns = [(column, table.column(column.physical).to_pylist()) for column in columns_of(table.schema)]
    fixed = {name: table.column(name).to_pylist() for name in (*_AS_IS, "extras", REST)}
    rows = []
    for index in range(table.num_rows):
        named: dict[str, dict[str, Any]] = {"f": {}, "t": {}, "i": {}}
        for column, found in columns:
            if found[index] is not None:
                named[column.part][column.name] = found[index]
        for part, name, value in msgspec.msgpack.decode(fixed[REST][index]) if fixed[REST][index] else ():
            named[part][name] = value
        extras = fixed["extras"][index]
        values: dict[str, Any] = {name: fixed[name][index] for name in _AS_IS}
        values |= {PARTS[part]: own for part, own in named.items()}
        values["extras"] = msgspec.msgpack.decode(extras) if extras else {}
        rows.append(Row(**values))
    return rows


def joined(tables: Iterable[pa.Table]) -> pa.Table:
    """One below the other, each with the columns of all. At least one."""
    return pa.concat_tables(tables, promote_options="default")


def _column_of(field: pa.Field) -> Column | None:
    metadata = field.metadata
    if not metadata or b"part" not in metadata:
        return None
    return Column(metadata[b"part"].decode(), metadata[b"name"].decode(), field.name.rpartition(":")[2])


def _typed(value: Value) -> tuple[str, Any]:
    """Its column's type, and what stands in it."""
    if isinstance(value, bool):
        return "string", str(value)
    if isinstance(value, int):
        return ("int64", value) if value in INT64 else ("string", str(value))
    if isinstance(value, float):
        return "double", value
    if isinstance(value, str):
        return "string", value
    if value and not isinstance(value[0], str):
        return "vector", value
    return "strings", value


def _crowded_out(values: dict[Column, dict[int, Any]]) -> dict[int, bytes]:
    """Takes the rarest columns out of `values` where there are too many; their values by row, as msgpack."""
    if len(values) <= MAX_COLUMNS:
        return {}
    often = Counter({column: len(found) for column, found in values.items()})
    rest: dict[int, list[tuple[str, str, Any]]] = {}
    for column in sorted(often, key=lambda column: (-often[column], column))[MAX_COLUMNS:]:
        for index, value in values.pop(column).items():
            rest.setdefault(index, []).append((column.part, column.name, value))
    return {index: msgspec.msgpack.encode(found) for index, found in rest.items()}


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON may write and UTF-8 may not
        return pa.array([_whole(value) for value in values], kind)


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _digest(data: bytes, size: int) -> bytes:
    return hashlib.blake2b(data, digest_size=size).digest()
