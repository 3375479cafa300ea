"""Pages of other origins, and OPTIONS: who may call, what a browser is told before it does, what anybody is told."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastserve.http.body import MAX_DISCARDED_BYTES
from fastserve.http.cors import Cors
from tests.support.fake_doors import DOORS, FakeDoor

MakeDoor = Callable[..., FakeDoor]
A, B, EVIL = "https://a.example", "https://b.example:8443", "https://evil.example"
ASKS = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}


def _makers(request: pytest.FixtureRequest) -> Iterator[MakeDoor]:
    made: list[FakeDoor] = []

    def make(**site: Any) -> FakeDoor:
        made.append(DOORS[request.param](**site))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(params=sorted(DOORS))
def make(request: pytest.FixtureRequest) -> Iterator[MakeDoor]:
    yield from _makers(request)


@pytest.fixture(params=["rsgi", "asgi"])
def make_loop_door(request: pytest.FixtureRequest) -> Iterator[MakeDoor]:
    """The doors that take every request."""
    yield from _makers(request)


ORIGINS = [
    ((), A, None),
    ((A,), A, A),
    ((A, B), B, B),
    ((A + "/",), A, A),
    (("HTTPS://A.example",), A, A),
    ((A,), EVIL, None),
    ((A,), "null", None),
    (("null",), "null", "null"),
    ((A,), A + ".evil.example", None),
    ((A,), None, None),
    (("*",), EVIL, "*"),
    (("*",), None, "*"),
    (("*", A), A, A),
]


@pytest.mark.parametrize(("configured", "origin", "allowed"), ORIGINS)
def test_pages_of_allowed_origins_may_read_answers_and_errors(
    make: MakeDoor, configured: tuple[str, ...], origin: str | None, allowed: str | None
):
    door = make(cors_origins=configured)
    for path in ("/echo", "/refuse", "/full", "/break"):
        sent = door.post(path, headers={} if origin is None else {"origin": origin})
        assert sent.headers.get("access-control-allow-origin") == allowed
        assert sent.headers.get("vary") == ("Origin" if configured else None)
        exposed = sent.headers.get("access-control-expose-headers", "")
        assert ("X-Model-Version" in exposed) == (allowed is not None)


def test_an_allowed_origin_is_compared_as_browsers_send_it():
    assert Cors([A]).headers({"origin": A.upper()}) == [("vary", "Origin")]


@pytest.mark.parametrize("path", ["/echo", "/nowhere", "/waits"])
def test_browsers_that_ask_first_are_told_who_may(make_loop_door: MakeDoor, path: str):
    door = make_loop_door(cors_origins=(A,))
    sent = door.request("OPTIONS", path, {"origin": A, **ASKS})
    assert (sent.status, sent.body) == (200, b"")
    assert sent.headers["access-control-allow-origin"] == A
    assert int(sent.headers["access-control-max-age"]) > 0
    assert "POST" in sent.headers["access-control-allow-methods"]
    for name in ("Content-Type", "Authorization", "Inference-Header-Content-Length"):
        assert name in sent.headers["access-control-allow-headers"].split(", ")
    stranger = door.request("OPTIONS", path, {"origin": EVIL, **ASKS})
    assert stranger.status == 200
    assert [name for name in stranger.headers if name.startswith("access-control-allow")] == []
    assert stranger.headers["vary"] == "Origin"


def test_without_origins_options_tells_what_a_path_takes(make_loop_door: MakeDoor):
    door = make_loop_door()
    for headers in ({}, {"origin": A, **ASKS}):
        sent = door.request("OPTIONS", "/echo", headers)
        assert (sent.status, sent.headers["allow"]) == (200, "GET, POST, OPTIONS")
        assert [name for name in sent.headers if name.startswith("access-control")] == []
        assert door.request("OPTIONS", "/nowhere", headers).status == 404


# --- bodies that nobody wants


@pytest.mark.parametrize("size", [10, MAX_DISCARDED_BYTES])
def test_a_body_on_a_wrong_path_is_read_to_keep_the_connection(make_loop_door: MakeDoor, size: int):
    for declared in (size, None):
        sent = make_loop_door().request("POST", "/nowhere", declared=declared)
        assert not sent.answered
        sent.send(bytes(size // 2), more=True)
        assert not sent.answered
        assert sent.send(bytes(size - size // 2)).status == 404


def test_a_long_body_on_a_wrong_path_is_not(make_loop_door: MakeDoor):
    door = make_loop_door()
    assert door.request("POST", "/nowhere", declared=MAX_DISCARDED_BYTES + 1).status == 404
    chunked = door.request("POST", "/nowhere")
    chunked.send(bytes(MAX_DISCARDED_BYTES), more=True)
    assert not chunked.answered
    assert chunked.send(b"!", more=True).status == 404


def test_who_asks_before_sending_to_a_wrong_path_is_told_at_once(make_loop_door: MakeDoor):
    door = make_loop_door()
    for declared in (10, None):
        sent = door.request("POST", "/nowhere", {"expect": "100-continue"}, declared=declared)
        assert sent.status == 404
