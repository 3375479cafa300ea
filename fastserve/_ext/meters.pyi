"""Counters and histograms that cost tens of nanoseconds. See ext/meters.pyx."""

from collections.abc import Callable
from typing import Any

class Counter:
    """A sum in one 64-bit cell of a shared buffer."""

    def __init__(self, cells: Any, at: int) -> None: ...
    def add(self, amount: int = 1, /) -> None: ...
    @property
    def value(self) -> int: ...

class Histogram:
    """`len(bounds) + 1` bucket counts and a sum in cells of a shared buffer; the count is that of all buckets."""

    def __init__(self, cells: Any, at: int, bounds: tuple[int, ...]) -> None: ...
    def observe(self, value: int, /) -> None: ...
    def observe_all(self, values: list[int], /) -> None: ...
    def observe_since(self, began: list[int], now: int, /) -> None: ...
    @property
    def buckets(self) -> tuple[int, ...]: ...
    @property
    def total(self) -> int: ...
    @property
    def count(self) -> int: ...

class Tally:
    """Sums side by side, `count` cells of a shared buffer."""

    def __init__(self, cells: Any, at: int, count: int) -> None: ...
    @property
    def count(self) -> int: ...
    @property
    def values(self) -> tuple[int, ...]: ...

VERSION_SUMS: int
SIZES_PER_TALLY: int
SUMS_PER_SIZE: int

class VersionMeter:
    """What one version's requests and runs take, by one call each: into histograms, and into sums that are exact."""

    def __init__(
        self,
        queue: Histogram,
        run: Histogram,
        encode: Histogram,
        rows: Histogram,
        sums: Tally,
        last: Tally,
        sizes: Callable[[int], Tally],
    ) -> None: ...
    def lone(self, received_ns: int, began_ns: int, ended_ns: int, now_ns: int, rows: int, /) -> None: ...
    def block(self, received_ns: list[int], rows: list[int], began_ns: int, ended_ns: int, now_ns: int, /) -> None: ...
    def ran(self, rows: int, run_ns: int, now_ns: int, /) -> None: ...
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
        /,
    ) -> None: ...
    def whole(self, received_ns: int, queued_ns: int, now_ns: int, /) -> None: ...
    def failed(self, elapsed_ns: int, /) -> None: ...
