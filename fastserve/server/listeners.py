"""Where the server listens: sockets that the parent keeps while workers come and go.

A worker serves on the socket of its place. The parent holds it too, so clients that come while a lone worker is being
replaced wait in its queue instead of being refused. Where others serve, a dead one's socket is closed: they get its clients.
Thread: the parent's main thread.
"""

import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from fastserve.config import ServerConfig
from fastserve.errors import ConfigError

MAX_WAITING_CONNECTIONS = 2048


class Listeners:
    """One socket a place; over a Unix socket, one for all. Raises ConfigError where it cannot be had.

    `server`: with the port that it became. A socket listens from when its first worker serves.
    """

    def __init__(self, server: ServerConfig) -> None:
        if server.uds:
            _make_room(Path(server.uds))
            self.server = server
            self._sockets: list[socket.socket | None] = [_unix(server.uds)] * server.worker_count
            return
        family, where = _address(server)
        first = _bound(server, family, where)
        port = first.getsockname()[1]
        self.server = replace(server, port=port)
        self._family, self._where = family, (where[0], port, *where[2:])
        self._sockets = [first]
        if server.worker_count > 1:
            # Only sockets that all say so share a port; until now none did, so that two servers do not come to share one.
            first.close()
            self._sockets = [self._shared() for _ in range(server.worker_count)]

    def of(self, slot: int) -> socket.socket:
        """The socket of the worker in that place; a fresh one where it was given up."""
        one = self._sockets[slot]
        if one is None:
            one = self._sockets[slot] = self._shared()
        return one

    def listens(self, slot: int) -> bool:
        """Whether somebody has begun to serve there."""
        one = self._sockets[slot]
        return one is not None and bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))

    def give_up(self, slot: int) -> None:
        """Nobody serves there: the kernel gives its clients to the other places."""
        one = self._sockets[slot]
        if one is not None and one.family != socket.AF_UNIX:
            one.close()
            self._sockets[slot] = None

    def keep(self, slot: int) -> None:
        """In a fresh worker: close the other places' sockets, and leave its own to whoever serves on it."""
        own = self._sockets[slot]
        assert own is not None
        for other in {one for one in self._sockets if one is not None and one is not own}:
            other.close()
        own.detach()

    def close(self) -> None:
        """The parent's end of them: from now on only workers listen, as long as they do."""
        for one in self._sockets:
            if one is not None:
                one.close()

    def _shared(self) -> socket.socket:
        one = _tcp(self._family)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(self._where)
        return one


def _address(server: ServerConfig) -> tuple[int, Any]:
    """The family and the address of --host: a name stands for the first of its addresses."""
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise _refused(server, error) from error
    family, _, _, _, where = found[0]
    return family, where


def _bound(server: ServerConfig, family: int, where: Any) -> socket.socket:
    one = _tcp(family)
    try:
        one.bind(where)
    except OSError as error:
        one.close()
        raise _refused(server, error) from error
    return one


def _refused(server: ServerConfig, error: OSError) -> ConfigError:
    reason = error.strerror or str(error)
    return ConfigError(f"cannot listen on {server.host} port {server.port}: {reason} (--host, --port)")


def _tcp(family: int) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
    return one


def _unix(path: str) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    try:
        one.bind(path)
    except OSError as error:
        one.close()
        raise ConfigError(f"cannot listen on {path}: {error.strerror or error} (--uds)") from error
    return one


def _make_room(path: Path) -> None:
    """Remove a socket that nobody listens on: what a server that was killed left behind."""
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                with suppress(FileNotFoundError):
                    path.unlink()
            except OSError as error:
                raise ConfigError(f"cannot listen on {path}: {error.strerror or error} (--uds)") from error
            else:
                raise ConfigError(f"cannot listen on {path}: another server does (--uds)")
    elif path.exists():
        raise ConfigError(f"cannot listen on {path}: it is there, and no socket (--uds)")
    elif not path.parent.is_dir():
        raise ConfigError(f"cannot listen on {path}: there is no folder {path.parent} (--uds)")
