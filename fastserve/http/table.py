"""Path to route, once per path: what was found is remembered for the paths that come again.

Thread: any; the memory is a dictionary that is only added to, and emptied when it is full.
"""

import re
from collections.abc import Sequence

from msgspec import Struct

from fastserve.errors import FastServeError, WrongMethod
from fastserve.http.cors import MAX_AGE
from fastserve.http.message import Headers, Reply, Request, Response
from fastserve.http.routes import Protocol, Route

_ANY_PATH = re.compile(".*", re.DOTALL)

MAX_REMEMBERED = 4096
MAX_REMEMBERED_CHARS = 512
"""Longer paths are looked up each time: clients choose them, and they would be held."""


class Match(Struct, frozen=True):
    """Who answers: `route` with `params`, or, where there is no route, `error`, in the shape of `protocol`."""

    protocol: Protocol
    route: Route | None
    params: dict[str, str]
    error: FastServeError | None


class PathTable:
    """All protocols' routes. The last protocol owns whatever no other one does.

    OPTIONS is answered on every path that there is, by the protocol where it has a route for that; with `preflight` on
    any path: a browser asks before it sends JSON, and the answer's headers are what it wants to see.
    """

    def __init__(self, protocols: Sequence[Protocol], *, preflight: bool = False) -> None:
        self._preflight = preflight
        self._protocols = [(protocol, protocol.routes()) for protocol in protocols]
        self._remembered: dict[tuple[str, str], Match] = {}

    def find(self, method: str, path: str) -> Match:
        """The match for a decoded path."""
        key = (method, path)
        match = self._remembered.get(key)
        if match is None:
            match = self._look_up(method, path)
            if match.route is not None and len(path) <= MAX_REMEMBERED_CHARS:
                if len(self._remembered) >= MAX_REMEMBERED:
                    self._remembered.clear()
                self._remembered[key] = match
        return match

    def _look_up(self, method: str, path: str) -> Match:
        for protocol, routes in self._protocols:
            if not protocol.owns.fullmatch(path):
                continue
            methods: dict[str, None] = {}
            for route in routes:
                found = route.pattern.fullmatch(path)
                if found is not None and route.method == method:
                    params = {name: value for name, value in found.groupdict().items() if value is not None}
                    return Match(protocol, route, params, None)
                if found is not None:
                    methods[route.method] = None
            return self._without_route(protocol, method, path, [*methods])
        raise AssertionError("the last protocol owns every path")

    def _without_route(self, protocol: Protocol, method: str, path: str, methods: list[str]) -> Match:
        """`methods`: those that the path has routes for."""
        if method == "OPTIONS" and (methods or self._preflight):
            return Match(protocol, _options_route([*methods, "OPTIONS"], preflight=self._preflight), {}, None)
        error = protocol.unmatched(method, path)
        if isinstance(error, WrongMethod):
            error.allowed = tuple(methods)
        return Match(protocol, None, {}, error)


def _options_route(methods: list[str], *, preflight: bool) -> Route:
    headers: Headers = [("allow", ", ".join(methods)), *([MAX_AGE] if preflight else [])]

    def options(_: Request, reply: Reply) -> None:
        reply.send(Response(200, headers, b""))

    return Route("OPTIONS", _ANY_PATH, "open", infer=options)
