"""The parent of the workers: starts them, replaces those that die, drains them in two steps, and forces when asked twice.

Thread: the parent's main thread, signal handlers too; `settle_in` in a worker, before anything else happens there.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from granian import Granian

from fastserve.config import ServerConfig

HELD = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
DRAIN = signal.SIGUSR1
"""From the parent to its workers: shutdown comes, be not ready."""

PR_SET_PDEATHSIG = 1
LOOK_EVERY_S = 0.05
HANG_UP_S = 0.1
"""Clients that are talking get so long to read that they should hang up; a connection that rests is ended without a word."""
LONGEST_PAUSE_S = 10.0
STEADY_S = 30.0
"""A worker that lived so long did not die of its start."""


class Supervisor(Granian):  # type: ignore[valid-type,misc]  # which of its classes `Granian` is depends on the interpreter
    """Granian's parent process. `first`: a semaphore that the first worker to be ready takes."""

    def __init__(self, server: ServerConfig, first: Any, **options: Any) -> None:
        super().__init__("fastserve", **options)
        self._drain_delay_s = server.drain_delay_ms / 1000
        self.workers_kill_timeout = max(server.drain_timeout_ms / 1000, 0.001)
        self._first = first
        self._respawned_s = 0.0
        self._pause_s = 0.0
        self.cut_short = False
        """Whether workers were killed: requests in flight got no answer."""

    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        """SIGTERM or SIGINT: the first one drains, the second one forces."""
        if self.interrupt_signal:
            self.cut_short = True
            for one in self.wrks:
                one.kill()
        super().signal_handler_interrupt(*args, **kwargs)

    def signal_handler_reload(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """SIGHUP: look at the repository now, in every worker. (Granian would start its workers anew.)"""
        self._tell_workers(signal.SIGHUP)

    def _spawn_workers(self, spawn_target: Any, target_loader: Any) -> None:
        signal.signal(DRAIN, signal.SIG_IGN)  # a worker that does not listen yet must not die of it
        with _held():
            super()._spawn_workers(spawn_target, target_loader)

    def _respawn_workers(self, workers: list[int], spawn_target: Any, target_loader: Any, delay: float = 0) -> None:
        self._wait(self._next_pause_s(), lambda: self.interrupt_signal)
        if self.interrupt_signal:
            return
        with _held():
            super()._respawn_workers(workers, spawn_target, target_loader, delay)
        if self._first.get_value() == 0:
            # Granian gives up at the second death within seconds; what has served once is started again, ever more slowly.
            self.respawned_wrks.clear()

    def _next_pause_s(self) -> float:
        """None for a worker that died of something once; doubling as long as they die soon after each other."""
        now = time.monotonic()
        soon = now - self._respawned_s < STEADY_S
        self._pause_s = min(max(0.1, 2 * self._pause_s), LONGEST_PAUSE_S) if soon else 0.0
        self._respawned_s = now + self._pause_s
        return self._pause_s

    def _stop_workers(self) -> None:
        """Not ready first, so that balancers look elsewhere; then no new connections, and what is in flight ends."""
        self._tell_workers(DRAIN)
        self._wait(max(self._drain_delay_s, HANG_UP_S), lambda: self.cut_short)
        workers = [one for one in self.wrks if one.is_alive()]
        super()._stop_workers()
        # Granian's own thread takes the exit codes, and may be a moment later than we are.
        self._wait(1.0, lambda: all(one.inner.exitcode is not None for one in workers))
        self.cut_short |= any(one.inner.exitcode == -signal.SIGKILL for one in workers)

    def _tell_workers(self, number: int) -> None:
        for one in self.wrks:
            if one.is_alive():
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


def settle_in(parent_pid: int) -> None:
    """In a fresh worker: what the parent's signals mean here until the worker listens for them."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(DRAIN, signal.SIG_IGN)
    _end_with(parent_pid)
    # Ctrl-C goes to the parent and to us alike; the parent alone decides when we stop: SIGINT stays blocked.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD - {signal.SIGINT})


def _end_with(parent_pid: int) -> None:
    """Drain when the parent dies, however it dies: a worker without one would hold the port for ever (prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:  # it died before we asked
        raise SystemExit(1)
