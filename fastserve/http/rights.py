"""Who may call what. Pure; any thread.

Without users and keys everything is open but what changes the server: that takes a caller on this machine, who is no page
of another site that a browser on this machine happens to show (cli.md, "Rights").
"""

import ipaddress

from fastserve.errors import FastServeError, Forbidden, quoted
from fastserve.http.message import HeaderMap

ADMIN = "admin"
"""The scope of what changes the server: load, unload, log and trace settings."""

GUARDED = frozenset({ADMIN})
"""Scopes whose requests doors let in only through `Site.admit`; the others' are open to everybody."""


class Rights:
    """`listens_locally`: whether only this machine reaches the address that the server listens on."""

    def __init__(self, listens_locally: bool) -> None:
        self._listens_locally = listens_locally

    def check(self, scope: str, headers: HeaderMap, host: str | None, client: str) -> None:
        """Raises Forbidden where a request may not use routes of that scope.

        `host`: the authority that was asked for; `client`: the address that the request came from, empty where it
        has none (a Unix socket).
        """
        if scope == ADMIN:
            self._check_admin(headers, host, client)

    def _check_admin(self, headers: HeaderMap, host: str | None, client: str) -> None:
        if not self._listens_locally or not _is_local_client(client):
            raise _only("on a loopback address", "the request came over a network that others reach")
        if host is None or not is_loopback_name(host_name(host)):
            raise _only("under a loopback name", f"the Host was {quoted(host or '')}")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
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


def _is_local_client(client: str) -> bool:
    """`127.0.0.1`, `127.0.0.1:4711`, `::1`, `[::1]:4711`; an IPv4 address on an IPv6 socket is itself."""
    if not client:
        return True
    try:
        address = ipaddress.ip_address(client if client.count(":") > 1 and client[0] != "[" else host_name(client))
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _only(where: str, found: str) -> FastServeError:
    return Forbidden(f"calls that change the server are open {where} only, and {found}")
