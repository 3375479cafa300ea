"""Passwords that wait to be checked: few, one at a time, by the address they came from, and there by the name.

Checking takes long on purpose, so who sends passwords that are none must not be able to keep the CPU busy, nor keep others
from being recognised: addresses take turns, and so do the names from one address. Names that nobody has are treated like any,
so that no refusal tells which ones there are.

Thread: `ask` on any; checks on the thread that `post` leads to. Memory: at most `MAX_WAITING` different attempts.
"""

import threading
from collections import deque
from collections.abc import Callable

from fastserve.errors import FastServeError, TooManyAttempts

MAX_WAITING = 64
MAX_OF_ADDRESS = 16
MAX_OF_NAME = 4
"""Of one name from one address."""

Told = Callable[[bool | FastServeError], None]
"""Whether the password was right, or why that is not known."""


Lane = tuple[str, str]
"""An address, and the name that somebody there says is theirs."""


class _Attempt:
    def __init__(self, check: Callable[[], bool], told: Told) -> None:
        self.check = check
        self.told = [told]


class Attempts:
    """`post`: has a callable called on a thread that may be held up, one after the other."""

    def __init__(self, post: Callable[[Callable[[], None]], None]) -> None:
        self._post = post
        self._lock = threading.Lock()
        self._lanes: dict[str, dict[str, deque[bytes]]] = {}
        self._attempts: dict[bytes, _Attempt] = {}
        self._closed = False

    def ask(self, lane: Lane, digest: bytes, check: Callable[[], bool], told: Told) -> None:
        """Have `check` called, once for all who ask with that digest meanwhile; `told` of what it said, or of a refusal."""
        with self._lock:
            attempt = self._attempts.get(digest)
            if attempt is not None:
                attempt.told.append(told)
                return
            full = not self._has_room(lane)
            if not full:
                self._attempts[digest] = _Attempt(check, told)
                address, name = lane
                self._lanes.setdefault(address, {}).setdefault(name, deque()).append(digest)
        if full:
            told(TooManyAttempts())
        else:
            self._post(self._check_next)

    def close(self) -> None:
        """Check nothing more: all who wait are refused."""
        with self._lock:
            self._closed = True

    def _has_room(self, lane: Lane) -> bool:
        address, name = lane
        names = self._lanes.get(address, {})
        of_address = sum(map(len, names.values()))
        few = of_address < MAX_OF_ADDRESS and len(names.get(name, ())) < MAX_OF_NAME
        return few and not self._closed and len(self._attempts) < MAX_WAITING

    def _check_next(self) -> None:
        """The first of the name whose turn it is at the address whose turn it is; both then stand behind the others."""
        with self._lock:
            address, names = next(iter(self._lanes.items()))
            name, waiting = next(iter(names.items()))
            digest = waiting.popleft()
            del self._lanes[address], names[name]
            if waiting:
                names[name] = waiting
            if names:
                self._lanes[address] = names
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
