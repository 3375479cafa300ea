"""What a run of so many rows takes. See ext/costs.pyx."""

UNKNOWN_NS: int

class CostTable:
    """Expected times of runs, in ns."""

    def __init__(self) -> None: ...
    def estimate_ns(self, rows: int, /) -> int: ...
    def observe(self, rows: int, run_ns: int, /) -> None: ...
