"""Where a configuration came from: enough to say where in a file something stands, and to read the files again.

Thread: any; everything here is frozen.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

FileIdentity = tuple[int, int, int]
"""Time, size and inode; files swapped by rename differ in the last where the others agree."""


class Origin(Struct, frozen=True):
    """What the files said beyond the values.

    `files`: every file that was read or looked for, as it was then (None: not there). `again`: read all of it anew.
    `places`: where something stands, by how problems name it: `{'"digits"': "models.config, line 3"}`. `written`: by
    model, the fields that its entry sets. `defaults`: fields of models that say nothing themselves. `notes`: what is
    not applied.
    """

    files: Mapping[str, FileIdentity | None] = {}
    places: Mapping[str, str] = {}
    written: Mapping[str, frozenset[str]] = {}
    defaults: Mapping[str, Any] = {}
    notes: tuple[str, ...] = ()
    again: Callable[[], Any] | None = None


def identity(path: str) -> FileIdentity | None:
    """The file as it is now; None where it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
