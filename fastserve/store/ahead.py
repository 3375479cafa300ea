"""The next segment, made before it is needed: its header, and zeros where frames will be, are on disk already.

A sync of a file that grew waits for the file system's journal, too. One of a file whose blocks were written before waits for
their bytes alone, at half the time and half the CPU (ext4). Room that is only set aside (`fallocate`) does not help: what is
first written to it changes the journal as well. A file of its own, since a sync waits for all that its file has to write.
Thread: its own; `ask`, `take` and `drop` are the flusher's.
Memory: `PIECE_BYTES` of zeros, in all. What goes wrong here goes wrong for nobody: then there is no next segment, and the
flusher makes one when it needs it.
"""

import threading
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

from msgspec import Struct

from fastserve.store.disk import Disk

LEAST_BYTES = 256 << 10
"""Less is not worth a file."""

PIECE_BYTES = 1 << 20
"""Written and synced at a time: what is acknowledged meanwhile waits for no more than that."""

SHARE = 16
"""Of the room that is left, what is written ahead takes one part of so many, at most."""

_ZEROS = memoryview(bytes(PIECE_BYTES))


class Made(Struct, eq=False):
    """A segment that nobody has written to. `ready`: up to where it has zeros on disk; `size`: up to where it is to have."""

    path: Path
    header: bytes
    size: int = 0
    fd: int = -1
    ready: int = 0


class Ahead:
    """Makes one segment at a time; where `in_background` is false it is made by whoever asks."""

    def __init__(self, disk: Disk, *, in_background: bool = True) -> None:
        self._disk = disk
        self._lock = threading.Lock()
        self._making: Made | None = None
        self._ready: Made | None = None
        self._asked: SimpleQueue[Made | None] | None = SimpleQueue() if in_background else None
        self._thread: threading.Thread | None = None

    @property
    def is_idle(self) -> bool:
        """No segment is there, and none is being made."""
        return self._making is None and self._ready is None

    @property
    def is_ready(self) -> bool:
        """`take` has one."""
        return self._ready is not None

    def ask(self, path: Path, header: bytes, size: int, *, wait: bool = False) -> None:
        """Make that segment, of `size` bytes or fewer; only while `is_idle`. `wait`: it is made, or cannot be, on return."""
        made = self._making = Made(path, header, size)
        if wait or self._asked is None:
            self._make(made)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, args=(self._asked,), name="log-ahead", daemon=True)
            self._thread.start()
        self._asked.put(made)

    def take(self) -> Made | None:
        """The segment, if it is ready: it is the caller's now."""
        made, self._ready = self._ready, None
        return made

    def drop(self) -> bool:
        """Give up its room; whether there was any to give up."""
        with self._lock:
            made = self._making or self._ready
            self._making = self._ready = None
            if made is None or made.fd < 0:
                return False
            self._discard(made)
            return True

    def close(self) -> None:
        """No more of it."""
        self.drop()
        if self._thread is not None and self._asked is not None:
            self._asked.put(None)
            self._thread = None

    def _serve(self, asked: "SimpleQueue[Made | None]") -> None:
        while (wanted := asked.get()) is not None:
            self._make(wanted)

    def _make(self, made: Made) -> None:
        try:
            while self._go_on(made):
                pass
        except OSError:
            with self._lock:
                if self._making is made:
                    self._making = None
                    self._discard(made)

    def _go_on(self, made: Made) -> bool:
        """A piece more, with the lock held for no longer than that; whether there is more to do. Raises OSError."""
        with self._lock:
            if self._making is not made:  # it was dropped
                return False
            if made.fd < 0:
                self._begin(made)
            else:
                made.ready = self._disk.write(made.fd, [_ZEROS[: made.size - made.ready]], made.ready)
                self._disk.sync(made.fd)
            if made.ready < made.size:
                return True
            if made.fd >= 0:
                self._disk.sync_folder(made.path.parent)
                self._ready = made
            self._making = None
            return False

    def _begin(self, made: Made) -> None:
        """Its header, on disk before anything else of it is; nothing where there is little room. Raises OSError."""
        share = self._disk.room_bytes(made.path.parent) // SHARE
        made.size = min(made.size, share) if share >= LEAST_BYTES else 0
        if not made.size:
            return
        made.fd = self._disk.create(made.path)
        made.ready = self._disk.write(made.fd, [made.header], 0)
        self._disk.sync(made.fd)

    def _discard(self, made: Made) -> None:
        if made.fd >= 0:
            with suppress(OSError):
                self._disk.remove(made.path)
            with suppress(OSError):
                self._disk.close(made.fd)
            made.fd = -1
