"""The door without a loop: inference requests with small bodies, on the thread that reads them from the network.

A request that goes through a coroutine crosses threads four times; here it crosses twice: once with its headers, once with
its body. Everything else (big, compressed or chunked bodies, health, errors of the path) takes the coroutine door, as before.
What makes Granian call it, and calls back on its own thread, is in `server/worker.py`.

Thread: requests on Granian's Python thread; answers on whichever finishes. Memory: one object per request, gone with it.
"""

from collections.abc import Callable
from typing import Any

from fastserve.clock import Clock
from fastserve.errors import BodyTimeout, FastServeError, InvalidRequest
from fastserve.http.message import Reply, Response
from fastserve.http.site import OFFLOAD_BYTES, Site
from fastserve.http.table import Match

At = Callable[[int, Callable[[int], None]], None]
"""Calls back with the time once it has come."""


class BodyClock:
    """Ends the requests whose bodies do not arrive. All have the same limit, so the oldest is the next due: one alarm.

    Taking a request out of `reading` is atomic, and whoever takes it out answers it.
    """

    def __init__(self, limit_ns: int, at: At, clock: Clock) -> None:
        self.reading: dict[DirectReply, int] = {}
        self._limit_ns = limit_ns
        self._at = at
        self._clock = clock
        self._armed = False

    def begin(self, reply: "DirectReply", now_ns: int) -> None:
        """`reply` waits for its body from now on."""
        self.reading[reply] = now_ns + self._limit_ns
        if not self._armed and self._limit_ns:
            self._armed = True
            self._at(now_ns + self._limit_ns, self._end_late)

    def _end_late(self, now_ns: int) -> None:
        self._armed = False
        for reply, due_ns in list(self.reading.items()):
            if due_ns > now_ns:
                self._armed = True
                self._at(due_ns, self._end_late)
                return
            if self.reading.pop(reply, None) is not None:
                reply.body_is_late()


class DirectReply(Reply):
    """One request, from its headers to its answer: Granian calls it when the body is there."""

    __slots__ = ("_bodies", "_body", "_headers", "_match", "_proto", "_scope", "_site", "_started_ns", "_watch")

    def __init__(self, site: Site, bodies: BodyClock, match: Match, scope: Any, headers: Any, proto: Any) -> None:
        super().__init__(match.protocol)
        self._site = site
        self._bodies = bodies
        self._match = match
        self._scope = scope
        self._headers = headers
        self._proto = proto
        self._watch: Any = None
        self._started_ns = site.clock()

    def read(self) -> None:
        """Ask for the body; `__call__` goes on with it."""
        self._body = self._proto()
        self._bodies.begin(self, self._started_ns)
        self._body.add_done_callback(self, context=None)

    def __call__(self, body: Any) -> None:
        """The body is there, or never will be."""
        if self._bodies.reading.pop(self, None) is None:
            return  # it came too late, and that was answered
        self._body = None  # it holds us, and the collector cannot see through it
        try:
            content = body.result()
        except Exception as error:  # the client went away in the middle
            error.__traceback__ = None  # the body keeps the error, that would keep this frame, and this frame the body
            self.fail(InvalidRequest("the body could not be read to its end"))
            return
        site, scope, match = self._site, self._scope, self._match
        try:
            request = site.request(match, scope.method, scope.path, scope.query_string, self._headers, content)
            assert match.route is not None
            site.run_here(match.route, request, self)
        except FastServeError as error:
            self.fail(error)
        except Exception:  # the app's edge
            site.failed(self)
        if not self.done:
            self._watch_client()

    def body_is_late(self) -> None:
        """The alarm's thread: give up on the body."""
        self._body.cancel()
        self._body = None
        self.fail(BodyTimeout())

    def deliver(self, response: Response) -> None:
        """Any thread."""
        site = self._site
        if site.has_cors:
            response = site.with_cors(response, self._headers)
        self._proto.response_bytes(response.status, response.headers, response.body)
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
        site.observe(self, response.status, site.clock() - self._started_ns)

    def _watch_client(self) -> None:
        """While the request waits in the queue: a client that goes away takes it with it."""
        self._watch = watch = self._proto.client_disconnect()
        watch.add_done_callback(ClientGone(self), context=None)
        if self.done:  # answered meanwhile, by a thread that saw no watch yet
            watch.cancel()
            self._watch = None


class ClientGone:
    """Called when the client is gone, or the watch for it was ended."""

    __slots__ = ("_reply",)

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def __call__(self, _: Any) -> None:
        """Take the request out of the queue, if it still waits."""
        if not self._reply.done:
            self._reply.give_up()


class DirectDoor:
    """Granian's schedule function: takes what it can answer itself, hands the rest to the coroutine door."""

    def __init__(self, site: Site, at: At) -> None:
        self._site = site
        self._bodies = BodyClock(site.request_timeout_ns, at, site.clock)

    def takes(self, watcher: Any) -> bool:
        """Whether the request was taken. Granian's Python thread."""
        scope = watcher.scope
        match = self._site.find(scope.method, scope.path)
        route = match.route
        if route is None or route.infer is None:
            return False
        headers = scope.headers
        if not _has_small_body(headers):
            return False
        DirectReply(self._site, self._bodies, match, scope, headers, watcher.proto).read()
        return True


def _has_small_body(headers: Any) -> bool:
    length = headers.get("content-length")
    if length is None or len(length) > 5 or not length.isdigit():
        return False
    return 0 < int(length) < OFFLOAD_BYTES and headers.get("content-encoding") is None
