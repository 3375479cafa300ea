"""Ways into the server that tests send the same requests through: ASGI in this process, HTTP to another one."""

import asyncio
import http.client
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from msgspec import Struct

from fastserve.server.app import App
from tests.support.server import ServerProcess

CHUNK_BYTES = 4096


class Sent(Struct, frozen=True):
    """One request as it goes over the wire; `path` is still percent-encoded and may hold a query."""

    method: str
    path: str
    headers: Mapping[str, str] = {}
    body: bytes = b""
    chunked: bool = False

    def chunks(self) -> list[bytes]:
        """The body in the pieces that it is sent in."""
        return [self.body[at : at + CHUNK_BYTES] for at in range(0, len(self.body), CHUNK_BYTES)]


class Answer(Struct, frozen=True):
    """What came back; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class AsgiDoor:
    """An app called in this process, on a loop that only runs while it is asked."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._runner = asyncio.Runner()
        self._to_lifespan: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._from_lifespan: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._lifespan: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start the app and wait until every model is loaded or has failed."""
        self._runner.run(self._start())

    def close(self) -> None:
        """Shut the app down."""
        self._runner.run(self._stop())
        self._runner.close()

    def send(self, request: Sent) -> Answer:
        """The answer to `request`."""
        return self._runner.run(self._call(request))

    async def _start(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
        application = self._app(scope, self._to_lifespan.get, self._from_lifespan.put)
        self._lifespan = asyncio.get_running_loop().create_task(application)
        await self._to_lifespan.put({"type": "lifespan.startup"})
        assert (await self._from_lifespan.get())["type"] == "lifespan.startup.complete"
        await asyncio.get_running_loop().run_in_executor(None, self._app.engine.refresh)

    async def _stop(self) -> None:
        assert self._lifespan is not None
        await self._to_lifespan.put({"type": "lifespan.shutdown"})
        await self._lifespan

    async def _call(self, request: Sent) -> Answer:
        messages: list[dict[str, Any]] = []
        incoming = self._incoming(request)

        async def receive() -> dict[str, Any]:
            message = next(incoming, None)
            if message is None:
                await asyncio.Event().wait()  # the client stays and says no more
                raise AssertionError("unreachable")
            return message

        async def send(message: dict[str, Any]) -> None:
            messages.append(message)

        await self._app(self._scope(request), receive, send)
        start, *bodies = messages
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]}
        return Answer(start["status"], headers, b"".join(message.get("body", b"") for message in bodies))

    def _scope(self, request: Sent) -> dict[str, Any]:
        path, _, query = request.path.partition("?")
        headers = {"host": "localhost", **request.headers}
        if request.chunked:
            headers["transfer-encoding"] = "chunked"
        elif request.body or request.method == "POST":
            headers["content-length"] = str(len(request.body))
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 80),
        }

    def _incoming(self, request: Sent) -> Iterator[dict[str, Any]]:
        chunks = request.chunks() or [b""]
        for index, chunk in enumerate(chunks):
            yield {"type": "http.request", "body": chunk, "more_body": index < len(chunks) - 1}


class HttpDoor:
    """A served process, over one connection that is kept."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._connection = server.connection()

    def open(self) -> None:
        """Connect."""
        self._connection.connect()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def send(self, request: Sent) -> Answer:
        """The answer to `request`."""
        try:
            return self._send(request)
        except BaseException:
            self._connection.close()  # one request without an answer must not cost the next one its own
            raise

    def _send(self, request: Sent) -> Answer:
        connection = self._connection
        headers = dict(request.headers)
        if request.chunked:
            headers["transfer-encoding"] = "chunked"
            connection.request(
                request.method, request.path, iter(request.chunks()), headers=headers, encode_chunked=True
            )
        else:
            connection.request(request.method, request.path, request.body or None, headers=headers)
        response: http.client.HTTPResponse = connection.getresponse()
        body = response.read()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


Door = AsgiDoor | HttpDoor
