"""Keeps the process that compacts the prediction log running, as long as this one serves.

Thread: its own, which waits for that process; it ends with this thread, however that ends.
"""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from fastserve.config import Config
from fastserve.store.reader import unsupported

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
END_WITHIN_S = 10.0
"""A round that takes longer is killed, and done again another time."""

_log = logging.getLogger(__name__)


class Keeper:
    """`command`: what is kept running."""

    def __init__(self, command: Sequence[str], *, first_pause_s: float = FIRST_PAUSE_S) -> None:
        self._command = command
        self._first_pause_s = first_pause_s
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="compactor", daemon=True)

    def start(self) -> None:
        """Start it, soon."""
        self._thread.start()

    def stop(self) -> None:
        """End it: after what it is doing, where that does not take too long."""
        with self._lock:
            self._stopping.set()
            process = self._process
        if process is not None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_WITHIN_S)
            process.kill()
        self._thread.join(END_WITHIN_S)

    @property
    def pid(self) -> int | None:
        """Of the process that runs; None: none has run yet."""
        return None if self._process is None else self._process.pid

    def _keep(self) -> None:
        pause_s = self._first_pause_s
        while self._start():
            assert self._process is not None, "it was started"
            code = self._process.wait()
            if self._stopping.is_set():
                return
            _log.error(
                "the prediction log's compaction ended with code %d; it is started again in %.0f s", code, pause_s
            )
            self._stopping.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _start(self) -> bool:
        with self._lock:
            if self._stopping.is_set():
                return False
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)  # noqa: S603 - of our own making
            return True


def keeper(config: Config) -> Keeper | None:
    """For the log that is configured; None where there is none, or where compaction is not installed."""
    directory = config.log_directory
    if directory is None:
        return None
    if unsupported():
        _log.warning("the prediction log in %s is written, but not compacted: %s", directory, unsupported())
        return None
    settings = {
        "directory": os.path.abspath(directory),
        "parent_pid": os.getpid(),
        "retention_days": config.log.retention_days,
        "log_dir": config.server.log_dir,
    }
    # -P: what lies in the current folder is not imported
    return Keeper([sys.executable, "-P", "-m", "fastserve.server.compactor", msgspec.json.encode(settings).decode()])
