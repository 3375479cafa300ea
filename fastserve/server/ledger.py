"""Counts that outlive their worker: its cells lie in a file of memory that the parent has too.

A worker that dies without a word has counted until its last instruction, and what it counted stays in the sums: counters
never go back.
Thread: `SharedCells` under its metrics' lock; `Ledger` on the parent's link thread. Memory: pages of 64 kB, in the worker
and in the parent alike; the parent's go with the worker.
"""

import mmap
import os
import tempfile
from collections.abc import Callable, Mapping
from io import FileIO
from typing import Any

import numpy as np

from fastserve.metrics import Family, Labels, Made, Point

PAGE_CELLS = 8192
CELL_BYTES = 8


def new_file() -> FileIO:
    """A file without a name, in memory where that can be had."""
    if hasattr(os, "memfd_create"):
        return FileIO(os.memfd_create("fastserve-counts", os.MFD_CLOEXEC), "r+")
    with tempfile.TemporaryFile() as file:
        return FileIO(os.dup(file.fileno()), "r+")


class SharedCells:
    """The worker's side: makes pages, and says which series counts where."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._used_bytes = 0
        self._made: list[Made] = []
        self._tell: Callable[[Made | Mapping[str, str]], None] | None = None

    def tell(self, tell: Callable[[Made | Mapping[str, str]], None]) -> None:
        """Tell of every series, those made so far first; and of the labels of those that are dropped."""
        self._tell = tell
        early, self._made = self._made, []
        for made in early:
            tell(made)

    def page(self, count: int) -> tuple[np.ndarray[Any, Any], int]:
        """At least `count` cells, all zero, and the first one's place in the file."""
        size = -(-max(count, PAGE_CELLS) // PAGE_CELLS) * PAGE_CELLS * CELL_BYTES
        at = self._used_bytes
        self._file.truncate(at + size)
        self._used_bytes += size
        return np.frombuffer(mmap.mmap(self._file.fileno(), size, offset=at), np.int64), at // CELL_BYTES

    def made(self, made: Made) -> None:
        """A series counts from now on."""
        if self._tell is None:
            self._made.append(made)
        else:
            self._tell(made)

    def dropped(self, labels: Mapping[str, str]) -> None:
        """The series with all of these labels are gone."""
        if self._tell is not None:
            self._tell(labels)


class Ledger:
    """The parent's side: reads what a worker counts, and what one that died has counted."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._made: dict[tuple[str, Labels], Made] = {}
        self._cells = np.zeros(0, np.int64)

    def add(self, made: Made) -> None:
        """A series counts from now on."""
        self._made[made.name, made.labels] = made

    def drop(self, labels: Mapping[str, str]) -> None:
        """The series with all of these labels are gone."""
        wanted = set(labels.items())
        self._made = {key: made for key, made in self._made.items() if not wanted <= set(made.labels)}

    def read(self) -> list[Family]:
        """Everything that was counted so far."""
        by_name: dict[str, list[Made]] = {}
        for made in self._made.values():
            by_name.setdefault(made.name, []).append(made)
        return [
            Family(name, several[0].kind, several[0].text, tuple(map(self._point, several)), several[0].over)
            for name, several in by_name.items()
        ]

    def close(self) -> None:
        """Let the file go."""
        self._cells = np.zeros(0, np.int64)
        self._file.close()

    def _point(self, made: Made) -> Point:
        if made.at + made.count > len(self._cells):
            self._cells = np.frombuffer(mmap.mmap(self._file.fileno(), 0, prot=mmap.PROT_READ), np.int64)
        values = self._cells[made.at : made.at + made.count].tolist()
        return Point(made.labels, tuple(values), made.bounds, made.scale)
