"""The plain twin of ext/meters.pyx: Python integers, wrapped at 64 bits."""

from bisect import bisect_left


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


class RunMeter:
    """As the native one."""

    def __init__(self, queue: Histogram, run: Histogram, encode: Histogram, rows: Histogram) -> None:
        self.histograms = (queue, run, encode, rows)

    def observe(self, queue_ns: int, run_ns: int, encode_ns: int, rows: int) -> None:
        for histogram, value in zip(self.histograms, (queue_ns, run_ns, encode_ns, rows), strict=True):
            histogram.observe(value)
