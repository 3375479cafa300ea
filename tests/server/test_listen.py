"""Where a served process listens: ports and Unix sockets."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support import models
from tests.support.failing_serve import FAILING_STARTS
from tests.support.served import FASTSERVE, health, launched, wire, workers_of
from tests.support.server import ServerProcess
from tests.support.shelf import times
from tests.support.waiting import WITHIN_S, until
from tests.support.wire import Wire


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with one quick model."""
    models.save(times(1), tmp_path / "models" / "m" / "1")
    return tmp_path / "models"


def test_a_port_that_is_taken_is_told_in_one_line(folder: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [FASTSERVE, "serve", str(folder), "--port", port], capture_output=True, timeout=WITHIN_S, check=False
        )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 1
    assert port in said
    assert "in use" in said
    assert "Traceback" not in said


def test_a_second_server_on_the_same_port_is_refused(folder: Path):
    with ServerProcess(str(folder)) as server:
        done = subprocess.run(
            [FASTSERVE, "serve", str(folder), "--port", str(server.port)],
            capture_output=True,
            timeout=WITHIN_S,
            check=False,
        )
        assert done.returncode == 1
        assert health(server, "/readyz")[0] == 200


@pytest.mark.parametrize("kind", ["a file", "in no folder", "served already"])
def test_a_unix_socket_that_cannot_be_had_is_told_in_one_line(folder: Path, tmp_path: Path, kind: str):
    path = tmp_path / "nowhere" / "socket" if kind == "in no folder" else tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "a file":
            path.write_text("precious")
        elif kind == "served already":
            listener.bind(str(path))
            listener.listen()
        command = [FASTSERVE, "serve", str(folder), "--uds", str(path)]
        done = subprocess.run(command, capture_output=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 1
    assert str(path).encode() in done.stderr
    assert b"--uds" in done.stderr
    assert b"Traceback" not in done.stderr
    assert kind != "a file" or path.read_text() == "precious"


def test_port_0_is_a_free_one_that_is_told(folder: Path):
    with launched(str(folder), "--port", "0") as (_, output):
        found = re.search(r"http://127\.0\.0\.1:(\d+)/readyz", output())
        assert found, output()
        with Wire(("127.0.0.1", int(found[1]))) as one:
            assert one.get("/readyz").status == 200


@pytest.fixture
def failing(folder: Path) -> Path:
    """While that file is there, workers cannot start."""
    return folder.parent / "failing"


@pytest.mark.parametrize("workers", [1, 2])
def test_clients_that_come_while_no_worker_is_there_wait_and_are_answered(folder: Path, failing: Path, workers: int):
    environment = {"FAILING": str(failing)}
    with ServerProcess(
        str(folder), "--workers", str(workers), environment=environment, program=FAILING_STARTS
    ) as server:
        failing.touch()
        for pid in workers_of(server):
            os.kill(pid, signal.SIGKILL)
        until(lambda: server.output.count("before it served") >= workers)
        with wire(server) as one, wire(server) as another:
            failing.unlink()
            assert one.post("/v1/models/m:predict", b'{"instances": [[1, 2]]}').status == 200
            assert another.get("/livez").status == 200


def test_where_others_serve_a_dead_workers_clients_are_theirs(folder: Path, failing: Path):
    environment = {"FAILING": str(failing)}
    with ServerProcess(str(folder), "--workers", "2", environment=environment, program=FAILING_STARTS) as server:
        failing.touch()
        os.kill(workers_of(server)[0], signal.SIGKILL)
        until(lambda: "started again" in server.output)
        assert [health(server, "/livez")[0] for _ in range(20)] == [200] * 20


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2", "::1"])
def test_names_and_other_addresses_are_listened_on(folder: Path, host: str):
    with launched(str(folder), "--host", host, "--port", "0") as (_, output):
        found = re.search(r":(\d+)/readyz", output())
        assert found, output()
        with Wire((host, int(found[1]))) as one:
            assert one.get("/livez").status == 200


def test_a_host_that_is_none_is_told_in_one_line(folder: Path):
    command = [FASTSERVE, "serve", str(folder), "--host", "no-such-host.invalid"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: cannot listen on no-such-host.invalid port 8000:")
    assert "Traceback" not in done.stderr


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


@pytest.mark.parametrize("stale", [False, True])
def test_a_unix_socket_serves_and_is_gone_afterwards(folder: Path, tmp_path: Path, stale: bool):
    path = tmp_path / "socket"
    if stale:  # what a server that was killed leaves behind
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
    with launched(str(folder), "--uds", str(path)) as (process, output):
        assert process.poll() is None, output()
        connection = UnixConnection(path)
        connection.request("POST", "/v1/models/m:predict", b'{"instances": [[1, 2]]}')
        assert json.load(connection.getresponse()) == {"predictions": [[1, 2]]}
        connection.close()
        process.terminate()
        assert process.wait(WITHIN_S) == 0
    assert not path.exists()
