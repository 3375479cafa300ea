"""Latencies in buckets, and answers from pieces: against the twins, numpy, and by hand."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastserve._ext.loadgen import HIGHEST_VALUE, AnswerReader, HdrHistogram, arrivals
from tests.reference import loadgen as reference

values = st.lists(
    st.one_of(st.integers(0, 5000), st.integers(0, HIGHEST_VALUE), st.integers(0, 42).map(lambda bit: 1 << bit)),
    min_size=1,
    max_size=50,
).map(lambda given: [min(value, HIGHEST_VALUE) for value in given])
shares = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.999, 1.0]))


def histogram_of(given: list[int]) -> HdrHistogram:
    histogram = HdrHistogram()
    for value in given:
        histogram.record(value)
    return histogram


@given(values, shares)
def test_a_quantile_is_numpys_and_at_most_a_thousandth_above(given: list[int], share: float) -> None:
    exact = reference.quantile(given, share)
    assert exact == np.percentile(given, share * 100, method="inverted_cdf") or 0 < share < 1  # 100 * share rounds
    got = histogram_of(given).quantile(share)
    assert exact <= got <= exact + exact // 1024
    assert got <= max(given)


@given(values, values)
def test_adding_is_counting_both(one: list[int], other: list[int]) -> None:
    together = histogram_of(one)
    together.add(histogram_of(other))
    both = histogram_of(one + other)
    for share in (0.0, 0.25, 0.5, 0.99, 1.0):
        assert together.quantile(share) == both.quantile(share)
    assert (together.count, together.least, together.most) == (both.count, both.least, both.most)
    assert together.mean == pytest.approx(np.mean(one + other))


@given(values)
def test_buckets_hold_every_value_once(given: list[int]) -> None:
    highest, counts = histogram_of(given).buckets()
    assert counts.sum() == len(given)
    assert list(highest) == sorted(set(highest))
    place = np.searchsorted(highest, given)  # the first bucket that is not below
    assert np.bincount(place, minlength=len(highest)).tolist() == counts.tolist()


def test_values_out_of_range_count_at_its_ends() -> None:
    histogram = histogram_of([-5, HIGHEST_VALUE + 1])
    assert (histogram.least, histogram.most, histogram.count) == (0, HIGHEST_VALUE, 2)
    assert histogram.quantile(1.0) == HIGHEST_VALUE


def test_an_empty_histogram_is_all_zeros() -> None:
    histogram = HdrHistogram()
    assert (histogram.count, histogram.least, histogram.most, histogram.mean) == (0, 0, 0, 0.0)
    assert histogram.quantile(0.99) == 0
    assert [len(part) for part in histogram.buckets()] == [0, 0]


def test_a_value_may_be_recorded_many_times() -> None:
    histogram = HdrHistogram()
    histogram.record(7, 1000)
    histogram.record(9, 0)
    assert (histogram.count, histogram.most, histogram.mean) == (1000, 7, 7.0)
    with pytest.raises(ValueError, match="at least 0 times"):
        histogram.record(1, -1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        histogram.quantile(1.5)


def test_arrivals_come_at_the_rate_with_poissons_spread() -> None:
    times = arrivals(1000.0, 20_000, True, 7)
    gaps = np.diff(times, prepend=0)
    assert (gaps >= 0).all()
    assert np.mean(gaps) == pytest.approx(1e6, rel=0.03)
    assert np.std(gaps) == pytest.approx(1e6, rel=0.05)  # of an exponential, what its mean is
    assert (times == arrivals(1000.0, 20_000, True, 7)).all()
    assert (times != arrivals(1000.0, 20_000, True, 8)).any()
    assert arrivals(1000.0, 3, False).tolist() == [1_000_000, 2_000_000, 3_000_000]
    with pytest.raises(ValueError, match="rate above 0"):
        arrivals(0.0, 1)


# --- answers


def read(pieces: list[bytes]) -> reference.Outcome:
    """The outcome of pieces as they come."""
    reader, before = AnswerReader(), 0
    for piece in pieces:
        try:
            used = reader.feed(piece)
        except ValueError:
            return reference.BAD
        if used is not None:
            return reference.Outcome("done", before + used, reader.status, reader.keeps, reader.body_bytes)
        before += len(piece)
    return reference.MORE


def chunked(parts: list[bytes]) -> bytes:
    return b"".join(b"%x;a=b\r\n%b\r\n" % (len(part), part) for part in parts if part) + b"0\r\n"


bodies = st.binary(max_size=40)
heads = st.sampled_from([
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 404 Not Found\n", b"HTTP/1.1 204\r\n", b"HTTP/1.1 304 \r\n", b"HTTP/1.1 99 X\r\n",
    b"HTTP/2 200\r\n", b"HTTP/1.1 2x0\r\n", b"HTTP/1.1 101 Switching\r\n", b"http/1.1 200 OK\r\n", b"HTTP/1.1 503 Busy\r\n",
])  # fmt: skip
fields = st.lists(
    st.sampled_from([
        b"Content-Type: text/plain\r\n", b"connection: CLOSE\r\n", b"Connection: keep-alive, x\r\n", b" folded\r\n",
        b"Content-Length: 5\r\n", b"content-length:\t5 \r\n", b"Content-Length: 6\r\n", b"Content-Length: -1\r\n",
        b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: gzip, Chunked\r\n", b"no colon\r\n",
        b"Transfer-Encoding: identity\r\n", b"x:y\n", b"Content-Length: 5, 5\r\n", b"Content-Length:\r\n",
    ]),
    max_size=4,
)  # fmt: skip
interim = st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"])
messages = st.one_of(
    st.builds(
        lambda before, head, lines, body: before + head + b"".join(lines) + b"\r\n" + body,
        interim, heads, fields, bodies,
    ),
    st.builds(
        lambda lines, parts, rest: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
        + b"".join(lines) + b"\r\n" + chunked(parts) + rest,
        fields, st.lists(bodies, max_size=3), st.sampled_from([b"\r\n", b"A: b\r\n\r\nmore", b"", b"\n"]),
    ),
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    message = bytearray(draw(messages))
    for _ in range(draw(st.integers(0, 3))):
        if message:
            message[draw(st.integers(0, len(message) - 1))] = draw(st.sampled_from(list(b"\r\n:; ,0a5\x00\xff")))
    return bytes(message)


@given(mutated(), st.lists(st.integers(0, 200), max_size=6))
@example(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP", [])
def test_an_answer_in_pieces_is_what_the_twin_reads_whole(message: bytes, cuts: list[int]) -> None:
    ends = sorted({min(cut, len(message)) for cut in cuts} | {len(message)})
    pieces = [message[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert read(pieces) == reference.answer(message)
    assert read([message[at : at + 1] for at in range(len(message))]) == reference.answer(message)


ENDS = [
    (b"HTTP/1.1 200 OK\r\n\r\nabc", 3),
    (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabcd", 4),
]


@pytest.mark.parametrize(("message", "body_bytes"), ENDS)
def test_an_answer_without_a_length_ends_with_the_connection(message: bytes, body_bytes: int) -> None:
    reader = AnswerReader()
    assert reader.feed(message) is None
    assert reader.end()
    assert (reader.status, reader.keeps, reader.body_bytes) == (200, False, body_bytes)
    with pytest.raises(ValueError, match="is over"):
        reader.feed(b"x")


@pytest.mark.parametrize(
    "message",
    [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"],
)
def test_an_answer_that_breaks_off_is_told(message: bytes) -> None:
    reader = AnswerReader()
    assert reader.feed(message) is None
    with pytest.raises(ValueError, match="in the middle of the answer"):
        reader.end()


ENDLESS = [
    (b"HTTP/1.1 200 OK\r\nx: ", b"y" * 1000, 70),
    (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 100, 450),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n" * 100, 450),
]


@pytest.mark.parametrize(("start", "more", "times"), ENDLESS)
def test_a_head_without_an_end_is_given_up(start: bytes, more: bytes, times: int) -> None:
    assert read([start, *[more] * times]) == reference.BAD


def test_the_beginning_of_what_an_error_says_is_kept() -> None:
    reader = AnswerReader()
    reader.feed(b"HTTP/1.1 404 No\r\nContent-Length: 2000\r\n\r\n" + b"a" * 2000)
    assert reader.sample == b"a" * 600
    reader = AnswerReader()
    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab")
    assert reader.sample == b""
