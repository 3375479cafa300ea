"""What changed on disk: identities of files to compare, and a thread that looks now and then."""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from fastserve.repository.layout import version_number

logger = logging.getLogger(__name__)


class FileStamp(Struct, frozen=True):
    """One file as it was seen. Files swapped by rename differ in inode where time and size agree."""

    path: str
    mtime_ns: int
    size_bytes: int
    inode: int


class Stamp(Struct, frozen=True):
    """All files of one version as they were seen; equal stamps mean that nothing was written."""

    files: tuple[FileStamp, ...]


def stamp(path: Path) -> Stamp:
    """The identity of the version whose model file is `path`; without files where it is gone.

    External data lies in the model file's folder: in a version's own folder every file counts, elsewhere those whose
    name starts like the model's.
    """
    if version_number(path.parent.name) is not None:
        files = [os.path.join(folder, name) for folder, _, names in os.walk(path.parent) for name in names]
    else:
        files = [entry.path for entry in _entries(path.parent) if entry.name.startswith(path.stem) and entry.is_file()]
    return Stamp(files=tuple(seen for file in sorted(files) if (seen := _seen(file)) is not None))


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _seen(file: str) -> FileStamp | None:
    try:
        status = os.stat(file)
    except OSError:
        # Gone since the folder was read.
        return None
    return FileStamp(path=file, mtime_ns=status.st_mtime_ns, size_bytes=status.st_size, inode=status.st_ino)


class Watcher:
    """A daemon thread that calls `look` every `poll_seconds` (0: only when asked), and survives what it raises.

    Thread: `look` runs on the watcher's own thread only, never twice at once; the methods may be called from any other.
    `wake`: what the thread waits on; tests give one that they control.
    """

    def __init__(self, look: Callable[[], None], poll_seconds: float, *, wake: threading.Event | None = None) -> None:
        self._look = look
        self._poll_seconds = poll_seconds or None
        self._wake = wake or threading.Event()
        self._state = threading.Condition()
        self._asked = 0
        self._answered = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._watch, name="fastserve-watch", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look soon; does not wait for it."""
        self._wake.set()

    def look_now(self, timeout_s: float | None = None) -> bool:
        """Look, and return once a look that began after this call has ended; False where none did in time."""
        with self._state:
            self._asked += 1
            mine = self._asked
            self._wake.set()
            self._state.wait_for(lambda: self._answered >= mine or self._stopped, timeout_s)
            return self._answered >= mine

    def stop(self) -> None:
        """End the thread, after the look that it may be in; calling it again does nothing."""
        with self._state:
            self._stopped = True
            self._state.notify_all()
        self._wake.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _watch(self) -> None:
        while True:
            self._wake.wait(self._poll_seconds)
            self._wake.clear()
            with self._state:
                if self._stopped:
                    return
                asked = self._asked
            try:
                self._look()
            except Exception:
                # Whatever one look ran into, the next may find mended.
                logger.exception("looking for changed models failed; trying again")
            with self._state:
                self._answered = asked
                self._state.notify_all()
