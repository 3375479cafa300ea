"""What a soak does to a server: clients that ask, clients that leave, versions that come and go, records that are written.

Each is a thread of its own until `over` is set, and counts what it did; what went wrong is kept with its reason.
"""

import contextlib
import json
import shutil
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from tests.support import models
from tests.support.server import ServerProcess
from tests.support.shelf import times
from tests.support.wire import Wire

MAX_KEPT = 100_000
IDLE_S = 20.0
"""Who has been silent longer than that may find that the server has hung up: it does after 30 s."""
PREDICT = "/v1/models/m:predict"
RECORD = {
    "model_id": "m",
    "model_version": "1",
    "prediction_timestamp": None,
    "prediction": {"score_categorical": {"category": {"category": "a"}}},
    "features": {"x": {"double": 1.5}},
}


class Traffic:
    """One kind of it. `done`: how often; `wrong`: what should not have happened."""

    def __init__(self, server: ServerProcess, over: threading.Event) -> None:
        self.address = (server.host, server.port)
        self.over = over
        self.done = 0
        self.held_up = 0
        """How often the machine kept it waiting so long that its connection may have ended for that."""
        self.wrong: list[str] = []
        self._thread = threading.Thread(target=self._run, name=type(self).__name__)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive(), self._thread.name

    def round(self) -> None:
        """Once; called again and again."""
        raise NotImplementedError

    def close(self) -> None:
        """At the end."""

    def note(self, what: str) -> None:
        if len(self.wrong) < 100:
            self.wrong.append(what)

    def _run(self) -> None:
        try:
            while not self.over.is_set():
                self.round()
                self.done += 1
        except Exception as error:
            self.note(f"{type(self).__name__}: {error!r}")
        finally:
            self.close()


class Asking(Traffic):
    """A client on a connection of its own: rows in JSON, tensors in JSON and binary, metadata; `pause_s` between them."""

    def __init__(self, server: ServerProcess, over: threading.Event, pause_s: float) -> None:
        super().__init__(server, over)
        self.pause_s = pause_s
        self.times: deque[tuple[float, float]] = deque(maxlen=MAX_KEPT)
        """When, and how long it took."""
        self._wire = Wire(self.address)
        self._asked = time.perf_counter()
        """When it last did: the server is silent since it answered, which may be long before the answer was read."""
        self._calls: list[Callable[[], bytes]] = [self._rows, self._rows, self._tensor, self._binary, self._metadata]

    def round(self) -> None:
        began = time.perf_counter()
        if began - self._asked > IDLE_S:  # the machine has kept us waiting: such connections end
            self._wire.close()
            self._wire = Wire(self.address)
        self._asked = began
        call = self._calls[self.done % len(self._calls)]
        try:
            wanted = call()
            answer = self._wire.answer()
        except OSError:
            if time.perf_counter() - began < IDLE_S - self.pause_s:
                raise
            self.held_up += 1
            self._wire.close()
            self._wire = Wire(self.address)
            return
        self.times.append((began, time.perf_counter() - began))
        if answer.status != 200 or wanted not in answer.body:
            self.note(f"{call.__name__}: {answer.status} {answer.body[:200]!r}")
        if answer.headers.get("connection") == "close":
            self._wire.close()
            self._wire = Wire(self.address)
        self.over.wait(self.pause_s)

    def close(self) -> None:
        self._wire.close()

    def _rows(self) -> bytes:
        self._wire.send(PREDICT, json.dumps({"instances": [[self.done, 0]] * (1 + self.done % 7)}).encode())
        return b"predictions"

    def _tensor(self) -> bytes:
        tensor = {"name": "x", "shape": [1, 2], "datatype": "INT64", "data": [self.done, 7]}
        self._wire.send("/v2/models/m/infer", json.dumps({"id": str(self.done), "inputs": [tensor]}).encode())
        return b"outputs"

    def _binary(self) -> bytes:
        data = struct.pack("<2q", self.done, 7)
        tensor = {"name": "x", "shape": [1, 2], "datatype": "INT64", "parameters": {"binary_data_size": len(data)}}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        self._wire.send("/v2/models/m/infer", head + data, f"Inference-Header-Content-Length: {len(head)}")
        return b"binary_data_size"

    def _metadata(self) -> bytes:
        self._wire.head("GET", "/v2/models/m")
        return b"INT64"


class Leaving(Traffic):
    """Clients that hang up at every stage: within the head, within the body, before the answer, and in between chunks."""

    def round(self) -> None:
        body = json.dumps({"instances": [[self.done, 1]]}).encode()
        whole = f"POST {PREDICT} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        chunked = f'POST {PREDICT} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{{"ins\r\n'.encode()
        sent = [whole[:9], whole[: len(whole) // 2], whole[:-1], whole, chunked, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
        with contextlib.suppress(OSError), Wire(self.address) as wire:
            wire.write(sent[self.done % len(sent)])
        self.over.wait(0.01)


class Swapping(Traffic):
    """A version after the other of the model that is asked, the old one taken away when the new one is there."""

    def __init__(self, server: ServerProcess, over: threading.Event, folder: Path, pause_s: float) -> None:
        super().__init__(server, over)
        self._folder = folder
        self._pause_s = pause_s

    def round(self) -> None:
        version = self.done + 2
        models.save(times(1 + version % 5), self._folder / str(version))
        deadline = time.monotonic() + 60
        while self._serving() != version and not self.over.is_set():
            if time.monotonic() > deadline:
                self.note(f"version {version} was not served within a minute")
                break
            time.sleep(0.05)
        shutil.rmtree(self._folder / str(version - 1), ignore_errors=True)
        self.over.wait(self._pause_s)

    def _serving(self) -> int:
        with Wire(self.address) as wire:
            answer = wire.post(PREDICT, b'{"instances": [[1, 2]]}')
        return int(answer.headers.get("x-model-version", 0))


class Writing(Traffic):
    """Records for the prediction log."""

    def __init__(self, server: ServerProcess, over: threading.Event, pause_s: float) -> None:
        super().__init__(server, over)
        self._pause_s = pause_s
        self._wire = Wire(self.address)
        self._asked = time.perf_counter()

    def round(self) -> None:
        body = json.dumps({**RECORD, "prediction_id": f"p{self.done}"}).encode()
        began = time.perf_counter()
        if began - self._asked > IDLE_S:
            self._wire.close()
            self._wire = Wire(self.address)
        self._asked = began
        try:
            answer = self._wire.post("/v1/log", body, "Content-Type: application/json")
        except OSError:
            if time.perf_counter() - began < IDLE_S - self._pause_s:
                raise
            self.held_up += 1
            self._wire.close()
            self._wire = Wire(self.address)
            return
        if answer.status not in (200, 429, 503):
            self.note(f"log: {answer.status} {answer.body[:200]!r}")
        self.over.wait(self._pause_s)

    def close(self) -> None:
        self._wire.close()
