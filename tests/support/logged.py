"""A log without a log: DuckDB tables shaped like the views that the store's reader gives."""

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

DAY_NS = 86_400_000_000_000
START_NS = 20_000 * DAY_NS
"""2024-10-04T00:00:00Z."""

TEXT = pa.string()
PREDICTION = {
    "space": TEXT,
    "model_id": TEXT,
    "version": TEXT,
    "environment": TEXT,
    "batch_id": TEXT,
    "prediction_id": TEXT,
    "ts_ns": pa.int64(),
    "seq": pa.uint64(),
    "label_num": pa.float64(),
    "label_cat": TEXT,
    "score": pa.float64(),
    "label_json": TEXT,
}
ACTUAL = {
    "space": TEXT,
    "prediction_id": TEXT,
    "model_id": TEXT,
    "environment": TEXT,
    "ts_ns": pa.int64(),
    "label_num": pa.float64(),
    "label_cat": TEXT,
    "score": pa.float64(),
    "label_json": TEXT,
}
JOINED = """create view joined as select p.*, a.label_num actual_num, a.label_cat actual_cat,
  a.score actual_score, a.label_json actual_json, a.ts_ns actual_ts_ns, (a.ts_ns - p.ts_ns) / 1e9 label_delay_s
  from predictions p left join actuals a on p.model_id = a.model_id and p.prediction_id = a.prediction_id
    and p.space is not distinct from a.space"""


def connection(
    predictions: Mapping[str, Sequence[Any]], actuals: Mapping[str, Sequence[Any]] | None = None
) -> duckdb.DuckDBPyConnection:
    """Columns by name; those left out have usual values: model `m`, environment production, ids `0`, `1`, ...."""
    made = duckdb.connect(config={"threads": 2})
    for view, given, kinds in (("predictions", predictions, PREDICTION), ("actuals", actuals or {}, ACTUAL)):
        made.register(f"{view}_given", _table(given, kinds))
        made.execute(f"create table {view} as select * from {view}_given")
    made.execute(JOINED)
    return made


def _table(given: Mapping[str, Sequence[Any]], kinds: Mapping[str, pa.DataType]) -> pa.Table:
    rows = max((len(values) for values in given.values()), default=0)
    usual: dict[str, Sequence[Any]] = {
        "model_id": ["m"] * rows,
        "environment": ["production"] * rows,
        "prediction_id": [str(number) for number in range(rows)],
        "ts_ns": [START_NS + number for number in range(rows)],
        "seq": range(rows),
    }
    columns = {
        name: pa.array(given.get(name, usual.get(name, [None] * rows)), type=kind) for name, kind in kinds.items()
    }
    return pa.table(columns | {name: pa.array(values) for name, values in given.items() if name not in kinds})
