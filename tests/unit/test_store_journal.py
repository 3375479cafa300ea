"""One worker's segments on disks that fail: nothing is acknowledged that is not stored, and writing goes on by itself."""

import errno
import os

import pytest

from fastserve.config import LogConfig
from fastserve.store import folder, journal
from fastserve.store.ahead import Ahead
from fastserve.store.errors import StoreError, StoreFailed, StoreFull
from fastserve.store.frames import Kind
from fastserve.store.journal import NEVER, PROBE_EVERY_NS, Journal, Numbered
from tests.support.disks import BROKEN, CALLS, FULL, READ_ONLY, FailingDisk

SECOND = 1_000_000_000


class Bench:
    """A journal on a disk that can fail, told the time."""

    def __init__(self, directory, **config):
        self.directory = directory
        self.now = 100 * SECOND
        self.disk = FailingDisk()
        self.errors = []
        self.syncs = 0
        self.journal = Journal(
            directory,
            LogConfig(**config),
            self.disk,
            lambda: self.now,
            lambda: 1_700_000_000 * SECOND + self.now,
            Ahead(self.disk, in_background=False),
        )
        self.journal.when_failed = self.errors.append
        self.journal.when_synced = self._synced
        self.journal.start()
        self.kept = []
        self.now += 10 * SECOND  # the next probe may be at once

    def _synced(self, _):
        self.syncs += 1

    def write(self, *payloads):
        """As one append each; what is acknowledged is remembered."""
        self.journal.write([Numbered([(Kind.RECORD, one)], 1, 1) for one in payloads])
        self.kept += payloads

    def later(self, seconds):
        self.now += round(seconds * SECOND)
        self.journal.tick()

    @property
    def stored(self):
        return [frame.payload for segment in folder.listed(self.directory) for frame in folder.scan(segment)]

    @property
    def states(self):
        """Whether it is sealed, of each segment that anything was written to."""
        return [one.sealed for one in folder.listed(self.directory) if one.sealed or list(folder.scan(one))]


@pytest.fixture
def make(tmp_path):
    made = []

    def make(**config):
        made.append(Bench(tmp_path / "log", **config))
        return made[-1]

    yield make
    for one in made:
        one.disk.heal()
        one.journal.close()


def test_a_write_is_on_disk_when_it_returns(make):
    bench = make()
    before = bench.syncs
    bench.write(b"a", b"b")
    assert bench.syncs == before + 1
    assert bench.stored == [b"a", b"b"]


def test_after_its_time_a_segment_is_sealed_and_no_empty_one_is(make):
    bench = make(max_segment_seconds=30)
    bench.later(100)
    assert bench.states == []
    bench.write(b"a")
    assert bench.journal.due_ns() == bench.now + 30 * SECOND
    bench.later(29)
    assert bench.states == [False]
    bench.later(1)
    assert bench.states == [True]
    assert bench.journal.due_ns() == NEVER
    bench.write(b"b")
    assert bench.states == [True, False]
    assert bench.stored == [b"a", b"b"]


@pytest.mark.parametrize(("policy", "synced"), [("interval", [0, 0, 1]), ("os", [0, 0, 0])])
def test_other_policies_sync_later_or_leave_it_to_the_system(make, policy, synced):
    bench = make(sync=policy, sync_interval_ms=500)
    start, seen = bench.syncs, []
    bench.write(b"a")
    seen.append(bench.syncs - start)
    bench.later(0.499)
    seen.append(bench.syncs - start)
    bench.later(0.001)
    seen.append(bench.syncs - start)
    assert seen == synced
    assert bench.stored == [b"a"]
    bench.later(30)
    assert bench.states == [True]
    assert bench.syncs > start


def test_a_full_disk_takes_no_writes_until_there_is_room_again(make):
    bench = make()
    bench.write(b"before")
    bench.disk.torn_bytes = 20
    bench.disk.fail(FULL, "write", "reserve")
    with pytest.raises(StoreFull) as full:
        bench.write(b"does not fit")
    assert full.value.retry_after_s
    assert not (bench.directory / "reserve").exists(), "compaction may have that room"
    bench.later(0.1)
    with pytest.raises(StoreFull):
        bench.write(b"nor does this")
    bench.disk.failing.pop("write")
    bench.later(5)
    with pytest.raises(StoreFull):
        bench.write(b"the reserve is not back")
    bench.disk.heal()
    bench.later(PROBE_EVERY_NS / SECOND)
    assert bench.journal.trouble is None
    assert (bench.directory / "reserve").stat().st_blocks * 512 >= journal.RESERVE_BYTES
    bench.write(b"after")
    assert bench.stored == [b"before", b"after"] == bench.kept
    assert bench.states == [False]


def test_after_a_failed_sync_that_file_is_never_synced_again(make):
    bench = make()
    bench.write(b"before")
    bench.disk.fail(BROKEN, "sync")
    with pytest.raises(StoreFailed, match="takes no writes: input/output error"):
        bench.write(b"lost")
    bench.disk.heal()
    bench.later(0)
    assert bench.journal.trouble is None, "the next file is tried at once"
    bench.write(b"after")
    bench.journal.close()
    assert not bench.disk.synced_again
    assert bench.stored == [b"before", b"after"]
    assert bench.states == [True, True]
    assert len(bench.errors) == 1


def test_a_disk_that_stays_broken_is_tried_once_a_second(make):
    bench = make()
    bench.disk.fail(BROKEN)
    with pytest.raises(StoreFailed):
        bench.write(b"lost")
    bench.later(0)
    for _ in range(3):
        assert bench.journal.due_ns() == bench.now + SECOND
        before = len(bench.disk.calls)
        bench.later(0.5)
        assert len(bench.disk.calls) == before
        bench.later(0.5)
        assert len(bench.disk.calls) > before
        with pytest.raises(StoreFailed):
            bench.write(b"lost")
    bench.disk.heal()
    bench.later(1)
    bench.write(b"after")
    assert bench.stored == [b"after"]


@pytest.mark.parametrize("number", [BROKEN, READ_ONLY, FULL, errno.EDQUOT, errno.EACCES, errno.EMFILE])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("policy", ["always", "interval"])
def test_whatever_fails_nothing_acknowledged_is_lost_and_writing_goes_on(make, call, number, policy):
    bench = make(max_segment_bytes=4096, sync=policy, max_segment_seconds=3)
    bench.write(b"before")
    bench.disk.torn_bytes = 50
    bench.disk.fail(number, call)
    refused = 0
    for i in range(12):
        try:
            bench.write(b"%d" % i * 1000)
        except StoreError:
            refused += 1
        bench.later(1)
    bench.disk.heal()
    bench.later(2)
    assert bench.journal.trouble is None
    bench.write(b"after")
    bench.journal.close()
    assert bench.stored == bench.kept
    assert not bench.disk.synced_again
    assert all(bench.states)
    assert refused < 12 or call in {"write", "sync", "create", "sync_folder", "reserve"}


@pytest.mark.parametrize("call", CALLS)
def test_a_disk_that_fails_at_the_start_does_not_keep_the_server_from_starting(tmp_path, call):
    disk = FailingDisk()
    disk.fail(READ_ONLY, call)
    now = [0]
    one = Journal(tmp_path / "log", LogConfig(), disk, lambda: now[0])
    one.start()
    disk.heal()
    now[0] += 2 * SECOND
    one.tick()
    one.write([Numbered([(Kind.RECORD, b"a")], 1, 1)])
    one.close()
    assert len(folder.listed(tmp_path / "log")) == 1


def test_where_files_may_not_be_large_the_next_one_is_begun(make, monkeypatch):
    bench = make()
    limit = 3000
    real = os.pwrite

    def limited(fd, data, at):
        if at + len(data) <= limit:
            return real(fd, data, at)
        if at >= limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return real(fd, data[: limit - at], at)

    monkeypatch.setattr(os, "pwrite", limited)
    for i in range(10):
        bench.write(b"%d" % i * 900)
    assert bench.stored == bench.kept
    assert len(bench.states) == 4
    with pytest.raises(StoreFailed, match="file too large"):
        bench.write(bytes(5000))
    bench.later(1)
    bench.write(b"after")
    assert bench.stored == bench.kept


def test_a_late_sync_that_fails_is_told_of_what_was_acknowledged(make, caplog):
    bench = make(sync="interval", sync_interval_ms=100)
    bench.write(b"a")
    bench.disk.fail(BROKEN, "sync")
    bench.later(0.2)
    assert "what was acknowledged since the last sync may be lost" in caplog.text
    assert isinstance(bench.journal.trouble, StoreFailed)
    bench.disk.heal()
    bench.later(1)
    bench.write(b"b")
    assert bench.stored == [b"a", b"b"], "what may be lost is not cut off"
