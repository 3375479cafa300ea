"""The ASGI door (ASGI 3.0, HTTP and lifespan): the portable one, for any ASGI server and for mounting in another app.

Thread: the event loop's that calls it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from fastserve.errors import BodyTimeout, FastServeError, InvalidRequest, PayloadTooLarge
from fastserve.http.access import Asked
from fastserve.http.body import BODYLESS, MAX_DISCARDED_BYTES, Collected, is_worth_discarding
from fastserve.http.loop import LoopReply, Outbox
from fastserve.http.message import Reply, Response
from fastserve.http.site import Site
from fastserve.http.table import Match

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class AsgiDoor:
    """Answers HTTP scopes."""

    def __init__(self, site: Site, loop: asyncio.AbstractEventLoop) -> None:
        self._site = site
        self._loop = loop
        self._outbox = Outbox(loop)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        site = self._site
        started = site.clock()
        headers = _headers(scope)
        match = site.find(scope["method"], _path(scope))
        reply = LoopReply(match.protocol, self._outbox, site, headers)
        try:
            await self._answer(scope, receive, headers, match, reply, started)
        except FastServeError as error:
            reply.fail(error)
        except Exception:  # the app's edge
            site.failed(reply)
        if reply.response is None:
            await self._wait(receive, reply)
        if reply.response is not None:
            await self._send(scope, send, headers, reply, reply.response, started)

    async def _send(
        self,
        scope: dict[str, Any],
        send: Send,
        headers: dict[str, str],
        reply: LoopReply,
        response: Response,
        started_ns: int,
    ) -> None:
        site = self._site
        request_id = site.request_id(headers)
        response = site.with_headers(response, headers, request_id)
        start_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
        start_headers.append((b"content-length", str(len(response.body)).encode()))
        await send({"type": "http.response.start", "status": response.status, "headers": start_headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else response.body})
        elapsed_ns = site.clock() - started_ns
        site.observe(reply, response.status, elapsed_ns)
        if site.access is not None:
            asked = Asked(scope["method"], _path(scope), _client(scope), reply.body_bytes, reply.caller)
            site.access.note(request_id, asked, reply, response, reply.timing, elapsed_ns)

    async def _answer(
        self,
        scope: dict[str, Any],
        receive: Receive,
        headers: dict[str, str],
        match: Match,
        reply: LoopReply,
        started_ns: int,
    ) -> None:
        site = self._site
        declared, wrong = site.declared_bytes(headers)
        method = scope["method"]
        body = b""
        has_body = wrong is None and not (declared is None and method in BODYLESS)
        try:
            client = scope.get("client")
            address = client[0] if client else ""
            route, caller = await site.admit(match, headers, headers.get("host"), address)
            reply.caller = caller.name
            by_ns = site.gives_up_ns(headers, started_ns)
        except FastServeError:
            if has_body and is_worth_discarding(headers, declared):
                with suppress(PayloadTooLarge):
                    reply.body_bytes = len(await self._timed_body(receive, MAX_DISCARDED_BYTES))
            raise
        if wrong is not None:
            raise wrong
        if has_body:
            body = await self._timed_body(receive, site.max_body_bytes, by_ns)
            reply.body_bytes = len(body)
        query = scope.get("query_string", b"").decode("latin-1")
        request = site.request(match, method, _path(scope), query, headers, body, caller, by_ns)
        if route.infer is not None:
            site.run(route, request, reply)
        else:
            await site.wait(route, request, reply)

    async def _timed_body(self, receive: Receive, max_bytes: int, by_ns: int = 0) -> bytes:
        limit_ns = self._site.request_timeout_ns
        if by_ns:
            own_ns = max(1, by_ns - self._site.clock())
            limit_ns = min(limit_ns, own_ns) if limit_ns else own_ns
        try:
            async with asyncio.timeout(limit_ns / 1e9 if limit_ns else None):
                return await self._body(receive, max_bytes)
        except TimeoutError:
            raise BodyTimeout from None

    async def _body(self, receive: Receive, max_bytes: int) -> bytes:
        collected = Collected(max_bytes)
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                # The client went away, or its chunks are none: who hears the answer, if anybody does, cannot be told.
                raise InvalidRequest("the body could not be read to its end")
            collected.add(message.get("body", b""))
            if not message.get("more_body", False):
                return collected.body()

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
