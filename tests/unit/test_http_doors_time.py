"""Every door gives a body as long as it may take, and no longer than its client waits."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastserve.http.message import Response
from tests.support.fake_doors import DOORS, TIMEOUT_S, FakeDirectDoor, FakeDoor
from tests.support.toy_protocol import TEXT

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


def test_a_body_that_does_not_arrive_in_time_is_given_up(door: FakeDoor):
    sent = door.request("POST", "/echo", declared=10)
    door.advance(TIMEOUT_S - 0.001)
    assert not sent.answered
    door.advance(0.002)
    assert sent.status == 408
    sent.send(b"0123456789")
    assert sent.status == 408
    assert door.toy.seen == []
    assert door.count('fastserve_refused_total{reason="body_timeout"}') == 1


def test_each_body_has_its_own_time(door: FakeDoor):
    first = door.request("POST", "/echo", declared=3)
    door.advance(TIMEOUT_S / 2)
    second = door.request("POST", "/echo", declared=3)
    third = door.request("POST", "/echo", declared=3)
    second.send(b"two")
    door.advance(TIMEOUT_S / 2)
    assert (first.status, third.answered) == (408, False)
    door.advance(TIMEOUT_S / 4)
    assert not third.answered
    fourth = door.request("POST", "/echo", declared=3)
    door.advance(TIMEOUT_S / 4)
    assert (third.status, fourth.answered) == (408, False)
    assert fourth.send(b"yes").status == 200
    door.advance(10 * TIMEOUT_S)
    assert [one.status for one in (first, second, third, fourth)] == [408, 200, 408, 200]


@pytest.mark.parametrize("timeout_s", [TIMEOUT_S, 0])
def test_a_body_that_takes_longer_than_its_client_waits_is_given_up(make: MakeDoor, timeout_s: float):
    door = make(timeout_s=timeout_s)
    hurried = door.request("POST", "/echo", {"x-request-timeout-ms": "100"}, declared=3)
    in_time = door.request("POST", "/echo", {"x-request-timeout-ms": "100"}, declared=3)
    patient = door.request("POST", "/echo", {"x-request-timeout-ms": "99999999"}, declared=3)
    door.advance(0.03)
    assert in_time.send(b"yes").status == 200
    assert not hurried.answered
    door.advance(0.071)
    assert hurried.status == 408
    hurried.send(b"yes")
    assert not patient.answered
    assert patient.send(b"yes").status == 200
    door.advance(10 * TIMEOUT_S)
    assert [one.status for one in (hurried, in_time, patient)] == [408, 200, 200]


def test_what_a_body_took_is_not_given_again(door: FakeDoor):
    sent = door.request("POST", "/echo", {"x-request-timeout-ms": "100"}, declared=3)
    began_ns = door.clock.now_ns
    door.advance(0.09)
    sent.send(b"yes")
    assert door.toy.seen[0].deadline_ns == began_ns + 100_000_000


def test_without_a_limit_a_body_may_take_for_ever(make: MakeDoor):
    door = make(timeout_s=0)
    sent = door.request("POST", "/echo", declared=3)
    door.advance(1e6)
    assert sent.send(b"yes").status == 200
    assert door.toy.seen[0].deadline_ns == 0


def test_the_body_alone_is_timed_not_the_answer(door: FakeDoor):
    sent = door.post("/later")
    door.advance(10 * TIMEOUT_S)
    assert not sent.answered
    door.toy.waiting[0].reply.send(OK)
    door.settle()
    assert sent.status == 200


@pytest.mark.parametrize(
    ("timeout_s", "asked", "limit_s"),
    [(30, None, 30), (30, "1500", 1.5), (30, "99999999", 30), (0, "1500", 1.5), (0, None, None)],
)
def test_a_request_may_ask_for_less_time(make: MakeDoor, timeout_s: float, asked: str | None, limit_s: float | None):
    door = make(timeout_s=timeout_s)
    door.post("/echo", headers={} if asked is None else {"x-request-timeout-ms": asked})
    expected = 0 if limit_s is None else door.clock.now_ns + round(limit_s * 1e9)
    assert door.toy.seen[0].deadline_ns == expected


@pytest.mark.parametrize("asked", ["", "0", "-1", "1.5", "1e3", "soon", "9" * 13])
def test_a_time_that_is_none_is_refused(door: FakeDoor, asked: str):
    sent = door.post("/echo", headers={"x-request-timeout-ms": asked})
    if isinstance(door, FakeDirectDoor):
        assert not sent.taken, "the coroutine door refuses it"  # type: ignore[attr-defined]
        return
    assert sent.status == 400
    assert b"x-request-timeout-ms" in sent.body
