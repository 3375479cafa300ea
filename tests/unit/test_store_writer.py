"""The writer's queue and its flusher: what is acknowledged is in the files; what does not fit is refused."""

import subprocess
import sys
import threading

import pytest

from fastserve.config import LogConfig
from fastserve.metrics import Metrics
from fastserve.store import folder
from fastserve.store.disk import Disk
from fastserve.store.errors import StoreBusy, StoreClosed
from fastserve.store.frames import Kind
from fastserve.store.order import SEQ_STEP
from fastserve.store.recovery import adopt
from fastserve.store.writer import Writer

WITHIN_S = 60


class Outcomes:
    """What appends were told, in order."""

    def __init__(self):
        self.told = []
        self._changed = threading.Condition()

    def __call__(self, outcome):
        with self._changed:
            self.told.append(outcome)
            self._changed.notify_all()

    def wait(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.told) >= count, WITHIN_S)
        return self.told


class HeldDisk(Disk):
    """Syncs end when they may."""

    def __init__(self):
        self.may = threading.Event()
        self.syncing = threading.Event()

    def sync(self, fd):
        self.syncing.set()
        assert self.may.wait(WITHIN_S)
        super().sync(fd)


def stored(directory):
    return [frame for segment in folder.listed(directory) for frame in folder.scan(segment)]


def test_what_is_acknowledged_is_there_at_once_and_after_the_end(tmp_path):
    writer, outcomes = Writer(tmp_path, LogConfig()), Outcomes()
    for i in range(100):
        writer.append([(Kind.RECORD, b"%d" % i)], outcomes)
    assert outcomes.wait(100) == [None] * 100
    assert [frame.payload for frame in stored(tmp_path)] == [b"%d" % i for i in range(100)]
    assert not any(segment.sealed for segment in folder.listed(tmp_path))
    writer.close(WITHIN_S)
    (segment,) = folder.listed(tmp_path)
    scan = folder.scan(segment)
    assert [frame.payload for frame in scan] == [b"%d" % i for i in range(100)]
    assert segment.sealed
    assert scan.is_sealed


def test_seqs_grow_and_leave_room_for_the_rows_of_a_frame(tmp_path):
    writer = Writer(tmp_path, LogConfig(), wall=lambda: 1_000_000)
    other = Writer(tmp_path, LogConfig(), wall=lambda: 1_000_000)
    writer.append([(Kind.ARROW, b"ten rows")], rows=10)
    writer.append([(Kind.RECORD, b"one"), (Kind.RECORD, b"two")])
    other.append([(Kind.RECORD, b"of another worker")])
    writer.close(WITHIN_S)
    other.close(WITHIN_S)
    seqs = {frame.payload: frame.seq for frame in stored(tmp_path)}
    first = seqs[b"ten rows"]
    assert seqs[b"one"] == first + 10 * SEQ_STEP
    assert seqs[b"two"] == first + 11 * SEQ_STEP
    assert (seqs[b"of another worker"] - first) % SEQ_STEP


def test_a_clock_that_is_put_back_makes_nothing_older(tmp_path):
    now = [2_000_000_000_000_000_000]
    running = Writer(tmp_path, LogConfig(), wall=lambda: now[0])
    for step, writer in enumerate([running, running, None, None]):
        own = writer or Writer(tmp_path, LogConfig(), wall=lambda: now[0])
        outcomes = Outcomes()
        own.append([(Kind.RECORD, b"%d" % step)], outcomes)
        assert outcomes.wait(1) == [None]
        if writer is None:
            own.close(WITHIN_S)
        now[0] -= 3600 * 10**9
    running.append([(Kind.RECORD, b"last")])
    running.close(WITHIN_S)
    frames = sorted(stored(tmp_path), key=lambda frame: frame.seq)
    assert [frame.payload for frame in frames] == [b"0", b"1", b"2", b"3", b"last"]
    assert len({frame.seq for frame in frames}) == 5
    assert frames[-1].ingest_ns < frames[0].ingest_ns, "the time itself is told as it was"


def test_a_damaged_order_is_not_followed(tmp_path):
    (tmp_path / "order").write_bytes(b"\xff" * 8)
    writer = Writer(tmp_path, LogConfig(), wall=lambda: 1_000_000)
    writer.append([(Kind.RECORD, b"a")])
    writer.close(WITHIN_S)
    (frame,) = stored(tmp_path)
    assert frame.seq < 1 << 63


def test_what_comes_during_a_sync_shares_the_next_one(tmp_path):
    disk, outcomes, metrics = HeldDisk(), Outcomes(), Metrics()
    disk.may.set()
    writer = Writer(tmp_path, LogConfig(), metrics, disk=disk)
    writer.append([(Kind.RECORD, b"begun")], outcomes)
    outcomes.wait(1)
    disk.may.clear()
    disk.syncing.clear()
    writer.append([(Kind.RECORD, b"first")], outcomes)
    assert disk.syncing.wait(WITHIN_S)
    for _ in range(50):
        writer.append([(Kind.RECORD, b"others")], outcomes)
    assert outcomes.told == [None]
    syncs = metrics.histogram("fastserve_log_sync_seconds", "", {}, writer_bounds(), 1e9)
    before = syncs.count
    disk.may.set()
    outcomes.wait(52)
    assert syncs.count == before + 2
    writer.close(WITHIN_S)


def writer_bounds():
    from fastserve.store.writer import SYNC_BOUNDS_NS

    return SYNC_BOUNDS_NS


@pytest.mark.parametrize("limits", [{"max_queue_records": 3}, {"max_queue_bytes": 30}])
def test_what_the_queue_has_no_room_for_is_refused_with_a_time_to_come_again(tmp_path, limits):
    disk, outcomes = HeldDisk(), Outcomes()
    writer = Writer(tmp_path, LogConfig(**limits), disk=disk)
    for _ in range(3):
        writer.append([(Kind.RECORD, bytes(10))], outcomes)
    with pytest.raises(StoreBusy) as refused:
        writer.append([(Kind.RECORD, bytes(10))], outcomes)
    assert refused.value.retry_after_s
    disk.may.set()
    assert outcomes.wait(3) == [None] * 3
    writer.append([(Kind.RECORD, bytes(1000))], outcomes)  # alone, anything fits
    assert outcomes.wait(4) == [None] * 4
    writer.close(WITHIN_S)
    assert len(stored(tmp_path)) == 4


def test_closing_stores_what_waits_and_refuses_what_comes(tmp_path):
    disk, outcomes = HeldDisk(), Outcomes()
    writer = Writer(tmp_path, LogConfig(), disk=disk)
    for _ in range(10):
        writer.append([(Kind.RECORD, b"waits")], outcomes)
    disk.may.set()
    writer.close(WITHIN_S)
    assert outcomes.told == [None] * 10
    assert len(stored(tmp_path)) == 10
    with pytest.raises(StoreClosed):
        writer.append([(Kind.RECORD, b"late")], outcomes)
    assert isinstance(writer.trouble, StoreClosed)


def test_a_writer_that_wrote_nothing_leaves_nothing(tmp_path):
    Writer(tmp_path, LogConfig()).close(WITHIN_S)
    assert folder.listed(tmp_path) == []
    assert adopt(tmp_path) == 0
    assert folder.workers(tmp_path) == []


def test_an_answer_that_fails_does_not_end_the_flusher(tmp_path, caplog):
    writer, outcomes = Writer(tmp_path, LogConfig()), Outcomes()

    def broken(_):
        raise ZeroDivisionError

    writer.append([(Kind.RECORD, b"a")], broken)
    writer.append([(Kind.RECORD, b"b")], outcomes)
    assert outcomes.wait(1) == [None]
    assert "ZeroDivisionError" in caplog.text
    writer.close(WITHIN_S)


def test_a_full_segment_is_sealed_and_the_next_one_begun(tmp_path):
    writer, outcomes = Writer(tmp_path, LogConfig(max_segment_bytes=4096)), Outcomes()
    for i in range(20):
        writer.append([(Kind.RECORD, bytes(1000))], outcomes)
        outcomes.wait(i + 1)
    sealed = [segment.sealed for segment in folder.listed(tmp_path)]
    assert sealed.count(True) >= 4
    assert len(stored(tmp_path)) == 20
    writer.close(WITHIN_S)
    assert len(stored(tmp_path)) == 20


LIMITED = """
import resource, signal, sys, threading
from pathlib import Path
from fastserve.config import LogConfig
from fastserve.store.errors import StoreError
from fastserve.store.writer import Writer

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
writer = Writer(Path(sys.argv[1]), LogConfig())
told = []

def store(payload):
    done = threading.Event()
    try:
        writer.append([(1, payload)], lambda error: (told.append(error), done.set()))
        done.wait()
    except StoreError as error:
        told.append(error)

for i in range(30):
    store(b"%d " % i + bytes(10_000))
assert told == [None] * 30, told
store(bytes(200_000))
assert isinstance(told[-1], StoreError), told[-1]
while writer.trouble:
    threading.Event().wait(0.05)
store(b"after")
assert told[-1] is None, told[-1]
writer.close()
"""


def test_a_process_whose_files_may_not_be_large_writes_several(tmp_path):
    ended = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    names = [frame.payload.partition(b" ")[0] for frame in stored(tmp_path)]
    assert names == [*(b"%d" % i for i in range(30)), b"after"]
    assert len(folder.listed(tmp_path)) >= 4
    assert all(segment.path.stat().st_size <= 100_000 for segment in folder.listed(tmp_path))
