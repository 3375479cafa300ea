"""Lanes of all doors: who rides in one, who goes the general way, and when a lane comes and goes."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import pytest

from fastserve.http.direct import LONG_QUEUED_NS
from fastserve.http.lanes import ASK_AGAIN_NS, MAX_LANE_CHARS
from fastserve.http.message import Response
from tests.support.fake_doors import DOORS, TIMEOUT_S, DirectExchange, Exchange, FakeAsgiDoor, FakeDirectDoor, FakeDoor
from tests.support.toy_protocol import TEXT, Waiting

AGAIN_S = ASK_AGAIN_NS / 1e9

Opened = TypeVar("Opened", bound=FakeDoor)


@pytest.fixture(params=sorted(DOORS))
def kind(request: pytest.FixtureRequest) -> type[FakeDoor]:
    kind: type[FakeDoor] = DOORS[request.param]
    return kind


@pytest.fixture
def door(kind: type[FakeDoor]) -> Iterator[FakeDoor]:
    made = opened(kind)
    assert made.post("/lane", b"first").body == b"first"
    yield made
    made.close()


@pytest.fixture
def direct() -> Iterator[FakeDirectDoor]:
    made = opened(FakeDirectDoor)
    assert made.post("/lane", b"first").body == b"first"
    yield made
    made.close()


def opened(kind: type[Opened], **site: Any) -> Opened:
    made = kind(**site)
    made.advance(AGAIN_S)
    return made


def begun(door: FakeDoor, body: bytes, **headers: str) -> Exchange:
    return door.request("POST", "/lane", headers, declared=len(body))


def together(door: FakeDoor, bodies: Sequence[bytes], *headers: dict[str, str]) -> list[Exchange]:
    """Requests whose bodies come at once."""
    sent = [begun(door, body, **more) for body, more in zip(bodies, headers or ({},) * len(bodies), strict=True)]
    for exchange, body in zip(sent, bodies, strict=True):
        exchange.arrive(body)
    door.settle()
    return sent


def test_those_after_the_first_ride_in_the_lane(door: FakeDoor):
    answer = door.post("/lane", b"ab")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"abab", "text/plain")
    assert door.toy.lane.seen == [[b"ab"]]


def test_requests_that_come_together_are_answered_together(door: FakeDoor):
    bodies = [b"1", b"2", b"3"]
    sent = together(door, bodies)
    assert door.toy.lane.seen == [bodies]
    assert [exchange.body for exchange in sent] == [b"11", b"22", b"33"]


def test_what_the_lane_leaves_goes_the_general_way_with_its_headers(door: FakeDoor):
    sent = together(door, (b"1", b"other"), {"x-mine": "1"}, {"x-mine": "other"})
    assert [exchange.body for exchange in sent] == [b"11", b"other"]
    assert door.toy.seen[-1].headers.get("x-mine") == "other"


@pytest.mark.parametrize("body", [b"close", b"break"])
def test_a_lane_that_closes_or_breaks_costs_nobody_the_answer(
    door: FakeDoor, body: bytes, caplog: pytest.LogCaptureFixture
):
    sent = together(door, (b"1", body))
    assert [exchange.body for exchange in sent] == [b"1", body]
    assert ("a lane failed" in caplog.text) is (body == b"break")
    seen = len(door.toy.lane.seen)
    door.post("/lane", b"2")
    assert len(door.toy.lane.seen) == seen


def test_a_lane_is_asked_for_again_after_a_while(door: FakeDoor):
    door.post("/lane", b"close")
    assert door.post("/lane", b"1").body == b"1"
    assert door.toy.lanes == 1
    door.advance(AGAIN_S)
    assert door.post("/lane", b"1").body == b"1"
    assert door.post("/lane", b"1").body == b"11"
    assert door.toy.lanes == 2


def test_a_lane_goes_when_models_change(door: FakeDoor):
    door.door.lanes.clear()
    assert door.post("/lane", b"1").body == b"1"
    assert door.post("/lane", b"1").body == b"11"


def test_a_path_without_a_lane_is_not_asked_for_one_each_time(kind: type[FakeDoor]):
    door = opened(kind)
    for _ in range(3):
        assert door.post("/lane", b"no lane").body == b"no lane"
    assert door.toy.lanes == 1
    door.close()


@pytest.mark.parametrize(
    "headers",
    [{"x-toy": "1"}, {"content-encoding": "identity"}, {"x-request-timeout-ms": "1000"}],
)
def test_out_of_the_ordinary_goes_the_general_way(door: FakeDoor, headers: dict[str, str]):
    seen = len(door.toy.lane.seen)
    door.post("/lane", b"1", headers)
    assert len(door.toy.lane.seen) == seen


def test_a_body_that_breaks_off_in_a_lane_is_told_so(door: FakeDoor):
    sent = begun(door, b"1234")
    sent.leave()
    assert sent.status == 400


def test_a_body_that_does_not_come_in_time_is_told_so(door: FakeDoor):
    sent = begun(door, b"1234")
    door.advance(TIMEOUT_S)
    assert sent.status == 408
    sent.send(b"1234")  # too late
    assert len(sent.answers) == 1


def test_a_body_that_is_late_or_breaks_off_in_a_lane_is_forgotten(direct: FakeDirectDoor):
    late, broken = begun(direct, b"1234"), begun(direct, b"1234")
    assert isinstance(late, DirectExchange)
    broken.leave()
    direct.advance(TIMEOUT_S)
    assert late.body_later.cancelled
    assert not direct.door.bodies.waiting


def test_lane_and_general_requests_that_come_together_are_all_answered(direct: FakeDirectDoor):
    one = begun(direct, b"1")
    other = direct.request("POST", "/echo", declared=1)
    one.send(b"1")
    assert not one.answered
    other.send(b"2")
    assert (one.body, other.body) == (b"11", b"2")


def test_while_draining_answers_ask_to_hang_up(door: FakeDoor):
    sent = begun(door, b"1")
    door.site.ask_to_leave(True)
    assert sent.send(b"1").headers["connection"] == "close"
    assert sent.body == b"11"


def test_long_answers_are_compressed_for_those_who_want_it(kind: type[FakeDoor]):
    door = opened(kind, compress_min_bytes=8)
    door.post("/lane", b"1")
    sent = door.post("/lane", b"1" * 200, {"accept-encoding": "gzip"})
    door.work()
    assert sent.headers["content-encoding"] == "gzip"
    assert door.post("/lane", b"1", {"accept-encoding": "gzip"}).body == b"11"
    door.close()


@pytest.fixture
def full(door: FakeDoor) -> FakeDoor:
    """Its lane refuses all that comes, without a look."""
    door.toy.lane.waits = door.toy.lane.full = True
    return door


def test_what_cannot_be_done_in_time_is_refused_unread_and_counted(full: FakeDoor):
    bodies = [b"1", b"break", b"close"]
    sent = together(full, bodies)
    assert {(one.status, one.body, one.headers["retry-after"]) for one in sent} == {(429, sent[0].body, "1")}
    assert b"no room" in sent[0].body
    assert full.count('fastserve_requests_total{model="m",protocol="toy",status="429",version="1"}') == 3
    assert full.count('fastserve_refused_total{reason="queue_full"}') == 3
    full.toy.lane.full = False
    begun(full, b"1").send(b"1")
    assert len(full.toy.lane.waiting) == 1


def test_who_is_refused_while_draining_is_asked_to_hang_up_too(full: FakeDoor):
    sent = begun(full, b"1")
    full.site.ask_to_leave(True)
    assert sent.send(b"1").headers["connection"] == "close"
    assert sent.status == 429
    assert full.count('fastserve_refused_total{reason="queue_full"}') == 1


def test_answers_in_lanes_are_counted(door: FakeDoor):
    for _ in range(3):
        door.post("/lane", b"1")
    assert door.count('fastserve_requests_total{model="m",protocol="toy",status="200",version="1"}') == 4
    assert door.count('fastserve_request_seconds_count{model="m",protocol="toy"}') == 4


def test_an_answer_that_cannot_leave_costs_nobody_else_theirs(
    direct: FakeDirectDoor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    sent = [begun(direct, body) for body in (b"1", b"2")]

    def gone(*_: object) -> None:
        raise RuntimeError("gone")

    monkeypatch.setattr(sent[0], "response_bytes", gone)
    sent[0].send(b"1")
    sent[1].send(b"2")
    assert sent[1].body == b"22"
    assert "could not be sent" in caplog.text


def test_very_long_paths_have_no_lanes(door: FakeDoor):
    door.door.lanes.ask("/" + "x" * MAX_LANE_CHARS, door.toy.make_lane, door.toy.seen[0])
    assert door.toy.lanes == 1


@pytest.mark.parametrize("site", [{"cors_origins": ("*",)}])
def test_where_every_answer_is_looked_at_there_are_no_lanes(kind: type[FakeDoor], site: dict[str, object]):
    door = opened(kind, **site)
    door.post("/lane", b"1")
    assert door.toy.lanes == 0
    door.close()


@pytest.fixture
def queued(door: FakeDoor) -> FakeDoor:
    """A door whose lane's requests wait for their turn."""
    door.toy.lane.waits = True  # type: ignore[misc]
    return door


def test_those_that_wait_are_submitted_together_and_answered_when_it_is_their_turn(queued: FakeDoor):
    sent = together(queued, (b"1", b"2"))
    assert not any(exchange.answered for exchange in sent)
    assert queued.toy.lane.deadline_ns == queued.clock() + TIMEOUT_S * 1_000_000_000
    for reply, body in queued.toy.lane.waiting:
        assert reply.subject == queued.toy.lane.subject
        reply.send(Response(200, TEXT, body * 2))
    queued.settle()
    assert [exchange.body for exchange in sent] == [b"11", b"22"]


@pytest.mark.parametrize("body", [b"close", b"break", b"other"])
def test_what_cannot_wait_in_the_lane_goes_the_general_way(
    queued: FakeDoor, body: bytes, caplog: pytest.LogCaptureFixture
):
    assert queued.post("/lane", body).body == body
    assert not queued.toy.lane.waiting


def test_a_client_that_leaves_takes_its_request_out_of_the_lanes_queue(queued: FakeDoor):
    sent = begun(queued, b"1")
    sent.send(b"1")
    queued.advance(LONG_QUEUED_NS / 1e9)
    sent.leave()
    ((reply, _),) = queued.toy.lane.waiting
    assert isinstance(reply.pending, Waiting)
    assert reply.pending.cancelled == 1


def test_one_that_finds_no_room_is_refused_and_counted_as_its_models(queued: FakeDoor):
    assert queued.post("/lane", b"full").status == 429
    model, version = queued.toy.lane.subject
    refused = f'fastserve_requests_total{{model="{model}",protocol="toy",status="429",version="{version}"}} 1'
    assert refused in queued.metrics.text().decode()


def test_a_task_that_is_ended_in_its_turn_costs_nobody_else_theirs():
    door = opened(FakeAsgiDoor)
    door.post("/lane", b"first")
    ended, other = begun(door, b"1"), begun(door, b"2")
    for exchange, body in ((ended, b"1"), (other, b"2")):
        exchange.arrive(body)
    door.loop.call_soon(door.tasks[-2].cancel)  # once both have come, before either is answered
    door.settle()
    assert other.body == b"22"
    assert not ended.answered
    door.close()
