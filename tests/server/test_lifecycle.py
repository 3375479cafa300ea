"""A served process from start to end: signals, drains, workers that die; what its health says meanwhile."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support import models, slow_models
from tests.support.served import ENDLESS, FASTSERVE, LONG, PATIENT, Load, health, until_taken, wire, workers_of
from tests.support.server import ServerProcess, free_port
from tests.support.shelf import times
from tests.support.streams import streaming
from tests.support.waiting import WITHIN_S, until
from tests.support.wire import Wire


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with one quick model."""
    models.save(times(1), tmp_path / "models" / "m" / "1")
    return tmp_path / "models"


@pytest.fixture
def slow_folder(folder: Path) -> Path:
    """And a slow one."""
    models.save(slow_models.patient(), folder / "patient" / "1")
    return folder


@pytest.mark.parametrize("interface", ["rsgi", "asgi"])
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_under_load_nothing_that_came_before_the_signal_fails(folder: Path, interface: str, ending: int):
    with ServerProcess(str(folder), "--interface", interface) as server:
        with Load(server, clients=6) as load:
            signalled = time.monotonic()
            server.process.send_signal(ending)
            assert server.process.wait(WITHIN_S) == 0, server.output
        assert [why for sent, why in load.failed if sent < signalled] == []
        assert "Traceback" not in server.output


@pytest.mark.parametrize("interface", ["rsgi", "asgi"])
def test_streams_of_http_2_that_came_before_the_signal_are_answered(folder: Path, interface: str):
    with ServerProcess(str(folder), "--interface", interface) as server:
        with streaming(server, connections=4, streams=4) as clients:
            signalled = time.monotonic()
            server.process.terminate()
            assert server.process.wait(WITHIN_S) == 0, server.output
        assert [why for one in clients for sent, why in one.failed if sent < signalled] == []
        assert "Traceback" not in server.output


def test_a_request_that_runs_when_the_signal_comes_is_answered(slow_folder: Path):
    with ServerProcess(str(slow_folder)) as server, wire(server) as running, wire(server) as queued:
        running.send(PATIENT, LONG)
        queued.send(PATIENT, b'{"instances": [7]}')
        until_taken(server, requests=2)
        server.process.terminate()
        assert running.answer().body == b'{"predictions": [12000]}'
        assert queued.answer().body == b'{"predictions": [7]}'
        assert server.process.wait(WITHIN_S) == 0


def test_during_the_drain_delay_it_serves_and_is_not_ready(folder: Path):
    # Requests are held to be safe that were sent well before the delay is over: a client may be slow on a busy machine.
    with ServerProcess(str(folder), "--drain-delay-ms", "2000") as server:
        assert health(server, "/readyz") == (200, {"ready": True})
        with Load(server, clients=2) as load:
            signalled = time.monotonic()
            server.process.terminate()
            assert server.process.wait(WITHIN_S) == 0
        assert time.monotonic() - signalled >= 2.0
        assert [why for sent, why in load.failed if sent < signalled + 0.6] == []
        assert any(sent > signalled + 0.3 for sent, _, _ in load.answered)


def test_an_interrupt_from_the_keyboard_reaches_workers_too_and_drains_all_the_same(folder: Path):
    with ServerProcess(str(folder), "--drain-delay-ms", "500") as server:
        with Load(server, clients=2) as load:
            signalled = time.monotonic()
            os.killpg(server.process.pid, signal.SIGINT)
            assert server.process.wait(WITHIN_S) == 0, server.output
        assert time.monotonic() - signalled >= 0.5
        assert [why for sent, why in load.failed if sent < signalled + 0.4] == []


def test_a_second_signal_forces(slow_folder: Path):
    with ServerProcess(str(slow_folder), "--drain-timeout-ms", "600000") as server, wire(server) as one:
        one.send(PATIENT, ENDLESS)
        until_taken(server)
        server.process.terminate()
        until(lambda: health(server, "/livez")[0] == 0)
        server.process.terminate()
        assert server.process.wait(WITHIN_S) == 1


def test_a_second_signal_forces_in_the_drain_delay_too(folder: Path):
    with ServerProcess(str(folder), "--drain-delay-ms", "60000") as server:
        server.process.terminate()
        until(lambda: health(server, "/readyz")[0] == 503)
        _, body = health(server, "/readyz")
        assert "draining" in body["reason"]
        assert health(server, "/livez")[0] == 200
        with wire(server) as one:
            assert one.post("/v1/models/m:predict", b'{"instances": [[1, 2]]}').status == 200
        server.process.terminate()
        assert server.process.wait(WITHIN_S) == 1


def test_what_does_not_end_is_ended_when_the_drain_timeout_is_over(slow_folder: Path):
    with ServerProcess(str(slow_folder), "--drain-timeout-ms", "400") as server, wire(server) as one:
        one.send(PATIENT, ENDLESS)
        until_taken(server)
        begun = time.monotonic()
        server.process.terminate()
        assert server.process.wait(WITHIN_S) == 1, "a request was cut short"
        assert time.monotonic() - begun >= 0.4


@pytest.mark.parametrize("after_s", [0.0, 0.2, 0.4, 0.6, 0.9])
def test_a_signal_at_any_time_of_the_start_ends_it(folder: Path, after_s: float):
    command = [FASTSERVE, "serve", str(folder), "--port", str(free_port())]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after_s)
        process.terminate()
        output, _ = process.communicate(timeout=WITHIN_S)
        # Before Python has installed a handler, the signal ends the process by itself.
        assert process.returncode in (0, -signal.SIGTERM)
        assert b"Traceback" not in output
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_a_parent_that_is_killed_takes_its_workers_along(folder: Path):
    with ServerProcess(str(folder), "--workers", "2") as server:
        assert len(workers_of(server)) == 2
        server.process.kill()
        until(lambda: health(server, "/livez")[0] == 0)


def test_a_worker_that_is_killed_again_and_again_is_replaced(folder: Path):
    with ServerProcess(str(folder)) as server:
        for _ in range(3):
            (worker,) = workers_of(server)
            os.kill(worker, signal.SIGKILL)
            until(lambda worker=worker: worker not in workers_of(server))  # type: ignore[misc]
            until(lambda: health(server, "/readyz")[0] == 200)
        server.process.terminate()
        assert server.process.wait(WITHIN_S) == 0


def test_ready_when_every_model_serves(folder: Path):
    with ServerProcess(str(folder)) as server:
        assert health(server, "/livez") == (200, {"live": True})
        assert health(server, "/startupz") == (200, {"started": True})
        assert health(server, "/readyz") == (200, {"ready": True})
        with wire(server) as one:
            one.head("HEAD", "/readyz")
            assert b"200 OK" in one._until(b"\r\n\r\n")
            assert one.get("/readyz").status == 200


def test_while_models_are_loaded_it_lives_and_is_neither_started_nor_ready(folder: Path):
    models.save(slow_models.patient(base_steps=4000), folder / "patient" / "1")
    command = [FASTSERVE, "serve", str(folder), "--port", str(port := free_port())]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        seen = set()

        def loading() -> bool:
            with contextlib.suppress(OSError), Wire(("127.0.0.1", port)) as one:
                seen.add(tuple(one.get(path).status for path in ("/livez", "/startupz", "/readyz")))
            return bool(seen)

        until(loading)
        # It is not waited for that all is loaded: threads that load stand back, and on a busy machine that takes long.
        assert seen == {(200, 503, 503)}
    finally:
        process.terminate()
        process.wait(WITHIN_S)


def test_one_broken_model_keeps_it_unready_and_the_others_serve(folder: Path):
    models.save(times(1), folder / "broken" / "1").write_bytes(b"no model")
    with ServerProcess(str(folder)) as server:
        status, body = health(server, "/readyz")
        assert status == 503
        assert "broken" in body["reason"]
        assert health(server, "/startupz")[0] == 200
        with wire(server) as one:
            assert one.post("/v1/models/m:predict", b'{"instances": [[1, 2]]}').status == 200
            assert one.post("/v1/models/broken:predict", b'{"instances": [[1, 2]]}').status == 404


def test_without_models_it_starts_and_is_not_ready(tmp_path: Path):
    with ServerProcess(str(tmp_path)) as server:
        assert health(server, "/startupz")[0] == 200
        status, body = health(server, "/readyz")
        assert status == 503
        assert "no models" in body["reason"]
