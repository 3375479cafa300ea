"""HTTPS as clients have it, and certificates that cannot be used, told before anything starts."""

import http.client
import json
import re
import ssl
import subprocess
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest

from fastserve.config import AuthConfig, Config, KeyConfig, ServerConfig
from fastserve.errors import ConfigError
from fastserve.server.certificates import Certificates
from fastserve.server.exposure import exposure, warnings
from tests.support import models
from tests.support.authority import Authority
from tests.support.served import FASTSERVE, launched
from tests.support.server import free_port
from tests.support.shelf import times
from tests.support.waiting import WITHIN_S, until
from tests.support.wire import Wire


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one quick model."""
    folder = tmp_path_factory.mktemp("models")
    models.save(times(1), folder / "m" / "1")
    return folder


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def own(authority: Authority) -> tuple[Path, Path]:
    """The server's certificate and key."""
    return authority.issue("server")


def options(own: tuple[Path, Path]) -> tuple[str, ...]:
    return ("--ssl-certificate", str(own[0]), "--ssl-keyfile", str(own[1]))


REFUSED = "(?i)certificate|alert|reset|EOF|closed|pipe"


def ask_over_tls(port: int, context: ssl.SSLContext) -> int:
    """The status of /readyz, ready a moment after the table at start. Raises OSError where no connection comes about."""
    statuses: list[int] = []

    def asked() -> bool:
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=WITHIN_S)
        try:
            connection.request("GET", "/readyz")
            statuses.append(connection.getresponse().status)
        finally:
            connection.close()
        return statuses[-1] != HTTPStatus.SERVICE_UNAVAILABLE

    until(asked)
    return statuses[-1]


def test_https_with_a_certificate_and_with_clients_that_must_have_one(
    folder: Path, tmp_path: Path, authority: Authority, own: tuple[Path, Path]
) -> None:
    trusting = ssl.create_default_context(cafile=str(authority.certificate))
    port = free_port()
    with launched(str(folder), "--port", str(port), *options(own)) as (_, output):
        assert f"https://127.0.0.1:{port}/readyz" in output()
        assert ask_over_tls(port, trusting) == 200
        with pytest.raises(ssl.SSLError):
            ask_over_tls(port, ssl.create_default_context())
    with launched(str(folder), "--port", str(port), *options(own), "--ssl-ca", str(authority.certificate)):
        with pytest.raises(OSError, match=REFUSED):
            ask_over_tls(port, trusting)
        stranger = Authority(tmp_path, "stranger").issue("unknown")
        knowing = ssl.create_default_context(cafile=str(authority.certificate))
        knowing.load_cert_chain(*stranger)
        with pytest.raises(OSError, match=REFUSED):
            ask_over_tls(port, knowing)
        knowing.load_cert_chain(*authority.issue("client"))
        assert ask_over_tls(port, knowing) == 200


@pytest.fixture(scope="module")
def port(folder: Path, own: tuple[Path, Path]) -> Iterator[int]:
    """Of a server with a certificate."""
    port = free_port()
    with launched(str(folder), "--port", str(port), *options(own)):
        yield port


def test_http_2_over_tls(port: int, authority: Authority) -> None:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    with httpx.Client(http2=True, verify=context, base_url=f"https://127.0.0.1:{port}", timeout=WITHIN_S) as client:
        for _ in range(3):
            answer = client.post("/v1/models/m:predict", json={"instances": [[1, 2]]})
            assert answer.http_version == "HTTP/2"
            assert answer.json() == {"predictions": [[1, 2]]}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(port: int, authority: Authority, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.minimum_version = context.maximum_version = version
    assert ask_over_tls(port, context) == 200


def test_tls_1_1_is_not_spoken(port: int) -> None:
    offer = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]
    done = subprocess.run(offer, input=b"", capture_output=True, timeout=WITHIN_S, check=False)
    assert b"Cipher is (NONE)" in done.stdout, done.stderr


def test_plain_http_on_a_tls_port_gets_no_answer(port: int) -> None:
    with Wire(("127.0.0.1", port)) as one:
        one.head("GET", "/readyz")
        assert b"HTTP" not in one.rest()


@pytest.mark.parametrize("kind", ["rsa, traditional", "ec, traditional"])
def test_keys_in_older_files_serve(folder: Path, tmp_path: Path, kind: str) -> None:
    certificate, modern = Authority(tmp_path, "another").issue("server", kind.partition(",")[0])
    key = tmp_path / "traditional.key"
    Authority.openssl("pkey", "-traditional", "-in", str(modern), "-out", str(key))
    assert re.match(r"-----BEGIN (RSA|EC) PRIVATE KEY", key.read_text())
    context = ssl.create_default_context(cafile=str(tmp_path / "another.pem"))
    port = free_port()
    with launched(str(folder), "--port", str(port), *options((certificate, key))) as (_, output):
        assert ask_over_tls(port, context) == 200, output()


def refusal(certificate: Path, key: Path, ca: Path | None = None) -> str:
    """What is said of these files before a server starts."""
    server = ServerConfig(ssl_certificate=str(certificate), ssl_keyfile=str(key), ssl_ca=str(ca) if ca else None)
    with pytest.raises(ConfigError) as caught:
        Certificates(server)
    return str(caught.value)


def test_files_that_cannot_be_used_are_told_by_their_names(
    tmp_path: Path, authority: Authority, own: tuple[Path, Path]
) -> None:
    certificate, key = own
    nonsense, encrypted = tmp_path / "nonsense.pem", tmp_path / "encrypted.pem"
    nonsense.write_text("nonsense")
    Authority.openssl("pkey", "-aes256", "-passout", "pass:x", "-in", str(key), "-out", str(encrypted))
    _, another = authority.issue("another")
    missing = tmp_path / "missing.pem"
    unserved = {kind: authority.issue(kind.replace(":", "-"), kind) for kind in ("ed448", "rsa:1024")}
    for wrong, reason in (
        (unserved["ed448"], "expected a key, and certificates, of RSA (2048 to 4096 bits), ECDSA (P-256, P-384)"),
        (unserved["rsa:1024"], "it is too short: expected a key, and certificates, of RSA (2048 to 4096 bits)"),
        ((missing, key), f"{missing}: cannot be read: No such file or directory (--ssl-certificate)"),
        ((certificate, missing), f"{missing}: cannot be read: No such file or directory (--ssl-keyfile)"),
        ((tmp_path, key), f"{tmp_path}: cannot be read: Is a directory (--ssl-certificate)"),
        ((nonsense, key), f"{nonsense}: expected certificates in PEM (--ssl-certificate)"),
        ((key, key), f"{key}: expected certificates in PEM (--ssl-certificate)"),
        ((certificate, nonsense), f"{nonsense}: expected a private key in PEM (--ssl-keyfile"),
        ((certificate, another), f"{another}: it is the key of another certificate (--ssl-keyfile"),
        ((certificate, encrypted), f"{encrypted}: it is encrypted; give it without a password"),
        ((certificate, key, missing), f"{missing}: cannot be read: No such file or directory (--ssl-ca)"),
        ((certificate, key, nonsense), f"{nonsense}: expected certificates in PEM (--ssl-ca)"),
    ):
        assert reason in refusal(*wrong)
    Certificates(ServerConfig(ssl_certificate=str(certificate), ssl_keyfile=str(key)))


def test_check_tells_certificates_that_cannot_be_used(folder: Path, tmp_path: Path, own: tuple[Path, Path]) -> None:
    for key, reason in ((own[1], ""), (own[0], f"{own[0]}: expected a private key in PEM (--ssl-keyfile")):
        file = tmp_path / "fastserve.toml"
        text = f"[server]\nhost = '0.0.0.0'\nssl_certificate = '{own[0]}'\nssl_keyfile = '{key}'\n"
        file.write_text(f"{text}[repository]\npath = '{folder}'\n")
        done = subprocess.run(
            [FASTSERVE, "check", str(file), "--json"], capture_output=True, timeout=WITHIN_S, check=False
        )
        found = json.loads(done.stdout)
        assert done.returncode == (1 if reason else 0)
        assert [problem.startswith(reason) for problem in found["problems"]] == ([True] if reason else [])
        assert [note for note in found["notes"] if "this server asks nobody who they are" in note]


def test_such_a_server_does_not_start(folder: Path, own: tuple[Path, Path]) -> None:
    command = [FASTSERVE, "serve", str(folder), "--port", "0", *options((own[0], folder / "missing.pem"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 1
    (line,) = (done.stdout + done.stderr).splitlines()
    assert "missing.pem: cannot be read" in line


@pytest.mark.parametrize(
    ("host", "tls", "ca", "auth", "said"),
    [
        ("127.0.0.1", False, False, False, ""),
        ("localhost", False, False, True, ""),
        ("0.0.0.0", False, False, False, "asks nobody who they are"),
        ("0.0.0.0", True, False, False, "asks nobody who they are"),
        ("192.0.2.1", True, True, False, ""),
        ("::", False, False, True, "passwords and keys go there in clear"),
        ("::", True, False, True, ""),
    ],
)
def test_what_others_reach_is_warned_of(host: str, tls: bool, ca: bool, auth: bool, said: str) -> None:
    server = ServerConfig(host=host, ssl_certificate="c" if tls else None, ssl_ca="a" if ca else None)
    keys = (KeyConfig(name="k", key="x"),) if auth else ()
    warning = exposure(Config(server=server, auth=AuthConfig(keys=keys)))
    assert said in warning
    assert bool(said) == bool(warning)


def test_keys_that_can_be_guessed_are_warned_of_by_their_names() -> None:
    keys = (KeyConfig(name="short", key="1234567890"), KeyConfig(name="long", key="x" * 20))
    (warning,) = warnings(Config(auth=AuthConfig(keys=keys)))
    assert '"short"' in warning
    assert "1234567890" not in warning
    assert "long" not in warning
