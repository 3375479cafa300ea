"""The loop of the load generator against servers that do as they are told: what it counts is what happened."""

import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastserve._ext.loadgen import Driver, arrivals
from tests.support.authority import Authority
from tests.support.odd_server import OK, OddServer, answering, silent
from tests.support.waiting import until

REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
S = 1_000_000_000
MS = 1_000_000
PATIENT = 20 * S


def driver(server: OddServer, connections: int = 4, requests: list[bytes] | None = None, **more: Any) -> Driver:
    return Driver(socket.AF_INET, "127.0.0.1", server.port, requests or [REQUEST], connections, **more)


def counts_of(one: Driver, **plan: Any) -> dict[str, Any]:
    one.run(**{"timeout_ns": PATIENT, **plan})
    return one.counts()


@pytest.mark.parametrize("rate", [0.0, 5000.0])
def test_every_request_is_counted_once(rate: float) -> None:
    requests = [REQUEST, REQUEST.replace(b"abc", b"def")]
    with OddServer(answering(OK)) as server:
        told = counts_of(driver(server, requests=requests), max_requests=101, per_s=rate)
    assert told["by_status"] == {200: 101}
    assert told["by_failure"] == {}
    assert len(server.requests) == 101
    assert sorted(server.requests) == sorted([requests[0]] * 51 + [requests[1]] * 50)
    assert server.connections == told["connections"] <= 4
    assert told["latency"].count == told["service"].count == told["good_in_time"] == 101
    assert sum(good for good, _, _ in told["slices"]) == 101
    assert (told["sent_bytes"], told["received_bytes"]) == (101 * len(REQUEST), 101 * len(OK))
    assert told["late"].count == (101 if rate else 0)


def test_a_second_run_counts_anew_on_the_same_connections() -> None:
    with OddServer(answering(OK)) as server:
        one = driver(server, connections=2)
        counts_of(one, max_requests=10)
        told = counts_of(one, max_requests=7)
        assert (one.good, one.bad) == (7, 0)
    assert told["by_status"] == {200: 7}
    assert told["connections"] == 0
    assert server.connections == 2


def test_a_run_ends_with_its_duration() -> None:
    with OddServer(answering(OK)) as server:
        told = counts_of(driver(server), duration_ns=50 * MS)
    assert told["elapsed_ns"] >= 50 * MS
    assert len(server.requests) == told["by_status"][200]
    assert told["by_failure"] == {}


WHOLE = [
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200),
    (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200),
    (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
    (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", 503),
]


@pytest.mark.parametrize(("answer", "status"), WHOLE)
def test_answers_are_read_whichever_way_they_come(answer: bytes, status: int) -> None:
    pieces = [answer[at : at + 1] for at in range(len(answer))]
    with OddServer(answering(*pieces)) as server:
        told = counts_of(driver(server, connections=1), max_requests=5)
    assert told["by_status"] == {status: 5}
    assert told["by_failure"] == {}
    assert server.connections == 1
    assert told["samples"] == ({503: b"busy"} if status == 503 else {})


CLOSING = [
    answering(OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"), close=True),
    answering(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", close=True),
    answering(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", close=True),
]


@pytest.mark.parametrize("serve", CLOSING)
def test_a_connection_that_is_closed_is_made_again(serve: Any) -> None:
    with OddServer(serve) as server:
        told = counts_of(driver(server, connections=2), max_requests=9)
    assert told["by_status"] == {200: 9}
    assert told["by_failure"] == {}
    assert server.connections == told["connections"] == 9


def test_a_connection_is_not_used_again_where_the_request_says_so() -> None:
    with OddServer(answering(OK)) as server:
        told = counts_of(driver(server, connections=2, keep_alive=False), max_requests=9)
    assert told["by_status"] == {200: 9}
    assert server.connections == 9


BROKEN = [
    (answering(b"", close=True), "closed", "without an answer"),
    (answering(OK[:-1], close=True), "closed", "in the middle"),
    (answering(b"SSH-2.0-OpenSSH\r\n", close=True), "protocol", "not HTTP/1.1"),
    (answering(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), "protocol", "is no length"),
    (answering(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), "protocol", "switches protocols"),
]


@pytest.mark.parametrize(("serve", "failure", "reason"), BROKEN)
def test_what_is_no_answer_is_a_failure_and_the_next_request_is_sent(serve: Any, failure: str, reason: str) -> None:
    with OddServer(serve) as server:
        told = counts_of(driver(server, connections=2), max_requests=6)
    assert told["by_status"] == {}
    assert told["by_failure"] == {failure: 6}
    assert reason in told["reasons"][failure]
    assert len(server.requests) == 6
    assert told["failed"].count == 6


def test_bytes_behind_an_answer_end_the_connection() -> None:
    with OddServer(answering(OK + b"HTTP/1.1 200 OK")) as server:
        told = counts_of(driver(server, connections=1), max_requests=3)
    assert told["by_status"] == {200: 3}
    assert server.connections == 3


def test_a_refusal_before_the_whole_request_was_sent_counts() -> None:
    large = b"POST / HTTP/1.1\r\nContent-Length: 50000000\r\n\r\n" + bytes(50_000_000)
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"

    def serve(connection: socket.socket, server: OddServer) -> None:
        connection.recv(1000)
        connection.sendall(refusal)
        server.over.wait(30)  # reads no more, and closes only at the end

    with OddServer(serve) as server:
        told = counts_of(driver(server, connections=1, requests=[large]), max_requests=2)
    assert told["by_status"] == {413: 2}
    assert told["samples"] == {413: b"big"}
    assert server.connections == 2


def test_nobody_listens() -> None:
    with OddServer(silent) as server:
        pass
    told = counts_of(driver(server, connections=3), max_requests=6)
    assert told["by_failure"] == {"connect": 6}
    assert told["reasons"] == {"connect": "Connection refused"}


def test_a_server_that_never_answers_is_given_up() -> None:
    with OddServer(silent) as server:
        told = counts_of(driver(server, connections=3), max_requests=3, timeout_ns=50 * MS)
    assert told["by_failure"] == {"timeout": 3}
    assert told["failed"].least >= 50 * MS


def test_what_arrives_while_all_connections_wait_is_counted_as_not_sent() -> None:
    with OddServer(silent) as server:
        told = counts_of(
            driver(server, connections=1), duration_ns=100 * MS, per_s=1000.0, poisson=False, timeout_ns=200 * MS
        )
    assert told["by_status"] == {}
    assert sum(told["by_failure"].values()) == 99  # one every ms, the first after 1 ms, the 100th at the end
    assert told["by_failure"] == {"timeout": 1, "unsent": 98}


def test_as_many_arrive_as_the_seed_says() -> None:
    expected = int((arrivals(500.0, 1000, True, 3) < 200 * MS).sum())
    with OddServer(answering(OK)) as server:
        told = counts_of(driver(server, connections=16), duration_ns=200 * MS, per_s=500.0, seed=3)
    assert sum(told["by_status"].values()) + sum(told["by_failure"].values()) == expected
    assert told["by_failure"].get("unsent", 0) + len(server.requests) == expected


def test_arrivals_come_when_they_are_listed_and_none_beside() -> None:
    times = np.array([0, 0, 1 * MS, 150 * MS, 10_000 * MS], np.int64)  # the last one after the end
    with OddServer(answering(OK)) as server:
        told = counts_of(driver(server), per_s=25.0, times_ns=times, duration_ns=200 * MS)
    assert sum(told["by_status"].values()) + sum(told["by_failure"].values()) == 4  # unsent: this machine was too busy
    assert told["elapsed_ns"] >= 200 * MS


def test_a_stall_shows_in_what_had_to_wait_for_it() -> None:
    """Coordinated omission: one answer is held back; those that arrived meanwhile waited, though none had been sent."""
    stalled = threading.Event()

    def serve(connection: socket.socket, server: OddServer) -> None:
        while True:
            server.request(connection)
            if not stalled.is_set():
                stalled.set()
                time.sleep(0.3)
            connection.sendall(OK)

    with OddServer(serve) as server:
        told = counts_of(driver(server, connections=1), max_requests=100, per_s=200.0, poisson=False)

    def longer(histogram: Any) -> int:
        highest, counts = histogram.buckets()
        return int(counts[highest >= 100 * MS].sum())

    assert told["by_status"] == {200: 100}
    # From the first, at 5 ms, to the one at 205 ms all wait for at least 100 ms, however slow this machine is.
    assert longer(told["latency"]) >= 40
    assert longer(told["service"]) < 40
    assert told["latency"].quantile(0.5) >= told["service"].quantile(0.5)


@pytest.mark.parametrize("rate", [0.0, 1000.0])
def test_a_run_can_be_stopped(rate: float) -> None:
    with OddServer(silent) as server:
        one = driver(server, connections=3)
        thread = threading.Thread(target=one.run, kwargs={"duration_ns": 60 * S, "per_s": rate, "timeout_ns": 60 * S})
        thread.start()
        until(lambda: len(server.requests) == 3)
        with pytest.raises(ValueError, match="expected no run"):
            one.counts()
        with pytest.raises(ValueError, match="one run at a time"):
            one.run(max_requests=1, timeout_ns=S)
        one.stop()
        thread.join(20)
        assert not thread.is_alive()
    told = one.counts()
    assert told["unfinished"] == 3
    assert told["by_status"] == {}
    assert set(told["by_failure"]) <= {"unsent"}


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with OddServer(answering(OK), uds=path):
        told = counts_of(Driver(socket.AF_UNIX, str(path), 0, [REQUEST], 2), max_requests=10)
    assert told["by_status"] == {200: 10}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("rate", [0.0, 2000.0])
def test_tls(authority: Authority, version: ssl.TLSVersion, rate: float) -> None:
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*authority.issue("server"))
    theirs.maximum_version = version
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000)
    request = b"POST / HTTP/1.1\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000)
    ours = ssl.create_default_context(cafile=authority.certificate)
    with OddServer(answering(large), tls=theirs) as server:
        one = driver(server, connections=2, requests=[request], tls=ours, server_name="127.0.0.1")
        told = counts_of(one, max_requests=20, per_s=rate)
    assert told["by_status"] == {200: 20}
    assert told["by_failure"] == {}
    assert set(server.requests) == {request}


def test_a_certificate_that_is_not_trusted_is_told(authority: Authority) -> None:
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*authority.issue("server"))
    with OddServer(answering(OK), tls=theirs) as server:
        one = driver(server, connections=2, tls=ssl.create_default_context(), server_name="127.0.0.1")
        told = counts_of(one, max_requests=4)
    assert told["by_failure"] == {"tls": 4}
    assert "certificate verify failed" in told["reasons"]["tls"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"connections": 0}, "expected connections"),
    ({"requests": []}, "expected connections, requests"),
    ({"requests": [b""]}, "at least one byte"),
    ({"port": 65536}, "expected connections, requests and a port"),
    ({"host": "localhost"}, "numeric address"),
]


@pytest.mark.parametrize(("given", "said"), WRONG)
def test_what_cannot_be_driven_is_refused(given: dict[str, Any], said: str) -> None:
    right: dict[str, Any] = {
        "family": socket.AF_INET, "host": "127.0.0.1", "port": 1, "requests": [REQUEST], "connections": 1
    }  # fmt: skip
    with pytest.raises(ValueError, match=said):
        Driver(**{**right, **given})


@pytest.mark.parametrize("plan", [{}, {"max_requests": 1, "timeout_ns": 0}, {"max_requests": 1, "per_s": -1.0}])
def test_a_plan_without_an_end_is_refused(plan: dict[str, Any]) -> None:
    one = Driver(socket.AF_INET, "127.0.0.1", 1, [REQUEST], 1)
    with pytest.raises(ValueError, match="expected a duration"):
        one.run(**{"timeout_ns": S, **plan})


@pytest.mark.parametrize(("times", "rate"), [([2, 1], 1.0), ([-1], 1.0), ([1], 0.0)])
def test_arrivals_that_make_no_sense_are_refused(times: list[int], rate: float) -> None:
    one = Driver(socket.AF_INET, "127.0.0.1", 1, [REQUEST], 1)
    with pytest.raises(ValueError, match=r"expected (arrivals in their order|the rate)"):
        one.run(duration_ns=MS, timeout_ns=S, per_s=rate, times_ns=np.array(times, np.int64))
