"""Every route x {nobody, wrong credentials, the wrong scope, the right one} x every form of credentials, as clients have it:
over HTTP/1.1 and HTTP/2, in clear and over TLS. FASTSERVE_TEST_MATRIX=1 asks all of it, else the forms take turns.

`tests/protocols/test_rights_of_routes.py` asks the same of the application, with more kinds of garbage.
"""

import os
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fastserve.access.hashes import hash_key, hash_password
from fastserve.types import SCOPES
from tests.support import models
from tests.support.authority import Authority
from tests.support.server import ServerProcess
from tests.support.shelf import times
from tests.support.waiting import WITHIN_S

DECIDED = Path(__file__).parents[1] / "protocols" / "cases" / "rights.txt"
ROUTES = [tuple(line.split()) for line in DECIDED.read_text().splitlines() if line and not line.startswith("#")]
WHOLE = bool(os.environ.get("FASTSERVE_TEST_MATRIX"))
KEYS = {scope: f"the-key-of-those-who-{scope}" for scope in SCOPES}
WRONG_KEY, WRONG_PASSWORD = "a-key-that-nobody-has", "wrong"


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def forms(scope: str) -> list[dict[str, str]]:
    """What somebody with that scope may send."""
    key = KEYS[scope]
    found = [{"authorization": f"Bearer {key}"}, {"x-api-key": key}, basic(scope, f"{scope}'s password")]
    return [*found, {"authorization": key}] if scope == "log" else found


BAD = [
    {"authorization": f"Bearer {WRONG_KEY}"},
    {"authorization": WRONG_KEY},
    {"x-api-key": WRONG_KEY},
    basic("infer", WRONG_PASSWORD),
    basic("nobody", WRONG_PASSWORD),
    {"authorization": f"Bearer {WRONG_KEY}", "x-api-key": ""},
    {"x-api-key": WRONG_KEY, "authorization": f"Bearer {KEYS['infer']}"},
]
"""The last one: where both are sent, the key of its own header is the one that counts."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("matrix")
    models.save(times(1), folder / "models" / "m" / "1")
    lines = [
        "[server]",
        'metrics_path = "/more-metrics"',
        "[repository]",
        'path = "models"',
        "[log]",
        'directory = "log"',
    ]
    for scope in sorted(SCOPES):
        lines += [
            "[[auth.keys]]",
            f'name = "{scope}"',
            f'key_hash = "{hash_key(KEYS[scope])}"',
            f'scopes = ["{scope}"]',
        ]
        hashed = hash_password(f"{scope}'s password")
        lines += ["[[auth.users]]", f'username = "{scope}"', f'password_hash = "{hashed}"', f'scopes = ["{scope}"]']
    (folder / "fastserve.toml").write_text("\n".join(lines))
    return folder / "fastserve.toml"


@pytest.fixture(scope="module", params=["in clear", "over TLS"])
def base(request: pytest.FixtureRequest, config: Path, authority: Authority) -> Iterator[tuple[str, Authority]]:
    if request.param == "in clear":
        with ServerProcess(str(config)) as server:
            yield f"http://127.0.0.1:{server.port}", authority
        return
    certificate, key = authority.issue("server")
    options = ("--ssl-certificate", str(certificate), "--ssl-keyfile", str(key))
    with ServerProcess(str(config), *options, tls=authority.trusting()) as server:
        yield f"https://127.0.0.1:{server.port}", authority


@pytest.fixture(scope="module", params=["HTTP/1.1", "HTTP/2"])
def client(request: pytest.FixtureRequest, base: tuple[str, Authority]) -> Iterator[httpx.Client]:
    url, authority = base
    http2 = request.param == "HTTP/2"
    verify = authority.trusting() if url.startswith("https") else True
    with httpx.Client(base_url=url, http1=not http2, http2=http2, verify=verify, timeout=WITHIN_S) as client:
        assert client.get("/livez").http_version == request.param
        yield client


def ask(client: httpx.Client, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    return client.request(method, path, headers=headers, content=b"{}" if method == "POST" else None)


def some(all_of_them: list[dict[str, str]], number: int) -> list[dict[str, str]]:
    """All, or the one whose turn it is: each comes to its turn at some routes."""
    return all_of_them if WHOLE else [all_of_them[number % len(all_of_them)]]


def test_nobody_and_wrong_credentials_get_no_further_than_health(client: httpx.Client) -> None:
    for number, (scope, method, path) in enumerate(ROUTES):
        for headers in ({}, *some(BAD, number)):
            answer = ask(client, method, path, headers)
            refused = {"open": (), "log": (403,)}.get(scope, (401,))  # clients of the log know 403 only
            assert (answer.status_code in refused) == (scope != "open"), (method, path, headers)
            assert answer.status_code in refused or answer.status_code not in (401, 403)
            assert WRONG_KEY not in answer.text


def test_the_right_scope_is_let_in_by_every_form_of_credentials_and_others_are_not(client: httpx.Client) -> None:
    scopes = sorted(SCOPES)
    for number, (scope, method, path) in enumerate(ROUTES):
        others = [other for other in scopes if other != scope]
        for other in scopes if WHOLE else {scope if scope in SCOPES else "infer", others[number % len(others)]}:
            for headers in some(forms(other), number):
                if other == "log" and scope != "log" and headers == {"authorization": KEYS["log"]}:
                    continue  # a key without a scheme is one for the log only
                status = ask(client, method, path, headers).status_code
                allowed = scope in ("open", other)
                assert (status not in (401, 403)) if allowed else (status == 403), (method, path, headers)


def test_odd_ways_to_a_path_lead_around_nothing(client: httpx.Client) -> None:
    for path in (
        "//v1/models/m:predict",
        "/v1//models/m:predict",
        "/v1/models/m%3Apredict",
        "/%76%31/models/m:predict",
    ):
        assert client.post(path, content=b"{}").status_code == 401
    for path in ("/livez/../v2/models/m", "/livez/..%2fv2/models/m", "/livez;/v2/models/m", "/livez%00", "/LIVEZ"):
        assert client.get(path).status_code == 401
    overriding = {"x-http-method-override": "GET", "x-original-url": "/livez", "x-rewrite-url": "/livez"}
    assert client.post("/v2/repository/models/m/unload", content=b"{}", headers=overriding).status_code == 401
    for method in ("PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"):
        assert client.request(method, "/v1/models/m:predict").status_code == 401
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "eA==",
    }
    if client.get("/livez").http_version == "HTTP/1.1":
        assert client.get("/v2/models/m", headers=upgrade).status_code == 401
        assert (
            client.get("/v2/models/m", headers={"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c"}).status_code
            == 401
        )
