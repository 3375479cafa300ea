"""Which threads the machine runs first: those that answer small requests, before those that do what takes long.

Thread: about the calling one; threads that it starts afterwards inherit it (Linux gives each thread its own niceness).
"""

import os
import threading

NICENESS = 15
"""Of threads that stand back: tiny requests are answered beside 1.6 MB ones; the cell `mixed-p99` of bench/load shows it."""


def stand_back() -> None:
    """Run behind the doors' threads (setpriority(2))."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
