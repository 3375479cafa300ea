"""Calls to a running server; what goes wrong is one sentence. Standard library only: a wheel brings no HTTP client.

Who calls: `http://user:password@host`, or a key in the environment; never an option, which other users of the machine see.
"""

import http.client
import json
import os
import socket
import ssl
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from fastserve.errors import FastServeError
from fastserve.loadtest.target import KEY_VARIABLE, Security, connect, told


class CallFailed(FastServeError):
    """The server could not be reached, or refused; the text is for the person at the shell."""


class Client:
    """One server, by the URL that a person types: `http://` may be missing, a path may follow."""

    def __init__(
        self,
        url: str,
        timeout_s: float,
        env: Mapping[str, str] = os.environ,
        *,
        security: Security | None = None,
        uds: str | None = None,
    ) -> None:
        self.url, self._authorization = _without_user((url if "://" in url else f"http://{url}").rstrip("/"))
        if not self._authorization and env.get(KEY_VARIABLE):
            self._authorization = f"Bearer {env[KEY_VARIABLE]}"
        self._timeout_s = timeout_s
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).netloc:
            raise CallFailed(f"{self.url} is no http:// or https:// URL")
        tls = (security or Security()).context() if self.url.startswith("https:") else None
        self._opener = urllib.request.build_opener(*_ways(tls, uds))

    def get(self, path: str) -> bytes:
        """The body at `path`. Raises CallFailed."""
        return self.send("GET", path, None)

    def post(self, path: str, body: bytes) -> bytes:
        """The answer to `body`. Raises CallFailed."""
        return self.send("POST", path, body)

    def send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None = None) -> bytes:
        """The answer to a request. Raises CallFailed."""
        request = urllib.request.Request(  # noqa: S310 - http or https, see __init__
            self.url + path, data=body, headers=dict(headers or {}), method=method
        )
        if body is not None:
            request.add_header("Content-Type", "application/json")
        if self._authorization:
            request.add_unredirected_header("Authorization", self._authorization)  # no other server's business
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                answer: bytes = response.read()
        except urllib.error.HTTPError as error:
            raise CallFailed(f"{self.url}{path} answered {error.code}: {_reason(error)}") from None
        except urllib.error.URLError as error:
            reason = error.reason if isinstance(error.reason, Exception) else error
            raise CallFailed(told(self.url, reason)) from None
        except (OSError, ValueError) as error:
            raise CallFailed(f"{self.url} does not answer: {error}") from None
        return answer


def _ways(tls: ssl.SSLContext | None, uds: str | None) -> list[urllib.request.BaseHandler]:
    """What opens connections; a Unix socket has no proxy before it."""
    if uds is not None:
        return [urllib.request.ProxyHandler({}), _OverUnix(uds, tls)]
    return [] if tls is None else [urllib.request.HTTPSHandler(context=tls)]


class _OverUnix(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """HTTP, with TLS where there is a context, over a Unix socket."""

    def __init__(self, path: str, tls: ssl.SSLContext | None) -> None:
        super().__init__()
        self._path = path
        self._tls = tls

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Whichever scheme it is."""
        return self.do_open(partial(_UnixConnection, path=self._path, tls=self._tls), req)

    https_open = http_open


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, host: str, *, path: str, tls: ssl.SSLContext | None, **more: Any) -> None:
        super().__init__(host, **more)
        self._path = path
        self._tls = tls

    def connect(self) -> None:
        assert self.timeout is not None
        self.sock = connect(socket.AF_UNIX, self._path, 0, self.timeout, self._tls, self.host if self._tls else "")


def _without_user(url: str) -> tuple[str, str]:
    """The URL as it may be shown, and the header that its `user:password@` asks for."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, ""
    basic = b64encode(unquote(user).encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), f"Basic {basic}"


def model_path(model: str, version: int | None, label: str | None) -> str:
    """`/v1/models/M[/versions/V|/labels/L]`."""
    path = f"/v1/models/{quote(model, safe='')}"
    if version is not None:
        return f"{path}/versions/{version}"
    return path if label is None else f"{path}/labels/{quote(label, safe='')}"


def decoded(body: bytes, what: str) -> Any:
    """JSON, NaN and Infinity included. Raises CallFailed."""
    try:
        return json.loads(body)
    except ValueError:
        raise CallFailed(f"{what} is not JSON; is this a fastserve?") from None


def _reason(error: urllib.error.HTTPError) -> str:
    """The `error` of a JSON body, else the body's beginning."""
    text = error.read(65_536).decode("utf-8", "replace")
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text.strip()[:300] or error.reason
