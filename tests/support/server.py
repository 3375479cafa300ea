"""A server as a process of its own, on a port of its own, for tests that need real sockets."""

import contextlib
import http.client
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

START_WITHIN_S = 120.0
END_WITHIN_S = 60.0
LOOK_EVERY_S = 0.05


class ServerProcess:
    """A context manager: inside, the server is started at `host:port`; afterwards, the process is gone.

    `program`: a script of this environment and its first arguments; any that takes --host and --port. `tls`: how clients
    speak with it, where it has a certificate.
    """

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = ("fastserve", "serve"),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.host = "127.0.0.1"
        self.port = free_port()
        self._tls = tls
        self._arguments = (*program, *arguments)
        self._environment = {**os.environ, **(environment or {})}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running process."""
        assert self._process is not None
        return self._process

    @property
    def output(self) -> str:
        """What it has printed so far."""
        # Not seek and read: the process writes at the same file position.
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def __enter__(self) -> Self:
        script, *arguments = self._arguments
        path = str(Path(sys.executable).parent / script)
        command = [path, *arguments, "--host", self.host, "--port", str(self.port)]
        try:
            self._process = subprocess.Popen(
                command, stdout=self._log, stderr=subprocess.STDOUT, env=self._environment, start_new_session=True
            )
            self._wait_until_started()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(END_WITHIN_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # its workers too: the process leads a session of its own
                process.wait()
        self._log.close()

    def connection(self, timeout_s: float = 30.0) -> http.client.HTTPConnection:
        """A new connection to it."""
        if self._tls is not None:
            return http.client.HTTPSConnection(self.host, self.port, timeout=timeout_s, context=self._tls)
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)

    def says_yes(self, path: str) -> bool:
        """Whether it answers 200 on one of the health paths."""
        connection = self.connection(5.0)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()

    def _wait_until_started(self) -> None:
        deadline = time.monotonic() + START_WITHIN_S
        # Started, not ready: a test may have a model that is broken on purpose.
        while not self.says_yes("/startupz"):
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.output}")
            if time.monotonic() > deadline:
                raise AssertionError(f"the server did not start within {START_WITHIN_S} s:\n{self.output}")
            time.sleep(LOOK_EVERY_S)


def free_port() -> int:
    """A port that nobody listens on now, and that the kernel gives to nobody by itself: it stays free."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(1024 if lowest > 2048 else lowest, max(lowest, 2049))
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
