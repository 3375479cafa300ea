"""Every route of the server x {nobody, wrong credentials, the wrong scope, the right one}, made from the table of routes.

A route that `cases/rights.txt` does not name fails: somebody must decide who may call it, and write it there.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastserve.config import load_config
from fastserve.engine.engine import Engine
from fastserve.http.routes import Protocol, Route
from fastserve.protocols.table import PROTOCOLS
from fastserve.server.admin import Admin
from fastserve.server.app import create_app
from fastserve.types import OPEN, SCOPES
from tests.support import models
from tests.support.doors import Answer, AsgiDoor, Sent
from tests.support.pattern_paths import path_for
from tests.support.shelf import times

DECIDED_FILE = Path(__file__).parent / "cases" / "rights.txt"
KEYS = {scope: f"the-secret-key-for-{scope}" for scope in sorted(SCOPES)}
RESTRICTED = {scope: f"another-secret-key-for-{scope}" for scope in sorted(SCOPES)}
METRICS_PATH = "/more-metrics"


def decided() -> dict[tuple[str, str], str]:
    """The scope of each route, by method and path."""
    lines = [line.split() for line in DECIDED_FILE.read_text().splitlines() if line and not line.startswith("#")]
    return {(method, path): scope for scope, method, path in lines}


def table() -> list[tuple[Protocol, Route]]:
    engine = Engine(load_config(options={"metrics_path": METRICS_PATH}))
    try:
        protocols = [*(protocol(engine) for protocol in PROTOCOLS), Admin(engine, bool, METRICS_PATH)]
        return [(protocol, route) for protocol in protocols for route in protocol.routes()]
    finally:
        engine.stop()


ROUTES = table()
PATHS = [(route.method, path_for(route.pattern), route) for _, route in ROUTES]
IDS = [f"{method} {path}" for method, path, _ in PATHS]


@pytest.mark.parametrize(("method", "path", "route"), PATHS, ids=IDS)
def test_somebody_decided_who_may_call_a_route(method: str, path: str, route: Route) -> None:
    scope = decided().get((method, path))
    assert scope is not None, (
        f"who may call {method} {path}? Write it into {DECIDED_FILE.name}, and give the route its scope"
    )
    assert route.scope == scope
    assert scope in SCOPES | {OPEN}


def test_nothing_is_decided_that_is_not_there() -> None:
    assert [key for key in decided() if key not in {(method, path) for method, path, _ in PATHS}] == []


def test_only_health_and_what_browsers_ask_first_is_open() -> None:
    opened = [path for (method, path), scope in decided().items() if scope == OPEN and method != "OPTIONS"]
    assert [path for path in opened if not path.endswith(("z", "/live", "/ready", "/health")) and path != "/"] == []


def write_config(folder: Path) -> Path:
    """Keys of each scope, unrestricted and for one model only."""
    models.save(times(1), folder / "models" / "m" / "1")
    models.save(times(1), folder / "models" / "unseen" / "1")
    lines = ["[repository]", 'path = "models"', "[server]", f'metrics_path = "{METRICS_PATH}"']
    for scope in sorted(SCOPES):
        lines += ["[[auth.keys]]", f'name = "{scope}"', f'key = "${{KEY_{scope}}}"', f'scopes = ["{scope}"]']
        lines += ["[[auth.keys]]", f'name = "restricted {scope}"', f'key = "${{RESTRICTED_{scope}}}"']
        lines += [f'scopes = ["{scope}"]', 'models = ["m"]']
    file = folder / "fastserve.toml"
    file.write_text("\n".join(lines))
    return file


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AsgiDoor]:
    file = write_config(tmp_path_factory.mktemp("rights"))
    env = {f"KEY_{scope}": key for scope, key in KEYS.items()}
    env |= {f"RESTRICTED_{scope}": key for scope, key in RESTRICTED.items()}
    door = AsgiDoor(create_app(load_config(file=str(file), env=env)))
    door.open()
    yield door
    door.close()


def ask(door: AsgiDoor, method: str, path: str, headers: dict[str, str]) -> Answer:
    # An Origin of our own: without one, TF Serving's OPTIONS is refused for another reason.
    return door.send(
        Sent(method, path, {"host": "x", "origin": "http://x", **headers}, b"{}" if method == "POST" else b"")
    )


GARBAGE = ["Bearer nobody-has-this-key", "Basic !!!", "Basic bm9ib2R5", "Digest x=1", "", "Bearer", KEYS["infer"]]


@pytest.mark.parametrize(("method", "path", "route"), PATHS, ids=IDS)
def test_who_is_not_known_is_let_in_nowhere_but_to_health(door: AsgiDoor, method: str, path: str, route: Route) -> None:
    for headers in ({}, {"x-api-key": "nobody-has-this-key"}, *({"authorization": text} for text in GARBAGE)):
        if route.scope == "log" and headers.get("authorization") == KEYS["infer"]:
            continue  # a key without a scheme is one there
        answer = ask(door, method, path, headers)
        if route.scope == OPEN:
            assert answer.status not in (401, 403)
        else:
            asked = route.scope != "log"  # its clients know 403 only
            assert answer.status == (401 if asked else 403), headers
            assert answer.headers.get("www-authenticate", "").startswith("Bearer") == asked
            assert "secret" not in answer.body.decode()


@pytest.mark.parametrize(("method", "path", "route"), PATHS, ids=IDS)
def test_the_wrong_scope_gets_403_and_the_right_one_is_let_in(
    door: AsgiDoor, method: str, path: str, route: Route
) -> None:
    for scope, key in KEYS.items():
        status = ask(door, method, path, {"authorization": f"Bearer {key}"}).status
        allowed = route.scope in (OPEN, scope)
        assert (status not in (401, 403)) if allowed else (status == 403), scope


def names_model(route: Route, path: str) -> bool:
    found = route.pattern.fullmatch(path)
    return found is not None and found.groupdict().get("model") is not None


@pytest.mark.parametrize(("method", "path", "route"), PATHS, ids=IDS)
def test_a_key_for_one_model_gets_no_other_ones(door: AsgiDoor, method: str, path: str, route: Route) -> None:
    if route.scope == OPEN:
        return
    headers = {"x-api-key": RESTRICTED[route.scope]}
    answer = ask(door, method, path, headers)
    if names_model(route, path) or route.sifts:
        assert answer.status not in (401, 403)
        assert "unseen" not in answer.body.decode()
    else:
        assert answer.status == 403
    if names_model(route, path):
        assert ask(door, method, path_for(route.pattern, "unseen"), headers).status == 403


@pytest.mark.parametrize(
    "path", ["/v1/models/", "/v1/models/m/nonsense", "/v2/nonsense", "/nonsense", "/model-serving/"]
)
def test_paths_that_lead_nowhere_tell_that_only_to_callers_who_are_known(door: AsgiDoor, path: str) -> None:
    assert ask(door, "GET", path, {}).status == 401
    assert ask(door, "GET", path, {"x-api-key": KEYS["log"]}).status in (400, 404)
