"""One worker's application: ASGI and RSGI at once, over one engine.

`fastserve.server.app:app` runs under any ASGI server, configured by the environment (FASTSERVE_PATH, FASTSERVE_CONFIG, ...);
`fastserve serve` makes its own with `create_app`.

Thread: made on the worker's main thread; requests come on its event loop.
Memory: nothing before start-up: a process that forks workers may import this.
"""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fastserve.access.callers import Callers
from fastserve.backends.shared import SharedModels
from fastserve.config import AuthConfig, Config, RepositoryConfig, ServerConfig, load_config
from fastserve.engine.engine import Engine
from fastserve.engine.executor import Executor
from fastserve.http.access import AccessLog
from fastserve.http.asgi import AsgiDoor, Receive, Send
from fastserve.http.direct import DirectDoor, DirectReply
from fastserve.http.logged import LoggedReply
from fastserve.http.rights import Rights, is_loopback_name
from fastserve.http.rsgi import RsgiDoor
from fastserve.http.site import Site
from fastserve.metrics import Metrics
from fastserve.protocols.arize.reader import READERS
from fastserve.protocols.table import PROTOCOLS
from fastserve.server.admin import Admin
from fastserve.server.affinity import Together
from fastserve.server.certificates import Certificates
from fastserve.server.hub import Line
from fastserve.server.keeper import Keeper, keeper
from fastserve.server.ledger import SharedCells
from fastserve.server.member import Member
from fastserve.store.writer import Writer, open_writer

SWITCH_S = 0.0005
"""An executor thread that runs Python gives way to a door's thread after this (Python's own default is ten times as long)."""

LOG_CLOSE_S = 10.0
"""A disk that hangs does not hold up the end for longer."""

Started = Callable[[Engine], None]


class App:
    """Engine, protocols and doors of one worker; they exist from start-up to shutdown."""

    def __init__(
        self, config: Config | None = None, on_started: Started | None = None, line: Line | None = None
    ) -> None:
        """`line`: to the parent that directs several workers; without one this process is alone."""
        self._config = config
        self._line = line
        self._admitted = asyncio.Event()
        self._on_started = on_started
        self._engine: Engine | None = None
        self._asgi: AsgiDoor | None = None
        self._rsgi: RsgiDoor | None = None
        self._log: Writer | None = None
        self._compacting: Keeper | None = None
        self._callers: Callers | None = None
        self._direct_door: DirectDoor | None = None
        self._checking: Executor | None = None
        self._allowed: Rights | None = None
        self.site: Site | None = None
        self.certificates: Certificates | None = None
        self.poll_s = (config.repository if config else RepositoryConfig()).poll_seconds
        self.when_asked: Callable[[], None] = _nothing
        """What else there is to look at when an operator asks (SIGHUP)."""
        self.draining = False
        self.drain_timeout_s = (config.server if config else ServerConfig()).drain_timeout_ms / 1000

    @property
    def engine(self) -> Engine:
        """The running engine."""
        assert self._engine is not None, "the app is not started"
        return self._engine

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make the engine, begin to load, open the doors. Models load while health is answered already."""
        sys.setswitchinterval(SWITCH_S)
        config = self._config or load_config(env=os.environ)
        cells = None if self._line is None else SharedCells(self._line.file)
        metrics = Metrics(cells)
        self._log = open_writer(config, metrics)
        engine = self._engine = (
            self._alone(config, metrics) if cells is None else self._with_others(config, metrics, cells, loop)
        )
        engine.log_readers = READERS
        protocols = [protocol(engine) for protocol in PROTOCOLS]
        server = config.server
        self.site = Site(
            [*protocols, Admin(engine, lambda: self.draining, server.metrics_path, protocols, server.metrics_compat)],
            max_body_bytes=server.max_body_bytes,
            request_timeout_ns=server.request_timeout_ms * 1_000_000,
            cors_origins=server.cors_origins,
            post=engine.executor.post,
            compress_min_bytes=server.compress_min_bytes,
            access=self._access_log(server, engine),
            clock=engine.clock,
            metrics=engine.metrics,
            rights=self._rights(config, engine),
        )
        self._asgi = AsgiDoor(self.site, loop)
        self._rsgi = RsgiDoor(self.site, loop)
        engine.when_changed(self._asgi.lanes.clear)
        engine.when_changed(self._rsgi.lanes.clear)
        engine.start(lambda: self._first_look_done(engine))

    def _rights(self, config: Config, engine: Engine) -> Rights:
        """With users and keys, who they are; they are followed."""
        server = config.server
        locally = bool(server.uds) or is_loopback_name(server.host)
        rights = self._allowed = Rights(locally, None, engine.own_name)
        self._follow_auth(config.auth)
        engine.when_auth = self._follow_auth
        return rights

    def _follow_auth(self, auth: AuthConfig | None) -> None:
        """Have these users and keys from now on; None: as before. One thread at a time."""
        before = self._callers
        if auth is None or auth == (before.auth if before is not None else AuthConfig()):
            return
        if self._checking is None:  # passwords are checked on a thread of their own: the executor's have models to run
            self._checking = Executor(0, "passwords")
        self._checking.grow(1 if auth.users else 0)
        assert self._allowed is not None
        self._allowed.callers = self._callers = Callers(auth, self._checking.post, before)
        for door in (self._asgi, self._rsgi, self._direct_door):
            if door is not None:
                door.lanes.clear()  # they ask nobody

    @staticmethod
    def _access_log(server: ServerConfig, engine: Engine) -> AccessLog | None:
        """Where one is asked for. Raises ConfigError where it cannot be written."""
        if server.access_log is None:
            return None
        text = "Lines that the access log had no room for."
        return AccessLog(server.access_log, engine.metrics.counter("fastserve_access_log_dropped_total", text, {}).add)

    def _alone(self, config: Config, metrics: Metrics) -> Engine:
        self._admitted.set()
        self._compacting = keeper(config)
        if self._compacting is not None:
            self._compacting.start()
        return Engine(config, metrics, log=self._log)

    def _with_others(
        self, config: Config, metrics: Metrics, cells: SharedCells, loop: asyncio.AbstractEventLoop
    ) -> Engine:
        line = self._line
        assert line is not None, "cells are shared over a line"

        def admitted() -> None:
            with suppress(RuntimeError):  # the loop is closed: we are on our way out
                loop.call_soon_threadsafe(self._admitted.set)

        if not line.successor:
            self._admitted.set()
        shared = None
        if line.weights is not None:
            shared = SharedModels(line.weights, config.server.share_weights_bytes)
        return Engine(
            config, metrics, connect=lambda engine: Member(line, cells, engine, admitted), log=self._log, shared=shared
        )

    def _first_look_done(self, engine: Engine) -> None:
        """The loading thread: what exists now stays, so the collector need not look at it again and again."""
        gc.collect()
        gc.freeze()
        if self._on_started is not None:
            self._on_started(engine)

    def direct_door(self) -> DirectDoor:
        """The door without a loop, for workers that can use it."""
        if self._direct_door is not None:  # a worker asks again when its certificates change
            return self._direct_door
        assert self.site is not None, "the app is not started"
        reply = DirectReply if self.site.access is None else LoggedReply
        server = self.engine.config.server
        alone = Together().follow if server.adaptive_affinity and server.worker_count == 1 else None
        self._direct_door = door = DirectDoor(self.site, self.engine.at, self.engine.gather, reply, alone)
        self.engine.answering = door.together
        self.engine.when_changed(door.lanes.clear)
        return door

    def stop(self) -> None:
        """Let the models go. Requests in flight have ended by now: the server drains before it calls this."""
        gc.unfreeze()  # what is frozen is not freed at the process's end, and native modules complain of it
        engine, self._engine = self._engine, None
        if self._callers is not None:
            self._callers.close()
        if self._checking is not None:
            self._checking.stop()
        if engine is not None:
            engine.stop()
        if self._log is not None:
            self._log.close(LOG_CLOSE_S)
        if self._compacting is not None:
            self._compacting.stop()
        if self.site is not None and self.site.access is not None:
            self.site.access.close()

    def drain(self) -> None:
        """Be not ready from now on; requests that come are still served, and asked to be a connection's last."""
        self.draining = True
        if self._engine is not None:
            self._engine.draining = True
        self._admitted.set()
        if self.site is not None:
            self.site.ask_to_leave(True)

    def hang_up(self, seconds: float) -> None:
        """For so long, ask every client to come again on a new connection. The loop's thread."""
        site = self.site
        assert site is not None, "the app is not started"
        site.ask_to_leave(True)
        asyncio.get_running_loop().call_later(seconds, lambda: site.ask_to_leave(self.draining))

    def _look_soon(self) -> None:
        """At the repository, unless others do that for us (see supervisor), and at what else may have changed."""
        if self._engine is not None and self._line is None:
            self._engine.look_soon()
        if self.site is not None and self.site.access is not None:
            self.site.access.look()
        self.when_asked()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            if self._asgi is None:  # a server without lifespan support: the first request starts us
                self.start(asyncio.get_running_loop())
            assert self._asgi is not None
            await self._asgi(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """RSGI start-up. A worker that replaces one that died takes requests when it has what the others have."""
        self._listen_for_signals(loop)
        self.start(loop)
        loop.run_until_complete(self._admitted.wait())

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """RSGI shutdown."""
        self.stop()

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        """RSGI."""
        assert self._rsgi is not None
        await self._rsgi(scope, proto)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                loop = asyncio.get_running_loop()
                self._listen_for_signals(loop)
                self.start(loop)
                await self._admitted.wait()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await asyncio.get_running_loop().run_in_executor(None, self.stop)
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _listen_for_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        """SIGUSR1: shutdown comes, says the process that started us (see supervisor). SIGHUP: look at the repository."""
        try:
            loop.add_signal_handler(signal.SIGUSR1, self.drain)
            loop.add_signal_handler(signal.SIGHUP, self._look_soon)
        except (NotImplementedError, RuntimeError, ValueError):
            return  # not the main thread's loop: whoever embeds us has its own way to drain


def _nothing() -> None:
    """Nothing else is to be looked at."""


def create_app(config: Config, on_started: Started | None = None, line: Line | None = None) -> App:
    """An app that serves `config`; `on_started` is called on the loading thread once the first look is through."""
    return App(config, on_started, line)


app = App()
"""For ASGI servers: configured by the environment when it starts."""
