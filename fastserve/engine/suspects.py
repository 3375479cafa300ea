"""Requests that made the runs of others fail: known again by what they hold, and run apart for a while.

A run of many that fails is run again in parts until the bad one is alone: a dozen runs instead of one. Whoever sends the
same again pays for that alone: it still runs each time, by itself, and is refused only where that run fails too. Against
bad requests that are never the same twice, batches are smaller while they keep coming, where that costs less.

Thread: any. Memory: a number for each of the last `MOST` that failed.
"""

import threading
import zlib
from collections.abc import Iterable

import numpy as np

from fastserve._ext.costs import UNKNOWN_NS, CostTable
from fastserve._ext.ticket import Ticket
from fastserve.clock import Clock
from fastserve.types import Tensor

MOST = 256
APART_NS = 10_000_000_000
"""So long after its last failure a request is a suspect."""

LEARN = 1 / 64
"""What one request counts in the rate of bad ones."""


class Suspects:
    """Those of one version."""

    def __init__(self, costs: CostTable, clock: Clock) -> None:
        self._costs = costs
        self._clock = clock
        self._until_ns: dict[int, int] = {}
        self._quiet_ns = 0
        self._rate = 0.0
        self._lock = threading.Lock()
        self.wary = False
        """Whether there may be any. Asked first: while all is well, nothing else of this costs anything."""

    def failed_alone(self, inputs: Iterable[Tensor], *, of_many: bool) -> None:
        """A request's own run failed. `of_many`: after one that it shared."""
        if not of_many and not self.wary:
            return
        mark, now = mark_of(inputs), self._clock()
        with self._lock:
            if of_many:
                self._rate += (1 - self._rate) * LEARN
            elif mark not in self._until_ns:
                return
            self._until_ns.pop(mark, None)
            if len(self._until_ns) >= MOST:
                del self._until_ns[next(iter(self._until_ns))]
            self._until_ns[mark] = self._quiet_ns = now + APART_NS
            self.wary = True

    def holds(self, inputs: Iterable[Tensor]) -> bool:
        """Whether a request with these inputs is to run by itself."""
        if not self.wary:
            return False
        now = self._clock()
        if now >= self._quiet_ns:
            self._forget()
            return False
        return self._until_ns.get(mark_of(inputs), 0) > now

    def sifted(self, tickets: list[Ticket]) -> tuple[list[Ticket], list[Ticket]]:
        """Those that may run together, and those that run by themselves."""
        if not self.wary:
            return tickets, []
        apart = [ticket for ticket in tickets if self.holds(ticket.inputs.values())]
        return [ticket for ticket in tickets if ticket not in apart], apart

    def ran(self, requests: int) -> None:
        """So many ran together, and none of them was bad."""
        with self._lock:
            self._rate *= (1 - LEARN) ** requests

    def parts(self, together: list[Ticket]) -> list[list[Ticket]]:
        """`together`, in the parts that are expected to cost least, with as many bad ones as there were lately."""
        if not self.wary or len(together) == 1:
            return [together]
        count = cheapest(len(together), sum(one.size for one in together), self._rate, self._costs)
        return [together[at : at + count] for at in range(0, len(together), count)]

    def _forget(self) -> None:
        with self._lock:
            self._until_ns.clear()
            self._rate = 0.0
            self.wary = False


def mark_of(inputs: Iterable[Tensor]) -> int:
    """The same for requests that hold the same. Others that share it run by themselves without need, no more."""
    mark = 0
    for tensor in inputs:
        if tensor.dtype.hasobject:
            mark = hash((mark, *tensor.ravel().tolist()))
        else:
            mark = hash((mark, zlib.crc32(np.ascontiguousarray(tensor).data)))
    return mark


def cheapest(most: int, size: int, rate: float, costs: CostTable) -> int:
    """How many of `most` requests, that are of `size` together, to run at a time where one in 1/`rate` is bad."""
    best, least = most, _expected_ns(most, size, rate, costs)
    count = 1 << max(0, (most - 1).bit_length() - 1)
    while count:
        cost = _expected_ns(count, size * count // most, rate, costs)
        if cost < least:
            best, least = count, cost
        count //= 2
    return best


def _expected_ns(count: int, size: int, rate: float, costs: CostTable) -> float:
    """What each of `count` requests costs: their run, and, where one of them is bad, those of the halves down to it."""
    runs_ns = [costs.estimate_ns(max(1, size >> halved)) for halved in range(count.bit_length())]
    if UNKNOWN_NS in runs_ns:
        return float(UNKNOWN_NS)
    fails = 1 - (1 - rate) ** count
    return (runs_ns[0] + fails * 2 * sum(runs_ns[1:])) / count
