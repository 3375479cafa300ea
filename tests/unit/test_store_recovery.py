"""What dead workers left is cut, sealed or set aside; what living ones have is not touched; every released format is read."""

import base64
import os
import threading
import time
from pathlib import Path

import pytest

from fastserve.config import LogConfig
from fastserve.store import folder, frames
from fastserve.store.disk import Disk
from fastserve.store.errors import SegmentUnreadable
from fastserve.store.folder import LOCK, Place
from fastserve.store.frames import FRAME_BYTES, HEADER_BYTES, VOUCHES, Kind, encode, new_header, read_header
from fastserve.store.recovery import ABANDONED_S, adopt
from fastserve.store.writer import Writer
from tests.support.disks import BROKEN, FailingDisk

WORKER = "00112233445566778899aabbccddeeff"


def left_behind(directory: Path, data: bytes, number: int = 1) -> Path:
    """An open segment of a worker that is dead."""
    (directory / WORKER).mkdir(parents=True, exist_ok=True)
    path = directory / WORKER / f"{number:08}.open"
    path.write_bytes(data)
    return path


def segment(*payloads: bytes, vouched: bool = True) -> bytes:
    header = new_header(WORKER, 1, 0)
    seed = read_header(header).seed
    pieces = [
        piece
        for seq, payload in enumerate(payloads)
        for piece in encode([(Kind.RECORD, payload)], 1, range(seq, seq + 1), seed, VOUCHES if vouched else 0)
    ]
    return header + b"".join(pieces)


def stored(directory: Path) -> list[bytes]:
    return [frame.payload for one in folder.listed(directory) for frame in folder.scan(one)]


def test_a_torn_tail_is_cut_and_the_segment_sealed(tmp_path, caplog):
    whole = segment(b"a", b"b")
    path = left_behind(tmp_path, whole + segment(b"c")[HEADER_BYTES:-1])
    assert stored(tmp_path) == [b"a", b"b"]
    assert adopt(tmp_path) == 1
    assert path.with_suffix(".seg").read_bytes() == whole
    assert not path.exists()
    assert f"{FRAME_BYTES} bytes were being written" in caplog.text
    assert adopt(tmp_path) == 0


def test_a_flipped_bit_costs_its_record_and_is_told(tmp_path, caplog):
    data = bytearray(segment(b"a", b"b" * 50, b"c"))
    data[-FRAME_BYTES - 1 - 20] ^= 4
    left_behind(tmp_path, bytes(data))
    assert adopt(tmp_path) == 1
    assert stored(tmp_path) == [b"a", b"c"]
    assert f"{FRAME_BYTES + 50} bytes in 1 places are damaged" in caplog.text


@pytest.mark.parametrize("data", [b"", segment()[:30], segment()], ids=["nothing", "half a header", "a header"])
def test_one_whose_first_write_never_ended_goes_with_its_folder(tmp_path, data):
    path = left_behind(tmp_path, data)
    adopt(tmp_path)
    assert not path.exists()
    adopt(tmp_path)
    assert folder.workers(tmp_path) == []


def test_one_without_a_header_is_set_aside(tmp_path, caplog):
    path = left_behind(tmp_path, bytes(HEADER_BYTES) + segment(b"a")[HEADER_BYTES:])
    adopt(tmp_path)
    assert path.with_suffix(".damaged").exists()
    assert "it is kept as .damaged" in caplog.text
    assert folder.listed(tmp_path) == []


def test_one_of_a_later_version_is_left_as_it_is(tmp_path, caplog):
    data = bytearray(segment(b"a"))
    data[8] = 9
    path = left_behind(tmp_path, bytes(data))
    adopt(tmp_path)
    assert path.read_bytes() == bytes(data)
    assert "a segment of version 9; this program reads 1" in caplog.text
    with pytest.raises(SegmentUnreadable, match="version 9"):
        folder.scan(folder.listed(tmp_path)[0])


def test_what_a_living_worker_has_is_not_touched(tmp_path):
    writer, stored_it = Writer(tmp_path, LogConfig()), threading.Event()
    writer.append([(Kind.RECORD, b"a")], lambda _: stored_it.set())
    assert stored_it.wait(20)
    assert adopt(tmp_path) == 0
    Writer(tmp_path, LogConfig()).close(20)
    assert len(folder.workers(tmp_path)) == 2
    writer.append([(Kind.RECORD, b"b")])
    writer.close(20)
    assert stored(tmp_path) == [b"a", b"b"]


def test_a_folder_that_never_got_its_name_goes_after_a_while(tmp_path):
    hidden = tmp_path / f".{WORKER}"
    hidden.mkdir()
    (hidden / LOCK).touch()
    adopt(tmp_path)
    assert hidden.exists(), "its worker may be about to name it"
    long_ago = time.time() - ABANDONED_S - 1
    os.utime(hidden, (long_ago, long_ago))
    adopt(tmp_path)
    assert not hidden.exists()


@pytest.mark.parametrize("call", ["lock", "open", "sync", "cut", "rename", "sync_folder"])
def test_what_cannot_be_recovered_now_is_recovered_later(tmp_path, call):
    left_behind(tmp_path, segment(b"a") + b"torn")
    disk = FailingDisk()
    disk.fail(BROKEN, call)
    adopt(tmp_path, disk)
    assert stored(tmp_path) == [b"a"]
    disk.heal()
    adopt(tmp_path, disk)
    assert stored(tmp_path) == [b"a"]
    assert [one.sealed for one in folder.listed(tmp_path)] == [True]


class Between(Disk):
    """Another adopter comes right after this one locked an empty folder, or took its lock away."""

    def __init__(self, after: str) -> None:
        self._after = after

    def lock(self, path: Path) -> int | None:
        held = super().lock(path)
        if self._after == "lock" and path.name == LOCK:
            path.unlink()
            path.parent.rmdir()
        return held

    def remove(self, path: Path) -> None:
        super().remove(path)
        if self._after == "remove":
            path.touch()


@pytest.mark.parametrize("after", ["lock", "remove"])
def test_two_that_adopt_the_same_empty_folder_say_nothing_of_it(tmp_path, caplog, after):
    left_behind(tmp_path, b"").unlink()
    assert adopt(tmp_path, Between(after)) == 0
    assert caplog.text == ""
    adopt(tmp_path)
    assert folder.workers(tmp_path) == []


def test_workers_that_live_have_slots_of_their_own_and_those_of_the_dead(tmp_path):
    places = [Place(tmp_path) for _ in range(3)]
    assert [one.slot for one in places] == [0, 1, 2]
    places[1].leave()
    assert Place(tmp_path).slot == 1


@pytest.mark.parametrize("path", sorted((Path(__file__).parent / "store_formats").glob("*.b64")), ids=lambda p: p.stem)
def test_segments_of_every_released_version_are_read(path):
    data = base64.b64decode(path.read_bytes())
    header = read_header(data)
    assert path.stem == f"version_{header.version}"
    assert (header.worker, header.number) == (WORKER, 7)
    scan = frames.Scan(header, data)
    assert [(frame.kind, frame.ingest_ns, frame.seq, frame.payload) for frame in scan] == [
        (Kind.RECORD, 1_700_000_000_000_000_001, 5120, b"first"),
        (Kind.RECORD, 1_700_000_000_000_000_002, 6144, b"second, with the third"),
        (Kind.OWN, 1_700_000_000_000_000_002, 7168, b"\x00\xff third"),
    ]
    assert scan.is_sealed
    assert scan.damage == []
    assert scan.end == len(data)


def test_there_is_a_file_of_each_version():
    there = {path.stem for path in (Path(__file__).parent / "store_formats").iterdir()}
    assert there == {f"version_{version}" for version in frames.READERS}
