"""A server's prediction log as a test looks at it: the rows that came since the last look, read from its segments."""

from pathlib import Path

from fastserve.protocols.arize.reader import READERS
from fastserve.store import folder
from fastserve.store.rows import Row


class KeptLog:
    """Of one directory. Only segments are read: a compactor at work would take them away."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ends: dict[tuple[str, int], int] = {}

    def rows(self) -> list[Row]:
        """The new ones."""
        found: list[Row] = []
        for segment in folder.listed(self._directory):
            scan = folder.scan(segment, self._ends.get(segment.name, 0))
            for frame in scan:
                found += READERS[frame.kind](frame)
            self._ends[segment.name] = scan.end
        return found
