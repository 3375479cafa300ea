"""The door without a loop: who waits for whom, on a clock that moves only when told."""

from collections.abc import Callable, Iterator

import pytest

from fastserve.http.direct import FRESH_NS, MAX_TOGETHER, STALLED_NS, DirectDoor
from tests.support.fake_doors import DirectExchange, FakeDirectDoor

FRESH_S = FRESH_NS / 1e9
STALLED_S = STALLED_NS / 1e9


class GatheringDoor(FakeDirectDoor):
    """Notes how many requests were brought together each time."""

    def __init__(self) -> None:
        super().__init__()
        self.gathered = 0
        self.door = DirectDoor(self.site, self.clock.at, self._gather)

    def _gather(self, work: Callable[[], None]) -> None:
        self.gathered += 1
        work()

    def asks(self, body: bytes = b"{}") -> DirectExchange:
        """A request whose headers are here and whose body is not."""
        sent = self.request("POST", "/echo", declared=len(body))
        assert isinstance(sent, DirectExchange)
        return sent


@pytest.fixture
def door() -> Iterator[GatheringDoor]:
    made = GatheringDoor()
    yield made
    made.close()


def test_a_lone_request_waits_for_nobody(door: GatheringDoor):
    assert door.asks().send(b"{}").answered
    assert door.gathered == 0


def test_a_request_waits_for_the_body_that_was_asked_for_last_and_both_are_answered_together(door: GatheringDoor):
    first, second = door.asks(), door.asks()
    first.send(b"{}")
    assert not first.answered
    second.send(b"{}")
    assert first.answered
    assert second.answered
    assert door.gathered == 1


def test_nobody_waits_for_a_body_that_has_been_out_for_long(door: GatheringDoor):
    door.asks()
    door.advance(FRESH_S)
    assert door.asks().send(b"{}").answered


def test_when_the_next_body_does_not_come_after_all_those_that_have_come_are_answered(door: GatheringDoor):
    first, second = door.asks(), door.asks()
    first.send(b"{}")
    door.advance(STALLED_S)
    assert first.answered
    assert not second.answered
    assert second.send(b"{}").answered


def test_the_alarm_leaves_alone_what_has_only_just_come(door: GatheringDoor):
    first, second = door.asks(), door.asks()
    first.send(b"{}")
    second.send(b"{}")
    door.advance(STALLED_S / 2)
    third, _ = door.asks(), door.asks()
    third.send(b"{}")
    door.advance(STALLED_S / 2)
    assert not third.answered, "the alarm was set for the first"
    door.advance(STALLED_S / 2)
    assert third.answered


def test_no_more_than_so_many_are_brought_together(door: GatheringDoor):
    asked = [door.asks() for _ in range(MAX_TOGETHER + 1)]
    for one in asked[:-1]:
        one.send(b"{}")
    assert all(one.answered for one in asked[:-1])
    assert not asked[-1].answered


def test_a_client_that_leaves_before_its_body_keeps_nobody_waiting_for_long(door: GatheringDoor):
    first, second = door.asks(), door.asks()
    first.send(b"{}")
    second.leave()
    door.advance(STALLED_S)
    assert first.answered


def test_of_requests_that_come_together_a_bad_one_is_refused_alone(door: GatheringDoor):
    good = door.asks()
    bad = door.request("POST", "/refuse", declared=2)
    good.send(b"{}")
    bad.send(b"{}")
    assert good.status == 200
    assert bad.status >= 400


def test_what_is_answered_together_leaves_when_all_of_it_is_written(door: GatheringDoor):
    sent = [door.asks() for _ in range(3)]
    with door.door.together():
        with door.door.together():
            sent[0].send(b"{}")
            sent[1].send(b"{}")
            sent[2].send(b"{}")
        assert not any(one.answered for one in sent)
    assert all(one.answered for one in sent)


def test_an_answer_that_cannot_leave_costs_nobody_else_theirs(door: GatheringDoor, caplog: pytest.LogCaptureFixture):
    first, second = door.asks(), door.asks()

    def broken(*_: object) -> None:
        raise RuntimeError("no network")

    first.response_bytes = broken  # type: ignore[method-assign]
    with door.door.together():
        first.send(b"{}")
        second.send(b"{}")
    assert second.answered
    assert "could not be sent" in caplog.text
