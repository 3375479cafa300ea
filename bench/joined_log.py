"""A prediction log of many records, made in seconds: the files that compaction would have written, from columns.

Memory: a file's columns at a time.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fastserve.store import columns, parts, superseded
from fastserve.store.catalogue import Catalogue, Change
from fastserve.store.disk import DISK
from fastserve.store.rows import Row


def template(**fields: Any) -> Row:
    """A row of the model `m` whose number, time and name are still to come."""
    nothing = {"space": "", "version": "1", "environment": "production", "batch_id": "", "prediction_id": ""}
    return Row(**{**nothing, "model_id": "m", "ts_ns": 0, "ingest_ns": 0, "seq": 0, **fields})


def repeated(row: Row, ids: Any, happened_ns: Any, filled: Mapping[str, Any]) -> pa.Table:
    """`row` for each of `ids`, with the columns `filled` instead of its own."""
    names = [f"{number * 2654435761 % 2**32:08x}-{number:08x}" for number in ids.tolist()]
    happened = pa.array(happened_ns // 1000).cast(pa.timestamp("us"))
    table = pa.concat_tables([columns.table_of([row])]).take(pa.array(np.zeros(len(ids), np.int64)))
    own = {
        "prediction_id": pa.array(names),
        "key": pa.array([columns.key_of(row.model_id, name) for name in names], pa.uint64()),
        "ts": happened,
        "ts_ns": pa.array(happened_ns),
        "ingest_ts": happened,
        "ingest_ns": pa.array(happened_ns),
        "seq": pa.array(ids * 2 + (row.kind == "actual"), pa.uint64()),
    }
    for name, values in {**own, **filled}.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), values)
    return table


def keep(directory: Path, tables: Iterable[pa.Table]) -> None:
    """Each table in files of its own, a day each."""
    catalogue = Catalogue(directory, writes=True)
    for table in tables:
        files = [parts.write(directory, "m", date, day, own, DISK) for date, day, own in parts.by_day(table)]
        catalogue.apply(Change(new=files), int(table.column("ts_ns")[0].as_py()))
    superseded.keep(directory, catalogue.state().files, {}, DISK)
    catalogue.close()
