"""Requests whose inputs are at a URL: read on threads of their own, so that a slow server there holds up nobody here.

Thread: `read` on any; the rest on the reader's own threads, which start with the first such request.
Memory: at most `MAX_WAITING` requests.
"""

from collections.abc import Callable
from functools import partial

from msgspec.structs import replace

from fastserve.config import DataUrlConfig
from fastserve.engine.engine import Pending
from fastserve.fetch.fetch import Fetcher
from fastserve.http.message import Reply, Request
from fastserve.protocols.later import Later, OnDemand, Room
from fastserve.protocols.oip.question import Elsewhere

THREADS = 4
MAX_WAITING = 64

Go = Callable[[Request], Pending | None]
"""Goes on with a request whose body is what the URL named."""


class Reader:
    """Reads what requests name, where the configuration allows it."""

    def __init__(self, config: DataUrlConfig) -> None:
        self._fetcher = Fetcher(config)
        self._threads = OnDemand(THREADS, "fetch")
        self._room = Room(MAX_WAITING, "what data_url names")

    def read(self, found: Elsewhere, request: Request, reply: Reply, go: Go) -> Later:
        """Fetch, then `go` on. Raises Forbidden, InvalidRequest, QueueFull."""
        self._fetcher.check(found.url)
        return self._room.post(self._threads.post, Later(reply, partial(self._fetch, found.url, request, go)))

    def _fetch(self, url: str, request: Request, go: Go) -> Pending | None:
        fetched = self._fetcher.fetch(url, request.deadline_ns)
        headers = _Headers(request, fetched.content_type)
        return go(replace(request, headers=headers, body=fetched.content))


class _Headers:
    """A request's headers, with the type of what was read in the place of its own."""

    def __init__(self, request: Request, content_type: str) -> None:
        self._headers = request.headers
        self._content_type = content_type

    def get(self, name: str, default: str | None = None, /) -> str | None:
        if name == "content-type":
            return self._content_type
        if name == "inference-header-content-length":
            return default
        found: str | None = self._headers.get(name, default)
        return found
