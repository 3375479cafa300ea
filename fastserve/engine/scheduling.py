"""Which threads the machine runs first: those that answer small requests, before those that do what takes long.

Thread: each function is about the calling thread; threads that it starts afterwards inherit it.
Linux only; elsewhere, and where the kernel knows no time slices of a thread's own (before 6.12), nothing happens.
"""

import ctypes
import os
import platform
import struct
import sys
import threading

NICENESS = 15
"""Of threads that stand back: tiny requests are answered beside 1.6 MB ones; the cell `mixed-p99` of bench/load shows it."""

SHORT_SLICE_NS = 100_000
"""A thread that asks for so little at a time is run as soon as it wakes, whoever runs."""

_SET_ATTRIBUTES = {"x86_64": 314, "aarch64": 274}
"""The number of sched_setattr(2), by machine: the C library has no function for it before glibc 2.41."""

_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
"""struct sched_attr: size, policy, flags, nice, priority, runtime (ns), deadline, period."""


def stand_back() -> None:
    """Run behind the doors' threads (Linux gives each thread its own niceness: setpriority(2))."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
    _ask_for_slice(0, NICENESS)


def come_first() -> None:
    """Run as soon as there is something to do."""
    _ask_for_slice(SHORT_SLICE_NS, os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))


def _ask_for_slice(slice_ns: int, niceness: int) -> None:
    """A time slice of so many nanoseconds; 0: what everybody has. What the kernel does not grant is not needed to serve."""
    number = _SET_ATTRIBUTES.get(platform.machine())
    if sys.platform == "linux" and number is not None:
        attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, 0, 0, niceness, 0, slice_ns, 0, 0)
        ctypes.CDLL(None).syscall(number, 0, attributes, 0)
