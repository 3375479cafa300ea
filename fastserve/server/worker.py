"""A worker of Granian's with the door without a loop.

Leans on names that Granian does not promise, so they are used in this file only, for the one version that is pinned, and
checked at start (`unsupported`); where the check fails, Granian's own worker serves, through coroutines.

Thread: a worker's main thread, which runs the event loop; Granian's Python thread calls `schedule` and `_Loop`.
"""

import asyncio
import inspect
import logging
import os
import socket
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, Protocol

import granian
import uvloop
from granian.server import mp
from granian.server.common import WORKERS_METHODS

from fastserve._ext.arrivals import ExpressRequest
from fastserve.http.direct import DirectDoor, DirectReply
from fastserve.http.gone import ClientGone
from fastserve.http.logged import LoggedReply
from fastserve.server.certificates import Certificates
from fastserve.server.ending import Drains, end_at_signals
from fastserve.server.listeners import MAX_WAITING_CONNECTIONS
from fastserve.server.silence import silence

# Granian's own parts have no types, or other ones than they take.
_futures: Any = import_module("granian._futures")
_granian: Any = import_module("granian._granian")
_asgi: Any = import_module("granian.asgi")

GRANIAN_VERSION = "2.8.7"
SPAWN_PARAMETERS = [
    *("worker_id", "callback", "sock", "ipc", "loop", "runtime_mode", "runtime_threads", "runtime_blocking_threads"),
    *("blocking_threads", "blocking_threads_idle_timeout", "backpressure", "task_impl", "http_mode", "http1_settings"),
    *("http2_settings", "websockets", "static_path", "log_access_fmt", "ssl_ctx", "scope_opts", "metrics"),
]
"""What Granian gives the function that runs a worker, in this order."""

WORKER_PARAMETERS = [
    *("worker_id", "sock", "ipc", "runtime_threads", "runtime_blocking_threads", "blocking_threads"),
    *("blocking_threads_idle_timeout", "backpressure", "http_mode", "http1_settings", "http2_settings", "websockets"),
    "static_path",
]
"""What the worker itself takes of them, before those of TLS and metrics."""

FUTURES_NAMES = (
    *("_cbsched_aioschedule", "_new_cbscheduler", "_future_watcher_wrapper", "_aio_taskenter", "_aio_taskleave"),
)

LEAVE_WITHIN_S = 1.0
"""How long clients get to read that they should hang up, once their authority is no longer trusted."""

MAX_OLDER = 2
"""Changes of the certificate that a connection outlives."""

_log = logging.getLogger(__name__)


class DirectApp(Drains, Protocol):
    """What the worker needs of the application: RSGI, and its direct door once it has started.

    `certificates`: what is served over TLS, None without it; its files are looked at every `poll_s` (0: only when asked),
    and when `when_asked` is called.
    """

    certificates: Certificates | None
    poll_s: float
    when_asked: Callable[[], None]

    def __rsgi__(self, scope: Any, proto: Any) -> Any:
        """The coroutine door."""

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start."""

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop."""

    def direct_door(self) -> DirectDoor:
        """A door without a loop; asked for after the start."""

    def hang_up(self, seconds: float) -> None:
        """For so long, ask every client to come again on a new connection."""


def socket_holder(fd: int, is_uds: bool) -> Any:
    """A socket of ours as Granian's parent and workers take it."""
    return _granian.SocketHolder(fd, is_uds, MAX_WAITING_CONNECTIONS)


def unsupported() -> str:
    """Why this Granian cannot be used this way; empty where it can."""
    if granian.__version__ != GRANIAN_VERSION:
        return f"granian {granian.__version__} is not {GRANIAN_VERSION}"
    missing = [name for name in FUTURES_NAMES if not hasattr(_futures, name)]
    if missing:
        return f"granian has no {', '.join(missing)}"
    spawns = (mp.MPServer._spawn_rsgi_worker, mp.MPServer._spawn_asgi_lifespan_worker)
    same = all([*inspect.signature(spawn).parameters] == SPAWN_PARAMETERS for spawn in spawns)
    return "" if same else "granian gives its workers other arguments"


OURS = frozenset({ExpressRequest, DirectReply, LoggedReply, ClientGone})
"""What is called where it becomes due."""


class _Loop(uvloop.Loop):
    """The worker's own loop as Granian's futures see it: our callbacks are called where they become due, not on the loop.

    A class and no wrapper: asyncio's tasks want the very loop that they run on.
    """

    __slots__ = ()

    def call_soon_threadsafe(  # type: ignore[override]  # a stub with type variables that are not exported
        self, callback: Any, *arguments: Any, context: Any = None
    ) -> Any:
        """What Granian calls, on its Python thread, when something is done."""
        if type(callback) in OURS:
            return callback(*arguments)
        return super().call_soon_threadsafe(callback, *arguments, context=context)

    def call_soon(  # type: ignore[override]
        self, callback: Any, *arguments: Any, context: Any = None
    ) -> Any:
        """What Granian calls, on whichever thread asked, when it was done already; the loop would not wake for that."""
        if type(callback) in OURS:
            return callback(*arguments)
        return super().call_soon(callback, *arguments, context=context)


class _Scheduler(_granian.CallbackScheduler):  # type: ignore[misc]  # a Rust class without types
    """Granian's scheduler with our schedule function: coroutines are asked only for what the direct door does not take."""

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Any, _task: None, _enter: Any, _leave: Any) -> None:
        super().__init__()
        self._to_coroutine = _futures._cbsched_aioschedule(loop, self._ctx, coroutine)

    def ask_first(self, takes: Callable[[Any], bool]) -> None:
        """Offer every request to `takes`. Once: Granian's `_schedule_fn` can be set once, and not read."""
        to_coroutine = self._to_coroutine

        def schedule(watcher: Any) -> None:
            try:
                taken = takes(watcher)
            except Exception:  # the app's edge: nobody above us would answer
                _log.exception("the direct door failed; the coroutine door takes the request")
                taken = False
            if not taken:
                to_coroutine(watcher)

        self._schedule_fn = schedule


class _Generation:
    """One serving of Granian's: its own listener, network threads and connections.

    `fd`: the listener, which Granian closes at its end. `authorities`: whom its clients are vouched for by.
    """

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop, authorities: bytes) -> None:
        self.fd = fd
        self.authorities = authorities
        self.ended = asyncio.Event()
        self.signal = _granian.WorkerSignal()
        self.signal.add_cb(partial(loop.call_soon_threadsafe, self.ended.set))
        self._stopped = False

    def stop(self) -> None:
        """Finish what is in flight, and end.

        Granian's signal can lock up: it waits, with the GIL, for a thread that waits for the GIL (2.8.7, seen when it is
        set twice). So it is set once.
        """
        if not self._stopped:
            self._stopped = True
            self.signal.set()

    def take_no_more(self) -> None:
        """Accept no connection any more; those that are there go on, and so do handshakes that have begun.

        Granian cannot be told that. So its descriptor is made one of a socket that nobody connects to.
        """
        with socket.socket(socket.AF_UNIX) as nobody:
            nobody.bind("")  # Linux finds a name that no file has
            nobody.listen()
            nobody.setblocking(False)
            os.dup2(nobody.fileno(), self.fd)


class _Service:
    """What makes a worker of Granian's serve: once, and again beside it when there are other certificates.

    Thread: the event loop's.
    """

    def __init__(self, kind: Any, given: dict[str, Any], scheduler: Callable[[], Any]) -> None:
        self._kind = kind
        self._given = given
        self._scheduler = scheduler
        self._app: DirectApp = given["callback"]
        self._loop: asyncio.AbstractEventLoop = given["loop"]
        self._generations: list[_Generation] = []
        self._listener = given["sock"][1]
        self._spare: int | None = None
        self._looking: asyncio.Future[bool] | None = None
        self._stopping = False
        header_timeout_ms = given["http1_settings"].header_read_timeout
        over_tls = self._app.certificates is not None
        self._silence = silence(self._listener.get_fd(), header_timeout_ms, over_tls=over_tls)
        end_at_signals(self._loop, self._app, self.stop)

    def begin(self) -> None:
        """Serve, and follow the files of the certificates; nothing where it is over already."""
        if self._stopping:
            return
        fd = self._listener.get_fd()
        certificates = self._app.certificates
        if certificates is not None:
            self._spare = os.dup(fd)
            self._app.when_asked = partial(self._look, certificates, finished=True)
            if self._app.poll_s:
                self._loop.call_later(self._app.poll_s, self._look_now_and_then, certificates)
        self._serve(fd, self._given["ssl_ctx"])
        if self._silence is not None:
            self._silence.start()

    @property
    def note(self) -> Callable[[str], None] | None:
        """To be told where each request comes from; None where nobody asks."""
        asks = self._silence
        return None if asks is None or asks.askers is None else asks.askers.note

    async def ended(self) -> None:
        """Until all is answered."""
        while self._generations:
            oldest = self._generations[0]
            await oldest.ended.wait()
            self._generations.remove(oldest)

    def stop(self) -> None:
        """Take nothing new, finish what is in flight, and end. Once."""
        self._stopping = True
        if self._silence is not None:
            self._silence.stop()
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        for generation in self._generations:
            generation.stop()

    def _serve(self, fd: int, tls: tuple[Any, ...]) -> None:
        given = self._given
        is_uds = self._listener.is_uds()
        values = {**given, "sock": (None, socket_holder(fd, is_uds))}
        worker = self._kind(*(values[name] for name in WORKER_PARAMETERS), *tls, given["metrics"])
        certificates = self._app.certificates
        generation = _Generation(fd, self._loop, certificates.authorities if certificates else b"")
        getattr(worker, WORKERS_METHODS[given["runtime_mode"]][is_uds])(
            self._scheduler(), self._loop, generation.signal
        )
        self._generations.append(generation)

    def _look_now_and_then(self, certificates: Certificates) -> None:
        if not self._stopping:
            self._look(certificates)
            self._loop.call_later(self._app.poll_s, self._look_now_and_then, certificates)

    def _look(self, certificates: Certificates, *, finished: bool = False) -> None:
        """On a thread of its own, one look after the other: certificates that are other ones are tried first."""
        if self._looking is not None:
            self._looking.add_done_callback(lambda _: self._look(certificates, finished=finished))
        elif not self._stopping:
            self._looking = self._loop.run_in_executor(None, partial(certificates.look, finished=finished))
            self._looking.add_done_callback(partial(self._looked, certificates))

    def _looked(self, certificates: Certificates, found: "asyncio.Future[bool]") -> None:
        self._looking = None
        if not self._stopping and found.result():
            self._renew(certificates)

    def _renew(self, certificates: Certificates) -> None:
        """Serve new connections with them. Those that are there stay, unless it is judged otherwise now who may have one."""
        assert self._spare is not None
        self._serve(os.dup(self._spare), certificates.arguments)
        _log.info("the certificates have changed: new connections are served with them")
        *older, before, _ = self._generations
        before.take_no_more()
        for generation in older[: len(older) + 1 - MAX_OLDER]:
            generation.stop()
        if before.authorities != certificates.authorities:
            self._app.hang_up(LEAVE_WITHIN_S)
            for generation in (*older, before):
                self._loop.call_later(LEAVE_WITHIN_S, generation.stop)


def _noting(note: Callable[[str], None], takes: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """`takes`, and where the request came from is noted."""

    def noted(watcher: Any) -> bool:
        note(watcher.scope.client)
        return takes(watcher)

    return noted


def _noting_asgi(note: Callable[[str], None], app: Any) -> Any:
    """The ASGI application, and where the request came from is noted."""

    def noted(scope: dict[str, Any], receive: Any, send: Any) -> Any:
        if scope["type"] != "lifespan":
            host, port = scope["client"]
            note(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        return app(scope, receive, send)

    return noted


def _run_worker(*arguments: Any) -> None:
    """Granian's own RSGI worker, step by step, with our schedule function and our view of the loop."""
    given = dict(zip(SPAWN_PARAMETERS, arguments, strict=True))
    app: DirectApp = given["callback"]
    loop: asyncio.AbstractEventLoop = given["loop"]
    coroutine = _futures._future_watcher_wrapper(app.__rsgi__)
    enter, leave = partial(_futures._aio_taskenter, loop), partial(_futures._aio_taskleave, loop)

    def scheduler() -> _Scheduler:
        made = _Scheduler(loop, coroutine, None, enter, leave)
        takes = app.direct_door().express.takes
        made.ask_first(takes if service.note is None else _noting(service.note, takes))
        return made

    service = _Service(_granian.RSGIWorker, given, scheduler)
    app.__rsgi_init__(loop)
    loop.__class__ = _Loop
    service.begin()
    loop.run_until_complete(service.ended())
    app.__rsgi_del__(loop)


def _run_asgi_worker(*arguments: Any) -> None:
    """Granian's own ASGI worker with lifespan, step by step, ending as ours do."""
    given = dict(zip(SPAWN_PARAMETERS, arguments, strict=True))
    app, loop = given["callback"], given["loop"]
    lifespan = _asgi.LifespanProtocol(app)

    def scheduler() -> Any:
        told = app if service.note is None else _noting_asgi(service.note, app)
        callback = _asgi._callback_wrapper(told, given["scope_opts"], lifespan.state, given["log_access_fmt"])
        return _futures._new_cbscheduler(loop, _futures._future_watcher_wrapper(callback), impl_asyncio=True)

    service = _Service(_granian.ASGIWorker, given, scheduler)
    loop.run_until_complete(lifespan.startup())
    if lifespan.interrupt:
        _log.error("the application does not start", exc_info=lifespan.exc)
        raise SystemExit(1)
    service.begin()
    loop.run_until_complete(service.ended())
    loop.run_until_complete(lifespan.shutdown())


run_worker: Callable[..., None] = mp.WorkerProcess.wrap_target(_run_worker)  # type: ignore[no-untyped-call]
"""What Granian's parent starts in a new process; the wrapper loads the application there."""

run_asgi_worker: Callable[..., None] = mp.WorkerProcess.wrap_target(_run_asgi_worker)  # type: ignore[no-untyped-call]
"""The same for `--interface asgi`."""
