"""A process that compacts and is killed before a step: `python -m tests.support.crashing`, asked by lines on standard input.

Each line is a folder and a number: a child compacts that log and is killed before its call of the disk of that number. What
is answered is its exit status, 0 where it came to its end. One process is asked often: importing takes longer than a round.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pyarrow.acero

from fastserve.store import columns, compactor
from fastserve.store.disk import Disk
from tests.support.log_store import NOW_NS, READERS, row

assert pyarrow.acero is not None, "it is imported for the children"

STEPS = ("create", "write", "sync", "cut", "rename", "remove", "sync_folder", "make_folder", "remove_folder")
DAYS_KEPT = 30


class Killing(Disk):
    """Kills its process before a call."""

    def __init__(self, calls_left: int) -> None:
        self._calls_left = calls_left

    def __getattribute__(self, name: str) -> Any:
        if name in STEPS:
            self._calls_left -= 1
            if self._calls_left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().__getattribute__(name)


def main() -> None:
    """Answer until nobody asks."""
    compactor.MERGE_FROM_FILES = 2
    columns.table_of([row()])  # what is imported at the first need is imported here, and no child need do it again
    for line in sys.stdin:
        directory, _, calls = line.strip().rpartition(" ")
        child = os.fork()
        if child == 0:
            one = compactor.Compactor.open(Path(directory), READERS, DAYS_KEPT, Killing(int(calls)))
            assert one is not None
            one.round(NOW_NS)
            one.round(NOW_NS + 2 * compactor.GRACE_NS)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(status, flush=True)


if __name__ == "__main__":
    main()
