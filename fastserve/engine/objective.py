"""Batching by objective (`slo_ms`): who is let in, and how far a batch grows, so that what is let in is answered in time.

A request may wait until it would be late even alone; a batch grows as far as its earliest deadline allows; a request that
would wait longer than that leaves time for a batch is refused at once, and told how long it would have waited. Under
overload the queue so holds a few batches, each of which can still grow to its full size when its turn comes: without the
room kept for that, requests would be let in one by one until each could only run alone.

Pure decisions: told the time. Thread: under the batcher's lock, but for what only counts (`left`, `refused`, `ran_at_once`).
Memory: a line for each of the last buckets, an end for each slot that is in use.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Protocol

from msgspec import Struct

from fastserve._ext.batchqueue import Pace
from fastserve._ext.ticket import Ticket
from fastserve.engine.cost_line import CostLine
from fastserve.engine.meters import ObjectiveMeters
from fastserve.errors import Overloaded

PLANNED_SHARE = 0.9
"""Of the objective: what comes before a request is here, and after its answer is written, takes the rest."""

RUN_SHARE = 0.5
"""Of the planned time that one run takes at most: a request may find a run under way, and waits for it."""

SPREADS = 3.0
"""How many times the average distance from what was expected is allowed for."""

MOST_LINES = 64
"""Buckets whose runs are followed apart; there may be as many as clients send shapes."""

LAG_UP, LAG_DOWN = 4, 16


class Rules(Struct, frozen=True):
    """What one version of `model` is to keep to. `max_rows`: of a run; `pays_rows`: a batch takes no more.

    `sizes`: those that batches are padded to, ascending; none: any. `one_shape`: all rows are alike. `priority`: of requests
    that name none.
    """

    model: str
    slo_ns: int
    slots: int
    max_rows: int
    pays_rows: int
    sizes: tuple[int, ...] = ()
    one_shape: bool = True
    priority: int = 0


class Waiting(Protocol):
    """What is asked of the queue."""

    def ahead(self, bucket: Hashable, priority: int = 0) -> tuple[int, int, int]:
        """Rows of that bucket, of others, and how many others, that are not of a lower priority."""


class Objective:
    """The objective of one version: its lines, its slots' ends, its decisions."""

    def __init__(self, rules: Rules, measured: Iterable[tuple[int, float]], meters: ObjectiveMeters) -> None:
        self._rules = rules
        self._model = CostLine(measured)
        self._lines: dict[Hashable, CostLine] = {}
        self._paces: dict[Hashable, Pace] = {}
        self._called: dict[object, int] = {}
        self._ends: dict[object, int] = {}
        self._lag_ns = 0
        self._meters = meters

    @property
    def slo_ns(self) -> int:
        """Within which time requests are to be answered."""
        return self._rules.slo_ns

    def admit(self, ticket: Ticket, queue: Waiting, now_ns: int) -> None:
        """Let the ticket in, and set when it leaves the queue unrun. Raises Overloaded where it could not be done in time.

        What finds nothing waiting and nothing running is always let in, if its time is not over: refusing it would help
        nobody, and what runs take is learned from runs.
        """
        came_ns = ticket.received_ns if ticket.received_ns > 0 else now_ns
        end_ns = came_ns + self._rules.slo_ns
        if 0 < ticket.deadline_ns < end_ns:
            end_ns = ticket.deadline_ns
        rows = max(1, ticket.rows)
        pace = self._pace_for(ticket)
        ahead = queue.ahead(ticket.bucket, ticket.priority)
        refusal = self._refusal(rows, pace, ahead, came_ns, end_ns, now_ns)
        if refusal is not None:
            self._meters.refused.add(1)
            raise refusal
        latest_ns = end_ns - self._lone_ns(rows, pace)
        leaves_ns = latest_ns if latest_ns > now_ns else end_ns  # taken though it will be late: nothing else is to do
        if ticket.leaves_ns == 0 or leaves_ns < ticket.leaves_ns:
            ticket.leaves_ns = leaves_ns

    def refusal(self, queue: Waiting, came_ns: int, now_ns: int, deadline_ns: int = 0) -> Overloaded | None:
        """What a request that came then, and names no priority, is told without a look at it: that even one row would be
        too late. None where it may be let in. Where rows differ, the smallest is thought of, that nobody waits to share."""
        end_ns = came_ns + self._rules.slo_ns
        if 0 < deadline_ns < end_ns:
            end_ns = deadline_ns
        pace = self.pace(None)
        if not self._rules.one_shape:
            pace = Pace(pace.base_ns, pace.row_ns, 1)
        return self._refusal(1, pace, queue.ahead(None, self._rules.priority), came_ns, end_ns, now_ns)

    def refused(self, count: int) -> None:
        """So many were refused without a look at them."""
        self._meters.refused.add(count)

    def _refusal(
        self, rows: int, pace: Pace, ahead: tuple[int, int, int], came_ns: int, end_ns: int, now_ns: int
    ) -> Overloaded | None:
        own, others, buckets = ahead
        if not (own or others or self._ends) and end_ns > now_ns:
            return None
        wait_ns, run_ns = self._predicted(rows, own, pace, others, buckets, now_ns)
        planned_ns = came_ns + (end_ns - came_ns) * PLANNED_SHARE - now_ns
        late_ns = (wait_ns + run_ns) * self._caution - planned_ns
        if late_ns <= 0:
            return None
        model, slo_ns = self._rules.model, self._rules.slo_ns
        return Overloaded(
            model=model, wait_ns=round(wait_ns), run_ns=round(run_ns), slo_ns=slo_ns, late_ns=round(late_ns)
        )

    def pace(self, bucket: Hashable) -> Pace:
        """What its runs take, and the most rows of one."""
        line = self._lines.get(bucket)
        key, line = (None, self._model) if line is None else (bucket, line)
        known = self._paces.get(key)
        if known is None:
            known = self._paces[key] = self._pace_of(line)
        return known

    def wait_ns(self, queue: Waiting, now_ns: int) -> int:
        """How long a request of one row and no priority would wait."""
        own, others, buckets = queue.ahead(None)
        return round(self._predicted(1, own, self.pace(None), others, buckets, now_ns)[0])

    def called(self, slot: object, now_ns: int) -> None:
        """A thread was asked to serve the slot."""
        self._called[slot] = now_ns

    def begins(self, slot: object, tickets: Sequence[Ticket], now_ns: int) -> None:
        """The slot begins to run them, or rests where there are none."""
        lag_ns = now_ns - self._called.pop(slot, now_ns)
        if not tickets:
            return
        self._lag_ns += (lag_ns - self._lag_ns) // (LAG_UP if lag_ns > self._lag_ns else LAG_DOWN)
        rows = sum([max(1, ticket.rows) for ticket in tickets])
        self._ends[slot] = now_ns + self.pace(tickets[0].bucket).run_ns(rows)

    def ended(self, slot: object, now_ns: int) -> None:
        """The slot's run is over, and its answers are given; it is served on."""
        self._ends.pop(slot, None)
        self._called[slot] = now_ns

    def ran(self, tickets: Sequence[Ticket], began_ns: int, now_ns: int) -> None:
        """They were run and answered since then."""
        bucket = tickets[0].bucket
        rows = self._padded(sum([max(1, ticket.rows) for ticket in tickets]))
        took_ns = now_ns - began_ns
        if bucket is not None:
            self._line_of(bucket, tickets[0]).observe(rows, took_ns)
            rows = max(1, sum([ticket.size for ticket in tickets]))
        self._model.observe(rows, took_ns)
        self._paces.pop(bucket, None)
        self._paces.pop(None, None)
        in_time = sum([now_ns <= _came_ns(ticket) + self._rules.slo_ns for ticket in tickets])
        self._meters.met.add(in_time)
        self._meters.missed.add(len(tickets) - in_time)

    def ran_at_once(self, came_ns: Sequence[int], now_ns: int) -> None:
        """They came then, and were run and answered without the queue."""
        in_time = sum([now_ns <= came + self._rules.slo_ns for came in came_ns])
        self._meters.met.add(in_time)
        self._meters.missed.add(len(came_ns) - in_time)

    def left(self, count: int) -> None:
        """So many ran out of time before they were run."""
        self._meters.expired.add(count)

    @property
    def _caution(self) -> float:
        """What is added to a prediction, as a factor."""
        return 1 + SPREADS * self._model.spread

    def _predicted(
        self, rows: int, own: int, pace: Pace, others: int, buckets: int, now_ns: int
    ) -> tuple[float, float]:
        """How long a request of so many rows would wait, and how long its run would take, as full as it may become."""
        most = pace.most_rows
        parts, last = divmod(rows - 1, self._rules.max_rows)
        last += 1
        batches = (own + last - 1) // most if last <= most else -(-own // most)  # no request waits to be cut
        idle = self._rules.slots - len(self._ends)
        free_ns = [0.0] * idle + [float(max(0, end_ns - now_ns)) for end_ns in self._ends.values()]
        before_ns = others * pace.row_ns + buckets * pace.base_ns + parts * pace.run_ns(self._rules.max_rows)
        start_ns = _start(free_ns, batches, pace.run_ns(most) + self._lag_ns) + before_ns / self._rules.slots
        # A slot that is free runs what is there; what waits for one is joined by what comes meanwhile.
        beside = own + last - batches * most if start_ns == 0 else most
        return start_ns + self._lag_ns, float(pace.run_ns(max(last, beside)))

    def _lone_ns(self, rows: int, pace: Pace) -> int:
        most = self._rules.max_rows
        batches, rest = divmod(rows, most)
        rounds = -(-batches // self._rules.slots)
        return rounds * pace.run_ns(most) + (pace.run_ns(rest) if rest else 0)

    def _pace_for(self, ticket: Ticket) -> Pace:
        if ticket.bucket is not None and ticket.bucket not in self._lines:
            self._line_of(ticket.bucket, ticket)
        return self.pace(ticket.bucket)

    def _pace_of(self, line: CostLine) -> Pace:
        budget_ns = self._rules.slo_ns * PLANNED_SHARE * RUN_SHARE / self._caution
        room_ns = budget_ns - line.base_ns
        most = self._rules.pays_rows
        if line.row_ns > 0:
            most = min(most, max(1, int(room_ns / line.row_ns)))
        fitting = [size for size in self._rules.sizes if size <= most]
        if fitting:
            most = fitting[-1]
        return Pace(round(line.base_ns), round(line.row_ns), most, self._rules.sizes)

    def _line_of(self, bucket: Hashable, ticket: Ticket) -> CostLine:
        """The bucket's line; a new one begins as the model's, for rows as large as the ticket's."""
        line = self._lines.get(bucket)
        if line is None:
            if len(self._lines) >= MOST_LINES:
                oldest = next(iter(self._lines))
                del self._lines[oldest]
                self._paces.pop(oldest, None)
            line = self._lines[bucket] = self._model.scaled(max(1, ticket.size) / max(1, ticket.rows))
        return line

    def _padded(self, rows: int) -> int:
        return next((size for size in self._rules.sizes if size >= rows), rows)


def _start(free_ns: list[float], batches: int, batch_ns: float) -> float:
    """When a slot is free for what comes after so many batches."""
    rounds, rest = divmod(batches, len(free_ns))
    ends = sorted(one + rounds * batch_ns for one in free_ns)
    for _ in range(rest):
        ends[0] += batch_ns
        ends.sort()
    return ends[0]


def _came_ns(ticket: Ticket) -> int:
    return ticket.received_ns if ticket.received_ns > 0 else ticket.queued_ns
