"""The system's calls that the log writes with, in one place: tests put disks here that are full, fail or lose power.

Thread: any; each call that may take long releases the GIL. All raise OSError.
"""

import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

MOST_AT_ONCE_BYTES = 8 << 20
"""More is written by several calls, without being joined first."""


class Disk:
    """The real one."""

    def create(self, path: Path) -> int:
        """A new file, to write to."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)

    def open(self, path: Path) -> int:
        """A file that is there, to write to."""
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def write(self, fd: int, pieces: Sequence[bytes | memoryview], at: int) -> int:
        """All of `pieces` at that offset; where they end. Where it fails some of them may be there."""
        size = sum(map(len, pieces))
        for data in [b"".join(pieces)] if len(pieces) > 1 and size <= MOST_AT_ONCE_BYTES else pieces:
            view = memoryview(data)
            while view:
                written = os.pwrite(fd, view, at)
                view = view[written:]
                at += written
        return at

    def sync(self, fd: int) -> None:
        """What was written is on disk. Where it fails it may never be, whatever a later call says."""
        os.fdatasync(fd)

    def cut(self, fd: int, size: int) -> None:
        """The file ends there."""
        os.ftruncate(fd, size)

    def close(self, fd: int) -> None:
        """Let it go."""
        os.close(fd)

    def rename(self, old: Path, new: Path) -> None:
        """In one step."""
        os.rename(old, new)

    def remove(self, path: Path) -> None:
        """A file."""
        os.unlink(path)

    def make_folder(self, path: Path) -> None:
        """With those above it that are missing, all of them on disk; it may be there."""
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True, mode=0o750)
        for folder in missing:
            self.sync_folder(folder.parent)

    def remove_folder(self, path: Path) -> None:
        """An empty one."""
        path.rmdir()

    def sync_folder(self, path: Path) -> None:
        """What was made, renamed and removed in it is on disk."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, path: Path) -> int | None:
        """Hold the file, made where it is not there, as long as this process lives; None: another one holds it."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                return None
            raise
        return fd

    def reserve(self, path: Path, size: int, spare: int) -> None:
        """Have a file that takes so much room, whatever it holds; made only where there is `spare` room beside it."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            if os.fstat(fd).st_blocks * 512 >= size:
                return
            room = os.fstatvfs(fd)
            if room.f_blocks and room.f_bavail * room.f_frsize < size + spare:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.posix_fallocate(fd, 0, size)
        finally:
            os.close(fd)

    def room_bytes(self, path: Path) -> int:
        """What is free there."""
        room = os.statvfs(path)
        return room.f_bavail * room.f_frsize


DISK = Disk()
