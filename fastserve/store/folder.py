"""Where the log's files are, and whose: `<directory>/<worker>/<number>.open` while its worker writes it, `.seg` afterwards.

A worker is 32 hexadecimal digits that no other ever has; it holds `lock` in its folder as long as it lives. What is in a
folder that nobody holds is an orphan's, see `recovery`.
Thread: any.
"""

import errno
import os
import re
import uuid
from io import FileIO
from pathlib import Path

from msgspec import Struct

from fastserve.errors import ConfigError
from fastserve.store.disk import DISK, Disk
from fastserve.store.errors import NO_ROOM
from fastserve.store.frames import FRAME_BYTES, HEADER_BYTES, VERSION, Header, Scan, holds_all, read_header

OPEN, SEALED = ".open", ".seg"
LOCK, SLOTS, RESERVE = "lock", "slots", "reserve"
MAX_SLOTS = 1024

READ_BYTES = 64 << 10
"""Of a file that is being written, at first."""

UNWRITTEN = Header(VERSION, "", 0, 0, 0)
"""Of a file that was made just now."""

_WORKER = re.compile("[0-9a-f]{32}")
_SEGMENT = re.compile(r"(\d{8,19})(\.open|\.seg)")


class Segment(Struct, frozen=True, order=True):
    """One file. `sealed`: nobody will write to it any more."""

    worker: str
    number: int
    sealed: bool
    path: Path

    @property
    def name(self) -> tuple[str, int]:
        """What it is known by, open or sealed."""
        return self.worker, self.number


class Place:
    """A live worker's folder. `slot`: a number below MAX_SLOTS that no other live worker has."""

    def __init__(self, directory: Path, disk: Disk = DISK) -> None:
        """Raises OSError."""
        self.worker = uuid.uuid4().hex
        self.path = directory / self.worker
        self._disk = disk
        self._locks: list[int] = []
        disk.make_folder(directory / SLOTS)
        try:
            self.slot = self._own_slot(directory / SLOTS)
            self._make(directory)
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """Whoever comes next may have what is left of it."""
        for fd in self._locks:
            self._disk.close(fd)
        self._locks = []

    def segment(self, number: int, *, sealed: bool) -> Path:
        """Where that segment is."""
        return self.path / f"{number:08}{SEALED if sealed else OPEN}"

    def _own_slot(self, slots: Path) -> int:
        for slot in range(MAX_SLOTS):
            fd = self._disk.lock(slots / str(slot))
            if fd is not None:
                self._locks.append(fd)
                return slot
        raise OSError(f"more than {MAX_SLOTS} workers write to it")

    def _make(self, directory: Path) -> None:
        """Under another name until it is held, so that it is never taken for an orphan's."""
        hidden = directory / f".{self.worker}"
        self._disk.make_folder(hidden)
        fd = self._disk.lock(hidden / LOCK)
        assert fd is not None, "nobody knows its name"
        self._locks.append(fd)
        self._disk.rename(hidden, self.path)
        self._disk.sync_folder(directory)


def check(directory: Path) -> None:
    """Make the log's folder. Raises ConfigError where it can never be written; a disk that is full may have room later."""
    try:
        DISK.make_folder(directory)
        reason = "" if os.access(directory, os.W_OK | os.X_OK) else os.strerror(errno.EACCES)
    except OSError as error:
        reason = "" if error.errno in NO_ROOM else error.strerror or str(error)
    if reason:
        raise ConfigError(f"the prediction log cannot be written to {directory}: {reason} ([log] directory, --log-dir)")


def workers(directory: Path) -> list[Path]:
    """The folders of all workers, living or not."""
    try:
        return sorted(path for path in directory.iterdir() if _WORKER.fullmatch(path.name))
    except FileNotFoundError:
        return []


def hidden_workers(directory: Path) -> list[Path]:
    """Folders that were made and have no name yet."""
    try:
        return [path for path in directory.iterdir() if path.name[:1] == "." and _WORKER.fullmatch(path.name[1:])]
    except FileNotFoundError:
        return []


def listed(directory: Path) -> list[Segment]:
    """Every segment of every worker, in each worker's order. One may be sealed, or compacted and gone, a moment later."""
    return [segment for folder in workers(directory) for segment in segments_in(folder)]


def segments_in(folder: Path) -> list[Segment]:
    """One worker's segments, in order. One that was sealed between two looks at its folder is there once."""
    found: dict[int, Segment] = {}
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    for name in names:
        match = _SEGMENT.fullmatch(name)
        if match is not None:
            sealed, number = match[2] == SEALED, int(match[1])
            if sealed or number not in found:
                found[number] = Segment(folder.name, number, sealed, folder / name)
    return [found[number] for number in sorted(found)]


def scan(segment: Segment, start: int = 0) -> Scan:
    """The frames of a segment from `start` on, 0 or an earlier scan's `end`; what is being written is left for the next one.

    Raises FileNotFoundError where it was compacted meanwhile, SegmentUnreadable where it is none.
    """
    try:
        return _scan(segment.path, start, sealed=segment.sealed)
    except FileNotFoundError:
        if segment.sealed:
            raise
        return _scan(segment.path.with_suffix(SEALED), start, sealed=True)


def _scan(path: Path, start: int, *, sealed: bool) -> Scan:
    with open(path, "rb", buffering=0) as file:
        head = file.read(HEADER_BYTES)
        if len(head) < HEADER_BYTES and not sealed:
            return Scan(UNWRITTEN, b"", final=False)
        header = read_header(head)
        file.seek(start)
        return Scan(header, file.readall() if sealed else _written(file, header, start), start, final=sealed)


def _written(file: FileIO, header: Header, start: int) -> bytes:
    """What stands before the zeros that its writer put there ahead, of which there may be many."""
    data, size = b"", READ_BYTES
    while len(read := file.read(size)) == size:
        data += read
        size = len(data)
        if not any(data[-FRAME_BYTES:]) and holds_all(header, data, start):
            return data
    return data + read
