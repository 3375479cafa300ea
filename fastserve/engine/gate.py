"""The gate of one version with an objective: who is let into its queue, asked one by one or for many before they are read.

Thread: any; what is asked is asked under the batcher's lock. Memory: nothing of its own.
"""

import threading

from fastserve._ext.meters import VersionMeter
from fastserve._ext.ticket import Ticket
from fastserve.clock import Clock
from fastserve.engine.objective import Objective, Waiting
from fastserve.errors import Overloaded


class Gate:
    """Asks the objective about what waits now."""

    def __init__(
        self, objective: Objective, queue: Waiting, lock: threading.Lock, clock: Clock, meter: VersionMeter
    ) -> None:
        self._objective = objective
        self._queue = queue
        self._lock = lock
        self._clock = clock
        self._meter = meter

    def admit(self, ticket: Ticket) -> None:
        """Let it in. Raises Overloaded where it could not be answered in time."""
        with self._lock:
            self._objective.admit(ticket, self._queue, self._clock())

    def refusal(self, came_ns: list[int]) -> Overloaded | None:
        """What all requests that came then are told, whatever they hold; None where one may be let in. They are counted.

        Under overload most requests end here, at a fraction of what reading them and a place in the queue would cost: what
        refusing costs is taken from those that are served. For requests that may share a batch, and have no priority.
        """
        with self._lock:
            now = self._clock()
            refusal = self._objective.refusal(self._queue, came_ns, now)
        if refusal is not None:
            for came in came_ns:
                self._meter.failed(now - came)
        return refusal

    def ran_at_once(self, came_ns: list[int]) -> None:
        """Requests that came then were answered just now, without the queue: short runs, on the thread that brought them."""
        self._objective.ran_at_once(came_ns, self._clock())

    @property
    def wait_ns(self) -> int:
        """How long a request that comes now is expected to wait for its run."""
        with self._lock:
            return self._objective.wait_ns(self._queue, self._clock())
