"""Who may do what: without users and keys, who may change the server; with them, what each caller may."""

import re
from typing import Any

import pytest

from fastserve.errors import Forbidden, ModelForbidden
from fastserve.http.message import Response
from fastserve.http.rights import Rights, address_of, host_name, is_loopback_name
from fastserve.http.routes import Route
from fastserve.http.table import Match
from fastserve.types import ADMIN, EVERYBODY, SCOPES, Caller

HERE = "127.0.0.1:4711"
OPEN_SCOPES = ("open", "read", "infer", "log")
PROTOCOL: Any = None


def match(scope: str, model: str | None = None, *, sifts: bool = False) -> Match:
    async def waits(_: Any) -> Response:
        raise AssertionError

    route = Route("POST", re.compile(""), scope, waits=waits, sifts=sifts)
    return Match(PROTOCOL, route, {} if model is None else {"model": model}, None)


def allowed(
    scope: str = ADMIN,
    host: str | None = "127.0.0.1:8000",
    client: str = HERE,
    origin: str | None = None,
    listens_locally: bool = True,
) -> bool:
    try:
        headers = {} if origin is None else {"origin": origin}
        Rights(listens_locally).check(match(scope), EVERYBODY, headers, host, client)
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


@pytest.mark.parametrize("header", ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"])
def test_what_a_proxy_forwards_is_not_of_this_machine(header: str) -> None:
    rights = Rights(listens_locally=True)
    with pytest.raises(Forbidden, match=f"a proxy forwarded the request .{header}."):
        rights.check(match(ADMIN), EVERYBODY, {header: "127.0.0.1"}, "127.0.0.1:8000", "127.0.0.1:4711")


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


# --- with users and keys


class OneCaller:
    """Everybody is that one, once known."""

    def __init__(self, caller: Caller | None) -> None:
        self.caller = caller

    def known(self, headers: Any, scope: str) -> Caller | None:
        return self.caller

    def recognise(self, headers: Any, scope: str, address: str, told: Any) -> None:
        raise AssertionError


def own_name(model: str) -> str:
    return {"alias": "iris", "deployment-42": "digits", "iris-too": "digits"}.get(model, model)


def may(caller: Caller, what: Match, origin: str | None = None, host: str = "a.example") -> bool:
    rights = Rights(listens_locally=False, callers=OneCaller(caller), own_name=own_name)
    headers = {} if origin is None else {"origin": origin}
    try:
        rights.check(what, caller, headers, host, "203.0.113.7:1")
    except Forbidden:
        allowed = False
    else:
        allowed = True
    if origin is None:
        assert (rights.at_once(what, headers) is not None) is allowed, "the direct door sees it as the others do"
    return allowed


def caller(*scopes: str, **more: Any) -> Caller:
    return Caller(name="c", scopes=frozenset(scopes), **more)


@pytest.mark.parametrize("scope", sorted(SCOPES))
def test_a_caller_may_what_the_scopes_say_from_anywhere(scope: str) -> None:
    assert may(caller(scope), match(scope, "m"))
    assert may(caller(), match("open"))
    assert not may(caller(*(SCOPES - {scope})), match(scope, "m"))
    assert not may(caller(*SCOPES), match("a scope that nobody knows"))


IRIS = caller("infer", models=re.compile(r"(?s:iris.*)\Z"), names=frozenset({"iris*", "deployment-42"}))


@pytest.mark.parametrize(
    ("model", "allowed"),
    [
        ("iris", 1),
        ("iris2", 1),
        ("alias", 1),
        ("deployment-42", 1),
        ("digits", 0),
        ("iris-too", 0),
        ("", 0),
        ("IRIS", 0),
    ],
)
def test_models_are_told_by_their_own_names_whatever_they_are_called(model: str, allowed: int) -> None:
    assert may(IRIS, match("infer", model)) is bool(allowed)


def test_a_caller_of_some_models_is_refused_where_no_model_is_named_and_nobody_sifts() -> None:
    assert not may(IRIS, match("infer"))
    assert may(IRIS, match("infer", sifts=True))
    assert may(caller("infer"), match("infer"))


def test_who_is_not_known_yet_may_not_at_once() -> None:
    rights = Rights(listens_locally=True, callers=OneCaller(None))
    assert rights.at_once(match("infer", "m"), {}) is None
    assert rights.at_once(match("open"), {}) is EVERYBODY
    assert rights.at_once(Match(PROTOCOL, None, {}, None), {}) is None


def test_pages_of_other_sites_cannot_use_what_browsers_send_by_themselves() -> None:
    by_password = caller("admin", "infer", "log", sent_by_browsers=True)
    assert may(by_password, match(ADMIN))
    assert may(by_password, match(ADMIN), "https://a.example")
    assert not may(by_password, match(ADMIN), "https://evil.example")
    assert not may(by_password, match(ADMIN), "null", host="")
    assert not may(by_password, match("log"), "https://evil.example")
    assert may(by_password, match("infer"), "https://evil.example")
    assert may(caller("admin"), match(ADMIN), "https://evil.example"), "a page that has a key was given it"


def test_a_refusal_names_the_caller_the_scope_and_the_model() -> None:
    rights = Rights(listens_locally=False, callers=OneCaller(IRIS))
    with pytest.raises(Forbidden, match='the caller "c" lacks the scope "admin"'):
        rights.check(match(ADMIN), IRIS, {}, "", "")
    with pytest.raises(ModelForbidden, match='may not use the model "digits"'):
        rights.check(match("infer", "digits"), IRIS, {}, "", "")


@pytest.mark.parametrize(
    ("client", "address"),
    [
        ("10.1.2.3:4711", "10.1.2.3"),
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("[::ffff:10.1.2.3]:80", "10.1.2.3"),
        ("[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("", ""),
        ("a socket", ""),
    ],
)
def test_the_address_that_guesses_are_counted_for(client: str, address: str) -> None:
    assert address_of(client) == address
