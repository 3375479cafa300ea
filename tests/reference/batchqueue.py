"""The slow, obvious twin of ext/batchqueue.pyx: one list of waiting tickets, searched anew for every question."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

FAIR_TURN = 8


@dataclass(eq=False)
class Waiting:
    """One ticket and what was asked for it. `is_due` and `is_late` stay once they were found."""

    ticket: Any
    bucket: Hashable
    rows: int
    due_ns: int
    deadline_ns: int
    priority: int
    arrival: int
    is_due: bool
    is_late: bool = False


@dataclass
class Pace:
    """As the native one."""

    base_ns: int
    row_ns: int
    most_rows: int = 2**63 - 1
    sizes: tuple[int, ...] = ()

    def run_ns(self, rows: int) -> int:
        return self.base_ns + self.row_ns * next((size for size in self.sizes if size >= rows), rows)


class BatchQueue:
    """As the native one, rule by rule."""

    def __init__(
        self, max_batch_rows: int, max_delay_ns: int, max_queue_rows: int, enough_rows: int = 2**63 - 1
    ) -> None:
        self.max_batch_rows = max_batch_rows
        self.enough_rows = min(enough_rows, max_batch_rows)
        self.max_delay_ns = max_delay_ns
        self.max_queue_rows = max_queue_rows
        self.pays_rows = max_batch_rows
        self.waiting: list[Waiting] = []
        self.late: list[Waiting] = []
        self.served: dict[Hashable, int] = {}
        self.arrivals = 0
        self.moment = 0
        self.choices = 0
        self.pace_of: Callable[[Hashable], Any] | None = None

    @property
    def queued_rows(self) -> int:
        return sum(entry.rows for entry in self.waiting)

    def __len__(self) -> int:
        return len(self.waiting)

    def push(
        self,
        ticket: Any,
        bucket: Hashable,
        rows: int,
        now_ns: int,
        deadline_ns: int = 0,
        priority: int = 0,
        admitted: bool = False,
    ) -> bool:
        if not 1 <= rows <= self.max_batch_rows or now_ns < 0 or deadline_ns < 0:
            raise ValueError
        if self.queued_rows + rows > self.max_queue_rows and not admitted:
            return False
        if any(entry.ticket is ticket for entry in self.waiting):
            raise ValueError
        wait_ns = self.max_delay_ns
        if deadline_ns:
            wait_ns = min(wait_ns, max(deadline_ns - now_ns, 0) // 2)
        if not self._bucket(bucket):
            self.moment += 1
            self.served[bucket] = self.moment
        entry = Waiting(
            ticket, bucket, rows, now_ns + wait_ns, deadline_ns, priority, self.arrivals, is_due=wait_ns == 0
        )
        self.waiting.append(entry)
        self.arrivals += 1
        return True

    def ready(self, now_ns: int) -> bool:
        self._look(now_ns)
        return bool(self.late or self._ready_buckets())

    def pop(self, now_ns: int, share: int = 1) -> list[Any]:
        self._look(now_ns)
        ready = self._ready_buckets()
        if not ready:
            return []
        bucket = min(ready, key=self._rank)
        if len(ready) > 1:
            self.choices += 1
            if self.choices % FAIR_TURN == 0:
                bucket = min(ready, key=lambda bucket: self.served[bucket])
        self.moment += 1
        self.served[bucket] = self.moment
        batch: list[Waiting] = []
        part = -(-self.queued_rows // share)
        pace = self.pace_of(bucket) if self.pace_of else None
        room = min(part, self.pays_rows, self.max_batch_rows, pace.most_rows if pace else part)
        for entry in self._bucket(bucket):
            rows = sum(other.rows for other in batch) + entry.rows
            if batch and (rows > room or (pace and not self._in_time([*batch, entry], rows, pace, now_ns))):
                break
            batch.append(entry)
        return self._take(batch)

    def ahead(self, bucket: Hashable, priority: int = 0) -> tuple[int, int, int]:
        rows: dict[Hashable, int] = {}
        for entry in self.waiting:
            if not entry.is_late and entry.priority >= priority:
                rows[entry.bucket] = rows.get(entry.bucket, 0) + entry.rows
        own = rows.pop(bucket, 0)
        return own, sum(rows.values()), len(rows)

    def _in_time(self, batch: list[Waiting], rows: int, pace: Any, now_ns: int) -> bool:
        """Whether each would be answered, in a run of so many rows, as if it began alone when it has to at the latest."""
        ends_ns = now_ns + pace.run_ns(rows)
        return all(ends_ns <= entry.deadline_ns + pace.run_ns(entry.rows) for entry in batch if entry.deadline_ns)

    def expire(self, now_ns: int) -> list[Any]:
        self._look_late(now_ns)
        return self._take(list(self.late))

    def remove(self, ticket: Any) -> bool:
        return bool(self._take([entry for entry in self.waiting if entry.ticket is ticket]))

    def clear(self) -> list[Any]:
        return self._take(self.waiting)

    def next_event_ns(self) -> int:
        due = [entry.due_ns for entry in self.waiting if not entry.is_late and not entry.is_due]
        deadlines = [entry.deadline_ns for entry in self.waiting if entry.deadline_ns]
        return self.late[0].deadline_ns if self.late else min(due + deadlines, default=0)

    def _look(self, now_ns: int) -> None:
        self._look_late(now_ns)
        for entry in self.waiting:
            entry.is_due |= entry.due_ns <= now_ns

    def _look_late(self, now_ns: int) -> None:
        found = [entry for entry in self.waiting if 0 < entry.deadline_ns <= now_ns and not entry.is_late]
        self.late += sorted(found, key=lambda entry: (entry.deadline_ns, entry.arrival))
        for entry in found:
            entry.is_late = True

    def _bucket(self, bucket: Hashable) -> list[Waiting]:
        """The bucket's tickets that are not late, in the order in which they leave."""
        here = [entry for entry in self.waiting if entry.bucket == bucket and not entry.is_late]
        return sorted(here, key=lambda entry: (-entry.priority, entry.arrival))

    def _ready_buckets(self) -> list[Hashable]:
        buckets = {entry.bucket: self._bucket(entry.bucket) for entry in self.waiting if not entry.is_late}
        return [
            bucket
            for bucket, entries in buckets.items()
            if any(entry.is_due for entry in entries) or sum(entry.rows for entry in entries) >= self.enough_rows
        ]

    def _rank(self, bucket: Hashable) -> tuple[int, int]:
        first = self._bucket(bucket)[0]
        return -first.priority, first.arrival

    def _take(self, entries: list[Waiting]) -> list[Any]:
        self.waiting = [entry for entry in self.waiting if entry not in entries]
        self.late = [entry for entry in self.late if entry not in entries]
        return [entry.ticket for entry in entries]
