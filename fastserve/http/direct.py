"""The door without a loop: inference requests with small bodies, on the thread that reads them from the network.

A request that goes through a coroutine crosses threads four times; here it crosses twice: once with its headers, once with
its body. Everything else (big, compressed or chunked bodies, health, errors of the path) takes the coroutine door, as before.
What makes Granian call it, and calls back on its own thread, is in `server/worker.py`.

Requests whose bodies arrive together are decoded, run and answered together: while the body that was asked for last is
about to come, those that have come wait for it. A lone request waits for nobody.

Paths whose requests are all alike get a lane (see `http.routes.Lane`): their requests are known by their path, and answered
many at a time. A path gets one once a request to it was answered the general way, and loses it when models change.

Thread: requests on Granian's Python thread; answers on whichever finishes. Memory: one object per request, gone with it.
"""

import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastserve._ext.arrivals import Arrivals, Express, ExpressRequest, Overdue
from fastserve.errors import BodyTimeout, FastServeError, InvalidRequest
from fastserve.http.gone import ClientGone
from fastserve.http.lanes import LIGHT_BYTES, Expressed, Lanes, submitted
from fastserve.http.message import Reply, Response
from fastserve.http.rights import GUARDED
from fastserve.http.routes import Lane, Route
from fastserve.http.site import OFFLOAD_BYTES, TIMEOUT_HEADER, Site
from fastserve.http.table import Match
from fastserve.types import EVERYBODY, Caller

MAX_TOGETHER = 64
"""Requests that are decoded before any of them is answered, at the most."""

FRESH_NS = 500_000
"""A body asked for more recently than that is about to come; one that takes longer is waited for by nobody else."""

MAX_LENGTH_DIGITS = 7

STALLED_NS = 5_000_000
"""Nobody waits longer for a body that does not come; where others keep coming, four times as long."""

LONG_BODY_NS = 20_000_000
"""Bodies that are there within that need no alarm of their own."""

LONG_QUEUED_NS = 20_000_000
"""Who waits longer for the answer is watched: a client that went away leaves the queue. Watching costs as much as serving."""

SOLO = 200
"""So many requests in a row, each answered before the next came, are a lone client's."""

At = Callable[[int, Callable[[int], None]], None]
"""Calls back with the time once it has come."""

Gather = Callable[[Callable[[], None]], None]
"""Does what it is given, and runs together what was submitted meanwhile."""


_log = logging.getLogger(__name__)
_here = threading.local()
"""`held`: on a thread that answers a batch, the answers that are yet to leave."""


class DirectReply(Reply):
    """One request, from its headers to its answer: Granian calls it when the body is there."""

    __slots__ = (
        "__weakref__",
        "_body",
        "_by_ns",
        "_caller",
        "_door",
        "_headers",
        "_match",
        "_proto",
        "_scope",
        "_started_ns",
        "_watch",
    )

    def __init__(
        self,
        door: "DirectDoor",
        match: Match,
        scope: Any,
        headers: Any,
        proto: Any,
        caller: Caller = EVERYBODY,
        by_ns: int = 0,
        started_ns: int = 0,
    ) -> None:
        Reply.__init__(self, match.protocol)
        self._caller = caller
        self._by_ns = by_ns
        self._door = door
        self._match = match
        self._scope = scope
        self._headers = headers
        self._proto = proto
        self._watch: ClientGone | None = None
        self._started_ns = started_ns or door.site.clock()

    def read(self) -> None:
        """Ask for the body; `__call__` goes on with it."""
        self._body = self._proto()
        self._door.bodies.begin(self, self._started_ns)
        if self._by_ns:
            self._door.hurried.begin(self, self._started_ns)
        self._body.add_done_callback(self, context=None)

    def __call__(self, body: Any) -> None:
        """The body is there, or never will be."""
        door = self._door
        if self._by_ns:
            door.hurried.waiting.pop(self, None)
        if door.bodies.waiting.pop(self, None) is None:
            return  # it came too late, and that was answered
        self._body = None  # it holds us, and the collector cannot see through it
        try:
            content = body.result()
        except Exception as error:  # the client went away in the middle
            error.__traceback__ = None  # the body keeps the error, that would keep this frame, and this frame the body
            self.fail(InvalidRequest("the body could not be read to its end"))
            return
        door.arrivals.add(self, content)

    def run(self, content: bytes) -> None:
        """Decode, submit; where the run is not held back, answer."""
        site, scope, match = self._door.site, self._scope, self._match
        try:
            request = site.request(
                match, scope.method, scope.path, scope.query_string, self._headers, content, self._caller, self._by_ns
            )
            assert match.route is not None
            if len(content) < OFFLOAD_BYTES:
                site.run_here(match.route, request, self)
            else:
                site.run(match.route, request, self)
            if match.route.lane is not None:
                self._door.lanes.ask(scope.path, match.route.lane, request)
        except FastServeError as error:
            self.fail(error)
        except Exception:  # the app's edge
            site.failed(self)

    def hurry(self) -> None:
        """The alarm's thread: the body takes long, and its client does not wait for ever."""
        there = weakref.ref(self)  # an alarm that is far away keeps nothing alive

        def ring(_: int) -> None:
            reply = there()
            if reply is not None and reply._door.bodies.waiting.pop(reply, None) is not None:
                reply.body_is_late()

        self._door.at(self._by_ns, ring)

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


Written = tuple[DirectReply, Response]
"""An answer that is yet to leave."""

Arrival = tuple[DirectReply | ExpressRequest, bytes, int]
"""A request, its body, and when that came."""


class DirectDoor:
    """Granian's schedule function: takes what it can answer itself, hands the rest to the coroutine door."""

    def __init__(
        self,
        site: Site,
        at: At,
        gather: Gather,
        reply: type[DirectReply] = DirectReply,
        alone: Callable[[bool], None] | None = None,
    ) -> None:
        """`alone` is told whether requests come one at a time."""
        self.site = site
        self._rights = site.rights
        self._reply = reply
        self.bodies: Overdue[DirectReply | ExpressRequest] = Overdue(site.request_timeout_ns, at, self._late)
        self.hurried: Overdue[DirectReply] = Overdue(LONG_BODY_NS, at, DirectReply.hurry)
        """Those of `bodies` whose clients have said how long they wait."""
        self.queued: Overdue[DirectReply] = Overdue(LONG_QUEUED_NS, at, DirectReply.watch_client)
        self.at = at
        self._gather = gather
        clock = site.clock
        self.arrivals = Arrivals(self.bodies, clock, at, self._answer, MAX_TOGETHER, FRESH_NS, STALLED_NS)
        self.express = Express(self.bodies, self.arrivals, clock, self.takes, self._lost, alone, SOLO)
        self.lanes = Lanes(self.express.lanes, site)

    def takes(self, watcher: Any) -> bool:
        """Whether the request was taken, whatever it asks. Granian's Python thread; `express.takes` is asked first."""
        scope = watcher.scope
        match = self.site.find(scope.method, scope.path)
        route = match.route
        if route is None or route.infer is None or route.scope in GUARDED:
            return False
        headers = scope.headers
        if not 0 < _declared_bytes(headers) < self._limit(route, headers):
            return False
        rights = self._rights
        caller = EVERYBODY if rights.callers is None else rights.at_once(match, headers)
        if caller is None:
            return False  # to be asked who they are, or refused
        by_ns = 0
        if headers.get(TIMEOUT_HEADER) is not None:
            try:
                by_ns = self.site.gives_up_ns(headers, self.site.clock())
            except InvalidRequest:
                return False  # the coroutine door says so
        self._reply(self, match, scope, headers, watcher.proto, caller, by_ns).read()
        return True

    def _limit(self, route: Route, headers: Any) -> int:
        """What a body must be shorter than."""
        light = route.light
        few = OFFLOAD_BYTES if light is None or headers.get(light.header) is None else LIGHT_BYTES
        return min(few, self.site.max_body_bytes + 1)

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

    def _answer(self, together: list[Arrival]) -> None:
        """Any thread."""
        general = [(reply, content) for reply, content, _ in together if isinstance(reply, DirectReply)]
        if len(general) < len(together):
            general += self._answer_lanes(together)
        if len(general) == 1:
            reply, content = general[0]
            reply.run(content)
        elif general:
            self._gather(lambda: _run_all(general))
        for reply, _ in general:
            self._answer_later(reply)

    def _answer_lanes(self, together: list[Arrival]) -> list[tuple[DirectReply, bytes]]:
        """Answer what is in lanes; what is left goes the general way."""
        left: list[tuple[DirectReply, bytes]] = []
        lanes: dict[int, list[Expressed]] = {}
        for request, content, came_ns in together:
            if isinstance(request, ExpressRequest):
                lanes.setdefault(id(request.lane), []).append((request, content, came_ns))
        for arrivals in lanes.values():
            left += self._answer_lane(arrivals)
        return left

    def _answer_lane(self, arrivals: list[Expressed]) -> list[tuple[DirectReply, bytes]]:
        """Answer those of one lane; what is left."""
        lane: Lane = arrivals[0][0].lane
        if lane.waits:
            return self._queue_lane(lane, arrivals)
        try:
            answers = lane.answer([content for _, content, _ in arrivals], [came_ns for _, _, came_ns in arrivals])
        except Exception:  # the app's edge: the general way tells each of them what is wrong
            _log.exception("a lane failed")
            answers = None
        if answers is None:
            self.lanes.close(lane)
            return [(self._general(request), content) for request, content, _ in arrivals]
        left = []
        for at in self.lanes.send(arrivals, answers):
            request, content, _ = arrivals[at]
            reply, answer = self._in_lane(request), answers[at]
            if answer is None:
                left.append((reply, content))
            else:
                reply.send(answer)
        return left

    def _queue_lane(self, lane: Lane, arrivals: list[Expressed]) -> list[tuple[DirectReply, bytes]]:
        """Have those of one lane wait for their turn; what is left."""
        bodies, came_ns = [content for _, content, _ in arrivals], [came_ns for _, _, came_ns in arrivals]
        error = lane.refused(came_ns)
        if error is not None:
            for request, _, _ in self.lanes.refuse(arrivals, error):
                self._in_lane(request).fail(error)
            return []
        replies = [self._in_lane(request) for request, _, _ in arrivals]
        taken = submitted(self.site, lane, bodies, came_ns, replies)
        if taken is None:
            self.lanes.close(lane)
            return list(zip(replies, bodies, strict=True))
        left = []
        for reply, body, waits in zip(replies, bodies, taken, strict=True):
            if waits:
                self._answer_later(reply)
            else:
                left.append((reply, body))
        return left

    def _in_lane(self, request: ExpressRequest) -> DirectReply:
        """A request that its lane answers by itself; whose it is has to be known before: it is counted by that."""
        reply = self._general(request)
        reply.subject = request.lane.subject
        return reply

    def _general(self, request: ExpressRequest) -> DirectReply:
        """A request that its lane cannot answer, as any other."""
        scope = request.scope
        match = self.site.find(scope.method, scope.path)
        return self._reply(self, match, scope, request.headers, request.proto, EVERYBODY, 0, request.started_ns)

    def _lost(self, request: ExpressRequest) -> None:
        """Its body broke off."""
        self._general(request).fail(InvalidRequest("the body could not be read to its end"))

    def _late(self, request: DirectReply | ExpressRequest) -> None:
        """The alarm's thread: give up on a body."""
        if isinstance(request, ExpressRequest):
            request.give_up()
            self._general(request).fail(BodyTimeout())
        else:
            request.body_is_late()

    def _answer_later(self, reply: DirectReply) -> None:
        """Keep an eye on a request that is in the queue now."""
        if not reply.done:
            self.queued.begin(reply, self.site.clock())


def _run_all(together: list[tuple[DirectReply, bytes]]) -> None:
    for reply, content in together:
        reply.run(content)


def _declared_bytes(headers: Any) -> int:
    """How long the body is, and sent as it is; 0 where that is not said, or it is coded."""
    length = headers.get("content-length")
    if length is None or len(length) > MAX_LENGTH_DIGITS or not length.isdigit():
        return 0
    return int(length) if headers.get("content-encoding") is None else 0
