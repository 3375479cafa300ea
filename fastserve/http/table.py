"""Path to route, once per path: what was found is remembered for the paths that come again.

Thread: any; the memory is a dictionary that is only added to, and emptied when it is full.
"""

from collections.abc import Sequence

from msgspec import Struct

from fastserve.errors import FastServeError
from fastserve.http.routes import Protocol, Route

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
    """All protocols' routes. The last protocol owns whatever no other one does."""

    def __init__(self, protocols: Sequence[Protocol]) -> None:
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
            for route in routes:
                found = route.pattern.fullmatch(path) if route.method == method else None
                if found is not None:
                    params = {name: value for name, value in found.groupdict().items() if value is not None}
                    return Match(protocol, route, params, None)
            return Match(protocol, None, {}, protocol.unmatched(method, path))
        raise AssertionError("the last protocol owns every path")
