"""Who may change the server: callers on this machine, and no page of another site."""

import pytest

from fastserve.errors import Forbidden
from fastserve.http.rights import ADMIN, Rights, host_name, is_loopback_name

HERE = "127.0.0.1:4711"
OPEN_SCOPES = ("open", "read", "infer", "log")


def allowed(
    scope: str = ADMIN,
    host: str | None = "127.0.0.1:8000",
    client: str = HERE,
    origin: str | None = None,
    listens_locally: bool = True,
) -> bool:
    try:
        Rights(listens_locally).check(scope, {} if origin is None else {"origin": origin}, host, client)
    except Forbidden:
        return False
    return True


@pytest.mark.parametrize("scope", OPEN_SCOPES)
def test_what_changes_nothing_is_open_to_everybody(scope: str) -> None:
    assert allowed(scope, "example.org", "203.0.113.7:1", "https://evil.example", listens_locally=False)


@pytest.mark.parametrize("client", ["127.0.0.1:1", "127.8.9.1", "[::1]:1", "::1", "::ffff:127.0.0.1", ""])
@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.1.2.3:80", "[::1]:8000", "a.localhost:1"]
)
def test_callers_on_this_machine_may(client: str, host: str) -> None:
    assert allowed(client=client, host=host)


@pytest.mark.parametrize("client", ["203.0.113.7:1", "[2001:db8::1]:1", "10.0.0.1", "::ffff:10.0.0.1", "nonsense"])
def test_callers_elsewhere_may_not(client: str) -> None:
    assert not allowed(client=client)


def test_nobody_may_where_others_reach_the_address() -> None:
    assert not allowed(listens_locally=False)


@pytest.mark.parametrize(
    "host",
    ["example.org", "example.org:8000", "localhost.example.org", "127.0.0.1.nip.io", "10.0.0.1", "", None, "[", "0"],
)
def test_a_name_that_somebody_else_decides_about_is_none_of_ours(host: str | None) -> None:
    assert not allowed(host=host), "a page of that name could have been rebound to this machine"


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8000", "https://127.0.0.1:8000"])
def test_a_page_of_this_server_may(origin: str) -> None:
    assert allowed(origin=origin)


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "", "http://127.0.0.1:3000", "http://localhost:8000", "http://[", "http://a@b"],
)
def test_a_page_of_another_site_may_not(origin: str) -> None:
    assert not allowed(origin=origin)


@pytest.mark.parametrize(
    ("authority", "name"),
    [("a:1", "a"), ("a", "a"), ("[::1]:1", "::1"), ("[::1]", "::1"), ("", ""), (":1", "")],
)
def test_the_name_in_an_authority(authority: str, name: str) -> None:
    assert host_name(authority) == name


@pytest.mark.parametrize(
    ("name", "is_one"), [("::1", True), ("localhost.", True), ("127.0.0.1", True), ("localhos", False)]
)
def test_loopback_names(name: str, is_one: bool) -> None:
    assert is_loopback_name(name) is is_one
