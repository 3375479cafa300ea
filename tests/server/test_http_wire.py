"""HTTP as bytes on sockets, through each door: methods, connections, bodies that nobody wants, requests hidden in others."""

import gzip
import zlib
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import pytest
from onnx import TensorProto as T

from fastserve.http.body import MAX_DISCARDED_BYTES
from tests.support import models
from tests.support.coroutine_serve import COROUTINES_ONLY
from tests.support.served import counted
from tests.support.server import ServerProcess
from tests.support.waiting import until
from tests.support.wire import Answer, Wire, chunk

PAGE = "https://page.example"
MODEL = "/v1/models/same"
PREDICT = MODEL + ":predict"
GOOD = b'{"instances": [[1, 2]]}'
DOORS = {
    "direct": (("fastserve", "serve"), ("--interface", "rsgi")),
    "coroutines": (COROUTINES_ONLY, ()),
    "asgi": (("fastserve", "serve"), ("--interface", "asgi")),
}


@pytest.fixture(scope="module", params=list(DOORS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("wire")
    models.save(models.identity(T.INT64), folder / "same" / "1")
    program, options = DOORS[request.param]
    with ServerProcess(str(folder), *options, "--cors-origin", PAGE, program=program) as server:
        yield server
        assert "Traceback" not in server.output


@pytest.fixture
def connect(server: ServerProcess) -> Iterator[Callable[[], Wire]]:
    made: list[Wire] = []

    def connect() -> Wire:
        made.append(Wire((server.host, server.port)))
        return made[-1]

    yield connect
    for one in made:
        one.close()


@pytest.fixture
def wire(connect: Callable[[], Wire]) -> Wire:
    return connect()


def is_good(answer: Answer) -> bool:
    return answer.status == 200 and msgspec.json.decode(answer.body) == {"predictions": [[1, 2]]}


def chunked(body: bytes) -> bytes:
    return chunk(body) + chunk(b"")


# --- methods


@pytest.mark.parametrize(
    ("path", "status"), [(MODEL, 400), (PREDICT, 400), ("/nowhere", 404), ("/readyz", 200), ("/metrics", 200)]
)
def test_head_has_the_headers_and_no_body(wire: Wire, path: str, status: int):
    for _ in range(2):
        wire.head("HEAD", path)
        assert wire.head_answer().status == status
        assert is_good(wire.post(PREDICT, GOOD)), "the next answer begins right behind the headers"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "BREW"])
@pytest.mark.parametrize("path", [MODEL, PREDICT])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_wrong_methods_are_told_so_and_the_connection_lives(wire: Wire, method: str, path: str, version: str):
    for body in (b"", GOOD):
        wire.head(method, path, f"Content-Length: {len(body)}", "Connection: keep-alive", version=version)
        wire.write(body)
        answer = wire.answer()
        assert answer.status == 400
        assert f"Malformed request: {method} {path}" in msgspec.json.decode(answer.body)["error"]
    assert is_good(wire.post(PREDICT, GOOD))


@pytest.mark.parametrize(("method", "target"), [("TRACE", PREDICT), ("CONNECT", "test:80")])
def test_trace_echoes_nothing_and_connect_goes_nowhere(wire: Wire, method: str, target: str):
    wire.head(method, target, "Cookie: secret")
    try:
        answer = wire.answer()
    except ConnectionError:
        return
    assert 400 <= answer.status < 500
    assert b"secret" not in answer.body


def test_a_path_may_come_with_its_host_before_it(wire: Wire):
    wire.head("POST", f"http://test{PREDICT}", f"Content-Length: {len(GOOD)}")
    wire.write(GOOD)
    assert is_good(wire.answer())


def test_a_query_and_a_content_type_are_not_looked_at(wire: Wire):
    for kind in ("application/x-www-form-urlencoded", "text/plain; charset=latin-1", "nonsense"):
        assert is_good(wire.post(f"{PREDICT}?version=7&x=%00", GOOD, f"Content-Type: {kind}", "Accept: text/html"))


# --- pages of other origins


def test_a_page_asks_first_and_then_posts(wire: Wire):
    asks = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type")
    for path in (PREDICT, "/v2/models/same/infer", "/readyz", "/nowhere"):
        wire.head("OPTIONS", path, f"Origin: {PAGE}", *asks)
        asked = wire.answer()
        assert (asked.status, asked.body) == (200, b"")
        assert asked.headers["access-control-allow-origin"] == PAGE
        assert "Authorization" in asked.headers["access-control-allow-headers"]
    for body, status in ((GOOD, 200), (b"{", 400)):
        answer = wire.post(PREDICT, body, f"Origin: {PAGE}")
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in wire.post(PREDICT, GOOD, "Origin: https://evil.example").headers
    wire.head("GET", "/nowhere", f"Origin: {PAGE}")
    assert wire.answer().headers["access-control-allow-origin"] == PAGE


# --- answers compressed for clients that ask


@pytest.mark.parametrize(("asked", "unpack"), [("gzip, deflate", gzip.decompress), ("deflate", zlib.decompress)])
def test_a_long_answer_is_compressed_for_who_asks(wire: Wire, asked: str, unpack: Callable[[bytes], bytes]):
    rows = [[i, -i] for i in range(3000)]
    body = msgspec.json.encode({"instances": rows})
    for sent in (body, body + b" " * (70_000 - len(body))):  # each way through the server
        plain = wire.post(PREDICT, sent, f"Origin: {PAGE}")
        answer = wire.post(PREDICT, sent, f"Accept-Encoding: {asked}", f"Origin: {PAGE}")
        assert answer.headers["content-encoding"] == asked.partition(",")[0]
        assert len(answer.body) < len(plain.body) / 2
        assert unpack(answer.body) == plain.body
        assert msgspec.json.decode(plain.body) == {"predictions": rows}
        assert [one.all("vary") for one in (plain, answer)] == [["Accept-Encoding", "Origin"]] * 2
    short = wire.post(PREDICT, GOOD, f"Accept-Encoding: {asked}")
    assert is_good(short)
    assert "content-encoding" not in short.headers


@pytest.mark.parametrize(("asked", "unpack"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_the_inference_header_counts_bytes_before_they_are_compressed(
    wire: Wire, asked: str, unpack: Callable[[bytes], bytes]
):
    rows = np.arange(20_000, dtype=np.int64).reshape(-1, 2)
    tensor = {
        "name": "x",
        "datatype": "INT64",
        "shape": list(rows.shape),
        "parameters": {"binary_data_size": rows.nbytes},
    }
    head = msgspec.json.encode({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    length = f"Inference-Header-Content-Length: {len(head)}"
    packed = gzip.compress(head + rows.tobytes())
    answer = wire.post("/v2/models/same/infer", packed, length, "Content-Encoding: gzip", f"Accept-Encoding: {asked}")
    assert answer.headers["content-encoding"] == asked
    body = unpack(answer.body)
    at = int(answer.headers["inference-header-content-length"])
    assert msgspec.json.decode(body[:at])["outputs"][0]["shape"] == [10_000, 2]
    assert body[at:] == rows.tobytes()


# --- HTTP/1.0, and clients that ask before they send


def test_http_1_0_without_a_host(connect: Callable[[], Wire]):
    wire = connect()
    wire.write(f"POST {PREDICT} HTTP/1.0\r\nContent-Length: {len(GOOD)}\r\n\r\n".encode() + GOOD)
    assert is_good(wire.answer())
    assert wire.ends()
    wire = connect()
    wire.write(f"GET {MODEL} HTTP/1.0\r\n\r\n".encode())
    assert wire.answer().status == 200
    assert wire.ends()


@pytest.mark.parametrize("how", ["Content-Length: {}", "Transfer-Encoding: chunked"])
def test_who_asks_before_sending_is_told_to_go_on(wire: Wire, how: str):
    for _ in range(2):
        wire.head("POST", PREDICT, how.format(len(GOOD)), "Expect: 100-continue")
        assert wire.answer().status == 100
        wire.write(chunked(GOOD) if "chunked" in how else GOOD)
        assert is_good(wire.answer())


def test_who_does_not_wait_for_leave_is_served_too(wire: Wire):
    wire.head("POST", PREDICT, f"Content-Length: {len(GOOD)}", "Expect: 100-continue")
    wire.write(GOOD)
    answer = wire.answer()
    assert is_good(wire.answer() if answer.status == 100 else answer)
    assert is_good(wire.post(PREDICT, GOOD))


@pytest.mark.parametrize("how", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_who_asks_before_sending_to_a_wrong_path_sends_nothing(wire: Wire, how: str):
    wire.head("POST", "/nowhere", how, "Expect: 100-continue")
    assert wire.answer().status == 404
    assert wire.ends(), "what comes next might be the body, or a request"


# --- bodies that nobody wants


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/nowhere", 404), ("PUT", PREDICT, 400)])
@pytest.mark.parametrize("size", [1, 10_000, MAX_DISCARDED_BYTES])
def test_a_body_on_a_wrong_path_does_not_cost_the_connection(
    wire: Wire, method: str, path: str, status: int, size: int
):
    for how, body in ((f"Content-Length: {size}", bytes(size)), ("Transfer-Encoding: chunked", chunked(bytes(size)))):
        wire.head(method, path, how)
        wire.write(body)
        assert wire.answer().status == status
        assert is_good(wire.post(PREDICT, GOOD))


def test_chunks_without_end_on_a_wrong_path_are_not_collected(wire: Wire):
    wire.head("POST", "/nowhere", "Transfer-Encoding: chunked")
    wire.write(chunk(bytes(MAX_DISCARDED_BYTES)) + chunk(b"!"))
    assert wire.answer().status == 404, "answered although the body goes on"
    assert wire.ends()


def test_a_long_body_on_a_wrong_path_is_refused_unread(wire: Wire):
    wire.head("POST", "/nowhere", f"Content-Length: {MAX_DISCARDED_BYTES + 1}")
    assert wire.answer().status == 404
    assert wire.ends()


# --- requests hidden in others: what one server takes for a body must be nobody's request

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: test\r\n\r\n"
TWO_LENGTHS = {
    "length and chunks": ["Content-Length: 4", "Transfer-Encoding: chunked"],
    "chunks and length": ["Transfer-Encoding: chunked", "Content-Length: 4"],
    "two lengths": ["Content-Length: 3", "Content-Length: 4"],
    "two lengths in one": ["Content-Length: 3, 4"],
    "a length with a sign": ["Content-Length: +4"],
    "a length in hexadecimal": ["Content-Length: 0x4"],
    "chunks that are not last": ["Transfer-Encoding: chunked, identity"],
    "chunks spelt oddly": ["Transfer-Encoding: xchunked"],
    "chunks behind a tab": ["Transfer-Encoding:\tchunked"],
    "chunks on a folded line": ["Transfer-Encoding:\r\n chunked"],
    "a space before the colon": ["Transfer-Encoding : chunked"],
    "a line end alone": ["X: y\nTransfer-Encoding: chunked"],
    "chunks twice": ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
}


LAST = b"GET /after HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("headers", list(TWO_LENGTHS.values()), ids=list(TWO_LENGTHS))
def test_a_request_whose_end_is_in_doubt_hides_no_other(wire: Wire, headers: list[str]):
    wire.head("POST", PREDICT, *headers)
    # As chunks it is one body, with a request in it; with a length of 3 or 4 it would be a body, and then that request.
    wire.write(f"{len(HIDDEN):x}\r\n".encode() + HIDDEN + b"\r\n0\r\n\r\n" + LAST)
    answers = wire.rest()
    assert answers.startswith(b"HTTP/1.1 400 ")
    assert b"/hidden" not in answers
    assert answers.count(b"HTTP/1.1 ") == (2 if b"/after" in answers else 1)


@pytest.mark.parametrize("size_line", ["1;" + "x" * 20_000, "1" * 17, "-1", "1_0", " 1", "0x1", "zz", ""])
def test_a_chunk_whose_size_is_none_is_no_end_of_the_body(wire: Wire, size_line: str):
    wire.head("POST", PREDICT, "Transfer-Encoding: chunked")
    wire.write(chunk(GOOD) + size_line.encode() + b"\r\n \r\n0\r\n\r\n" + LAST)
    answers = wire.rest()
    assert answers.startswith(b"HTTP/1.1 400 ")
    assert b"could not be read to its end" in answers
    assert answers.count(b"HTTP/1.1 ") == 1


def test_chunks_with_extensions_and_trailers_are_whole(wire: Wire):
    for headers, tail in (([], chunk(b"")), (["Trailer: X-Sum"], b"0\r\nX-Sum: 1\r\n\r\n")):
        wire.head("POST", PREDICT, "Transfer-Encoding: chunked", *headers)
        wire.write(f"{len(GOOD):X};name=value\r\n".encode() + GOOD + b"\r\n" + tail)
        assert is_good(wire.answer())


def test_a_client_that_leaves_between_two_chunks_sent_no_whole_request(connect: Callable[[], Wire]):
    leaving, watch = connect(), connect()
    refusals = ("fastserve_requests_total{", 'protocol="tfserving"', 'status="400"', 'model=""')
    runs = ("fastserve_stage_seconds_count{", 'model="same"', 'stage="run"')
    assert is_good(watch.post(PREDICT, GOOD))
    refused, ran = counted(watch, *refusals), counted(watch, *runs)
    leaving.head("POST", PREDICT, "Transfer-Encoding: chunked")
    leaving.write(chunk(GOOD))
    leaving.close()
    until(lambda: counted(watch, *refusals) == refused + 1)
    assert counted(watch, *runs) == ran


@pytest.mark.parametrize(("count", "size"), [(1000, 1000), (200, 1)])
def test_too_many_or_too_long_headers_are_refused(wire: Wire, count: int, size: int):
    wire.head("POST", PREDICT, *[f"X-{i}: {'v' * size}" for i in range(count)])
    assert wire.answer().status == 431
    assert wire.ends()
