"""First lines and headers as no honest client sends them: too long, too many, too slow, or meant to be read in two ways."""

import contextlib
from collections.abc import Iterator

import msgspec
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, StreamReset
from onnx import TensorProto as T

from fastserve import limits
from tests.support import models
from tests.support.server import ServerProcess
from tests.support.wire import Wire, chunk

PREDICT = "/v1/models/same:predict"
GOOD = b'{"instances": [[1, 2]]}'
OTHER = b'{"instances": [[3, 4]]}'


@pytest.fixture(scope="module", params=["rsgi", "asgi"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("heads")
    models.save(models.identity(T.INT64), folder / "same" / "1")
    with ServerProcess(str(folder), "--interface", request.param) as server:
        yield server
        assert "Traceback" not in server.output
        assert is_well(server)


def connected(server: ServerProcess) -> Wire:
    return Wire((server.host, server.port))


def is_well(server: ServerProcess) -> bool:
    with connected(server) as wire:
        answer = wire.post(PREDICT, GOOD)
    return answer.status == 200 and msgspec.json.decode(answer.body) == {"predictions": [[1, 2]]}


def status(server: ServerProcess, *headers: str, path: str = PREDICT) -> int:
    with connected(server) as wire:
        return wire.post(path, GOOD, *headers).status


def test_headers_are_counted(server: ServerProcess):
    # Host and Content-Length are two of them; the limit is Granian's: so many and no more.
    several = [f"X-{i}: 1" for i in range(limits.MAX_HEADERS - 2)]
    assert status(server, *several) == 200
    assert status(server, *several, "X-More: 1") == 431
    assert status(server, *several * 100) == 431
    assert is_well(server)


def head_of(size: int) -> bytes:
    """A whole head of so many bytes."""
    start = f"POST {PREDICT} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(GOOD)}\r\nX: ".encode()
    return start + b"v" * (size - len(start) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize("pieces", [1, 50])
def test_heads_are_measured(server: ServerProcess, pieces: int):
    for size, expected in ((limits.MAX_HEAD_BYTES - 4096, 200), (limits.MAX_HEAD_BYTES + 4096, 431)):
        head = head_of(size)
        with connected(server) as wire:
            step = len(head) // pieces + 1
            with contextlib.suppress(ConnectionError):
                for at in range(0, len(head), step):
                    wire.write(head[at : at + step])
                wire.write(GOOD)
            assert wire.answer().status == expected


def test_paths_are_measured(server: ServerProcess):
    rest = limits.MAX_PATH_BYTES - len("/v1/models/:predict")
    assert status(server, path=f"/v1/models/{'m' * rest}:predict") == 404
    assert status(server, path=f"/v1/models/{'m' * (rest + 1)}:predict") == 414
    assert status(server, path=f"{PREDICT}?{'q' * (limits.MAX_PATH_BYTES - len(PREDICT) - 1)}") == 200
    assert status(server, path=f"{PREDICT}?{'q' * limits.MAX_PATH_BYTES}") == 414


def over_http_2(server: ServerProcess, value_bytes: int) -> str:
    """What becomes of a request with a header of that size: its status, or "refused"."""
    connection = H2Connection(H2Configuration(client_side=True))
    connection.initiate_connection()
    fields = [(":method", "GET"), (":path", "/livez"), (":scheme", "http"), (":authority", "test")]
    fields += [(f"x-{i}", "v" * min(8000, value_bytes - at)) for i, at in enumerate(range(0, value_bytes, 8000))]
    with connected(server) as wire:
        connection.send_headers(1, fields, end_stream=True)
        with contextlib.suppress(OSError):  # it hangs up
            wire.write(connection.data_to_send())
            while data := wire._socket.recv(65536):
                for event in connection.receive_data(data):
                    if isinstance(event, ResponseReceived):
                        return str(dict(event.headers).get(b":status", b"").decode())
                    if isinstance(event, StreamReset):
                        return "refused"
                wire.write(connection.data_to_send())
    return "refused"


def test_headers_of_http_2_are_measured(server: ServerProcess):
    assert over_http_2(server, limits.MAX_HEADERS_BYTES - 2048) == "200"
    assert over_http_2(server, limits.MAX_HEADERS_BYTES + 2048) in ("431", "refused")
    assert over_http_2(server, 4 * limits.MAX_HEADERS_BYTES) in ("431", "refused")
    assert is_well(server)


# --- smuggling: whoever stands before us may read it another way, so a second request must never come out of a body

HIDDEN = f"POST {PREDICT} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(OTHER)}\r\n\r\n".encode() + OTHER
CHUNKED = chunk(GOOD) + chunk(b"")
AMBIGUOUS: dict[str, bytes] = {
    "both lengths": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "both, the other way round": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + CHUNKED,
    "a chunked body behind its length": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"0\r\n\r\n"
    + HIDDEN,
    "two lengths": b"Content-Length: %d\r\nContent-Length: 0\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "a list of lengths": b"Content-Length: 0, %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "a length with a sign": b"Content-Length: +%d\r\n\r\n" % len(GOOD) + GOOD,
    "a length that is negative": b"Content-Length: -1\r\n\r\n" + GOOD,
    "a length in hexadecimal": b"Content-Length: 0x17\r\n\r\n" + GOOD,
    "a length with a space in it": b"Content-Length: 2 3\r\n\r\n" + GOOD,
    "a length without end": b"Content-Length: %d\r\n\r\n" % 10**30 + GOOD,
    "an encoding that is none": b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKED,
    "chunked is not the last": b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKED,
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + CHUNKED,
    "a space before the colon": b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKED,
    "a tab before the value": b"Transfer-Encoding:\x0bchunked\r\n\r\n" + CHUNKED,
    "a folded header": b"Content-Length:\r\n 23\r\n\r\n" + GOOD,
    "a folded encoding": b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKED,
    "a bare return": b"X: 1\rContent-Length: 5\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "a NUL in a header": b"X: a\0b\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD,
    "a chunk's size with a sign": b"Transfer-Encoding: chunked\r\n\r\n+17\r\n" + GOOD + b"\r\n0\r\n\r\n",
    "a chunk's size in octal": b"Transfer-Encoding: chunked\r\n\r\n0x17\r\n" + GOOD + b"\r\n0\r\n\r\n",
    "a chunk's size that wraps": b"Transfer-Encoding: chunked\r\n\r\n10000000000000017\r\n" + GOOD + b"\r\n0\r\n\r\n",
    "a chunk without its end": b"Transfer-Encoding: chunked\r\n\r\n17\r\n" + GOOD + HIDDEN + b"0\r\n\r\n",
    "a chunk's extension without end": b"Transfer-Encoding: chunked\r\n\r\n17;"
    + b"x" * 70_000
    + b"\r\n"
    + GOOD
    + b"\r\n0\r\n\r\n",
    "trailers that are lengths": b"Transfer-Encoding: chunked\r\n\r\n"
    + chunk(GOOD)
    + b"0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("name", list(AMBIGUOUS))
def test_a_body_never_becomes_a_request(server: ServerProcess, name: str):
    with connected(server) as wire:
        with contextlib.suppress(ConnectionError):
            wire.write(f"POST {PREDICT} HTTP/1.1\r\nHost: test\r\n".encode() + AMBIGUOUS[name])
            # What comes next on this connection is a request of somebody else, as behind a proxy.
            wire.write(b"GET /livez HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        answers = wire.rest()
    assert b"HTTP/1.1 5" not in answers
    assert b"[3" not in answers, "the hidden request was run"
    heads = answers.split(b"HTTP/1.1 ")[1:]
    if name.startswith(("both", "a chunked body behind")):
        # RFC 9112, 6.3: either refused, or read as chunked and the connection ended behind it.
        assert len(heads) <= 1 or not heads[0].startswith(b"200") or b"connection: close" in heads[0].lower()
    assert len(heads) <= 2


def test_a_body_of_tiny_chunks(server: ServerProcess):
    body = GOOD + b" " * (10_000 - len(GOOD))
    with connected(server) as wire:
        wire.head("POST", PREDICT, "Transfer-Encoding: chunked")
        wire.write(b"".join(chunk(body[at : at + 1]) for at in range(len(body))) + chunk(b""))
        assert wire.answer().status == 200
        assert wire.post(PREDICT, GOOD).status == 200, "the connection is used again"


METHODS = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"G\0T / HTTP/1.1\r\nHost: t\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: t\r\n\r\n",
    b"\r\n" * 9,
]
LINES = [*METHODS, b"GET http://evil/livez HTTP/1.1\r\nHost: t\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\nHost: t\r\n\r\n"]
LINES += [
    b"GET  /livez  HTTP/1.1\r\nHost: t\r\n\r\n",
    b"GET /livez\r\n\r\n",
    bytes(range(256)),
    b"\x16\x03\x01\x02\x00\x01\x00",
]


@pytest.mark.parametrize("line", LINES, ids=[repr(line[:24]) for line in LINES])
def test_first_lines_that_are_none(server: ServerProcess, line: bytes):
    with connected(server) as wire:
        with contextlib.suppress(ConnectionError):
            wire.write(line)
            wire.write(b"GET /livez HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        assert b"HTTP/1.1 5" not in wire.rest()
    assert is_well(server)


UPGRADES = [
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    "Connection: Upgrade\r\nUpgrade: websocket",
]


@pytest.mark.parametrize("upgrade", UPGRADES, ids=["h2c", "websocket"])
def test_nothing_is_upgraded(server: ServerProcess, upgrade: str):
    with connected(server) as wire:
        wire.head("GET", "/livez", *upgrade.split("\r\n"))
        assert wire.answer().status in (200, 400, 403, 426)
