"""The least that serves a model: one thread that reads sockets, and a thread a core that runs batches and answers.

`python -m bench.load.least MODELS PORT`. No routes, nothing is checked, one input, one row a request: what is between this
and onnxruntime alone is what sockets, wake-ups and cold caches cost on a machine, whoever serves.
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

Request = tuple[socket.socket, bytes]


class Models:
    """The files of a folder, and what waits for each thread."""

    def __init__(self, folder: Path) -> None:
        self._files = {file.parents[1].name: file for file in folder.glob("*/1/model.onnx")}
        self._waiting: dict[str, deque[Request]] = {name: deque() for name in self._files}
        self._changed = threading.Condition()
        self._idle = 0
        for _ in range(len(os.sched_getaffinity(0))):
            threading.Thread(target=self._serve, daemon=True).start()

    def put(self, name: str, request: Request) -> None:
        """It waits for a thread."""
        with self._changed:
            self._waiting[name].append(request)
            self._changed.notify()

    def _take(self) -> tuple[str, list[Request]]:
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
            rows = [orjson.loads(body)["instances"][0] for _, body in requests]
            (answers,) = sessions[name].run(None, {spec.name: np.array(rows, dtype=KINDS[spec.type])})
            for (client, _), answer in zip(requests, answers, strict=True):
                _answer(client, b'{"predictions": [%b]}' % orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY))


def _answer(client: socket.socket, body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    try:
        client.sendall(head + body)
    except OSError:  # it went away
        return


def main(models: str, port: str) -> None:
    """Serve until SIGTERM."""
    of = Models(Path(models))
    ready = selectors.DefaultSelector()
    ready.register(socket.create_server(("127.0.0.1", int(port)), backlog=1024), selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            at = key.fileobj
            assert isinstance(at, socket.socket)
            if key.data is None:
                _accept(ready, at)
            elif (content := _read(ready, at, key.data)) is not None:
                _dispatch(of, at, content)


def _accept(ready: selectors.BaseSelector, listener: socket.socket) -> None:
    client, _ = listener.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ready.register(client, selectors.EVENT_READ, bytearray())


def _read(ready: selectors.BaseSelector, client: socket.socket, held: bytearray) -> bytes | None:
    """A whole request; None while there is none."""
    try:
        part = client.recv(READ_BYTES)
    except OSError:
        part = b""
    if not part:
        ready.unregister(client)
        client.close()
        return None
    held += part
    head, end, body = bytes(held).partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    if not end or len(body) < length:
        return None
    content = bytes(held)
    held.clear()
    return content


def _dispatch(of: Models, client: socket.socket, content: bytes) -> None:
    head, _, body = content.partition(b"\r\n\r\n")
    if head.startswith(b"GET"):  # whoever waits until it is ready
        _answer(client, b"ready")
    else:
        of.put(head.split(b"/models/")[1].split(b":")[0].decode(), (client, body))


if __name__ == "__main__":
    main(*sys.argv[1:])
