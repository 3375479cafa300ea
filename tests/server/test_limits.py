"""What a served process refuses, and that it goes on serving: sizes, times, full queues, clients that stall or leave."""

import contextlib
import gzip
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from onnx import TensorProto as T

from tests.support import models, slow_models
from tests.support.coroutine_serve import COROUTINES_ONLY
from tests.support.server import ServerProcess
from tests.support.waiting import WITHIN_S, until
from tests.support.wire import Answer, Wire, chunk

MAX_BODY_BYTES = 100_000
REQUEST_TIMEOUT_MS = 60_000
"""Nothing here may end because the machine is busy; what is about time says its own."""

LONG_STEPS, SLO_MS = 6000, 60
"""The model "prompt" takes longer than it may: it keeps no objective while anything else is run."""

QUEUE_ROWS = 3
HOLD = b'{"instances": [30000]}'
"""Holds the only slot of the slow model for about a second: longer than it takes to fill the queue behind it."""
QUICK = b'{"instances": [1]}'
PATIENT = "/v1/models/patient:predict"
PROMPT = "/v1/models/prompt:predict"
SAME = "/v1/models/same:predict"
GOOD = b'{"instances": [[1, 2]]}'
DOORS = {
    "direct": (("fastserve", "serve"), ("--interface", "rsgi")),
    "coroutines": (COROUTINES_ONLY, ()),
    "asgi": (("fastserve", "serve"), ("--interface", "asgi")),
}

CONFIG = f"""
[server]
max_body_bytes = {MAX_BODY_BYTES}
request_timeout_ms = {REQUEST_TIMEOUT_MS}

[repository]
path = "models"

[[models]]
name = "patient"
slots = 1
max_batch_rows = 1
max_queue_rows = {QUEUE_ROWS}

[[models]]
name = "prompt"
slots = 1
slo_ms = {SLO_MS}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("limits")
    models.save(slow_models.patient(), folder / "models" / "patient" / "1")
    models.save(slow_models.patient(LONG_STEPS), folder / "models" / "prompt" / "1")
    models.save(models.identity(T.INT64), folder / "models" / "same" / "1")
    file = folder / "fastserve.toml"
    file.write_text(CONFIG)
    return file


@pytest.fixture(scope="module", params=list(DOORS))
def server(request: pytest.FixtureRequest, config: Path) -> Iterator[ServerProcess]:
    program, options = DOORS[request.param]
    with ServerProcess(str(config), *options, program=program) as server:
        yield server


@pytest.fixture
def connect(server: ServerProcess) -> Iterator[Callable[[], Wire]]:
    made: list[Wire] = []

    def connect() -> Wire:
        made.append(Wire((server.host, server.port)))
        return made[-1]

    yield connect
    for one in made:
        one.close()
    # What the test left behind is over before the next one begins; and nothing was our own fault.
    with Wire((server.host, server.port)) as wire:
        until(lambda: wire.post(PATIENT, QUICK).status == 200)
    assert "Traceback" not in server.output
    assert "ERROR" not in server.output


@pytest.fixture
def wire(connect: Callable[[], Wire]) -> Wire:
    return connect()


def padded(size: int) -> bytes:
    """A good request of so many bytes."""
    return GOOD + b" " * (size - len(GOOD))


def error_of(answer: Answer) -> str:
    """The message, in the protocol's shape."""
    assert answer.headers["content-type"] == "application/json"
    body = msgspec.json.decode(answer.body)
    assert list(body) == ["error"]
    return str(body["error"])


def is_good(answer: Answer) -> bool:
    return answer.status == 200 and msgspec.json.decode(answer.body) == {"predictions": [[1, 2]]}


def queue_rows(wire: Wire) -> int:
    rows = series(wire, 'fastserve_queue_rows{model="patient"}')
    assert rows is not None, "no such series"
    return rows


def cancelled(wire: Wire) -> int:
    return series(wire, 'fastserve_refused_total{reason="cancelled"}') or 0


def series(wire: Wire, name: str) -> Any:
    for line in wire.get("/metrics").body.decode().splitlines():
        if line.startswith(name):
            return int(float(line.split(" ")[1]))
    return None


# --- sizes


@pytest.mark.parametrize("size", [65_535, 65_536, MAX_BODY_BYTES])
def test_bodies_up_to_the_limit_are_served(wire: Wire, size: int):
    assert is_good(wire.post(SAME, padded(size)))
    wire.head("POST", SAME, "Transfer-Encoding: chunked")
    body = padded(size)
    for at in range(0, size, 30_000):
        wire.write(chunk(body[at : at + 30_000]))
    wire.write(chunk(b""))
    assert is_good(wire.answer())
    assert is_good(wire.post(SAME, gzip.compress(body), "Content-Encoding: gzip"))


def test_a_longer_body_is_refused_before_it_is_sent(wire: Wire):
    wire.head("POST", SAME, f"Content-Length: {MAX_BODY_BYTES + 1}")
    answer = wire.answer()
    assert answer.status == 413
    assert str(MAX_BODY_BYTES) in error_of(answer)


def test_chunks_beyond_the_limit_are_refused_before_the_last_one(wire: Wire):
    wire.head("POST", SAME, "Transfer-Encoding: chunked")
    for _ in range(2):
        wire.write(chunk(bytes(MAX_BODY_BYTES // 2)))
    wire.write(chunk(b"!"))
    assert wire.answer().status == 413


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 50_000_000])
def test_a_small_body_that_unfolds_beyond_the_limit_is_refused(wire: Wire, size: int):
    folded = gzip.compress(padded(size))
    assert len(folded) < MAX_BODY_BYTES
    assert wire.post(SAME, folded, "Content-Encoding: gzip").status == 413
    assert is_good(wire.post(SAME, GOOD))


# --- time


STALLING_MS = 500
LENGTHS = ("Content-Length: 100", "Content-Length: 70000", "Transfer-Encoding: chunked")


@pytest.mark.parametrize("door", list(DOORS))
def test_a_body_that_stalls_ends_with_its_time(config: Path, door: str):
    program, options = DOORS[door]
    arguments = (str(config), "--request-timeout-ms", str(STALLING_MS), *options)
    with ServerProcess(*arguments, program=program) as server:
        for length in LENGTHS:
            with Wire((server.host, server.port)) as wire:
                begun = time.monotonic()
                wire.head("POST", SAME, length)
                wire.write(chunk(b'{"inst') if "chunked" in length else b'{"inst')
                answer = wire.answer()
                assert (time.monotonic() - begun) * 1000 >= STALLING_MS * 0.9
                assert answer.status == 408
                assert "in time" in error_of(answer)
                assert wire.ends(), "what is left of the body cannot be told from a request"


def test_a_request_whose_time_ends_in_the_queue_is_told_so_and_the_connection_lives(connect: Callable[[], Wire]):
    holder, waiting = connect(), connect()
    hold(holder, waiting)
    begun = time.monotonic()
    answer = waiting.post(PATIENT, QUICK, "X-Request-Timeout-Ms: 60")
    assert answer.status == 504
    assert error_of(answer).startswith("Timed out waiting for notification: ")
    assert time.monotonic() - begun >= 0.06
    assert is_good(waiting.post(SAME, GOOD))
    assert holder.answer().status == 200


def test_a_time_that_is_none_is_refused(wire: Wire):
    answer = wire.post(SAME, GOOD, "X-Request-Timeout-Ms: soon")
    assert answer.status == 400
    assert "milliseconds" in error_of(answer)


# --- the queue


def hold(holder: Wire, other: Wire) -> None:
    """Have the slow model's slot taken: nothing that comes now is run at once."""
    holder.send(PATIENT, HOLD)
    until(lambda: other.post(PATIENT, QUICK, "X-Request-Timeout-Ms: 20").status == 504)
    until(lambda: queue_rows(other) == 0)


def test_clients_that_leave_take_their_requests_out_of_the_queue(connect: Callable[[], Wire]):
    watch, holder = connect(), connect()
    before = cancelled(watch)
    hold(holder, watch)
    leaving, staying = [connect() for _ in range(QUEUE_ROWS - 1)], connect()
    for one in (*leaving, staying):
        one.send(PATIENT, QUICK)
    until(lambda: queue_rows(watch) == QUEUE_ROWS)
    for one in leaving:
        one.close()
    until(lambda: cancelled(watch) == before + len(leaving))
    assert holder.answer().status == 200
    assert staying.answer().status == 200
    assert queue_rows(watch) == 0


def test_a_full_queue_refuses_with_a_time_to_come_back(connect: Callable[[], Wire]):
    watch, holder = connect(), connect()
    hold(holder, watch)
    waiting = [connect() for _ in range(QUEUE_ROWS)]
    for one in waiting:
        one.send(PATIENT, QUICK)
    until(lambda: queue_rows(watch) == QUEUE_ROWS)
    refused = watch.post(PATIENT, QUICK)
    assert refused.status == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert "full" in error_of(refused)
    assert is_good(watch.post(SAME, GOOD)), "other models are not held up"
    assert [one.answer().status for one in waiting] == [200] * QUEUE_ROWS
    assert holder.answer().status == 200


def test_what_cannot_be_done_in_time_is_refused_at_the_door(connect: Callable[[], Wire]):
    """In each protocol's shape, however the body comes; what finds nothing else is taken again."""
    watch = connect()

    def held() -> bool:
        """Whether a run that takes seconds is under way: on a busy machine it may be late before it begins."""
        holding.append(connect())
        holding[-1].send(PROMPT, b'{"instances": [300000]}')
        return any(watch.post(PROMPT, QUICK).status == 429 for _ in range(3))

    def in_pieces(path: str, body: bytes) -> Answer:
        watch.head("POST", path, "Transfer-Encoding: chunked")
        watch.write(chunk(body) + chunk(b""))
        return watch.answer()

    holding: list[Wire] = []
    counted = 'fastserve_objective_requests_total{model="prompt",outcome="refused"}'
    v2 = b'{"inputs": [{"name": "steps", "datatype": "INT64", "shape": [1], "data": [1]}]}'
    for path, body in ((PROMPT, QUICK), ("/v2/models/prompt/infer", v2)):
        for ask in (watch.post, in_pieces):
            refused = None
            while refused is None or refused.status != 429:  # the run that holds it up is ended after a while
                until(held)
                before = series(watch, counted)
                refused = ask(path, body)
            assert int(refused.headers["retry-after"]) >= 1
            assert f"its objective is {SLO_MS} ms" in error_of(refused)
            assert series(watch, counted) > before, "with it, maybe, one of those that were to hold it up"
    assert is_good(watch.post(SAME, GOOD)), "other models are not held up"
    for one in holding:  # whose runs are ended, since nobody waits for them
        one.close()
    until(lambda: watch.post(PROMPT, QUICK).status != 429)


# --- connections


ERRORS: list[tuple[str, bytes, tuple[str, ...], int]] = [
    (SAME, b"no json", (), 400),
    (SAME, b'{"instances": [[1, "a"]]}', (), 400),
    (SAME, b"", (), 400),
    ("/v1/models/nobody:predict", GOOD, (), 404),
    ("/nowhere", GOOD, (), 404),
    ("/readyz", GOOD, (), 405),
    (SAME, b"no gzip", ("Content-Encoding: gzip",), 400),
    (SAME, GOOD, ("Content-Encoding: br",), 415),
    (SAME, GOOD, ("X-Request-Timeout-Ms: 0",), 400),
    (SAME, b'{"instances": [' + b"1," * 35_000, (), 400),
]


def test_a_connection_lives_through_every_error(wire: Wire):
    for path, body, headers, status in ERRORS:
        answer = wire.post(path, body, *headers)
        assert answer.status == status, (path, body[:40])
        assert error_of(answer)
        assert is_good(wire.post(SAME, GOOD)), (path, body[:40])


def test_a_client_that_asks_first_is_told_to_go_on(wire: Wire):
    for size in (len(GOOD), 70_000):
        wire.head("POST", SAME, f"Content-Length: {size}", "Expect: 100-continue")
        assert wire.answer().status == 100
        wire.write(padded(size))
        assert is_good(wire.answer())


def test_a_client_that_asks_first_and_has_too_much_is_told_so_at_once(wire: Wire):
    wire.head("POST", SAME, f"Content-Length: {MAX_BODY_BYTES + 1}", "Expect: 100-continue")
    assert wire.answer().status == 413


def test_http_1_0_is_answered_and_hung_up_on(connect: Callable[[], Wire]):
    wire = connect()
    wire.head("POST", SAME, f"Content-Length: {len(GOOD)}", version="1.0")
    wire.write(GOOD)
    assert is_good(wire.answer())
    assert wire.ends()
    kept = connect()
    for _ in range(2):
        kept.head("POST", SAME, f"Content-Length: {len(GOOD)}", "Connection: keep-alive", version="1.0")
        kept.write(GOOD)
        assert is_good(kept.answer())


def test_requests_that_do_not_wait_for_answers_get_them_in_order(wire: Wire):
    for i in range(20):
        wire.send(SAME, msgspec.json.encode({"instances": [[i, -i]]}))
        if i % 5 == 0:
            wire.send("/nowhere", GOOD)
    for i in range(20):
        assert msgspec.json.decode(wire.answer().body) == {"predictions": [[i, -i]]}
        if i % 5 == 0:
            assert wire.answer().status == 404


def test_a_body_may_come_byte_by_byte(wire: Wire):
    wire.head("POST", SAME, f"Content-Length: {len(GOOD)}")
    for at in range(len(GOOD)):
        wire.write(GOOD[at : at + 1])
    assert is_good(wire.answer())


@pytest.mark.parametrize("body", [b"zz\r\n", b"5\r\nabc", b"-1\r\n\r\n"])
def test_chunks_that_are_none_are_no_fault_of_ours(wire: Wire, body: bytes):
    wire.head("POST", SAME, "Transfer-Encoding: chunked")
    wire.write(body)
    if body == b"5\r\nabc":
        wire.close()
        return
    with contextlib.suppress(ConnectionError):
        assert wire.answer().status < 500


def test_many_clients_that_leave_at_any_point_harm_nobody(connect: Callable[[], Wire]):
    whole = f"POST {SAME} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(GOOD)}\r\n\r\n".encode() + GOOD
    for at in np.linspace(1, len(whole), 40, dtype=int):
        leaving = connect()
        leaving.write(whole[:at])
        leaving.close()
    assert is_good(connect().post(SAME, GOOD))


def test_http_2_without_being_asked_first(server: ServerProcess):
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("h2")
    base = f"http://{server.host}:{server.port}"
    with httpx.Client(http1=False, http2=True, base_url=base, timeout=WITHIN_S) as client:
        for body in (GOOD, padded(70_000)):
            answer = client.post(SAME, content=body)
            assert answer.http_version == "HTTP/2"
            assert answer.json() == {"predictions": [[1, 2]]}
        assert client.post(SAME, content=b"no json").status_code == 400
        assert client.post(SAME, content=iter([GOOD[:5], GOOD[5:]])).status_code == 200
        assert client.get("/readyz").status_code == 200
