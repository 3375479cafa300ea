"""HTTP and HTTPS: a host is resolved once per hop, every address of it checked, and the one that was checked connected to.

So a name that means another address a moment later leads nowhere. Redirects are URLs like any other: on the allow-list or
refused. Nothing of the environment (proxies, .netrc) takes part.
"""

import http.client
import io
import ipaddress
import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from fastserve.config.allowed import WEB_PORTS, Network, WebPrefix
from fastserve.errors import Forbidden, InvalidRequest
from fastserve.fetch.limits import Limits
from fastserve.fetch.urls import checked, is_below

MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
PRIVATE = "data_url leads to a private, local or reserved address, which [data_url] allow does not name"
REDIRECTED = "data_url redirects to a place that [data_url] allow does not name"
HEADERS = {
    "Accept": "application/json, image/*, */*;q=0.5",
    "Accept-Encoding": "identity",
    "Connection": "close",
}
UNREACHABLE = "the host of data_url cannot be reached"
UNTRUSTED = "the host of data_url has no certificate that this server trusts"
LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain"})
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], list[str]]
Connect = Callable[[tuple[str, int], float], socket.socket]


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, in the order of the system's preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


class Web:
    """The web as one allow-list names it. `resolve` and `connect` are the system's, but for tests."""

    def __init__(
        self,
        prefixes: tuple[WebPrefix, ...],
        networks: tuple[Network, ...],
        *,
        resolve: Resolve = resolve,
        connect: Connect = socket.create_connection,
    ) -> None:
        self._prefixes = prefixes
        self._networks = networks
        self._resolve = resolve
        self._connect = connect
        self._tls: ssl.SSLContext | None = None

    def allows(self, url: str) -> bool:
        """Whether a prefix names the URL."""
        return self._prefix(_split(url)) is not None

    def read(self, url: str, limits: Limits) -> tuple[bytes, str]:
        """The body and its content type, after at most `MAX_REDIRECTS` redirects.

        Raises Forbidden, InvalidRequest, PayloadTooLarge, DeadlineExceeded.
        """
        for _ in range(MAX_REDIRECTS + 1):
            target = self._hop(url, limits)
            if isinstance(target, tuple):
                return target
            url = self._redirected(url, target)
        raise InvalidRequest(f"data_url redirects more than {MAX_REDIRECTS} times")

    def _redirected(self, url: str, target: str) -> str:
        """The URL that a redirect leads to. Raises Forbidden, InvalidRequest."""
        try:
            url = urljoin(url, target)
        except ValueError as error:
            raise InvalidRequest("data_url redirects to what is no URL") from error
        scheme, _ = checked(url)
        if scheme not in WEB_PORTS or not self.allows(url):
            raise Forbidden(REDIRECTED)
        return url

    def _hop(self, url: str, limits: Limits) -> tuple[bytes, str] | str:
        """What one request is answered: body and type, or where else to look."""
        parts = _split(url)
        prefix = self._prefix(parts)
        if prefix is None:
            raise Forbidden(REDIRECTED)
        try:
            with closing(self._connected(parts, prefix, limits)) as sock:
                return _asked(sock, parts, limits)
        except TimeoutError as error:
            raise limits.over() from error
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise InvalidRequest(UNREACHABLE) from error

    def _connected(self, parts: SplitResult, prefix: WebPrefix, limits: Limits) -> socket.socket:
        """A connection to an address that was checked, under the name that was asked for."""
        addresses = self._resolve(prefix.host, prefix.port)
        if not all(self._may_reach(address, prefix) for address in addresses):
            raise Forbidden(PRIVATE)
        sock = self._first_of(addresses, prefix.port, limits)
        return self._secured(sock, prefix.host, limits) if parts.scheme == "https" else sock

    def _secured(self, sock: socket.socket, host: str, limits: Limits) -> socket.socket:
        """The connection once its other end has shown to be `host`. Raises InvalidRequest."""
        try:
            sock.settimeout(limits.seconds_left())  # of the whole handshake
            if self._tls is None:  # reading every authority's certificate takes tens of milliseconds: once is enough
                self._tls = ssl.create_default_context()
            return self._tls.wrap_socket(sock, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            sock.close()
            raise InvalidRequest(f"{UNTRUSTED}: {error.verify_message}") from error
        except BaseException:
            sock.close()
            raise

    def _first_of(self, addresses: list[str], port: int, limits: Limits) -> socket.socket:
        """A connection to the first of the addresses that answers."""
        failure = OSError("no address")
        for address in addresses:
            try:
                return self._connect((address, port), limits.seconds_left())
            except OSError as error:
                failure = error
        raise failure

    def _may_reach(self, text: str, prefix: WebPrefix) -> bool:
        address = ipaddress.ip_address(text.partition("%")[0])
        if any(address in network for network in (*self._networks, *_named_by(prefix))):
            return True
        return all(_is_public(one) for one in (address, *_inside(address)))

    def _prefix(self, parts: SplitResult) -> WebPrefix | None:
        try:
            host, port = (parts.hostname or "").rstrip("."), parts.port or WEB_PORTS.get(parts.scheme, 0)
        except ValueError:
            return None
        if parts.username is not None or parts.password is not None:
            return None
        for one in self._prefixes:
            if (one.scheme, one.host, one.port) == (parts.scheme, host, port) and is_below(parts.path, one.path):
                return one
        return None


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise InvalidRequest("data_url is no URL") from error


class _Timed(io.RawIOBase):
    """Reads a socket within the time that is left for everything: a byte a second does not begin it anew."""

    def __init__(self, sock: socket.socket, limits: Limits) -> None:
        self._sock = sock
        self._limits = limits

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._limits.seconds_left())
        return self._sock.recv_into(buffer)


class _Wire:
    """What http.client asks of a socket. Closing is ours: http.client does when the head is read."""

    def __init__(self, sock: socket.socket, limits: Limits) -> None:
        self._sock = sock
        self._limits = limits

    def sendall(self, content: bytes) -> None:
        self._sock.settimeout(self._limits.seconds_left())
        self._sock.sendall(content)

    def makefile(self, _: str) -> io.BufferedReader:
        return io.BufferedReader(_Timed(self._sock, self._limits))

    def close(self) -> None:
        pass


def _asked(sock: socket.socket, parts: SplitResult, limits: Limits) -> tuple[bytes, str] | str:
    connection = http.client.HTTPConnection(parts.netloc)
    connection.sock = _Wire(sock, limits)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.putrequest("GET", target, skip_host=True, skip_accept_encoding=True)
    for name, value in {"Host": parts.netloc, **HEADERS}.items():
        connection.putheader(name, value)
    connection.endheaders()
    with closing(connection.getresponse()) as response:
        where = response.getheader("location")
        if response.status in REDIRECTS and where:
            return where
        if response.status != http.client.OK:
            raise InvalidRequest(f"data_url was answered with status {response.status}")
        if response.getheader("content-encoding", "identity").lower() != "identity":
            raise InvalidRequest("data_url was answered with compressed content, which was not asked for")
        limits.check_declared(response.length)
        body = limits.read_all(response.read1)
        if response.length:
            raise InvalidRequest("data_url was answered with less than its length")
        return body, response.getheader("content-type", "")


def _named_by(prefix: WebPrefix) -> tuple[Network, ...]:
    """The addresses that a prefix names: its host, where that is one, or this machine."""
    if prefix.host in LOCAL_NAMES:
        return LOOPBACK
    try:
        return (ipaddress.ip_network(prefix.host),)
    except ValueError:
        return ()


def _is_public(address: Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved


def _inside(address: Address) -> tuple[Address, ...]:
    """IPv4 addresses that an IPv6 one stands for: mapped, 6to4, Teredo, NAT64, compatible."""
    if not isinstance(address, ipaddress.IPv6Address):
        return ()
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in ipaddress.ip_network("64:ff9b::/96") or int(address) >> 32 == 0:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return tuple(one for one in found if one is not None)
