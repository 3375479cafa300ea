"""Secrets from the shell: into hashes that the configuration takes, and into calls of the commands that ask a server."""

import json
import tomllib
import urllib.request
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fastserve.access import hashes
from fastserve.access.hashes import KeyCheck, PasswordCheck
from fastserve.cli.client import CallFailed, Client
from fastserve.cli.main import cli


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "LN", 10)


def run(*arguments: str, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(cli, arguments, input=stdin)


@pytest.mark.parametrize("stdin", ["fanatic\n", "fanatic", "fanatic\r\n", "fanatic\nmore\n"])
def test_a_password_becomes_the_line_for_the_file(stdin: str) -> None:
    result = run("hash-password", stdin=stdin)
    assert result.exit_code == 0
    assert "fanatic" not in result.output
    assert PasswordCheck(tomllib.loads(result.output)["password_hash"]).matches(b"fanatic")


def test_a_key_becomes_the_line_for_the_file() -> None:
    result = run("hash-key", stdin="a-key-of-many-characters\n")
    assert KeyCheck(tomllib.loads(result.output)["key_hash"]).matches(b"a-key-of-many-characters")
    assert "many-characters" not in result.output


def test_a_key_is_made_and_shown_once() -> None:
    first, blank, line = run("hash-key", "--generate").output.splitlines()
    key = first.removeprefix("key: ")
    assert blank == ""
    assert KeyCheck(tomllib.loads(line)["key_hash"]).matches(key.encode())
    found = json.loads(run("hash-key", "--generate", "--json").output)
    assert KeyCheck(found["key_hash"]).matches(found["key"].encode())
    assert found["key"] != key


def test_json_of_a_password() -> None:
    assert list(json.loads(run("hash-password", "--json", stdin="x\n").output)) == ["password_hash"]


@pytest.mark.parametrize(
    ("command", "stdin", "reason"),
    [
        ("hash-password", "", "expected a password on standard input, got an empty line"),
        ("hash-key", "\n", "expected a key on standard input, got an empty line"),
        ("hash-key", "too-short\n", "expected at least 20 characters, got 9"),
        ("hash-password", "tab\there\n", "expected a password of printable characters"),
    ],
)
def test_what_is_no_secret_is_refused(command: str, stdin: str, reason: str) -> None:
    result = run(command, stdin=stdin)
    assert result.exit_code == 1
    assert reason in str(result.exception)
    assert "too-short" not in str(result.exception)


# --- calls


def sent_to(monkeypatch: pytest.MonkeyPatch, url: str, env: dict[str, str]) -> tuple[str, str | None]:
    """The URL that a client asks, and who it says it is."""
    asked: list[urllib.request.Request] = []

    def opened(_: Any, request: urllib.request.Request, **__: Any) -> Any:
        asked.append(request)
        raise OSError("nobody there")

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", opened)
    with pytest.raises(CallFailed) as caught:
        Client(url, 1.0, env).get("/x")
    assert "secret" not in str(caught.value)
    (request,) = asked
    return request.full_url, request.get_header("Authorization")


@pytest.mark.parametrize(
    ("url", "env", "expected"),
    [
        ("http://h:1", {}, ("http://h:1/x", None)),
        ("http://h:1", {"FASTSERVE_API_KEY": "secret"}, ("http://h:1/x", "Bearer secret")),
        ("pineapple:secret@h:1/sub/", {}, ("http://h:1/sub/x", "Basic cGluZWFwcGxlOnNlY3JldA==")),
        ("https://a%40b:secret%2F@h", {"FASTSERVE_API_KEY": "y"}, ("https://h/x", "Basic YUBiOnNlY3JldC8=")),
    ],
)
def test_who_calls_stands_in_the_url_or_the_environment(
    monkeypatch: pytest.MonkeyPatch, url: str, env: dict[str, str], expected: tuple[str, str | None]
) -> None:
    assert sent_to(monkeypatch, url, env) == expected


def test_a_url_that_is_none_is_told_without_its_password() -> None:
    with pytest.raises(CallFailed, match="ftp://h is no http") as caught:
        Client("ftp://u:secret@h", 1.0, {})
    assert "secret" not in str(caught.value)
