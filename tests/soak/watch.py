"""What a soak looks at: memory, descriptors and threads of every process of the server, and how long answers take."""

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct

PAGE = os.sysconf("SC_PAGE_SIZE")
SETTLING = 0.5
"""The first part of a run: caches fill, pools grow by whole arenas."""


class Sample(Struct, frozen=True):
    """One look. `at_s`: since the start."""

    at_s: float
    memory_mb: float
    descriptors: int
    threads: int
    processes: int


class Verdict(Struct, frozen=True):
    """What a run came to. `mb_per_hour`: the slope of memory behind the settling; `p99_ms`: of its first and last quarter."""

    seconds: float
    requests: int
    reloads: int
    departures: int
    records: int
    mb_per_hour: float
    memory_mb: tuple[float, float]
    descriptors: tuple[int, int]
    threads: tuple[int, int]
    p99_ms: tuple[float, float]
    wrong: tuple[str, ...]

    def problems(self, *, is_long: bool) -> list[str]:
        """What is not as promised; of a short run, what can be seen in one."""
        found = list(self.wrong)
        if self.descriptors[1] > self.descriptors[0] + 16:
            found.append(f"descriptors grew from {self.descriptors[0]} to {self.descriptors[1]}")
        if self.threads[1] > self.threads[0] + 4:
            found.append(f"threads grew from {self.threads[0]} to {self.threads[1]}")
        if is_long and self.mb_per_hour > 1:
            found.append(f"memory grew by {self.mb_per_hour:.2f} MB/h")
        if is_long and self.p99_ms[1] > 2 * self.p99_ms[0]:
            found.append(f"p99 went from {self.p99_ms[0]:.2f} to {self.p99_ms[1]:.2f} ms")
        return found


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # threads end while they are listed
                found += [int(child) for child in task.read_text().split()]
    return found


def look(pid: int, began: float) -> Sample:
    """Everything of one moment. A process that just ended counts nothing."""
    memory = descriptors = threads = processes = 0
    for one in family(pid):
        try:
            memory += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * PAGE
            descriptors += len(os.listdir(f"/proc/{one}/fd"))
            threads += len(os.listdir(f"/proc/{one}/task"))
            processes += 1
        except OSError:
            continue
    return Sample(time.monotonic() - began, memory / 1e6, descriptors, threads, processes)


def slope_per_hour(samples: Sequence[Sample]) -> float:
    """Of memory, by least squares over what follows the settling.

    The compactor comes and goes, a process of 80 MB: it is left out, with the moments at which it was there.
    """
    settled = _settled(samples)
    fewest = min((one.processes for one in settled), default=0)
    settled = [one for one in settled if one.processes == fewest]
    if len(settled) < 3:
        return 0.0
    slope, _ = np.polyfit([one.at_s for one in settled], [one.memory_mb for one in settled], 1)
    return float(slope) * 3600


def from_to(samples: Sequence[Sample], field: str) -> tuple[int, int]:
    """What there is at half of the looks of the first and of the last third of what follows the settling.

    Not the most: the compactor works on eight threads for a second at a time, clients come and go.
    """
    values = [getattr(one, field) for one in _settled(samples)]
    third = max(1, len(values) // 3)
    return sorted(values[:third])[third // 2], sorted(values[-third:])[third // 2]


def p99_ms(times: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of the first and of the last quarter of the time, behind the settling."""
    if not times:
        return 0.0, 0.0
    ordered = sorted(times)
    ordered = ordered[int(len(ordered) * SETTLING) :]
    quarter = max(1, len(ordered) // 4)
    first, last = ([took for _, took in part] for part in (ordered[:quarter], ordered[-quarter:]))
    return float(np.percentile(first, 99)) * 1000, float(np.percentile(last, 99)) * 1000


def _settled(samples: Sequence[Sample]) -> Sequence[Sample]:
    return samples[int(len(samples) * SETTLING) :] or samples
