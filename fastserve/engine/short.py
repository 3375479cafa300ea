"""Runs that are over before a hand-over to another thread would be: they happen on the thread that brings them.

Thread: any; one at a time has the runner. Memory: one runner per version, with its bound buffers.
"""

from fastserve._ext.costs import CostTable
from fastserve.backends.base import Runner
from fastserve.clock import Clock
from fastserve.engine.timer import Alarm
from fastserve.engine.watch import LIMIT_NS, Watch

INLINE_NS = 100_000
"""A run expected to be shorter stays on the thread that brought it.

A hand-over costs 20 to 30 us, and what waits for its turn is answered at less than half the rate (an MLP of 40 us,
either way).
"""

TOGETHER_NS = 1_000_000
"""Short runs that come together are one batch up to here: what they would take one after the other."""


class ShortRuns:
    """Which runs are short, and the runner that they have for themselves, beside the slots.

    Were they to wait for one that an executor thread has, they would wait for a thread that stands back behind theirs.
    """

    def __init__(self, runner: Runner, costs: CostTable, most_rows: int, alarm: Alarm, clock: Clock) -> None:
        self.costs = costs
        self.runner = runner
        self.watch = Watch(runner, alarm)
        self._here = [runner]
        self._most_rows = most_rows
        self._clock = clock

    def fits(self, rows: int, size: int) -> bool:
        """Whether a run of that size may hold up the thread that brings it."""
        return rows <= self._most_rows and self.costs.estimate_ns(size) <= INLINE_NS

    def take(self) -> Runner | None:
        """The runner, until it is given back; None while another thread has it. Its run is watched from now on."""
        try:
            runner = self._here.pop()  # taking a list's last element is atomic: no lock
        except IndexError:
            return None
        self.watch.begin(self._clock())
        return runner

    def give_back(self, runner: Runner) -> None:
        """The run is over."""
        self.watch.begun_ns = 0
        self._here.append(runner)

    def was_stopped(self, size: int) -> bool:
        """After a run that failed: whether it did because it took too long; it counts as one that is not short then."""
        stopped = self.watch.was_stopped()
        if stopped:
            self.costs.observe(size, LIMIT_NS)
        return stopped

    def close(self) -> None:
        """No more runs."""
        self._here.clear()
