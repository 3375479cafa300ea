"""The threads that do what would hold up a door: long runs, big bodies.

Thread: owns `count` of them, at lower priority than the doors' unless said otherwise, so that small requests are answered
while big ones are worked on.
Memory: an unbounded queue of callables; what they hold is bounded by the batch queues and the doors' body limits.
"""

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

from fastserve.engine.scheduling import stand_back

_log = logging.getLogger(__name__)
_here = threading.local()


class Executor:
    """Threads that take callables in order."""

    def __init__(self, count: int, name: str = "executor", *, stands_back: bool = True) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
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

    def post(self, work: Callable[[], None]) -> None:
        """Run `work` on one of the threads, as soon as one is free."""
        self._work.put(work)

    def stop(self) -> None:
        """Finish what was posted and end the threads; returns when they have ended."""
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _serve(self) -> None:
        if self._stands_back:
            stand_back()
        _here.is_executor = True
        while (work := self._work.get()) is not None:
            try:
                work()
            except Exception:  # the batch runner's edge: one bad piece of work must not end the thread
                _log.exception("work on an executor thread failed")
            del work  # what it held must not live until the next one comes


def on_executor_thread() -> bool:
    """Whether the caller already runs on one of an executor's threads."""
    return getattr(_here, "is_executor", False)
