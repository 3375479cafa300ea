"""Is the server alive, is it ready, and what can it do: /v2 and /v2/health.

Thread: the door's. Memory: none.
"""

import re
from collections.abc import Callable

import msgspec

from fastserve import __version__
from fastserve.engine.engine import Engine
from fastserve.errors import ModelNotReady
from fastserve.http.message import Headers, Reply, Request, Response
from fastserve.http.routes import Route
from fastserve.protocols.oip.schema import ServerMetadata

JSON: Headers = [("content-type", "application/json")]

EXTENSIONS = (
    "classification",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
)
"""Clients branch on these names: only what works."""

DOCS = r"/v2(?:/models/[^/]+)?/docs"
"""Where MLServer has its pages."""


class Server:
    """The calls that are about no model."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """Health answers HEAD too, for orchestrators. Nothing here tells of any model."""
        calls: list[tuple[str, str, Callable[[Request, Reply], None]]] = [
            ("/v2/?", "read", self.metadata),
            (DOCS + "/?", "read", self.page),
            (DOCS + r"/dataplane\.json", "read", self.document),
            ("/v2/health/live/?", "open", self.live),
            ("/v2/health/ready/?", "open", self.ready),
        ]
        return [
            Route(method, re.compile(path), scope, infer=call, sifts=True)
            for path, scope, call in calls
            for method in (("GET", "HEAD") if scope == "open" else ("GET",))
        ]

    def metadata(self, _: Request, reply: Reply) -> None:
        """GET /v2."""
        body = ServerMetadata("fastserve", __version__, EXTENSIONS)
        reply.send(Response(200, JSON, msgspec.json.encode(body)))

    def page(self, _: Request, reply: Reply) -> None:
        """GET /v2/docs: where the page of all calls is."""
        reply.send(Response(307, [("location", "/docs")], b""))

    def document(self, _: Request, reply: Reply) -> None:
        """GET /v2/docs/dataplane.json: where the document of all calls is."""
        reply.send(Response(307, [("location", "/openapi.json")], b""))

    def live(self, _: Request, reply: Reply) -> None:
        """GET /v2/health/live: 200 as long as the process answers."""
        reply.send(Response(200, JSON, b'{"live":true}'))

    def ready(self, _: Request, reply: Reply) -> None:
        """GET /v2/health/ready: 200 when requests should come here, else 503 with the reason."""
        reason = self._engine.not_ready()
        if reason:
            raise ModelNotReady(reason)
        reply.send(Response(200, JSON, b'{"ready":true}'))
