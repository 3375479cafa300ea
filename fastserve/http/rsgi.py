"""The RSGI door: a coroutine per request on the worker's event loop (RSGI 1.6, Granian's own interface).

Thread: the loop's. Answers that finish on other threads are brought here together, one wake-up for all that are ready.
"""

import asyncio
from contextlib import suppress
from typing import Any

from fastserve.errors import BodyTimeout, FastServeError, InvalidRequest, PayloadTooLarge
from fastserve.http.access import Asked
from fastserve.http.body import BODYLESS, MAX_DISCARDED_BYTES, Collected, is_worth_discarding
from fastserve.http.deadlines import BodyDeadlines
from fastserve.http.lanes import Lanes
from fastserve.http.loop import LoopReply, Outbox
from fastserve.http.message import Reply, Request, Response
from fastserve.http.routes import Route
from fastserve.http.site import OFFLOAD_BYTES, Site
from fastserve.http.table import Match
from fastserve.http.turn import Turn

HTTP_1 = frozenset({"1", "1.0", "1.1"})
MAX_EMPTY_CHUNKS = 16
"""In a row; a body that ends well has three at most, unless its sender plays with empty frames."""
UNREADABLE = "the body could not be read to its end"


class RsgiDoor:
    """Callable as an RSGI application."""

    def __init__(self, site: Site, loop: asyncio.AbstractEventLoop) -> None:
        self._site = site
        self._loop = loop
        self._outbox = Outbox(loop)
        self._bodies = BodyDeadlines(loop, site.request_timeout_ns)
        self._turn = Turn(site)

    @property
    def lanes(self) -> Lanes:
        """Which paths have lanes."""
        return self._turn.lanes

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
            lane = self._turn.lane(scope.method, scope.path, scope.headers)
            if lane is None:
                await self._answer(scope, proto, match, reply, started)
            else:
                body = await self._body(scope, proto, site.max_body_bytes, has_length=True)
                if not await self._turn.takes(lane, reply, body):
                    await self._answer(scope, proto, match, reply, started, body)
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

    async def _answer(
        self, scope: Any, proto: Any, match: Match, reply: LoopReply, started_ns: int, body: bytes | None = None
    ) -> None:
        """`body`: where it was read already."""
        route, request = await self._request(scope, proto, match, reply, started_ns, body)
        if route.infer is None:
            await self._site.wait(route, request, reply)
            return
        self._site.run(route, request, reply)
        if route.lane is not None and len(request.body) < OFFLOAD_BYTES:
            self.lanes.ask(request.path, route.lane, request)

    async def _request(
        self, scope: Any, proto: Any, match: Match, reply: LoopReply, started_ns: int, body: bytes | None
    ) -> tuple[Route, Request]:
        """What is asked, and what it leads to, once the body is there. Raises what admitting and reading it do."""
        site, headers = self._site, scope.headers
        declared, wrong = site.declared_bytes(headers)
        has_length = declared is not None
        has_body = body is None and wrong is None and declared != 0 and (has_length or scope.method not in BODYLESS)
        try:
            authority = scope.authority or headers.get("host")
            route, caller = await site.admit(match, headers, authority, scope.client)
            reply.caller = caller.name
            by_ns = site.gives_up_ns(headers, started_ns)
        except FastServeError:
            if has_body and is_worth_discarding(headers, declared):
                with suppress(PayloadTooLarge):
                    body = await self._body(scope, proto, MAX_DISCARDED_BYTES, has_length=has_length)
                    reply.body_bytes = len(body)
            raise
        if wrong is not None:
            raise wrong
        if has_body:
            body = await self._body(scope, proto, site.max_body_bytes, by_ns, has_length=has_length)
        body = body or b""
        reply.body_bytes = len(body)
        query = scope.query_string
        return route, site.request(match, scope.method, scope.path, query, headers, body, caller, by_ns)

    async def _body(self, scope: Any, proto: Any, max_bytes: int, by_ns: int = 0, *, has_length: bool) -> bytes:
        """The body, within limit and deadline. `await proto()` has no limit of its own: only for a declared length."""
        task = asyncio.current_task()
        assert task is not None
        self._bodies.begin(task, by_ns - self._site.clock() if by_ns else None)
        try:
            if has_length:
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
