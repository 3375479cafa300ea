"""The parent of the workers: starts them, replaces those that die, drains them in two steps, and forces when asked twice.

Thread: the parent's main thread, signal handlers too. A handler only puts something into a queue.
"""

import logging
import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from granian import Granian
from granian.server.mp import WorkerProcess

from fastserve.config import ServerConfig
from fastserve.server.certificates import Certificates
from fastserve.server.ending import DRAIN, HANG_UP_S, HELD
from fastserve.server.hub import Hub
from fastserve.server.listeners import Listeners
from fastserve.server.worker import socket_holder

LOOK_EVERY_S = 0.05
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
PIDS_MAX = Path("/sys/fs/cgroup/pids.max")
THREADS_OF_WORKER = 20
FEW_THREADS = 100
MAX_FAILED_STARTS = 2
"""Deaths of one worker before the server ever served, after which it gives up."""

_log = logging.getLogger(__name__)


class Supervised(WorkerProcess):
    """A worker's process; the supervisor hears of its end, whatever ended it."""

    parent: "Supervisor"
    key: int
    stop_signal: signal.Signals

    def terminate(self) -> None:
        """Have it finish what is in flight, and end."""
        self.interrupt_by_parent = True
        if self.inner.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.inner.pid, self.stop_signal)

    def _watcher(self) -> None:
        self.inner.join()
        self.parent.ended.put(self)


class Supervisor(Granian):  # type: ignore[valid-type,misc]  # which of its classes `Granian` is depends on the interpreter
    """Granian's parent process. `stop_signal`: what makes the workers drain and end."""

    def __init__(
        self,
        server: ServerConfig,
        hub: Hub,
        listeners: Listeners,
        certificates: Certificates | None,
        stop_signal: signal.Signals,
        **options: Any,
    ) -> None:
        super().__init__("fastserve", **options)
        self._listeners = listeners
        self._certificates = certificates
        self._drain_delay_s = server.drain_delay_ms / 1000
        self.workers_kill_timeout = max(server.drain_timeout_ms / 1000, 0.001)
        self._hub = hub
        self._stop_signal = stop_signal
        self.ended: SimpleQueue[Supervised | None] = SimpleQueue()
        """Workers that ended; None: look what is to be done."""
        self._pauses_s: dict[int, float] = {}
        self._due_s: dict[int, float] = {}
        self._failed_starts = [0] * server.worker_count
        self.interrupt_signal = False
        self.cut_short = False
        """Whether workers were killed: requests in flight got no answer."""

    def signal_handler_interrupt(self, *_: Any, **__: Any) -> None:
        """SIGTERM or SIGINT: the first one drains, the second one forces."""
        if self.interrupt_signal:
            self.kill_all()
        self.interrupt_signal = True
        self.ended.put(None)

    def kill_all(self) -> None:
        """End the workers now, whatever they do."""
        self.cut_short = True
        for one in self.wrks:
            one.kill()

    def signal_handler_reload(self, *_: Any, **__: Any) -> None:
        """SIGHUP: look at the repository now, for every worker. (Granian would start its workers anew.)

        What else a worker does then, with files of its own, it is told to do.
        """
        self._hub.director.refresh(lambda _: None)
        self._tell_workers(signal.SIGHUP)

    def _init_shared_socket(self) -> None:
        """There are ours, one a place."""
        self._ssp = self._sso = None
        self._shd: Any = None

    def _drop_shared_socket(self) -> None:
        """Shutdown begins: who listens now are the workers."""
        self._listeners.close()

    def _spawn_workers(self, spawn_target: Any, target_loader: Any) -> None:
        signal.signal(DRAIN, signal.SIG_IGN)  # a worker that does not listen yet must not die of it
        for slot in range(self.workers):
            self.wrks.append(self._spawned(slot, spawn_target, target_loader, successor=False))
        self._hub.start()

    def _spawned(self, slot: int, target: Any, loader: Any, *, successor: bool) -> Supervised:
        """A fresh worker in that place, running."""
        line = self._hub.new_line(slot, successor=successor)
        listener = self._listeners.of(slot).fileno()
        self._shd = socket_holder(listener, self.bind_uds is not None)
        if self._certificates is not None:
            self._certificates.look()  # so that it need not begin with what the others serve no more
            self.ssl_ctx = self._certificates.arguments
        worker = self._spawn_worker(idx=slot, target=target, callback_loader=partial(loader, line))
        worker.__class__ = Supervised
        worker.stop_signal = self._stop_signal
        with self._hub.resting(), _held():
            worker.start()
        worker.key = self._hub.adopt(slot, line)
        return worker  # type: ignore[no-any-return]

    def _serve_loop(self, spawn_target: Any, target_loader: Any) -> None:
        """Until a signal says stop: start anew what ended."""
        while not self.interrupt_signal:
            with suppress(Empty):
                ended = self.ended.get(timeout=self._next_due_s())
                if ended is not None and not self.interrupt_signal and ended is self.wrks[ended.idx]:
                    self._plan_successor(ended)
            for slot in [slot for slot, due in self._due_s.items() if due <= time.monotonic()]:
                del self._due_s[slot]
                if not self.interrupt_signal:
                    self.wrks[slot] = self._spawned(slot, spawn_target, target_loader, successor=True)

    def _next_due_s(self) -> float | None:
        return max(0.0, min(self._due_s.values()) - time.monotonic()) if self._due_s else None

    def _plan_successor(self, ended: Supervised) -> None:
        """At once for a worker that had served, whatever it died of; ever later for one that dies before it can."""
        slot, code = ended.idx, ended.inner.exitcode
        if any(other is not ended and other.is_alive() and self._listeners.listens(other.idx) for other in self.wrks):
            self._listeners.give_up(slot)
        pause_s = 0.0
        if not self._hub.has_served(ended.key):
            pause_s = min(max(FIRST_PAUSE_S, 2 * self._pauses_s.get(slot, 0.0)), LONGEST_PAUSE_S)
            self._failed_starts[slot] += 1
        self._pauses_s[slot] = pause_s
        self._due_s[slot] = time.monotonic() + pause_s
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        if not pause_s:
            _log.warning("worker %d %s; another one takes its place", slot + 1, how)
            return
        _log.error("worker %d %s before it served; it is started again in %.1f s", slot + 1, how, pause_s)
        if not self._hub.was_started and self._failed_starts[slot] >= MAX_FAILED_STARTS:
            _log.error("worker %d does not start; giving up%s", slot + 1, want_of_threads())
            self.shutdown(1)

    def _stop_workers(self) -> None:
        """Not ready first, so that balancers look elsewhere; then no new connections, and what is in flight ends."""
        self._tell_workers(DRAIN)
        self._wait(max(self._drain_delay_s, HANG_UP_S), lambda: self.cut_short)
        workers = [one for one in self.wrks if one.is_alive()]
        super()._stop_workers()
        # Granian's own thread takes the exit codes, and may be a moment later than we are.
        self._wait(1.0, lambda: all(one.inner.exitcode is not None for one in workers))
        self.cut_short |= any(one.inner.exitcode == -signal.SIGKILL for one in workers)
        self._hub.stop()

    def _tell_workers(self, number: int) -> None:
        for one in self.wrks:
            if one.is_alive():
                with suppress(ProcessLookupError):
                    os.kill(one.inner.pid, number)

    @staticmethod
    def _wait(seconds: float, enough: Any) -> None:
        """In short sleeps: a signal handler runs on this thread, where setting an event might wait for ourselves."""
        end = time.monotonic() + seconds
        while not enough() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_EVERY_S))


@contextmanager
def _held() -> Iterator[None]:
    """Signals wait meanwhile: a worker inherits our handlers, and would swallow one that comes before it has its own."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)


def want_of_threads() -> str:
    """What to do where so few threads are allowed that a worker may not have started for that; else empty."""
    most, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    found = [] if most == resource.RLIM_INFINITY else [most]
    with suppress(OSError, ValueError):
        found.append(int(PIDS_MAX.read_text()))
    if not found or min(found) >= FEW_THREADS:
        return ""
    return (
        f": only {min(found)} processes and threads are allowed here, and a worker takes about {THREADS_OF_WORKER}, one more "
        "a CPU (raise `ulimit -u`, the container's --pids-limit, or the unit's TasksMax)"
    )
