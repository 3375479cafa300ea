"""Whatever is asked of the prediction log, on threads of its own: a question reads files and computes, for seconds.

Thread: `later` on any. Memory: the reader's tail, from the first question on; so many may wait, more are refused.
"""

import threading
from collections.abc import Callable
from pathlib import Path

from fastserve.engine.engine import Engine
from fastserve.errors import ErrorCode, FastServeError
from fastserve.http.message import Pending, Reply, Response
from fastserve.protocols.later import Later, OnDemand, Room
from fastserve.store.asking import Desk
from fastserve.store.question import Limits
from fastserve.store.reader import Reader

THREADS = 2
MAX_WAITING = 64


class NoLog(FastServeError):
    """This server keeps no prediction log."""

    code = ErrorCode.NOT_FOUND

    def __init__(self) -> None:
        super().__init__("this server keeps no prediction log: start it with --log-dir DIR, or set directory in [log]")


class Questions:
    """Of one process. `reader` and `desk` are made when they are first asked for."""

    def __init__(self, engine: Engine, limits: Limits | None = None) -> None:
        self._engine = engine
        self._limits = limits
        # They hold the GIL while they decode: one that stands back would hold it while others have the CPU.
        self._threads = OnDemand(THREADS, "log", stands_back=False)
        self._room = Room(MAX_WAITING, "the prediction log")
        self._making = threading.Lock()
        self._reader: Reader | None = None
        self._desk: Desk | None = None

    def directory(self) -> Path:
        """Where the log is. Raises NoLog."""
        directory = self._engine.config.log_directory
        if directory is None:
            raise NoLog
        return Path(directory)

    def reader(self) -> Reader:
        """Of this process's log. Raises NoLog, LogUnavailable without the extra."""
        directory = self.directory()
        with self._making:
            if self._reader is None:
                self._reader = Reader(
                    directory,
                    self._engine.log_readers,
                    count_duplicates=self._engine.config.log.count_duplicates,
                )
                self._engine.when_stopped(self._reader.close)
                self._made_desk().prepare()  # who looks at the log asks it in SQL, too
            return self._reader

    def desk(self) -> Desk:
        """Where statements of others are answered."""
        with self._making:
            return self._made_desk()

    def _made_desk(self) -> Desk:
        """Under the lock."""
        if self._desk is None:
            self._desk = Desk(self._limits)
            self._engine.when_stopped(self._desk.close)
        return self._desk

    def later(self, reply: Reply, work: Callable[[], Response | None]) -> Pending:
        """Answer with what `work` finds, on a thread that may take its time; None: it answers itself, later.

        Raises NoLog, QueueFull.
        """
        self.directory()

        def run() -> None:
            response = work()
            if response is not None:
                reply.send(response)

        return self._room.post(self._threads.post, Later(reply, run))
