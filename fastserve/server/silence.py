"""Connections on which nobody ever asks for anything: who hangs up on them.

Granian finds out from a connection's first bytes which HTTP it is, and waits for them without end: a client that says
nothing, or the first half of HTTP/2's first line, would keep its descriptor, and its place among those that a worker takes,
for ever. All other silence is Granian's to end: headers that do not come (its header timeout), handshakes (ten seconds),
HTTP/2 (pings).

A worker looks at its own sockets every few seconds. Over plain TCP the kernel's counters say whether there can have been a
request; over TLS the doors say who has sent one. Whoever is allowed to open a Unix socket may keep it.

Thread: one of its own, that stands back; a few sockets at a time. Memory: a cookie for each connection.
"""

import os
import socket
import struct
import sys
import threading
from collections.abc import Callable

from fastserve.clock import monotonic_ns
from fastserve.engine.scheduling import stand_back

SO_COOKIE = 57
"""socket(7): a socket's number, which no other one gets. Python has no name for it."""

_TRAFFIC = struct.Struct("128xQ64xQ")
"""Of `struct tcp_info` (linux/tcp.h, from Linux 4.19 on): tcpi_bytes_received, tcpi_bytes_sent."""

SHORTEST_REQUEST_BYTES = 24
"""Of HTTP/2's first line, which Granian waits for the end of. Shorter requests of HTTP/1 ask for what is answered at once."""

HANDSHAKE_MS = 10_000
"""Granian's time for a handshake."""

SLACK_MS = 5_000
"""Over TLS: between the last of a request's headers and the moment at which a door is asked."""

LOOKS = 6
"""In the time that a connection may be silent."""

AT_A_TIME = 64
"""Sockets, before others have their turn: they hold Python for about 0.1 ms."""

PAUSE_S = 0.01

Reads = Callable[[socket.SocketType], bool]


class Rule:
    """Which connections have been silent too long. Told the time: no clock, no sockets.

    Each pass over all connections is begun, told of each connection that there is, and ended, which forgets all others.
    """

    def __init__(self, limit_ns: int) -> None:
        self._limit_ns = limit_ns
        self._settled: set[bytes] = set()
        self._waiting: dict[bytes, int] = {}
        self._still_settled: set[bytes] = set()
        self._still_waiting: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._settled) + len(self._waiting)

    def knows(self, cookie: bytes) -> bool:
        """Whether nothing more need be asked of that socket."""
        if cookie not in self._settled:
            return False
        self._still_settled.add(cookie)
        return True

    def sees(self, cookie: bytes, *, silent: bool, now_ns: int) -> bool:
        """Whether to hang up on one that is not known. `silent`: it is a client's that has asked for nothing yet."""
        if not silent:
            self._still_settled.add(cookie)
            return False
        since_ns = self._still_waiting[cookie] = self._waiting.get(cookie, now_ns)
        return now_ns - since_ns >= self._limit_ns

    def end(self) -> None:
        """All that there are have been seen."""
        self._settled, self._still_settled = self._still_settled, set()
        self._waiting, self._still_waiting = self._still_waiting, {}


class Askers:
    """Over TLS: where requests have come from since the last pass began. Thread: any."""

    def __init__(self) -> None:
        self._now: set[str] = set()
        self._before: set[str] = set()

    def note(self, client: str) -> None:
        """A request came from there; as Granian writes it, `1.2.3.4:56` or `[::1]:56`."""
        # IPv6 may be written in several ways: its port stands for it.
        self._now.add(client if client[0] != "[" else client.rpartition(":")[2])

    def begin(self) -> None:
        """A pass begins: whoever asked until now has a connection that it will come to."""
        self._before, self._now = self._now, set()

    def silent(self, connection: socket.SocketType) -> bool:
        """Whether no request came from its client since the pass before this one began."""
        host, port, *more = connection.getpeername()
        client = str(port) if more else f"{host}:{port}"
        return client not in self._before and client not in self._now


def says_nothing(connection: socket.SocketType) -> bool:
    """Whether there can have been no request yet, over plain TCP."""
    received, sent = traffic(connection)
    return received < SHORTEST_REQUEST_BYTES and not sent


def traffic(connection: socket.SocketType) -> tuple[int, int]:
    """Bytes received and sent. Raises OSError or struct.error where that is not told."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    received, sent = _TRAFFIC.unpack_from(info)
    return received, sent


def counted() -> bool:
    """Whether the kernel counts what comes and goes: where it does not, everybody would seem to be silent."""
    if sys.platform != "linux":
        return False
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname()) as one,
        ):
            other, _ = listener.accept()
            with other:
                before = traffic(other)
                one.sendall(b"ab")
                one_more = other.recv(1) + other.recv(1)
                other.sendall(one_more[:1])
                return before == (0, 0) and traffic(other) == (2, 1) and len(_cookie(other)) == 8
    except (OSError, struct.error):
        return False


class Silence:
    """Hangs up on clients of one port that have been silent for `limit_ms`. `askers`: over TLS, who is not.

    Two descriptors are had from the start: where all others are taken by clients that are silent, none can be had.
    """

    def __init__(self, port: int, limit_ms: int, askers: Askers | None = None) -> None:
        self.askers = askers
        self._port = port
        self._silent: Reads = says_nothing if askers is None else askers.silent
        limit_ms += 0 if askers is None else HANDSHAKE_MS + SLACK_MS
        self._every_s = limit_ms / 1000 / LOOKS
        self._rule = Rule(limit_ms * 1_000_000)
        self._stopped = threading.Event()
        self._status = os.open("/proc/self/status", os.O_RDONLY)
        self._copy = os.dup(self._status)

    def start(self) -> None:
        """Look from now on."""
        threading.Thread(target=self._serve, name="silence", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def close(self) -> None:
        """Let go of its descriptors; its thread does, where it was started."""
        os.close(self._copy)
        os.close(self._status)

    def _serve(self) -> None:
        stand_back()
        while not self._stopped.wait(self._every_s):
            for at, fd in enumerate(self._descriptors(), 1):
                self._look(fd, monotonic_ns())
                if not at % AT_A_TIME and self._stopped.wait(PAUSE_S):
                    break
            self._end()
        self.close()

    def look(self, now_ns: int) -> None:
        """At every descriptor of this process."""
        for fd in self._descriptors():
            self._look(fd, now_ns)
        self._end()

    def _descriptors(self) -> range:
        """All numbers that they may have."""
        # Not /proc/self/fd: reading it takes as long as looking at the sockets, and hands Python over with each of them.
        lines = os.pread(self._status, 8192, 0).splitlines()
        (size,) = [line for line in lines if line.startswith(b"FDSize:")]
        return range(int(size.split()[1]))

    def _end(self) -> None:
        """A pass is over, and the next one begins."""
        self._rule.end()
        if self.askers is not None:
            self.askers.begin()

    def _look(self, fd: int, now_ns: int) -> None:
        """At one number, whatever it stands for, and whoever closes it meanwhile: nothing but reading is done to it."""
        try:
            # Of that family it has room for addresses of either one.
            one = socket.SocketType(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, fd)
        except OSError:
            return  # no socket, or gone
        try:
            cookie = _cookie(one)
            if self._rule.knows(cookie):
                return
            overdue = self._rule.sees(cookie, silent=self._is_clients(one) and self._silent(one), now_ns=now_ns)
        except (OSError, struct.error):
            return  # it is being closed, or is another one by now
        finally:
            one.detach()
        if overdue:
            self._hang_up(fd, cookie)

    def _is_clients(self, one: socket.SocketType) -> bool:
        """Whether it is a connection to our port."""
        if one.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL) != socket.IPPROTO_TCP:
            return False
        if one.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) not in (socket.AF_INET, socket.AF_INET6):
            return False
        if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return False
        return bool(one.getsockname()[1] == self._port)

    def _hang_up(self, fd: int, cookie: bytes) -> None:
        """On a copy, which stays what it is: the number may be another socket's by now."""
        try:
            os.dup2(fd, self._copy, inheritable=False)
            one = socket.SocketType(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, self._copy)
            try:
                if _cookie(one) == cookie and self._silent(one):
                    one.shutdown(socket.SHUT_RDWR)  # the end of it, to Granian, which closes it
            finally:
                one.detach()
        except (OSError, struct.error):
            pass  # it was closed
        finally:
            os.dup2(self._status, self._copy, inheritable=False)


def _cookie(one: socket.SocketType) -> bytes:
    return one.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)


def silence(listener: int, header_timeout_ms: int, *, over_tls: bool) -> Silence | None:
    """For the clients of a listening socket; None for a Unix socket, and where the kernel does not tell."""
    with socket.socket(fileno=os.dup(listener)) as one:
        if one.family == socket.AF_UNIX or not counted():
            return None
        return Silence(one.getsockname()[1], header_timeout_ms, Askers() if over_tls else None)
