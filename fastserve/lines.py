"""Lines to a file from threads that must not wait: a bounded queue, and a thread that writes.

Thread: `add` on any, in less than a microsecond; encoding and writing on the writer's own.
Memory: at most MAX_WAITING entries wait; those that come while the file takes no more are dropped, counted and told.
"""

import logging
import math
import os
import select
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from fastserve.errors import ConfigError

MAX_WAITING = 65_536
"""Some seconds of the fastest server's requests."""

GATHER_S = 0.05
"""The writer wakes for a first entry, and lets others come so long: a wake-up per entry would cost more than the entry."""

AT_A_TIME = 64
"""Entries encoded before others have the GIL."""

TELL_EVERY_S = 10.0
STALLED_S = 1.0
CLOSE_WITHIN_S = 5.0
NEWLINE = ord("\n")
STREAMS = {"-": 1, "/dev/stdout": 1, "/dev/stderr": 2}

_log = logging.getLogger(__name__)


class LineFile:
    """A file that whole lines are appended to, by several processes at a time; opened anew when it was moved away.

    `-` is standard output. Raises ConfigError where it cannot be opened.
    """

    def __init__(self, path: str, option: str) -> None:
        self.path = path
        self._stream = STREAMS.get(path)
        try:
            self._fd = self._open()
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror} ({option})") from error
        self._torn = False

    def write(self, data: bytes) -> None:
        """Append whole lines. Raises OSError; what was written of a line by then stays, and the next call ends it."""
        if self._torn:
            data = b"\n" + data
        view = memoryview(data)
        at = 0
        for size in self._pieces(data):
            end = at + size
            while at < end:
                at += self._write(view[at:end])
                self._torn = at > 0 and data[at - 1] != NEWLINE

    def reopen_if_moved(self) -> None:
        """Go on in a new file, where another program has moved this one away (logrotate). Raises OSError."""
        if self._stream is not None:
            return
        try:
            there = os.stat(self.path)
            here = os.fstat(self._fd)
            moved = (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)
        except FileNotFoundError:
            moved = True
        if moved:
            fresh = self._open()
            os.close(self._fd)
            self._fd = fresh

    def close(self) -> None:
        """Let the file go."""
        if self._stream is None:
            os.close(self._fd)

    def _open(self) -> int:
        if self._stream is not None:
            sys.stdout.flush()
            return self._stream
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _write(self, data: memoryview) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            if not select.select([], [self._fd], [], STALLED_S)[1]:
                raise
            return 0

    def _pieces(self, data: bytes) -> list[int]:
        """Sizes of what is written at a time: all, but for pipes, which keep apart only short writes of several processes."""
        if stat.S_ISREG(os.fstat(self._fd).st_mode):
            return [len(data)]
        sizes = [0]
        for line in data.splitlines(keepends=True):
            if sizes[-1] and sizes[-1] + len(line) > select.PIPE_BUF:
                sizes.append(0)
            sizes[-1] += len(line)
        return sizes


class LineWriter:
    """A thread that encodes and writes what is added. `dropped`: told how many entries were lost, whenever some are."""

    def __init__(
        self,
        file: LineFile,
        encode: Callable[[Sequence[Any]], bytes],
        dropped: Callable[[int], None],
        *,
        max_waiting: int = MAX_WAITING,
        gather_s: float = GATHER_S,
    ) -> None:
        self._file = file
        self._encode = encode
        self._dropped = dropped
        self._max_waiting = max_waiting
        self._gather_s = gather_s
        self._waiting: deque[Any] = deque()
        self._asleep = True
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._lost = 0
        self._reason = ""
        self._told_s = -math.inf
        self._thread = threading.Thread(target=self._serve, name="access-log", daemon=True)
        self._thread.start()

    def add(self, entry: Any) -> None:
        """Have `entry` written, soon; or dropped, where too many wait."""
        if len(self._waiting) >= self._max_waiting:
            self._lose(1, "the file takes less than comes")
            return
        self._waiting.append(entry)
        if self._asleep:
            self._asleep = False
            self._wake.set()

    def look(self) -> None:
        """The file may have been moved: go on in a new one now, and not with the next entry."""
        self._wake.set()

    def close(self) -> None:
        """Write what waits, and end; a file that takes nothing is not waited for without end."""
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_WITHIN_S)

    def _serve(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            self._closing.wait(self._gather_s)
            self._asleep = True  # before looking: whoever adds from here on wakes us again
            self._write()
        self._write()
        self._file.close()

    def _write(self) -> None:
        entries: list[Any] = []
        try:
            self._file.reopen_if_moved()
            while self._waiting:
                self._file.reopen_if_moved()  # again: what is added after a move is not written where it was
                entries = [self._waiting.popleft() for _ in range(min(len(self._waiting), AT_A_TIME))]
                self._file.write(self._encode(entries))
        except OSError as error:
            self._lose(len(entries), error.strerror or str(error))
        now = time.monotonic()
        if self._lost and (now - self._told_s >= TELL_EVERY_S or self._closing.is_set()):
            lost, self._lost, self._told_s = self._lost, 0, now
            _log.warning("%s: %d lines were dropped: %s", self._file.path, lost, self._reason)

    def _lose(self, count: int, reason: str) -> None:
        self._dropped(count)
        self._reason = reason
        self._lost += count  # from several threads, and not exact; the metric is
