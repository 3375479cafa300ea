"""Work of a request that is done on another thread, before the engine is asked: what the door is told meanwhile.

Thread: any.
"""

import logging
import threading
from collections.abc import Callable

from fastserve.engine.engine import Pending
from fastserve.engine.executor import Executor
from fastserve.errors import Cancelled, FastServeError, QueueFull
from fastserve.http.message import Reply
from fastserve.logs import mishap

_log = logging.getLogger(__name__)

Work = Callable[[], Pending | None]
Post = Callable[[Callable[[], None]], None]


class Later:
    """A request that waits for another thread, then for the engine."""

    __slots__ = ("_gone", "_pending", "_reply", "_work")

    def __init__(self, reply: Reply, work: Work) -> None:
        self._reply = reply
        self._work: Work | None = work
        self._pending: Pending | None = None
        self._gone = False

    def cancel(self) -> None:
        """The caller went away."""
        self._gone = True
        pending = self._pending
        if pending is not None:
            pending.cancel()

    def run(self) -> None:
        """The other thread: answer, now or later."""
        reply, work, self._work = self._reply, self._work, None
        assert work is not None
        try:
            if self._gone or reply.gone:
                raise Cancelled("the client went away")
            self._pending = pending = work()
            if self._gone and pending is not None:
                pending.cancel()
        except FastServeError as error:
            reply.fail(error)
        except Exception:  # the app's edge: nobody else waits for this thread
            reply.fail(mishap(_log, "a request failed"))


class Room:
    """So many requests may wait for a post that is slow; more are refused."""

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._inside = 0
        self._lock = threading.Lock()

    def post(self, post: Post, later: Later) -> Later:
        """Have `later` run by `post`. Raises QueueFull."""
        with self._lock:
            if self._inside >= self._most:
                raise QueueFull(f"{self._most} requests wait for {self._what} already")
            self._inside += 1
        post(lambda: self._run(later))
        return later

    def _run(self, later: Later) -> None:
        try:
            later.run()
        finally:
            with self._lock:
                self._inside -= 1


class OnDemand:
    """Threads that start with the first work for them: most servers have none."""

    def __init__(self, threads: int, name: str, *, stands_back: bool = True) -> None:
        self._threads = threads
        self._name = name
        self._stands_back = stands_back
        self._executor: Executor | None = None
        self._starting = threading.Lock()

    def post(self, work: Callable[[], None]) -> None:
        """Run `work` on one of them."""
        with self._starting:  # two first requests may come on two threads
            if self._executor is None:
                self._executor = Executor(self._threads, self._name, stands_back=self._stands_back)
        self._executor.post(work)
