"""A worker of Granian's with the door without a loop.

Leans on names that Granian does not promise, so they are used in this file only, for the one version that is pinned, and
checked at start (`unsupported`); where the check fails, Granian's own worker serves, through coroutines.

Thread: a worker's main thread, which runs the event loop; Granian's Python thread calls `schedule` and `_Loop`.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, Protocol

import granian
import uvloop
from granian.server import mp
from granian.server.common import WORKERS_METHODS

from fastserve.http.direct import ClientGone, DirectDoor, DirectReply
from fastserve.http.logged import LoggedReply
from fastserve.server.ending import Drains, end_at_signals

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

_log = logging.getLogger(__name__)


class DirectApp(Drains, Protocol):
    """What the worker needs of the application: RSGI, and its direct door once it has started."""

    def __rsgi__(self, scope: Any, proto: Any) -> Any:
        """The coroutine door."""

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start."""

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop."""

    def direct_door(self) -> DirectDoor:
        """The door without a loop; asked for after the start."""


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


OURS = frozenset({DirectReply, LoggedReply, ClientGone})
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


def _stopped_at_signals(loop: asyncio.AbstractEventLoop, app: Drains) -> tuple[Any, asyncio.Event]:
    """Granian's signal, which is set when it is time to end; and an event of the loop's that follows it.

    Granian's signal can lock up: it waits, with the GIL, for a thread that waits for the GIL (2.8.7, seen when it is set
    twice). So it is set once.
    """
    stop_signal = _granian.WorkerSignal()
    end_at_signals(loop, app, stop_signal.set)
    stopped = asyncio.Event()
    stop_signal.add_cb(partial(loop.call_soon_threadsafe, stopped.set))
    return stop_signal, stopped


def _serving(kind: Any, given: dict[str, Any]) -> Callable[..., None]:
    """What makes a worker of Granian's serve."""
    worker = kind(*(given[name] for name in WORKER_PARAMETERS), *given["ssl_ctx"], given["metrics"])
    listener = given["sock"]
    serve: Callable[..., None] = getattr(
        worker, WORKERS_METHODS[given["runtime_mode"]][(listener[0] or listener[1]).is_uds()]
    )
    return serve


def _run_worker(*arguments: Any) -> None:
    """Granian's own RSGI worker, step by step, with our schedule function and our view of the loop."""
    given = dict(zip(SPAWN_PARAMETERS, arguments, strict=True))
    app: DirectApp = given["callback"]
    loop: asyncio.AbstractEventLoop = given["loop"]
    stop_signal, stopped = _stopped_at_signals(loop, app)
    app.__rsgi_init__(loop)
    serve = _serving(_granian.RSGIWorker, given)
    coroutine = _futures._future_watcher_wrapper(app.__rsgi__)
    enter, leave = partial(_futures._aio_taskenter, loop), partial(_futures._aio_taskleave, loop)
    scheduler = _Scheduler(loop, coroutine, None, enter, leave)
    scheduler.ask_first(app.direct_door().takes)
    loop.__class__ = _Loop
    serve(scheduler, loop, stop_signal)
    loop.run_until_complete(stopped.wait())
    app.__rsgi_del__(loop)


def _run_asgi_worker(*arguments: Any) -> None:
    """Granian's own ASGI worker with lifespan, step by step, ending as ours do."""
    given = dict(zip(SPAWN_PARAMETERS, arguments, strict=True))
    app, loop = given["callback"], given["loop"]
    stop_signal, stopped = _stopped_at_signals(loop, app)
    lifespan = _asgi.LifespanProtocol(app)
    loop.run_until_complete(lifespan.startup())
    if lifespan.interrupt:
        _log.error("the application does not start", exc_info=lifespan.exc)
        raise SystemExit(1)
    serve = _serving(_granian.ASGIWorker, given)
    callback = _asgi._callback_wrapper(app, given["scope_opts"], lifespan.state, given["log_access_fmt"])
    scheduler = _futures._new_cbscheduler(loop, _futures._future_watcher_wrapper(callback), impl_asyncio=True)
    serve(scheduler, loop, stop_signal)
    loop.run_until_complete(stopped.wait())
    loop.run_until_complete(lifespan.shutdown())


run_worker: Callable[..., None] = mp.WorkerProcess.wrap_target(_run_worker)  # type: ignore[no-untyped-call]
"""What Granian's parent starts in a new process; the wrapper loads the application there."""

run_asgi_worker: Callable[..., None] = mp.WorkerProcess.wrap_target(_run_asgi_worker)  # type: ignore[no-untyped-call]
"""The same for `--interface asgi`."""
