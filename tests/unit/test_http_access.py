"""The access log: a line per answer through every door, errors included, and nothing in it that a client could forge."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.errors import DeadlineExceeded
from fastserve.http.access import MAX_TEXT_CHARS, AccessLog, Asked, encode
from fastserve.http.message import Response
from fastserve.types import InferResult, Timing
from tests.support.fake_doors import DOORS, FakeDoor
from tests.support.toy_protocol import TEXT

WALL_NS = 1_700_000_000_123_456_789
MakeDoor = Callable[..., FakeDoor]
FIELDS = ["time", "id", "client", "caller", "method", "path", "protocol", "model", "version", "status"]
FIELDS += ["request_bytes", "response_bytes", "queue_ms", "run_ms", "batch_rows", "total_ms"]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[AccessLog]:
    log = AccessLog(str(tmp_path / "access.log"), lambda count: None, lambda: WALL_NS)
    yield log
    log.close()


@pytest.fixture
def lines(tmp_path: Path, log: AccessLog) -> Callable[[], list[dict[str, Any]]]:
    """Ends the log; what was written."""

    def lines() -> list[dict[str, Any]]:
        log.close()
        return [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]

    return lines


@pytest.fixture(params=sorted(DOORS))
def door(request: pytest.FixtureRequest, log: AccessLog) -> Iterator[FakeDoor]:
    door = DOORS[request.param](access=log, compress_min_bytes=1000)
    yield door
    door.close()


@pytest.fixture(params=["rsgi", "asgi"])
def loop_door(request: pytest.FixtureRequest, log: AccessLog) -> Iterator[FakeDoor]:
    door = DOORS[request.param](access=log)
    yield door
    door.close()


Lines = Callable[[], list[dict[str, Any]]]


def test_an_answer_has_a_line(door: FakeDoor, lines: Lines):
    sent = door.post("/echo", b"hello")
    (line,) = lines()
    assert list(line) == FIELDS
    assert datetime.fromisoformat(line["time"]) == datetime.fromtimestamp(1_700_000_000, UTC).replace(
        microsecond=123456
    )
    assert line["time"].endswith("Z")
    expected = {"method": "POST", "path": "/echo", "protocol": "toy", "model": "m", "version": "1", "status": 200}
    expected |= {"request_bytes": 5, "response_bytes": 5, "client": "127.0.0.1:4711", "total_ms": 0.0}
    assert {name: line[name] for name in expected} == expected
    assert (line["queue_ms"], line["run_ms"], line["batch_rows"]) == (None, None, None)
    assert line["id"] == sent.headers["x-request-id"]


def test_what_a_model_took_is_told(door: FakeDoor, lines: Lines):
    door.post("/later")
    answer = door.toy.waiting[0].reply.then(lambda _: Response(200, TEXT, b"done"))
    door.advance(0.25)
    answer(InferResult("m", 1, {}, Timing(queue_ns=1_500_000, run_ns=12_345, batch_rows=7)))
    door.settle()
    (line,) = lines()
    assert (line["queue_ms"], line["run_ms"], line["batch_rows"], line["total_ms"]) == (1.5, 0.012, 7, 250.0)


@pytest.mark.parametrize(("path", "status"), [("/refuse", 400), ("/full", 429), ("/break", 500)])
def test_errors_have_lines(door: FakeDoor, lines: Lines, path: str, status: int):
    sent = door.post(path)
    (line,) = lines()
    assert (line["status"], line["path"], line["id"]) == (status, path, sent.headers["x-request-id"])
    assert line["response_bytes"] == len(sent.body)


def test_late_bodies_and_late_answers_have_lines(door: FakeDoor, lines: Lines):
    door.request("POST", "/echo", declared=10)
    door.advance(31)
    door.post("/later")
    door.toy.waiting[0].reply.fail(DeadlineExceeded("too late"))
    door.settle()
    assert [line["status"] for line in lines()] == [408, 504]


def test_paths_of_nobody_and_methods_of_nobody_have_lines(loop_door: FakeDoor, lines: Lines):
    loop_door.post("/nowhere", b"1234")
    loop_door.request("OPTIONS", "/echo")
    loop_door.request("GET", "/echo")
    loop_door.post("/waits", b"abc")
    assert [(line["method"], line["status"]) for line in lines()] == [
        *[("POST", 404), ("OPTIONS", 200), ("GET", 200), ("POST", 200)],
    ]


def test_bytes_are_counted_as_they_travel(door: FakeDoor, lines: Lines):
    body = b"abc" * 1000
    sent = door.post("/echo", body, {"accept-encoding": "gzip"})
    door.work()
    (line,) = lines()
    assert (line["request_bytes"], line["response_bytes"]) == (3000, len(sent.body))
    assert len(sent.body) < 100


# --- ids


@pytest.mark.parametrize("given", ["a", "7f3c-42", "x" * 128, "{id}/1:2~!", "#$%&'()*+,;=?@[]^_`|"])
def test_a_clients_id_is_kept(door: FakeDoor, lines: Lines, given: str):
    sent = door.post("/echo", headers={"x-request-id": given})
    assert sent.headers["x-request-id"] == given
    assert lines()[0]["id"] == given


@pytest.mark.parametrize(
    "given", ["", " ", "a b", "x" * 129, 'a"b', "a\\b", "a\tb", "caf\u00e9", "a\r\nSet-Cookie: b", "\x7f"]
)
def test_an_id_that_might_end_a_header_or_a_line_is_replaced(door: FakeDoor, lines: Lines, given: str):
    sent = door.post("/echo", headers={"x-request-id": given})
    assert re.fullmatch("[0-9a-f]{12}-[0-9a-f]+", sent.headers["x-request-id"])
    assert lines()[0]["id"] == sent.headers["x-request-id"]


def test_no_two_requests_have_one_id(door: FakeDoor):
    ids = [door.post("/echo").headers["x-request-id"] for _ in range(20)]
    assert len(set(ids)) == 20


@pytest.mark.parametrize("kind", sorted(DOORS))
def test_without_a_log_nothing_is_added(kind: str):
    door = DOORS[kind]()
    assert "x-request-id" not in door.post("/echo", headers={"x-request-id": "a"}).headers
    door.close()


# --- lines

TEXTS = st.one_of(st.text(), st.text(st.characters()), st.sampled_from(["a\nb", '"', "\\", "\u2028", "\ud800", "\x00"]))


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_whatever_a_client_calls_things_a_line_is_a_line(method: str, path: str, client: str, model: str):
    entry = (WALL_NS, "id", Asked(method, path, client, 1), "toy", (model, "1"), 200, 2, None, 3)
    text = encode([entry, entry])
    first, second, rest = text.split(b"\n")
    assert (first, rest) == (second, b"")
    line = json.loads(first)
    assert list(line) == FIELDS
    for name, value in (("method", method), ("path", path), ("client", client), ("model", model)):
        assert line[name] == (value if len(value) <= MAX_TEXT_CHARS else value[:MAX_TEXT_CHARS] + "...")


def test_long_paths_are_cut():
    entry = (WALL_NS, "id", Asked("GET", "/" * 100_000, "", 0), "toy", ("", ""), 404, 2, None, 3)
    assert len(encode([entry])) < 1000


def test_times_are_told_to_the_microsecond():
    def entry(wall_ns: int, elapsed_ns: int) -> Any:
        return (wall_ns, "id", Asked("GET", "/", "", 0), "toy", ("", ""), 200, 2, Timing(0, 999, 1), elapsed_ns)

    stamps = [0, 999_999_999, 1_000_000_000, 1_700_000_000_000_001_000]
    parsed = [json.loads(line) for line in encode([entry(s, s) for s in stamps]).splitlines()]
    assert [line["time"] for line in parsed] == [
        "1970-01-01T00:00:00.000000Z",
        "1970-01-01T00:00:00.999999Z",
        "1970-01-01T00:00:01.000000Z",
        "2023-11-14T22:13:20.000001Z",
    ]
    assert [line["total_ms"] for line in parsed[:3]] == [0.0, 1000.0, 1000.0]
    assert parsed[0]["run_ms"] == 0.001
