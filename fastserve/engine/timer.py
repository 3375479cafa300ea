"""One thread that calls back at given times; no polling, it sleeps until the next one.

Thread: owns one. Callbacks run on it and must be short.
"""

import heapq
import logging
import threading
import weakref
from collections.abc import Callable
from itertools import count
from typing import Protocol

from fastserve.clock import Clock, monotonic_ns

_log = logging.getLogger(__name__)


class Alarm(Protocol):
    """What the batcher needs of a timer; tests give it one that they turn by hand."""

    def at(self, when_ns: int, callback: Callable[[int], None]) -> None:
        """Call `callback(now_ns)` once, not before `when_ns`."""


def weakly(method: Callable[[int], None]) -> Callable[[int], None]:
    """A bound method as a callback that does nothing once its object is gone: an alarm keeps nothing alive."""
    there = weakref.WeakMethod(method)

    def ring(now_ns: int) -> None:
        call = there()
        if call is not None:
            call(now_ns)

    return ring


class Timer:
    """An `Alarm` on the real clock."""

    def __init__(self, clock: Clock = monotonic_ns) -> None:
        self._clock = clock
        self._due: list[tuple[int, int, Callable[[int], None]]] = []
        self._order = count()  # ties leave in order, and callables are never compared
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name="timer", daemon=True)
        self._thread.start()

    def at(self, when_ns: int, callback: Callable[[int], None]) -> None:
        """Call `callback(now_ns)` on the timer's thread once `when_ns` has come."""
        with self._changed:
            heapq.heappush(self._due, (when_ns, next(self._order), callback))
            if self._due[0][2] is callback:
                self._changed.notify()

    def stop(self) -> None:
        """Forget what is due and end the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _serve(self) -> None:
        while (callback := self._next()) is not None:
            try:
                callback(self._clock())
            except Exception:  # the batch runner's edge: one bad callback must not end all timing
                _log.exception("a timer's callback failed")
            del callback

    def _next(self) -> Callable[[int], None] | None:
        with self._changed:
            while not self._stopped:
                if not self._due:
                    self._changed.wait()
                    continue
                wait_ns = self._due[0][0] - self._clock()
                if wait_ns <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(wait_ns / 1e9)
            return None
