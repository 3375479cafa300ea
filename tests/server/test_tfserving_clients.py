"""Programs that were written for TensorFlow Serving, as they are: ovmsclient, requests, and curl as the documents show it."""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ovmsclient
import pytest
import requests
from onnx import TensorProto as T
from ovmsclient.tfs_compat.base.errors import InvalidInputError, ModelNotFoundError

from tests.support import models
from tests.support.server import ServerProcess
from tests.support.waiting import WITHIN_S

HALF_PLUS_THREE = "/v1/models/half_plus_three"
STATUS = {"version": "123", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}


def half_plus(offset: float) -> Any:
    """`x` [N] -> `y` = x / 2 + offset."""
    constants = [models.weight("half", np.float32([0.5])), models.weight("offset", np.float32([offset]))]
    nodes = [models.node("Mul", "x half", "p"), models.node("Add", "p offset", "y")]
    return models.build(nodes, [models.tensor("x", ["N"])], [models.tensor("y", ["N"])], constants)


def total() -> Any:
    """`x` [N] -> `sum` [], a number of its own."""
    nodes = [models.node("ReduceSum", "x", "sum", keepdims=0)]
    return models.build(nodes, [models.tensor("x", ["N"])], [models.tensor("sum", [])])


@pytest.fixture(scope="module", params=["rsgi", "asgi"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("models")
    models.save(half_plus(2), folder / "half_plus_three" / "122")
    models.save(half_plus(3), folder / "half_plus_three" / "123")
    models.save(models.two_inputs(), folder / "two" / "1")
    models.save(models.identity(T.INT64), folder / "whole" / "1")
    models.save(models.identity(T.STRING, ("N",)), folder / "strings" / "1")
    models.save(total(), folder / "total" / "1")
    with ServerProcess(str(folder), "--interface", request.param, "--versions", "all") as server:
        yield server


# --- ovmsclient's HTTP client, which names version 0 unless it is told another


@pytest.fixture
def ovms(server: ServerProcess) -> Any:
    return ovmsclient.make_http_client(f"{server.host}:{server.port}")


def test_ovmsclient_predicts_with_the_newest_version(ovms: Any):
    for inputs in ([1.0, 2.0, 5.0], np.array([1, 2, 5], np.float32), np.array([1, 2, 5], np.float64)):
        outputs = ovms.predict({"x": inputs}, "half_plus_three")
        np.testing.assert_allclose(outputs, [3.5, 4.0, 5.5])
    np.testing.assert_allclose(ovms.predict({"x": 3.0}, "half_plus_three"), [4.5])


def test_ovmsclient_predicts_with_a_version(ovms: Any):
    np.testing.assert_allclose(ovms.predict({"x": [1.0]}, "half_plus_three", model_version=122), [2.5])
    np.testing.assert_allclose(ovms.predict({"x": [1.0]}, "half_plus_three", 123), [3.5])


def test_ovmsclient_gets_outputs_by_name(ovms: Any):
    a, b = np.ones((2, 3), np.float32), np.full((2, 3), 2, np.float32)
    outputs = ovms.predict({"a": a, "b": b}, "two")
    assert outputs.keys() == {"sum", "product"}
    np.testing.assert_allclose(outputs["sum"], a + b)
    np.testing.assert_allclose(outputs["product"], a * b)


def test_ovmsclient_keeps_whole_numbers(ovms: Any):
    numbers = np.array([[2**62 + 1, -(2**63)]], np.int64)
    outputs = ovms.predict({"x": numbers}, "whole")
    assert outputs.dtype == np.int64
    assert outputs.tolist() == numbers.tolist()


def test_ovmsclient_sends_text_and_bytes(ovms: Any):
    texts = ["a", "caf\u00e9", 'say "hi"\n']
    assert ovms.predict({"x": texts}, "strings").tolist() == texts
    as_bytes = [text.encode() for text in texts]  # which it sends as base64 objects
    assert ovms.predict({"x": as_bytes}, "strings").tolist() == texts


def test_ovmsclient_reads_status_and_metadata(ovms: Any):
    available = {"state": "AVAILABLE", "error_code": 0, "error_message": ""}
    assert ovms.get_model_status("half_plus_three", 123) == {123: available}
    assert ovms.get_model_status("half_plus_three") == {123: available}, "0 is the newest"
    metadata = ovms.get_model_metadata("half_plus_three")
    assert metadata["model_spec"] == {"name": "half_plus_three", "signature_name": "", "version": "123"}
    assert metadata == ovms.get_model_metadata("half_plus_three", model_version=123)


def test_ovmsclient_understands_errors(ovms: Any):
    with pytest.raises(ModelNotFoundError, match=r"Latest\(nobody\)"):
        ovms.predict({"x": [1.0]}, "nobody")
    with pytest.raises(ModelNotFoundError, match=r"Specific\(half_plus_three, 7\)"):
        ovms.predict({"x": [1.0]}, "half_plus_three", 7)
    with pytest.raises(InvalidInputError, match=r"Missing named input: x"):
        ovms.predict({"y": [1.0]}, "half_plus_three")
    with pytest.raises(InvalidInputError, match=r"\$\.inputs\.x"):
        ovms.predict({"x": ["1"]}, "half_plus_three")
    with pytest.raises(ModelNotFoundError):
        ovms.get_model_status("nobody")
    np.testing.assert_allclose(ovms.predict({"x": [1.0]}, "half_plus_three"), [3.5])


# --- requests


@pytest.fixture
def url(server: ServerProcess) -> str:
    return f"http://{server.host}:{server.port}"


def test_requests_with_json_and_with_data(url: str):
    body = {"instances": [1.0, 2.0, 5.0]}
    with requests.Session() as session:
        for sent in ({"json": body}, {"data": json.dumps(body)}, {"data": iter([json.dumps(body).encode()])}):
            answer = session.post(f"{url}{HALF_PLUS_THREE}:predict", timeout=WITHIN_S, **sent)
            assert answer.json() == {"predictions": [3.5, 4.0, 5.5]}
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["x-model-version"] == "123"
        assert session.get(url + HALF_PLUS_THREE, timeout=WITHIN_S).json() == {
            "model_version_status": [STATUS, {**STATUS, "version": "122"}]
        }
        metadata = session.get(f"{url}{HALF_PLUS_THREE}/metadata", timeout=WITHIN_S).json()
        signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
        missing = session.post(f"{url}/v1/models/half:predict", json=body, timeout=WITHIN_S)
        assert (missing.status_code, missing.json()) == (404, {"error": "Servable not found for request: Latest(half)"})
        assert session.options(f"{url}{HALF_PLUS_THREE}", headers={"Origin": url}, timeout=WITHIN_S).ok


def test_requests_reads_long_answers_that_were_compressed_for_it(url: str):
    rows = [[number, -number] for number in range(20_000)]
    answer = requests.post(f"{url}/v1/models/whole:predict", json={"instances": rows}, timeout=WITHIN_S)
    assert answer.headers["content-encoding"] == "gzip", "it asks for that by itself"
    assert answer.json() == {"predictions": rows}


def test_the_image_client_of_the_tutorials(url: str):
    """Text in base64, one request, the time of the answer: as resnet_client.py does it."""
    encoded = base64.b64encode(b"an image, say").decode("utf-8")
    predict_request = f'{{"instances": [{{"b64": "{encoded}"}}]}}'
    response = requests.post(f"{url}/v1/models/strings:predict", data=predict_request, timeout=WITHIN_S)
    response.raise_for_status()
    assert response.elapsed.total_seconds() > 0
    assert response.json()["predictions"] == ["an image, say"]


# --- curl


@pytest.fixture
def curl(url: str) -> Any:
    program = shutil.which("curl")
    if program is None:
        pytest.skip("there is no curl on this machine")

    def curl(*arguments: str, path: str = HALF_PLUS_THREE, given: bytes | None = None) -> str:
        command = [program, "-sS", "--max-time", str(WITHIN_S), *arguments, url + path]
        ended = subprocess.run(command, capture_output=True, input=given, timeout=2 * WITHIN_S, check=False)
        assert ended.returncode == 0, ended.stderr.decode()
        return ended.stdout.decode()

    return curl


def test_curl_as_the_documents_show_it(curl: Any):
    assert json.loads(curl())["model_version_status"][0] == STATUS
    assert json.loads(curl("-X", "GET"))["model_version_status"][0] == STATUS
    predicted = curl("-d", '{"instances": [1.0,2.0,5.0]}', "-X", "POST", path=f"{HALF_PLUS_THREE}:predict")
    assert json.loads(predicted) == {"predictions": [3.5, 4.0, 5.5]}
    columns = curl("-d", '{"inputs": [1.0,2.0,5.0]}', "-X", "POST", path=f"{HALF_PLUS_THREE}/versions/122:predict")
    assert json.loads(columns) == {"outputs": [2.5, 3.0, 4.5]}
    regressed = curl("-d", '{"examples": [{"x": 1.0}, {"x": 2.0}]}', "-X", "POST", path=f"{HALF_PLUS_THREE}:regress")
    assert json.loads(regressed) == {"results": [3.5, 4.0]}
    missing = curl("-i", "-d", '{"instances": [1.0,5.0]}', "-X", "POST", path="/v1/models/half:predict")
    head, _, body = missing.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 404 Not Found")
    assert "content-type: application/json" in head.lower()
    assert json.loads(body) == {"error": "Servable not found for request: Latest(half)"}


GOOD = '{"instances": [1.0, 2.0, 5.0]}'
WAYS = {
    "HTTP/1.0": ("--http1.0", "-d", GOOD),
    "HTTP/2 without asking first": ("--http2-prior-knowledge", "-d", GOOD),
    "an upgrade to HTTP/2 offered": ("--http2", "-d", GOOD),
    "leave asked for": ("-H", "Expect: 100-continue", "-d", GOOD),
    "in chunks": ("-H", "Transfer-Encoding: chunked", "-d", GOOD),
    "an answer compressed if it likes": ("--compressed", "-d", GOOD),
    "with a type": ("-H", "Content-Type: application/json", "-d", GOOD),
    "without a type": ("-H", "Content-Type:", "-d", GOOD),
    "a connection for it alone": ("-H", "Connection: close", "-d", GOOD),
}


@pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))
def test_curl_in_every_way(curl: Any, way: tuple[str, ...]):
    if any(option.startswith("--http2") for option in way) and "HTTP2" not in _features():
        pytest.skip("this curl has no HTTP/2")
    assert json.loads(curl(*way, path=f"{HALF_PLUS_THREE}:predict")) == {"predictions": [3.5, 4.0, 5.5]}


def _features() -> str:
    program = shutil.which("curl")
    assert program is not None
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout


def test_curl_with_a_file_so_long_that_it_asks_first(curl: Any, tmp_path: Path):
    rows = [[number, -number] for number in range(100_000)]
    file = tmp_path / "long.json"
    file.write_text(json.dumps({"instances": rows}))
    assert file.stat().st_size > 1 << 20
    for way in (("--data-binary", f"@{file}"), ("--compressed", "--data-binary", f"@{file}")):
        assert json.loads(curl(*way, path="/v1/models/whole:predict")) == {"predictions": rows}
    piped = curl("-X", "POST", "-T", "-", path="/v1/models/whole:predict", given=file.read_bytes())
    assert json.loads(piped) == {"predictions": rows}


def test_curl_asks_for_the_headers_alone(curl: Any):
    assert curl("-I", path="/readyz").startswith("HTTP/1.1 200 OK")
    assert curl("-I").startswith("HTTP/1.1 400 Bad Request")


def test_curl_asks_like_a_browser(curl: Any):
    told = curl("-i", "-X", "OPTIONS", "-H", "Origin: https://a.example", path=f"{HALF_PLUS_THREE}:predict")
    assert told.startswith("HTTP/1.1 200 OK")
    assert "access-control-allow-origin" not in told.lower()
