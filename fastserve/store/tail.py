"""What was acknowledged and is in no Parquet file yet: segments, decoded once and kept as tables.

Thread: one at a time. Memory: what the segments hold that are not compacted yet; it is let go when they are.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from msgspec import Struct

from fastserve.store import columns
from fastserve.store.catalogue import SegmentName, Tombstone
from fastserve.store.errors import SegmentUnreadable
from fastserve.store.folder import Segment, listed, scan
from fastserve.store.frames import Frame, Kind
from fastserve.store.rows import Readers, Row
from fastserve.store.tombstones import decode_tombstone

ROWS_AT_ONCE = 8192
"""Rows that are objects at one time; a table takes a fraction of their memory."""

_log = logging.getLogger(__name__)


class Decoded(Struct):
    """What a segment held, up to `end`. `tables`: by model, in the order of the rows. `lost`: frames that nobody can read."""

    end: int = 0
    tables: dict[str, list[pa.Table]] = {}
    tombstones: list[Tombstone] = []
    lost: int = 0


class Seen(Struct, frozen=True):
    """All that is not compacted, at one moment."""

    tables: Mapping[str, Sequence[pa.Table]]
    tombstones: Sequence[Tombstone]


def decode(segment: Segment, readers: Readers, into: Decoded) -> bool:
    """Add what is new in a segment since `into` was decoded; whether anything was.

    Raises FileNotFoundError where it was compacted and removed meanwhile, SegmentUnreadable where it is no segment.
    """
    start = into.end
    found = scan(segment, start)
    rows: dict[str, list[Row]] = defaultdict(list)
    waiting = 0
    for frame in found:
        for row in _rows(frame, readers, into):
            rows[row.model_id].append(row)
            waiting += 1
        if waiting >= ROWS_AT_ONCE:
            _flush(rows, into)
            waiting = 0
    _flush(rows, into)
    into.end = found.end
    into.lost += len(found.damage)
    return into.end != start


def _rows(frame: Frame, readers: Readers, into: Decoded) -> list[Row]:
    if frame.kind == Kind.TOMBSTONE:
        into.tombstones.append(decode_tombstone(frame))
        return []
    reader = readers.get(frame.kind)
    if reader is None:
        into.lost += 1
        return []
    try:
        return list(reader(frame))
    except Exception:  # a frame that one version took and another cannot read must not hide all others
        _log.exception("a record of the prediction log cannot be read")
        into.lost += 1
        return []


def _flush(rows: dict[str, list[Row]], into: Decoded) -> None:
    for model, found in rows.items():
        into.tables.setdefault(model, []).append(columns.table_of(found))
    rows.clear()


class Tail:
    """The segments that no Parquet file has."""

    def __init__(self, directory: Path, readers: Readers) -> None:
        self._directory = directory
        self._readers = readers
        self._decoded: dict[SegmentName, Decoded] = {}
        self._sealed: set[SegmentName] = set()

    def look(self, compacted: frozenset[SegmentName]) -> Seen:
        """All there is now. Raises FileNotFoundError where a segment went meanwhile: ask the catalogue again."""
        segments = [one for one in listed(self._directory) if one.name not in compacted]
        there = {one.name for one in segments}
        for name in [name for name in self._decoded if name not in there]:
            del self._decoded[name]
            self._sealed.discard(name)
        for segment in segments:
            if segment.name in self._sealed:
                continue
            decoded = self._decoded.setdefault(segment.name, Decoded())
            try:
                if decode(segment, self._readers, decoded):
                    _shorten(decoded)
            except SegmentUnreadable as error:
                if segment.sealed:  # one that was made just now has no header yet
                    _log.error("%s: %s", segment.path.name, error)
            if segment.sealed:
                self._sealed.add(segment.name)
        tables: dict[str, list[pa.Table]] = defaultdict(list)
        for decoded in self._decoded.values():
            for model, found in decoded.tables.items():
                tables[model] += found
        return Seen(tables, [one for decoded in self._decoded.values() for one in decoded.tombstones])


def _shorten(decoded: Decoded) -> None:
    """Looked at after each record, there would be a table for each: small ones are put together, as their sizes double."""
    for model, tables in decoded.tables.items():
        while len(tables) > 1 and tables[-1].num_rows * 2 >= tables[-2].num_rows:
            last = tables.pop()
            tables[-1] = columns.joined([tables[-1], last]).combine_chunks()
        decoded.tables[model] = tables
