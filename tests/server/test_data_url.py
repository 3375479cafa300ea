"""data_url through a served process: what is allowed is read, and a slow place there holds up nobody here."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto as T

from tests.support import models
from tests.support.server import ServerProcess
from tests.support.waiting import WITHIN_S
from tests.support.web import Site, site
from tests.support.wire import Wire

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGPgEpEDAABoAD1UCKP3AAAAAElFTkSuQmCC")
"""(10, 20, 30)."""

ROW = {"inputs": [[1, 2]]}
CONFIG = """
[repository]
path = "models"

[[models]]
name = "m"
features = ["a", "b"]

[data_url]
allow = ["{web}", "file:data/"]
max_bytes = 1000
timeout_ms = 20000
"""


@pytest.fixture(scope="module")
def web() -> Iterator[Site]:
    with site() as found:
        found.page("/data/rows.json", b"[[1, 2], [3, 4]]")
        found.page("/data/body.json", b'{"id": "not this", "inputs": [[5, 6]], "outputs": ["nope"]}', "text/plain")
        found.page("/data/named.json", b'[{"b": 2, "a": 1}]')
        found.page(
            "/data/tensor.json", b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [7, 8]}]}'
        )
        found.page("/data/again.json", b'{"data_url": "file:///etc/passwd"}')
        found.page("/data/broken.json", b"{")
        found.page("/data/pixel", PIXEL, "image/png")
        found.page("/data/big.json", b"1" * 1001)
        yield found


@pytest.fixture(scope="module")
def server(web: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("data_url")
    models.save(models.identity(T.FLOAT, ("N", 2)), root / "models" / "m" / "1")
    models.save(models.identity(T.UINT8, ("N", 3, "H", "W")), root / "models" / "image" / "1")
    (root / "data").mkdir()
    (root / "data" / "rows.json").write_text("[[9, 10]]")
    (root / "secret.json").write_text("[[11, 12]]")
    (root / "data" / "link.json").symlink_to("../secret.json")
    (root / "fastserve.toml").write_text(CONFIG.format(web=web.url("/data/")))
    with ServerProcess(str(root / "fastserve.toml")) as started:
        started.root = root  # type: ignore[attr-defined]
        yield started


def post(server: ServerProcess, path: str, body: Any) -> tuple[int, Any]:
    with Wire((server.host, server.port)) as wire:
        answer = wire.post(path, json.dumps(body).encode())
    return answer.status, json.loads(answer.body)


READ = [
    ("m/infer", "/data/rows.json", [[1.0, 2.0], [3.0, 4.0]]),
    ("m/predict", "/data/body.json", [[5.0, 6.0]]),
    ("m", "/data/tensor.json", [[7.0, 8.0]]),
    ("m/infer_dict", "/data/named.json", [[1.0, 2.0]]),
    ("image/infer", "/data/pixel", [[[[10]], [[20]], [[30]]]]),
]


@pytest.mark.parametrize(("path", "page", "outputs"), READ)
def test_what_is_there_is_the_inputs(
    web: Site, server: ServerProcess, path: str, page: str, outputs: list[Any]
) -> None:
    if page == "/data/body.json":
        web.page(page, b'{"id": "not this", "inputs": [[5, 6]]}', "text/plain")
    status, answer = post(server, f"/v2/models/{path}", {"id": "7", "data_url": web.url(page)})
    assert status == 200, answer
    assert (answer["id"], answer["outputs"]) == ("7", outputs)


def test_files(server: ServerProcess) -> None:
    folder: Path = server.root  # type: ignore[attr-defined]
    status, answer = post(server, "/v2/models/m/infer", {"data_url": f"file://{folder}/data/rows.json"})
    assert (status, answer["outputs"]) == (200, [[9.0, 10.0]])
    for name in ("data/link.json", "secret.json", "data/../secret.json"):
        status, answer = post(server, "/v2/models/m/infer", {"data_url": f"file://{folder}/{name}"})
        assert status in (400, 403)
        assert "11" not in answer["error"].replace(str(folder), "")


REFUSED = [
    ("/data/none.json", 400, "404"),
    ("/data/broken.json", 400, "JSON"),
    ("/data/again.json", 400, "$.data_url"),
    ("/data/big.json", 413, "1000 bytes"),
    ("/other.json", 403, "allow"),
]


@pytest.mark.parametrize(("page", "status", "said"), REFUSED)
def test_what_cannot_be_read_is_told(web: Site, server: ServerProcess, page: str, status: int, said: str) -> None:
    found, answer = post(server, "/v2/models/m/infer", {"data_url": web.url(page)})
    assert found == status
    assert said in answer["error"]


def test_a_slow_place_holds_up_nobody(web: Site, server: ServerProcess) -> None:
    go, asked = threading.Event(), threading.Semaphore(0)

    def slow(request: BaseHTTPRequestHandler) -> None:
        asked.release()
        go.wait(WITHIN_S)
        request.send_response(200)
        request.send_header("Content-Length", "8")
        request.end_headers()
        request.wfile.write(b"[[1, 2]]")

    web.pages["/data/slow.json"] = slow
    body = {"data_url": web.url("/data/slow.json")}
    answers: list[tuple[int, Any]] = []
    clients = [
        threading.Thread(target=lambda: answers.append(post(server, "/v2/models/m/infer", body))) for _ in range(6)
    ]
    for client in clients:
        client.start()
    assert asked.acquire(timeout=WITHIN_S)
    for _ in range(20):  # small and large: every thread that serves others is free
        assert post(server, "/v2/models/m/infer", ROW)[0] == 200
    assert post(server, "/v2/models/m/infer", {"inputs": [[1, 2]] * 20_000})[0] == 200
    assert answers == []
    go.set()
    for client in clients:
        client.join(WITHIN_S)
    assert [status for status, _ in answers] == [200] * 6
