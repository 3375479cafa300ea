"""Disks that are full, fail or hang, for the prediction log; everything that they let through is real."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from fastserve.store.disk import Disk

CALLS = ("create", "open", "write", "sync", "cut", "rename", "remove", "make_folder", "sync_folder", "lock", "reserve")


class FailingDisk(Disk):
    """`failing`: what each call raises at present, by its name. `torn_bytes`: what a write does before it fails."""

    def __init__(self) -> None:
        self.failing: dict[str, int] = {}
        self.torn_bytes = 0
        self.synced_again = False
        self.calls: list[str] = []
        self._left: set[str] = set()

    def fail(self, number: int, *calls: str) -> None:
        """From now on these calls raise that; all calls, where none is named."""
        self.failing |= dict.fromkeys(calls or CALLS, number)

    def heal(self) -> None:
        """Everything works again."""
        self.failing.clear()

    def create(self, path: Path) -> int:
        self._check("create")
        return super().create(path)

    def open(self, path: Path) -> int:
        self._check("open")
        return super().open(path)

    def write(self, fd: int, pieces: Sequence[bytes], at: int) -> int:
        if "write" in self.failing and self.torn_bytes:
            os.pwrite(fd, b"".join(pieces)[: self.torn_bytes], at)
        self._check("write")
        return super().write(fd, pieces, at)

    def sync(self, fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        self.synced_again |= path in self._left
        if "sync" in self.failing:
            self._left.add(path)
        self._check("sync")
        super().sync(fd)

    def cut(self, fd: int, size: int) -> None:
        self._check("cut")
        super().cut(fd, size)

    def rename(self, old: Path, new: Path) -> None:
        self._check("rename")
        super().rename(old, new)

    def remove(self, path: Path) -> None:
        self._check("remove")
        super().remove(path)

    def make_folder(self, path: Path) -> None:
        self._check("make_folder")
        super().make_folder(path)

    def sync_folder(self, path: Path) -> None:
        self._check("sync_folder")
        super().sync_folder(path)

    def lock(self, path: Path) -> int | None:
        self._check("lock")
        return super().lock(path)

    def reserve(self, path: Path, size: int, spare: int) -> None:
        self._check("reserve")
        super().reserve(path, size, spare)

    def _check(self, call: str) -> None:
        self.calls.append(call)
        number = self.failing.get(call)
        if number is not None:
            raise OSError(number, os.strerror(number))


class SmallDisk(Disk):
    """Its files have so many bytes in all. It says that it had more room: others' files take that at any moment."""

    def __init__(self, size: int) -> None:
        self.left = size
        self._sizes: dict[int, int] = {}
        self._by_path: dict[Path, int] = {}

    def create(self, path: Path) -> int:
        fd = super().create(path)
        self._by_path[path] = os.fstat(fd).st_ino
        return fd

    def write(self, fd: int, pieces: Sequence[bytes | memoryview], at: int) -> int:
        file, end = os.fstat(fd).st_ino, at + sum(map(len, pieces))
        more = max(0, end - self._sizes.get(file, 0))
        if more > self.left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.left -= more
        self._sizes[file] = self._sizes.get(file, 0) + more
        return super().write(fd, pieces, at)

    def cut(self, fd: int, size: int) -> None:
        super().cut(fd, size)
        self._resize(os.fstat(fd).st_ino, size)

    def remove(self, path: Path) -> None:
        super().remove(path)
        self._resize(self._by_path.get(path, -1), 0)

    def _resize(self, file: int, size: int) -> None:
        freed = max(0, self._sizes.get(file, 0) - size)
        self.left += freed
        self._sizes[file] = self._sizes.get(file, 0) - freed

    def reserve(self, path: Path, size: int, spare: int) -> None:
        """No part of it."""


FULL = errno.ENOSPC
BROKEN = errno.EIO
READ_ONLY = errno.EROFS
