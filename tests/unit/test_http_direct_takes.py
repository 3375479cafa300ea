"""The door without a loop: what it takes, what it leaves to the other one, and what it watches meanwhile."""

import gc

import pytest

from fastserve.http.direct import LONG_QUEUED_NS, DirectReply
from fastserve.http.message import Response
from fastserve.http.site import OFFLOAD_BYTES
from tests.support.fake_doors import MAX_BODY_BYTES, TIMEOUT_S, DirectExchange, FakeDirectDoor
from tests.support.toy_protocol import TEXT

OK = Response(200, TEXT, b"done")
LONG_QUEUED_S = LONG_QUEUED_NS / 1e9


@pytest.mark.parametrize(
    ("method", "path", "headers", "taken"),
    [
        ("POST", "/echo", {"content-length": "2"}, True),
        ("POST", "/echo", {"content-length": str(OFFLOAD_BYTES - 1)}, True),
        ("POST", "/echo", {"content-length": str(OFFLOAD_BYTES)}, False),
        ("POST", "/echo", {"content-length": "0"}, False),
        ("POST", "/echo", {"content-length": "nonsense"}, False),
        ("POST", "/echo", {"content-length": "999999999999"}, False),
        ("POST", "/echo", {}, False),
        ("GET", "/echo", {}, False),
        ("POST", "/echo", {"content-length": "2", "content-encoding": "gzip"}, False),
        ("POST", "/light", {"content-length": str(OFFLOAD_BYTES)}, False),
        ("POST", "/light", {"content-length": str(OFFLOAD_BYTES), "x-light": "1"}, True),
        ("POST", "/light", {"content-length": str(MAX_BODY_BYTES), "x-light": "1"}, True),
        ("POST", "/light", {"content-length": str(MAX_BODY_BYTES + 1), "x-light": "1"}, False),
        ("POST", "/light", {"content-length": "99999999", "x-light": "1"}, False),
        ("POST", "/light", {"content-length": "5", "x-light": "1", "content-encoding": "gzip"}, False),
        ("POST", "/echo", {"content-length": str(OFFLOAD_BYTES), "x-light": "1"}, False),
        ("POST", "/waits", {"content-length": "2"}, False),
        ("POST", "/nowhere", {"content-length": "2"}, False),
    ],
)
def test_the_direct_door_takes_small_plain_inference_requests(
    method: str, path: str, headers: dict[str, str], taken: bool
):
    sent = FakeDirectDoor().request(method, path, headers)
    assert isinstance(sent, DirectExchange)
    assert sent.taken is taken
    assert bool(sent.body_later.callbacks) is taken


def test_the_direct_door_watches_only_clients_that_wait_long():
    door = FakeDirectDoor()
    sent = door.post("/later")
    assert isinstance(sent, DirectExchange)
    door.toy.waiting.pop().reply.send(OK)
    door.advance(LONG_QUEUED_S)
    assert sent.gone_later is None
    sent = door.post("/later")
    assert isinstance(sent, DirectExchange)
    door.advance(LONG_QUEUED_S)
    assert sent.gone_later is not None
    door.toy.waiting[0].reply.send(OK)
    assert sent.gone_later.cancelled


def test_a_body_that_is_late_is_not_read_any_more():
    door = FakeDirectDoor()
    sent = door.request("POST", "/echo", declared=10)
    assert isinstance(sent, DirectExchange)
    door.advance(TIMEOUT_S)
    assert sent.body_later.cancelled
    assert isinstance(sent.body_later.callbacks[0], DirectReply)


def test_one_alarm_at_a_time_watches_all_bodies():
    door = FakeDirectDoor()
    for _ in range(50):
        door.request("POST", "/echo", declared=10).send(b"0123456789")
        door.advance(0.1)
    assert len(door.clock.alarms) == 1


def test_a_client_that_leaves_in_its_small_body_is_answered_for_the_records(caplog: pytest.LogCaptureFixture):
    door = FakeDirectDoor()
    sent = door.request("POST", "/echo", declared=10)
    sent.leave()
    door.advance(2 * TIMEOUT_S)
    assert (sent.status, door.toy.seen, caplog.text) == (400, [], "")


def test_what_granian_keeps_of_an_answered_request_holds_nothing():
    door = FakeDirectDoor()
    sent = door.post("/later", b"a body")
    door.advance(LONG_QUEUED_S)
    door.toy.waiting.pop().reply.send(OK)
    assert isinstance(sent, DirectExchange)
    assert sent.gone_later is not None
    (watch,) = sent.gone_later.callbacks
    assert not any(isinstance(held, DirectReply) for held in gc.get_referents(watch))
