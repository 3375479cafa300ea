"""Ends runs that were expected to be short and are not: each holds up a thread that all other requests need.

How long a run takes may depend on what the request holds (a loop's count), so that no measurement tells it beforehand.
Thread: `begun_ns` is set by the one that runs; the alarm's thread looks at it.
"""

import threading

from fastserve.backends.base import Runner
from fastserve.engine.timer import Alarm, weakly

LIMIT_NS = 100_000_000
"""A thousand times what a short run takes: beyond that it is no disturbance of the machine's."""


class Watch:
    """Over one runner. A run that was stopped is to be done again elsewhere: so one stopped by mistake loses nothing.

    `begun_ns`: of the run under way, 0 for none; `begin` sets it.
    """

    def __init__(self, runner: Runner, alarm: Alarm) -> None:
        self.begun_ns = 0
        self._armed = False
        self.runner = runner
        self._alarm = alarm
        self._ring = weakly(self._look)
        self._stopped = False
        self._lock = threading.Lock()

    def begin(self, now_ns: int) -> None:
        """A run begins. Its end sets `begun_ns` to 0."""
        self.begun_ns = now_ns
        if not self._armed:
            self._arm(now_ns)

    def _arm(self, now_ns: int) -> None:
        """Look again after the limit: once for all runs until then."""
        self._armed = True
        self._alarm.at(now_ns + LIMIT_NS, self._ring)

    def was_stopped(self) -> bool:
        """After a run that failed: whether it did because it was stopped. Others may follow then."""
        with self._lock:
            stopped, self._stopped = self._stopped, False
            if stopped:
                self.runner.go_on()
        return stopped

    def _look(self, now_ns: int) -> None:
        """The alarm. A run that ends this very moment, and another that begins, may be mistaken for one."""
        self._armed = False
        begun_ns = self.begun_ns
        if begun_ns == 0:
            return
        if now_ns - begun_ns >= LIMIT_NS:
            with self._lock:
                self._stopped = True
                self.runner.stop()
        else:
            self._arm(begun_ns)
