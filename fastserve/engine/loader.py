"""Brings what should be served into effect, one state after the other; the newest counts.

Thread: owns one, at lower priority than the doors'; models are loaded on it. `apply` and `when_applied` on any.
"""

import logging
import threading
from collections.abc import Callable

from fastserve.engine.scheduling import stand_back
from fastserve.engine.state import State

_log = logging.getLogger(__name__)


class Loader:
    """Calls `bring_about` with the newest state that was asked for, and then those who wait for it.

    `at_once`: called on the thread of `apply`, with what must not wait for a model that takes long to load.
    """

    def __init__(self, bring_about: Callable[[State], None], at_once: Callable[[State], None] = lambda _: None) -> None:
        self._bring_about = bring_about
        self._at_once = at_once
        self._changed = threading.Condition()
        self._next: State | None = None
        self._waiting: list[tuple[int, Callable[[], None]]] = []
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name="loader", daemon=True)
        self.revision = 0
        """Of the last state that is in effect in full."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after what it loads now."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
        with self._changed:
            left, self._waiting = self._waiting, []
        for _, then in left:  # nobody waits for ever: what is not in effect now never will be
            then()

    def apply(self, state: State) -> None:
        """Bring `state` into effect soon, instead of any that still waits. One caller at a time."""
        self._at_once(state)
        with self._changed:
            self._next = state
            self._changed.notify()

    def when_applied(self, revision: int, then: Callable[[], None]) -> None:
        """Call `then` when that state, or a later one, is in effect; at once where it is."""
        with self._changed:
            if self.revision < revision:
                self._waiting.append((revision, then))
                return
        then()

    def _serve(self) -> None:
        stand_back()
        while (state := self._take()) is not None:
            try:
                self._bring_about(state)
            except Exception:  # the loader's edge: the next state may be a better one
                _log.exception("what should be served could not be brought about")
            self._done(state.revision)
            del state

    def _take(self) -> State | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._next is not None)
            state, self._next = self._next, None
            return None if self._stopped else state

    def _done(self, revision: int) -> None:
        with self._changed:
            self.revision = revision
            due = [then for wanted, then in self._waiting if wanted <= revision]
            self._waiting = [(wanted, then) for wanted, then in self._waiting if wanted > revision]
        for then in due:
            then()
