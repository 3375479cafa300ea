"""The plain twin of ext/costs.pyx."""

UNKNOWN_NS = 1 << 62


class CostTable:
    def __init__(self) -> None:
        self._known: dict[int, int] = {}

    def estimate_ns(self, rows: int) -> int:
        return self._known.get(rows.bit_length(), UNKNOWN_NS)

    def observe(self, rows: int, run_ns: int) -> None:
        run_ns = min(max(run_ns, 0), UNKNOWN_NS - 1)
        known = self._known.get(rows.bit_length())
        if known is None:
            estimate = run_ns
        elif run_ns < known:
            estimate = run_ns + (known - run_ns) // 2
        else:
            estimate = known + min(run_ns - known, known) // 16
        self._known[rows.bit_length()] = estimate
