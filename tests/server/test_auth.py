"""Users and keys of a served process, as their clients have them; and that no secret of theirs is to be found anywhere."""

import base64
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import tritonclient.http as triton
from tritonclient.http.auth import BasicAuth
from tritonclient.utils import InferenceServerException

from fastserve.access.hashes import hash_key, hash_password
from tests.support import models
from tests.support.coroutine_serve import COROUTINES_ONLY
from tests.support.served import FASTSERVE, launched, wire
from tests.support.server import ServerProcess, free_port
from tests.support.shelf import times
from tests.support.waiting import WITHIN_S
from tests.support.wire import Wire

PASSWORD = "fanatic: with a colon"
KEY, ADMIN_KEY, RESTRICTED_KEY = "key-of-programs-123456", "key-of-the-admin-123456", "key-for-model-m-only-123456"
CLEAR_KEY = "key-from-the-environment"
SECRETS = (PASSWORD, KEY, ADMIN_KEY, RESTRICTED_KEY, CLEAR_KEY)
BASIC = "Authorization: Basic " + base64.b64encode(f"pineapple:{PASSWORD}".encode()).decode()
PREDICT = "/v1/models/m:predict"
BODY = b'{"instances": [[1, 2]]}'
DOORS = {
    "direct": (("fastserve", "serve"), ("--interface", "rsgi")),
    "coroutines": (COROUTINES_ONLY, ()),
    "asgi": (("fastserve", "serve"), ("--interface", "asgi")),
    "two workers": (("fastserve", "serve"), ("--workers", "2")),
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("auth")
    for name in ("m", "other"):
        models.save(times(1), folder / "models" / name / "1")
    file = folder / "fastserve.toml"
    file.write_text(
        f"""
[server]
log_dir = "log"
access_log = "access.log"

[repository]
path = "models"

[[models]]
name = "m"
aliases = ["deployment-42"]

[[models]]
name = "other"
aliases = ["m2"]

[[auth.users]]
username = "pineapple"
password_hash = "{hash_password(PASSWORD)}"

[[auth.keys]]
name = "program"
key_hash = "{hash_key(KEY)}"

[[auth.keys]]
name = "boss"
key_hash = "{hash_key(ADMIN_KEY)}"
scopes = ["admin", "read"]

[[auth.keys]]
name = "restricted"
key_hash = "{hash_key(RESTRICTED_KEY)}"
scopes = ["infer", "read", "admin"]
models = ["m*"]

[[auth.keys]]
name = "clear"
key = "${{SOME_KEY}}"
"""
    )
    return file


ENVIRONMENT = {"SOME_KEY": CLEAR_KEY}


def fastserve(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A command of ours, and what it printed."""
    return subprocess.run(
        [FASTSERVE, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


@pytest.fixture(scope="module", params=list(DOORS))
def server(request: pytest.FixtureRequest, config: Path) -> Iterator[ServerProcess]:
    program, options = DOORS[request.param]
    with ServerProcess(str(config), *options, program=program, environment=ENVIRONMENT) as server:
        yield server


RIGHT = [
    BASIC,
    f"Authorization: Bearer {KEY}",
    f"authorization: bearer {KEY}",
    f"X-API-Key: {KEY}",
    f"x-api-key: {CLEAR_KEY}",
]
WRONG = [
    "Authorization: Basic",
    "Authorization: Basic %%%",
    "Authorization: Basic cGluZWFwcGxlOmZhbmF0aWM=",
    "Authorization: Basic " + base64.b64encode(b"\xff\xfe:\x00").decode(),
    f"Authorization: {KEY}",
    f"Authorization: Bearer {KEY}x",
    "Authorization: " + "x" * 8000,
    "Authorization: \x80\xff",
    "X-API-Key:",
    f"X-API-Key: Bearer {KEY}",
]


@pytest.mark.parametrize("header", RIGHT)
def test_who_is_known_is_served_again_and_again(server: ServerProcess, header: str) -> None:
    with wire(server) as one:
        for _ in range(5):
            answer = one.post(PREDICT, BODY, header)
            assert (answer.status, answer.body) == (200, b'{"predictions": [[1,2]]}')


@pytest.mark.parametrize("header", WRONG)
def test_garbage_is_401_in_tf_servings_shape(server: ServerProcess, header: str) -> None:
    with wire(server) as one:
        for path in (PREDICT, "/model-serving/m/versions/1:predict", "/v1/models/m/nonsense"):
            one.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n".encode())
            one.write(header.encode("latin-1") + b"\r\n\r\n{}")
            answer = one.answer()
            assert answer.status == 401
            challenges = answer.all("www-authenticate")
            assert [challenge.partition(" ")[0] for challenge in challenges] == ["Basic", "Bearer"]
            assert challenges[0].startswith('Basic realm="')
            assert list(json.loads(answer.body)) == ["error"]


def test_nobody_gets_more_than_health(server: ServerProcess) -> None:
    with wire(server) as one:
        open_paths = ("/livez", "/readyz", "/startupz", "/v2/health/live", "/v2/health/ready", "/v2/models/m/ready")
        assert [one.get(path).status for path in open_paths] == [200] * len(open_paths)
        for path in ("/metrics", "/v1/models/m", "/v2", "/v2/models/m", "/nowhere", "/docs"):
            answer = one.get(path)
            assert answer.status == 401
            assert "this server asks who is calling" in json.loads(answer.body)["error"]


def test_admin_calls_take_the_scope_from_wherever_they_come(server: ServerProcess) -> None:
    path = "/v2/repository/models/m/load"
    with wire(server) as one:
        assert one.post(path, b"{}").status == 401
        assert one.post(path, b"{}", f"X-API-Key: {KEY}").status == 403
        assert one.post(path, b"{}", BASIC).status == 403
        assert one.post(path, b"{}", f"X-API-Key: {ADMIN_KEY}").status == 200
        assert one.post(PREDICT, BODY, f"X-API-Key: {ADMIN_KEY}").status == 403


RESTRICTED = f"X-API-Key: {RESTRICTED_KEY}"
OPEN_INFERENCE = b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "INT64", "data": [1, 2]}]}'
TO_OTHERS = [
    ("/v1/models/other:predict", BODY),
    ("/v1/models/other/versions/1:predict", BODY),
    ("/model-serving/other:predict", BODY),
    ("/v1/models/%6Fther:predict", BODY),
    ("/v1/models/m2:predict", BODY),
    ("/v2/models/other/infer", OPEN_INFERENCE),
    ("/v2/models/other/versions/1/infer", OPEN_INFERENCE),
    ("/v2/models/m2/infer", OPEN_INFERENCE),
    ("/v2/models/none-such/infer", OPEN_INFERENCE),
    ("/v2/repository/models/other/unload", b"{}"),
    ("/v2/repository/models/m2/unload", b"{}"),
    ("/", b'{"model": "other", "operation": "infer", "inputs": [[1, 2]]}'),
    ("/", b'{"model": "other:1", "inputs": [[1, 2]]}'),
    ("/", b'{"model": "m2", "inputs": [[1, 2]]}'),
]


@pytest.mark.parametrize(("path", "body"), TO_OTHERS)
def test_a_key_for_some_models_reaches_no_other_by_any_name(server: ServerProcess, path: str, body: bytes) -> None:
    with wire(server) as one:
        answer = one.post(path, body, RESTRICTED)
        assert answer.status == 403
        assert "may not use the model" in json.loads(answer.body)["error"]


def test_no_event_path_leads_a_restricted_key_to_other_models(server: ServerProcess) -> None:
    with wire(server) as one:
        for path, status in (("/v2/models/other/infer", 403), ("/v2/models/m/infer", 200)):
            assert one.post("/", b'{"inputs": [[1, 2]]}', RESTRICTED, f"MLRun-Event-Path: {path}").status == status


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PREDICT, BODY),
        ("/v1/models/deployment-42:predict", BODY),
        ("/", b'{"model": "deployment-42", "inputs": [[1, 2]]}'),
        ("/", b'{"inputs": [[1, 2]]}'),
        ("/v2/models/m/infer", b'{"inputs": [[1, 2]]}'),
    ],
)
def test_a_key_for_some_models_uses_them_by_any_name(server: ServerProcess, path: str, body: bytes) -> None:
    with wire(server) as one:
        assert one.post(path, body, RESTRICTED).status == 200


def test_a_key_for_some_models_sees_only_them(server: ServerProcess) -> None:
    with wire(server) as one:
        shown = [one.post("/v2/repository/index", b"{}", RESTRICTED)]
        for path in ("/v2/models", "/v2/models/stats"):
            one.head("GET", path, RESTRICTED)
            shown.append(one.answer())
        for answer in shown:
            assert answer.status == 200
            assert b'"m"' in answer.body
            assert b"other" not in answer.body
        assert one.post("/v1/models/other:predict", BODY, f"X-API-Key: {KEY}").status == 200
        assert one.post(PREDICT, BODY, RESTRICTED).status == 200
        for header, names in ((RESTRICTED, {"m"}), (f"X-API-Key: {ADMIN_KEY}", {"m", "other"})):
            one.head("GET", "/metrics", header)
            answer = one.answer()
            assert answer.status == 200
            assert set(re.findall(r'[{,]model="([^"]+)"', answer.body.decode())) == names
            assert b"fastserve_workers{" in answer.body


def test_a_batch_fails_where_it_asks_for_what_is_forbidden_and_only_there(server: ServerProcess) -> None:
    names = ["m", "other", "m2", "none-such", "deployment-42"]
    body = json.dumps({"predictions": [{"model_name": name} for name in names]}).encode()
    with wire(server) as one:
        answer = one.post("/v1/predict", body, RESTRICTED, "Content-Type: application/json")
        assert answer.status == 200
        found = json.loads(answer.body)["predictions"]
    assert [item["model_name"] for item in found] == names
    assert ["may not use the model" in item["error_message"] for item in found] == [False, True, True, True, False]
    assert [item["status"] for item in found] == ["InternalError", *["BadRequest"] * 3, "InternalError"]
    assert ["model_version" in item for item in found] == [True, False, False, False, True]


def test_large_and_chunked_bodies_are_asked_for_the_same(server: ServerProcess) -> None:
    large = b'{"instances": [' + b"[1, 2]," * 20_000 + b"[1, 2]]}"
    with wire(server) as one:
        assert one.post(PREDICT, large, f"X-API-Key: {KEY}").status == 200
    with wire(server) as one:
        one.head("POST", PREDICT, f"Content-Length: {len(large)}", "Expect: 100-continue")
        assert one.answer().status == 401, "before a byte of the body was sent"


def test_clients_as_they_are(server: ServerProcess) -> None:
    base = f"http://{server.host}:{server.port}"
    body = json.loads(BODY)
    assert requests.post(base + PREDICT, json=body, auth=("pineapple", PASSWORD), timeout=WITHIN_S).status_code == 200
    assert requests.post(base + PREDICT, json=body, auth=("pineapple", "x"), timeout=WITHIN_S).status_code == 401
    client = triton.InferenceServerClient(f"{server.host}:{server.port}")
    client.register_plugin(BasicAuth("pineapple", PASSWORD))
    assert client.get_model_metadata("m")["name"] == "m"
    client.unregister_plugin()
    with pytest.raises(InferenceServerException, match="401"):
        client.get_model_metadata("m")
    client.close()
    assert fastserve("predict", base, "m", "--data", "[1, 2]", FASTSERVE_API_KEY=RESTRICTED_KEY).returncode == 0
    with_user = f"pineapple:fanatic%3A%20with%20a%20colon@{server.host}:{server.port}"
    assert fastserve("models", with_user).returncode == 0
    done = fastserve("models", with_user.replace("fanatic", "wrong"))
    assert done.returncode == 1
    assert "wrong" not in done.stderr + done.stdout


def test_no_secret_is_in_any_log_metric_or_output(server: ServerProcess, config: Path) -> None:
    with wire(server) as one:
        for header in [*RIGHT, f"Authorization: Bearer {ADMIN_KEY}", RESTRICTED, "X-API-Key: wrong-key-that-is-secret"]:
            one.post(PREDICT, BODY, header)
        one.head("GET", "/metrics", BASIC)
        metrics = one.answer().body.decode()
    assert 'fastserve_refused_total{reason="unauthenticated"}' in metrics
    hashes = [line.split('"')[1] for line in config.read_text().splitlines() if "_hash" in line]
    written = metrics + server.output + "".join(file.read_text() for file in config.parent.rglob("*.log"))
    assert '"status":401' in written
    for secret in (*SECRETS, *hashes, "wrong-key-that-is-secret", BASIC.rpartition(" ")[2]):
        assert secret not in written


def test_check_prints_no_secret(config: Path) -> None:
    for environment in (ENVIRONMENT, {}):
        done = fastserve("check", str(config), "--debug", **environment)
        assert done.returncode == (0 if environment else 1)
        assert ("auth.keys[3].key: the environment has no variable SOME_KEY" in done.stdout) == (not environment)
        assert [secret for secret in (*SECRETS, "$scrypt", "$blake2b") if secret in done.stdout + done.stderr] == []


def test_a_server_that_others_reach_warns_of_what_is_missing(config: Path) -> None:
    port = str(free_port())
    with launched(str(config), "--host", "0.0.0.0", "--port", port, environment=ENVIRONMENT) as (_, output):
        assert "warning: 0.0.0.0 is reachable from other machines, and passwords and keys go there in clear" in output()
        with Wire(("127.0.0.1", int(port))) as one:
            assert one.post("/v2/repository/models/m/load", b"{}", f"X-API-Key: {ADMIN_KEY}").status == 200
    with launched(str(config.parent / "models"), "--host", "0.0.0.0", "--port", port) as (_, output):
        assert "warning: 0.0.0.0 is reachable from other machines, and this server asks nobody who they are" in output()
        with Wire(("127.0.0.1", int(port))) as one:
            assert one.post("/v2/repository/models/m/load", b"{}").status == 403
