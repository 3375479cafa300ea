"""A server that is not ready yet is waited for, for a while, before anything is measured. Thread: the caller's."""

from collections.abc import Callable
from typing import TypeVar

from fastserve.clock import Clock
from fastserve.loadtest.target import LoadTestError, NotYet

LOOK_EVERY_S = 0.25

Prepared = TypeVar("Prepared")


def prepared_within(
    wait_ns: int,
    prepare: Callable[[], Prepared],
    *,
    clock: Clock,
    tell: Callable[[str], None],
    pause: Callable[[float], None],
) -> Prepared:
    """What `prepare` comes to, which is asked again while it says NotYet; each reason is told once.

    Raises LoadTestError once `wait_ns` are over.
    """
    until, told = clock() + wait_ns, ""
    while True:
        try:
            return prepare()
        except NotYet as error:
            if clock() >= until:
                waited = f" (for {wait_ns / 1e9:g} s; --wait is how long)" if wait_ns else ""
                raise LoadTestError(f"{error}{waited}") from None
            if str(error) != told:
                told = str(error)
                tell(told)
        pause(LOOK_EVERY_S)
