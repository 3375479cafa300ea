"""The RSGI door: a coroutine per request on the worker's event loop (RSGI 1.6, Granian's own interface).

Thread: the loop's. Answers that finish on other threads are brought here together, one wake-up for all that are ready.
"""

import asyncio
from contextlib import suppress
from typing import Any

from fastserve.errors import BodyTimeout, FastServeError, InvalidRequest, PayloadTooLarge
from fastserve.http.access import Asked
from fastserve.http.body import BODYLESS, MAX_DISCARDED_BYTES, Collected, is_worth_discarding
from fastserve.http.loop import LoopReply, Outbox
from fastserve.http.message import Reply, Response
from fastserve.http.site import Site
from fastserve.http.table import Match

HTTP_1 = frozenset({"1", "1.0", "1.1"})
MAX_EMPTY_CHUNKS = 16
"""In a row; a body that ends well has three at most, unless its sender plays with empty frames."""
UNREADABLE = "the body could not be read to its end"


class BodyDeadlines:
    """Ends the tasks whose bodies do not arrive.

    Most have the same limit, so the oldest is always the next due: one timer. Who has a limit of its own has a timer too.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit_ns: int) -> None:
        self._loop = loop
        self._limit_s = limit_ns / 1e9
        self._reading: dict[asyncio.Task[Any], float] = {}
        self._timers: dict[asyncio.Task[Any], asyncio.TimerHandle] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._armed = False

    def begin(self, task: "asyncio.Task[Any]", own_limit_ns: int | None = None) -> None:
        """`task` waits for a body from now on."""
        if own_limit_ns is not None and (not self._limit_s or own_limit_ns < self._limit_s * 1e9):
            self._timers[task] = self._loop.call_later(max(0.0, own_limit_ns / 1e9), self._end, task)
        elif self._limit_s:
            self._reading[task] = self._loop.time() + self._limit_s
            if not self._armed:
                self._armed = True
                self._loop.call_at(self._reading[task], self._end_late)

    def end(self, task: "asyncio.Task[Any]") -> bool:
        """`task` waits no longer; whether it was ended for being late."""
        self._reading.pop(task, None)
        timer = self._timers.pop(task, None)
        if timer is not None:
            timer.cancel()
        if task in self._late:
            self._late.discard(task)
            return True
        return False

    def _end_late(self) -> None:
        now = self._loop.time()
        for task, due in list(self._reading.items()):
            if due > now:
                self._loop.call_at(due, self._end_late)
                return
            del self._reading[task]
            self._end(task)
        self._armed = False

    def _end(self, task: "asyncio.Task[Any]") -> None:
        self._late.add(task)
        task.cancel()


class RsgiDoor:
    """Callable as an RSGI application."""

    def __init__(self, site: Site, loop: asyncio.AbstractEventLoop) -> None:
        self._site = site
        self._loop = loop
        self._outbox = Outbox(loop)
        self._bodies = BodyDeadlines(loop, site.request_timeout_ns)

    async def __call__(self, scope: Any, proto: Any) -> None:
        """Answer one request."""
        if scope.proto != "http":
            proto.close(403)
            return
        site = self._site
        started = site.clock()
        match = site.find(scope.method, scope.path)
        reply = LoopReply(match.protocol, self._outbox, site, scope.headers)
        try:
            await self._answer(scope, proto, match, reply, started)
        except FastServeError as error:
            reply.fail(error)
        except Exception:  # the app's edge
            site.failed(reply)
        if reply.response is None:
            await self._wait(proto, reply)
        if reply.response is not None:
            self._send(scope, proto, reply, reply.response, started)

    def _send(self, scope: Any, proto: Any, reply: LoopReply, response: Response, started_ns: int) -> None:
        site = self._site
        request_id = site.request_id(scope.headers)
        response = site.with_headers(response, scope.headers, request_id)
        if scope.method == "HEAD" and scope.http_version not in HTTP_1:
            # Granian leaves the body out where HTTP/1 is spoken only; in HTTP/2 it makes the whole answer malformed.
            length = ("content-length", str(len(response.body)))
            proto.response_empty(response.status, [*response.headers, length])
        else:
            proto.response_bytes(response.status, response.headers, response.body)
        elapsed_ns = site.clock() - started_ns
        site.observe(reply, response.status, elapsed_ns)
        if site.access is not None:
            asked = Asked(scope.method, scope.path, scope.client, reply.body_bytes, reply.caller)
            site.access.note(request_id, asked, reply, response, reply.timing, elapsed_ns)

    async def _answer(self, scope: Any, proto: Any, match: Match, reply: LoopReply, started_ns: int) -> None:
        site, headers = self._site, scope.headers
        declared, wrong = site.declared_bytes(headers)
        body = b""
        has_body = wrong is None and declared != 0 and not (declared is None and scope.method in BODYLESS)
        try:
            authority = scope.authority or headers.get("host")
            route, caller = await site.admit(match, headers, authority, scope.client)
            reply.caller = caller.name
            by_ns = site.gives_up_ns(headers, started_ns)
        except FastServeError:
            if has_body and is_worth_discarding(headers, declared):
                with suppress(PayloadTooLarge):
                    reply.body_bytes = len(await self._body(scope, proto, declared, MAX_DISCARDED_BYTES))
            raise
        if wrong is not None:
            raise wrong
        if has_body:
            body = await self._body(scope, proto, declared, site.max_body_bytes, by_ns)
            reply.body_bytes = len(body)
        request = site.request(match, scope.method, scope.path, scope.query_string, headers, body, caller, by_ns)
        if route.infer is not None:
            site.run(route, request, reply)
        else:
            await site.wait(route, request, reply)

    async def _body(self, scope: Any, proto: Any, declared: int | None, max_bytes: int, by_ns: int = 0) -> bytes:
        """The body, within limit and deadline. `await proto()` has no limit of its own: only for a declared length."""
        task = asyncio.current_task()
        assert task is not None
        self._bodies.begin(task, by_ns - self._site.clock() if by_ns else None)
        try:
            if declared is not None:
                return bytes(await proto())
            return await _undeclared(scope, proto, max_bytes)
        except asyncio.CancelledError:
            if self._bodies.end(task):
                raise BodyTimeout from None
            raise
        except FastServeError:
            raise
        except Exception as error:  # Granian's: the client went away, or its chunks are none
            raise InvalidRequest(UNREADABLE) from error
        finally:
            self._bodies.end(task)

    async def _wait(self, proto: Any, reply: LoopReply) -> None:
        """Until the answer is there; a client that goes away meanwhile takes its request with it."""
        future = reply.future = self._loop.create_future()
        if reply.response is not None:
            return
        watch = self._loop.create_task(_watch(proto, reply))
        try:
            await future
        finally:
            watch.cancel()


async def _undeclared(scope: Any, proto: Any, max_bytes: int) -> bytes:
    """A body whose length nobody declared. Raises InvalidRequest where it broke off, PayloadTooLarge.

    For what cannot be read (the client left, its chunks are none) Granian gives empty chunks: in HTTP/1 one, in HTTP/2 one
    after the other without end. The end itself is one, and so are trailers, and empty frames of HTTP/2.
    """
    collected = Collected(max_bytes)
    empty = 0
    async for chunk in proto:
        collected.add(chunk)
        empty = 0 if chunk else empty + 1
        if empty > MAX_EMPTY_CHUNKS:
            raise InvalidRequest(UNREADABLE)
    if empty > 1 and scope.http_version in HTTP_1 and scope.headers.get("trailer") is None:
        raise InvalidRequest(UNREADABLE)
    return collected.body()


async def _watch(proto: Any, reply: Reply) -> None:
    await proto.client_disconnect()
    reply.give_up()
