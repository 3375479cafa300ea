"""Which threads the machine runs first: those that answer small requests, before those that do what takes long.

Thread: about the calling one; threads that it starts afterwards inherit it (Linux gives each thread its own niceness).
"""

import ctypes
import os
import platform
import threading

NICENESS = 15
"""Of threads that stand back: tiny requests are answered beside 1.6 MB ones; the cell `mixed-p99` of bench/load shows it."""

SLICE_NS = 100_000
"""How long they keep a core once they have it: the least that the kernel gives (Linux 6.12 and newer).

Its own slices are some milliseconds, at whichever niceness, for which a door's thread that wakes up has to wait. With them a
transformer encoder took 5 % more CPU a row, and a CNN 2 % (A/B on two cores, concurrency 16).
"""

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
    """Run behind the doors' threads (setpriority(2)), and for a short time at once, where the kernel lets it."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
    number = _SCHED_SETATTR.get(platform.machine())
    if number is not None and os.sched_getscheduler(0) == os.SCHED_OTHER:
        wanted = _Attributes(ctypes.sizeof(_Attributes), os.SCHED_OTHER, 0, NICENESS, 0, SLICE_NS)
        ctypes.CDLL(None).syscall(number, 0, ctypes.byref(wanted), 0)
