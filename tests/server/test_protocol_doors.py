"""What goes over the wire around a request: connections kept, bodies in pieces, limits, clients that leave.

Every test runs on real sockets, through each interface that `fastserve serve` has.
"""

import gzip
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import pytest

from tests.protocols.case_models import write_repository
from tests.support.server import ServerProcess

MAX_BODY_BYTES = 1_000_000
PREDICT = "/v1/models/half_plus:predict"
GOOD = b'{"instances": [1.0, 2.0]}'
ANSWER = {"predictions": [3.5, 4.0]}


class Wire:
    """One connection: bytes out, answers in."""

    def __init__(self, server: ServerProcess) -> None:
        self.socket = socket.create_connection((server.host, server.port), timeout=20)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        self.socket.close()

    def send(self, *pieces: bytes) -> None:
        """Each piece in a packet of its own, as far as that is ours to say."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            self.socket.sendall(piece)

    def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next answer."""
        status = int(self._file.readline().split()[1])
        headers: dict[str, str] = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return status, headers

    def answer(self) -> tuple[int, Any]:
        """Status and JSON of the next answer."""
        status, headers = self.head()
        return status, json.loads(self._file.read(int(headers["content-length"])))

    def is_closed(self) -> bool:
        """Whether the server has hung up; waits for it."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True


def head(method: str, path: str, *headers: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: test", *headers, "", ""]).encode()


def post(body: bytes, *headers: str, path: str = PREDICT, version: str = "1.1") -> bytes:
    return head("POST", path, f"Content-Length: {len(body)}", *headers, version=version) + body


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


@pytest.fixture(scope="module", params=["rsgi", "asgi"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    config = write_repository(tmp_path_factory.mktemp("doors"))
    options = ("--interface", request.param, "--max-body-bytes", str(MAX_BODY_BYTES))
    with ServerProcess(str(config), *options) as process:
        yield process


@pytest.fixture
def wire(server: ServerProcess) -> Iterator[Wire]:
    with Wire(server) as wire:
        yield wire


def test_a_connection_outlives_errors(wire: Wire):
    rounds = [
        (post(GOOD), 200),
        (post(b"{"), 400),
        (post(GOOD, path="/v1/models/nope:predict"), 404),
        (post(GOOD, path="/v1/models/half_plus:PREDICT"), 400),
        (post(GOOD, path="/nowhere"), 404),
        (head("GET", "/v1/models/half_plus/metadata"), 200),
        (head("DELETE", "/v1/models/half_plus"), 400),
        (post(b"{", "Content-Encoding: gzip"), 400),
    ]
    for sent, status in rounds * 3:
        wire.send(sent)
        assert wire.answer()[0] == status


def test_http_1_0_is_answered_and_hung_up_on(wire: Wire):
    wire.send(post(GOOD, version="1.0"))
    assert wire.answer() == (200, ANSWER)
    assert wire.is_closed()


def test_close_is_honoured(wire: Wire):
    wire.send(post(GOOD, "Connection: close"))
    assert wire.answer() == (200, ANSWER)
    assert wire.is_closed()


def test_a_client_that_waits_for_leave_to_send_gets_it(wire: Wire):
    wire.send(head("POST", PREDICT, f"Content-Length: {len(GOOD)}", "Expect: 100-continue"))
    assert wire.head()[0] == 100
    wire.send(GOOD)
    assert wire.answer() == (200, ANSWER)


def test_a_body_in_single_bytes(wire: Wire):
    wire.send(head("POST", PREDICT, f"Content-Length: {len(GOOD)}"), *[GOOD[i : i + 1] for i in range(len(GOOD))])
    assert wire.answer() == (200, ANSWER)


def test_a_chunked_body_in_single_bytes(wire: Wire):
    chunks = [chunk(GOOD[i : i + 1]) for i in range(len(GOOD))]
    wire.send(head("POST", PREDICT, "Transfer-Encoding: chunked"), *chunks, b"0\r\n\r\n")
    assert wire.answer() == (200, ANSWER)


def test_chunks_with_extensions_and_trailers(wire: Wire):
    body = f"{len(GOOD):X};name=value\r\n".encode() + GOOD + b"\r\n0\r\nX-Sum: 1\r\n\r\n"
    wire.send(head("POST", PREDICT, "Transfer-Encoding: chunked", "Trailer: X-Sum") + body)
    assert wire.answer() == (200, ANSWER)
    wire.send(post(GOOD))
    assert wire.answer() == (200, ANSWER)


def test_requests_sent_before_the_answers_came_are_answered_in_order(wire: Wire):
    bodies = [json.dumps({"instances": [float(i)]}).encode() for i in range(10)]
    wire.send(b"".join(post(body) for body in bodies))
    assert [wire.answer() for _ in bodies] == [(200, {"predictions": [i / 2 + 3]}) for i in range(10)]


def test_head_has_no_body(wire: Wire):
    wire.send(head("HEAD", "/v1/models/half_plus"))
    assert wire.head()[0] == 400
    wire.send(post(GOOD))
    assert wire.answer() == (200, ANSWER)


@pytest.mark.parametrize(
    "path", ["/v1/models/%FF%FE:predict", "/v1/models/%00:predict", "/v1/models/%ED%A0%80:predict"]
)
def test_a_name_that_is_no_text_is_not_found(wire: Wire, path: str):
    wire.send(post(GOOD, path=path))
    status, body = wire.answer()
    assert status in (400, 404)
    assert "error" in body


def test_a_long_path_is_not_echoed(wire: Wire):
    wire.send(post(GOOD, path=f"/v1/models/{'n' * 5000}:predict"))
    status, body = wire.answer()
    assert status == 404
    assert len(body["error"]) < 400


def test_a_body_over_the_limit_is_refused_before_it_is_sent(wire: Wire):
    wire.send(head("POST", PREDICT, f"Content-Length: {MAX_BODY_BYTES + 1}"))
    status, body = wire.answer()
    assert status == 413
    assert str(MAX_BODY_BYTES) in body["error"]


def test_a_chunked_body_over_the_limit_is_refused(wire: Wire):
    # One byte too many and not one more: what a server leaves unread may cost the client its answer (a TCP reset).
    wire.send(head("POST", PREDICT, "Transfer-Encoding: chunked"), chunk(b" " * MAX_BODY_BYTES), chunk(b" "))
    assert wire.answer()[0] == 413


def test_a_body_at_the_limit_is_read(wire: Wire):
    wire.send(post(GOOD + b" " * (MAX_BODY_BYTES - len(GOOD))))
    assert wire.answer() == (200, ANSWER)


def test_a_small_body_that_unfolds_past_the_limit_is_refused(wire: Wire):
    wire.send(post(gzip.compress(GOOD + b" " * (20 * MAX_BODY_BYTES)), "Content-Encoding: gzip"))
    assert wire.answer()[0] == 413
    wire.send(post(gzip.compress(GOOD), "Content-Encoding: gzip"))
    assert wire.answer() == (200, ANSWER)


@pytest.mark.parametrize("value", ["0", "-1", "soon", "1.5", "9" * 40])
def test_a_time_limit_that_is_none_is_told(wire: Wire, value: str):
    wire.send(post(GOOD, f"X-Request-Timeout-Ms: {value}"))
    status, body = wire.answer()
    assert status == 400
    assert "x-request-timeout-ms" in body["error"].lower()


def test_a_time_limit_that_suffices(wire: Wire):
    wire.send(post(GOOD, "X-Request-Timeout-Ms: 20000"))
    assert wire.answer() == (200, ANSWER)


def test_clients_that_leave_harm_nobody(server: ServerProcess):
    for _ in range(20):
        for part in (head("POST", PREDICT, "Content-Length: 1000") + b'{"ins', post(GOOD), b"POST /v1/mo"):
            with Wire(server) as leaving:
                leaving.send(part)
    with Wire(server) as wire:
        wire.send(post(GOOD))
        assert wire.answer() == (200, ANSWER)


def test_everyone_gets_their_own_rows(server: ServerProcess):
    def ask(first: int) -> list[tuple[int, Any]]:
        answers = []
        with Wire(server) as wire:
            for offset in range(30):
                row = first * 1000.0 + offset
                wire.send(post(json.dumps({"instances": [row] * (1 + offset % 5)}).encode()))
                answers.append(wire.answer())
        return answers

    with ThreadPoolExecutor(8) as pool:
        for first, answers in zip(range(8), pool.map(ask, range(8)), strict=True):
            for offset, (status, body) in enumerate(answers):
                assert status == 200
                assert body == {"predictions": [(first * 1000.0 + offset) / 2 + 3] * (1 + offset % 5)}


def test_requests_are_counted_by_model_version_and_status(server: ServerProcess):
    with Wire(server) as wire:
        wire.send(post(GOOD, path="/v1/models/four:predict"))
        assert wire.answer()[0] == 400
    labels = {'protocol="tfserving"', 'model="four"', 'version="1"', 'status="400"'}
    # An answer is counted right behind its last byte, so the first look may come too early.
    assert any(counted(server, labels) == 1 for _ in range(100))


def counted(server: ServerProcess, labels: set[str]) -> float:
    """The requests with those labels, as /metrics tells them."""
    connection = server.connection()
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    series = re.findall(r"^fastserve_requests_total\{(.*)\} (.*)$", text, re.MULTILINE)
    return sum(float(value) for found, value in series if set(found.split(",")) == labels)
