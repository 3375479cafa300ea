"""How a worker ends: at its parent's word, or, told by somebody else alone, by itself.

A signal to the whole process group (a service manager's SIGTERM, Ctrl-C) reaches parent and workers alike. The parent
decides: it says DRAIN, waits as configured, and then STOP.
Thread: a worker's main thread.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Protocol

DRAIN = signal.SIGUSR1
"""From the parent to its workers: shutdown comes, be not ready."""

STOP = signal.SIGUSR2
"""From the parent to its workers: take nothing new, finish what is in flight, and end."""

HELD = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, STOP})
"""Blocked while workers are started: they inherit handlers, and would swallow one that comes before they have their own."""

PARENT_DECIDES_S = 0.5
"""After SIGTERM a worker waits so long for its parent, who may have got the same signal."""

HANG_UP_S = 0.1
"""Clients that are talking get so long to read that they should hang up; a connection that rests is ended without a word."""

GRACE_S = 2.0
"""For closing what the drain left, before the alarm ends the process."""

PR_SET_PDEATHSIG = 1


class Drains(Protocol):
    """The application, as far as its end is concerned."""

    draining: bool
    drain_timeout_s: float

    def drain(self) -> None:
        """Be not ready from now on."""


def settle_in(parent_pid: int) -> None:
    """In a fresh worker: what signals mean here until the worker listens for them."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(STOP, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(DRAIN, signal.SIG_IGN)
    end_with(parent_pid)
    # Ctrl-C goes to the parent and to us alike; the parent alone decides when we stop: SIGINT stays blocked.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD - {signal.SIGINT})


def end_with(parent_pid: int) -> None:
    """Get SIGTERM when the parent dies, however it dies: a worker without one would hold the port for ever (prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:  # it died before we asked
        raise SystemExit(1)


def end_at_signals(loop: asyncio.AbstractEventLoop, app: Drains, stop: Callable[[], None]) -> None:
    """Call `stop`, once, when it is time; be gone some time after the drain's time is over, whatever holds us.

    The alarm, whose default is to end the process, needs no thread of ours: Granian's signal can lock up.
    """
    ending = False
    parent_pid = os.getppid()

    def end() -> None:
        nonlocal ending
        if not ending:
            ending = True
            app.drain()
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, app.drain_timeout_s + GRACE_S)
            stop()

    def end_alone() -> None:
        if not app.draining:
            app.drain()
            loop.call_later(HANG_UP_S, end)

    def asked() -> None:
        if os.getppid() != parent_pid:
            end_alone()
        else:
            loop.call_later(PARENT_DECIDES_S, end_alone)

    loop.add_signal_handler(STOP, end)
    loop.add_signal_handler(signal.SIGTERM, asked)
