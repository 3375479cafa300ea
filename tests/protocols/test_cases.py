"""Every protocol case through every door: the same request, the same answer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastserve.config import load_config
from fastserve.server.app import create_app
from tests.protocols.case_files import Case, load_cases
from tests.protocols.case_models import write_repository
from tests.support.coroutine_serve import COROUTINES_ONLY
from tests.support.doors import AsgiDoor, Door, HttpDoor
from tests.support.server import ServerProcess

RECORDS = ("seed:", "order:", "http:", "several:")
"""Of the prediction log: what doors may have to do with; what is in a record, `test_arize_rows` asks through one."""
CASES = [
    *load_cases("tfserving"),
    *load_cases("oip"),
    *load_cases("spice"),
    *(case for case in load_cases("arize") if case.id.startswith(RECORDS)),
]


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("cases"))


DOORS = ("asgi, in process", "rsgi", "rsgi, coroutines only", "asgi", "asgi, another server")


@pytest.fixture(scope="module", params=DOORS)
def door(request: pytest.FixtureRequest, config_file: Path) -> Iterator[Door]:
    if request.param == "asgi, in process":
        yield from _opened(AsgiDoor(create_app(load_config(file=str(config_file), env={}))))
    else:
        with _server(request.param, config_file) as server:
            yield from _opened(HttpDoor(server))


def _server(door: str, config_file: Path) -> ServerProcess:
    if door == "asgi, another server":
        # h11 also where httptools is there: it takes methods that nobody knows. A busy machine may keep it waiting.
        program = ("uvicorn", "fastserve.server.app:app", "--http", "h11", "--timeout-keep-alive", "120")
        return ServerProcess(program=program, environment={"FASTSERVE_CONFIG": str(config_file)})
    if door == "rsgi, coroutines only":
        return ServerProcess(str(config_file), program=COROUTINES_ONLY)
    return ServerProcess(str(config_file), "--interface", door)


def _opened(door: Door) -> Iterator[Door]:
    door.open()
    try:
        yield door
    finally:
        door.close()


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_case(door: Door, case: Case) -> None:
    case.check(door.send(case.sent()))
