"""Calls to load and unload over HTTP, with several workers: so everywhere by the time they are answered."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.server.test_workers import BODY, PREDICT, connected, serving
from tests.support import models
from tests.support.controlled_serve import WITH_CALLS
from tests.support.served import Load, health, workers_of
from tests.support.server import ServerProcess
from tests.support.shelf import times
from tests.support.waiting import until

OTHER = "/v1/models/other:predict"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models.save(times(1), tmp_path / "models" / "m" / "1")
    models.save(times(1), tmp_path / "models" / "other" / "1")
    return tmp_path / "models"


@pytest.fixture
def server(folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess(str(folder), "--workers", "2", "--poll-seconds", "0.2", program=WITH_CALLS) as server:
        yield server


def call(server: ServerProcess, what: str, body: bytes = b"", **headers: str) -> tuple[int, Any]:
    connection = server.connection()
    try:
        connection.request("POST", f"/calls/{what}", body, headers)
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, msgspec.json.decode(content) if answer.status == 200 else content.decode()
    finally:
        connection.close()


def test_by_the_time_a_call_is_answered_every_worker_does_as_it_says(server: ServerProcess):
    with Load(server, clients=3, path=OTHER) as load, connected(server, 16) as clients:
        for _ in range(4):
            assert call(server, "unload/m")[0] == 200
            assert {one.post(PREDICT, BODY).status for one in clients} == {404}
            assert {b"AVAILABLE" in one.get("/v1/models/m").body for one in clients} == {False}
            assert call(server, "load/m") == (200, {"m/1": "READY"})
            assert {one.post(PREDICT, BODY).status for one in clients} == {200}
            assert {b"AVAILABLE" in one.get("/v1/models/m").body for one in clients} == {True}
        assert load.failed == [], "another model was served all the time"


def test_new_files_are_served_everywhere_when_the_call_to_load_them_is_answered(server: ServerProcess, folder: Path):
    with connected(server, 16) as clients:
        for version in (2, 3, 4):
            models.save(times(version), folder / "m" / str(version))
            assert call(server, "load/m")[1][f"m/{version}"] == "READY"
            expected = b'{"predictions": [[%d,%d]]}' % (version, 2 * version)
            assert {one.post(PREDICT, BODY).body for one in clients} == {expected}


def test_overrides_reach_every_worker_and_those_that_cannot_be_none(server: ServerProcess, folder: Path):
    models.save(times(2), folder / "m" / "2")
    with connected(server, 16) as clients:
        assert call(server, "load/m", b'{"versions": [1], "labels": {"stable": 1}}')[0] == 200
        stable = "/v1/models/m/labels/stable:predict"
        assert {one.post(stable, BODY).body for one in clients} == {b'{"predictions": [[1,2]]}'}
        status, text = call(server, "load/m", b'{"max_batch_rows": -1}')
        assert (status, "max_batch_rows" in text) == (400, True)
        assert {one.post(stable, BODY).status for one in clients} == {200}
        status, text = call(server, "load/m", b'{"providers": ["Nonsense"], "versions": [1], "labels": {"stable": 1}}')
        assert (status, "Nonsense" in text) == (400, True)
        assert {one.post(stable, BODY).body for one in clients} == {b'{"predictions": [[1,2]]}'}


def test_a_broken_model_is_refused_with_the_reason_and_the_old_version_serves_on(server: ServerProcess, folder: Path):
    models.save(times(2), folder / "m" / "2").write_bytes(b"no model")
    status, text = call(server, "load/m")
    assert status == 400
    assert "version 2" in text
    with connected(server, 8):
        pass
    assert call(server, "load/nobody")[0] == 404


def test_what_was_asked_holds_for_a_worker_that_takes_anothers_place(server: ServerProcess):
    assert call(server, "unload/m")[0] == 200
    for _ in range(2):
        os.kill(workers_of(server)[0], signal.SIGKILL)
        until(lambda: serving(server) == 2)
    assert {call(server, "index")[1]["m/1"] for _ in range(8)} == {"UNLOADED"}
    with Load(server, clients=4, path=OTHER) as load:
        until(lambda: len(load.answered) > 50)
    assert load.failed == []
    assert health(server, "/readyz") == (200, {"ready": True}), "what was unloaded by a call does not make it unready"
    assert call(server, "load/m")[0] == 200


def test_a_page_of_another_site_and_another_name_may_not(server: ServerProcess):
    assert call(server, "unload/m", Origin="https://evil.example")[0] == 403
    assert call(server, "unload/m", Host="evil.example")[0] == 403
    assert call(server, "index")[1] == {"m/1": "READY", "other/1": "READY"}
