"""Segments become Parquet files exactly once: killed before each step, beside writers and questions, deletion, age."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fastserve.config import LogConfig
from fastserve.store import columns, compactor, parts
from fastserve.store.catalogue import Catalogue
from fastserve.store.compactor import GRACE_NS, Compactor, mergeable
from fastserve.store.deleting import without_deleted
from fastserve.store.frames import Kind
from fastserve.store.reader import Reader
from fastserve.store.rows import Row
from fastserve.store.writer import Writer
from tests.support.log_store import DAY_NS, NOW_NS, READERS, Log, actual, row

EVERY_STEP = os.environ.get("FASTSERVE_TEST_CRASHES") == "all"
"""By hand every step of compaction is crashed at; in the suite every fourth one."""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path / "log")
    yield log
    log.close()


def compact(log: Log, now_ns: int = NOW_NS, retention_days: int | None = None) -> compactor.Report:
    one = Compactor.open(log.directory, READERS, retention_days)
    assert one is not None
    report = one.round(now_ns)
    one.close()
    return report


def everything(directory: Path) -> list[Row]:
    """Every row that is seen, as often as it is there, in the order of their numbers."""
    reader = Reader(directory, READERS)
    moment = reader.moment()
    reader.close()
    files = [without_deleted(parts.read(directory, file), moment.tombstones) for file in moment.files]
    tables = [*files, *moment.tail.values()]
    rows = [found for table in tables for found in columns.rows_of(table)]
    return sorted(rows, key=lambda row: (row.seq, row.kind))


def on_disk(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in (directory / "parquet").rglob("part-*") if path.is_file()}


def old(number: int, **more: Any) -> Row:
    """One of an earlier day."""
    return row(number, ts_ns=NOW_NS - 2 * DAY_NS + number, ingest_ns=NOW_NS - 2 * DAY_NS + number, **more)


# --- crashes


def prepare(directory: Path) -> list[Row]:
    """A log where a round does all that one can: segments, files of several days and models, deletion, merging, age."""
    log = Log(directory)
    first, second = log.worker(), log.worker()
    for number in range(2):
        log.segment(first, [row(10 * number + n) for n in range(5)])
        compact(log)
    log.segment(first, [row(99, ts_ns=NOW_NS - 40 * DAY_NS, ingest_ns=NOW_NS - 40 * DAY_NS, model_id="ancient")])
    compact(log)
    log.segment(first, [row(20), old(21)], [actual(3, seq=300)])
    log.segment(second, [row(22, model_id="n"), row(23)])
    log.tombstone(second, "m", "p1", seq=1000)
    log.segment(second, [row(24)], sealed=False)
    log.close()
    seen = everything(directory)
    assert "p1" not in {one.prediction_id for one in seen if one.seq < 1000}
    return [one for one in seen if one.model_id != "ancient"]


class Crasher:
    """Asks `tests.support.crashing`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.crashing"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def survives(self, directory: Path, calls: int) -> bool:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(directory, calls, file=self._process.stdin, flush=True)
        status = int(self._process.stdout.readline())
        assert os.WIFSIGNALED(status) or status == 0
        return status == 0

    def close(self) -> None:
        self._process.communicate()


def test_a_crash_before_any_step_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    expected = prepare(tmp_path / "log")
    crasher = Crasher()
    calls, stride, survived = 0, 1 if EVERY_STEP else 4, False
    while not survived:
        directory = tmp_path / str(calls)
        shutil.copytree(tmp_path / "log", directory)
        survived = crasher.survives(directory, calls)
        seen = [one for one in everything(directory) if one.model_id != "ancient"]
        assert seen == expected, f"after a crash before call {calls}"
        one = Compactor.open(directory, READERS, 30)
        assert one is not None, "a lock was left"
        one.round(NOW_NS)
        one.round(NOW_NS + 2 * GRACE_NS)
        one.close()
        assert everything(directory) == expected, f"a round later, after a crash before call {calls}"
        assert not list(directory.rglob("*.seg"))
        catalogue = Catalogue(directory, writes=True)
        assert catalogue.known_paths() == on_disk(directory), f"strays of a crash before call {calls}"
        assert not catalogue.state().segments
        catalogue.close()
        shutil.rmtree(directory)
        calls += stride
    assert calls > 30, "the log was to be one where much is to be done"
    crasher.close()


# --- beside writers and questions


class Busy:
    """Writers, a compactor and questions at one log, each on a thread."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.acknowledged: list[int] = []
        self.problems: list[str] = []
        self.finished = threading.Event()
        self._numbers = iter(range(1, 1 << 30))
        self._numbering = threading.Lock()

    def write(self, writer: Writer) -> None:
        for _ in range(60):
            told = threading.Event()
            with self._numbering:
                batch = [next(self._numbers) for _ in range(5)]
            frames = [(Kind.RECORD, msgspec.msgpack.encode([row(n, seq=n)])) for n in batch]
            writer.append(frames, lambda error, told=told: told.set())
            if not told.wait(60):
                self.problems.append("a write was never acknowledged")
            self.acknowledged.extend(batch)

    def compact(self) -> None:
        one = Compactor.open(self.directory, READERS)
        assert one is not None
        while not self.finished.is_set():
            one.round(NOW_NS)
        one.close()

    def ask(self) -> None:
        reader = Reader(self.directory, READERS)
        while not self.finished.is_set():
            self._ask(reader)
        reader.close()

    def _ask(self, reader: Reader) -> None:
        before = set(self.acknowledged)
        with reader.connection("m") as duck:
            seen = [seq for (seq,) in duck.execute("select seq from records").fetchall()]
            ((once,),) = duck.execute("select count(*) from predictions").fetchall()
        if len(seen) != len(set(seen)):
            self.problems.append("something is there twice")
        if not before <= set(seen):
            self.problems.append(f"missing: {sorted(before - set(seen))[:5]}")
        if once != len(seen):
            self.problems.append(f"{once} predictions of {len(seen)} records")


def test_everything_acknowledged_is_there_once_while_two_write_one_compacts_and_others_ask(tmp_path: Path) -> None:
    busy = Busy(tmp_path / "log")
    config = LogConfig(sync="os", max_segment_bytes=4096, max_segment_seconds=0.05)
    writers = [Writer(busy.directory, config) for _ in range(2)]
    writing = [threading.Thread(target=busy.write, args=(writer,)) for writer in writers]
    asking = [threading.Thread(target=target) for target in (busy.compact, busy.ask, busy.ask)]
    for thread in (*writing, *asking):
        thread.start()
    for thread in writing:
        thread.join()
    for writer in writers:
        writer.close(60)
    busy.finished.set()
    for thread in asking:
        thread.join()
    assert busy.problems == []
    assert len(busy.acknowledged) == 600
    while compact(Log(busy.directory)):
        pass
    assert [one.seq for one in everything(busy.directory)] == sorted(busy.acknowledged)


def test_one_process_compacts(log: Log) -> None:
    first = Compactor.open(log.directory, READERS)
    assert first is not None
    assert Compactor.open(log.directory, READERS) is None
    first.close()
    second = Compactor.open(log.directory, READERS)
    assert second is not None
    second.close()


# --- what a round does


def test_a_round_moves_what_is_sealed_and_leaves_what_is_written_to(log: Log) -> None:
    worker = log.worker()
    log.segment(worker, [row(0), old(1), row(2, model_id="n")])
    left = log.segment(worker, [row(3)], sealed=False)
    report = compact(log)
    assert (report.segments, report.rows, report.files) == (1, 3, 3)
    assert [path.name for path in log.directory.rglob("*.seg")] == []
    assert left.exists()
    folders = {path.rpartition("/")[0] for path in on_disk(log.directory)}
    day, before = parts.date_of(NOW_NS // DAY_NS), parts.date_of(NOW_NS // DAY_NS - 2)
    assert folders == {f"parquet/model=m/date={day}", f"parquet/model=m/date={before}", f"parquet/model=n/date={day}"}
    assert not compact(log)


def test_an_orphans_segment_is_taken(log: Log) -> None:
    worker = log.worker()
    log.segment(worker, [row(0)], sealed=False)
    log.die(worker)
    assert compact(log).rows == 1


def test_frames_that_nobody_can_read_are_kept_and_hide_no_others(log: Log) -> None:
    segment = log.segment(log.worker(), [row(0)])
    log.add(segment, Kind.RECORD, b"\xc1 nonsense", 7)
    log.append(segment, [row(1)])
    assert [one.seq for one in everything(log.directory)] == [1, 2]
    assert compact(log).rows == 2
    assert [one.seq for one in everything(log.directory)] == [1, 2]
    segments = [path for path in log.directory.rglob("0*") if path.is_file()]  # a worker's folder may begin so, too
    assert [path.suffix for path in segments] == [".unreadable"]
    assert not compact(log)


def test_a_file_that_is_no_segment_is_left_where_it_is(log: Log) -> None:
    worker = log.worker()
    segment = log.segment(worker, [row(0)])
    segment.write_bytes(b"something else")
    log.segment(worker, [row(1)])
    assert compact(log).rows == 1
    assert segment.read_bytes() == b"something else"


def test_what_is_deleted_leaves_the_files(log: Log) -> None:
    worker = log.worker()
    log.segment(worker, [row(0), row(1), actual(0, seq=9)])
    compact(log)
    log.segment(worker, [row(2), row(0, seq=50)])
    log.tombstone(worker, "m", "p0", seq=60)
    log.segment(worker, [row(0, seq=70), row(0, seq=55)])
    compact(log)
    assert [one.seq for one in everything(log.directory)] == [2, 3, 70]
    compact(log, NOW_NS + 2 * GRACE_NS)
    tables = [
        columns.rows_of(parts.read(log.directory, file)) for file in Reader(log.directory, READERS).moment().files
    ]
    assert len(on_disk(log.directory)) == len(tables)
    assert sorted(one.seq for table in tables for one in table) == [2, 3, 70]


def test_a_deletion_is_about_what_is_still_in_segments_of_others(log: Log) -> None:
    first, second = log.worker(), log.worker()
    late = log.segment(second, [row(0), row(1)], sealed=False)
    log.tombstone(first, "m", "p0", seq=60)
    compact(log)
    assert [one.seq for one in everything(log.directory)] == [2]
    late.rename(late.with_suffix(".seg"))
    compact(log, NOW_NS + GRACE_NS)
    assert [one.seq for one in everything(log.directory)] == [2]


def test_what_is_old_goes_a_day_at_a_time(log: Log) -> None:
    worker = log.worker()
    days = [NOW_NS - days * DAY_NS for days in (0, 29, 31, 40)]
    log.segment(worker, [row(n, ts_ns=ns, ingest_ns=ns) for n, ns in enumerate(days)])
    log.segment(worker, [row(9, ts_ns=days[3], ingest_ns=NOW_NS)])
    compact(log, retention_days=30)
    assert [one.seq for one in everything(log.directory)] == [1, 2, 10]
    compact(log, NOW_NS + 2 * GRACE_NS, retention_days=30)
    assert len(on_disk(log.directory)) == 3
    assert len(list((log.directory / "parquet" / "model=m").glob("date=*"))) == 3


def test_files_that_questions_may_still_read_stay_for_a_while(log: Log) -> None:
    log.segment(log.worker(), [row(0), row(1)])
    compact(log)
    before = on_disk(log.directory)
    log.tombstone(log.worker(), "m", "p0", seq=60)
    compact(log)
    compact(log, NOW_NS + GRACE_NS)
    assert before < on_disk(log.directory)
    compact(log, NOW_NS + GRACE_NS + 1)
    assert not before & on_disk(log.directory)


def test_many_small_files_become_one(log: Log) -> None:
    worker = log.worker()
    for number in range(compactor.MERGE_FROM_FILES):
        log.segment(worker, [row(number, features={f"f{number % 2}": number})])
        compact(log)
    state = Catalogue(log.directory).state()
    assert [file.rows for file in state.files] == [compactor.MERGE_FROM_FILES]
    assert mergeable(state.files) == []
    assert [one.seq for one in everything(log.directory)] == [*range(1, compactor.MERGE_FROM_FILES + 1)]


def test_a_file_that_is_damaged_keeps_no_others_from_being_looked_after(log: Log) -> None:
    worker = log.worker()
    for number in range(compactor.MERGE_FROM_FILES - 1):
        log.segment(worker, [row(number)])
        compact(log)
    damaged = log.directory / sorted(on_disk(log.directory))[0]
    damaged.write_bytes(b"PAR1 nonsense")
    log.segment(worker, [row(90)], [row(91)])
    one = Compactor.open(log.directory, READERS)
    assert one is not None
    for number in range(92, 94):
        one.round(NOW_NS)
        log.segment(worker, [row(number)])
    one.round(NOW_NS)
    one.close()
    assert damaged.exists()
    assert not list(log.directory.rglob("*.seg"))
    assert len(Catalogue(log.directory).state().files) < compactor.MERGE_FROM_FILES


def test_what_a_crash_left_is_removed_at_the_next_start(log: Log) -> None:
    log.segment(log.worker(), [row(0)])
    compact(log)
    (folder,) = (path.parent for path in (log.directory / "parquet").rglob("part-*"))
    for name in ("part-1.parquet", "part-2.parquet.tmp"):
        (folder / name).write_bytes(b"half")
    compact(log)
    assert len(on_disk(log.directory)) == 1


def test_a_catalogue_of_another_version_is_not_touched(log: Log) -> None:
    import sqlite3

    compact(log)
    with sqlite3.connect(log.directory / "catalogue.sqlite") as db:
        db.execute("pragma user_version = 9")
    db.close()
    with pytest.raises(Exception, match="version 9; this program reads 1"):
        Compactor.open(log.directory, READERS)
    with pytest.raises(Exception, match="version 9; this program reads 1"):
        Reader(log.directory, READERS).moment()
