"""The plain twin of ext/meters.pyx: Python integers, wrapped at 64 bits."""

from bisect import bisect_left
from collections.abc import Callable


def wrapped(value: int) -> int:
    """`value` as a signed 64-bit cell holds it."""
    return (value + 2**63) % 2**64 - 2**63


class Counter:
    """As the native one, in a list of cells."""

    def __init__(self, cells: list[int], at: int) -> None:
        self.cells = cells
        self.at = at

    def add(self, amount: int = 1) -> None:
        self.cells[self.at] = wrapped(self.cells[self.at] + amount)


class Histogram:
    """As the native one, in a list of cells."""

    def __init__(self, cells: list[int], at: int, bounds: tuple[int, ...]) -> None:
        self.cells = cells
        self.at = at
        self.bounds = bounds

    def observe(self, value: int) -> None:
        self.cells[self.at + bisect_left(self.bounds, value)] += 1
        total = self.at + len(self.bounds) + 1
        self.cells[total] = wrapped(self.cells[total] + value)


class Tally:
    """As the native one, in a list of cells."""

    def __init__(self, cells: list[int], at: int, count: int) -> None:
        self.cells = cells
        self.at = at
        self.count = count

    def add(self, index: int, amount: int) -> None:
        self.cells[self.at + index] = wrapped(self.cells[self.at + index] + amount)

    @property
    def values(self) -> tuple[int, ...]:
        return tuple(self.cells[self.at : self.at + self.count])


SUCCESSES, SUCCESS_NS, FAILURES, FAILURE_NS, QUEUE_NS, INPUT_NS, RUN_NS, OUTPUT_NS, ROWS, RUNS = range(10)
SIZES_PER_TALLY, SUMS_PER_SIZE = 32, 4


class VersionMeter:
    """As the native one, sum by sum."""

    def __init__(
        self,
        queue: Histogram,
        run: Histogram,
        encode: Histogram,
        rows: Histogram,
        sums: Tally,
        last: Tally,
        sizes: Callable[[int], Tally],
    ) -> None:
        self.queue, self.run, self.encode, self.rows = queue, run, encode, rows
        self.sums, self.last, self.sizes = sums, last, sizes

    def size(self, rows: int, index: int, amount: int) -> None:
        chunk, place = divmod(rows, SIZES_PER_TALLY)
        self.sizes(chunk).add(place * SUMS_PER_SIZE + index, amount)

    def lone(self, received_ns: int, began_ns: int, ended_ns: int, now_ns: int, rows: int) -> None:
        self.ran(rows, ended_ns - began_ns, ended_ns)
        self.answered(received_ns, began_ns, began_ns, ended_ns, ended_ns, now_ns, rows, rows)

    def ran(self, rows: int, run_ns: int, now_ns: int) -> None:
        self.run.observe(run_ns)
        self.rows.observe(rows)
        self.sums.add(RUNS, 1)
        self.size(rows, 0, 1)
        self.size(rows, 2, run_ns)
        self.last.cells[self.last.at] = max(self.last.cells[self.last.at], now_ns)

    def answered(
        self,
        received_ns: int,
        queued_ns: int,
        run_began_ns: int,
        run_ended_ns: int,
        encode_began_ns: int,
        now_ns: int,
        rows: int,
        batch_rows: int,
    ) -> None:
        self.queue.observe(run_began_ns - queued_ns)
        self.encode.observe(now_ns - encode_began_ns)
        self.sums.add(QUEUE_NS, run_began_ns - queued_ns)
        self.sums.add(RUN_NS, run_ended_ns - run_began_ns)
        self.sums.add(OUTPUT_NS, now_ns - encode_began_ns)
        self.sums.add(ROWS, rows)
        self.size(batch_rows, 3, now_ns - encode_began_ns)
        if received_ns >= 0:
            self.size(batch_rows, 1, queued_ns - received_ns if received_ns else 0)
            self.whole(received_ns, queued_ns, now_ns)

    def whole(self, received_ns: int, queued_ns: int, now_ns: int) -> None:
        begin_ns = received_ns or queued_ns
        self.sums.add(SUCCESSES, 1)
        self.sums.add(SUCCESS_NS, now_ns - begin_ns)
        self.sums.add(INPUT_NS, queued_ns - begin_ns)

    def failed(self, elapsed_ns: int) -> None:
        self.sums.add(FAILURES, 1)
        self.sums.add(FAILURE_NS, elapsed_ns)
