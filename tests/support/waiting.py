"""Waiting, within bounds, for what another thread or process brings about; never for time to go by."""

import time
from collections.abc import Callable

WITHIN_S = 60.0
LOOK_EVERY_S = 0.01


def until(condition: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    """Return once `condition` holds. Raises AssertionError where it does not come about in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(LOOK_EVERY_S)
