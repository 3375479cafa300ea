"""The least that serves a model: one thread that reads sockets, and a thread a core that runs batches and answers.

`python -m bench.load.least MODELS PORT`. No routes, nothing is checked, one input, one output, one row a request; TF
Serving's JSON, and the Open Inference Protocol in binary. What is between this and onnxruntime alone is what sockets,
wake-ups and cold caches cost on a machine, whoever serves.
"""

import os
import selectors
import socket
import sys
import threading
from collections import deque
from pathlib import Path

import numpy as np
import orjson

from bench.load.raw_ort import session

KINDS = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
READ_BYTES = 1 << 20
MOST_ROWS = 8
"""Of a batch: where onnxruntime alone is as fast a row as it gets, with as many left for the other thread."""

LENGTH = b"\r\ncontent-length:"
BINARY = b"\r\ninference-header-content-length:"


class Client:
    """One connection, and what has come of its request."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._held = bytearray()
        self._body_at = 0
        self.head = b""
        self.json_bytes = 0
        """Of a binary request's body."""

    def read(self) -> bytes | None:
        """The body of a whole request; None while there is none. Raises ConnectionError at the end."""
        part = self._connection.recv(READ_BYTES)
        if not part:
            raise ConnectionError
        self._held += part
        if not self._body_at:
            end = self._held.find(b"\r\n\r\n")
            if end < 0:
                return None
            self._body_at, self.head = end + 4, bytes(self._held[:end]).lower()
            self.json_bytes = self._said(BINARY)
        if len(self._held) - self._body_at < self._said(LENGTH):
            return None
        body = bytes(memoryview(self._held)[self._body_at :])
        self._held, self._body_at = bytearray(), 0
        return body

    def answer(self, *parts: bytes, more: bytes = b"") -> None:
        """Send it. Any thread."""
        body = b"".join(parts)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n" % (more, len(body))
        try:
            self._connection.sendall(head + body)
        except OSError:  # it went away
            return

    def _said(self, name: bytes) -> int:
        at = self.head.find(name)
        return 0 if at < 0 else int(self.head[at + len(name) :].split(b"\r\n", 1)[0])


Request = tuple[Client, bytes]


class Models:
    """The files of a folder, and what waits for each thread."""

    def __init__(self, folder: Path) -> None:
        self._files = {file.parents[1].name.encode(): file for file in folder.glob("*/1/model.onnx")}
        self._waiting: dict[bytes, deque[Request]] = {name: deque() for name in self._files}
        self._changed = threading.Condition()
        self._idle = 0
        for _ in range(len(os.sched_getaffinity(0))):
            threading.Thread(target=self._serve, daemon=True).start()

    def put(self, name: bytes, request: Request) -> None:
        """It waits for a thread."""
        with self._changed:
            self._waiting[name].append(request)
            self._changed.notify()

    def _take(self) -> tuple[bytes, list[Request]]:
        with self._changed:
            self._idle += 1
            while (name := next((name for name, waits in self._waiting.items() if waits), None)) is None:
                self._changed.wait()
            waits = self._waiting[name]
            rows = min(MOST_ROWS, -(-len(waits) // self._idle))
            self._idle -= 1
            return name, [waits.popleft() for _ in range(rows)]

    def _serve(self) -> None:
        sessions = {name: session(file, 1) for name, file in self._files.items()}
        while True:
            name, requests = self._take()
            spec = sessions[name].get_inputs()[0]
            rows = [_row(client, body, KINDS[spec.type]) for client, body in requests]
            (answers,) = sessions[name].run(None, {spec.name: np.concatenate(rows)})
            for (client, _), answer in zip(requests, answers, strict=True):
                _answer(client, answer[None])


def _row(client: Client, body: bytes, kind: type) -> np.ndarray:
    if not client.json_bytes:
        return np.array(orjson.loads(body)["instances"], dtype=kind)
    shape = orjson.loads(body[: client.json_bytes])["inputs"][0]["shape"]
    return np.frombuffer(body, kind, offset=client.json_bytes).reshape(shape)


def _answer(client: Client, row: np.ndarray) -> None:
    if not client.json_bytes:
        client.answer(b'{"predictions": ', orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY), b"}")
        return
    told = {"name": "y", "datatype": "FP32", "shape": row.shape, "parameters": {"binary_data_size": row.nbytes}}
    head = orjson.dumps({"outputs": [told]})
    client.answer(head, row.tobytes(), more=b"inference-header-content-length: %d\r\n" % len(head))


def main(models: str, port: str) -> None:
    """Serve until SIGTERM."""
    of = Models(Path(models))
    listener = socket.create_server(("127.0.0.1", int(port)), backlog=1024)
    ready = selectors.DefaultSelector()
    ready.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if key.data is None:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ready.register(connection, selectors.EVENT_READ, Client(connection))
                continue
            try:
                body = key.data.read()
            except OSError:
                ready.unregister(key.fileobj)
                continue
            if body is not None:
                _dispatch(of, key.data, body)


def _dispatch(of: Models, client: Client, body: bytes) -> None:
    if client.head.startswith(b"get"):  # whoever waits until it is ready
        client.answer(b"ready")
    else:
        of.put(client.head.split(b"/models/")[1].replace(b":", b"/").split(b"/")[0], (client, body))


if __name__ == "__main__":
    main(*sys.argv[1:])
