"""Time that only events move: a clock, an alarm, and executor threads whose work takes simulated time.

Thread: one at a time, whichever has the baton: the one that runs the events, or a lane's. A lane is a real thread, so that
the scheduler's own code runs in it as it is; what it does is the same every time.
"""

import heapq
import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from types import TracebackType
from typing import Self

Event = Callable[[int], None]


class World:
    """A clock (call it), an `Alarm`, and an executor (`post`) of so many lanes. Use it as a context manager."""

    def __init__(self, lanes: int) -> None:
        self.now_ns = 0
        self._events: list[tuple[int, int, Event]] = []
        self._order = count()
        self._work: deque[Callable[[], None]] = deque()
        self._back = _baton()
        self._here = threading.local()
        self._lanes = [_Lane(self._serve) for _ in range(lanes)]
        self._idle = list(self._lanes)
        self._error: BaseException | None = None

    def __call__(self) -> int:
        return self.now_ns

    def __enter__(self) -> Self:
        for lane in self._lanes:
            lane.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for lane in self._lanes:
            lane.work = None
            lane.go.release()
        for lane in self._lanes:
            lane.thread.join()

    def at(self, when_ns: int, event: Event) -> None:
        """Call `event(now_ns)` at that time, after what was to happen then already."""
        heapq.heappush(self._events, (max(when_ns, self.now_ns), next(self._order), event))

    def post(self, work: Callable[[], None]) -> None:
        """Have a lane do it, as soon as one is free."""
        if not self._idle:
            self._work.append(work)
            return
        lane = self._idle.pop()
        lane.work = work
        self.at(self.now_ns, lambda _: self._hand_to(lane))

    def take(self, ns: int) -> None:
        """On a lane: be busy for so long, while the world goes on."""
        lane: _Lane = self._here.lane
        self.at(self.now_ns + ns, lambda _: self._hand_to(lane))
        self._back.release()
        lane.go.acquire()

    def run(self) -> None:
        """Until nothing is left to happen. Raises what a lane's work raised."""
        while self._events:
            self.now_ns, _, event = heapq.heappop(self._events)
            event(self.now_ns)
            if self._error is not None:
                raise self._error

    def _hand_to(self, lane: "_Lane") -> None:
        lane.go.release()
        self._back.acquire()

    def _serve(self, lane: "_Lane") -> None:
        self._here.lane = lane
        while True:
            lane.go.acquire()
            work = lane.work
            if work is None:
                return
            try:
                work()
                while self._work:
                    self._work.popleft()()
            except BaseException as error:
                self._error = error
            self._idle.append(lane)
            self._back.release()


def _baton() -> threading.Lock:
    """Held from the start: whoever acquires it waits until another thread releases it. (Semaphores are slow.)"""
    lock = threading.Lock()
    lock.acquire()
    return lock


class _Lane:
    """One executor thread."""

    def __init__(self, serve: Callable[["_Lane"], None]) -> None:
        self.go = _baton()
        self.work: Callable[[], None] | None = None
        self.thread = threading.Thread(target=serve, args=(self,), daemon=True)
