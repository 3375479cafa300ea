"""A queue whose levels of priority have rules of their own: how many requests may wait, and that some yield after a time.

Made only for models that are configured so: the queues of others are the native one alone. A request that yields keeps its
place before the levels below its own, and goes after all others of its level.

Thread: as the native queue, under its batcher's lock. Memory: an entry for each ticket that waits.
"""

from collections.abc import Callable, Hashable, Mapping
from heapq import heappop, heappush
from itertools import count
from typing import Any

from msgspec import Struct

from fastserve._ext.batchqueue import BatchQueue, Pace
from fastserve._ext.ticket import Ticket
from fastserve.types import HIGHEST_PRIORITY

PaceOf = Callable[[Any], Pace]

HALF = 2
"""Each priority is two here: of those that wait, and, one below, of those that have yielded."""


class Ranks(Struct, frozen=True):
    """Requests that may wait, by level, 0 without a limit; `others`: the same of levels that are not named."""

    limits: Mapping[int, int]
    others: int


class _Waiting(Struct):
    ticket: Ticket
    bucket: object
    level: int
    rows: int
    came_ns: int


class RankedQueue:
    """As `BatchQueue`, which it asks."""

    def __init__(self, queue: BatchQueue, ranks: Ranks) -> None:
        self._queue = queue
        self._ranks = ranks
        self._waiting: dict[int, _Waiting] = {}
        self._counts: dict[int, int] = {}
        self._yields: list[tuple[int, int, int]] = []
        """When, in order of arrival, and whose."""
        self._arrivals = count()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def queued_rows(self) -> int:
        """Rows that wait."""
        return self._queue.queued_rows

    @property
    def pace_of(self) -> PaceOf | None:
        """Answers what runs of a bucket take, by its key; None where nobody knows."""
        return self._queue.pace_of

    @pace_of.setter
    def pace_of(self, pace_of: PaceOf | None) -> None:
        self._queue.pace_of = pace_of

    def push(
        self,
        ticket: Ticket,
        bucket: object,
        rows: int,
        now_ns: int,
        deadline_ns: int = 0,
        priority: int = 0,
        admitted: bool = False,
    ) -> bool:
        """Queue the ticket; False where its level, or the whole queue, is full."""
        level = HIGHEST_PRIORITY - priority if priority > 0 else 0
        limit = self._ranks.limits.get(level, self._ranks.others)
        there = self._counts.get(level, 0)
        if limit and there >= limit and not admitted:
            return False
        if not self._queue.push(ticket, bucket, rows, now_ns, deadline_ns, priority * HALF + 1, admitted):
            return False
        self._waiting[id(ticket)] = _Waiting(ticket, bucket, level, rows, now_ns)
        self._counts[level] = there + 1
        if ticket.yields_ns:
            heappush(self._yields, (ticket.yields_ns, next(self._arrivals), id(ticket)))
        return True

    def ready(self, now_ns: int) -> bool:
        """Whether `pop` would answer a batch or `expire` a ticket."""
        self._yield(now_ns)
        return self._queue.ready(now_ns)

    def pop(self, now_ns: int, share: int = 1) -> list[Ticket]:
        """The next batch."""
        self._yield(now_ns)
        return self._left(self._queue.pop(now_ns, share))

    def ahead(self, bucket: Hashable, priority: int = 0) -> tuple[int, int, int]:
        """What a ticket that comes now would wait for."""
        return self._queue.ahead(bucket, priority * HALF + 1)

    def expire(self, now_ns: int) -> list[Ticket]:
        """The tickets that are late."""
        self._yield(now_ns)
        return self._left(self._queue.expire(now_ns))

    def remove(self, ticket: Ticket) -> bool:
        """Take the ticket out; False when it is not queued."""
        found = self._queue.remove(ticket)
        if found:
            self._left([ticket])
        return found

    def clear(self) -> list[Ticket]:
        """Take out all tickets, in order of arrival."""
        return self._left(self._queue.clear())

    def next_event_ns(self) -> int:
        """The earliest time at which anything changes; 0 when no such time is ahead."""
        self._forget_gone()
        event_ns = self._queue.next_event_ns()
        return min(event_ns or self._yields[0][0], self._yields[0][0]) if self._yields else event_ns

    def _yield(self, now_ns: int) -> None:
        """Let those that have waited long enough stand behind the others of their level."""
        while self._yields and self._yields[0][0] <= now_ns:
            _, _, identity = heappop(self._yields)
            one = self._waiting.get(identity)
            # Its identity may be another ticket's by now, whose time has not come.
            if one is None or one.ticket.yields_ns > now_ns or not self._queue.remove(one.ticket):
                continue
            ticket = one.ticket
            self._queue.push(ticket, one.bucket, one.rows, one.came_ns, ticket.leaves_ns, ticket.priority * HALF, True)

    def _left(self, tickets: list[Ticket]) -> list[Ticket]:
        for ticket in tickets:
            one = self._waiting.pop(id(ticket))
            self._counts[one.level] -= 1
            if not self._counts[one.level]:
                del self._counts[one.level]
        return tickets

    def _forget_gone(self) -> None:
        while self._yields and self._yields[0][2] not in self._waiting:
            heappop(self._yields)


Queue = BatchQueue | RankedQueue


def queue_of(
    max_batch_rows: int,
    max_delay_ns: int,
    max_queue_rows: int,
    enough_rows: int,
    ranks: Ranks | None,
    pays_rows: int | None = None,
) -> Queue:
    """An empty queue; without `ranks` a native one."""
    queue = BatchQueue(max_batch_rows, max_delay_ns, max_queue_rows, enough_rows)
    queue.pays_rows = pays_rows or max_batch_rows
    return queue if ranks is None else RankedQueue(queue, ranks)
