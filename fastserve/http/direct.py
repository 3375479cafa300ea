"""The door without a loop: inference requests with small bodies, on the thread that reads them from the network.

A request that goes through a coroutine crosses threads four times; here it crosses twice: once with its headers, once with
its body. Everything else (big, compressed or chunked bodies, health, errors of the path) takes the coroutine door, as before.
What makes Granian call it, and calls back on its own thread, is in `server/worker.py`.

Requests whose bodies arrive together are decoded, run and answered together: while the body that was asked for last is
about to come, those that have come wait for it. A lone request waits for nobody.

Thread: requests on Granian's Python thread; answers on whichever finishes. Memory: one object per request, gone with it.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastserve.errors import BodyTimeout, FastServeError, InvalidRequest
from fastserve.http.message import Reply, Response
from fastserve.http.overdue import At, Overdue
from fastserve.http.rights import GUARDED
from fastserve.http.routes import Route
from fastserve.http.site import OFFLOAD_BYTES, Site
from fastserve.http.table import Match

MAX_TOGETHER = 64
"""Requests that are decoded before any of them is answered, at the most."""

FRESH_NS = 500_000
"""A body asked for more recently than that is about to come; one that takes longer is waited for by nobody else."""

LIGHT_BYTES = 1 << 20
"""Bodies that are read in no time are taken up to here: being handed over, such a one holds the thread for 0.3 ms."""

MAX_LENGTH_DIGITS = 7

STALLED_NS = 5_000_000
"""So long nobody waits for a body that does not come."""

LONG_QUEUED_NS = 20_000_000
"""Who waits longer for the answer is watched: a client that went away leaves the queue. Watching costs as much as serving."""

Gather = Callable[[Callable[[], None]], None]
"""Does what it is given, and runs together what was submitted meanwhile."""


_log = logging.getLogger(__name__)
_here = threading.local()
"""`held`: on a thread that answers a batch, the answers that are yet to leave."""


class DirectReply(Reply):
    """One request, from its headers to its answer: Granian calls it when the body is there."""

    __slots__ = ("_body", "_door", "_headers", "_match", "_proto", "_scope", "_started_ns", "_watch")

    def __init__(self, door: "DirectDoor", match: Match, scope: Any, headers: Any, proto: Any) -> None:
        Reply.__init__(self, match.protocol)
        self._door = door
        self._match = match
        self._scope = scope
        self._headers = headers
        self._proto = proto
        self._watch: ClientGone | None = None
        self._started_ns = door.site.clock()

    def read(self) -> None:
        """Ask for the body; `__call__` goes on with it."""
        self._body = self._proto()
        self._door.bodies.begin(self, self._started_ns)
        self._body.add_done_callback(self, context=None)

    def __call__(self, body: Any) -> None:
        """The body is there, or never will be."""
        door = self._door
        if door.bodies.waiting.pop(self, None) is None:
            return  # it came too late, and that was answered
        self._body = None  # it holds us, and the collector cannot see through it
        try:
            content = body.result()
        except Exception as error:  # the client went away in the middle
            error.__traceback__ = None  # the body keeps the error, that would keep this frame, and this frame the body
            self.fail(InvalidRequest("the body could not be read to its end"))
            return
        door.arrived(self, content)

    def run(self, content: bytes) -> None:
        """Decode, submit; where the run is not held back, answer."""
        site, scope, match = self._door.site, self._scope, self._match
        try:
            request = site.request(match, scope.method, scope.path, scope.query_string, self._headers, content)
            assert match.route is not None
            if len(content) < OFFLOAD_BYTES:
                site.run_here(match.route, request, self)
            else:
                site.run(match.route, request, self)
        except FastServeError as error:
            self.fail(error)
        except Exception:  # the app's edge
            site.failed(self)

    def body_is_late(self) -> None:
        """The alarm's thread: give up on the body."""
        self._body.cancel()
        self._body = None
        self.fail(BodyTimeout())

    def deliver(self, response: Response) -> None:
        """Any thread."""
        held: list[Written] | None = getattr(_here, "held", None)
        if held is None:
            self.leave(response)
        else:
            held.append((self, response))

    def leave(self, response: Response) -> None:
        """To the network. Any thread."""
        site = self._door.site
        if len(response.body) >= site.packs_from_bytes and site.packs(response, self._headers, self.leave):
            return
        if site.adds_headers:
            response = site.with_headers(response, self._headers)
        self._door.queued.waiting.pop(self, None)
        self._proto.response_bytes(response.status, response.headers, response.body)
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.end()
        site.observe(self, response.status, site.clock() - self._started_ns)

    def watch_client(self) -> None:
        """The request waits long: a client that goes away takes it with it. The alarm's thread."""
        if self.done:
            return
        self._watch = watch = ClientGone(self, self._proto.client_disconnect())
        if self.done:  # answered meanwhile, by a thread that saw no watch yet
            self._watch = None
            watch.end()


class ClientGone:
    """Called when the client is gone, or the watch for it was ended."""

    __slots__ = ("_future", "_reply")

    def __init__(self, reply: Reply, future: Any) -> None:
        self._reply: Reply | None = reply
        self._future = future
        future.add_done_callback(self, context=None)

    def __call__(self, _: Any) -> None:
        """Take the request out of the queue, if it still waits."""
        reply = self._reply
        if reply is not None and not reply.done:
            reply.give_up()

    def end(self) -> None:
        """The request is answered. Granian keeps us with the future, and would keep the reply, its tensors and itself."""
        future, self._future, self._reply = self._future, None, None
        if future is not None:
            future.cancel()


Written = tuple[DirectReply, Response]
"""An answer that is yet to leave."""

Arrival = tuple[DirectReply, bytes, int]
"""A request, its body, and when that came."""


class DirectDoor:
    """Granian's schedule function: takes what it can answer itself, hands the rest to the coroutine door."""

    def __init__(self, site: Site, at: At, gather: Gather, reply: type[DirectReply] = DirectReply) -> None:
        self.site = site
        self._reply = reply
        self.bodies: Overdue[DirectReply] = Overdue(site.request_timeout_ns, at, DirectReply.body_is_late)
        self.queued: Overdue[DirectReply] = Overdue(LONG_QUEUED_NS, at, DirectReply.watch_client)
        self._at = at
        self._gather = gather
        self._arrived: deque[Arrival] = deque()
        self._alarm_is_set = False

    def takes(self, watcher: Any) -> bool:
        """Whether the request was taken. Granian's Python thread."""
        scope = watcher.scope
        match = self.site.find(scope.method, scope.path)
        route = match.route
        if route is None or route.infer is None or route.scope in GUARDED:
            return False
        headers = scope.headers
        if not 0 < _declared_bytes(headers) < self._limit(route, headers):
            return False
        self._reply(self, match, scope, headers, watcher.proto).read()
        return True

    def _limit(self, route: Route, headers: Any) -> int:
        """What a body must be shorter than."""
        light = route.light
        few = OFFLOAD_BYTES if light is None or headers.get(light.header) is None else LIGHT_BYTES
        return min(few, self.site.max_body_bytes + 1)

    def arrived(self, reply: DirectReply, content: bytes) -> None:
        """A body is there: answer all that are, unless the next one is about to come."""
        arrived = self._arrived
        now = self.site.clock()
        more_to_come = self.bodies.any_since(now - FRESH_NS)
        if not arrived and not more_to_come:
            reply.run(content)
            self._answer_later(reply)
            return
        arrived.append((reply, content, now))
        if more_to_come and len(arrived) < MAX_TOGETHER:
            self._set_alarm(now)
        else:
            self._answer_arrived()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is answered in here, on this thread, leaves when all of it is written.

        Each answer wakes the network's thread, which would get in the way of the next one's writing.
        """
        if getattr(_here, "held", None) is not None:
            yield
            return
        held: list[Written] = []
        _here.held = held
        try:
            yield
        finally:
            _here.held = None
            for reply, response in held:
                try:
                    reply.leave(response)
                except Exception:  # the app's edge: one answer that cannot leave costs nobody else theirs
                    _log.exception("an answer could not be sent")

    def _set_alarm(self, arrived_ns: int) -> None:
        """In case the next one does not come after all."""
        if not self._alarm_is_set:
            self._alarm_is_set = True
            self._at(arrived_ns + STALLED_NS, self._ring)

    def _ring(self, now_ns: int) -> None:
        """The alarm's thread answers only what has been left lying: it would fight Granian's thread for all else."""
        self._alarm_is_set = False
        try:
            oldest_ns = self._arrived[0][2]
        except IndexError:
            return
        if now_ns - oldest_ns < STALLED_NS:
            self._set_alarm(oldest_ns)
        else:
            self._answer_arrived()

    def _answer_arrived(self) -> None:
        """Any thread; each request is taken by one."""
        together: list[Arrival] = []
        try:
            while len(together) < MAX_TOGETHER:
                together.append(self._arrived.popleft())
        except IndexError:
            pass
        self._gather(lambda: _run_all(together))
        for reply, _, _ in together:
            self._answer_later(reply)

    def _answer_later(self, reply: DirectReply) -> None:
        """Keep an eye on a request that is in the queue now."""
        if not reply.done:
            self.queued.begin(reply, self.site.clock())


def _run_all(together: list[Arrival]) -> None:
    for reply, content, _ in together:
        reply.run(content)


def _declared_bytes(headers: Any) -> int:
    """How long the body is, and sent as it is; 0 where that is not said, or it is coded."""
    length = headers.get("content-length")
    if length is None or len(length) > MAX_LENGTH_DIGITS or not length.isdigit():
        return 0
    return int(length) if headers.get("content-encoding") is None else 0
