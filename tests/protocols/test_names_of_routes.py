"""Names that would lead elsewhere, on every route that takes a name: refused, and no file is so much as looked at."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastserve.config import load_config
from fastserve.http.routes import Route
from fastserve.server.app import create_app
from tests.protocols.test_rights_of_routes import PATHS
from tests.support import models
from tests.support.doors import AsgiDoor, Sent
from tests.support.pattern_paths import parser, path_for
from tests.support.shelf import times

MARK = "mark-of-the-name"
"""In every name below: a file that is opened for one is known by it."""

NAMES = [
    f"../{MARK}",
    f"..%2f{MARK}",
    f"%2e%2e%2f{MARK}",
    f"%2e%2e/{MARK}",
    f"%252e%252e%252f{MARK}",
    f"..%5c{MARK}",
    f"..\\{MARK}",
    f"..%c0%af{MARK}",
    f"%ef%bc%8e%ef%bc%8e%ef%bc%8f{MARK}",
    f"%e2%80%a5%e2%88%95{MARK}",
    f"....//{MARK}",
    f"%00{MARK}",
    f"m%00{MARK}",
    f"m%0a{MARK}",
    f"m%7f{MARK}",
    f"%2fetc%2f{MARK}",
    f"file:%2f%2f%2f{MARK}",
    f"C:%5c{MARK}",
    f"~{MARK}",
    f"$HOME{MARK}",
    f"%ff%fe{MARK}",
    f"m;{MARK}",
    f"m%3f{MARK}",
    f"m%23{MARK}",
    MARK + "m" * 4096,
    MARK + "%2e" * 1000,
    f"{MARK}%e2%80%ae",
]

PLACES = {
    name: [(method, route) for method, _, route in PATHS if name in route.pattern.groupindex]
    for name in ("model", "version", "label", "dataset", "file")
}
ROUTES = [
    pytest.param(name, method, route, id=f"{method} {route.pattern.pattern} {name}")
    for name, routes in PLACES.items()
    for method, route in routes
]


class Watch:
    """Inside, `opened` is told what is opened, listed or looked at, as Python's audit events tell it."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self._is_on = False
        sys.addaudithook(self._audit)  # for good: hooks cannot be taken back

    def __enter__(self) -> "Watch":
        self.opened.clear()
        self._is_on = True
        return self

    def __exit__(self, *_: object) -> None:
        self._is_on = False

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._is_on and (event == "open" or event.startswith(("os.", "shutil.", "glob."))):
            self.opened.append(f"{event} {arguments}")


WATCH = Watch()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AsgiDoor]:
    folder = tmp_path_factory.mktemp("names")
    models.save(times(1), folder / "models" / "m" / "1")
    models.save(times(1), folder / MARK / "1")  # what a name that leads out would find
    door = AsgiDoor(create_app(load_config([str(folder / "models")], options={"poll_seconds": 0})))
    door.open()
    yield door
    door.close()


def path_with(route: Route, place: str, name: str) -> str:
    """The route's shortest path that has this place, with `name` there."""
    groups = {number: "\x1a" for group, number in route.pattern.groupindex.items() if group == place}
    if place == "version":
        groups = {number: "7" for number in groups}
    path = path_of(route.pattern, groups)
    return path.replace("\x1a" if place != "version" else "/7", name if place != "version" else f"/{name}", 1)


def path_of(pattern: re.Pattern[str], wanted: dict[int, str]) -> str:
    """As `path_for`, with what is optional wherever a wanted group is in it."""

    def text(step: Any) -> str:
        kind, value = str(step[0]), step[1]
        match kind:
            case "LITERAL":
                return chr(value)
            case "SUBPATTERN":
                return wanted.get(value[0]) or ("m" if value[0] in named else steps(value[3]))
            case "MAX_REPEAT" | "MIN_REPEAT":
                needed = value[0] or (1 if any(group in wanted for group in groups_in(value[2])) else 0)
                return steps(value[2]) * needed
            case "BRANCH":
                branches = [branch for branch in value[1] if any(group in wanted for group in groups_in(branch))]
                return steps((branches or value[1])[0])
            case "ANY" | "IN" | "NOT_LITERAL":
                return "x"
        return ""

    def steps(parsed: Any) -> str:
        return "".join(map(text, parsed))

    named = {number for name, number in pattern.groupindex.items() if name == "model" and number not in wanted}
    return steps(parser.parse(pattern.pattern, pattern.flags))


def groups_in(parsed: Any) -> Iterator[int]:
    for kind, value in parsed:
        if str(kind) == "SUBPATTERN":
            yield value[0]
            yield from groups_in(value[3])
        elif str(kind) in ("MAX_REPEAT", "MIN_REPEAT"):
            yield from groups_in(value[2])
        elif str(kind) == "BRANCH":
            for branch in value[1]:
                yield from groups_in(branch)


@pytest.mark.parametrize(("place", "method", "route"), ROUTES)
def test_no_name_leads_anywhere(door: AsgiDoor, place: str, method: str, route: Route) -> None:
    body = b"{}" if method == "POST" else b""
    for name in NAMES:
        with WATCH:
            answer = door.send(Sent(method, path_with(route, place, name), {"host": "localhost"}, body))
        # As upstream, status does not look at a label.
        is_status = place == "label" and method == "GET"
        assert answer.status in (400, 404, 405, 415, 501) or (is_status and answer.status == 200), (name, answer)
        assert len(answer.body) < 2000 + len(name), "no error grows with its request"
        assert str(Path.cwd()).encode() not in answer.body
        assert [what for what in WATCH.opened if MARK in what] == [], name


def test_what_is_opened_would_be_seen(tmp_path: Path) -> None:
    with WATCH:
        (tmp_path / MARK).write_text("x")
    assert any(MARK in what for what in WATCH.opened)


def test_places_are_found() -> None:
    assert all(PLACES.values())
    for name, routes in PLACES.items():
        for _, route in routes:
            good = path_with(route, name, "7")
            assert route.pattern.fullmatch(good), good
    assert path_for(PLACES["model"][0][1].pattern)
