"""A lone client's requests cross two threads: where both are on one core, neither waits for another core to wake.

Granian's runtime thread reads and writes the network, its Python thread answers. With one request in flight they never run
at the same time, and waking a core that sleeps takes longer than the request itself, in a virtual machine several times as
long. With more in flight sharing a core halves what the server answers, so this is undone with the second.

Thread: `follow` is called on Granian's Python thread. Memory: the ids of two threads.
"""

import logging
import os
from contextlib import suppress
from pathlib import Path

RUNTIME_THREADS = "tokio-rt"
"""How Granian's runtime calls its threads (Linux cuts names at 15 characters)."""

_log = logging.getLogger(__name__)


class Together:
    """Puts the calling thread and the runtime's on one core, and back."""

    def __init__(self) -> None:
        self._cpus = os.sched_getaffinity(0)

    def follow(self, alone: bool) -> None:
        """Requests come one at a time from now on, or do not any more."""
        cpus = {_current_cpu(self._cpus)} if alone else self._cpus
        for thread in (0, *_runtime_threads()):
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setaffinity(thread, cpus)
        _log.debug("the door's threads may use the cores %s", sorted(cpus))


def _current_cpu(cpus: set[int]) -> int:
    """The core that the calling thread ran on last."""
    fields = Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()
    last = int(fields[36])  # field 39 of proc(5), after the two before and with the name's bracket
    return last if last in cpus else min(cpus)


def _runtime_threads() -> list[int]:
    found = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            if (task / "comm").read_text().startswith(RUNTIME_THREADS):
                found.append(int(task.name))
    return found
