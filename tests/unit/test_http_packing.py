"""Answers compressed for clients that ask: which coding, from which size, on whose thread, and never another answer."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastserve.http.message import Response
from fastserve.http.packing import MAX_HEADER_CHARS, coding_for, packed
from tests.support.fake_doors import DOORS, Exchange, FakeDoor
from tests.support.toy_protocol import TEXT

FROM_BYTES = 1000
LONG = b'{"predictions": [0.25, 0.5]}' * 100
ASKED: list[tuple[str | None, str]] = [
    (None, ""),
    ("", ""),
    ("gzip", "gzip"),
    ("GZip", "gzip"),
    ("x-gzip", "gzip"),
    ("deflate", "deflate"),
    ("gzip, deflate", "gzip"),
    ("deflate, gzip", "gzip"),
    ("gzip, deflate, br, zstd", "gzip"),
    ("br, zstd", ""),
    ("identity", ""),
    ("*", "gzip"),
    ("*;q=0", ""),
    ("gzip;q=0, *", "deflate"),
    ("gzip;q=0", ""),
    ("gzip;q=0.000", ""),
    ("gzip;q=0.001", "gzip"),
    ("gzip;q=0.5, deflate;q=0.8", "deflate"),
    ("gzip; q=0.5 , deflate ;q = 0.2", "gzip"),
    ("gzip;q=0.5, identity;q=0.8", ""),
    ("gzip;q=0.5, identity;q=0.5", "gzip"),
    ("identity;q=0, gzip;q=0.1", "gzip"),
    ("gzip;q=1.000", "gzip"),
    ("gzip;q=2", "gzip"),
    ("gzip;q=-1", ""),
    ("gzip;q=", ""),
    ("gzip;q=high", ""),
    ("gzip;q=nan", ""),
    ("gzip;q=1e3", ""),
    ("gzip;level=9", "gzip"),
    ("gzip;q=0, gzip", "gzip"),
    (",,;;, ;q=1", ""),
    ("gzip" + "," * MAX_HEADER_CHARS, ""),
]


@pytest.mark.parametrize(("asked", "coding"), ASKED)
def test_the_best_coding_that_is_asked_for(asked: str | None, coding: str):
    assert coding_for(asked) == coding


WORDS = st.sampled_from(
    ["gzip", "deflate", "identity", "*", ";", ",", "q", "=", "0", ".", "1", "5", " ", "\t", "-", "e", "x-"]
)


@given(st.one_of(st.text(), st.lists(WORDS, max_size=30).map("".join)))
@example("\u0661;q=\u0661")
def test_whatever_is_asked_is_answered(asked: str):
    assert coding_for(asked) in ("", "gzip", "deflate")


UNPACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}


@given(st.binary(max_size=5000).map(lambda data: data * 3), st.sampled_from(sorted(UNPACK)))
def test_what_is_unpacked_is_what_was_packed(body: bytes, coding: str):
    response = packed(Response(200, TEXT, body), coding)
    headers = dict(response.headers)
    assert headers["vary"] == "Accept-Encoding"
    assert len(response.body) <= len(body)
    assert (UNPACK[coding](response.body) if "content-encoding" in headers else response.body) == body
    assert response.headers[: len(TEXT)] == TEXT


def test_what_does_not_shrink_goes_as_it_is():
    body = zlib.compress(LONG)
    response = packed(Response(200, TEXT, body), "gzip")
    assert (response.body, dict(response.headers).get("content-encoding")) == (body, None)


# --- through the doors


@pytest.fixture(params=sorted(DOORS))
def door(request: pytest.FixtureRequest) -> Iterator[FakeDoor]:
    door = DOORS[request.param](compress_min_bytes=FROM_BYTES)
    yield door
    door.close()


def ask(door: FakeDoor, body: bytes, asked: str | None, **headers: str) -> Exchange:
    return door.post("/echo", body, headers if asked is None else {"accept-encoding": asked, **headers})


@pytest.mark.parametrize("coding", sorted(UNPACK))
def test_an_answer_is_packed_by_the_executor_for_who_asks(door: FakeDoor, coding: str):
    sent = ask(door, LONG, coding)
    assert not sent.answered, "the door's thread does not compress"
    door.work()
    assert sent.status == 200
    assert (sent.headers["content-encoding"], sent.headers["content-type"]) == (coding, "text/plain")
    assert UNPACK[coding](sent.body) == LONG
    assert door.count('fastserve_requests_total{model="m",protocol="toy",status="200",version="1"}') == 1


@pytest.mark.parametrize("asked", [None, "br", "gzip;q=0"])
def test_others_get_it_as_it_is_at_once(door: FakeDoor, asked: str | None):
    sent = ask(door, LONG, asked)
    assert (sent.body, sent.headers.get("content-encoding")) == (LONG, None)
    assert sent.headers["vary"] == "Accept-Encoding"


def test_short_answers_stay_as_they_are(door: FakeDoor):
    body = LONG[: FROM_BYTES - 1]
    sent = ask(door, body, "gzip")
    assert (sent.body, sent.headers.get("content-encoding"), sent.headers.get("vary")) == (body, None, None)


@pytest.mark.parametrize("kind", sorted(DOORS))
def test_where_it_is_off_nothing_is_packed(kind: str):
    door = DOORS[kind](compress_min_bytes=0)
    sent = ask(door, LONG, "gzip")
    assert (sent.body, sent.headers.get("content-encoding"), sent.headers.get("vary")) == (LONG, None, None)
    door.close()


def test_packing_and_draining_and_pages(door: FakeDoor):
    with_pages = type(door)(compress_min_bytes=FROM_BYTES, cors_origins=("https://a.example",))
    with_pages.site.ask_to_leave(True)
    sent = ask(with_pages, LONG, "gzip", origin="https://a.example")
    with_pages.work()
    assert sent.headers["content-encoding"] == "gzip"
    assert sent.headers["connection"] == "close"
    assert sent.headers["access-control-allow-origin"] == "https://a.example"
    with_pages.close()


def test_a_client_that_leaves_while_its_answer_is_packed_harms_nobody(door: FakeDoor, caplog: pytest.LogCaptureFixture):
    leaving = ask(door, LONG, "gzip")
    leaving.leave()
    staying = ask(door, LONG, "gzip")
    door.work()
    assert gzip.decompress(staying.body) == LONG
    assert caplog.text == ""


def test_no_memory_to_pack_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch):
    def no_memory(*_: Any) -> bytes:
        raise MemoryError

    monkeypatch.setattr("fastserve.http.packing.zlib.compress", no_memory)
    assert packed(Response(200, TEXT, LONG), "gzip").body == LONG
