"""Time and threads turned by hand: nothing here moves unless a test says so."""

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count


class FakeClock:
    """A clock that stands still. Also the `Alarm` on it: `advance` rings what became due, in order."""

    def __init__(self, now_ns: int = 1_000) -> None:
        self.now_ns = now_ns
        self._due: list[tuple[int, int, Callable[[int], None]]] = []
        self._order = count()

    def __call__(self) -> int:
        return self.now_ns

    def at(self, when_ns: int, callback: Callable[[int], None]) -> None:
        heapq.heappush(self._due, (when_ns, next(self._order), callback))

    def advance(self, by_ns: int) -> None:
        end = self.now_ns + by_ns
        while self._due and self._due[0][0] <= end:
            when, _, callback = heapq.heappop(self._due)
            self.now_ns = max(self.now_ns, when)
            callback(self.now_ns)
        self.now_ns = end

    @property
    def alarms(self) -> list[int]:
        return sorted(when for when, _, _ in self._due)


class FakeExecutor:
    """Holds what was posted until the test runs it."""

    def __init__(self) -> None:
        self.posted: deque[Callable[[], None]] = deque()

    def post(self, work: Callable[[], None]) -> None:
        self.posted.append(work)

    def run_one(self) -> None:
        self.posted.popleft()()

    def run_all(self) -> None:
        while self.posted:
            self.run_one()
