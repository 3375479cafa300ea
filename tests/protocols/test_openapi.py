"""The API document that the server gives: no route is missing, nothing is told that is not there, and it is valid."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from fastserve.config import load_config
from fastserve.engine.engine import Engine
from fastserve.errors import Forbidden, Unauthenticated, UnsupportedEncoding
from fastserve.http.operations import Described
from fastserve.http.routes import Protocol, Route
from fastserve.http.table import PathTable
from fastserve.protocols.table import DESCRIBED, PROTOCOLS
from fastserve.server import admin_openapi, docs, openapi
from fastserve.server.admin import Admin
from fastserve.server.app import create_app
from tests.support.doors import Answer, AsgiDoor, Sent

ALL = (*DESCRIBED, admin_openapi.DESCRIBED)
BY_NAME = {one.name: one for one in ALL}


def protocols() -> list[Protocol]:
    engine = Engine(load_config())
    try:
        found: list[Protocol] = [protocol(engine) for protocol in PROTOCOLS]
        return [*found, Admin(engine, bool, None, found)]
    finally:
        engine.stop()


SERVED = protocols()
DOCUMENT: dict[str, Any] = json.loads(openapi.encoded(SERVED, ALL))
ROUTES = [
    pytest.param(protocol.name, route, id=f"{route.method} {route.pattern.pattern}")
    for protocol in SERVED
    for route in protocol.routes()
    if route.method != "OPTIONS"
]


def described_paths(one: Described, method: str) -> list[str]:
    """As they would be called."""
    methods = (method, "GET") if method == "HEAD" else (method,)
    return [
        openapi.sample_path(path, one)
        for operation in one.operations
        if operation.method in methods
        for path in operation.paths
    ]


@pytest.mark.parametrize(("name", "route"), ROUTES)
def test_every_route_is_told_with_every_part_that_its_path_may_have(name: str, route: Route):
    found = [route.pattern.fullmatch(path) for path in described_paths(BY_NAME[name], route.method)]
    matches = [match for match in found if match is not None]
    assert matches, f"describe {route.method} {route.pattern.pattern} in protocols/{name}/openapi.py"
    told = {group for match in matches for group, value in match.groupdict().items() if value is not None}
    assert told == set(route.pattern.groupindex)


def test_every_path_that_is_told_leads_to_its_protocol():
    table = PathTable(SERVED)
    for one in ALL:
        for operation in one.operations:
            for path in operation.paths:
                match = table.find(operation.method, openapi.sample_path(path, one))
                assert match.route is not None, (operation.method, path)
                assert match.protocol.name == one.name, path
                assert operation.method.lower() in DOCUMENT["paths"][path]


def test_what_users_and_keys_are_asked_for_is_told_where_they_are():
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            asked = {"401", "403"} & set(operation["responses"])
            assert bool(asked) == bool(operation["security"]), (method, path)
    assert not DOCUMENT["paths"]["/readyz"]["get"]["security"]
    assert "`admin`" in DOCUMENT["paths"]["/v2/repository/models/{model}/load"]["post"]["description"]


REFUSALS = (Unauthenticated((), missing=True), Unauthenticated((), missing=False), Forbidden("no"))


@pytest.mark.parametrize(("name", "route"), ROUTES)
def test_refusals_are_told_with_the_codes_that_they_have(name: str, route: Route):
    protocol = next(one for one in SERVED if one.name == name)
    answered = {str(protocol.encode_error(error).status) for error in REFUSALS}
    unread = str(protocol.encode_error(UnsupportedEncoding("br")).status)
    for operation in BY_NAME[name].operations:
        for path in operation.paths:
            told = DOCUMENT["paths"][path].get(route.method.lower())
            if told is None or not told["security"]:
                continue
            assert answered <= set(told["responses"]), (route.method, path)
            assert {"401", "415"} - answered - {unread} <= {"401", "415"} - set(told["responses"]), (route.method, path)


def test_it_is_valid():
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def bodies(value: Any, place: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything with a schema and examples."""
    if isinstance(value, dict):
        if "schema" in value and "examples" in value:
            yield place, value
        for name, member in value.items():
            yield from bodies(member, f"{place}/{name}")


def test_every_example_is_of_its_schema():
    found = list(bodies(DOCUMENT))
    assert len(found) > 50
    for place, body in found:
        validator = Draft202012Validator({**body["schema"], "components": DOCUMENT["components"]})
        for name, example in body["examples"].items():
            problems = [error.message for error in validator.iter_errors(example["value"])]
            assert problems == [], f"{place}: {name}"


def test_bodies_have_examples():
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            assert not content or any(media.get("examples") for media in content.values()), (method, path)


# --- as it is served


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AsgiDoor]:
    folder = tmp_path_factory.mktemp("docs")
    door = AsgiDoor(create_app(load_config([str(folder)])))
    door.open()
    yield door
    door.close()


def get(door: AsgiDoor, path: str, method: str = "GET", **headers: str) -> Answer:
    return door.send(Sent(method, path, {name.replace("_", "-"): value for name, value in headers.items()}))


def test_the_server_gives_it(door: AsgiDoor):
    answer = get(door, "/openapi.json")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.body) == DOCUMENT
    again = get(door, "/openapi.json", if_none_match=answer.headers["etag"])
    assert (again.status, again.body) == (304, b"")


def test_a_browser_is_led_to_the_page_and_a_program_is_told_who_is_there(door: AsgiDoor):
    led = get(door, "/", accept="text/html,application/xhtml+xml;q=0.9")
    assert (led.status, led.headers["location"]) == (303, "/docs")
    assert json.loads(get(door, "/").body)["name"] == "fastserve"


@pytest.mark.parametrize("path", ["/docs", "/docs/"])
def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing_of_its_own(door: AsgiDoor, path: str):
    page = get(door, path)
    text = page.body.decode()
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "://" not in text
    assert "<script>" not in text
    assert "onload" not in text
    for file in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js"):
        assert f'"/docs/{file}"' in text
        answer = get(door, f"/docs/{file}")
        assert answer.status == 200, file
        assert answer.body
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert get(door, f"/docs/{file}", if_none_match=answer.headers["etag"]).status == 304


@pytest.mark.parametrize(
    "name", ["index.css", "..", "%2e%2e%2f__init__.py", "..%2f__init__.py", "swagger-ui.css%00", "swagger-ui.js", ""]
)
def test_no_other_file_is_given(door: AsgiDoor, name: str):
    answer = get(door, f"/docs/{name}")
    assert answer.status == (404 if name else 200)


def test_without_the_package_the_page_says_what_to_install(door: AsgiDoor, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(docs, "assets", lambda: None)
    page = get(door, "/docs")
    assert page.status == 200
    assert b"pip install 'fastserve[docs]'" in page.body
    assert b"<script" not in page.body
    assert get(door, "/docs/swagger-ui.css").status == 404


def test_the_page_is_found_without_running_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    docs.assets.cache_clear()
    monkeypatch.setattr(docs, "FILES", {"nothing of that name": "text/css"})
    assert docs.assets() is None
    monkeypatch.undo()
    docs.assets.cache_clear()
    assert docs.assets() is not None
