"""Every door answers once, in the protocol's shape, within its limits; and nobody waits for clients that are gone."""

import gzip
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastserve.errors import Cancelled, DeadlineExceeded
from fastserve.http.direct import LONG_QUEUED_NS
from fastserve.http.message import Response
from fastserve.http.site import OFFLOAD_BYTES
from tests.support.fake_doors import DOORS, MAX_BODY_BYTES, FakeDoor, FakeLoopDoor
from tests.support.toy_protocol import TEXT

BIG = bytes(OFFLOAD_BYTES)
OK = Response(200, TEXT, b"done")

MakeDoor = Callable[..., FakeDoor]


@pytest.fixture(params=sorted(DOORS))
def make(request: pytest.FixtureRequest) -> Iterator[MakeDoor]:
    made: list[FakeDoor] = []

    def make(**site: Any) -> FakeDoor:
        made.append(DOORS[request.param](**site))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def door(make: MakeDoor) -> FakeDoor:
    return make()


@pytest.fixture(params=["rsgi", "asgi"])
def loop_door(request: pytest.FixtureRequest) -> Iterator[FakeDoor]:
    """The doors that take every request."""
    door = DOORS[request.param]()
    yield door
    door.close()


@pytest.fixture(autouse=True)
def _logs_are_seen() -> None:
    logging.getLogger("fastserve").propagate = True


# --- answers


def test_an_answer_that_is_there_at_once_goes_out(door: FakeDoor):
    sent = door.post("/echo", b"hello")
    assert (sent.status, sent.body) == (200, b"hello")
    assert sent.headers["content-type"] == "text/plain"
    assert door.count('fastserve_requests_total{model="m",protocol="toy",status="200",version="1"}') == 1
    assert door.count('fastserve_request_seconds_count{model="m",protocol="toy"}') == 1


def test_an_answer_that_comes_later_goes_out_once(door: FakeDoor):
    sent = door.post("/later")
    assert not sent.answered
    (waiting,) = door.toy.waiting
    waiting.reply.send(OK)
    waiting.reply.send(Response(500, TEXT, b"too late"))
    waiting.reply.fail(Cancelled("too late"))
    door.settle()
    assert (sent.status, sent.body) == (200, b"done")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:8000"}, 200),
        ({"host": "example.org"}, 403),
        ({}, 403),
        ({"host": "127.0.0.1:8000", "origin": "https://evil.example"}, 403),
    ],
)
def test_what_changes_the_server_takes_a_caller_on_this_machine(
    loop_door: FakeDoor, headers: dict[str, str], status: int
):
    sent = loop_door.post("/change", b"{}", headers)
    assert sent.status == status
    assert bool(loop_door.toy.seen) == (status == 200)


def test_the_direct_door_leaves_what_changes_the_server_to_the_others():
    door = DOORS["direct"]()
    assert not door.post("/change").taken  # type: ignore[attr-defined]
    door.close()


@pytest.mark.parametrize(("path", "status"), [("/refuse", 400), ("/full", 429), ("/break", 500)])
def test_errors_come_in_the_protocols_shape(door: FakeDoor, caplog: pytest.LogCaptureFixture, path: str, status: int):
    sent = door.post(path)
    assert sent.status == status
    assert sent.body.startswith(b'{"toy":')
    assert ("retry-after" in sent.headers) == (status == 429)
    assert b"own fault" not in sent.body
    assert ("our own fault" in caplog.text) == (status == 500)


def test_a_path_of_nobody_is_told_so(loop_door: FakeDoor):
    sent = loop_door.post("/nowhere")
    assert (sent.status, sent.body) == (404, b'{"toy":"no POST /nowhere"}')


def test_a_route_that_waits_is_waited_for(loop_door: FakeDoor, caplog: pytest.LogCaptureFixture):
    assert loop_door.post("/waits", b"long").body == b"waited long"
    assert loop_door.post("/waits-badly").status == 500
    assert "our own fault" in caplog.text


def test_a_get_without_a_body_is_not_waited_for(loop_door: FakeDoor):
    assert loop_door.request("GET", "/echo").status == 200


def test_an_answer_that_cannot_be_written_is_a_500_and_leaves_a_traceback(
    door: FakeDoor, caplog: pytest.LogCaptureFixture
):
    sent = door.post("/later")

    def broken(_: Any) -> Response:
        raise RuntimeError("cannot be encoded")

    door.toy.waiting[0].reply.then(broken)("a result")  # type: ignore[arg-type]
    door.settle()
    assert sent.status == 500
    assert "cannot be encoded" in caplog.text


def test_refusals_are_counted_by_reason(door: FakeDoor):
    door.post("/full")
    door.post("/later")
    door.toy.waiting[0].reply.fail(DeadlineExceeded("too late"))
    door.settle()
    assert door.count('fastserve_refused_total{reason="queue_full"}') == 1
    assert door.count('fastserve_refused_total{reason="deadline"}') == 1


# --- bodies


def test_a_body_may_come_in_pieces(loop_door: FakeDoor):
    for declared in (6, None):
        sent = loop_door.request("POST", "/echo", declared=declared)
        sent.send(b"abc", more=True)
        assert not sent.answered
        sent.send(b"def")
        assert sent.body == b"abcdef"


@pytest.mark.parametrize("path", ["/echo", "/lane"])
def test_a_body_that_is_there_in_full_is_not_asked_for_more(path: str):
    door = DOORS["asgi"]()
    for _ in range(2):  # then in its lane
        door.advance(1)
        sent = door.request("POST", path, declared=2).send(b"a", more=True)
        assert not sent.answered
        assert sent.send(b"b", more=True).status == 200
    door.close()


def test_a_declared_body_beyond_the_limit_is_refused_unread(loop_door: FakeDoor):
    sent = loop_door.request("POST", "/echo", declared=MAX_BODY_BYTES + 1)
    assert sent.status == 413
    assert loop_door.toy.seen == []


@pytest.mark.parametrize("headers", [{"content-length": "x"}, {"content-length": "-1"}])
def test_a_length_that_is_none_is_refused(loop_door: FakeDoor, headers: dict[str, str]):
    assert loop_door.request("POST", "/echo", headers).status == 400


def test_chunks_are_taken_up_to_the_limit_and_refused_beyond(loop_door: FakeDoor):
    half = bytes(MAX_BODY_BYTES // 2)
    fits = loop_door.request("POST", "/echo").send(half, more=True).send(half)
    loop_door.work()
    assert (fits.status, len(fits.body)) == (200, MAX_BODY_BYTES)
    beyond = loop_door.request("POST", "/echo").send(half, more=True).send(half + b"!", more=True)
    assert beyond.status == 413


@pytest.mark.parametrize("size", [OFFLOAD_BYTES - 1, OFFLOAD_BYTES])
def test_big_bodies_are_read_by_the_executor(loop_door: FakeDoor, size: int):
    sent = loop_door.post("/echo", bytes(size))
    assert sent.answered == (size < OFFLOAD_BYTES)
    loop_door.work()
    assert len(sent.body) == size


@pytest.mark.parametrize(("start", "at_once"), [(b"light", True), (b"heavy", False)])
def test_big_bodies_that_are_read_in_no_time_are_read_where_they_come(door: FakeDoor, start: bytes, at_once: bool):
    sent = door.post("/light", start + BIG, {"x-light": "1"})
    assert sent.answered == at_once
    door.work()
    assert sent.body == start + BIG


def test_big_bodies_are_not_asked_whether_they_are_light_unless_a_header_says_so(loop_door: FakeDoor):
    assert not loop_door.post("/light", b"light" + BIG).answered


def test_folded_bodies_are_unfolded_by_the_executor(loop_door: FakeDoor):
    sent = loop_door.post("/echo", gzip.compress(b"folded"), {"content-encoding": "gzip"})
    assert not sent.answered
    loop_door.work()
    assert sent.body == b"folded"


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(bytes(MAX_BODY_BYTES)), "gzip", 200),
        (gzip.compress(bytes(MAX_BODY_BYTES + 1)), "gzip", 413),
        (b"no gzip", "gzip", 400),
        (b"{}", "br", 415),
    ],
)
def test_what_does_not_unfold_is_told(loop_door: FakeDoor, body: bytes, encoding: str, status: int):
    sent = loop_door.post("/echo", body, {"content-encoding": encoding})
    loop_door.work()
    assert sent.status == status


def test_a_fault_while_unfolding_is_answered(loop_door: FakeDoor, monkeypatch: pytest.MonkeyPatch):
    def no_memory(*_: Any) -> bytes:
        raise MemoryError

    monkeypatch.setattr("fastserve.http.site.decompressed", no_memory)
    sent = loop_door.post("/echo", b"{}", {"content-encoding": "gzip"})
    loop_door.work()
    assert sent.status == 503
    assert "memory" in sent.body.decode()


def test_a_fault_of_a_route_on_an_executor_thread_is_answered(loop_door: FakeDoor):
    sent = loop_door.post("/break", BIG)
    loop_door.work()
    assert sent.status == 500


# --- clients that leave


def test_a_client_that_leaves_takes_its_request_out_of_the_queue(door: FakeDoor):
    sent = door.post("/later")
    sent.leave()
    door.advance(LONG_QUEUED_NS / 1e9)  # the direct door looks after who waits that long
    (waiting,) = door.toy.waiting
    assert waiting.cancelled == 1
    waiting.reply.fail(Cancelled("gone"))  # as the engine does
    door.settle()
    assert door.count('fastserve_refused_total{reason="cancelled"}') == 1


def test_a_client_that_leaves_after_its_answer_cancels_nothing(door: FakeDoor):
    sent = door.post("/later")
    (waiting,) = door.toy.waiting
    waiting.reply.send(OK)
    door.settle()
    sent.leave()
    assert waiting.cancelled == 0
    assert sent.status == 200


def test_a_client_that_leaves_before_its_body_is_read_is_not_queued(loop_door: FakeDoor):
    sent = loop_door.post("/later", BIG)
    sent.leave()
    loop_door.work()
    assert [waiting.cancelled for waiting in loop_door.toy.waiting] in ([], [1])


def test_a_client_that_leaves_while_its_body_is_read_is_cancelled_as_it_is_queued(loop_door: FakeDoor):
    sent = loop_door.post("/later", BIG)
    later = loop_door.toy.later

    def leaves_meanwhile(*arguments: Any) -> Any:
        sent.leave()
        return later(*arguments)

    (work,) = loop_door.executor.posted
    route, request, reply, encoding = work.args  # type: ignore[attr-defined]
    loop_door.executor.posted.clear()
    work.func(type(route)(route.method, route.pattern, route.scope, infer=leaves_meanwhile), request, reply, encoding)  # type: ignore[attr-defined]
    assert [waiting.cancelled for waiting in loop_door.toy.waiting] == [1]


@pytest.mark.parametrize("declared", [10, None])
def test_a_client_that_leaves_in_its_body_leaves_no_traceback(
    loop_door: FakeDoor, caplog: pytest.LogCaptureFixture, declared: int | None
):
    sent = loop_door.request("POST", "/echo", declared=declared)
    sent.send(b"half", more=True)
    sent.leave()
    assert loop_door.toy.seen == []
    assert caplog.text == ""
    assert not any(status == 500 for status, _, _ in sent.answers)


def test_nothing_is_left_running_when_the_answers_are_out(loop_door: FakeDoor):
    assert isinstance(loop_door, FakeLoopDoor)
    for _ in range(5):
        loop_door.post("/later")
        loop_door.post("/echo")
    for waiting in loop_door.toy.waiting:
        waiting.reply.send(OK)
    loop_door.settle()
    assert loop_door.unfinished == 0


# --- shutdown


def test_while_it_drains_every_answer_asks_its_client_to_hang_up(make: MakeDoor):
    door = make(cors_origins=("*",))
    waiting = door.post("/later")
    assert "connection" not in door.post("/echo").headers
    door.site.ask_to_leave(True)
    door.toy.waiting[0].reply.send(OK)
    door.settle()
    sent = door.post("/echo", headers={"origin": "https://a.example"})
    assert [one.headers["connection"] for one in (waiting, sent)] == ["close", "close"]
    assert sent.headers["access-control-allow-origin"] == "*"
