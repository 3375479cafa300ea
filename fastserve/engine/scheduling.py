"""Which threads the machine runs first: those that answer small requests, before those that do what takes long.

Thread: about the calling one; threads that it starts afterwards inherit it (Linux gives each thread its own niceness).
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

NICENESS = 15
"""Of threads that stand back: tiny requests are answered beside 1.6 MB ones; the cell `mixed-p99` of bench/load shows it."""

ASIDE_S = 10.0
"""A server whose cores never idle gets its new models too, if later."""


LARGE_BYTES = 16 << 20
"""Models below load in a few tens of milliseconds: what their clients notice of it is lost in what they notice anyway."""


def is_large(model: Path) -> bool:
    """Whether the files beside `model`, of which its weights may be some, and itself are so large in sum."""
    with suppress(OSError), os.scandir(model.parent) as entries:
        return sum(entry.stat().st_size for entry in entries) >= LARGE_BYTES
    return False


def stand_back() -> None:
    """Run behind the doors' threads (setpriority(2))."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


@contextmanager
def standing_aside(wanted: bool = True, within_s: float = ASIDE_S) -> Iterator[None]:
    """Run only where the server's other threads leave a core idle, for `within_s`; then as before. Nothing unless `wanted`.

    However nice a thread is, it keeps its core for a slice of some milliseconds when one of a door wakes up, and there are
    several wake-ups a request. One of SCHED_IDLE gives way at once. Threads that are started meanwhile come back, too.
    Nothing changes where the kernel would not let it come back: without CAP_SYS_NICE, and RLIMIT_NICE below 20 - NICENESS.
    """
    if not wanted or os.sched_getscheduler(0) != os.SCHED_OTHER or not _comes_back():
        yield
        return
    went = threading.Event()
    timer = threading.Timer(within_s, _all_back, [went])
    timer.daemon = True
    timer.start()  # before, so that it is not aside itself
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    went.set()
    try:
        yield
    finally:
        timer.cancel()
        _all_back(went)


def _all_back(went: threading.Event) -> None:
    """Every thread of this process that is aside; their niceness is what it was. Not before the first one `went`."""
    went.wait()
    for name in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):  # it has ended meanwhile
            if os.sched_getscheduler(int(name)) == os.SCHED_IDLE:
                os.sched_setscheduler(int(name), os.SCHED_OTHER, os.sched_param(0))


@cache
def _comes_back() -> bool:
    """Tried once, on a thread that ends with it."""
    found: list[bool] = []

    def there_and_back() -> None:
        try:
            stand_back()
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        except OSError:
            return
        found.append(True)

    trial = threading.Thread(target=there_and_back)
    trial.start()
    trial.join()
    return bool(found)
