"""Bodies within their limits: lengths as declared, chunks as they come, and what unfolds."""

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.errors import FastServeError, InvalidRequest, PayloadTooLarge, UnsupportedEncoding
from fastserve.http.body import Collected, declared_bytes, decompressed

LIMIT = 1000


def raw_deflate(body: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(body) + deflater.flush()


FOLDS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    " GZip ": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
}
"""Content-Encoding, and how a client makes such a body."""


@pytest.mark.parametrize(("header", "declared"), [(None, None), ("0", 0), ("1", 1), ("0007", 7), (str(LIMIT), LIMIT)])
def test_a_declared_length_within_the_limit_is_taken_as_it_is(header: str | None, declared: int | None):
    assert declared_bytes(header, LIMIT) == declared


@pytest.mark.parametrize("header", [str(LIMIT + 1), "9" * 18])
def test_a_declared_length_beyond_the_limit_is_refused_before_anything_is_read(header: str):
    with pytest.raises(PayloadTooLarge, match="1000 bytes"):
        declared_bytes(header, LIMIT)


@pytest.mark.parametrize(
    "header", ["", "-1", "+1", "1.0", "0x10", "1_000", " 1", "1, 1", "²", "\u0661", "9" * 19, "1" * 10_000]
)
def test_a_declared_length_that_is_no_number_is_told_in_short(header: str):
    with pytest.raises(InvalidRequest, match="Content-Length") as caught:
        declared_bytes(header, LIMIT)
    assert len(str(caught.value)) < 400


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_chunks_are_the_body(chunks: list[bytes]):
    collected = Collected(800)
    for chunk in chunks:
        collected.add(chunk)
    assert collected.body() == b"".join(chunks)


@given(st.lists(st.integers(0, 400), min_size=1, max_size=10))
def test_chunks_are_refused_with_the_first_byte_beyond_the_limit(sizes: list[int]):
    collected = Collected(LIMIT)
    total = 0
    for size in sizes:
        total += size
        if total > LIMIT:
            with pytest.raises(PayloadTooLarge):
                collected.add(bytes(size))
            return
        collected.add(bytes(size))
    assert len(collected.body()) == total


def test_the_only_chunk_is_not_copied():
    collected = Collected(LIMIT)
    chunk = b"one chunk"
    collected.add(b"")
    collected.add(chunk)
    assert collected.body() is chunk


@given(st.binary(max_size=LIMIT), st.sampled_from(sorted(FOLDS)))
def test_what_was_folded_unfolds(body: bytes, encoding: str):
    assert decompressed(FOLDS[encoding](body), encoding, LIMIT) == body


@pytest.mark.parametrize("encoding", sorted(FOLDS))
def test_the_limit_is_the_last_size_that_unfolds(encoding: str):
    assert decompressed(FOLDS[encoding](bytes(LIMIT)), encoding, LIMIT) == bytes(LIMIT)
    with pytest.raises(PayloadTooLarge):
        decompressed(FOLDS[encoding](bytes(LIMIT + 1)), encoding, LIMIT)


@pytest.mark.parametrize("encoding", ["", "identity", "Identity"])
def test_a_body_that_is_not_folded_is_itself(encoding: str):
    body = b"plain"
    assert decompressed(body, encoding, LIMIT) is body


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "gzip, identity", "g" * 5000])
def test_other_encodings_are_named_and_refused(encoding: str):
    with pytest.raises(UnsupportedEncoding, match="Content-Encoding") as caught:
        decompressed(gzip.compress(b"{}"), encoding, LIMIT)
    assert len(str(caught.value)) < 400


@given(st.binary(min_size=1, max_size=300), st.sampled_from(sorted(FOLDS)), st.data())
def test_a_folded_body_that_is_cut_anywhere_is_refused(body: bytes, encoding: str, data: st.DataObject):
    folded = FOLDS[encoding](body)
    cut = data.draw(st.integers(0, len(folded) - 1))
    with pytest.raises(InvalidRequest, match="not valid"):
        decompressed(folded[:cut], encoding, LIMIT)


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate"]))
def test_anything_at_all_unfolds_or_is_refused(body: bytes, encoding: str):
    try:
        unfolded = decompressed(body, encoding, LIMIT)
    except FastServeError:
        return
    assert len(unfolded) <= LIMIT


@pytest.mark.parametrize("encoding", sorted(FOLDS))
@pytest.mark.parametrize("more", [b"garbage", gzip.compress(b"a second member", mtime=0)])
def test_what_follows_the_end_is_not_dropped_silently(encoding: str, more: bytes):
    with pytest.raises(InvalidRequest, match="more data follows"):
        decompressed(FOLDS[encoding](b"{}") + more, encoding, LIMIT)


def test_a_gzip_body_whose_checksum_is_wrong_is_refused():
    folded = bytearray(gzip.compress(b"some text"))
    folded[-5] ^= 1
    with pytest.raises(InvalidRequest, match="not valid gzip"):
        decompressed(bytes(folded), "gzip", LIMIT)


def test_a_bomb_takes_the_limit_of_memory_and_no_more():
    bomb = gzip.compress(bytes(64 << 20))
    limit = 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLarge):
            decompressed(bomb, "gzip", limit)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * limit
