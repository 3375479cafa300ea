"""The process that compacts the prediction log: its own, so that no answer waits for it; started by `keeper`.

python -m fastserve.server.compactor SETTINGS, which are JSON. It ends after the round that it is in when the process that
started it tells it to, or is gone; killed at any moment it loses nothing.
Thread: one; niceness 15.
"""

import logging
import os
import signal
import sys
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from fastserve import logs
from fastserve.errors import FastServeError
from fastserve.protocols.arize.reader import READERS
from fastserve.server.ending import end_with
from fastserve.store.compactor import Compactor

ROUND_EVERY_S = 5.0
NICENESS = 15

_log = logging.getLogger(__name__)


class Settings(Struct, frozen=True):
    """What the process is given. `parent_pid`: it ends with that process."""

    directory: str
    parent_pid: int
    retention_days: int = 0
    log_dir: str | None = None


def main(text: str) -> int:
    """Compact until told to end."""
    settings = msgspec.json.decode(text, type=Settings)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, too; it says when we end
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # asked for between rounds
    end_with(settings.parent_pid)
    os.nice(NICENESS)
    logs.set_up(settings.log_dir)
    compactor: Compactor | None = None
    told = ""
    while True:
        more = False
        try:
            if compactor is None:
                compactor = Compactor.open(Path(settings.directory), READERS, settings.retention_days or None)
            more = compactor is not None and bool(compactor.round(time.time_ns()))
            told = ""
        except (OSError, FastServeError) as error:
            if str(error) != told:
                told = str(error)
                _log.error("the prediction log cannot be compacted now: %s", told)
        if _told_to_end(0 if more else ROUND_EVERY_S, settings.parent_pid):
            if compactor is not None:
                compactor.close()
            return 0


def _told_to_end(within_s: float, parent_pid: int) -> bool:
    """By the parent, or since it is gone. A SIGTERM for the whole group reaches us before the parent has drained."""
    told = signal.sigtimedwait({signal.SIGTERM}, within_s)
    return os.getppid() != parent_pid or (told is not None and told.si_pid == parent_pid)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
