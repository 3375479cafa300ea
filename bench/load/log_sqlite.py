"""`fastserve` with SQLite (WAL, synchronous=FULL) where its own store would be, to measure what that store is worth.

`python -m bench.load.log_sqlite each|grouped serve ...`: the same command line; a transaction for each request, or one for
all that wait. Thread: SQLite's own, as the log's flusher is.
"""

import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from unittest.mock import patch

from fastserve.cli.main import main
from fastserve.config import Config
from fastserve.server import app, launch
from fastserve.store.errors import StoreError
from fastserve.store.frames import Append

Done = Callable[[StoreError | None], None]


class SqliteWriter:
    """Takes what the log's writer takes."""

    trouble = None
    groups = False

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._waiting: SimpleQueue[tuple[Append, Done | None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def append(self, frames: Append, done: Done | None = None, rows: int = 1) -> None:  # noqa: ARG002
        """See `Writer`."""
        self._waiting.put((frames, done))

    def close(self, within_s: float | None = None) -> None:
        """See `Writer`."""
        self._waiting.put(None)
        self._thread.join(within_s)

    def _serve(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.directory / "log.sqlite", timeout=60, isolation_level=None)
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("create table if not exists records (kind integer, payload blob)")
        while (one := self._waiting.get()) is not None:
            group = [one, *self._others()] if self.groups else [one]
            connection.execute("begin immediate")
            connection.executemany(
                "insert into records values (?, ?)", [frame for frames, _ in group for frame in frames]
            )
            connection.execute("commit")
            for _, done in group:
                if done is not None:
                    done(None)
        connection.close()

    def _others(self) -> list[Any]:
        found: list[Any] = []
        try:
            while (one := self._waiting.get_nowait()) is not None:
                found.append(one)
            self._waiting.put(None)
        except Empty:
            pass
        return found


def open_writer(config: Config, _: object) -> SqliteWriter | None:
    """What the app asks for."""
    directory = config.log_directory
    return None if directory is None else SqliteWriter(Path(directory))


if __name__ == "__main__":
    SqliteWriter.groups = sys.argv.pop(1) == "grouped"
    # Ours is the writer, and nothing is compacted.
    with patch.object(app, "open_writer", open_writer), patch.object(launch, "keeper", lambda _: None):
        main()
