"""What MLRun's clients ask beside inference: who is there, and which models.

Thread: the door's. Memory: none.
"""

import re

import msgspec

from fastserve.engine.engine import Engine
from fastserve.http.message import Headers, Reply, Request, Response
from fastserve.http.routes import Route
from fastserve.protocols.oip.server import EXTENSIONS, JSON
from fastserve.types import VersionState

VERSION = "v2"
PAGE: Headers = [("location", "/docs"), ("vary", "accept")]


class Mlrun:
    """The calls of MLRun's serving router that ask nothing of a model."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """The server's info answers HEAD too: it is what a health check of `/` asks."""
        return [
            Route("GET", re.compile("/"), "open", infer=self.front),
            Route("HEAD", re.compile("/"), "open", infer=self.front),
            Route("GET", re.compile("/v2/health/?"), "open", infer=self.info),
            Route("HEAD", re.compile("/v2/health/?"), "open", infer=self.info),
            Route("GET", re.compile("/v2/models/?"), "read", infer=self.models, sifts=True),
        ]

    def front(self, request: Request, reply: Reply) -> None:
        """GET /: a browser is led to the documentation, a program told who we are."""
        if "text/html" in request.headers.get("accept", ""):
            reply.send(Response(303, PAGE, b""))
        else:
            self.info(request, reply)

    def info(self, _: Request, reply: Reply) -> None:
        """GET /v2/health: name, protocol and extensions."""
        body = {"name": "fastserve", "version": VERSION, "extensions": EXTENSIONS}
        reply.send(Response(200, JSON, msgspec.json.encode(body)))

    def models(self, request: Request, reply: Reply) -> None:
        """GET /v2/models: the name of each model, `name:version` for each version where several serve."""
        models = filter(request.caller.may_use, self._engine.models())
        names = [name for model in models for name in self._names(model)]
        reply.send(Response(200, JSON, msgspec.json.encode({"models": names})))

    def _names(self, model: str) -> list[str]:
        lines = self._engine.status(model)
        serving = sorted(line.version for line in lines if line.state is VersionState.READY)
        return [f"{model}:{version}" for version in serving] if len(serving) > 1 else [model]
