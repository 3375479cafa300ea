"""Clients that say nothing, or stop in the middle: who is hung up on, and who stays."""

import contextlib
import os
import resource
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded
from onnx import TensorProto as T

from fastserve.server.silence import HANDSHAKE_MS, SLACK_MS
from tests.support import models
from tests.support.authority import Authority
from tests.support.served import workers_of
from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.support.wire import Wire

LIMIT_S = 1.0
FEW = 30
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
HEADERS_THAT_GO_ON = b"\0\0\1\1\0\0\0\0\1\x82"
HEAD = b"GET /livez HTTP/1.1\r\nHost: t\r\n"

SILENT = {
    "nothing": b"",
    "a first letter": b"P",
    "half of HTTP/2's first line": PREFACE[:18],
    "HTTP/2's first line": PREFACE,
    "HTTP/2, and no request": PREFACE + SETTINGS,
    "half of HTTP/2's headers": PREFACE + SETTINGS + HEADERS_THAT_GO_ON,
    "empty lines": b"\r\n",
    "half a first line": b"GET /li",
    "half of the headers": HEAD + b"X: ",
    "a request, and no other": HEAD + b"\r\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    models.save(models.identity(T.INT64), folder / "same" / "1")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess(str(folder), "--header-timeout-ms", str(int(LIMIT_S * 1000))) as server:
        yield server
        assert "Traceback" not in server.output


def ended(clients: dict[str, socket.socket], within_s: float, meanwhile: Callable[[], None]) -> dict[str, float]:
    """When each was hung up on, in seconds from now; those that were not within that time are left out."""
    began, when, left = time.monotonic(), {}, dict(clients)
    for one in left.values():
        one.setblocking(False)
    while left and (now := time.monotonic() - began) < within_s:
        meanwhile()
        readable, _, _ = select.select(list(left.values()), [], [], 0.1)
        for name in [name for name, one in left.items() if one in readable]:
            try:
                goes_on = left[name].recv(65536) != b""
            except ssl.SSLWantReadError:  # what came was TLS's own
                goes_on = True
            except ConnectionResetError:
                goes_on = False
            if not goes_on:
                del left[name]
                when[name] = now
    return when


class Pinged:
    """A client of HTTP/2 that has nothing to ask and says that it is there."""

    def __init__(self, one: socket.socket) -> None:
        self._socket = one
        self._connection = H2Connection(H2Configuration(client_side=True))
        self._connection.initiate_connection()
        self._asked = 0
        self.answers = 0
        self._say()

    def ask(self) -> None:
        """For /livez."""
        stream = self._connection.get_next_available_stream_id()
        fields = [(":method", "GET"), (":path", "/livez"), (":scheme", "http"), (":authority", "test")]
        self._connection.send_headers(stream, fields, end_stream=True)
        self._asked += 1
        self._say()
        self._socket.settimeout(30)
        while self.answers < self._asked:
            self._hear()

    def pong(self) -> None:
        """If it was asked."""
        self._socket.settimeout(0)
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
            self._hear()

    def _hear(self) -> None:
        data = self._socket.recv(65536)
        assert data, "the server hung up"
        self.answers += sum(isinstance(event, StreamEnded) for event in self._connection.receive_data(data))
        self._say()

    def _say(self) -> None:
        self._socket.settimeout(30)
        self._socket.sendall(self._connection.data_to_send())


def test_who_is_silent_is_hung_up_on_and_nobody_else(server: ServerProcess):
    with contextlib.ExitStack() as stack:

        def connected() -> socket.socket:
            return stack.enter_context(socket.create_connection((server.host, server.port), 30))

        pinged = Pinged(connected())
        talks = stack.enter_context(Wire((server.host, server.port)))
        drips, dripping = connected(), True
        clients = {name: connected() for name in SILENT}
        for name, data in SILENT.items():
            clients[name].sendall(data)
        drips.sendall(HEAD)

        def meanwhile() -> None:
            nonlocal dripping
            pinged.pong()
            assert talks.get("/livez").status == 200
            with contextlib.suppress(ConnectionError):
                drips.sendall(b"X")

        when = ended({**clients, "headers that drip": drips}, 60.0, meanwhile)
        assert set(when) == {*SILENT, "headers that drip"}
        pinged.ask()


def test_where_the_silent_have_taken_every_descriptor_others_are_served_after_a_while(server: ServerProcess):
    (worker,) = workers_of(server)
    taken = max(int(one.name) for one in Path(f"/proc/{worker}/fd").iterdir())
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (taken + FEW, taken + FEW))
    with contextlib.ExitStack() as stack:
        for _ in range(2 * FEW):
            stack.enter_context(socket.create_connection((server.host, server.port), 30))
        until(lambda: server.says_yes("/livez"))


OVER_TLS = pytest.mark.skipif(not os.environ.get("FASTSERVE_TEST_SILENCE"), reason="20 s: FASTSERVE_TEST_SILENCE=1")


@OVER_TLS
@pytest.mark.timeout(120)
@pytest.mark.parametrize("interface", ["rsgi", "asgi"])
def test_over_tls_too(folder: Path, tmp_path: Path, interface: str):
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("server")
    limit_s = LIMIT_S + (HANDSHAKE_MS + SLACK_MS) / 1000
    options = ("--interface", interface, "--header-timeout-ms", str(int(LIMIT_S * 1000)))
    options += ("--ssl-certificate", str(certificate), "--ssl-keyfile", str(key))
    with ServerProcess(str(folder), *options, tls=authority.trusting()) as server, contextlib.ExitStack() as stack:

        def connected(*protocols: str) -> socket.socket:
            context = authority.trusting()
            context.set_alpn_protocols(list(protocols))
            one = stack.enter_context(socket.create_connection((server.host, server.port), 30))
            return stack.enter_context(context.wrap_socket(one, server_hostname=server.host))

        stays = Pinged(connected("h2"))
        stays.ask()
        plain = stack.enter_context(socket.create_connection((server.host, server.port), 30))
        clients = {f"{name}, {protocol}": connected(protocol) for name in SILENT for protocol in ("h2", "http/1.1")}
        for name, one in clients.items():
            one.sendall(SILENT[name.rpartition(",")[0]])
        when = ended({**clients, "no handshake": plain}, 60.0, stays.pong)
        assert set(when) == {*clients, "no handshake"}
        assert when["nothing, h2"] > limit_s - 1
        stays.ask()
