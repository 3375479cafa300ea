"""The threads that do what would hold up a door: long runs, big bodies.

Thread: owns `count` of them, at lower priority than the doors' unless said otherwise, so that small requests are answered
while big ones are worked on.
Memory: an unbounded queue of callables; what they hold is bounded by the batch queues and the doors' body limits.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from queue import SimpleQueue

from fastserve.engine.scheduling import stand_back

_log = logging.getLogger(__name__)
_here = threading.local()


Work = Callable[[], None]

FAIR_TURN = 8
"""Of so many turns one is of the work that waits longest, whatever its priority."""


class Turns:
    """Work that waits: the highest priority first, and within it in order."""

    def __init__(self) -> None:
        self._lines: dict[int, deque[tuple[int, Work]]] = {}
        self._arrivals = count()
        self._turns = count(1)
        self._lock = threading.Lock()

    def put(self, work: Work, priority: int = 0) -> None:
        """`work` waits."""
        with self._lock:
            self._lines.setdefault(priority, deque()).append((next(self._arrivals), work))

    def take(self) -> Work:
        """Whose turn it is; some must wait."""
        with self._lock:
            lines = self._lines
            if len(lines) == 1:
                (priority,) = lines
            elif next(self._turns) % FAIR_TURN == 0:
                priority = min(lines, key=lambda one: lines[one][0][0])
            else:
                priority = max(lines)
            _, work = lines[priority].popleft()
            if not lines[priority]:
                del lines[priority]
            return work


class Executor:
    """Threads that take callables in order, those of a higher priority first."""

    def __init__(self, count: int, name: str = "executor", *, stands_back: bool = True) -> None:
        self._turns = Turns()
        self._due: SimpleQueue[bool] = SimpleQueue()
        """For each work that waits True; False ends a thread."""
        self._name = name
        self._stands_back = stands_back
        self._threads: list[threading.Thread] = []
        self.grow(count)

    def grow(self, count: int) -> None:
        """Have at least `count` threads. One caller at a time."""
        while len(self._threads) < count:
            name = f"{self._name}-{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._serve, name=name, daemon=True))
            self._threads[-1].start()

    def post(self, work: Work, priority: int = 0) -> None:
        """Run `work` on one of the threads, as soon as one is free."""
        self._turns.put(work, priority)
        self._due.put(True)

    def stop(self) -> None:
        """Finish what was posted and end the threads; returns when they have ended."""
        for _ in self._threads:
            self._due.put(False)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _serve(self) -> None:
        if self._stands_back:
            stand_back()
        _here.is_executor = True
        while self._due.get():
            work = self._turns.take()
            try:
                work()
            except Exception:  # the batch runner's edge: one bad piece of work must not end the thread
                _log.exception("work on an executor thread failed")
            del work  # what it held must not live until the next one comes


def on_executor_thread() -> bool:
    """Whether the caller already runs on one of an executor's threads."""
    return getattr(_here, "is_executor", False)
