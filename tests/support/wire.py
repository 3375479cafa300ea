"""HTTP/1 by hand: bytes go out as a test writes them, answers come in one by one."""

import contextlib
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from msgspec import Struct

ANSWER_WITHIN_S = 60.0
RECEIVE_BYTES = 65536


class Answer(Struct, frozen=True):
    """What came back; header names in lower case. `lines`: all headers, in their order."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    lines: tuple[tuple[str, str], ...] = ()

    def all(self, name: str) -> list[str]:
        """Every value of that header."""
        return [value for key, value in self.lines if key == name]


class Wire:
    """One connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, ANSWER_WITHIN_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._got = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def head(self, method: str, path: str, *headers: str, version: str = "1.1") -> None:
        """Send a request's first line and headers, and nothing behind them."""
        self.write("\r\n".join([f"{method} {path} HTTP/{version}", "Host: test", *headers, "", ""]).encode())

    def post(self, path: str, body: bytes, *headers: str) -> Answer:
        """A whole request, and its answer."""
        self.send(path, body, *headers)
        return self.answer()

    def send(self, path: str, body: bytes, *headers: str) -> None:
        """A whole request; its answer is for later."""
        lines = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}", *headers, "", ""]
        self.write("\r\n".join(lines).encode() + body)

    def get(self, path: str) -> Answer:
        """A GET, and its answer."""
        self.head("GET", path)
        return self.answer()

    def answer(self) -> Answer:
        """The next answer. Raises ConnectionError where the connection ends instead."""
        return self._answer(has_body=True)

    def _answer(self, *, has_body: bool) -> Answer:
        head = self._until(b"\r\n\r\n").decode("latin-1")
        first, *lines = head.split("\r\n")[:-2]
        pairs = tuple((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines))
        headers = dict(pairs)
        status = int(first.split(" ")[1])
        length = 0 if not has_body or status in (100, 204, 304) else int(headers["content-length"])
        while len(self._got) < length:
            self._receive()
        body, self._got = self._got[:length], self._got[length:]
        return Answer(status, headers, body, pairs)

    def head_answer(self) -> Answer:
        """The next answer, to a HEAD: its headers are all of it."""
        return self._answer(has_body=False)

    def rest(self) -> bytes:
        """All that still comes until the other side hangs up."""
        with contextlib.suppress(ConnectionResetError):
            while data := self._socket.recv(RECEIVE_BYTES):
                self._got += data
        rest, self._got = self._got, b""
        return rest

    def ends(self) -> bool:
        """Whether the other side hangs up, and says nothing more before it does."""
        try:
            return self._got == b"" and self._socket.recv(RECEIVE_BYTES) == b""
        except ConnectionResetError:
            return True

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._got:
            self._receive()
        head, _, self._got = self._got.partition(mark)
        return head + mark

    def _receive(self) -> None:
        data = self._socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionError(f"the connection ended; before: {self._got!r}")
        self._got += data


def chunk(data: bytes) -> bytes:
    """One chunk of Transfer-Encoding: chunked."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
