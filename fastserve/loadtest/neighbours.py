"""How much of this machine others used while something was measured. Thread: any."""

import os
import time
from pathlib import Path

DISTURBED_SHARE = 0.1
"""Of the CPU time: where others took more, figures are less certain."""


def busy_s() -> float:
    """CPU time so far of the CPUs that this process may use, whoever used it; what the host took away is used, too."""
    total = 0
    ours = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        fields = line.split()
        if fields[0] in ours:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[1:9])
            total += user + nice + system + irq + softirq + steal
    return total / os.sysconf("SC_CLK_TCK")


class Neighbours:
    """Others' part of the CPUs, from now on; children of this process count as ours once they have ended."""

    def __init__(self) -> None:
        self._began = self._now()

    def share(self) -> float:
        """0 to 1."""
        passed, busy, own = (end - begin for end, begin in zip(self._now(), self._began, strict=True))
        return max(0.0, busy - own) / max(passed * len(os.sched_getaffinity(0)), 1e-9)

    @staticmethod
    def _now() -> tuple[float, float, float]:
        return time.monotonic(), busy_s(), sum(os.times()[:4])
