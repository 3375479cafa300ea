"""Messages between the parent and its workers: framed bytes over a pair of connected sockets that nobody else has.

Thread: one `LinkThread` on each side reads, writes and keeps time; `call` may be used on any thread and in signal handlers.
Memory: a frame is held until it is sent; a peer that reads nothing for `MAX_UNSENT_BYTES` loses its link.
"""

import logging
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue

MAX_FRAME_BYTES = 1 << 30
MAX_UNSENT_BYTES = 64 << 20
READ_BYTES = 1 << 18
TICK_S = 0.25
"""How often what depends on time is looked at."""

_LENGTH = struct.Struct("<I")
_log = logging.getLogger(__name__)


class LinkThread:
    """Serves links, does what other threads ask for, and calls `tick` every `TICK_S`."""

    def __init__(self, name: str, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._selector = selectors.DefaultSelector()
        self._awake, self._waker = socket.socketpair()
        self._awake.setblocking(False)
        self._waker.setblocking(False)
        self._selector.register(self._awake, selectors.EVENT_READ, None)
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; returns when it has ended, and what was to be done is done."""
        self._stopped = True
        self.call(lambda: None)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
        self._do_jobs()
        self._selector.close()
        self._awake.close()
        self._waker.close()

    def call(self, job: Callable[[], None]) -> None:
        """Do `job` on the thread, soon."""
        self._jobs.put(job)
        with suppress(OSError):  # full: it is awake already
            self._waker.send(b"\0")

    def watch(self, link: "Link", events: int) -> None:
        """Tell `link` when it can be read or written."""
        if link.connection in self._selector.get_map():
            self._selector.modify(link.connection, events, link)
        else:
            self._selector.register(link.connection, events, link)

    def unwatch(self, link: "Link") -> None:
        """Tell it nothing more."""
        watched = self._selector.get_map()  # None once the thread has ended
        if watched is not None and link.connection in watched:
            self._selector.unregister(link.connection)

    def _serve(self) -> None:
        due = time.monotonic() + TICK_S
        while not self._stopped:
            for key, events in self._selector.select(max(0.0, due - time.monotonic())):
                if key.data is not None:
                    self._guarded(partial(key.data.ready, events))
            with suppress(OSError):
                self._awake.recv(4096)
            self._do_jobs()
            if time.monotonic() >= due:
                self._guarded(self._tick)
                due = time.monotonic() + TICK_S

    def _do_jobs(self) -> None:
        with suppress(Empty):
            while True:
                self._guarded(self._jobs.get_nowait())

    @staticmethod
    def _guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except Exception:  # the thread's edge: one bad message must not cut off all workers
            _log.exception("a message between workers could not be dealt with")


class Link:
    """One end. Everything here happens on the link's thread."""

    def __init__(
        self,
        thread: LinkThread,
        connection: socket.socket,
        received: Callable[[bytes], None],
        closed: Callable[[], None],
    ) -> None:
        self.connection = connection
        self._thread = thread
        self._received = received
        self._closed = closed
        self._incoming = bytearray()
        self._unsent = bytearray()
        self._open = True
        self.has_spoken = False
        self.heard_s = time.monotonic()
        """When the other side last said anything; before it has, when it could have begun to."""
        connection.setblocking(False)
        thread.watch(self, selectors.EVENT_READ)

    def silent_for_s(self) -> float:
        """How long the other side has said nothing."""
        return time.monotonic() - self.heard_s

    def send(self, frame: bytes) -> None:
        """Send `frame`, as soon as there is room."""
        if not self._open:
            return
        self._unsent += _LENGTH.pack(len(frame)) + frame
        self._flush()
        if len(self._unsent) > MAX_UNSENT_BYTES:
            self.close()

    def close(self) -> None:
        """End it; `closed` is called, once."""
        if self._open:
            self._open = False
            self._thread.unwatch(self)
            self.connection.close()
            self._closed()

    def ready(self, events: int) -> None:
        """The connection can be read or written."""
        if events & selectors.EVENT_WRITE:
            self._flush()
        if self._open and events & selectors.EVENT_READ:
            self._read()

    def _flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self.connection.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:  # the other side is gone
            self.close()
            return
        self._thread.watch(self, selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0))

    def _read(self) -> None:
        try:
            data = self.connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self.has_spoken = True
        self.heard_s = time.monotonic()
        self._incoming += data
        while self._open and (frame := self._next_frame()) is not None:
            self._received(frame)

    def _next_frame(self) -> bytes | None:
        if len(self._incoming) < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(self._incoming)
        if size > MAX_FRAME_BYTES:
            self.close()
            return None
        end = _LENGTH.size + size
        if len(self._incoming) < end:
            return None
        frame = bytes(self._incoming[_LENGTH.size : end])
        del self._incoming[:end]
        return frame
