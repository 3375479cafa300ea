"""Clients that leave at every stage of a request, over HTTP/1 and HTTP/2, and neighbours that stay and must be answered.

Each stage is brought about, not guessed: where the server's side of it matters, its own counters say that it is there.

Thread: any; one visit at a time to a server that nobody else asks. Memory: none that is kept.
"""

import contextlib
import itertools
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset, WindowUpdated
from onnx import TensorProto as T

from tests.support import models, slow_models
from tests.support.graphs import build, node, tensor, weight
from tests.support.served import counted
from tests.support.server import ServerProcess
from tests.support.waiting import WITHIN_S, until
from tests.support.wire import Wire

CONFIG = """
[repository]
path = "models"

[[models]]
name = "patient"
slots = 1
max_batch_rows = 32
"""
PATIENT, SAME, WIDE = "/v1/models/patient:predict", "/v1/models/same:predict", "/v2/models/wide/infer"
GOOD = b'{"instances": [[1, 2]]}'
WIDTH = 1_000_000
"""Numbers in a row of the wide model's answer: far more than what a socket takes."""
LARGE = json.dumps(
    {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}],
        "parameters": {"binary_data_output": True},
    }
).encode()
HOLD_STEPS = 100_000
"""Seconds of the slow model, unless its run is ended."""
BATCH_STEPS = 400
QUEUED, TOGETHER = 100, 20
RESET_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: hang up with RST."""


def make_folder(folder: Path) -> Path:
    """Models that are quick, slow and wide; what serves them."""
    models.save(slow_models.patient(), folder / "models" / "patient" / "1")
    models.save(models.identity(T.INT64), folder / "models" / "same" / "1")
    wide = build(
        [node("Expand", "x shape", "y")],
        [tensor("x", ["N", 1])],
        [tensor("y", ["N", WIDTH])],
        [weight("shape", np.array([1, WIDTH]))],
    )
    models.save(wide, folder / "models" / "wide" / "1")
    file = folder / "fastserve.toml"
    file.write_text(CONFIG)
    return file


class Client(Protocol):
    """Somebody with one request under way."""

    def answer(self) -> tuple[int, bytes]:
        """Status and body."""

    def leave(self) -> None:
        """Hang up, or take the request back."""


class OnItsOwn:
    """A request over HTTP/1, on a connection of its own; every second one leaves with RST."""

    turns = itertools.count()

    def __init__(self, server: ServerProcess, path: str, body: bytes) -> None:
        self._wire = Wire((server.host, server.port))
        self._wire.send(path, body)

    def answer(self) -> tuple[int, bytes]:
        answer = self._wire.answer()
        self._wire.close()
        return answer.status, answer.body

    def leave(self) -> None:
        if next(self.turns) % 2:
            self._wire._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_ONCE)
        self._wire.close()


class Shared:
    """A connection of HTTP/2, whose streams are the clients."""

    def __init__(self, server: ServerProcess) -> None:
        self._socket = socket.create_connection((server.host, server.port), WITHIN_S)
        self._h2 = H2Connection(H2Configuration(client_side=True))
        self._h2.initiate_connection()
        self._events: dict[int, list[Event]] = {}
        self._flush()

    def ask(self, path: str, body: bytes | None, *, ends: bool = True) -> "Stream":
        """A stream with that request; without its body where there is none."""
        number = self._h2.get_next_available_stream_id()
        fields = [(":method", "POST"), (":path", path), (":scheme", "http"), (":authority", "t")]
        self._h2.send_headers(number, fields)
        if body is not None:
            self._h2.send_data(number, body, end_stream=ends)
        self._flush()
        return Stream(self, number)

    def reset(self, number: int) -> None:
        """Take that stream back."""
        self._h2.reset_stream(number, ErrorCodes.CANCEL)
        self._flush()
        self._events.pop(number, None)

    def events(self, number: int) -> list[Event]:
        """What has come for that stream; waits for more."""
        before = len(self._events.setdefault(number, []))
        while len(self._events[number]) == before:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("the connection ended")
            for event in self._h2.receive_data(data):
                if isinstance(
                    event, DataReceived
                ):  # of the connection's; a stream that nobody reads on stays where it is
                    self._h2.increment_flow_control_window(event.flow_controlled_length)
                if not isinstance(event, WindowUpdated):
                    self._events.setdefault(getattr(event, "stream_id", 0) or 0, []).append(event)
            self._flush()
        return self._events[number]

    def close(self) -> None:
        self._socket.close()

    def _flush(self) -> None:
        self._socket.sendall(self._h2.data_to_send())


class Stream:
    """One of them. Leaving is RST_STREAM."""

    def __init__(self, connection: Shared, number: int) -> None:
        self._connection = connection
        self._number = number

    def begins(self) -> None:
        """The first of its answer's data has come."""
        while not any(isinstance(one, DataReceived) for one in self._connection.events(self._number)):
            pass

    def answer(self) -> tuple[int, bytes]:
        while True:
            events = self._connection.events(self._number)
            if any(isinstance(one, StreamReset) for one in events):
                return 0, b""
            if any(isinstance(one, StreamEnded) for one in events):
                break
        (head,) = [one for one in events if isinstance(one, ResponseReceived)]
        body = b"".join(one.data for one in events if isinstance(one, DataReceived))
        return int(dict(head.headers)[b":status"]), body

    def leave(self) -> None:
        self._connection.reset(self._number)


class Visits:
    """Rounds of departures. `gone`: how many; `freed_ms`: in which time what had waited was out of the queue."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.gone = 0
        self.freed_ms: list[float] = []
        self._watch = Wire((server.host, server.port))
        self._names = itertools.count(1)

    def round(self) -> None:
        """Every stage over both protocols."""
        self.before_the_answer()
        self.in_the_answer()
        self.queued_and_running(lambda path, body: OnItsOwn(self.server, path, body))
        with contextlib.closing(Shared(self.server)) as shared:
            self.streams(shared)
            self.queued_and_running(shared.ask)
            self.neighbour(shared.ask)

    def before_the_answer(self) -> None:
        """Nothing said, in the headers, in the body of either size, between chunks, and with all of it said."""
        head = f"POST {SAME} HTTP/1.1\r\nHost: t\r\n".encode()
        whole = head + b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD
        large = head + b"Content-Length: 500000\r\n\r\n" + bytes(70_000)
        chunked = head + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"ins\r\n'
        for sent in (b"", whole[:9], whole[: len(head)], whole[:-1], large, chunked, whole, whole + whole[:-1]):
            with contextlib.closing(socket.create_connection((self.server.host, self.server.port), WITHIN_S)) as one:
                if next(OnItsOwn.turns) % 2:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_ONCE)
                one.sendall(sent)
            self.gone += 1
        self.neighbour(lambda path, body: OnItsOwn(self.server, path, body))

    def in_the_answer(self) -> None:
        """The first byte of it was read, the rest does not fit into what lies between."""
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.settimeout(WITHIN_S)
            one.connect((self.server.host, self.server.port))
            one.sendall(
                b"POST %s HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % (WIDE.encode(), len(LARGE)) + LARGE
            )
            assert one.recv(12) == b"HTTP/1.1 200"
        self.gone += 1

    def streams(self, shared: Shared) -> None:
        """Streams without a body, with half of it, with all of it, and in the middle of their answers."""
        stages = ((None, False), (GOOD[:5], False), (GOOD, True))
        for body, ends in stages:
            shared.ask(SAME, body, ends=ends).leave()
            self.gone += 1
            self.neighbour(shared.ask)  # which also has the server read what was reset
        large = shared.ask(WIDE, LARGE)
        large.begins()
        large.leave()
        self.gone += 1

    def queued_and_running(self, ask: Callable[[str, bytes], Client]) -> None:
        """Out of the queue, out of a batch that others are in, and whoever was alone in one."""
        holder = self._hold(ask)
        number = next(self._names)
        queued = [ask(PATIENT, _steps(BATCH_STEPS)) for _ in range(QUEUED)]
        stays = ask(PATIENT, _steps(number % BATCH_STEPS))
        self._until_queued(QUEUED + 1)
        began = time.monotonic()
        for one in queued:
            one.leave()
        self._until_queued(1)
        self.freed_ms.append((time.monotonic() - began) * 1000)
        together = [ask(PATIENT, _steps(BATCH_STEPS)) for _ in range(TOGETHER)]
        self._until_queued(TOGETHER + 1)
        holder.leave()  # nobody waits for its run any more: it is ended, and the batch behind it begins
        self._until_queued(0)
        for one in together:
            one.leave()
        status, body = stays.answer()
        assert (status, json.loads(body)) == (200, {"predictions": [number % BATCH_STEPS]})
        self.gone += QUEUED + TOGETHER + 1

    def neighbour(self, ask: Callable[[str, bytes], Client]) -> None:
        """Somebody who stays, with numbers that nobody else has."""
        number = next(self._names)
        status, body = ask(SAME, json.dumps({"instances": [[number, -number]]}).encode()).answer()
        assert (status, json.loads(body)) == (200, {"predictions": [[number, -number]]})

    def _hold(self, ask: Callable[[str, bytes], Client]) -> Client:
        """Whose run has the model's only slot."""
        taken = self._decoded()
        holder = ask(PATIENT, _steps(HOLD_STEPS))
        until(lambda: self._decoded() > taken)
        self._until_queued(0)
        return holder

    def _decoded(self) -> float:
        return self._counted("fastserve_stage_seconds_count{", 'model="patient"', 'stage="decode"')

    def _counted(self, *parts: str) -> float:
        try:
            return counted(self._watch, *parts)
        except OSError:  # the machine has kept us waiting for longer than a connection may be silent
            self._watch.close()
            self._watch = Wire((self.server.host, self.server.port))
            return counted(self._watch, *parts)

    def _until_queued(self, rows: int) -> None:
        deadline = time.monotonic() + WITHIN_S
        while (found := self._counted('fastserve_queue_rows{model="patient"}')) != rows:
            assert time.monotonic() < deadline, f"{found} rows wait, not {rows}"

    def close(self) -> None:
        self._watch.close()


def _steps(steps: int) -> bytes:
    return json.dumps({"instances": [steps]}).encode()


@contextlib.contextmanager
def visits(server: ServerProcess) -> Iterator[Visits]:
    """Until they are over."""
    with contextlib.closing(Visits(server)) as made:
        yield made
