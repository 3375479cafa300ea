"""Every protocol case through every door: the same request, the same answer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastserve.config import load_config
from fastserve.server.app import create_app
from tests.protocols.case_files import Case, load_cases
from tests.protocols.case_models import write_repository
from tests.support.doors import AsgiDoor, Door, HttpDoor
from tests.support.server import ServerProcess

CASES = load_cases("tfserving")


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("cases"))


@pytest.fixture(scope="module", params=["asgi in process", "rsgi served", "asgi served"])
def door(request: pytest.FixtureRequest, config_file: Path) -> Iterator[Door]:
    if request.param == "asgi in process":
        yield from _opened(AsgiDoor(create_app(load_config(file=str(config_file), env={}))))
    else:
        with ServerProcess(str(config_file), "--interface", request.param.split()[0]) as server:
            yield from _opened(HttpDoor(server))


def _opened(door: Door) -> Iterator[Door]:
    door.open()
    try:
        yield door
    finally:
        door.close()


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_case(door: Door, case: Case) -> None:
    case.check(door.send(case.sent()))
