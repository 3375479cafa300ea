"""What dead workers left: their open segments are cut behind the last whole append and sealed; empty folders go.

Whoever holds a worker's lock while it does that is the only one to do it; a living worker holds its own.
Thread: any.
"""

import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from fastserve.store.disk import DISK, Disk
from fastserve.store.errors import SegmentUnreadable
from fastserve.store.folder import LOCK, SEALED, Segment, hidden_workers, segments_in, workers
from fastserve.store.frames import HEADER_BYTES, MAGIC, Scan, read_header

DAMAGED = ".damaged"
ABANDONED_S = 60.0
"""A folder that has no name yet after so long belongs to nobody."""

_log = logging.getLogger(__name__)


def adopt(directory: Path, disk: Disk = DISK) -> int:
    """Seal what orphans left open; how many segments that were. What cannot be done now is left for the next time."""
    adopted = 0
    for folder in workers(directory):
        try:
            lock = disk.lock(folder / LOCK)
        except OSError:  # it just went, or the disk takes nothing
            continue
        if lock is None:
            continue
        try:
            adopted += _adopt(folder, disk)
        except FileNotFoundError:  # another one that adopts had the lock before, and has removed what was empty
            continue
        except OSError as error:
            _log.error("%s cannot be recovered now: %s", folder, error.strerror)
        finally:
            disk.close(lock)
    for folder in hidden_workers(directory):
        _remove_abandoned(folder, disk)
    return adopted


def _adopt(folder: Path, disk: Disk) -> int:
    """The lock is held. Raises OSError."""
    there = segments_in(folder)
    left_open = [segment for segment in there if not segment.sealed]
    for segment in left_open:
        _seal(segment, disk)
    if left_open:
        disk.sync_folder(folder)
    elif not there and os.listdir(folder) == [LOCK]:
        disk.remove(folder / LOCK)
        with suppress(OSError):  # another one that adopts makes the lock again where it was, and then removes both
            disk.remove_folder(folder)
    return len(left_open)


def _seal(segment: Segment, disk: Disk) -> None:
    path = segment.path
    data = path.read_bytes()
    try:
        scan = Scan(read_header(data), data)
    except SegmentUnreadable as error:
        _set_aside(path, data, str(error), disk)
        return
    count = sum(1 for _ in scan)
    if scan.damage:
        lost = sum(one.length for one in scan.damage)
        _log.error("%s: %d bytes in %d places are damaged, and their records lost", path, lost, len(scan.damage))
    if not count:
        disk.remove(path)
        return
    fd = disk.open(path)
    try:
        if scan.end < len(data):
            torn = len(data.rstrip(b"\0")) - scan.end
            if torn > 0:
                _log.warning("%s: %d bytes were being written when its worker ended; cut off", path, torn)
            disk.cut(fd, scan.end)
        disk.sync(fd)
    finally:
        disk.close(fd)
    disk.rename(path, path.with_suffix(SEALED))


def _set_aside(path: Path, data: bytes, reason: str, disk: Disk) -> None:
    """No frame of it can be told from chance without its header."""
    if data[:8] == MAGIC and len(data) >= HEADER_BYTES and reason.startswith("a segment of version"):
        _log.error("%s: %s; it is left as it is", path, reason)
    elif len(data) <= HEADER_BYTES or not data.strip(b"\0"):
        disk.remove(path)  # its first write never ended
    else:
        _log.error("%s: %s; it is kept as %s", path, reason, DAMAGED)
        disk.rename(path, path.with_suffix(DAMAGED))


def _remove_abandoned(folder: Path, disk: Disk) -> None:
    try:
        if time.time() - folder.stat().st_mtime > ABANDONED_S:
            if (folder / LOCK).exists():
                disk.remove(folder / LOCK)
            disk.remove_folder(folder)
    except OSError:  # somebody else was faster, or the disk takes nothing
        return
