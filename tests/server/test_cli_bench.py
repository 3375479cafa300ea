"""`fastserve bench` against real servers, ours and odd ones: through its door, the command line."""

import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto as T

from fastserve.cli import main
from fastserve.cli.main import cli
from fastserve.loadtest.report import Report
from tests.support import models
from tests.support.authority import Authority
from tests.support.odd_server import OK, OddServer, answering, silent
from tests.support.served import FASTSERVE
from tests.support.server import ServerProcess
from tests.support.waiting import until

SHORT = ("--warmup", "0s", "--requests", "20", "--concurrency", "2")
DTYPES = (
    T.FLOAT, T.DOUBLE, T.FLOAT16, T.BFLOAT16, T.INT8, T.INT16, T.INT32, T.INT64,
    T.UINT8, T.UINT16, T.UINT32, T.UINT64, T.BOOL, T.STRING,
)  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("models")
    graphs = {
        "two": models.two_inputs(), "mixed": models.mixed_types(), "strings": models.strings(), "free": models.free_rows()
    }  # fmt: skip
    graphs |= {f"t{dtype}": models.identity(dtype) for dtype in DTYPES}
    for name, graph in graphs.items():
        onnx.save(graph, folder / f"{name}.onnx")
    with ServerProcess(*(str(path) for path in sorted(folder.glob("*.onnx"))), "--log-dir", str(folder)) as server:
        until(lambda: server.says_yes("/readyz"))
        yield server


@pytest.fixture(autouse=True)
def _errors_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.excepthook", main._one_line)


def bench(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli, ["bench", *arguments], env={"NO_COLOR": "1", **(env or {})})


def url(server: ServerProcess | OddServer) -> str:
    return f"http://127.0.0.1:{server.port}"


def measured(result: Result, file: Path) -> Report:
    assert file.exists(), result.output
    return msgspec.json.decode(file.read_bytes(), type=Report)


@pytest.mark.parametrize("protocol", ["tfserving", "v2", "v2-binary"])
@pytest.mark.parametrize("model", ["two", "mixed", "strings", "free", *(f"t{dtype}" for dtype in DTYPES)])
def test_inputs_made_from_metadata_are_right(served: ServerProcess, tmp_path: Path, model: str, protocol: str) -> None:
    if protocol != "v2-binary" and model == f"t{T.BFLOAT16}":
        protocol = "v2"
    file = tmp_path / "told.json"
    result = bench(url(served), "--model", model, "--protocol", protocol, "--rows", "2", *SHORT, "--json", str(file))
    assert result.exit_code == 0, result.output
    (run,) = measured(result, file).runs
    assert (run.answered, run.failed, run.statuses) == (20, 0, {"200": 20})
    assert run.batches is not None
    assert run.batches.rows == 40


def test_what_is_told(served: ServerProcess, tmp_path: Path) -> None:
    arguments = ("--model", "free", "--dim", "T=3", "--concurrency", "1,2", "--warmup", "0s", "--requests", "30")
    files = ("--json", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html"))
    result = bench(url(served), *arguments, "--slo", "p99=60s,errors=0%", *files)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].split() == [
        "load",
        "requests/s",
        "p50",
        "ms",
        "p90",
        "ms",
        "p99",
        "ms",
        "p99.9",
        "ms",
        "max",
        "ms",
        "errors",
        "rows",
        "a",
        "batch",
    ]
    assert [line.split()[:2] for line in lines[1:3]] == [["1", "connection"], ["2", "connections"]]
    assert sum("met" in line for line in lines) == 4
    told = measured(result, tmp_path / "a.json")
    assert told.met
    assert [run.requests for run in told.runs] == [30, 30]
    assert told.request.model == "free"
    assert json.loads((tmp_path / "a.json").read_text())["runs"][0]["latency_ms"]["count"] == 30
    assert "<h1>free</h1>" in (tmp_path / "a.html").read_text()


def test_json_on_standard_output_is_nothing_else(served: ServerProcess) -> None:
    result = bench(url(served), "--model", "two", *SHORT, "--json", "-")
    assert result.exit_code == 0
    assert msgspec.json.decode(result.stdout.encode(), type=Report).runs[0].answered == 20
    assert "requests/s" in result.stderr


@pytest.mark.parametrize(("objective", "code"), [("p50=1ns", 1), ("rate=1000000000", 1), ("p99.9=60s", 0)])
def test_an_objective_decides_the_exit_code(served: ServerProcess, objective: str, code: int) -> None:
    result = bench(url(served), "--model", "two", *SHORT, "--slo", objective)
    assert result.exit_code == code
    assert ("missed" if code else "met") in result.output


def test_a_sweep_ends_with_a_rate_or_says_that_there_is_none(served: ServerProcess, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    short = ("--concurrency", "2", "--duration", "60ms", "--warmup", "0s", "--json", str(file))
    result = bench(url(served), "--model", "two", "--slo", "p50=60s", "--sweep", *short)
    told = measured(result, file)
    assert told.sweep is not None
    assert len(told.sweep.tried) == len(told.runs) - 1 >= 1
    assert told.met is (told.sweep.highest_rate is not None)
    assert result.exit_code == (0 if told.met else 1)
    assert "rate that" in result.output
    result = bench(url(served), "--model", "two", "--slo", "p50=1ns", "--sweep", *short)
    assert measured(result, file).sweep.highest_rate is None  # type: ignore[union-attr]
    assert result.exit_code == 1


def test_an_open_loop_offers_what_the_seed_says(served: ServerProcess, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    offered = []
    for _ in range(2):
        load = ("--rate", "300", "--duration", "200ms", "--warmup", "0s", "--seed", "5", "--arrivals", "poisson")
        run = measured(bench(url(served), "--model", "two", *load, "--json", str(file)), file).runs[0]
        offered.append(run.requests)
        assert (run.mode, run.rate) == ("open", 300)
    assert offered[0] == offered[1] > 30


FAILURES = [
    (("--model", "nope"), "says nothing of the inputs of nope", "it serves free, mixed"),
    ((), "choose one with --model", "serves"),
    (("--model", "two", "--model-version", "7"), "Specific(two, 7)", ""),
    (("--model", "two", "--dim", "q=1"), "the free dimensions are", ""),
    (("--model", "free", "--path", "/nope", "--protocol", "v2"), "answers 404", ""),
]


@pytest.mark.parametrize(("arguments", "said", "also"), FAILURES)
def test_what_cannot_be_measured_says_what_to_do(
    served: ServerProcess, arguments: tuple[str, ...], said: str, also: str
) -> None:
    result = bench(url(served), *arguments, *SHORT)
    assert result.exit_code == 1
    assert said in result.output
    assert also in result.output
    assert result.output.startswith("Error: ")


def test_wrong_inputs_are_told_before_anything_is_measured(served: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"instances": [1]}')
    result = bench(url(served), "--model", "two", "--data", str(tmp_path / "x.json"), *SHORT)
    assert result.exit_code == 1
    assert "answers 400" in result.output
    assert "instances is a plain list" in result.output


def test_rows_of_a_file_are_sent(served: ServerProcess, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.ones((4, 3)), b=np.ones((4, 3)))
    result = bench(url(served), "--model", "two", "--data", str(tmp_path / "x.npz"), "--rows", "2", *SHORT)
    assert result.exit_code == 0, result.output


NOBODY = [
    ("http://127.0.0.1:1", "nobody listens there"),
    ("ftp://127.0.0.1", "is no http:// or https:// URL"),
    ("http://nowhere.invalid", "that name has no address"),
    ("http://h:x", "is no URL"),
    ("http://127.0.0.1:1/?a=b", "--path"),
]


@pytest.mark.parametrize(("address", "said"), NOBODY)
def test_a_server_that_is_not_there_is_told(address: str, said: str) -> None:
    result = bench(address, "--model", "m", *SHORT)
    assert result.exit_code == 1
    assert said in result.output


WRONG_USAGE = [
    (("--rate", "0"), "above 0"),
    (("--concurrency", "x"), "expected numbers as in 1,16,64"),
    (("--rate", "5", "--concurrency", "5"), "exclude each other"),
    (("--sweep",), "--sweep takes --slo"),
    (("--sweep", "--slo", "p99=1s", "--rate", "3"), "leave --rate out"),
    (("--slo", "p99"), "expected an objective"),
    (("--duration", "5"), "expected a time"),
    (("--header", "no colon"), "expected a header"),
    (("--header", "a: b\nc: d"), "expected a header"),
    (("--dim", "x"), "expected a free dimension"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG_USAGE)
def test_wrong_usage(arguments: tuple[str, ...], said: str) -> None:
    result = bench("http://127.0.0.1:1", "--model", "m", *arguments)
    assert result.exit_code == 2
    assert said in result.output


def test_any_server_is_driven_with_any_body_and_headers(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"\x00hello")
    with OddServer(answering(OK)) as server:
        given = ("--protocol", "http", "--data", str(tmp_path / "body"), "--content-type", "a/b", "--header", "X-A: 1")
        result = bench(f"{url(server)}/some/where", *given, *SHORT, env={"FASTSERVE_API_KEY": "secret"})
    assert result.exit_code == 0, result.output
    assert len(server.requests) == 21  # one of them to see whether it answers
    assert all(one.startswith(b"POST /some/where HTTP/1.1\r\n") for one in server.requests)
    for line in (b"Authorization: Bearer secret", b"X-A: 1", b"Content-Type: a/b"):
        assert all(line in one for one in server.requests)
    assert "secret" not in result.output


def test_refusals_are_counted_by_status_with_what_was_said(tmp_path: Path) -> None:
    file = tmp_path / "a.json"

    def serve(connection: socket.socket, server: OddServer) -> None:
        while True:
            server.request(connection)
            late = len(server.requests) > 11
            connection.sendall(b"HTTP/1.1 429 Slow\r\nContent-Length: 4\r\n\r\nlate" if late else OK)

    with OddServer(serve) as server:
        result = bench(url(server), "--protocol", "http", "--slo", "errors=49%", *SHORT, "--json", str(file))
    (run,) = measured(result, file).runs
    assert (run.answered, run.failed) == (10, 10)
    assert run.reasons == {"429": "late"}
    assert "10 x 429: late" in result.output
    assert result.exit_code == 1


LOADING = b"HTTP/1.1 503 Later\r\nContent-Length: 7\r\n\r\nloading"


def test_a_server_that_is_loading_is_waited_for() -> None:
    def serve(connection: socket.socket, server: OddServer) -> None:
        answering(OK if server.connections > 3 else LOADING)(connection, server)

    with OddServer(serve) as server:
        result = bench(url(server), "--protocol", "http", *SHORT)
    assert result.exit_code == 0, result.output
    assert result.output.count("answers 503: loading") == 1
    with OddServer(answering(LOADING)) as server:
        result = bench(url(server), "--protocol", "http", "--wait", "1us", *SHORT)
    assert result.exit_code == 1
    assert "answers 503: loading (for 1e-06 s; --wait is how long)" in result.output


def test_https_with_an_authority_of_our_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server"))
    with OddServer(answering(OK), tls=context) as server:
        address = f"https://127.0.0.1:{server.port}"
        for trust in (("--ca", str(authority.certificate)), ("--insecure",)):
            result = bench(address, "--protocol", "http", *trust, *SHORT)
            assert result.exit_code == 0, result.output
        result = bench(address, "--protocol", "http", *SHORT)
        assert result.exit_code == 1
        assert "give --ca FILE, or --insecure" in result.output


def test_a_unix_socket(tmp_path: Path) -> None:
    with OddServer(answering(OK), uds=tmp_path / "s"):
        result = bench("http://localhost", "--uds", str(tmp_path / "s"), "--protocol", "http", *SHORT)
    assert result.exit_code == 0, result.output
    result = bench("http://localhost", "--uds", str(tmp_path / "none"), "--protocol", "http", *SHORT)
    assert result.exit_code == 1
    assert "is --uds the server's socket?" in result.output


def test_without_keep_alive_every_request_has_its_connection() -> None:
    with OddServer(answering(OK, close=True)) as server:
        result = bench(url(server), "--protocol", "http", "--no-keepalive", *SHORT)
    assert result.exit_code == 0, result.output
    assert server.connections >= 21
    assert all(b"Connection: close" in one for one in server.requests[1:])


def test_several_threads_share_the_work(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    with OddServer(answering(OK)) as server:
        load = ("--threads", "3", "--concurrency", "5", "--requests", "50", "--warmup", "0s", "--json", str(file))
        result = bench(url(server), "--protocol", "http", *load)
    (run,) = measured(result, file).runs
    assert (run.answered, run.connections_made, len(server.requests)) == (50, 5, 51)


def test_log_records_are_sent(tmp_path: Path) -> None:
    with OddServer(answering(OK)) as server:
        result = bench(url(server), "--protocol", "log", "--bodies", "20", *SHORT)
    assert result.exit_code == 0, result.output
    ids = {
        json.loads(one.partition(b"\r\n\r\n")[2])["prediction_id"] for one in server.requests if one.startswith(b"POST")
    }
    assert len(ids) == 20


HEEDING_SIGINT = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)
"""What runs a command as from a terminal: shells have those that they start in the background ignore SIGINT."""


def test_ctrl_c_prints_what_was_measured() -> None:
    held: list[socket.socket] = []

    def serve(connection: socket.socket, server: OddServer) -> None:
        for _ in range(5):
            server.request(connection)
            connection.sendall(OK)
        held.append(connection)
        silent(connection, server)

    with OddServer(serve) as server:
        command = [
            sys.executable,
            "-c",
            HEEDING_SIGINT,
            FASTSERVE,
            "bench",
            url(server),
            "--protocol",
            "http",
            "--concurrency",
            "3,4",
            "--warmup",
            "0s",
            "--duration",
            "60s",
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            until(lambda: len(held) >= 3)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "3 connections: stopped after" in output
    assert "requests were given up" in output
    assert "4 connections" not in output
    assert "Traceback" not in output
