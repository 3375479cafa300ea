"""Where a served process listens: ports, Unix sockets, certificates."""

import http.client
import json
import re
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.support import models
from tests.support.served import FASTSERVE, health, launched
from tests.support.server import ServerProcess, free_port
from tests.support.shelf import times
from tests.support.waiting import WITHIN_S
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
