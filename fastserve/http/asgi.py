"""The ASGI door (ASGI 3.0, HTTP and lifespan): the portable one, for any ASGI server and for mounting in another app.

Thread: the event loop's that calls it. Memory: the encoded headers of `MAX_ENCODED` kinds of answers.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from fastserve.errors import BodyTimeout, FastServeError, InvalidRequest, PayloadTooLarge
from fastserve.http.access import Asked
from fastserve.http.body import BODYLESS, MAX_DISCARDED_BYTES, Collected, is_worth_discarding
from fastserve.http.deadlines import BodyDeadlines
from fastserve.http.lanes import Lanes
from fastserve.http.loop import LoopReply, Outbox
from fastserve.http.message import Headers, Reply, Request, Response
from fastserve.http.routes import Route
from fastserve.http.site import Site
from fastserve.http.table import Match
from fastserve.http.turn import Turn

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Encoded = list[tuple[bytes, bytes]]

MAX_ENCODED = 64
"""Lists of headers of which the encoded form is kept: each model has one for all its answers."""


class AsgiDoor:
    """Answers HTTP scopes."""

    def __init__(self, site: Site, loop: asyncio.AbstractEventLoop) -> None:
        self._site = site
        self._loop = loop
        self._outbox = Outbox(loop)
        self._bodies = BodyDeadlines(loop, site.request_timeout_ns)
        self._turn = Turn(site)
        self._encoded: dict[int, tuple[Headers, Encoded]] = {}

    @property
    def lanes(self) -> Lanes:
        """Which paths have lanes."""
        return self._turn.lanes

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        site = self._site
        started = site.clock()
        headers, path = _headers(scope), _path(scope)
        match = site.find(scope["method"], path)
        reply = LoopReply(match.protocol, self._outbox, site, headers)
        try:
            lane = self._turn.lane(scope["method"], path, headers)
            if lane is None:
                await self._answer(scope, receive, match, reply, started)
            else:
                body = await self._timed_body(receive, site.max_body_bytes, int(headers["content-length"]))
                if not await self._turn.takes(lane, reply, body):
                    await self._answer(scope, receive, match, reply, started, body)
        except FastServeError as error:
            reply.fail(error)
        except Exception:  # the app's edge
            site.failed(reply)
        if reply.response is None:
            await self._wait(receive, reply)
        if reply.response is not None:
            await self._send(scope, send, reply, reply.response, started)

    async def _send(
        self, scope: dict[str, Any], send: Send, reply: LoopReply, response: Response, started_ns: int
    ) -> None:
        site = self._site
        request_id = ""
        if not site.plain:
            request_id = site.request_id(reply.headers)
            response = site.with_headers(response, reply.headers, request_id)
        headers = [*self._encoded_headers(response.headers), (b"content-length", b"%d" % len(response.body))]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else response.body})
        elapsed_ns = site.clock() - started_ns
        site.observe(reply, response.status, elapsed_ns)
        if site.access is not None:
            asked = Asked(scope["method"], _path(scope), _client(scope), reply.body_bytes, reply.caller)
            site.access.note(request_id, asked, reply, response, reply.timing, elapsed_ns)

    def _encoded_headers(self, headers: Headers) -> Encoded:
        kept = self._encoded.get(id(headers))  # those that are kept are alive, so nothing else has their id
        if kept is not None:
            return kept[1]
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        if len(self._encoded) >= MAX_ENCODED:
            self._encoded.clear()
        self._encoded[id(headers)] = headers, encoded
        return encoded

    async def _answer(
        self,
        scope: dict[str, Any],
        receive: Receive,
        match: Match,
        reply: LoopReply,
        started_ns: int,
        body: bytes | None = None,
    ) -> None:
        """`body`: where it was read already."""
        route, request = await self._request(scope, receive, match, reply, started_ns, body)
        if route.infer is None:
            await self._site.wait(route, request, reply)
            return
        self._site.run(route, request, reply)
        if route.lane is not None:
            self.lanes.ask(request.path, route.lane, request)

    async def _request(
        self,
        scope: dict[str, Any],
        receive: Receive,
        match: Match,
        reply: LoopReply,
        started_ns: int,
        body: bytes | None,
    ) -> tuple[Route, Request]:
        """What is asked, and what it leads to, once the body is there. Raises what admitting and reading it do."""
        site, headers, method = self._site, reply.headers, scope["method"]
        declared, wrong = site.declared_bytes(headers)
        has_body = body is None and wrong is None and not (declared is None and method in BODYLESS)
        try:
            client = scope.get("client")
            address = client[0] if client else ""
            route, caller = await site.admit(match, headers, headers.get("host"), address)
            reply.caller = caller.name
            by_ns = site.gives_up_ns(headers, started_ns)
        except FastServeError:
            if has_body and is_worth_discarding(headers, declared):
                with suppress(PayloadTooLarge):
                    reply.body_bytes = len(await self._timed_body(receive, MAX_DISCARDED_BYTES, declared))
            raise
        if wrong is not None:
            raise wrong
        if has_body:
            body = await self._timed_body(receive, site.max_body_bytes, declared, by_ns)
        body = body or b""
        reply.body_bytes = len(body)
        query = scope.get("query_string", b"").decode("latin-1")
        return route, site.request(match, method, _path(scope), query, headers, body, caller, by_ns)

    async def _timed_body(self, receive: Receive, max_bytes: int, declared: int | None, by_ns: int = 0) -> bytes:
        """What is there in full needs no message that says so: that would be a turn of the loop, and Granian's thread."""
        task = asyncio.current_task()
        assert task is not None
        self._bodies.begin(task, by_ns - self._site.clock() if by_ns else None)
        try:
            body, more = _piece(await receive())
            if len(body) <= max_bytes and (not more or len(body) == declared):
                return body
            return await _whole(body, more, receive, max_bytes, declared)
        except asyncio.CancelledError:
            if self._bodies.end(task):
                raise BodyTimeout from None
            raise
        finally:
            self._bodies.end(task)

    async def _wait(self, receive: Receive, reply: LoopReply) -> None:
        """Until the answer is there; a client that goes away meanwhile takes its request with it."""
        future = reply.future = self._loop.create_future()
        if reply.response is not None:
            return
        watch = self._loop.create_task(_watch(receive, reply))
        try:
            await future
        finally:
            watch.cancel()


def _piece(message: dict[str, Any]) -> tuple[bytes, bool]:
    """A piece of a body, and whether more follow."""
    if message["type"] == "http.disconnect":
        # The client went away, or its chunks are none: who hears the answer, if anybody does, cannot be told.
        raise InvalidRequest("the body could not be read to its end")
    return message.get("body", b""), message.get("more_body", False)


async def _whole(piece: bytes, more: bool, receive: Receive, max_bytes: int, declared: int | None) -> bytes:
    """A body that begins with `piece`."""
    collected = Collected(max_bytes)
    collected.add(piece)
    while more and collected.size != declared:
        piece, more = _piece(await receive())
        collected.add(piece)
    return collected.body()


async def _watch(receive: Receive, reply: Reply) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    reply.give_up()


def _headers(scope: dict[str, Any]) -> dict[str, str]:
    """The first value of each name, which ASGI gives in lower case."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    return headers


def _client(scope: dict[str, Any]) -> str:
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else ""


def _path(scope: dict[str, Any]) -> str:
    """The decoded path, below where the app is mounted."""
    path: str = scope["path"]
    root = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root) else path
