"""HTTP servers that do as a test says, right or wrong; in threads, on a port of their own."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

Serve = Callable[[socket.socket, "OddServer"], None]
"""Serves one connection; what it raises ends the connection."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class OddServer:
    """A context manager: inside, `serve` is called with each connection. Counts connections and requests."""

    def __init__(self, serve: Serve, tls: ssl.SSLContext | None = None, uds: Path | None = None) -> None:
        self._serve = serve
        self._tls = tls
        self._listener = socket.socket(socket.AF_UNIX if uds else socket.AF_INET)
        self._listener.bind(str(uds) if uds else ("127.0.0.1", 0))
        self._listener.listen(128)
        self.port = 0 if uds else self._listener.getsockname()[1]
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self.connections = 0
        self.requests: list[bytes] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()
        self._listener.close()

    def request(self, connection: socket.socket) -> bytes:
        """The next request, head and body. Raises ConnectionError where the connection ends instead."""
        got = b""
        while b"\r\n\r\n" not in got:
            got += self._more(connection)
        head, _, body = got.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        while len(body) < length:
            body += self._more(connection)
        with self._lock:
            self.requests.append(head + b"\r\n\r\n" + body)
        return self.requests[-1]

    def _more(self, connection: socket.socket) -> bytes:
        got = connection.recv(65536)
        if not got:
            raise ConnectionError
        return got

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._start(self._one, connection)

    def _one(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            served = connection if self._tls is None else self._tls.wrap_socket(connection, server_side=True)
            with served:
                self._until_over(served)

    def _until_over(self, served: socket.socket) -> None:
        with self._lock:
            self._open.add(served)
        if self.over.is_set():
            return
        try:
            self._serve(served, self)
        finally:
            with self._lock:
                self._open.discard(served)


def answering(*pieces: bytes, times: int | None = None, close: bool = False) -> Serve:
    """Answers each request with these pieces, sent one by one; `times`: so many requests a connection."""

    def serve(connection: socket.socket, server: OddServer) -> None:
        connection.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        ) if connection.family != socket.AF_UNIX else None
        served = 0
        while times is None or served < times:
            server.request(connection)
            for piece in pieces:
                connection.sendall(piece)
            served += 1
            if close:
                return

    return serve


def silent(connection: socket.socket, server: OddServer) -> None:
    """Reads requests and never answers."""
    server.request(connection)
    server.over.wait(30)
