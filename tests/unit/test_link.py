"""Frames arrive whole and in order however they are cut; a peer that goes, or sends nonsense, ends its link."""

import socket
import struct
from collections.abc import Iterator
from queue import SimpleQueue

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve.server import link as link_module
from fastserve.server.link import MAX_FRAME_BYTES, Link, LinkThread
from tests.support.waiting import WITHIN_S


class End:
    """One end, on a thread of its own; the other one is a plain socket."""

    def __init__(self) -> None:
        ours, self.other = socket.socketpair()
        self.other.settimeout(WITHIN_S)
        self.frames: SimpleQueue[bytes] = SimpleQueue()
        self.closed: SimpleQueue[bool] = SimpleQueue()
        self.thread = LinkThread("test", lambda: None)
        self.link = Link(self.thread, ours, self.frames.put, lambda: self.closed.put(True))
        self.thread.start()

    def stop(self) -> None:
        self.thread.call(self.link.close)
        self.thread.stop()
        self.other.close()


@pytest.fixture
def end() -> Iterator[End]:
    one = End()
    yield one
    one.stop()


def framed(frame: bytes) -> bytes:
    return struct.pack("<I", len(frame)) + frame


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(1, 500), max_size=12))
def test_frames_are_what_was_sent_however_they_are_cut(frames: list[bytes], cuts: list[int]) -> None:
    end = End()
    try:
        data = b"".join(map(framed, frames))
        for cut in cuts:
            end.other.sendall(data[:cut])
            data = data[cut:]
        end.other.sendall(data)
        assert [end.frames.get(timeout=WITHIN_S) for _ in frames] == frames
    finally:
        end.stop()


def test_a_large_frame_goes_out_while_the_other_side_reads_slowly(end: End):
    frame = bytes(range(256)) * 20_000
    end.thread.call(lambda: end.link.send(frame))
    end.thread.call(lambda: end.link.send(b"next"))
    wanted, got = framed(frame) + framed(b"next"), bytearray()
    while len(got) < len(wanted):
        got += end.other.recv(100_000)
    assert got == wanted


def test_a_peer_that_goes_is_told_once(end: End):
    end.other.close()
    assert end.closed.get(timeout=WITHIN_S)
    end.thread.call(lambda: end.link.send(b"to nobody"))
    end.thread.call(end.link.close)
    end.thread.call(lambda: end.frames.put(b"done"))
    assert end.frames.get(timeout=WITHIN_S) == b"done"
    assert end.closed.empty()


def test_a_length_that_cannot_be_ends_the_link_before_any_memory_is_taken(end: End):
    end.other.sendall(struct.pack("<I", MAX_FRAME_BYTES + 1))
    assert end.closed.get(timeout=WITHIN_S)


def test_a_peer_that_reads_nothing_loses_its_link(end: End, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(link_module, "MAX_UNSENT_BYTES", 1 << 20)
    end.thread.call(lambda: end.link.send(bytes(1 << 22)))
    assert end.closed.get(timeout=WITHIN_S)


def test_a_job_that_breaks_is_logged_and_the_next_one_is_done(end: End, caplog: pytest.LogCaptureFixture):
    end.thread.call(lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    end.thread.call(lambda: end.frames.put(b"done"))
    assert end.frames.get(timeout=WITHIN_S) == b"done"
    assert "ZeroDivisionError" in caplog.text
