"""Segments that are filled with zeros before they are needed: no record finds the disk full for them, and none stays."""

import os
import threading
from contextlib import suppress

import pytest

from fastserve.config import LogConfig
from fastserve.store import ahead, folder
from fastserve.store.ahead import Ahead
from fastserve.store.disk import Disk
from fastserve.store.errors import StoreFull
from fastserve.store.folder import READ_BYTES
from fastserve.store.frames import FRAME_BYTES, HEADER_BYTES, Kind
from fastserve.store.journal import Journal, Numbered
from fastserve.store.recovery import adopt
from tests.support.disks import SmallDisk

MIB = 1 << 20


class CountingDisk(Disk):
    """Knows what made files larger when they were synced."""

    def __init__(self):
        self.grown = []

    def write(self, fd, pieces, at):
        before = size_of(fd)
        end = super().write(fd, pieces, at)
        self.grown.append(size_of(fd) > before)
        return end


def size_of(fd):
    return os.fstat(fd).st_size


def journal(directory, disk, **config):
    made = Journal(directory / "log", LogConfig(**config), disk, ahead=Ahead(disk, in_background=False))
    made.start()
    return made


def write(one, *payloads):
    one.write([Numbered([(Kind.RECORD, payload)], 1, 1) for payload in payloads])


def files(directory):
    return {path.name: path.stat() for path in (directory / "log").glob("*/*") if path.suffix in {".open", ".seg"}}


def stored(directory):
    return [frame.payload for one in folder.listed(directory / "log") for frame in folder.scan(one)]


def test_what_is_written_changes_no_size(tmp_path):
    disk = CountingDisk()
    one = journal(tmp_path, disk)
    disk.grown.clear()
    write(one, b"asks for the next segment")
    disk.grown.clear()
    for _ in range(400):
        write(one, bytes(2500))
    assert not any(disk.grown)
    one.close()


def test_a_server_that_logs_little_holds_little(tmp_path):
    one = journal(tmp_path, Disk())
    for i in range(10):
        write(one, b"%d" % i)
    assert sum(file.st_size for file in files(tmp_path).values()) == 2 * MIB
    one.close()
    assert [file.st_size for file in files(tmp_path).values()] == [HEADER_BYTES + 11 * FRAME_BYTES + 10]


def test_more_is_made_ready_where_more_is_logged_and_less_again(tmp_path):
    now = [0]
    disk = Disk()
    config = LogConfig(max_prepared_bytes=4 * MIB)
    one = Journal(tmp_path / "log", config, disk, lambda: now[0], ahead=Ahead(disk, in_background=False))
    one.start()
    largest = set()
    for _ in range(60):
        write(one, bytes(200_000))
        largest.add(max(file.st_size for file in files(tmp_path).values()))
    assert max(largest) == 4 * MIB
    for _ in range(4):
        write(one, b"little")
        now[0] += 60 * 10**9
        one.tick()
    write(one, b"little")
    assert sorted(file.st_size for name, file in files(tmp_path).items() if name.endswith("open")) == [MIB, MIB]
    one.close()


def test_the_last_room_is_for_records(tmp_path):
    """What was made ready is given up before a record is refused."""
    disk = SmallDisk(3 * MIB)
    one = journal(tmp_path, disk)
    written = 0
    with suppress(StoreFull):
        while True:
            write(one, b"%02d" % written + bytes(50_000))
            written += 1
    assert disk.left < 50_000 + FRAME_BYTES + 2
    assert written >= 58
    one.close()
    assert [payload[:2] for payload in stored(tmp_path)] == [b"%02d" % i for i in range(written)]


@pytest.mark.parametrize("room", [0, ahead.LEAST_BYTES * ahead.SHARE - 1])
def test_where_there_is_little_room_none_is_taken(tmp_path, room, monkeypatch):
    monkeypatch.setattr(Disk, "room_bytes", lambda _self, _path: room)
    one = journal(tmp_path, Disk())
    write(one, b"a")
    assert [file.st_size for file in files(tmp_path).values()] == [HEADER_BYTES + FRAME_BYTES + 1]
    one.close()


def test_a_killed_workers_zeros_go(tmp_path, caplog):
    one = journal(tmp_path, Disk())
    write(one, b"a")
    one._place.leave()  # as its end does
    adopt(tmp_path / "log")
    assert [file.st_size for file in files(tmp_path).values()] == [HEADER_BYTES + FRAME_BYTES + 1]
    assert stored(tmp_path) == [b"a"]
    assert "cut off" not in caplog.text, "no record was lost, and none is to be looked for"


def test_a_frame_that_became_zeros_among_others_is_told(tmp_path, caplog):
    one = journal(tmp_path, Disk())
    for payload in (b"first", b"second", b"third"):
        write(one, payload)
    one._place.leave()
    first, _ = folder.listed(tmp_path / "log")
    data = bytearray(first.path.read_bytes())
    begin = HEADER_BYTES + FRAME_BYTES + len(b"first")
    data[begin : begin + FRAME_BYTES] = bytes(FRAME_BYTES)
    first.path.write_bytes(data)
    adopt(tmp_path / "log")
    assert stored(tmp_path) == [b"first", b"third"]
    assert f"{FRAME_BYTES + 6} bytes in 1 places are damaged, and their records lost" in caplog.text


@pytest.mark.parametrize("size", [READ_BYTES - HEADER_BYTES - FRAME_BYTES, 3 * READ_BYTES, 7 * READ_BYTES + 5])
def test_zeros_of_a_record_are_no_end(tmp_path, size):
    one = journal(tmp_path, Disk())
    write(one, bytes(size), b"behind")
    assert stored(tmp_path) == [bytes(size), b"behind"]
    one.close()
    assert stored(tmp_path) == [bytes(size), b"behind"]


def test_little_is_read_of_what_is_made_ready(tmp_path):
    one = journal(tmp_path, Disk())
    write(one, b"a")
    assert [len(folder.scan(segment).data) for segment in folder.listed(tmp_path / "log")] == [READ_BYTES, READ_BYTES]
    one.close()


class HeldDisk(Disk):
    """Writes of zeros wait until they may."""

    def __init__(self):
        self.may, self.waits = threading.Event(), threading.Event()

    def write(self, fd, pieces, at):
        if isinstance(pieces[0], memoryview):
            self.waits.set()
            assert self.may.wait(60)
        return super().write(fd, pieces, at)


def test_records_do_not_wait_for_zeros(tmp_path):
    disk = HeldDisk()
    one = Journal(tmp_path / "log", LogConfig(), disk)
    disk.may.set()
    one.start()
    disk.may.clear()
    for i in range(3):
        write(one, b"%d" % i)
    assert disk.waits.wait(60)
    write(one, bytes(2 * MIB))
    write(one, b"last")
    assert stored(tmp_path) == [b"0", b"1", b"2", bytes(2 * MIB), b"last"]
    disk.may.set()
    one.close()
    assert [segment.sealed for segment in folder.listed(tmp_path / "log")] == [True]
