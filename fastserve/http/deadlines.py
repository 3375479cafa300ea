"""Bodies that do not arrive end the tasks that wait for them.

Thread: the event loop's.
"""

import asyncio
from typing import Any


class BodyDeadlines:
    """Ends the tasks whose bodies do not arrive.

    Most have the same limit, so the oldest is always the next due: one timer. Who has a limit of its own has a timer too.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit_ns: int) -> None:
        self._loop = loop
        self._limit_s = limit_ns / 1e9
        self._reading: dict[asyncio.Task[Any], float] = {}
        self._timers: dict[asyncio.Task[Any], asyncio.TimerHandle] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._armed = False

    def begin(self, task: "asyncio.Task[Any]", own_limit_ns: int | None = None) -> None:
        """`task` waits for a body from now on."""
        if own_limit_ns is not None and (not self._limit_s or own_limit_ns < self._limit_s * 1e9):
            self._timers[task] = self._loop.call_later(max(0.0, own_limit_ns / 1e9), self._end, task)
        elif self._limit_s:
            self._reading[task] = self._loop.time() + self._limit_s
            if not self._armed:
                self._armed = True
                self._loop.call_at(self._reading[task], self._end_late)

    def end(self, task: "asyncio.Task[Any]") -> bool:
        """`task` waits no longer; whether it was ended for being late."""
        self._reading.pop(task, None)
        timer = self._timers.pop(task, None)
        if timer is not None:
            timer.cancel()
        if task in self._late:
            self._late.discard(task)
            return True
        return False

    def _end_late(self) -> None:
        now = self._loop.time()
        for task, due in list(self._reading.items()):
            if due > now:
                self._loop.call_at(due, self._end_late)
                return
            del self._reading[task]
            self._end(task)
        self._armed = False

    def _end(self, task: "asyncio.Task[Any]") -> None:
        self._late.add(task)
        task.cancel()
