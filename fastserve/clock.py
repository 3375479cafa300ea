"""The one source of time. Decisions never read it: they are told `now_ns`, so tests need no sleep."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns nanoseconds that only grow; the origin means nothing."""

monotonic_ns: Clock = time.monotonic_ns

wall_ns: Clock = time.time_ns
"""Nanoseconds since 1970, for people: it may be put back."""
