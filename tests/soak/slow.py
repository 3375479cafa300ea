"""How many clients that send a byte a second leave the others unharmed: `python -m tests.soak.slow [--counts 0,1000,4000]`.

Half of them never end their headers, half never end their bodies. Beside them one client asks as before; its p99 is told for
each count. What a slow client takes of memory is told, too.
"""

import argparse
import resource
import socket
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.soak.watch import look
from tests.support import models
from tests.support.server import ServerProcess
from tests.support.shelf import times
from tests.support.wire import Wire

PREDICT = "/v1/models/m:predict"
HEAD = f"POST {PREDICT} HTTP/1.1\r\nHost: t\r\nX: ".encode()
BODY = f"POST {PREDICT} HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n{{".encode()


class Slow:
    """So many clients; those that the server hangs up on come back."""

    def __init__(self, server: ServerProcess, count: int) -> None:
        self._address = (server.host, server.port)
        self.sockets: list[socket.socket] = []
        self.ended = 0
        self._next = 0
        for number in range(count):
            self._connect(number)

    def drip(self, most: int) -> None:
        """A byte from each of the next `most`."""
        for _ in range(min(most, len(self.sockets))):
            number = self._next = (self._next + 1) % len(self.sockets)
            try:
                self.sockets[number].send(b"x")
            except OSError:
                self.ended += 1
                self.sockets[number].close()
                self._connect(number)

    def close(self) -> None:
        for one in self.sockets:
            one.close()

    def _connect(self, number: int) -> None:
        one = socket.create_connection(self._address, 20)
        one.send(HEAD if number % 2 else BODY)
        one.setblocking(False)
        if number < len(self.sockets):
            self.sockets[number] = one
        else:
            self.sockets.append(one)


def measured(server: ServerProcess, count: int, seconds: float) -> tuple[float, float, float, int]:
    """p50 and p99 in ms of a client beside `count` slow ones, the server's memory in MB, and how many were hung up on."""
    slow = Slow(server, count)
    took = []
    end = time.monotonic() + seconds
    dripped = time.monotonic()
    with Wire((server.host, server.port)) as wire:
        while time.monotonic() < end:
            now = time.monotonic()
            slow.drip(int(count * (now - dripped)))
            dripped = now if count * (now - dripped) >= 1 else dripped
            began = time.perf_counter()
            assert wire.post(PREDICT, b'{"instances": [[1, 2]]}').status == 200
            took.append(time.perf_counter() - began)
            time.sleep(0.001)
    memory = look(server.process.pid, 0).memory_mb
    slow.close()
    return float(np.percentile(took, 50)) * 1e3, float(np.percentile(took, 99)) * 1e3, memory, slow.ended


def main() -> None:
    """A line for each count."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.slow")
    parser.add_argument("--counts", default="0,500,2000,0")
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="slow-") as folder:
        models.save(times(1), Path(folder) / "m" / "1")
        with ServerProcess(folder) as server:
            measured(server, 0, 2.0)
            for count in map(int, arguments.counts.split(",")):
                p50, p99, memory, ended = measured(server, count, arguments.seconds)
                print(
                    f"{count:6} slow clients: p50 {p50:.2f} ms, p99 {p99:.2f} ms, {memory:.0f} MB, {ended} hung up on"
                )


if __name__ == "__main__":
    main()
