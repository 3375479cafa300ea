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


FULL = errno.ENOSPC
BROKEN = errno.EIO
READ_ONLY = errno.EROFS
