"""What is where: which Parquet files count, and which segments are in them. One SQLite file, written by the compactor alone.

A change of what counts is one transaction: files come, those that they replace go, segments are done. Whoever reads sees all
of it or nothing.
Thread: a `Catalogue` is used by one at a time.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from fastserve.store.errors import SegmentUnreadable

FILE_NAME = "catalogue.sqlite"
VERSION = 1
BUSY_S = 10.0

_SCHEMA = """
create table files (
    id integer primary key, path text not null unique, model_id text not null, date text not null, about text not null,
    dropped_ns integer
);
create index files_live on files (model_id) where dropped_ns is null;
create table segments (
    worker text not null, number integer not null, keep integer not null, primary key (worker, number)
) without rowid;
create table tombstones (
    space text, model_id text not null, prediction_id text not null, seq text not null, known_ns integer not null
);
"""


class File(Struct, frozen=True):
    """One Parquet file. `path`: below the log's folder; `columns`: part, name and type of each; `ingest_day`: since 1970."""

    path: str
    model_id: str
    date: str
    rows: int
    size_bytes: int
    min_ts_ns: int
    max_ts_ns: int
    max_ingest_ns: int
    ingest_day: int
    columns: tuple[tuple[str, str, str], ...]


class Tombstone(Struct, frozen=True):
    """What came before `seq` of that prediction is deleted. `space` None: in every space."""

    space: str | None
    model_id: str
    prediction_id: str
    seq: int


SegmentName = tuple[str, int]


class State(Struct, frozen=True):
    """All of it at one moment. `change`: another number whenever anything changed."""

    change: int
    files: tuple[File, ...] = ()
    segments: frozenset[SegmentName] = frozenset()
    tombstones: tuple[Tombstone, ...] = ()


class Change(Struct, frozen=True, kw_only=True):
    """What one transaction does. `kept_segments`: those with frames that nobody can read; their files are not deleted."""

    new: Sequence[File] = ()
    dropped: Sequence[File] = ()
    segments: Iterable[SegmentName] = ()
    kept_segments: Iterable[SegmentName] = ()
    tombstones: Sequence[Tombstone] = ()


class Catalogue:
    """`path` may not be there yet; a reader then sees nothing, and looks again each time."""

    def __init__(self, directory: Path, *, writes: bool = False) -> None:
        self._path = directory / FILE_NAME
        self._writes = writes
        self._connection: sqlite3.Connection | None = None
        self._seen: State | None = None
        if writes:
            self._open()

    def close(self) -> None:
        """Let the file go."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def state(self) -> State:
        """What counts now. Costs a microsecond where nothing changed."""
        if self._connection is None:
            if not self._path.exists():
                return State(0)
            self._open()
        assert self._connection is not None
        change = int(self._connection.execute("pragma data_version").fetchone()[0])
        if self._seen is None or self._seen.change != change or self._writes:
            self._seen = self._read(change)
        return self._seen

    def apply(self, change: Change, now_ns: int) -> None:
        """All of it or nothing; on disk when it returns."""
        with self._transaction() as db:
            db.executemany(
                "insert into files (path, model_id, date, about) values (?, ?, ?, ?)",
                [(file.path, file.model_id, file.date, msgspec.json.encode(file).decode()) for file in change.new],
            )
            db.executemany(
                "update files set dropped_ns = ? where path = ?", [(now_ns, file.path) for file in change.dropped]
            )
            db.executemany("insert into segments values (?, ?, 0)", list(change.segments))
            db.executemany("insert into segments values (?, ?, 1)", list(change.kept_segments))
            db.executemany(
                "insert into tombstones values (?, ?, ?, ?, ?)",
                [(one.space, one.model_id, one.prediction_id, str(one.seq), now_ns) for one in change.tombstones],
            )

    def kept_segments(self) -> set[SegmentName]:
        """Those whose files are put aside instead of deleted."""
        assert self._connection is not None
        rows = self._connection.execute("select worker, number from segments where keep = 1")
        return {(str(worker), int(number)) for worker, number in rows}

    def forget_segments(self, names: Iterable[SegmentName]) -> None:
        """Their files are gone for good."""
        with self._transaction() as db:
            db.executemany("delete from segments where worker = ? and number = ?", list(names))

    def forget_tombstones(self, before_ns: int) -> None:
        """No row is left that they could be about."""
        with self._transaction() as db:
            db.execute("delete from tombstones where known_ns < ?", (before_ns,))

    def dropped(self, before_ns: int) -> list[str]:
        """Paths of files that stopped to count before that."""
        assert self._connection is not None
        rows = self._connection.execute("select path from files where dropped_ns < ?", (before_ns,))
        return [path for (path,) in rows]

    def forget_files(self, paths: Iterable[str]) -> None:
        """They are gone for good."""
        with self._transaction() as db:
            db.executemany("delete from files where path = ?", [(path,) for path in paths])

    def known_paths(self) -> set[str]:
        """Of all files, those that stopped to count included."""
        assert self._connection is not None
        return {path for (path,) in self._connection.execute("select path from files")}

    def _transaction(self) -> "_Transaction":
        assert self._writes
        assert self._connection is not None
        return _Transaction(self._connection)

    def _open(self) -> None:
        if not self._writes:
            # Not read-only: whoever reads a write-ahead log writes beside it where it is.
            self._connection = sqlite3.connect(self._path, BUSY_S, isolation_level=None, check_same_thread=False)
            self._connection.execute("pragma query_only = 1")
            self._check_version()
            return
        db = sqlite3.connect(self._path, BUSY_S, isolation_level=None, check_same_thread=False)
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = full")
        self._connection = db
        with self._transaction():
            if self._version() == 0:
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
                db.execute(f"pragma user_version = {VERSION}")
        self._check_version()

    def _version(self) -> int:
        assert self._connection is not None
        return int(self._connection.execute("pragma user_version").fetchone()[0])

    def _check_version(self) -> None:
        found = self._version()
        if found not in (0, VERSION):
            self.close()
            raise SegmentUnreadable(f"a catalogue of version {found}; this program reads {VERSION}")

    def _read(self, change: int) -> State:
        assert self._connection is not None
        db = self._connection
        db.execute("begin")
        try:
            if self._version() == 0:
                return State(change)
            files = db.execute("select about from files where dropped_ns is null order by id").fetchall()
            segments: list[tuple[Any, ...]] = db.execute("select worker, number from segments").fetchall()
            tombs = db.execute("select space, model_id, prediction_id, seq from tombstones").fetchall()
        finally:
            db.execute("commit")
        return State(
            change,
            tuple(_FILE.decode(about) for (about,) in files),
            frozenset((str(worker), int(number)) for worker, number in segments),
            tuple(Tombstone(space, model, prediction, int(seq)) for space, model, prediction, seq in tombs),
        )


class _Transaction:
    """Committed where its block ends well, else taken back."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def __enter__(self) -> sqlite3.Connection:
        self._db.execute("begin immediate")
        return self._db

    def __exit__(self, kind: object, *_: object) -> None:
        self._db.execute("commit" if kind is None else "rollback")


_FILE = msgspec.json.Decoder(File)
