"""Sealed segments become Parquet files, each record exactly once, whatever crashes when.

Files are written and synced, then one transaction of the catalogue says that they count and that the segments are done, then
the segments are deleted. What a crash leaves is either files that the catalogue does not know, which are removed, or segments
that it knows are done, which are deleted: nothing is ever in doubt.
The same transaction replaces files: where rows of theirs are deleted, where they are old, where there are many small ones.

Thread: one, of the only process that holds `compactor.lock`.
Memory: the tables of one round, a few times what its segments take on disk.
"""

import logging
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
from msgspec import Struct

from fastserve.store import columns, parts, superseded
from fastserve.store.catalogue import Catalogue, Change, File, SegmentName, State, Tombstone
from fastserve.store.deleting import NARROW, doomed_in, without_deleted
from fastserve.store.disk import DISK, Disk
from fastserve.store.errors import SegmentUnreadable
from fastserve.store.folder import Segment, listed
from fastserve.store.parts import DAY_NS
from fastserve.store.recovery import adopt
from fastserve.store.rows import Readers
from fastserve.store.tail import Decoded, decode

LOCK = "compactor.lock"
KEPT = ".unreadable"
ROUND_BYTES = 128 << 20
"""Of segments that are compacted at once; one is always taken."""

GRACE_NS = 120 * 1_000_000_000
"""A file that stopped to count stays so long for those who are reading it."""

TOMBSTONES_KEPT_NS = DAY_NS
"""What was written before a deletion is compacted long before that."""

MERGE_FROM_FILES = 8
MERGED_BYTES = 256 << 20

_log = logging.getLogger(__name__)


class Report(Struct):
    """What a round did."""

    segments: int = 0
    rows: int = 0
    files: int = 0
    dropped_files: int = 0

    def __bool__(self) -> bool:
        return self.segments + self.dropped_files > 0


class _Round(Struct):
    """What one round takes in."""

    tables: dict[str, list[pa.Table]] = {}
    tombstones: list[Tombstone] = []
    done: list[SegmentName] = []
    kept: list[SegmentName] = []


class Compactor:
    """Use `open`: there is one at a time. `retention_days` None: nothing is too old."""

    def __init__(
        self, directory: Path, readers: Readers, lock: int, retention_days: int | None = None, disk: Disk = DISK
    ) -> None:
        self._directory = directory
        self._readers = readers
        self._lock = lock
        self._retention_days = retention_days
        self._disk = disk
        self._catalogue = Catalogue(directory, writes=True)
        self._unreadable: set[SegmentName] = set()
        self._damaged: set[str] = set()
        self._superseded: superseded.Memory = {}
        self._keeps_superseded = True
        self._looked_at: tuple[File, ...] = ()
        disk.sync_folder(directory)
        self._remove_strays()

    @classmethod
    def open(
        cls, directory: Path, readers: Readers, retention_days: int | None = None, disk: Disk = DISK
    ) -> "Compactor | None":
        """None where another process compacts this log. Raises OSError."""
        disk.make_folder(directory)
        lock = disk.lock(directory / LOCK)
        return None if lock is None else cls(directory, readers, lock, retention_days, disk)

    def close(self) -> None:
        """Another process may compact."""
        self._catalogue.close()
        self._disk.close(self._lock)

    def round(self, now_ns: int) -> Report:
        """Compact what is sealed, then look after the files. Raises OSError; what it had begun counts for nothing."""
        try:
            return self._round(now_ns)
        except sqlite3.Error as error:
            raise OSError(f"the catalogue: {error}") from error

    def _round(self, now_ns: int) -> Report:
        report = Report()
        adopt(self._directory, self._disk)
        self._finish()
        state = self._catalogue.state()
        taken = self._take(state)
        if taken.done or taken.kept:
            self._compact(state, taken, now_ns, report)
            self._finish()
        self._retire(now_ns, report)
        self._merge(now_ns, report)
        self._keep_superseded()
        self._remove_dropped(now_ns - GRACE_NS)
        self._catalogue.forget_tombstones(now_ns - TOMBSTONES_KEPT_NS)
        return report

    def _take(self, state: State) -> _Round:
        """As many sealed segments as one round takes, decoded."""
        taken = _Round()
        room = ROUND_BYTES
        for segment in listed(self._directory):
            if not segment.sealed or segment.name in state.segments or segment.name in self._unreadable:
                continue
            room -= segment.path.stat().st_size
            if room < 0 and taken.done:
                break
            self._decode(segment, taken)
        return taken

    def _decode(self, segment: Segment, taken: _Round) -> None:
        decoded = Decoded()
        try:
            decode(segment, self._readers, decoded)
        except SegmentUnreadable as error:
            _log.error("%s is left where it is: %s", segment.path, error)
            self._unreadable.add(segment.name)
            return
        for model, tables in decoded.tables.items():
            taken.tables.setdefault(model, []).extend(tables)
        taken.tombstones += decoded.tombstones
        (taken.kept if decoded.lost else taken.done).append(segment.name)
        if decoded.lost:
            _log.error("%s holds %d frames that cannot be read; it is kept", segment.path, decoded.lost)

    def _compact(self, state: State, taken: _Round, now_ns: int, report: Report) -> None:
        tombstones = [*state.tombstones, *taken.tombstones]
        new: list[File] = []
        for model, tables in taken.tables.items():
            table = without_deleted(columns.joined(tables), tombstones)
            report.rows += table.num_rows
            new += self._written(model, table)
        replaced, dropped = self._cleaned(state.files, taken.tombstones)
        self._catalogue.apply(
            Change(
                new=[*new, *replaced],
                dropped=dropped,
                segments=taken.done,
                kept_segments=taken.kept,
                tombstones=taken.tombstones,
            ),
            now_ns,
        )
        report.segments += len(taken.done) + len(taken.kept)
        report.files += len(new) + len(replaced)
        report.dropped_files += len(dropped)

    def _written(self, model: str, table: pa.Table) -> list[File]:
        if not table.num_rows:
            return []
        return [
            parts.write(self._directory, model, date, ingest_day, rows, self._disk)
            for date, ingest_day, rows in parts.by_day(table)
        ]

    def _cleaned(self, files: Sequence[File], tombstones: Sequence[Tombstone]) -> tuple[list[File], list[File]]:
        """Files without what is deleted, and those that they replace."""
        new: list[File] = []
        dropped: list[File] = []
        models = {one.model_id for one in tombstones}
        for file in files:
            if file.model_id not in models:
                continue
            own = [one for one in tombstones if one.model_id == file.model_id]
            if doomed_in(parts.read(self._directory, file, NARROW), own):
                dropped.append(file)
                new += self._written(file.model_id, without_deleted(parts.read(self._directory, file), own))
        return new, dropped

    def _finish(self) -> None:
        """Delete the segments that are in files. Only then does the catalogue forget them."""
        state = self._catalogue.state()
        if not state.segments:
            return
        kept = self._catalogue.kept_segments()
        for segment in listed(self._directory):
            if segment.name in kept:
                self._disk.rename(segment.path, segment.path.with_suffix(KEPT))
            elif segment.name in state.segments:
                with suppress(FileNotFoundError):
                    self._disk.remove(segment.path)
        for worker in sorted({worker for worker, _ in state.segments}):
            with suppress(FileNotFoundError):
                self._disk.sync_folder(self._directory / worker)
        self._catalogue.forget_segments(state.segments)

    def _retire(self, now_ns: int, report: Report) -> None:
        """What happened and came longer ago than is kept stops to count, a day at a time."""
        if self._retention_days is None:
            return
        limit_ns = now_ns - self._retention_days * DAY_NS
        first = parts.date_of(limit_ns // DAY_NS)
        old = [file for file in self._catalogue.state().files if file.date < first and file.max_ingest_ns < limit_ns]
        if old:
            self._catalogue.apply(Change(dropped=old), now_ns)
            report.dropped_files += len(old)

    def _merge(self, now_ns: int, report: Report) -> None:
        """Many small files of one day become one. A group at a time, so that each step is small."""
        files = [file for file in self._catalogue.state().files if file.path not in self._damaged]
        for group in mergeable(files):
            tables = [self._read(file) for file in group]
            whole = [table for table in tables if table is not None]
            if len(whole) < len(group):
                continue  # the next round takes those that can be read
            table = columns.joined(whole)
            first = group[0]
            merged = parts.write(self._directory, first.model_id, first.date, first.ingest_day, table, self._disk)
            self._catalogue.apply(Change(new=[merged], dropped=group), now_ns)
            report.files += 1
            report.dropped_files += len(group)

    def _read(self, file: File) -> pa.Table | None:
        """None where the file is damaged: it is left as it is, and others are looked after."""
        try:
            return parts.read(self._directory, file)
        except (OSError, pa.ArrowInvalid) as error:
            _log.error("%s cannot be read: %s", self._directory / file.path, error)
            self._damaged.add(file.path)
            return None

    def _keep_superseded(self) -> None:
        """Questions need not find it out; they can, so whatever goes wrong here is no reason not to compact."""
        import duckdb

        files = self._catalogue.state().files
        if not self._keeps_superseded or files == self._looked_at:
            return
        gone = {file.model_id for file in self._looked_at} - {file.model_id for file in files}
        try:
            for model in sorted(gone):
                superseded.forget(self._directory, model, self._disk)
                self._superseded.pop(model, None)
            superseded.keep(self._directory, files, self._superseded, self._disk)
        except (OSError, duckdb.Error) as error:
            _log.warning("which records were sent again is not kept, and is found out by each question: %s", error)
            self._keeps_superseded = False
        self._looked_at = files

    def _remove_dropped(self, before_ns: int) -> None:
        paths = self._catalogue.dropped(before_ns)
        for path in paths:
            self._remove(self._directory / path)
        if paths:
            self._catalogue.forget_files(paths)

    def _remove_strays(self) -> None:
        """Files that no transaction ever named: a crash came first."""
        known = self._catalogue.known_paths()
        for path in sorted((self._directory / parts.FOLDER).glob("model=*/date=*/part-*")):
            if str(path.relative_to(self._directory)) not in known:
                self._remove(path)

    def _remove(self, path: Path) -> None:
        """A file; and its folders, where they are empty."""
        with suppress(FileNotFoundError):
            self._disk.remove(path)
        for folder in (path.parent, path.parent.parent):
            with suppress(OSError):
                folder.rmdir()


def mergeable(files: Iterable[File]) -> list[list[File]]:
    """Groups of files that are better one: of one model and day, and alike in size, so that no row is written often."""
    groups: dict[tuple[str, str, int, int], list[File]] = defaultdict(list)
    for file in files:
        groups[file.model_id, file.date, file.ingest_day, file.rows.bit_length() // 3].append(file)
    found = []
    for group in groups.values():
        if len(group) >= MERGE_FROM_FILES and sum(file.size_bytes for file in group) <= MERGED_BYTES:
            found.append(group)
    return found
