"""The server's own paths: health, metrics and the API document; and every path that no protocol owns.

Thread: the door's.
"""

import re
from collections.abc import Callable, Sequence

import msgspec

from fastserve.engine.engine import Engine
from fastserve.errors import FastServeError, UnknownPath, WrongMethod, quoted
from fastserve.http.message import Headers, Reply, Request, Response
from fastserve.http.routes import Protocol, Route
from fastserve.http.status import json_error
from fastserve.metrics import Snapshot, of_models, rendered
from fastserve.protocols.table import DESCRIBED
from fastserve.server import admin_openapi, compat, openapi
from fastserve.server.docs import DOCUMENT_PATH, PAGE_PATH, Docs

JSON: Headers = [("content-type", "application/json")]
METRICS_TEXT: Headers = [("content-type", "text/plain; version=0.0.4; charset=utf-8")]
PATHS = ("/livez", "/readyz", "/startupz", "/metrics", "/monitoring/prometheus/metrics", DOCUMENT_PATH, PAGE_PATH)


class Admin:
    """Owns all paths: it stands last in the path table."""

    name = "admin"
    owns = re.compile(r".*", re.DOTALL)

    def __init__(
        self,
        engine: Engine,
        draining: Callable[[], bool],
        metrics_path: str | None = None,
        others: Sequence[Protocol] = (),
        metrics_compat: bool = False,
    ) -> None:
        """`others`: the protocols that the API document tells of, beside ours."""
        self._more_metrics = compat.text if metrics_compat else lambda _: b""
        self._engine = engine
        self._draining = draining
        self._metrics_path = metrics_path
        self._others = others
        self._docs = Docs(self.document)

    def routes(self) -> list[Route]:
        """Health for orchestrators (GET and HEAD), metrics for Prometheus, the API document for who writes a client."""
        endpoints = [
            ("/livez", "open", self.live),
            ("/readyz", "open", self.ready),
            ("/startupz", "open", self.startup),
            ("/metrics", "read", self.metrics),
            ("/monitoring/prometheus/metrics", "read", self.metrics),
        ]
        if self._metrics_path and self._metrics_path not in PATHS:
            endpoints.append((self._metrics_path, "read", self.metrics))
        own = [
            Route(method, re.compile(re.escape(path)), scope, infer=endpoint, sifts=True)
            for path, scope, endpoint in endpoints
            for method in ("GET", "HEAD")
        ]
        return [*own, *self._docs.routes()]

    def unmatched(self, method: str, path: str) -> FastServeError:
        """404, or 405 for one of ours with another method."""
        if path in PATHS or path == self._metrics_path:
            return WrongMethod(f"{path} takes GET, got {method}")
        return UnknownPath(
            f"nothing is served at {quoted(path)}; models are at /v1/models/MODEL:predict, health is at /readyz"
        )

    def document(self) -> bytes:
        """The API document."""
        return openapi.encoded([*self._others, self], [*DESCRIBED, admin_openapi.DESCRIBED])

    def encode_error(self, error: FastServeError) -> Response:
        """`{"error": "..."}`."""
        return json_error(error, str(error))

    def live(self, _: Request, reply: Reply) -> None:
        """200 as long as the process answers."""
        reply.send(Response(200, JSON, b'{"live": true}'))

    def ready(self, _: Request, reply: Reply) -> None:
        """200 when requests should come here, else 503 with the reason."""
        reason = "draining: the server is shutting down" if self._draining() else self._engine.not_ready()
        reply.send(_health("ready", reason))

    def startup(self, _: Request, reply: Reply) -> None:
        """200 once the first look at the repository is through, and from then on."""
        reply.send(_health("started", "" if self._engine.started else "starting: models are being loaded"))

    def metrics(self, request: Request, reply: Reply) -> None:
        """Prometheus text, of all workers together; for callers of some models without the others' series."""
        caller = request.caller

        def tell(counted: Snapshot) -> None:
            seen = counted if caller.models is None else of_models(counted, caller.may_use)
            reply.send(Response(200, METRICS_TEXT, rendered(seen) + self._more_metrics(seen)))

        self._engine.control.collect(tell)


def _health(what: str, reason: str) -> Response:
    if not reason:
        return Response(200, JSON, msgspec.json.encode({what: True}))
    return Response(503, JSON, msgspec.json.encode({what: False, "reason": reason}))
