"""`fastserve demo`, `predict` and `models` against each other, as a person runs them."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastserve import demo
from tests.support.server import free_port

READY_WITHIN_S = 60.0
ENVIRONMENT = {**os.environ, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}


def fastserve(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fastserve", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, env=ENVIRONMENT, check=False)


class Demo:
    """`fastserve demo` in a process of its own, with a log file."""

    def __init__(self, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.output = folder / "output"
        self.log_folder = folder / "log"
        port = self.url.rsplit(":", maxsplit=1)[1]
        command = [sys.executable, "-m", "fastserve", "demo", "--port", port, "--log-dir", str(self.log_folder)]
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=ENVIRONMENT)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._is_ready():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    running = Demo(tmp_path_factory.mktemp("demo"))
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def printed_requests(served: Demo) -> list[list[str]]:
    lines = served.output.read_text().splitlines()
    return [shlex.split(line) for line in lines if line.strip().startswith("curl ")]


def test_every_printed_request_works_as_printed(served: Demo) -> None:
    requests = printed_requests(served)
    assert len(requests) == 4, "one for each protocol"
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    for request in requests:
        answer = subprocess.run([*request, "-sS"], capture_output=True, timeout=30, check=True).stdout
        told = json.loads(answer)
        if request[-1].endswith("/v1/log"):
            assert told == {}
            continue
        if request[-1].endswith("/predict"):
            assert len(told["prediction"]) == 3 * len(demo.golden("iris").instances)
            continue
        label = told["predictions"][0]["label"] if "predictions" in told else told["outputs"][0]["data"][0]
        assert label == "setosa"


def test_table_and_urls_are_printed(served: Demo) -> None:
    output = served.output.read_text()
    for model in demo.names():
        assert any(line.startswith(model) and "READY" in line for line in output.splitlines())
    assert served.url in output


@pytest.mark.parametrize("model", demo.names())
def test_golden_rows_over_the_wire(served: Demo, model: str) -> None:
    golden = demo.golden(model)
    result = fastserve("predict", served.url, model, "--json", "--data", json.dumps({"instances": golden.instances}))
    assert result.returncode == 0, result.stderr
    predictions = json.loads(result.stdout)["predictions"]
    assert len(predictions) == len(golden.predictions)
    for got, expected in zip(predictions, golden.predictions, strict=True):
        assert words_of(got) == words_of(expected)


def words_of(prediction: Any) -> Any:
    """What must agree to the letter: everything but floats, which are rounded to three places."""
    if isinstance(prediction, dict):
        return {name: words_of(value) for name, value in prediction.items()}
    if isinstance(prediction, list):
        return [words_of(value) for value in prediction]
    return round(prediction, 3) if isinstance(prediction, float) else prediction


@pytest.mark.parametrize("model", demo.names())
def test_predict_makes_up_an_instance(served: Demo, model: str) -> None:
    result = fastserve("predict", served.url, model)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("sent  ")
    assert len(result.stdout.splitlines()) > 1


def test_predict_reads_standard_input_and_picks_a_version(served: Demo) -> None:
    result = fastserve("predict", served.url, "iris", "--data", "-", "--version", "1", text="[5.1, 3.5, 1.4, 0.2]")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == 'label          "setosa"'


REFUSED = [
    (("predict", "iris", "--data", "[1]"), "400"),
    (("predict", "nothing"), "404"),
    (("predict", "iris", "--version", "9"), "404"),
]


@pytest.mark.parametrize(("arguments", "status"), REFUSED)
def test_refusal_is_one_line_and_exit_code_1(served: Demo, arguments: tuple[str, ...], status: str) -> None:
    command, *rest = arguments
    result = fastserve(command, served.url, *rest)
    assert result.returncode == 1
    assert status in result.stderr
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1
    assert "Traceback" not in result.stderr
    assert "Traceback" in fastserve(command, served.url, *rest, "--debug").stderr


def test_models_are_listed(served: Demo) -> None:
    listed = json.loads(fastserve("models", served.url, "--json").stdout)["models"]
    assert [row["model"] for row in listed] == demo.names()
    iris = next(row for row in listed if row["model"] == "iris")
    assert (iris["version"], iris["state"], iris["inputs"]) == (1, "READY", ["features float[rows, 4]"])
    table = fastserve("models", served.url).stdout
    assert all(name in table for name in demo.names())
    assert "\x1b" not in table


def test_log_file_holds_json_lines(served: Demo) -> None:
    lines = (served.log_folder / "fastserve.log").read_text().splitlines()
    assert lines
    assert all({"time", "level", "message"} <= set(json.loads(line)) for line in lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_with_exit_code_0(tmp_path: Path, number: signal.Signals) -> None:
    running = Demo(tmp_path)
    try:
        running.wait_until_ready()
        running.process.send_signal(number)
        assert running.process.wait(30) == 0, running.output.read_text()
    finally:
        running.process.kill()
        running.process.wait()
    assert "Traceback" not in running.output.read_text()


def test_port_in_use_is_told(served: Demo) -> None:
    result = fastserve("demo", "--port", served.url.rsplit(":", maxsplit=1)[1])
    assert result.returncode == 1
    assert result.stderr.startswith("Error: cannot listen on 127.0.0.1 port ")
