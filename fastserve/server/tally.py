"""What all workers counted, together: of those that live and of those that died, with what their gauges say now.

Thread: the parent's link thread.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fastserve.metrics import Family, Point, combined
from fastserve.server.ledger import Ledger

GAUGES_WITHIN_S = 1.0
WORKERS_TEXT = "Worker processes."
COUNTED_TEXT = "Workers whose gauges are in these sums; those that died still count in the others."
RESTARTS_TEXT = "Workers that were started in the place of one that ended."


@dataclass(eq=False)
class _Asked:
    """Counts that were asked for; the gauges of the workers in `missing` are still waited for."""

    told: Callable[[list[Family]], None]
    missing: set[int]
    due_s: float
    gauges: list[tuple[Family, ...]] = field(default_factory=list)


class Tally:
    """The sums. `living`: the ledgers of the workers there are; `serving`: how many of `workers` take requests."""

    def __init__(self, workers: int, living: Callable[[], Iterable[Ledger]], serving: Callable[[], int]) -> None:
        self._workers = workers
        self._living = living
        self._serving = serving
        self._retired: list[Family] = []
        self._asked: dict[int, _Asked] = {}
        self._number = 0
        self.restarts = 0

    def retire(self, key: int, ledger: Ledger) -> None:
        """A worker died: what it counted stays, and its gauges are not waited for."""
        self._retired = combined([self._retired, ledger.read()])
        ledger.close()
        for number, asked in list(self._asked.items()):
            asked.missing.discard(key)
            self._end_if_all(number, asked)

    def begin(self, keys: set[int], told: Callable[[list[Family]], None], ask: Callable[[int], None]) -> None:
        """Tell the sums once the gauges of these workers, which `ask` asks with a number, are there."""
        self._number += 1
        self._asked[self._number] = asked = _Asked(told, keys, time.monotonic() + GAUGES_WITHIN_S)
        ask(self._number)
        self._end_if_all(self._number, asked)

    def add(self, key: int, number: int, gauges: tuple[Family, ...]) -> None:
        """What the gauges of a worker said."""
        asked = self._asked.get(number)
        if asked is not None and key in asked.missing:
            asked.missing.discard(key)
            asked.gauges.append(gauges)
            self._end_if_all(number, asked)

    def tick(self) -> None:
        """Tell without those who do not answer."""
        for number, asked in list(self._asked.items()):
            if time.monotonic() > asked.due_s:
                asked.missing.clear()
                self._end_if_all(number, asked)

    def _end_if_all(self, number: int, asked: _Asked) -> None:
        if not asked.missing and self._asked.pop(number, None) is not None:
            counted = [ledger.read() for ledger in self._living()]
            asked.told(combined([self._retired, *counted, *asked.gauges, self._own(len(asked.gauges))]))

    def _own(self, heard: int) -> list[Family]:
        serving = self._serving()
        states = (("serving", serving), ("starting", self._workers - serving))
        points = tuple(Point((("state", name),), (float(count),)) for name, count in states)
        return [
            Family("fastserve_workers", "gauge", WORKERS_TEXT, points),
            Family("fastserve_workers_counted", "gauge", COUNTED_TEXT, (Point((), (float(heard),)),)),
            Family("fastserve_worker_restarts_total", "counter", RESTARTS_TEXT, (Point((), (self.restarts,)),)),
        ]
