"""Clients of HTTP/2 that ask in a closed loop, several streams to a connection, and note what became of each request."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamEnded, StreamReset

from tests.support.server import ServerProcess
from tests.support.waiting import WITHIN_S, until

FRAME_HEAD = 9
PATH = "/v1/models/m:predict"


class Streams:
    """A connection in a thread of its own, until it ends, or `over` is set and all is answered."""

    def __init__(self, server: ServerProcess, streams: int, over: threading.Event) -> None:
        self._socket = socket.create_connection((server.host, server.port), WITHIN_S)
        self._h2 = H2Connection(H2Configuration(client_side=True))
        self._streams = streams
        self._over = over
        self._leaves = False
        self._next = 0
        self._got = b""
        self._status: dict[int, bytes] = {}
        self._body: dict[int, bytes] = {}
        self.sent: dict[int, tuple[float, int]] = {}
        """Those that wait: by stream, when they were sent, and what."""
        self.answered = 0
        self.failed: list[tuple[float, str]] = []
        """When it was sent, what was wrong."""
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        why = "the connection ended"
        try:
            self._h2.initiate_connection()
            for _ in range(self._streams):
                self._ask()
            while self.sent and (frame := self._frame()):
                for event in self._h2.receive_data(frame):
                    self._note(event)
                self._flush()
        except OSError as error:
            why = repr(error)
        self.failed += [(when, why) for when, _ in self.sent.values()]
        self._socket.close()

    def _frame(self) -> bytes:
        """The next frame; empty at the end. One at a time: the library reads nothing behind the one that says goodbye."""
        while len(self._got) < FRAME_HEAD or len(self._got) < FRAME_HEAD + int.from_bytes(self._got[:3], "big"):
            data = self._socket.recv(65536)
            if not data:
                return b""
            self._got += data
        end = FRAME_HEAD + int.from_bytes(self._got[:3], "big")
        frame, self._got = self._got[:end], self._got[end:]
        return frame

    def _flush(self) -> None:
        self._socket.sendall(self._h2.data_to_send())

    def _ask(self) -> None:
        stream, self._next = self._h2.get_next_available_stream_id(), self._next + 1
        self._h2.send_headers(stream, [(":method", "POST"), (":path", PATH), (":scheme", "http"), (":authority", "t")])
        self._h2.send_data(stream, json.dumps({"instances": [[self._next, -self._next]]}).encode(), end_stream=True)
        self._flush()
        # From here on the kernel has all of it: what is asked before another moment, was sent before it.
        self.sent[stream] = time.monotonic(), self._next

    def _note(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            self._status[event.stream_id] = dict(event.headers)[b":status"]
        elif isinstance(event, DataReceived):
            self._body[event.stream_id] = self._body.get(event.stream_id, b"") + event.data
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, ConnectionTerminated):
            self._leaves = True
            # It takes that for the end; streams that are open are answered all the same (RFC 9113, 6.8).
            self._h2.state_machine.state = ConnectionState.CLIENT_OPEN
        elif isinstance(event, StreamEnded | StreamReset):
            self._end(event.stream_id, isinstance(event, StreamReset))

    def _end(self, stream: int, reset: bool) -> None:
        when, number = self.sent.pop(stream)
        status, body = self._status.pop(stream, b""), self._body.pop(stream, b"")
        if reset or status != b"200" or json.loads(body) != {"predictions": [[number, -number]]}:
            self.failed.append((when, f"stream {stream}: reset {reset}, {status!r} {body[:200]!r}"))
        else:
            self.answered += 1
        if not (self._leaves or self._over.is_set()):
            self._ask()


@contextlib.contextmanager
def streaming(server: ServerProcess, connections: int, streams: int) -> Iterator[list[Streams]]:
    """So many connections, under way; at the end they are through."""
    over = threading.Event()
    all_of_them = [Streams(server, streams, over) for _ in range(connections)]
    for one in all_of_them:
        one.thread.start()
    try:
        until(lambda: all(one.answered > 2 * streams for one in all_of_them))
        yield all_of_them
    finally:
        over.set()
        for one in all_of_them:
            one.thread.join(WITHIN_S)
            assert not one.thread.is_alive()
