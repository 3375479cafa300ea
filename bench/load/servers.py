"""Servers as child processes: started on a free loopback port, asked for their CPU time, stopped by their process id.

Thread: the caller's. Memory: their output goes to a temporary file, which is shown when one of them does not start.
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

READY_WITHIN_S = 90.0
END_WITHIN_S = 10.0
LOOK_EVERY_S = 0.05
HOST = "127.0.0.1"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).resolve().parents[2]


class Driven:
    """What answers at a host and port."""

    def __init__(self, name: str, host: str, port: int) -> None:
        self.name = name
        self.host = host
        self.port = port

    def url(self, path: str) -> str:
        """Where `path` is."""
        return f"http://{self.host}:{self.port}{path}"

    def post(
        self, path: str, body: bytes, headers: Mapping[str, str], timeout_s: float = 30.0
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body of one answer."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def cpu_s(self) -> float:
        """CPU time so far of what answers; 0 where it is not known."""
        return 0.0


class Server(Driven):
    """A context manager: inside, `name` answers at `url`; afterwards its processes are gone.

    `command`: module and arguments for this Python; "{port}" stands for the port. `ready`: a path that answers 200 when
    the server may be driven; empty where listening is enough.
    """

    def __init__(self, name: str, command: tuple[str, ...], ready: str) -> None:
        super().__init__(name, HOST, _free_port())
        self._ready = ready
        self._command = [sys.executable, "-m", *(part.format(port=self.port) for part in command)]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            tree = _tree(process.pid)
            process.terminate()
            try:
                process.wait(END_WITHIN_S)
            except subprocess.TimeoutExpired:
                _kill(tree)
                process.wait()
        self._log.close()

    def pids(self) -> list[int]:
        """The server and everything it started."""
        assert self._process is not None
        return _tree(self._process.pid)

    def cpu_s(self) -> float:
        """Their CPU time so far, user and system."""
        return sum(_cpu_ticks(pid) for pid in self.pids()) / TICKS_PER_S

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                self._log.seek(0)
                raise RuntimeError(f"{self.name} did not start:\n{self._log.read().decode(errors='replace')}")
            time.sleep(LOOK_EVERY_S)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5.0)
        try:
            connection.connect()
            if not self._ready:
                return True
            connection.request("GET", self._ready)
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def _tree(pid: int) -> list[int]:
    """`pid` and its descendants."""
    found = [pid]
    for parent in found:
        try:
            tasks = os.listdir(f"/proc/{parent}/task")
            children = [Path(f"/proc/{parent}/task/{task}/children").read_text().split() for task in tasks]
        except OSError:
            continue  # it ended while we looked
        found += [int(child) for of_task in children for child in of_task]
    return found


def _cpu_ticks(pid: int) -> int:
    try:
        # The name of the program, in brackets, may hold anything: count from its end. Fields 14 and 15: utime, stime.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
