"""The access log of a served process: every door, rotation, standard output, the last lines at the end."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto as T

from tests.support import models
from tests.support.coroutine_serve import COROUTINES_ONLY
from tests.support.served import FASTSERVE, wire
from tests.support.server import ServerProcess
from tests.support.waiting import WITHIN_S, until

PREDICT = "/v1/models/same:predict"
GOOD = b'{"instances": [[1, 2]]}'
DOORS = {
    "direct": (("fastserve", "serve"), ("--interface", "rsgi")),
    "coroutines": (COROUTINES_ONLY, ()),
    "asgi": (("fastserve", "serve"), ("--interface", "asgi")),
    "two workers": (("fastserve", "serve"), ("--workers", "2")),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    models.save(models.identity(T.INT64), folder / "same" / "1")
    return folder


@pytest.fixture(params=list(DOORS))
def server(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    program, options = DOORS[request.param]
    with ServerProcess(str(folder), *options, "--access-log", str(tmp_path / "log"), program=program) as server:
        yield server


def lines(path: Path) -> list[dict[str, Any]]:
    """Those of the test: the server is asked for its health as it starts."""
    read = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in read if line["path"] != "/startupz"]


def test_every_answer_has_a_line_and_an_id(server: ServerProcess, tmp_path: Path):
    with wire(server) as one:
        asked = [
            one.post(PREDICT, GOOD, "X-Request-Id: mine-1"),
            one.post(PREDICT, GOOD + b" " * 70_000),
            one.post(PREDICT + "?token=secret", b"{", "Authorization: Basic c2VjcmV0", "Cookie: secret"),
            one.post("/nowhere", GOOD, 'X-Request-Id: a"b'),
        ]
        one.head("POST", PREDICT, "Transfer-Encoding: chunked")
        one.write(b"17\r\n" + GOOD + b"\r\n0\r\n\r\n")
        asked.append(one.answer())
    until(lambda: len(lines(tmp_path / "log")) == len(asked))
    found = {line["id"]: line for line in lines(tmp_path / "log")}
    told = [found[answer.headers["x-request-id"]] for answer in asked]
    assert [line["status"] for line in told] == [answer.status for answer in asked] == [200, 200, 400, 404, 200]
    assert [line["response_bytes"] for line in told] == [len(answer.body) for answer in asked]
    assert [line["request_bytes"] for line in told] == [23, 70_023, 1, 23, 23]
    assert [line["path"] for line in told] == [PREDICT, PREDICT, PREDICT, "/nowhere", PREDICT]
    assert [line["model"] for line in told] == ["same", "same", "same", "", "same"]
    assert [line["run_ms"] is not None for line in told] == [True, True, False, False, True]
    assert all(line["client"].startswith("127.0.0.1:") and line["total_ms"] > 0 for line in told)
    assert told[0]["id"] == "mine-1"
    assert "secret" not in (tmp_path / "log").read_text()


def test_a_rotated_log_goes_on_in_a_new_file_and_ends_with_the_last_answer(server: ServerProcess, tmp_path: Path):
    path, old = tmp_path / "log", tmp_path / "log.1"
    with wire(server) as one:
        one.post(PREDICT, GOOD, "X-Request-Id: before")
        until(lambda: [line["id"] for line in lines(path)] == ["before"])
        path.rename(old)
        server.process.send_signal(signal.SIGHUP)
        until(path.exists)
        for number in range(100):
            one.post(PREDICT, GOOD, f"X-Request-Id: {number}")
    server.process.terminate()
    assert server.process.wait(WITHIN_S) == 0
    assert [line["id"] for line in lines(path)] == [str(number) for number in range(100)]
    assert [line["id"] for line in lines(old)] == ["before"]


def test_standard_output_takes_lines_too(folder: Path):
    with ServerProcess(str(folder), "--access-log", "-") as server, wire(server) as one:
        one.post(PREDICT, GOOD, "X-Request-Id: here")
        until(lambda: '"id":"here"' in server.output)


def test_a_log_that_cannot_be_written_is_told_before_anything_starts(folder: Path, tmp_path: Path):
    command = [FASTSERVE, "serve", str(folder), "--port", "0", "--access-log", str(tmp_path / "no" / "log")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert ended.returncode == 1
    assert "cannot be written: No such file or directory (--access-log)" in ended.stderr
    assert "Traceback" not in ended.stderr
