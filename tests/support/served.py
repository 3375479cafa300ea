"""A served process as its clients and its operators see it: load, health, workers."""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from tests.support.server import ServerProcess
from tests.support.waiting import WITHIN_S, until
from tests.support.wire import Wire

FASTSERVE = str(Path(sys.executable).parent / "fastserve")
LONG = b'{"instances": [12000]}'
"""Some tenths of a second of the slow model."""
ENDLESS = b'{"instances": [100000000]}'
PATIENT = "/v1/models/patient:predict"


def wire(server: ServerProcess) -> Wire:
    return Wire((server.host, server.port))


def health(server: ServerProcess, path: str) -> tuple[int, Any]:
    """Status and body of a health path; 0 where nobody listens."""
    try:
        with wire(server) as one:
            answer = one.get(path)
    except OSError:
        return 0, None
    return answer.status, msgspec.json.decode(answer.body)


def counted(wire: Wire, *parts: str) -> float:
    """The sum of the series whose lines in /metrics have all of these parts."""
    lines = wire.get("/metrics").body.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if all(part in line for part in parts))


def until_taken(server: ServerProcess, requests: int = 1) -> None:
    """So many requests to the patient model have been read; what a connection holds unread is nobody's to finish."""
    with wire(server) as one:
        until(lambda: counted(one, "fastserve_stage_seconds_count{", 'model="patient"', 'stage="decode"') == requests)


def workers_of(server: ServerProcess) -> list[int]:
    """The worker processes."""
    path = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


class Load:
    """Clients that ask in a closed loop, each on a connection of its own, and note what became of each request."""

    def __init__(self, server: ServerProcess, clients: int, path: str = "/v1/models/m:predict") -> None:
        self._address = (server.host, server.port)
        self._path = path
        self._over = threading.Event()
        self.answered: list[tuple[float, int, int]] = []
        """When it was sent, what was sent, the version that answered."""
        self.failed: list[tuple[float, str]] = []
        """When it was sent, what was wrong."""
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        until(lambda: len(self.answered) > 5 * len(self._threads))
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(WITHIN_S)
            assert not thread.is_alive()

    def _ask(self, client: int) -> None:
        with contextlib.suppress(ConnectionError):  # nobody listens any more
            one = Wire(self._address)
            for i in count(client * 1_000_000):
                if self._over.is_set():
                    break
                body = msgspec.json.encode({"instances": [[i, -i]] * (1 + i % 3)})
                sent = time.monotonic()
                try:
                    answer = one.post(self._path, body)
                except OSError as error:
                    self.failed.append((sent, repr(error)))
                    break
                self._note(sent, i, answer.status, answer.headers, answer.body)
                if answer.headers.get("connection") == "close":
                    one.close()
                    one = Wire(self._address)
        one.close()

    def _note(self, sent: float, i: int, status: int, headers: Any, body: bytes) -> None:
        version = int(headers.get("x-model-version", 0))
        expected = {"predictions": [[i * version, -i * version]] * (1 + i % 3)}
        if status == 200 and msgspec.json.decode(body) == expected:
            self.answered.append((sent, i, version))
        else:
            self.failed.append((sent, f"{status} {body[:200]!r}"))

    @property
    def versions(self) -> set[int]:
        """Those that answered of late."""
        return {version for _, _, version in self.answered[-20:]}


@contextlib.contextmanager
def launched(
    *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[tuple["subprocess.Popen[bytes]", Callable[[], str]]]:
    """`fastserve serve` with nothing added; and what it printed."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [FASTSERVE, "serve", *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )

        def output() -> str:
            return os.pread(log.fileno(), os.fstat(log.fileno()).st_size, 0).decode()

        try:
            until(lambda: "/readyz" in output() or process.poll() is not None)
            yield process, output
        finally:
            process.terminate()
            process.wait(WITHIN_S)
