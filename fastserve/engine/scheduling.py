"""Which threads the machine runs first: those that answer small requests, before those that do what takes long.

Thread: about the calling one; threads that it starts afterwards inherit it (Linux gives each thread its own niceness).
"""

import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

NICENESS = 15
"""Of threads that stand back: tiny requests are answered beside 1.6 MB ones; the cell `mixed-p99` of bench/load shows it."""

SLICE_NS = 100_000
"""How long they keep a core once they have it: the least that the kernel gives (Linux 6.12 and newer).

Its own slices are some milliseconds, at whichever niceness, for which a door's thread that wakes up has to wait. With them a
transformer encoder took 5 % more CPU a row, and a CNN 2 % (A/B on two cores, concurrency 16).
"""

ASIDE_S = 10.0
"""A server whose cores never idle gets its new models too, if later."""


LARGE_BYTES = 16 << 20
"""Models below load in a few tens of milliseconds: what their clients notice of it is lost in what they notice anyway."""


def is_large(model: Path) -> bool:
    """Whether the files beside `model`, of which its weights may be some, and itself are so large in sum."""
    with suppress(OSError), os.scandir(model.parent) as entries:
        return sum(entry.stat().st_size for entry in entries) >= LARGE_BYTES
    return False


_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
"""The system call's number; Python has no function for it, and the C library of Debian 12 neither."""


class _Attributes(ctypes.Structure):
    """`struct sched_attr` in its first version (sched_setattr(2))."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


def stand_back() -> None:
    """Run behind the doors' threads (setpriority(2)), and for a short time at once."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
    number = _SCHED_SETATTR.get(platform.machine())
    if number is not None and os.sched_getscheduler(0) == os.SCHED_OTHER:
        wanted = _Attributes(ctypes.sizeof(_Attributes), os.SCHED_OTHER, 0, NICENESS, 0, SLICE_NS)
        ctypes.CDLL(None).syscall(
            number, 0, ctypes.byref(wanted), 0
        )  # where it is refused, or older than 6.12, all is as before


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
