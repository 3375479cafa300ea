"""A served process from start to end: readiness, drains, signals, sockets, certificates, versions that change under load."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from onnx import TensorProto as T

from tests.support import models, slow_models
from tests.support.server import ServerProcess, free_port
from tests.support.wire import Wire

WITHIN_S = 30.0
FASTSERVE = str(Path(sys.executable).parent / "fastserve")
LONG = b'{"instances": [12000]}'
"""Some tenths of a second of the slow model."""
ENDLESS = b'{"instances": [100000000]}'
PATIENT = "/v1/models/patient:predict"


def until(condition: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    """Wait, within bounds, for what another process brings about."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def times(factor: int) -> Any:
    """`x` int64 [N, 2] -> `y`, x times the factor."""
    return models.build(
        [models.node("Mul", "x k", "y")],
        [models.tensor("x", ["N", 2], T.INT64)],
        [models.tensor("y", ["N", 2], T.INT64)],
        [models.weight("k", np.array([factor], dtype=np.int64))],
    )


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


def wire(server: ServerProcess) -> Wire:
    return Wire((server.host, server.port))


def health(server: ServerProcess, path: str) -> tuple[int, Any]:
    """Status and body of a health path; 0 where nobody listens."""
    try:
        with wire(server) as one:
            answer = one.get(path)
    except OSError:
        return 0, None
    return answer.status, msgspec.json.decode(answer.body)


def workers_of(server: ServerProcess) -> list[int]:
    """The worker processes."""
    path = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


class Load:
    """Clients that ask in a closed loop, each on a connection of its own, and note what became of each request."""

    def __init__(self, server: ServerProcess, clients: int, path: str = "/v1/models/m:predict") -> None:
        self._address = (server.host, server.port)
        self._path = path
        self._over = threading.Event()
        self.answered: list[tuple[float, int, int]] = []
        """When it was sent, what was sent, the version that answered."""
        self.failed: list[tuple[float, str]] = []
        """When it was sent, what was wrong."""
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        until(lambda: len(self.answered) > 5 * len(self._threads))
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(WITHIN_S)
            assert not thread.is_alive()

    def _ask(self, client: int) -> None:
        with contextlib.suppress(ConnectionError):  # nobody listens any more
            one = Wire(self._address)
            for i in count(client * 1_000_000):
                if self._over.is_set():
                    break
                body = msgspec.json.encode({"instances": [[i, -i]] * (1 + i % 3)})
                sent = time.monotonic()
                try:
                    answer = one.post(self._path, body)
                except OSError as error:
                    self.failed.append((sent, repr(error)))
                    break
                self._note(sent, i, answer.status, answer.headers, answer.body)
                if answer.headers.get("connection") == "close":
                    one.close()
                    one = Wire(self._address)
        one.close()

    def _note(self, sent: float, i: int, status: int, headers: Any, body: bytes) -> None:
        version = int(headers.get("x-model-version", 0))
        expected = {"predictions": [[i * version, -i * version]] * (1 + i % 3)}
        if status == 200 and msgspec.json.decode(body) == expected:
            self.answered.append((sent, i, version))
        else:
            self.failed.append((sent, f"{status} {body[:200]!r}"))

    @property
    def versions(self) -> set[int]:
        """Those that answered of late."""
        return {version for _, _, version in self.answered[-20:]}


# --- shutdown


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


def test_a_request_that_runs_when_the_signal_comes_is_answered(slow_folder: Path):
    with ServerProcess(str(slow_folder)) as server, wire(server) as running, wire(server) as queued:
        running.send(PATIENT, LONG)
        queued.send(PATIENT, b'{"instances": [7]}')
        with wire(server) as other:
            assert other.get("/livez").status == 200  # by now the two were read
        server.process.terminate()
        assert running.answer().body == b'{"predictions": [12000]}'
        assert queued.answer().body == b'{"predictions": [7]}'
        assert server.process.wait(WITHIN_S) == 0


def test_during_the_drain_delay_it_serves_and_is_not_ready(folder: Path):
    with ServerProcess(str(folder), "--drain-delay-ms", "700") as server:
        assert health(server, "/readyz") == (200, {"ready": True})
        with Load(server, clients=2) as load:
            signalled = time.monotonic()
            server.process.terminate()
            until(lambda: health(server, "/readyz")[0] == 503)
            status, body = health(server, "/readyz")
            assert status == 503
            assert "draining" in body["reason"]
            assert health(server, "/livez")[0] == 200
            assert server.process.wait(WITHIN_S) == 0
        ended = time.monotonic()
        assert ended - signalled >= 0.7
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
    with ServerProcess(str(slow_folder)) as server, wire(server) as one:
        one.send(PATIENT, ENDLESS)
        assert health(server, "/livez")[0] == 200
        server.process.terminate()
        until(lambda: health(server, "/livez")[0] == 0)
        begun = time.monotonic()
        server.process.terminate()
        assert server.process.wait(WITHIN_S) == 1
        assert time.monotonic() - begun < 5


def test_a_second_signal_forces_in_the_drain_delay_too(folder: Path):
    with ServerProcess(str(folder), "--drain-delay-ms", "60000") as server:
        server.process.terminate()
        until(lambda: health(server, "/readyz")[0] == 503)
        server.process.terminate()
        assert server.process.wait(WITHIN_S) == 1


def test_what_does_not_end_is_ended_when_the_drain_timeout_is_over(slow_folder: Path):
    with ServerProcess(str(slow_folder), "--drain-timeout-ms", "400") as server, wire(server) as one:
        one.send(PATIENT, ENDLESS)
        assert health(server, "/livez")[0] == 200
        begun = time.monotonic()
        server.process.terminate()
        assert server.process.wait(WITHIN_S) == 1, "a request was cut short"
        assert 0.4 <= time.monotonic() - begun < 10


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


# --- readiness


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

        def started() -> bool:
            with contextlib.suppress(OSError), Wire(("127.0.0.1", port)) as one:
                statuses = tuple(one.get(path).status for path in ("/livez", "/startupz", "/readyz"))
                seen.add(statuses)
                return statuses == (200, 200, 200)
            return False

        until(started)
        assert (200, 503, 503) in seen
        assert all(live == 200 for live, _, _ in seen)
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


# --- where it listens


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


@contextlib.contextmanager
def launched(*arguments: str) -> Iterator[tuple["subprocess.Popen[bytes]", Callable[[], str]]]:
    """`fastserve serve` with nothing added; and what it printed."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([FASTSERVE, "serve", *arguments], stdout=log, stderr=subprocess.STDOUT)

        def output() -> str:
            return os.pread(log.fileno(), os.fstat(log.fileno()).st_size, 0).decode()

        try:
            until(lambda: "/readyz" in output() or process.poll() is not None)
            yield process, output
        finally:
            process.terminate()
            process.wait(WITHIN_S)


def test_port_0_is_a_free_one_that_is_told(folder: Path):
    with launched(str(folder), "--port", "0") as (_, output):
        found = re.search(r"http://127\.0\.0\.1:(\d+)/readyz", output())
        assert found, output()
        with Wire(("127.0.0.1", int(found[1]))) as one:
            assert one.get("/readyz").status == 200


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


# --- certificates


class Authority:
    """Makes certificates with openssl."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.certificate = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        self._openssl("req", "-x509", *self._new(self._key), "-subj", f"/CN={name}", "-out", str(self.certificate))

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate for `name` at 127.0.0.1, and its key."""
        key, request, certificate = (self._folder / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
        extensions = self._folder / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        self._openssl("req", *self._new(key), "-subj", f"/CN={name}", "-out", str(request))
        signed_by = ("-CA", str(self.certificate), "-CAkey", str(self._key), "-CAcreateserial")
        made = ("-in", str(request), "-out", str(certificate), "-extfile", str(extensions))
        self._openssl("x509", "-req", *made, *signed_by, "-days", "2")
        return certificate, key

    @staticmethod
    def _new(key: Path) -> tuple[str, ...]:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
        return (*curve, "-nodes", "-keyout", str(key))

    @staticmethod
    def _openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=WITHIN_S)


REFUSED = "(?i)certificate|alert|reset|EOF|closed|pipe"


def ask_over_tls(port: int, context: ssl.SSLContext) -> int:
    """The status of /readyz. Raises OSError where no connection comes about."""
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=WITHIN_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    finally:
        connection.close()


def test_https_with_a_certificate_and_with_clients_that_must_have_one(folder: Path, tmp_path: Path):
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("server")
    own = ("--ssl-certificate", str(certificate), "--ssl-keyfile", str(key))
    trusting = ssl.create_default_context(cafile=str(authority.certificate))
    port = free_port()
    with launched(str(folder), "--port", str(port), *own) as (_, output):
        assert f"https://127.0.0.1:{port}/readyz" in output()
        assert ask_over_tls(port, trusting) == 200
        with pytest.raises(ssl.SSLError):
            ask_over_tls(port, ssl.create_default_context())
    with launched(str(folder), "--port", str(port), *own, "--ssl-ca", str(authority.certificate)):
        with pytest.raises(OSError, match=REFUSED):
            ask_over_tls(port, trusting)
        stranger = Authority(tmp_path, "stranger").issue("unknown")
        knowing = ssl.create_default_context(cafile=str(authority.certificate))
        knowing.load_cert_chain(*stranger)
        with pytest.raises(OSError, match=REFUSED):
            ask_over_tls(port, knowing)
        knowing.load_cert_chain(*authority.issue("client"))
        assert ask_over_tls(port, knowing) == 200


# --- versions


def statuses(server: ServerProcess, model: str = "m") -> dict[int, str]:
    with wire(server) as one:
        body = msgspec.json.decode(one.get(f"/v1/models/{model}").body)
    return {int(line["version"]): line["state"] for line in body["model_version_status"]}


def test_versions_come_break_and_go_under_load_and_no_request_fails(folder: Path):
    with ServerProcess(str(folder), "--poll-seconds", "0.1") as server:
        with Load(server, clients=4) as load:
            for version in (2, 3):
                models.save(times(version), folder / "m" / str(version))
                until(lambda version=version: load.versions == {version})  # type: ignore[misc]
            (folder / "m" / "4").mkdir()
            (folder / "m" / "4" / "model.onnx").write_bytes(b"no model")
            until(lambda: 4 in statuses(server))
            assert load.versions == {3}
            assert health(server, "/readyz")[0] == 200
            (folder / "m" / "3" / "model.onnx").unlink()
            until(lambda: load.versions == {2})
            models.save(times(9), folder / "m" / "2")
            until(lambda: changed(server))
        # From the moment on when version 2 multiplies by 9, the load calls its answers wrong; nothing else may be.
        assert all("200" in why for _, why in load.failed), load.failed[:3]
        until(lambda: [v for v, state in statuses(server).items() if state == "AVAILABLE"] == [2])


def test_without_polling_a_hangup_signal_makes_it_look(folder: Path):
    with ServerProcess(str(folder), "--poll-seconds", "0", "--workers", "2") as server, Load(server, clients=2) as load:
        before = workers_of(server)
        models.save(times(2), folder / "m" / "2")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: load.versions == {2})
        assert workers_of(server) == before
        assert load.failed == []


def changed(server: ServerProcess) -> bool:
    """Whether version 2 is the changed one."""
    with wire(server) as one:
        return one.post("/v1/models/m:predict", b'{"instances": [[1, 1]]}').body == b'{"predictions": [[9,9]]}'


def heavy(version: int) -> Any:
    """32 MB of weights: `x` [N, 2048] -> `y` [N, 4096]."""
    return models.build(
        [models.node("MatMul", "x w", "y")],
        [models.tensor("x", ["N", 2048])],
        [models.tensor("y", ["N", 4096])],
        [models.weight("w", models.random(2048, 4096, seed=version))],
    )


def test_the_memory_of_replaced_versions_comes_back(folder: Path):
    model = folder / "heavy"
    models.save(heavy(1), model / "1")
    with ServerProcess(str(folder), "--poll-seconds", "0.1") as server:
        (worker,) = workers_of(server)
        first = resident_mb(worker)
        for version in range(2, 6):
            models.save(heavy(version), model / str(version))
            until(lambda version=version: statuses(server, "heavy").get(version) == "AVAILABLE")  # type: ignore[misc]
            (model / str(version - 1) / "model.onnx").unlink()
        until(lambda: list(statuses(server, "heavy")) == [5])
        until(lambda: resident_mb(worker) < first + 2 * 32)


def resident_mb(pid: int) -> float:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024
