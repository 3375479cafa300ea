"""Frames as the native function writes them, against the plain twin."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve._ext import logframes
from fastserve._ext.logframes import LARGE_BYTES
from fastserve.store import frames
from tests.reference import logframes as reference

SIZES = st.integers(0, 200) | st.sampled_from([LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1, 3 * LARGE_BYTES])
PAYLOADS = st.binary(max_size=100) | st.builds(lambda size, byte: bytes([byte]) * size, SIZES, st.integers(0, 255))
APPENDS = st.lists(st.tuples(st.integers(0, 31), PAYLOADS), max_size=12)
WORDS = st.integers(0, 2**64 - 1)


@given(
    APPENDS, WORDS, st.integers(0, 2**62), st.integers(1, 2**20), st.integers(0, 2**32 - 1), st.sampled_from([0, 0x20])
)
def test_bytes_are_those_of_the_reference(append, ingest_ns, seq, step, seed, flags):
    given = (append, ingest_ns, seq, step, seed, flags)
    assert b"".join(logframes.encode(*given)) == reference.encode(*given)


def test_what_is_large_is_not_copied():
    large = bytes(LARGE_BYTES + 1)
    pieces = logframes.encode([(1, b"a"), (1, large), (1, b"b"), (2, large)], 1, 1, 1, 1, 0)
    assert [piece is large for piece in pieces] == [False, True, False, True]
    assert logframes.encode([], 1, 1, 1, 1, 0) == []


def test_what_is_written_is_what_is_read():
    names = ("FRAME_BYTES", "MARK")
    assert [getattr(logframes, name) for name in names] == [frames.FRAME_BYTES, frames.MARK]


@pytest.mark.parametrize(
    ("append", "expected"),
    [
        ([(32, b"")], OverflowError),
        ([(-1, b"")], OverflowError),
        ([(1, "text")], TypeError),
        ([(1, bytearray(b"x"))], TypeError),
        ([(1, b"", 2)], ValueError),
        ([("a", b"")], ValueError),
        ([None], TypeError),
        (None, TypeError),
    ],
    ids=str,
)
def test_what_no_frame_holds_is_refused(append, expected):
    with pytest.raises(expected):
        logframes.encode(append, 1, 1, 1, 1, 0)
