"""Who may call what. Any thread.

With users and keys, every route but health takes a caller whom they name and whose scopes hold the route's. Without any,
everything is open but what changes the server: that takes a caller on this machine, who is no page of another site that a
browser on this machine happens to show.
"""

import ipaddress
from collections.abc import Callable
from typing import Protocol

from fastserve.errors import FastServeError, Forbidden, ModelForbidden, quoted
from fastserve.http.message import HeaderMap
from fastserve.http.table import Match
from fastserve.types import ADMIN, EVERYBODY, LOG, OPEN, Caller

GUARDED = frozenset({ADMIN})
"""Scopes of requests that the direct door takes from nobody."""


CHANGING = frozenset({ADMIN, LOG})
"""Scopes of what leaves something behind: no page of another site may ask for it with what a browser sends by itself."""

FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""What proxies add: who asks is whoever asked them."""


class Callers(Protocol):
    """Whom there is, and how they are recognised."""

    def known(self, headers: HeaderMap, scope: str, /) -> Caller | None:
        """Who sent them to a route of that scope, where that was found out before."""

    def recognise(
        self, headers: HeaderMap, scope: str, address: str, told: Callable[[Caller | FastServeError], None], /
    ) -> None:
        """Find out who sent them, from that address: `told` is called once, now or later, on any thread."""


class Rights:
    """`listens_locally`: whether only this machine reaches the address that the server listens on. `callers`: None where
    nobody is asked; may be replaced at any time. `own_name`: of a model, for that or an alias.
    """

    def __init__(
        self, listens_locally: bool, callers: Callers | None = None, own_name: Callable[[str], str] = str
    ) -> None:
        self._listens_locally = listens_locally
        self.callers = callers
        self._own_name = own_name

    def check(self, match: Match, caller: Caller, headers: HeaderMap, host: str | None, client: str) -> None:
        """Raises Forbidden where a caller has no right to what a path leads to.

        `host`: the authority that was asked for; `client`: the address that the request came from, empty where it
        has none (a Unix socket).
        """
        route = match.route
        if route is None or route.scope == OPEN:
            return
        if self.callers is not None:
            self._check_caller(match, caller)
            if route.scope in CHANGING and caller.sent_by_browsers:
                _check_origin(headers, host)
        elif route.scope == ADMIN:
            self._check_local(headers, host, client)

    def at_once(self, match: Match, headers: HeaderMap) -> Caller | None:
        """Who sent them to what the path leads to, where it is known already that they may; else they may or may not."""
        route, callers = match.route, self.callers
        if route is None or callers is None or route.scope == OPEN:
            return None if route is None else EVERYBODY
        caller = callers.known(headers, route.scope)
        if caller is None or route.scope not in caller.scopes:
            return None
        return caller if caller.models is None or self._may_reach(match, caller) else None

    def _check_caller(self, match: Match, caller: Caller) -> None:
        assert match.route is not None
        scope = match.route.scope
        if scope not in caller.scopes:
            raise Forbidden(f'the caller {quoted(caller.name)} lacks the scope "{scope}" that this call takes')
        if caller.models is None or self._may_reach(match, caller):
            return
        model = match.params.get("model")
        if model is None:
            raise Forbidden(
                f"the caller {quoted(caller.name)} may use some models only, and this call is about all of them"
            )
        raise ModelForbidden(caller.name, model)

    def _may_reach(self, match: Match, caller: Caller) -> bool:
        assert match.route is not None
        model = match.params.get("model")
        if model is None:
            return match.route.sifts
        return caller.may_use(self._own_name(model), model)

    def _check_local(self, headers: HeaderMap, host: str | None, client: str) -> None:
        if not self._listens_locally or not _is_local_client(client):
            raise _only("on a loopback address", "the request came over a network that others reach")
        proxied = next((name for name in FORWARDED if headers.get(name) is not None), None)
        if proxied is not None:
            raise _only("to callers on this machine", f"a proxy forwarded the request ({proxied})")
        if host is None or not is_loopback_name(host_name(host)):
            raise _only("under a loopback name", f"the Host was {quoted(host or '')}")
        _check_origin(headers, host)


def _check_origin(headers: HeaderMap, host: str | None) -> None:
    """Raises Forbidden for a page of another site, whose reader knows nothing of what it sends."""
    origin = headers.get("origin")
    if origin is not None and (not host or origin.partition("://")[2].lower() != host.lower()):
        raise _only("to pages of this server", f"the Origin was {quoted(origin)}")


def host_name(authority: str) -> str:
    """`localhost:8000` -> localhost; `[::1]:8000` -> ::1."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.rpartition(":")[0] if ":" in authority else authority


def is_loopback_name(name: str) -> bool:
    """Whether that host name or address can only be this machine (RFC 6761, 6.3)."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        lower = name.lower().rstrip(".")
        return lower == "localhost" or lower.endswith(".localhost")


def address_of(client: str) -> str:
    """What one household or machine has, without its port: an IPv4 address, or the network (/64) of an IPv6 one."""
    found = _address_of(client)
    if found is None or found.version == 4:
        return str(found or "")
    return str(ipaddress.ip_network((found, 64), strict=False))


def _is_local_client(client: str) -> bool:
    """`127.0.0.1`, `127.0.0.1:4711`, `::1`, `[::1]:4711`; an IPv4 address on an IPv6 socket is itself."""
    if not client:
        return True
    address = _address_of(client)
    return address is not None and address.is_loopback


def _address_of(client: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """None where it is none."""
    try:
        address = ipaddress.ip_address(client if client.count(":") > 1 and client[0] != "[" else host_name(client))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _only(where: str, found: str) -> FastServeError:
    return Forbidden(f"calls that change the server are open {where} only, and {found}")
