"""Which rows a deletion is about: those of its prediction that came before it. Pure.

Memory: numbers are looked at first, texts only where they are the same.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastserve.store.catalogue import Tombstone
from fastserve.store.columns import KEY, key_of

NARROW = ("model_id", "prediction_id", "space", "seq", KEY)
"""The columns that it takes to know."""


def without_deleted(table: pa.Table, tombstones: Iterable[Tombstone]) -> pa.Table:
    """The rows that no tombstone is about."""
    gone = doomed_in(table, tombstones)
    if not gone:
        return table
    keep = np.ones(table.num_rows, bool)
    keep[gone] = False
    return table.filter(pa.array(keep))


def doomed_in(table: pa.Table, tombstones: Iterable[Tombstone]) -> list[int]:
    """Indices of the rows that a tombstone is about."""
    doomed: dict[int, list[Tombstone]] = defaultdict(list)
    for one in tombstones:
        doomed[key_of(one.model_id, one.prediction_id)].append(one)
    if not doomed:
        return []
    indices = pc.indices_nonzero(pc.is_in(table.column(KEY), pa.array(list(doomed), pa.uint64())))
    rows = table.select(NARROW).take(indices).to_pylist()
    return [
        index
        for index, row in zip(indices.to_pylist(), rows, strict=True)
        if any(_is_about(one, row) for one in _of(doomed, row))
    ]


def _of(doomed: Mapping[int, Sequence[Tombstone]], row: Mapping[str, object]) -> Sequence[Tombstone]:
    key = row[KEY]
    assert isinstance(key, int)
    return doomed[key]


def _is_about(one: Tombstone, row: Mapping[str, object]) -> bool:
    seq = row["seq"]
    assert isinstance(seq, int)
    named = (one.model_id, one.prediction_id) == (row["model_id"], row["prediction_id"])
    return named and one.space in (None, row["space"]) and seq < one.seq
