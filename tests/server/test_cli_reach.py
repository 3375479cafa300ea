"""How the commands that call a server reach it: over HTTPS with an authority of one's own, and over a Unix socket."""

import json
import ssl
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fastserve.cli import main
from fastserve.cli.main import cli
from tests.support.authority import Authority
from tests.support.odd_server import OddServer, answering


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


TABLE = json.dumps({"columns": [{"name": "n", "type": "int64"}], "rows": [[7]]}).encode()
CALLS = [
    (("models", "URL"), b"fastserve_up 1\n", "no models"),
    (("predict", "URL", "m", "--data", "[1]"), b'{"predictions": [0.5]}', "0.5"),
    (("log", "query", "URL", "select 7 n"), TABLE, "1 row"),
]


@pytest.fixture(autouse=True)
def _errors_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.excepthook", main._one_line)


def called(arguments: tuple[str, ...], url: str, *more: str) -> Result:
    return CliRunner().invoke(cli, [*(url if one == "URL" else one for one in arguments), *more])


@pytest.mark.parametrize(("arguments", "body", "shown"), CALLS)
def test_https_with_an_authority_of_our_own(
    tmp_path: Path, arguments: tuple[str, ...], body: bytes, shown: str
) -> None:
    authority = Authority(tmp_path, "authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server"))
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_OPTIONAL
    certificate, keyfile = authority.issue("client")
    ours = ("--certificate", str(certificate), "--keyfile", str(keyfile))
    with OddServer(answering(answer(body)), tls=context) as server:
        url = f"https://127.0.0.1:{server.port}"
        for trust in (("--ca", str(authority.certificate), *ours), ("--insecure",)):
            result = called(arguments, url, *trust)
            assert result.exit_code == 0, result.output
            assert shown in result.output
        result = called(arguments, url)
    assert result.exit_code == 1
    assert "give --ca FILE, or --insecure" in result.output


@pytest.mark.parametrize(("arguments", "body", "shown"), CALLS)
def test_a_unix_socket(tmp_path: Path, arguments: tuple[str, ...], body: bytes, shown: str) -> None:
    with OddServer(answering(answer(body)), uds=tmp_path / "s"):
        result = called(arguments, "http://localhost", "--uds", str(tmp_path / "s"))
    assert result.exit_code == 0, result.output
    assert shown in result.output
    result = called(arguments, "http://localhost", "--uds", str(tmp_path / "none"))
    assert result.exit_code == 1
    assert "is --uds the server's socket?" in result.output


def test_every_command_of_the_log_can_show_where_it_failed() -> None:
    for name in ("tail", "query", "export", "performance", "drift", "report", "delete"):
        result = CliRunner().invoke(cli, ["log", name, "--help"])
        assert "--debug" in result.output
        assert "--ca FILE" in result.output
