"""The gate of one version with an objective: who is let into its queue, asked one by one or for many before they are read.

Thread: any; what is asked is asked under the batcher's lock. Memory: nothing of its own.
"""

import threading
from collections.abc import Callable

from fastserve._ext.meters import VersionMeter
from fastserve._ext.ticket import Ticket
from fastserve.clock import Clock
from fastserve.engine.objective import Objective, Waiting
from fastserve.engine.short import ShortRuns
from fastserve.errors import Overloaded

AGAIN_SHARE = 64
"""Of the objective: for so long a refusal is told again without a new prediction, unless that says that it ends sooner."""


class Gate:
    """Asks the objective about what waits now."""

    def __init__(
        self,
        objective: Objective,
        queue: Waiting,
        lock: threading.Lock,
        clock: Clock,
        meter: VersionMeter,
        short: ShortRuns,
    ) -> None:
        self._objective = objective
        self._short = short
        self._queue = queue
        self._lock = lock
        self._clock = clock
        self._meter = meter
        self._again_ns = objective.slo_ns // AGAIN_SHARE
        self._told: tuple[Overloaded | None, int] = None, 0
        """What was told last, and who came before when is told the same; one value, since any thread may ask."""

    def admit(self, ticket: Ticket) -> None:
        """Let it in. Raises Overloaded where it could not be answered in time."""
        with self._lock:
            self._objective.admit(ticket, self._queue, self._clock())

    def refusal(self, came_ns: list[int]) -> Overloaded | None:
        """What all requests that came then are told, whatever they hold; None where one may be let in. They are counted.

        Under overload most requests end here, at a fraction of what reading them and a place in the queue would cost: what
        refusing costs is taken from those that are served. For requests whose runs are not short, and that have no priority.
        """
        newest_ns = max(came_ns)
        refusal, until_ns = self._told
        if newest_ns < until_ns:
            self._count(came_ns, self._clock())
            return refusal
        refusal, now = self._asked(newest_ns, 0)
        if refusal is not None:
            self._told = refusal, newest_ns + min(self._again_ns, refusal.late_ns)
            self._count(came_ns, now)
        return refusal

    def turn_away(self, came_ns: int, deadline_ns: int, may_go_first: Callable[[], bool] = lambda: False) -> None:
        """Before a body is read. Raises Overloaded where whatever it holds would be too late.

        `may_go_first`: whether it may name a priority of its own; asked only where that would save it.
        """
        if self._short.fits(1, 1):
            return  # it may be run at once
        refusal, now = self._asked(came_ns, deadline_ns)
        if refusal is not None and not may_go_first():
            self._count([came_ns], now)
            raise refusal

    def _asked(self, came_ns: int, deadline_ns: int) -> tuple[Overloaded | None, int]:
        with self._lock:
            now = self._clock()
            return self._objective.refusal(self._queue, came_ns, now, deadline_ns), now

    def _count(self, came_ns: list[int], now_ns: int) -> None:
        self._objective.refused(len(came_ns))
        for came in came_ns:
            self._meter.failed(now_ns - came)

    def ran_at_once(self, came_ns: list[int]) -> None:
        """Requests that came then were answered just now, without the queue: short runs, on the thread that brought them."""
        self._objective.ran_at_once(came_ns, self._clock())

    @property
    def wait_ns(self) -> int:
        """How long a request that comes now is expected to wait for its run."""
        with self._lock:
            return self._objective.wait_ns(self._queue, self._clock())
