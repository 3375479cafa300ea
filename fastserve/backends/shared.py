"""Files that the workers of one server share: a large model prepared once by one of them, mapped by all.

A folder of the server's own holds one folder a prepared model. Who uses what is told by locks (flock), which end with the
process that has them: so nothing is taken away from under a worker, and what a killed server leaves is known as left over.
Thread: the parent's main one makes the folder; loading threads take from it. Memory: descriptors only.
"""

import fcntl
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "fastserve-weights-"
LOCK = "preparing"
READY = "ready"
REFUSED = "refused"
MAX_REASON_BYTES = 4096

_log = logging.getLogger(__name__)


class CannotPrepareError(Exception):
    """A model is not shared; each worker loads it for itself instead."""


class SharedFolder:
    """A server's own folder, for as long as this object and the workers that inherited it live. Raises OSError."""

    def __init__(self, base: str | None) -> None:
        parent = Path(base or tempfile.gettempdir())
        remove_left(parent, PREFIX)
        self._lock = -1
        while self._lock < 0:  # another server may take it for left over before it is locked
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            self._lock = hold(self.path, fcntl.LOCK_EX)

    def close(self) -> None:
        """Take everything away. Whoever has it mapped still has it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def remove_left(parent: Path, prefix: str) -> None:
    """Remove the folders with names like that of our own user's servers that were killed."""
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError):
            found = folder.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
                _remove_unused(folder)


class Held:
    """A prepared model that nobody takes away before `release`. `refused`: why there is none, else empty."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self.refused = ""
        with suppress(FileNotFoundError):
            self.refused = (folder / REFUSED).read_text(errors="replace")
        self._lock = lock

    def release(self) -> None:
        """Not used any more by this one; the last one takes the files away."""
        if self._lock >= 0:
            lock, self._lock = self._lock, -1
            with suppress(OSError):  # what is left goes with the server's folder
                _remove_if_last(self.folder, lock)
            os.close(lock)


class SharedModels:
    """A worker's end of the folder. `least_bytes`: smaller models are not worth it."""

    def __init__(self, folder: Path, least_bytes: int) -> None:
        self._folder = folder
        self.least_bytes = least_bytes

    def take(self, name: str, prepare: Callable[[Path], None]) -> Held:
        """What is prepared under that name; where nothing is, `prepare` fills an empty folder. One at a time in all workers.

        Where it raises CannotPrepareError, that is kept instead, so that no other worker tries while this is held. Raises
        OSError.
        """
        folder = self._folder / name
        with _alone(self._folder / LOCK):
            self._remove_unused_but(folder)
            lock = -1
            while lock < 0:
                folder.mkdir(mode=0o700, exist_ok=True)
                lock = hold(folder, fcntl.LOCK_SH)
            try:
                if not (folder / READY).exists():
                    _fill(folder, prepare)
                return Held(folder, lock)
            except BaseException:
                os.close(lock)
                raise

    def _remove_unused_but(self, wanted: Path) -> None:
        """What workers used that were killed, and nobody wanted since."""
        for folder in self._folder.iterdir():
            if folder != wanted and folder.is_dir():
                with suppress(OSError):
                    _remove_unused(folder)


def _fill(folder: Path, prepare: Callable[[Path], None]) -> None:
    _empty(folder)  # of one who died over it
    try:
        prepare(folder)
        for file in folder.iterdir():
            file.chmod(0o600)
    except CannotPrepareError as error:
        reason = str(error)  # the error itself holds on to sessions
        _empty(folder)
        _log.warning("%s", reason)
        (folder / REFUSED).write_bytes(reason.encode()[:MAX_REASON_BYTES])
    (folder / READY).touch(0o600)


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One worker at a time."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def hold(folder: Path, how: int) -> int:
    """A descriptor of the folder, locked; -1 where somebody took the folder away meanwhile. Raises OSError."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(lock, how)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), folder.lstat()):
                return lock
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return -1


def _remove_unused(folder: Path) -> None:
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _remove_if_last(folder, lock)
    finally:
        os.close(lock)


def _remove_if_last(folder: Path, lock: int) -> None:
    """Under a lock that only the last one gets; who waits for the folder then finds another one, or none."""
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
