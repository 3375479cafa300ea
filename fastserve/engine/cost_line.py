"""What a run of n rows takes, t(n) = b + a n, from the runs that were: a line followed with forgetting.

Pure: no clock. Thread: one at a time. Memory: six numbers.
"""

from collections.abc import Iterable

KEPT = 1 - 1 / 16
"""Of what earlier runs weigh, with each new one."""

STIFFNESS = 0.02
"""How much runs have to differ in rows before they say anything of b against a, as a share of their mean rows squared."""

FASTEST, SLOWEST = 0.5, 2.0
"""What one run may say, as a share of what was expected: one disturbed run moves the line by a sixteenth of that."""

SPREAD_KEPT = 1 - 1 / 16


class CostLine:
    """Times in ns; 0 until something was measured. `spread`: how far runs are from it, on average, as a share of it."""

    def __init__(self, points: Iterable[tuple[int, float]] = ()) -> None:
        """`points`: rows and times that were measured before."""
        self.base_ns = self.row_ns = self.spread = 0.0
        self._sums = [0.0] * 5
        for rows, took_ns in points:
            self._take(rows, took_ns, took_ns)

    @property
    def known(self) -> bool:
        """Whether anything was measured."""
        return self._sums[0] > 0

    def at(self, rows: int) -> float:
        """The expected time of a run of that many rows."""
        return self.base_ns + self.row_ns * rows

    def scaled(self, by: float) -> "CostLine":
        """A line of its own for rows that are so many times as large; it forgets this one as it learns."""
        line = CostLine([(1, self.at(1))] if self.known else [])
        line.base_ns, line.row_ns, line.spread = self.base_ns, self.row_ns * by, self.spread
        return line

    def observe(self, rows: int, took_ns: float) -> None:
        """Take a measured run in. Disturbance only adds time, so one that took far less than expected moves the line more
        than one that took as much more."""
        rows, took_ns = max(1, rows), max(1.0, took_ns)
        if not self.known:
            self._take(rows, took_ns, took_ns)
            return
        ratio = took_ns / self.at(rows)
        if ratio < FASTEST:
            self._shrink((1 + FASTEST) / 2)
        told = min(max(ratio, FASTEST), SLOWEST)
        self.spread = SPREAD_KEPT * self.spread + (1 - SPREAD_KEPT) * abs(told - 1)
        expected_ns = self.at(rows)
        self._sums = [KEPT * one for one in self._sums]
        self._take(rows, min(max(took_ns, FASTEST * expected_ns), SLOWEST * expected_ns), expected_ns)

    def _take(self, rows: int, took_ns: float, expected_ns: float) -> None:
        weight = 1 / (expected_ns * expected_ns)  # each run's relative error counts alike, be it short or long
        new = (1.0, rows, rows * rows, took_ns, rows * took_ns)
        self._sums = [old + weight * one for old, one in zip(self._sums, new, strict=True)]
        self._fit()

    def _fit(self) -> None:
        """The line through the mean of all runs, with the slope that they show as far as they differ, else as it was."""
        weights, rows, squares, times, products = self._sums
        mean_rows, mean_ns = rows / weights, times / weights
        known_ns = self.base_ns + self.row_ns * mean_rows
        slope = self.row_ns * mean_ns / known_ns if known_ns else mean_ns / mean_rows
        stiffness = STIFFNESS * mean_rows * mean_rows
        variance = max(0.0, squares / weights - mean_rows * mean_rows)
        together = products / weights - mean_rows * mean_ns
        slope = (together + stiffness * slope) / (variance + stiffness)
        self.row_ns = min(max(0.0, slope), mean_ns / mean_rows)
        self.base_ns = mean_ns - self.row_ns * mean_rows

    def _shrink(self, by: float) -> None:
        self.base_ns *= by
        self.row_ns *= by
        self._sums[3] *= by
        self._sums[4] *= by
