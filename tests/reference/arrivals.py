"""The plain twin of `Overdue` in ext/arrivals.pyx.

Thread: any; the alarm's calls `act`. Memory: one entry per waiter.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

Waiter = TypeVar("Waiter")
At = Callable[[int, Callable[[int], None]], None]
"""Calls back with the time once it has come."""


class Overdue(Generic[Waiter]):
    """All wait equally long at the most, so the oldest is the next due: one alarm serves all.

    `waiting`: who waits, since when, oldest first. Taking one out of it is atomic, and whoever takes it out deals with it.
    A limit of 0 is none.
    """

    def __init__(self, limit_ns: int, at: At, act: Callable[[Waiter], None]) -> None:
        self.waiting: dict[Waiter, int] = {}
        self._limit_ns = limit_ns
        self._at = at
        self._act = act
        self._armed = False

    def begin(self, waiter: Waiter, now_ns: int) -> None:
        """`waiter` waits from now on."""
        self.waiting[waiter] = now_ns
        if not self._armed and self._limit_ns:
            self._armed = True
            self._at(now_ns + self._limit_ns, self.ring)

    def any_since(self, when_ns: int) -> bool:
        """Whether one that began after `when_ns` still waits."""
        if not self.waiting:
            return False
        try:
            return next(reversed(self.waiting.values())) > when_ns
        except (StopIteration, RuntimeError):  # none, or another thread took one out at this moment
            return False

    def ring(self, now_ns: int) -> None:
        self._armed = False
        for waiter, began_ns in list(self.waiting.items()):
            due_ns = began_ns + self._limit_ns
            if due_ns > now_ns:
                self._armed = True
                self._at(due_ns, self.ring)
                return
            if self.waiting.pop(waiter, None) is not None:
                self._act(waiter)
