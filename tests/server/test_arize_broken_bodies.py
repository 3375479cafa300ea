"""Bodies that break off are never stored as whole, in HTTP/1 and HTTP/2, with a declared length and without."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, StreamEnded, StreamReset

from tests.support.kept_log import KeptLog
from tests.support.served import wire
from tests.support.server import ServerProcess
from tests.support.waiting import WITHIN_S, until

RECORD = json.dumps({"model_id": "m", "prediction_id": "p", "prediction": {}}).encode()
LINE = b'{"trainingRecord":{"record":%b}}\n' % RECORD
CANCEL = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("broken")
    (folder / "fastserve.toml").write_text('[log]\ndirectory = "log"\nmax_segment_seconds = 3600\n')
    return folder


@pytest.fixture(scope="module", params=["rsgi", "asgi"])
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess(str(folder / "fastserve.toml"), "--interface", request.param) as server:
        yield server


@pytest.fixture
def kept(folder: Path, server: ServerProcess) -> KeptLog:
    log = KeptLog(folder / "log")
    log.rows()
    return log


def h1_with_length(server: ServerProcess, path: str, whole: bytes, part: bytes) -> None:
    with wire(server) as one:
        one.head("POST", path, f"Content-Length: {len(whole)}")
        one.write(part)


def h1_in_chunks(server: ServerProcess, path: str, whole: bytes, part: bytes) -> None:
    with wire(server) as one:
        one.head("POST", path, "Transfer-Encoding: chunked")
        one.write(b"%x\r\n%b\r\n" % (len(part), part))


def h1_in_chunks_with_trailers(server: ServerProcess, path: str, whole: bytes, part: bytes) -> None:
    with wire(server) as one:
        one.head("POST", path, "Transfer-Encoding: chunked", "Trailer: x")
        one.write(b"%x\r\n%b\r\n" % (len(part), part))


class Http2:
    """One connection with one stream."""

    def __init__(self, server: ServerProcess, path: str, *headers: tuple[str, str]) -> None:
        self._socket = socket.create_connection((server.host, server.port), WITHIN_S)
        self._h2 = H2Connection(H2Configuration(client_side=True))
        self._h2.initiate_connection()
        first = [(":method", "POST"), (":path", path), (":scheme", "http"), (":authority", "test")]
        self._h2.send_headers(1, [*first, *headers])
        self._flush()

    def data(self, part: bytes, *, end: bool = False) -> None:
        self._h2.send_data(1, part, end_stream=end)
        self._flush()

    def trailers(self, *headers: tuple[str, str]) -> None:
        self._h2.send_headers(1, headers, end_stream=True)
        self._flush()

    def cancel(self) -> None:
        self._h2.reset_stream(1, error_code=CANCEL)
        self._flush()

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        self.cancel()
        self.close()

    def status(self) -> int:
        found = 0
        while True:
            for event in self._h2.receive_data(self._socket.recv(65536)):
                if isinstance(event, ResponseReceived):
                    found = int(dict(event.headers)[b":status"])
                if isinstance(event, StreamEnded | StreamReset):
                    self._socket.close()
                    return found

    def _flush(self) -> None:
        self._socket.sendall(self._h2.data_to_send())


def h2_with_length(server: ServerProcess, path: str, whole: bytes, part: bytes) -> None:
    stream = Http2(server, path, ("content-length", str(len(whole))))
    stream.data(part)
    stream.reset()


def h2_without_length(server: ServerProcess, path: str, whole: bytes, part: bytes) -> None:
    stream = Http2(server, path)
    stream.data(part)
    stream.reset()


Break = Callable[[ServerProcess, str, bytes, bytes], None]
BREAKS: list[Break] = [h1_with_length, h1_in_chunks, h1_in_chunks_with_trailers, h2_with_length, h2_without_length]
BODIES = {
    "/v1/log": (RECORD, RECORD[:-1]),
    "/v1/bulk": (b'{"records":[%b]}' % RECORD, b'{"records":[%b' % RECORD),
    "/v1/preprod": (LINE * 2, LINE),
}


def stored_after(server: ServerProcess, kept: KeptLog) -> int:
    """How many rows came, this one's own excepted: it comes after what is in flight, through the same door and log."""
    with wire(server) as one:
        assert one.post("/v1/preprod", LINE).status == 200
        assert one.post("/v1/log", RECORD).status == 200
    return len(kept.rows()) - 2


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("breaks", BREAKS)
def test_a_body_that_breaks_off_leaves_nothing(server: ServerProcess, kept: KeptLog, breaks: Break, path: str) -> None:
    whole, part = BODIES[path]
    for _ in range(3):
        breaks(server, path, whole, part)
    assert stored_after(server, kept) == 0
    assert stored_after(server, kept) == 0  # nor a moment later


def test_whole_ones_are_stored(server: ServerProcess, kept: KeptLog) -> None:
    stream = Http2(server, "/v1/preprod", ("content-length", str(len(LINE))))
    stream.data(LINE, end=True)
    assert stream.status() == 200
    with wire(server) as one:
        one.head("POST", "/v1/preprod", "Transfer-Encoding: chunked")
        one.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(LINE), LINE))
        assert one.answer().status == 200
    stream = Http2(server, "/v1/log")
    stream.data(RECORD, end=True)
    assert stream.status() == 200
    assert len(kept.rows()) == 3


def whole_with_an_end(stream: Http2) -> None:
    stream.data(LINE, end=True)


def whole_with_an_empty_end(stream: Http2) -> None:
    stream.data(LINE)
    stream.data(b"", end=True)


def whole_with_trailers(stream: Http2) -> None:
    stream.data(LINE)
    stream.trailers(("x", "y"))


@pytest.mark.parametrize("send", [whole_with_an_end, whole_with_an_empty_end, whole_with_trailers])
def test_lines_over_http_2_need_no_length(server: ServerProcess, kept: KeptLog, send: Callable[[Http2], None]) -> None:
    stream = Http2(server, "/v1/preprod")
    send(stream)
    assert stream.status() == 200
    assert len(kept.rows()) == 1


def test_lines_before_trailers_are_refused_where_nobody_can_tell_whether_all_have_come(
    server: ServerProcess, kept: KeptLog
) -> None:
    with wire(server) as one:
        one.head("POST", "/v1/preprod", "Transfer-Encoding: chunked", "Trailer: x")
        one.write(b"%x\r\n%b\r\n0\r\nx: y\r\n\r\n" % (len(LINE), LINE))
        answer = one.answer()
    assert (answer.status, b"without trailers" in answer.body) == (400, True)
    assert kept.rows() == []


def refused(server: ServerProcess) -> int:
    with wire(server) as one:
        lines = one.get("/metrics").body.decode().splitlines()
    own = [line for line in lines if line.startswith("fastserve_requests_total{") and 'protocol="arize"' in line]
    return sum(int(float(line.split()[-1])) for line in own if 'status="400"' in line)


def test_a_stream_that_is_reset_is_done_with_at_once(server: ServerProcess) -> None:
    """What reads its body must not go round until its time is over."""
    before = refused(server)
    stream = Http2(server, "/v1/bulk")
    stream.data(LINE)
    stream.cancel()
    until(lambda: refused(server) > before)
    stream.close()
