"""Who is driven: address, TLS, headers; and single calls to it, before and after the load.

Thread: any. What goes wrong is a LoadTestError that says what to do about it.
"""

import errno
import http.client
import ipaddress
import socket
import ssl
from base64 import b64encode
from collections.abc import Mapping, Sequence
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from fastserve.errors import FastServeError

KEY_VARIABLE = "FASTSERVE_API_KEY"
MAX_ANSWER_BYTES = 64 << 20


class LoadTestError(FastServeError):
    """There is nothing to measure; the text is for the person at the shell, and says what would help."""


class NotYet(LoadTestError):
    """The server says 503: soon, perhaps."""


class Answer(Struct, frozen=True):
    """What one call answered."""

    status: int
    body: bytes

    @property
    def is_good(self) -> bool:
        """Whether it is 2xx."""
        return 200 <= self.status < 300

    def text(self) -> str:
        """The beginning of the body, in one line."""
        return " ".join(self.body[:400].decode("utf-8", "replace").split())


class Security(Struct, frozen=True, kw_only=True):
    """Whom to trust over TLS, and who we are there."""

    ca: str | None = None
    certificate: str | None = None
    keyfile: str | None = None
    insecure: bool = False

    def context(self) -> ssl.SSLContext:
        """For HTTP/1.1. Raises LoadTestError for files that cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate:
                context.load_cert_chain(self.certificate, self.keyfile)
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(filter(None, (self.ca, self.certificate, self.keyfile)))
            raise LoadTestError(f"{names or 'the certificates'} cannot be used: {error}") from None
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["http/1.1"])
        return context


class Target(Struct, frozen=True, kw_only=True):
    """One server, found. `url`: as it may be shown; `host`: numeric, or the path of a Unix socket."""

    url: str
    path: str
    host_header: str
    family: int
    host: str
    port: int
    headers: tuple[tuple[str, str], ...] = ()
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    timeout_s: float = 30.0

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Sequence[tuple[str, str]] = ()) -> Answer:
        """One call at `path` below the URL's own. Raises LoadTestError where nothing HTTP comes back."""
        connection = http.client.HTTPConnection(self.host_header, timeout=self.timeout_s)
        try:
            connection.sock = self._connect()
            sent = {"Host": self.host_header, **dict(self.headers), **dict(headers)}
            connection.request(method, self.path + path, body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(MAX_ANSWER_BYTES))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise LoadTestError(told(self.url, error)) from None
        finally:
            connection.close()

    def _connect(self) -> socket.socket:
        return connect(self.family, self.host, self.port, self.timeout_s, self.tls, self.server_name)


def connect(
    family: int, host: str, port: int, timeout_s: float, tls: ssl.SSLContext | None, server_name: str
) -> socket.socket:
    """A connection, with TLS where there is a context. Raises OSError."""
    plain = socket.socket(family, socket.SOCK_STREAM)
    try:
        plain.settimeout(timeout_s)
        plain.connect(host if family == socket.AF_UNIX else (host, port))
        return tls.wrap_socket(plain, server_hostname=server_name or None) if tls is not None else plain
    except BaseException:
        plain.close()
        raise


def find(
    url: str,
    *,
    headers: Sequence[tuple[str, str]] = (),
    security: Security | None = None,
    uds: str | None = None,
    timeout_s: float = 30.0,
    env: Mapping[str, str],
) -> Target:
    """The server at `url`, connected to once. Raises LoadTestError."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        name, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise LoadTestError(f"{url} is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not name:
        raise LoadTestError(f"{url} is no http:// or https:// URL; as in http://127.0.0.1:8000")
    if parts.query or parts.fragment:
        raise LoadTestError(f"{url} has more than a path; what is behind it is for --path")
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    tls = (security or Security()).context() if parts.scheme == "https" else None
    server_name = "" if tls is None else name
    family, host = (socket.AF_UNIX, uds) if uds else _reached(shown, name, port, tls, server_name, timeout_s)
    return Target(
        url=shown,
        path=parts.path.rstrip("/"),
        host_header=parts.netloc.rpartition("@")[2],
        family=family,
        host=host,
        port=0 if uds else port,
        headers=(*_credentials(parts.netloc, headers, env), *headers),
        tls=tls,
        server_name=server_name,
        timeout_s=timeout_s,
    )


def _reached(
    url: str, name: str, port: int, tls: ssl.SSLContext | None, server_name: str, timeout_s: float
) -> tuple[int, str]:
    """The first of the name's addresses that takes a connection."""
    failure: Exception = OSError("it has no address")
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise LoadTestError(told(url, error)) from None
    for family, _, _, _, address in found:
        host = str(ipaddress.ip_address(str(address[0]).partition("%")[0]))
        try:
            connect(family, host, port, timeout_s, tls, server_name).close()
        except (OSError, ValueError) as error:
            failure = error
        else:
            return family, host
    raise LoadTestError(told(url, failure)) from None


def _credentials(
    netloc: str, headers: Sequence[tuple[str, str]], env: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """The header that `user:password@`, or the key in the environment, asks for; none beside one that was given."""
    if any(name.lower() in ("authorization", "x-api-key") for name, _ in headers):
        return ()
    user, at, _ = netloc.rpartition("@")
    if at:
        return (("Authorization", f"Basic {b64encode(unquote(user).encode()).decode()}"),)
    key = env.get(KEY_VARIABLE)
    return (("Authorization", f"Bearer {key}"),) if key else ()


def told(url: str, error: Exception) -> str:
    """Why there is no answer, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"its certificate is not trusted ({error.verify_message}): give --ca FILE, or --insecure"
    elif isinstance(error, ssl.SSLError):
        reason = f"TLS failed ({error.reason or error}): does it speak https?"
    elif isinstance(error, ConnectionRefusedError):
        reason = "nobody listens there: start a server, as in `fastserve demo`"
    elif isinstance(error, socket.gaierror):
        reason = "that name has no address"
    elif isinstance(error, TimeoutError):
        reason = "it does not answer in time (--timeout-s)"
    elif isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.EACCES):
        reason = f"{error.strerror}: is --uds the server's socket?"
    elif isinstance(error, http.client.HTTPException | ConnectionError):
        reason = f"what answers is not HTTP/1.1 ({error or type(error).__name__}): does it want https://?"
    else:
        reason = str(error)
    return f"{url} cannot be reached: {reason}"
