"""Passwords that wait to be checked: few, one at a time, and each user's in a lane of their own.

Checking takes long on purpose, so who sends passwords that are none must not be able to keep the CPU busy, nor keep others
from being recognised: lanes take turns, and names that nobody has share one.

Thread: `ask` on any; checks on the thread that `post` leads to. Memory: at most `MAX_WAITING` different attempts.
"""

import threading
from collections import deque
from collections.abc import Callable

from fastserve.errors import FastServeError, TooManyAttempts

MAX_WAITING = 16
MAX_IN_LANE = 4

Told = Callable[[bool | FastServeError], None]
"""Whether the password was right, or why that is not known."""


class _Attempt:
    def __init__(self, lane: str, check: Callable[[], bool], told: Told) -> None:
        self.lane = lane
        self.check = check
        self.told = [told]


class Attempts:
    """`post`: has a callable called on a thread that may be held up, one after the other."""

    def __init__(self, post: Callable[[Callable[[], None]], None]) -> None:
        self._post = post
        self._lock = threading.Lock()
        self._lanes: dict[str, deque[bytes]] = {}
        self._attempts: dict[bytes, _Attempt] = {}
        self._closed = False

    def ask(self, lane: str, digest: bytes, check: Callable[[], bool], told: Told) -> None:
        """Have `check` called, once for all who ask with that digest meanwhile; `told` of what it said, or of a refusal."""
        with self._lock:
            attempt = self._attempts.get(digest)
            if attempt is not None:
                attempt.told.append(told)
                return
            full = not self._has_room(lane)
            if not full:
                self._attempts[digest] = _Attempt(lane, check, told)
                self._lanes.setdefault(lane, deque()).append(digest)
        if full:
            told(TooManyAttempts())
        else:
            self._post(self._check_next)

    def close(self) -> None:
        """Check nothing more: all who wait are refused."""
        with self._lock:
            self._closed = True

    def _has_room(self, lane: str) -> bool:
        in_lane = len(self._lanes.get(lane, ()))
        return not self._closed and len(self._attempts) < MAX_WAITING and in_lane < MAX_IN_LANE

    def _check_next(self) -> None:
        """The first of the lane whose turn it is; the lane then stands behind the others."""
        with self._lock:
            lane, waiting = next(iter(self._lanes.items()))
            digest = waiting.popleft()
            del self._lanes[lane]
            if waiting:
                self._lanes[lane] = waiting
            attempt, closed = self._attempts[digest], self._closed
        outcome: bool | FastServeError = TooManyAttempts()  # where the check fails of itself: for want of memory
        try:
            if not closed:
                outcome = attempt.check()
        finally:
            with self._lock:
                del self._attempts[digest]
            for told in attempt.told:
                told(outcome)
