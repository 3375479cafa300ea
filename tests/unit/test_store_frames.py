"""Frames: what goes in comes out, whatever happens to the bytes between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.store import frames
from fastserve.store.errors import RecordTooLarge, SegmentUnreadable
from fastserve.store.frames import CONTINUES, HEADER_BYTES, MORE, VOUCHES, Damage, Kind, Scan, encode, read_header

WORKER = "0123456789abcdef0123456789abcdef"
HEADER = frames.new_header(WORKER, 7, 1_700_000_000_000_000_000)
SEED = read_header(HEADER).seed

payloads = st.binary(max_size=200) | st.just(HEADER) | st.just(b"\xf7\x9c\x1e" * 20)
appends = st.lists(st.lists(st.tuples(st.sampled_from([1, 2, 3, 4]), payloads), min_size=1, max_size=4), max_size=6)


def written(groups, vouched=frozenset(), seed=SEED):
    """A segment with these appends, those in `vouched` after a sync; and where each of them ends."""
    data, ends, seq = HEADER, [], 1
    for index, group in enumerate(groups):
        flags = VOUCHES if index in vouched else 0
        data += b"".join(encode(group, 5, range(seq, seq + len(group)), seed, flags))
        seq += len(group)
        ends.append(len(data))
    return data, ends


def read(data, *, final=True):
    scan = Scan(read_header(data), data, final=final)
    return [(frame.kind, frame.payload) for frame in scan], scan


def test_the_header_says_whose_segment_it_is():
    header = read_header(HEADER)
    assert (header.version, header.worker, header.number, header.made_ns) == (1, WORKER, 7, 1_700_000_000_000_000_000)
    assert len(HEADER) == HEADER_BYTES == 64


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no segment"),
        (b"PK\x03\x04" + bytes(60), "no segment"),
        (HEADER[:40], "cut"),
        (HEADER[:8] + b"\x02" + HEADER[9:], "version 2; this program reads 1"),
        (HEADER[:40] + b"\xff" + HEADER[41:], "damaged"),
    ],
    ids=["nothing", "another file", "half of it", "a later version", "another byte"],
)
def test_what_is_no_header_is_told(data, message):
    with pytest.raises(SegmentUnreadable, match=message):
        read_header(data)


@given(appends)
def test_what_is_appended_comes_back(groups):
    data, _ = written(groups)
    for final in (True, False):
        found, scan = read(data, final=final)
        assert found == [one for group in groups for one in group]
        assert (scan.end, scan.damage) == (len(data), [])
    assert [frame.seq for frame in Scan(read_header(data), data)] == list(range(1, len(found) + 1))


@given(appends, st.data())
def test_a_torn_tail_takes_nothing_but_the_append_that_was_torn(groups, draw):
    data, ends = written(groups)
    cut = draw.draw(st.integers(HEADER_BYTES, len(data)))
    whole = sum(end <= cut for end in ends)
    for final in (True, False):
        found, scan = read(data[:cut], final=final)
        assert found == [one for group in groups[:whole] for one in group]
        assert scan.end == (ends[whole - 1] if whole else HEADER_BYTES)
        assert scan.damage == []


@given(appends, st.data())
def test_a_scan_goes_on_where_the_last_one_ended(groups, draw):
    data, _ = written(groups)
    cut = draw.draw(st.integers(HEADER_BYTES, len(data)))
    found, scan = read(data[:cut], final=False)
    rest = Scan(read_header(data), data[scan.end :], scan.end, final=False)
    assert found + [(frame.kind, frame.payload) for frame in rest] == [one for group in groups for one in group]
    assert rest.end == len(data)


@given(appends.filter(bool), st.data())
def test_a_flipped_bit_takes_one_frame_and_no_other_that_was_acknowledged(groups, draw):
    """All appends were synced one by one, and a seal vouches for the last."""
    data, _ = written([*groups, [(Kind.SEAL, b"")]], vouched=range(len(groups) + 1))
    last = len(data) - frames.FRAME_BYTES
    bit = draw.draw(st.integers(HEADER_BYTES * 8, last * 8 - 1))
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    found, scan = read(bytes(damaged))
    expected = [one for group in groups for one in group]
    assert any(found == expected[:i] + expected[i + 1 :] for i in range(len(expected)))
    assert len(scan.damage) == 1
    assert scan.is_sealed
    assert scan.end == len(data)


def test_of_a_torn_append_nothing_is_shown_though_later_bytes_arrived():
    """Power was lost: the disk had written the second half of what was not synced, and not the first."""
    data, ends = written([[(1, b"old")], [(1, b"a" * 50), (1, b"b" * 50)], [(1, b"new")]], vouched={0, 1})
    torn = data[: ends[0] + 10] + bytes(20) + data[ends[0] + 30 :]
    found, scan = read(torn)
    assert found == [(1, b"old"), (1, b"new")]
    assert scan.damage == []


def test_what_is_in_doubt_while_it_is_written_is_shown_once_it_is_vouched_for():
    groups = [[(1, b"first")], [(1, b"second")], [(1, b"third")]]
    data, ends = written(groups, vouched={0})
    damaged = bytearray(data)
    damaged[ends[0] + 34] ^= 1
    found, scan = read(bytes(damaged), final=False)
    assert (found, scan.end) == ([(1, b"first")], ends[0])
    more = bytes(damaged) + b"".join(encode([(1, b"fourth")], 5, range(9, 10), SEED, VOUCHES))
    rest = Scan(read_header(data), more[scan.end :], scan.end, final=False)
    assert [frame.payload for frame in rest] == [b"third", b"fourth"]
    assert rest.damage == [Damage(ends[0], ends[1] - ends[0])]
    assert rest.end == len(more)


def test_frames_of_another_segment_are_none():
    other = frames.new_header(WORKER, 8, 0)
    data, _ = written([[(1, b"mine")]])
    stale = b"".join(encode([(1, b"theirs")], 5, range(2, 3), read_header(other).seed))
    found, scan = read(data + stale)
    assert found == [(1, b"mine")]
    assert scan.end == len(data)


def test_zeros_are_no_frames():
    data, _ = written([[(1, b"mine")]])
    found, scan = read(data + bytes(8192))
    assert (found, scan.end) == ([(1, b"mine")], len(data))


@given(st.binary(max_size=400))
def test_any_bytes_behind_a_header_are_read_without_an_error(junk):
    found, _ = read(HEADER + junk)
    assert found == []


def test_flags_hold_an_append_together():
    data = b"".join(encode([(1, b"a"), (2, b"b"), (3, b"c")], 1, range(3), SEED, VOUCHES))
    assert list(data[:: frames.FRAME_BYTES + 1]) == [1 | VOUCHES | MORE, 2 | CONTINUES | MORE, 3 | CONTINUES]


def test_a_payload_beyond_the_limit_is_refused():
    """It is refused before it is looked at: no byte of it is ever touched, so it takes no memory."""
    with pytest.raises(RecordTooLarge, match=f"{(1 << 30) + 1} bytes is larger than the {1 << 30}"):
        encode([(1, b""), (1, bytes(frames.MAX_PAYLOAD_BYTES + 1))], 1, range(2), SEED)
