"""All three doors over one site, without a server: requests arrive, stall, leave and run out of time as a test says.

Time is `FakeClock`'s, on the loops too; work for executor threads lies in `FakeExecutor` until the test runs it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from fastserve.http.asgi import AsgiDoor
from fastserve.http.direct import DirectDoor, DirectReply
from fastserve.http.logged import LoggedReply
from fastserve.http.rsgi import RsgiDoor
from fastserve.http.site import Site
from fastserve.metrics import Metrics
from tests.support.clockwork import FakeClock, FakeExecutor
from tests.support.toy_protocol import Toy

TIMEOUT_S = 30
MAX_BODY_BYTES = 100_000
SETTLE_ROUNDS = 12


class Exchange:
    """One request as its client sees it."""

    def __init__(self, door: "FakeDoor") -> None:
        self._door = door
        self.answers: list[tuple[int, dict[str, str], bytes]] = []

    @property
    def status(self) -> int:
        assert len(self.answers) == 1, f"{len(self.answers)} answers"
        return self.answers[0][0]

    @property
    def headers(self) -> dict[str, str]:
        return self.answers[0][1]

    @property
    def body(self) -> bytes:
        return self.answers[0][2]

    @property
    def answered(self) -> bool:
        return bool(self.answers)

    def send(self, chunk: bytes, *, more: bool = False) -> "Exchange":
        """A piece of the body arrives."""
        self._arrive(chunk, more)
        self._door.settle()
        return self

    def arrive(self, body: bytes) -> None:
        """The whole body arrives; what follows from that follows when the door settles."""
        self._arrive(body, more=False)

    def leave(self) -> None:
        """The client goes away."""
        self._leave()
        self._door.settle()

    def _arrive(self, chunk: bytes, more: bool) -> None:
        raise NotImplementedError

    def _leave(self) -> None:
        raise NotImplementedError


class FakeDoor:
    """A door and what stands around it."""

    def __init__(
        self,
        *protocols: Any,
        timeout_s: float = TIMEOUT_S,
        cors_origins: tuple[str, ...] = (),
        clock: FakeClock | None = None,
        **site: Any,
    ) -> None:
        self.clock = clock or FakeClock()
        self.executor = FakeExecutor()
        self.metrics = Metrics()
        self.toy = Toy()
        self.site = Site(
            protocols or [self.toy],
            max_body_bytes=MAX_BODY_BYTES,
            request_timeout_ns=round(timeout_s * 1e9),
            cors_origins=cors_origins,
            post=self.executor.post,
            clock=self.clock,
            metrics=self.metrics,
            **site,
        )

    def request(self, method: str, path: str, headers: Mapping[str, str] | None = None, **how: Any) -> Exchange:
        """The headers of a request arrive; `declared` is its Content-Length (None: chunked, or no body)."""
        exchange = self._begin(method, path, {**(headers or {})}, **how)
        self.settle()
        return exchange

    def post(self, path: str, body: bytes = b"{}", headers: Mapping[str, str] | None = None) -> Exchange:
        """A whole request at once."""
        exchange = self.request("POST", path, headers, declared=len(body))
        return exchange.send(body) if body else exchange

    def work(self) -> None:
        """The executor's threads do all they have."""
        self.executor.run_all()
        self.settle()

    def advance(self, seconds: float) -> None:
        """Time goes by."""
        self.clock.advance(round(seconds * 1e9))
        self.settle()

    def settle(self) -> None:
        """What can happen without time going by happens."""

    def close(self) -> None:
        """Nothing may be left."""

    def count(self, text: str) -> int:
        """The value of a series, by how its line begins."""
        for line in self.metrics.text().decode().splitlines():
            if line.startswith(text):
                return int(float(line.rpartition(" ")[2]))
        return 0

    def _begin(self, method: str, path: str, headers: dict[str, str], declared: int | None = None) -> Exchange:
        raise NotImplementedError


class Scope:
    """An RSGI scope."""

    proto = "http"
    http_version = "1.1"
    authority: str | None = None
    client = "127.0.0.1:4711"

    def __init__(self, method: str, path: str, headers: dict[str, str]) -> None:
        self.method = method
        self.path = path
        self.query_string = ""
        self.headers = headers


class FakeDirectDoor(FakeDoor):
    """The door without a loop."""

    def __init__(self, *protocols: Any, **site: Any) -> None:
        super().__init__(*protocols, **site)
        reply = DirectReply if self.site.access is None else LoggedReply
        self.door = DirectDoor(self.site, self.clock.at, lambda work: work(), reply)

    def _begin(self, method: str, path: str, headers: dict[str, str], declared: int | None = None) -> Exchange:
        if declared is not None:
            headers["content-length"] = str(declared)
        exchange = DirectExchange(self)
        exchange.scope = Scope(method, path, headers)
        exchange.proto = exchange
        exchange.taken = self.door.express.takes(exchange)
        return exchange


class Later:
    """What Granian gives for a body or a disconnect: done later, calls back once, may be cancelled."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[Any], None]] = []
        self.outcome: bytes | Exception | None = None
        self.cancelled = False

    def add_done_callback(self, callback: Callable[[Any], None], context: Any = None) -> None:
        self.callbacks.append(callback)
        if self.outcome is not None:
            callback(self)

    def cancel(self) -> None:
        self.cancelled = True
        self.finish(RuntimeError("cancelled"))

    def finish(self, outcome: bytes | Exception) -> None:
        if self.outcome is None:
            self.outcome = outcome
            for callback in self.callbacks:
                callback(self)

    def result(self) -> bytes:
        assert self.outcome is not None
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class DirectExchange(Exchange):
    """A request, and Granian's protocol object and watcher for it."""

    scope: Scope
    proto: Any
    taken: bool

    def __init__(self, door: FakeDoor) -> None:
        super().__init__(door)
        self.body_later = Later()
        self.gone_later: Later | None = None
        self._got = b""
        self._gone = False

    def __call__(self) -> Later:
        return self.body_later

    def client_disconnect(self) -> Later:
        self.gone_later = Later()
        if self._gone:
            self.gone_later.finish(b"")
        return self.gone_later

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.answers.append((status, dict(headers), body))

    def _arrive(self, chunk: bytes, more: bool) -> None:
        self._got += chunk
        if not more:
            self.body_later.finish(self._got)

    def _leave(self) -> None:
        self._gone = True
        self.body_later.finish(RuntimeError("the client is gone"))
        if self.gone_later is not None:
            self.gone_later.finish(b"")


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """An event loop on a fake clock."""

    def __init__(self, clock: FakeClock) -> None:
        self._fake = clock
        super().__init__()

    def time(self) -> float:
        return self._fake.now_ns / 1e9


class FakeLoopDoor(FakeDoor):
    """A door on an event loop, which runs only when something happened."""

    def __init__(self, *protocols: Any, **site: Any) -> None:
        super().__init__(*protocols, **site)
        self.loop = FakeTimeLoop(self.clock)
        self.tasks: list[asyncio.Task[None]] = []

    def settle(self) -> None:
        async def rounds() -> None:
            for _ in range(SETTLE_ROUNDS):
                await asyncio.sleep(0)

        self.loop.run_until_complete(rounds())

    def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.settle()
        self.loop.close()

    @property
    def unfinished(self) -> int:
        """Tasks that still run, watchers included."""
        return len(asyncio.all_tasks(self.loop))


class FakeRsgiDoor(FakeLoopDoor):
    """The coroutine door."""

    def __init__(self, *protocols: Any, **site: Any) -> None:
        super().__init__(*protocols, **site)
        self.door = RsgiDoor(self.site, self.loop)

    def _begin(self, method: str, path: str, headers: dict[str, str], declared: int | None = None) -> Exchange:
        if declared is not None:
            headers["content-length"] = str(declared)
        exchange = RsgiExchange(self)
        self.tasks.append(self.loop.create_task(self.door(Scope(method, path, headers), exchange)))
        return exchange


class RsgiExchange(Exchange):
    """A request, and Granian's protocol object for it."""

    def __init__(self, door: FakeRsgiDoor) -> None:
        super().__init__(door)
        self._gone: asyncio.Future[None] = door.loop.create_future()
        self._chunks: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()

    async def __call__(self) -> bytes:
        whole = b""
        while (chunk := await self._chunks.get()) is not None:
            if isinstance(chunk, Exception):
                raise chunk
            whole += chunk
        return whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self._chunks.get()) is not None:
            yield b"" if isinstance(chunk, Exception) else chunk
            if isinstance(chunk, Exception):
                break
        yield b""  # as Granian does, whatever came before

    def client_disconnect(self) -> "asyncio.Future[None]":
        return self._gone

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.answers.append((status, dict(headers), body))

    def _arrive(self, chunk: bytes, more: bool) -> None:
        self._chunks.put_nowait(chunk)
        if not more:
            self._chunks.put_nowait(None)

    def _leave(self) -> None:
        self._chunks.put_nowait(RuntimeError("the client is gone"))
        if not self._gone.done():
            self._gone.set_result(None)


class FakeAsgiDoor(FakeLoopDoor):
    """The portable door."""

    def __init__(self, *protocols: Any, **site: Any) -> None:
        super().__init__(*protocols, **site)
        self.door = AsgiDoor(self.site, self.loop)

    def _begin(self, method: str, path: str, headers: dict[str, str], declared: int | None = None) -> Exchange:
        if declared is not None:
            headers["content-length"] = str(declared)
        exchange = AsgiExchange(self)
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "client": ("127.0.0.1", 4711),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        }
        if declared == 0:
            exchange.incoming.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        self.tasks.append(self.loop.create_task(self.door(scope, exchange.incoming.get, exchange.take)))
        return exchange


class AsgiExchange(Exchange):
    """A request, and its two ASGI channels."""

    def __init__(self, door: FakeDoor) -> None:
        super().__init__(door)
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._start: dict[str, Any] = {}

    async def take(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert not self._start
            self._start = message
            return
        headers = {name.decode(): value.decode("latin-1") for name, value in self._start["headers"]}
        self.answers.append((self._start["status"], headers, message["body"]))

    def _arrive(self, chunk: bytes, more: bool) -> None:
        self.incoming.put_nowait({"type": "http.request", "body": chunk, "more_body": more})

    def _leave(self) -> None:
        self.incoming.put_nowait({"type": "http.disconnect"})


DOORS: dict[str, type[FakeDoor]] = {"direct": FakeDirectDoor, "rsgi": FakeRsgiDoor, "asgi": FakeAsgiDoor}
