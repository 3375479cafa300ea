"""Numbers for records, so that the last one wins over all workers: the time, unless the clock was put back.

A number is microseconds times SEQ_STEP plus the worker's slot, so no two workers ever give the same. The highest one given is
in the file `order`, which all workers of a machine read before they give one: a clock that is put back, while they run or
between two starts, does not make what comes later older.
Thread: the flusher's. A disk that fails here fails nothing: the worker's own last number counts.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fastserve.store.folder import MAX_SLOTS

FILE = "order"
SEQ_STEP = MAX_SLOTS
"""Between the numbers of one worker."""

MAX_US = 1 << 53
"""What is beyond is no time: a file that was damaged. Numbers stay below 2^63."""


class Order:
    """One worker's numbers. `wall`: nanoseconds since 1970."""

    def __init__(self, directory: Path, slot: int, wall: Callable[[], int]) -> None:
        self._slot = slot
        self._wall = wall
        self._last_us = 0
        self._fd = -1
        with suppress(OSError):
            self._fd = os.open(directory / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def take(self, count: int) -> range:
        """So many numbers that nobody has had, higher than all that anybody had when this was called."""
        first_us = max(self._last_us + 1, self._wall() // 1000, self._shared_us() + 1)
        self._last_us = first_us + count - 1
        with suppress(OSError):
            os.pwrite(self._fd, self._last_us.to_bytes(8, "little"), 0)
        first = first_us * SEQ_STEP + self._slot
        return range(first, first + count * SEQ_STEP, SEQ_STEP)

    def close(self) -> None:
        """No more numbers."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _shared_us(self) -> int:
        try:
            shared = int.from_bytes(os.pread(self._fd, 8, 0), "little")
        except OSError:
            return 0
        return shared if shared < MAX_US else 0
