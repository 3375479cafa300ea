"""Every door lets in who may: at once where the caller is known, after asking where not, and before the body is read."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastserve.errors import FastServeError, Unauthenticated
from fastserve.http.body import MAX_DISCARDED_BYTES
from fastserve.http.rights import Rights
from fastserve.types import EVERYBODY, Caller
from tests.support.fake_doors import DOORS, FakeDoor, FakeRsgiDoor

ANN = Caller(name="ann", scopes=frozenset({"infer"}))
READER = Caller(name="reader", scopes=frozenset({"read"}))
PEOPLE = {"ann": ANN, "reader": READER}


class People:
    """Names instead of secrets. `recognise` tells when the test says so."""

    def __init__(self, *known: str) -> None:
        self.seen = set(known)
        self.asked: list[Callable[[], None]] = []

    def known(self, headers: Any, scope: str) -> Caller | None:
        name = headers.get("x-api-key")
        return PEOPLE[name] if name in self.seen else None

    def recognise(
        self, headers: Any, scope: str, address: str, told: Callable[[Caller | FastServeError], None]
    ) -> None:
        name = headers.get("x-api-key")
        wrong = Unauthenticated(("Basic realm=x", "Bearer realm=x"), missing=name is None)
        if name in PEOPLE:
            self.seen.add(name)
        self.asked.append(lambda: told(PEOPLE.get(name, wrong)))

    def tell(self) -> None:
        while self.asked:
            self.asked.pop()()


def rights(people: People) -> Rights:
    return Rights(listens_locally=True, callers=people)


@pytest.fixture(params=["rsgi", "asgi"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[[People], FakeDoor]]:
    made: list[FakeDoor] = []

    def make(people: People) -> FakeDoor:
        made.append(DOORS[request.param](rights=rights(people)))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize(
    ("name", "path", "status"),
    [
        ("ann", "/echo", 200),
        ("reader", "/echo", 403),
        ("eve", "/echo", 401),
        (None, "/echo", 401),
        (None, "/nowhere", 401),
        ("reader", "/nowhere", 404),
        ("ann", "/change", 403),
    ],
)
def test_callers_are_asked_who_they_are(make: Any, name: str | None, path: str, status: int) -> None:
    people = People()
    door = make(people)
    sent = door.post(path, b"hello", {} if name is None else {"x-api-key": name})
    assert not sent.answered, "nobody knows yet"
    assert not door.toy.seen
    people.tell()
    door.settle()
    assert sent.status == status
    assert [request.caller.name for request in door.toy.seen] == (["ann"] if status == 200 else [])


def test_who_is_known_is_let_in_at_once(make: Any) -> None:
    door = make(People("ann"))
    assert door.post("/echo", b"hello", {"x-api-key": "ann"}).status == 200
    assert [request.caller for request in door.toy.seen] == [ANN]


def test_a_refusal_comes_before_the_body_is_read(make: Any) -> None:
    people = People()
    door = make(people)
    sent = door.request("POST", "/echo", {"x-api-key": "eve"}, declared=MAX_DISCARDED_BYTES + 1)
    people.tell()
    door.settle()
    assert sent.status == 401


def test_refusals_are_counted(make: Any) -> None:
    people = People()
    door = make(people)
    for name in ("eve", "reader"):
        door.post("/echo", b"", {"x-api-key": name})
        people.tell()
        door.settle()
    assert door.count('fastserve_refused_total{reason="unauthenticated"}') == 1
    assert door.count('fastserve_refused_total{reason="forbidden"}') == 1


def test_both_challenges_are_sent() -> None:
    people = People()
    door = FakeRsgiDoor(rights=rights(people))
    sent = door.post("/echo", b"")
    people.tell()
    door.settle()
    assert sent.headers["www-authenticate"] == "Bearer realm=x"  # the last of two headers of that name
    door.close()


def test_without_callers_everybody_is_everybody() -> None:
    for name in DOORS:
        door = DOORS[name]()
        door.post("/echo", b"x", {"x-api-key": "eve"})
        assert [request.caller for request in door.toy.seen] == [EVERYBODY]
        door.close()


# --- the direct door


def direct(people: People) -> FakeDoor:
    return DOORS["direct"](rights=rights(people))


@pytest.mark.parametrize(
    ("name", "path", "taken"),
    [
        ("ann", "/echo", True),
        ("ann", "/change", False),
        ("ann", "/nowhere", False),
        ("reader", "/echo", False),
        ("eve", "/echo", False),
        (None, "/echo", False),
    ],
)
def test_the_direct_door_takes_from_callers_who_are_known_and_may(name: str | None, path: str, taken: bool) -> None:
    door = direct(People("ann", "reader"))
    sent = door.post(path, b"hello", {} if name is None else {"x-api-key": name})
    assert sent.taken is taken  # type: ignore[attr-defined]
    assert [request.caller for request in door.toy.seen] == ([ANN] if taken else [])


def test_the_direct_door_leaves_who_is_not_known_yet_to_the_others() -> None:
    people = People()
    door = direct(people)
    assert not door.post("/echo", b"x", {"x-api-key": "ann"}).taken  # type: ignore[attr-defined]
    assert not people.asked
    people.seen.add("ann")
    assert door.post("/echo", b"x", {"x-api-key": "ann"}).taken  # type: ignore[attr-defined]


def test_who_was_let_in_is_served_whoever_is_forgotten_or_named_meanwhile() -> None:
    people = People("ann")
    door = direct(people)
    sent = door.request("POST", "/echo", {"x-api-key": "ann"}, declared=5)
    people.seen.clear()
    door.site.rights.callers = People()
    assert sent.send(b"hello").status == 200
    assert [request.caller for request in door.toy.seen] == [ANN]


# --- users and keys that change while requests come


@pytest.mark.parametrize("kind", DOORS)
def test_once_somebody_is_named_nobody_else_gets_in(kind: str) -> None:
    door = DOORS[kind]()
    assert door.post("/echo", b"hello", {"x-api-key": "reader"}).status == 200
    door.site.rights.callers = People("ann")
    for name, status in (("ann", 200), ("reader", None)):
        sent = door.post("/echo", b"hello", {"x-api-key": name})
        assert (sent.status if sent.answers else None) == status
    door.close()


def test_who_is_recognised_too_late_is_asked_again_by_the_new_ones(make: Any) -> None:
    before, after = People(), People()
    door = make(before)
    sent = door.post("/echo", b"hello", {"x-api-key": "ann"})
    door.site.rights.callers = after
    before.tell()
    door.settle()
    assert not sent.answered
    assert after.asked
    after.tell()
    door.settle()
    assert sent.status == 200
